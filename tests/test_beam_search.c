/* Beam search against a plain search on random tables, and what it refuses. */
#include "nlp/beam_search.h"
#include "tests/search_network.h"
#include "tests/support.h"

#include <malloc.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#ifdef __GLIBC_PREREQ
#if __GLIBC_PREREQ(2, 33)
#define COUNTS_MEMORY /* mallinfo2 is there */
#endif
#endif

/* ---- a plain search ---- */

/* Whole hypotheses, sorted as a whole; nothing shared with the search but its options. */
typedef struct {
    int32_t token[MOST_LENGTH];
    int length, beam;
    bool ended;
    double total, score;
} Plain;

static int by_total(const void *a, const void *b)
{
    const Plain *x = a, *y = b;
    if (x->total != y->total) return x->total > y->total ? -1 : 1;
    if (x->token[x->length - 1] != y->token[y->length - 1])
        return x->token[x->length - 1] < y->token[y->length - 1] ? -1 : 1;
    return x->beam - y->beam;
}

static double plain_score(const SearchOptions *options, const Plain *one)
{
    const double length = one->length - (one->ended && !options->rules.count_end ? 1 : 0);
    if (options->rules.penalty == LENGTH_NONE) return one->total;
    if (options->rules.penalty == LENGTH_WU) return one->total / pow((5 + length) / 6, options->alpha);
    return one->total / pow(length < 1 ? 1 : length, options->alpha);
}

/* Into the list behind equal ones; the list is sorted at the end of each step by insertion. */
static void plain_finish(const SearchOptions *options, Plain list[], int *count, Plain one)
{
    if (options->rules.keep == KEEP_FIRST && *count == options->beam) return;
    one.score = plain_score(options, &one);
    list[(*count)++] = one;
    for (int i = *count - 1; i > 0 && list[i].score > list[i - 1].score; --i) {
        const Plain other = list[i];
        list[i] = list[i - 1];
        list[i - 1] = other;
    }
    if (options->rules.keep == KEEP_BEST && *count > options->beam) *count = options->beam;
}

static bool plain_repeats(const Plain *one, int size)
{
    for (int i = 0; i + size < one->length && size > 0; ++i)
        if (memcmp(one->token + i, one->token + one->length - size, (size_t)size * sizeof(int32_t)) == 0)
            return true;
    return false;
}

static int plain_search(const SearchOptions *options, const double *table, int vocabulary,
                        const SearchInput *input, Plain finished[], int *steps)
{
    const int beam = options->beam, limit = input->limit;
    const bool no_penalty = options->alpha == 0 || options->rules.penalty == LENGTH_NONE;
    const SearchStop stop = no_penalty ? options->rules.stop_without_penalty : options->rules.stop;
    static Plain live[SEARCH_MOST_BEAM], candidate[SEARCH_MOST_BEAM * 64];
    int live_count = 1, count = 0;
    bool best_ended = false;
    live[0] = (Plain){.length = 0};
    for (*steps = 0; *steps < limit;) {
        const int position = (*steps)++;
        int candidates = 0;
        for (int i = 0; i < live_count; ++i)
            for (int token = 0; token < vocabulary; ++token) {
                Plain one = live[i];
                const int32_t last = one.length > 0 ? one.token[one.length - 1] : START;
                one.token[one.length++] = token;
                one.beam = i;
                one.ended = token == END;
                one.total += table[last * vocabulary + token];
                bool allowed = token != 0 && token != START && !plain_repeats(&one, options->no_repeat) &&
                               !(one.ended && position < options->minimum);
                if (position + 1 == limit && options->rules.limit == LIMIT_FORCED_END) allowed = one.ended;
                if (position < input->prefix_length) allowed = token == input->prefix[position];
                if (allowed) candidate[candidates++] = one;
            }
        qsort(candidate, (size_t)candidates, sizeof *candidate, by_total);
        if (candidates > 2 * beam) candidates = 2 * beam;
        live_count = 0;
        for (int i = 0; i < candidates; ++i) {
            const bool counts = options->rules.ends == ENDS_ANYWHERE || i < beam;
            const bool cut = position + 1 == limit && options->rules.limit == LIMIT_CUT;
            if (cut && i >= beam) continue;
            if (candidate[i].ended && counts) plain_finish(options, finished, &count, candidate[i]);
            if (!candidate[i].ended && live_count < beam) live[live_count++] = candidate[i];
        }
        if (position + 1 == limit) {
            if (options->rules.limit == LIMIT_CUT || count == 0)
                for (int i = 0; i < live_count; ++i)
                    plain_finish(options, finished, &count, live[i]);
            break;
        }
        if (live_count == 0) break;
        best_ended = best_ended || (candidates > 0 && candidate[0].ended);
        if (stop == STOP_FIRST && best_ended && count >= options->best) break;
        if (stop == STOP_FINISHED && count >= beam) break;
        if (stop == STOP_BOUND && count >= beam) {
            Plain longest = live[0];
            longest.length = limit;
            longest.ended = true;
            if (finished[beam - 1].score >= plain_score(options, &longest)) break;
        }
    }
    return count < options->best ? count : options->best;
}

static void compare_with_plain(const SearchOptions *options, TestNetwork *test, const SearchInput inputs[],
                               int count)
{
    const int vocabulary = (int)test->network.vocabulary;
    SearchResult *results = calloc((size_t)count, sizeof *results);
    assert_non_null(results);
    run_searches(options, test, inputs, count, results);
    for (int i = 0; i < count; ++i) {
        static Plain want[MOST_LENGTH * SEARCH_MOST_BEAM];
        int steps;
        const int hypotheses =
            plain_search(options, test->table + inputs[i].source[0] * vocabulary * vocabulary, vocabulary,
                         &inputs[i], want, &steps);
        assert_int_equal(results[i].count, hypotheses);
        assert_int_equal(results[i].steps, steps);
        for (int j = 0; j < hypotheses; ++j) {
            const Hypothesis *got = &results[i].list[j];
            assert_int_equal(got->length, want[j].length);
            assert_memory_equal(got->token, want[j].token, (size_t)want[j].length * sizeof(int32_t));
            assert_true(got->ended == want[j].ended && fabs(got->score - want[j].score) < 1e-12);
        }
    }
    free_results(results, count);
    free(results);
}

static void test_a_plain_search_finds_the_same(void **state)
{
    (void)state;
    static const int beams[] = {1, 2, 4, 7, 64};
    static const double alphas[] = {0, 0.6, 1.3};
    double *table = calloc(TABLES * WORDS * WORDS, sizeof *table);
    SearchInput inputs[TABLES];
    int32_t source[TABLES];
    const int32_t prefix[] = {5, 5, 4};
    assert_non_null(table);
    int rules;
    const SearchRules *rule = search_rules_table(&rules);
    for (int coarse = 0; coarse < 2; ++coarse) {
        for (int i = 0; i < TABLES; ++i)
            fill_search_table(table + i * WORDS * WORDS, WORDS, (uint64_t)i, coarse == 1);
        TestNetwork test = {.table = table};
        for (int which = 0; which < rules * 5 * 3 * 4; ++which) {
            const int kind = which % 4;
            SearchOptions options = search_defaults(0, START, END);
            options.rules = rule[which / 60];
            options.beam = beams[which / 12 % 5];
            options.best = kind == 0 ? (options.beam + 1) / 2 : options.beam;
            options.alpha = alphas[which / 4 % 3];
            options.minimum = kind == 1 ? 3 : 0;
            options.no_repeat = kind >= 2 ? kind - 1 : 0; /* 2 of what the prefix has twice, too */
            make_search_inputs(inputs, source, prefix, kind == 3 ? 3 : 0);
            test.network = search_network(&test, WORDS, 1 + which % 4);
            compare_with_plain(&options, &test, inputs, TABLES);
        }
    }
    free(table);
}

/* What a wider limit finds is no worse: the search goes on from where the narrower one ended. */
static void test_a_wider_limit_is_no_worse(void **state)
{
    (void)state;
    double table[WORDS * WORDS];
    const int32_t source = 0;
    int improved = 0;
    for (uint64_t which = 0; which < 40; ++which) {
        fill_search_table(table, WORDS, 100 + which, false);
        TestNetwork test = {.table = table};
        test.network = search_network(&test, WORDS, 1);
        double before = -INFINITY;
        bool ended = false;
        for (int limit = 1; limit <= 12; ++limit) {
            SearchOptions options = search_defaults(0, START, END);
            options.rules = *search_rules("tensor2tensor");
            options.alpha = 0.6 + 0.2 * (double)(which % 3);
            const SearchInput input = {.source = &source, .length = 1, .limit = limit};
            SearchResult result;
            run_searches(&options, &test, &input, 1, &result);
            assert_true(!ended || result.list[0].ended);
            assert_true(!ended || result.list[0].score >= before);
            improved += ended && result.list[0].score > before;
            ended = result.list[0].ended;
            before = result.list[0].score;
            search_result_free(&result);
        }
    }
    assert_true(improved > 0);
}

static void test_nbest_only_shortens_the_list(void **state)
{
    (void)state;
    double table[TABLES * WORDS * WORDS];
    SearchInput inputs[TABLES];
    int32_t source[TABLES];
    SearchResult one[TABLES], five[TABLES];
    for (int i = 0; i < TABLES; ++i)
        fill_search_table(table + i * WORDS * WORDS, WORDS, 300 + (uint64_t)i, false);
    TestNetwork test = {.table = table};
    test.network = search_network(&test, WORDS, 2);
    make_search_inputs(inputs, source, NULL, 0);
    SearchOptions options = search_defaults(0, START, END);
    options.beam = 5;
    run_searches(&options, &test, inputs, TABLES, one);
    options.best = 5;
    run_searches(&options, &test, inputs, TABLES, five);
    for (int i = 0; i < TABLES; ++i) {
        assert_int_equal(one[i].count, 1);
        assert_true(five[i].count > 1 && five[i].list[0].score == one[i].list[0].score);
        assert_int_equal(five[i].list[0].length, one[i].list[0].length);
        assert_memory_equal(five[i].list[0].token, one[i].list[0].token,
                            (size_t)one[i].list[0].length * sizeof(int32_t));
    }
    free_results(one, TABLES);
    free_results(five, TABLES);
}

/* ---- what is refused ---- */

static void test_options_are_checked(void **state)
{
    (void)state;
    const SearchOptions good = search_defaults(0, START, END);
    SearchOptions options = good;
    assert_ok(search_check(&options));
    options.beam = 65;
    assert_fails(search_check(&options), STATUS_INPUT, "1 to 64, not 65");
    options = good;
    options.best = 5;
    assert_fails(search_check(&options), STATUS_INPUT, "a beam of 4");
    options = good;
    options.temperature = 0;
    assert_fails(search_check(&options), STATUS_INPUT, "temperature");
    options = good;
    options.alpha = NAN;
    assert_fails(search_check(&options), STATUS_INPUT, "alpha");
    options = good;
    options.top_p = 0;
    assert_fails(search_check(&options), STATUS_INPUT, "top-p");
    options = good;
    options.method = SEARCH_GREEDY;
    assert_fails(search_check(&options), STATUS_INPUT, "greedy");
    assert_null(search_rules("moses"));
    assert_string_equal(search_rules("fairseq")->name, "fairseq");
}

static void test_sentences_are_checked(void **state)
{
    (void)state;
    double table[WORDS * WORDS];
    const int32_t source[] = {0, 2}, prefix[] = {3, 99};
    fill_search_table(table, WORDS, 0, false);
    TestNetwork test = {.table = table};
    test.network = search_network(&test, WORDS, 1);
    test.network.most_source = 1;
    const SearchOptions options = search_defaults(0, START, END);
    Search *search;
    assert_ok(search_create(&options, &test.network, &search));
    SearchInput input = {.number = 8, .source = source, .length = 2, .limit = 5};
    assert_fails(search_add(search, &input), STATUS_INPUT,
                 "sentence 8: it has 2 tokens; the network has room for 1");
    input.length = 0;
    assert_fails(search_add(search, &input), STATUS_INPUT, "sentence 8: it has no tokens");
    input.length = 1;
    input.limit = MOST_LENGTH + 1;
    assert_fails(search_add(search, &input), STATUS_INPUT, "sentence 8: its limit is");
    input.limit = 2;
    input.prefix = prefix;
    input.prefix_length = 2;
    assert_fails(search_add(search, &input), STATUS_INPUT, "sentence 8: its prefix has 2 tokens");
    input.line = 3;
    assert_fails(search_add(search, &input), STATUS_INPUT, "line 3: its prefix has 2 tokens");
    input.limit = 5;
    assert_fails(search_add(search, &input), STATUS_INPUT, "has the token 99");
    search_free(search);
}

/* NaN is an error; a network whose tokens are all banned ends what it has, or says that there is nothing. */
static void test_a_network_gives_nothing(void **state)
{
    (void)state;
    double table[WORDS * WORDS];
    const int32_t source = 0;
    const SearchInput input = {.source = &source, .length = 1, .limit = 5};
    SearchOptions options = search_defaults(0, START, END);
    fill_search_table(table, WORDS, 0, false);
    for (int i = 0; i < WORDS; ++i)
        table[4 * WORDS + i] = -INFINITY; /* behind token 4 there is no way on */
    TestNetwork test = {.table = table};
    test.network = search_network(&test, WORDS, 1);
    SearchResult result;
    run_searches(&options, &test, &input, 1, &result);
    for (int i = 0; i < result.count; ++i)
        for (int j = 0; j < result.list[i].length; ++j)
            assert_int_not_equal(result.list[i].token[j], 4);
    search_result_free(&result);
    for (int i = 0; i < WORDS; ++i)
        table[START * WORDS + i] = -INFINITY;
    Search *search;
    run_searches(&options, &test, &input, 1, &result); /* no hypothesis, and no error */
    assert_int_equal(result.count, 0);
    search_result_free(&result);
    table[START * WORDS + 5] = INFINITY;
    assert_ok(search_create(&options, &test.network, &search));
    assert_ok(search_add(search, &input));
    assert_fails(search_step(search), STATUS_NUMERIC, "sentence 0");
    search_free(search);
}

#ifdef COUNTS_MEMORY
/* Bytes; 0 under a sanitizer. */
static size_t memory_in_use(void)
{
    const struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

/* A whole split waits in the queue: only what is searched has room for hypotheses. */
static void test_waiting_sentences_are_small(void **state)
{
    (void)state;
    enum { SENTENCES = 2000, MOST_BYTES = 1024 };
    double table[WORDS * WORDS];
    const int32_t source = 0;
    SearchInput input = {.source = &source, .length = 1, .limit = 5};
    SearchOptions options = search_defaults(0, START, END);
    options.beam = SEARCH_MOST_BEAM;
    fill_search_table(table, WORDS, 0, false);
    TestNetwork test = {.table = table};
    test.network = search_network(&test, WORDS, 1);
    Search *search;
    assert_ok(search_create(&options, &test.network, &search));
    const size_t before = memory_in_use();
    for (; input.number < SENTENCES; ++input.number)
        assert_ok(search_add(search, &input));
    assert_true(memory_in_use() - before < (size_t)SENTENCES * MOST_BYTES);
    search_free(search);
}
#endif

/* What CTranslate2 4.8.5 says of a hypothesis of seven tokens and its end. */
static void test_ctranslate2_counts_the_end(void **state)
{
    (void)state;
    SearchOptions options = search_defaults(0, 1, 2);
    options.rules = *search_rules("ctranslate2");
    options.alpha = 0.6;
    assert_true(fabs(-6.3942165 / search_penalty(&options, 8, true) - -1.8362536) < 1e-5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ctranslate2_counts_the_end),
        cmocka_unit_test(test_a_plain_search_finds_the_same),
        cmocka_unit_test(test_a_wider_limit_is_no_worse),
        cmocka_unit_test(test_nbest_only_shortens_the_list),
        cmocka_unit_test(test_options_are_checked),
        cmocka_unit_test(test_sentences_are_checked),
        cmocka_unit_test(test_a_network_gives_nothing),
#ifdef COUNTS_MEMORY
        cmocka_unit_test(test_waiting_sentences_are_small),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
