/* Beam search against golden searches on tables with ties, on a tiny network beside brute force and on a trained one, and against
 * a plain search on random tables. Networks here are double precision. */
#include "engine/base/random.h"
#include "nlp/beam_search.h"
#include "nlp/sampling.h"
#include "tests/golden.h"
#include "tests/plain_transformer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_SLOTS = 64, MOST_LENGTH = 64, START = 1, END = 2 };

/* ---- networks ---- */

/* Tables of log-probabilities (the source's first token says which table), or a Transformer. */
typedef struct {
    SearchNetwork network;
    const double *table; /* [tables][vocabulary][vocabulary] by the token before */
    const PlainTransformer *transformer;
    PlainSentence **sentence; /* one for each source, made when it is first seen, kept; [sources] */
    int sources;
    const int32_t *source; /* [sources][width]: to find a sentence by its ids */
    int width;
    int of_slot[MOST_SLOTS]; /* table or sentence */
    int beginning[2][MOST_SLOTS]
                 [SEARCH_MOST_BEAM]; /* of a Transformer: of this step's rows and the last one's */
    int which;
    int rows_of_first_steps, steps;
} TestNetwork;

static int find_sentence(TestNetwork *test, const SearchStart *start)
{
    for (int i = 0; i < test->sources; ++i) {
        if (memcmp(test->source + i * test->width, start->source, (size_t)start->length * sizeof(int32_t)) !=
            0)
            continue;
        if (test->sentence[i] == NULL)
            test->sentence[i] = plain_sentence_open(test->transformer, start->source, start->length);
        return i;
    }
    assert_true(false);
    return -1;
}

static Status start(void *context, const SearchStart starts[], int count)
{
    TestNetwork *test = context;
    for (int i = 0; i < count; ++i) {
        assert_in_range(starts[i].slot, 0, test->network.slots - 1);
        test->of_slot[starts[i].slot] =
            test->table != NULL ? starts[i].source[0] : find_sentence(test, &starts[i]);
    }
    return OK;
}

static void log_softmax(const double *logits, int count, double temperature, double *out)
{
    double highest = -INFINITY, total = 0;
    for (int i = 0; i < count; ++i)
        if (logits[i] > highest) highest = logits[i];
    for (int i = 0; i < count; ++i)
        total += exp((logits[i] - highest) / temperature);
    for (int i = 0; i < count; ++i)
        out[i] = (logits[i] - highest) / temperature - log(total);
}

static bool is_banned(const SearchStep *step, const SearchRow *row, int32_t token)
{
    if (row->forced >= 0) return token != row->forced;
    for (int i = 0; i < row->banned_count; ++i)
        if (step->banned[row->banned + i] == token) return true;
    return false;
}

static void give(SearchStep *step, int at, const double *log_probability, int vocabulary)
{
    const SearchRow *row = &step->row[at];
    bool taken[4096] = {false};
    assert_true(vocabulary <= 4096);
    for (int i = 0; i < step->candidates; ++i) {
        int best = -1;
        for (int token = 0; token < vocabulary; ++token)
            if (!taken[token] && !is_banned(step, row, token) && log_probability[token] > -INFINITY &&
                (best < 0 || log_probability[token] > log_probability[best]))
                best = token;
        step->token[at * step->candidates + i] = best;
        step->log_probability[at * step->candidates + i] = best >= 0 ? log_probability[best] : -1;
        if (best < 0) return;
        taken[best] = true;
    }
}

static Status take_step(void *context, SearchStep *step)
{
    TestNetwork *test = context;
    const int vocabulary = (int)test->network.vocabulary, before = test->which;
    double *values = calloc((size_t)vocabulary, sizeof *values);
    assert_non_null(values);
    test->which = 1 - before;
    ++test->steps;
    for (int i = 0; i < step->rows; ++i) {
        const SearchRow *row = &step->row[i];
        const int of = test->of_slot[row->slot];
        const double *raw;
        /* Rows of a sentence stand together, in order; a sentence begins with one. */
        assert_int_equal(row->beam,
                         i > 0 && step->row[i - 1].slot == row->slot ? step->row[i - 1].beam + 1 : 0);
        for (int k = 0; k < row->banned_count; ++k) /* each is there once */
            for (int l = 0; l < k; ++l)
                assert_int_not_equal(step->banned[row->banned + k], step->banned[row->banned + l]);
        if (row->position == 0) {
            assert_int_equal(row->beam, 0);
            assert_int_equal(row->token, START);
            ++test->rows_of_first_steps;
        }
        if (test->table != NULL) {
            raw = test->table + ((size_t)of * (size_t)vocabulary + (size_t)row->token) * (size_t)vocabulary;
            memcpy(values, raw, (size_t)vocabulary * sizeof *values);
        } else {
            const int begun = row->position == 0 ? -1 : test->beginning[before][row->slot][row->parent];
            const int now = plain_sentence_extend(test->sentence[of], begun, row->token);
            test->beginning[test->which][row->slot][row->beam] = now;
            raw = plain_sentence_logits(test->sentence[of], now);
            log_softmax(raw, vocabulary, step->temperature, values);
        }
        if (step->logits != NULL)
            for (int token = 0; token < vocabulary; ++token)
                step->logits[i * vocabulary + token] = (float)raw[token];
        else
            give(step, i, values, vocabulary);
    }
    free(values);
    return OK;
}

static SearchNetwork interface(TestNetwork *test, int64_t vocabulary, int slots)
{
    return (SearchNetwork){.context = test,
                           .vocabulary = vocabulary,
                           .slots = slots,
                           .most_source = MOST_LENGTH,
                           .most_target = MOST_LENGTH,
                           .start = start,
                           .step = take_step};
}

/* Runs all sentences; results in their order. */
static void run(const SearchOptions *options, TestNetwork *test, const SearchInput inputs[], int count,
                SearchResult results[])
{
    Search *search;
    SearchResult result;
    int taken = 0;
    assert_ok(search_create(options, &test->network, &search));
    for (int i = 0; i < count; ++i)
        assert_ok(search_add(search, &inputs[i]));
    while (search_waiting(search) + search_active(search) > 0) {
        assert_ok(search_step(search));
        for (; search_take(search, &result); ++taken)
            results[result.number] = result;
    }
    assert_int_equal(taken, count);
    search_free(search);
}

static void free_results(SearchResult results[], int count)
{
    for (int i = 0; i < count; ++i)
        search_result_free(&results[i]);
}

/* ---- golden ---- */

static const cJSON *member(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (item == NULL) print_error("an entry has no %s\n", key);
    assert_non_null(item);
    return item;
}
static double number(const cJSON *object, const char *key) { return golden_json_number(member(object, key)); }
static double number_at(const cJSON *list, int index)
{
    return golden_json_number(cJSON_GetArrayItem(list, index));
}

static SearchOptions options_of(const cJSON *entry, int beam, const char *limit_rule)
{
    SearchOptions options = search_defaults(0, START, END);
    options.beam = options.best = beam;
    options.alpha = cJSON_HasObjectItem(entry, "alpha") ? number(entry, "alpha") : 0;
    options.temperature = cJSON_HasObjectItem(entry, "temperature") ? number(entry, "temperature") : 1;
    assert_true(strcmp(limit_rule, "tensor2tensor") == 0 || strcmp(limit_rule, "forced_end") == 0);
    options.rules.limit = limit_rule[0] == 't' ? LIMIT_TENSOR2TENSOR : LIMIT_FORCED_END;
    return options;
}

/* `want`: [[tokens, log P, score], ...] */
static void check_list(const SearchResult *got, const cJSON *want, GoldenTolerance tolerance,
                       const char *what)
{
    if (got->count != cJSON_GetArraySize(want))
        print_error("%s: %d hypotheses, not %d\n", what, got->count, cJSON_GetArraySize(want));
    assert_int_equal(got->count, cJSON_GetArraySize(want));
    for (int i = 0; i < got->count; ++i) {
        const cJSON *one = cJSON_GetArrayItem(want, i), *tokens = cJSON_GetArrayItem(one, 0);
        const Hypothesis *hypothesis = &got->list[i];
        double sum = 0;
        bool same = hypothesis->length == cJSON_GetArraySize(tokens);
        for (int j = 0; same && j < hypothesis->length; ++j)
            same = hypothesis->token[j] == (int32_t)number_at(tokens, j);
        for (int j = 0; j < hypothesis->length; ++j)
            sum += hypothesis->token_log_probability[j];
        same = same && golden_is_close(hypothesis->log_probability, number_at(one, 1), tolerance) &&
               golden_is_close(sum, number_at(one, 1), (GoldenTolerance){1e-9, 1e-9}) &&
               (cJSON_GetArraySize(one) < 3 ||
                golden_is_close(hypothesis->score, number_at(one, 2), tolerance)) &&
               hypothesis->ended == (hypothesis->token[hypothesis->length - 1] == END);
        if (!same)
            print_error("%s: hypothesis %d is another (log P %.17g)\n", what, i, hypothesis->log_probability);
        assert_true(same);
        golden_count(2 + hypothesis->length);
    }
}

static void test_golden_tables(void **state)
{
    (void)state;
    int cases = 0;
    for (const GoldenCase *golden = NULL; (golden = golden_next("beam_search_table", NULL, golden)) != NULL;
         ++cases) {
        GoldenArray table = golden_array(golden, "inputs/log_probability");
        const int tables = (int)table.extent[0];
        TestNetwork test = {.table = table.values};
        cJSON *document = golden_document(golden, "expected_files/results"), *entry;
        const GoldenTolerance tolerance = {1e-12, 0};
        cJSON_ArrayForEach(entry, document)
        {
            const SearchOptions options =
                options_of(entry, (int)number(entry, "beam"), member(entry, "limit_rule")->valuestring);
            SearchInput *inputs = calloc((size_t)tables, sizeof *inputs);
            SearchResult *results = calloc((size_t)tables, sizeof *results);
            int32_t *source = calloc((size_t)tables, sizeof *source);
            assert_true(inputs != NULL && results != NULL && source != NULL);
            for (int i = 0; i < tables; ++i) {
                source[i] = i;
                inputs[i] = (SearchInput){.number = i,
                                          .source = &source[i],
                                          .length = 1,
                                          .limit = (int)number(entry, "max_length")};
            }
            test.network = interface(&test, table.extent[1], 5);
            test.rows_of_first_steps = 0;
            run(&options, &test, inputs, tables, results);
            assert_int_equal(test.rows_of_first_steps, tables); /* the first step is not expanded */
            for (int i = 0; i < tables; ++i) {
                char what[160];
                (void)snprintf(what, sizeof what, "%s, beam %d, alpha %g, limit %d by %s, table %d",
                               golden->id, options.beam, options.alpha, inputs[i].limit,
                               member(entry, "limit_rule")->valuestring, i);
                check_list(&results[i], cJSON_GetArrayItem(member(entry, "nbest"), i), tolerance, what);
                assert_int_equal(results[i].steps, (int)number_at(member(entry, "steps"), i));
            }
            free_results(results, tables);
            free(inputs);
            free(results);
            free(source);
        }
        cJSON_Delete(document);
        golden_array_free(&table);
    }
    if (cases == 0) skip();
}

/* ---- golden, with a Transformer ---- */

typedef struct {
    TestNetwork test;
    PlainTransformer *transformer;
    GoldenArray source;
    int32_t *ids; /* [sources][width] */
    int *length;
} Translator;

static void open_translator(const GoldenCase *golden, Translator *translator)
{
    *translator = (Translator){.transformer = plain_transformer_open(golden)};
    translator->source = golden_array(golden, "inputs/source");
    const int sources = (int)translator->source.extent[0], width = (int)translator->source.extent[1];
    translator->ids = calloc((size_t)(sources * width), sizeof *translator->ids);
    translator->length = calloc((size_t)sources, sizeof *translator->length);
    translator->test = (TestNetwork){.transformer = translator->transformer,
                                     .sources = sources,
                                     .source = translator->ids,
                                     .width = width,
                                     .sentence = calloc((size_t)sources, sizeof(PlainSentence *))};
    assert_true(translator->ids != NULL && translator->length != NULL && translator->test.sentence != NULL);
    for (int i = 0; i < sources * width; ++i) {
        translator->ids[i] = (int32_t)translator->source.values[i];
        if (translator->ids[i] != 0) translator->length[i / width] = i % width + 1;
    }
    translator->test.network =
        interface(&translator->test, plain_transformer_vocabulary(translator->transformer), 7);
}

static void close_translator(Translator *translator)
{
    for (int i = 0; i < translator->test.sources; ++i)
        if (translator->test.sentence[i] != NULL) plain_sentence_close(translator->test.sentence[i]);
    free(translator->test.sentence);
    free(translator->ids);
    free(translator->length);
    golden_array_free(&translator->source);
    plain_transformer_close(translator->transformer);
}

/* Translates source `of` (-1: all), with the limits of `max_length`, a number or a list. */
static void translate(Translator *translator, const SearchOptions *options, const cJSON *max_length, int of,
                      SearchResult results[])
{
    const int count = of < 0 ? translator->test.sources : 1;
    SearchInput *inputs = calloc((size_t)count, sizeof *inputs);
    assert_non_null(inputs);
    for (int i = 0; i < count; ++i) {
        const int source = of < 0 ? i : of;
        inputs[i] = (SearchInput){.number = i,
                                  .source = translator->ids + source * translator->test.width,
                                  .length = translator->length[source],
                                  .limit = (int)(cJSON_IsArray(max_length) ? number_at(max_length, i)
                                                                           : golden_json_number(max_length))};
    }
    run(options, &translator->test, inputs, count, results);
    free(inputs);
}

static void check_searches(Translator *translator, const GoldenCase *golden, GoldenTolerance tolerance)
{
    cJSON *document = golden_document(golden, "expected_files/results"), *entry;
    SearchResult *results = calloc((size_t)translator->test.sources, sizeof *results);
    assert_non_null(results);
    cJSON_ArrayForEach(entry, document)
    {
        const SearchOptions options =
            options_of(entry, (int)number(entry, "beam"), member(entry, "limit_rule")->valuestring);
        translate(translator, &options, member(entry, "max_length"), -1, results);
        for (int i = 0; i < translator->test.sources; ++i) {
            char what[160];
            (void)snprintf(what, sizeof what, "%s, beam %d, alpha %g, T %g, limit %s by %s, source %d",
                           golden->id, options.beam, options.alpha, options.temperature,
                           member(entry, "limit")->valuestring, member(entry, "limit_rule")->valuestring, i);
            if (number_at(member(entry, "margin"), i) < 1e-9) continue;
            check_list(&results[i], cJSON_GetArrayItem(member(entry, "nbest"), i), tolerance, what);
            assert_int_equal(results[i].steps, (int)number_at(member(entry, "steps"), i));
        }
        free_results(results, translator->test.sources);
    }
    free(results);
    cJSON_Delete(document);
}

static void check_greedy(Translator *translator, const GoldenCase *golden, GoldenTolerance tolerance)
{
    cJSON *document = golden_document(golden, "expected_files/greedy"), *entry;
    SearchResult *results = calloc((size_t)translator->test.sources, sizeof *results);
    assert_non_null(results);
    cJSON_ArrayForEach(entry, document)
    {
        SearchOptions options = options_of(entry, 1, member(entry, "limit_rule")->valuestring);
        options.method = SEARCH_GREEDY;
        translate(translator, &options, member(entry, "max_length"), -1, results);
        for (int i = 0; i < translator->test.sources; ++i) {
            cJSON *list = cJSON_CreateArray();
            cJSON_AddItemReferenceToArray(list, cJSON_GetArrayItem(member(entry, "results"), i));
            check_list(&results[i], list, tolerance, "greedy");
            cJSON_Delete(list);
        }
        free_results(results, translator->test.sources);
    }
    free(results);
    cJSON_Delete(document);
}

static void test_golden_searches(void **state)
{
    (void)state;
    int cases = 0;
    for (const GoldenCase *golden = NULL; (golden = golden_next("beam_search", NULL, golden)) != NULL;
         ++cases) {
        const GoldenTolerance tolerance = golden_tolerance(golden, "f64", "log_probability_and_score");
        Translator translator;
        open_translator(golden, &translator);
        check_searches(&translator, golden, tolerance);
        check_greedy(&translator, golden, tolerance);
        close_translator(&translator);
    }
    if (cases == 0) skip();
}

static void test_golden_brute_force(void **state)
{
    (void)state;
    int cases = 0, exhaustive = 0;
    for (const GoldenCase *golden = NULL; (golden = golden_next("beam_brute_force", NULL, golden)) != NULL;
         ++cases) {
        const GoldenTolerance tolerance = golden_tolerance(golden, "f64", "log_probability_and_score");
        Translator translator;
        open_translator(golden, &translator);
        cJSON *document = golden_document(golden, "expected_files/results"), *entry, *beam;
        cJSON_ArrayForEach(entry, document)
        {
            cJSON_ArrayForEach(beam, member(entry, "beam")) /* "tensor2tensor 4" */
            {
                char rule[32], what[96];
                int width;
                assert_int_equal(sscanf(beam->string, "%31s %d", rule, &width), 2);
                SearchOptions options = options_of(entry, width, rule);
                if (options.best > 10) options.best = 10;
                SearchResult result;
                translate(&translator, &options, member(entry, "max_length"), (int)number(entry, "source"),
                          &result);
                (void)snprintf(what, sizeof what, "%s, source %d, %s", golden->id,
                               (int)number(entry, "source"), beam->string);
                if (number(beam, "margin") > 1e-9) {
                    check_list(&result, member(beam, "nbest"), tolerance, what);
                    assert_int_equal(result.steps, (int)number(beam, "steps"));
                }
                if (width == 64 && cJSON_IsTrue(member(entry, "beam_64_best_8_equal_brute_force")) &&
                    strcmp(rule, "forced_end") == 0) {
                    cJSON *best = cJSON_CreateArray();
                    for (int i = 0; i < 8; ++i)
                        cJSON_AddItemReferenceToArray(
                            best, cJSON_GetArrayItem(member(entry, "brute_force_best_15"), i));
                    SearchResult shorter = result;
                    shorter.count = 8;
                    check_list(&shorter, best, tolerance, what);
                    cJSON_Delete(best);
                    ++exhaustive;
                }
                search_result_free(&result);
            }
        }
        cJSON_Delete(document);
        close_translator(&translator);
    }
    if (cases == 0) skip();
    assert_true(exhaustive > 0);
}

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
        if (stop == STOP_FIRST && candidates > 0 && candidate[0].ended) break;
        if (stop != STOP_BOUND && count >= beam) break;
        if (stop == STOP_BOUND && count >= beam) {
            Plain longest = live[0];
            longest.length = limit;
            longest.ended = true;
            if (finished[beam - 1].score >= plain_score(options, &longest)) break;
        }
    }
    return count < options->best ? count : options->best;
}

/* Log-probabilities of a random network; coarse ones meet ties. */
static void fill_table(double *table, int vocabulary, uint64_t which, bool coarse)
{
    RandomStream stream = random_stream(7, RANDOM_TEST, which);
    for (int i = 0; i < vocabulary; ++i) {
        double logits[64];
        for (int j = 0; j < vocabulary; ++j)
            logits[j] = 2 * random_normal(&stream) + (j == END ? -0.5 : 0);
        log_softmax(logits, vocabulary, 1, table + i * vocabulary);
        for (int j = 0; coarse && j < vocabulary; ++j)
            table[i * vocabulary + j] = floor(table[i * vocabulary + j] * 2) / 2;
    }
}

static void compare_with_plain(const SearchOptions *options, TestNetwork *test, const SearchInput inputs[],
                               int count)
{
    const int vocabulary = (int)test->network.vocabulary;
    SearchResult *results = calloc((size_t)count, sizeof *results);
    assert_non_null(results);
    run(options, test, inputs, count, results);
    for (int i = 0; i < count; ++i) {
        static Plain want[3 * SEARCH_MOST_BEAM];
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

enum { TABLES = 6, WORDS = 11 };

static void make_inputs(SearchInput inputs[TABLES], int32_t source[TABLES], const int32_t *prefix,
                        int prefix_length)
{
    for (int i = 0; i < TABLES; ++i) {
        source[i] = i;
        inputs[i] = (SearchInput){.number = i,
                                  .source = &source[i],
                                  .length = 1,
                                  .limit = 4 + 3 * i, /* each its own */
                                  .prefix = prefix,
                                  .prefix_length = prefix_length};
    }
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
            fill_table(table + i * WORDS * WORDS, WORDS, (uint64_t)i, coarse == 1);
        TestNetwork test = {.table = table};
        for (int which = 0; which < rules * 5 * 3 * 4; ++which) {
            const int kind = which % 4;
            SearchOptions options = search_defaults(0, START, END);
            options.rules = rule[which / 60];
            options.beam = options.best = beams[which / 12 % 5];
            options.alpha = alphas[which / 4 % 3];
            options.minimum = kind == 1 ? 3 : 0;
            options.no_repeat = kind >= 2 ? kind - 1 : 0; /* 2 of what the prefix has twice, too */
            make_inputs(inputs, source, prefix, kind == 3 ? 3 : 0);
            test.network = interface(&test, WORDS, 1 + which % 4);
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
        fill_table(table, WORDS, 100 + which, false);
        TestNetwork test = {.table = table};
        test.network = interface(&test, WORDS, 1);
        double before = -INFINITY;
        bool ended = false;
        for (int limit = 1; limit <= 12; ++limit) {
            SearchOptions options = search_defaults(0, START, END);
            options.rules = *search_rules("tensor2tensor");
            options.alpha = 0.6 + 0.2 * (double)(which % 3);
            const SearchInput input = {.source = &source, .length = 1, .limit = limit};
            SearchResult result;
            run(&options, &test, &input, 1, &result);
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
        fill_table(table + i * WORDS * WORDS, WORDS, 300 + (uint64_t)i, false);
    TestNetwork test = {.table = table};
    test.network = interface(&test, WORDS, 2);
    make_inputs(inputs, source, NULL, 0);
    SearchOptions options = search_defaults(0, START, END);
    options.beam = 5;
    run(&options, &test, inputs, TABLES, one);
    options.best = 5;
    run(&options, &test, inputs, TABLES, five);
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

/* ---- sampling ---- */

static void test_samples_do_not_depend_on_the_batch(void **state)
{
    (void)state;
    double table[TABLES * WORDS * WORDS];
    SearchInput inputs[TABLES];
    int32_t source[TABLES];
    for (int i = 0; i < TABLES; ++i)
        fill_table(table + i * WORDS * WORDS, WORDS, 200 + (uint64_t)i, false);
    TestNetwork test = {.table = table};
    make_inputs(inputs, source, NULL, 0);
    SearchOptions options = search_defaults(0, START, END);
    options.method = SEARCH_SAMPLE;
    options.beam = options.best = 5;
    options.seed = 3;
    SearchResult alone[TABLES], together[TABLES], other[TABLES];
    test.network = interface(&test, WORDS, 1);
    run(&options, &test, inputs, TABLES, alone);
    test.network = interface(&test, WORDS, 4);
    run(&options, &test, inputs, TABLES, together);
    options.seed = 4;
    run(&options, &test, inputs, TABLES, other);
    int differences = 0, samples = 0;
    for (int i = 0; i < TABLES; ++i) {
        assert_int_equal(alone[i].count, 5);
        for (int j = 0; j < 5; ++j, ++samples) {
            const Hypothesis *a = &alone[i].list[j], *b = &together[i].list[j], *c = &other[i].list[j];
            assert_int_equal(a->length, b->length);
            assert_memory_equal(a->token, b->token, (size_t)a->length * sizeof(int32_t));
            differences += a->length != c->length ||
                           memcmp(a->token, c->token, (size_t)a->length * sizeof(int32_t)) != 0;
            double sum = 0;
            for (int k = 0; k < a->length; ++k)
                sum += a->token_log_probability[k];
            assert_true(fabs(sum - a->log_probability) < 1e-9);
            assert_true(a->ended == (a->token[a->length - 1] == END));
        }
    }
    assert_true(differences > samples / 2);
    free_results(alone, TABLES);
    free_results(together, TABLES);
    free_results(other, TABLES);
}

/* Shares of drawn tokens against the probabilities that they are drawn from. */
static void check_shares(const SamplingOptions *options, const float logits[], int32_t banned,
                         const double want[])
{
    enum { DRAWS = 20000 };
    Sampler *sampler;
    RandomStream stream = random_stream(1, RANDOM_TEST, 9);
    int drawn[8] = {0};
    assert_ok(sampler_create(options, &sampler));
    for (int i = 0; i < DRAWS; ++i) {
        int32_t token;
        double log_probability;
        assert_ok(
            sampler_draw(sampler, logits, &banned, 1, random_uniform(&stream), &token, &log_probability));
        ++drawn[token];
    }
    for (int i = 0; i < (int)options->vocabulary; ++i) {
        const double deviation = sqrt(want[i] * (1 - want[i]) / DRAWS);
        assert_true(fabs((double)drawn[i] / DRAWS - want[i]) <= 4 * deviation);
    }
    sampler_free(sampler);
}

static void test_samples_have_their_shares(void **state)
{
    (void)state;
    /* Probabilities 0.1, 0.4, 0.2, 0.25, 0.05; token 0 is banned. */
    const float logits[] = {logf(0.1F), logf(0.4F), logf(0.2F), logf(0.25F), logf(0.05F)};
    SamplingOptions options = {.vocabulary = 5, .temperature = 1, .top_p = 1};
    check_shares(&options, logits, 0, (double[]){0, 0.4 / 0.9, 0.2 / 0.9, 0.25 / 0.9, 0.05 / 0.9});
    options.top_k = 3;
    check_shares(&options, logits, 0, (double[]){0, 0.4 / 0.85, 0.2 / 0.85, 0.25 / 0.85, 0});
    options.top_p = 0.7; /* 0.65 / 0.85 is more than that */
    check_shares(&options, logits, 0, (double[]){0, 0.4 / 0.65, 0, 0.25 / 0.65, 0});
    options.top_k = 0;
    options.top_p = 1;
    options.temperature = 0.5; /* squares */
    check_shares(&options, logits, 0,
                 (double[]){0, 0.16 / 0.265, 0.04 / 0.265, 0.0625 / 0.265, 0.0025 / 0.265});
    Sampler *sampler;
    int32_t token;
    double log_probability;
    assert_ok(sampler_create(&options, &sampler));
    const float wrong[] = {0, NAN, 0, 0, 0};
    assert_fails(sampler_draw(sampler, wrong, NULL, 0, 0.5, &token, &log_probability), STATUS_NUMERIC,
                 "token 1");
    assert_ok(sampler_draw(sampler, logits, (int32_t[]){0, 1, 2, 3, 4}, 5, 0.5, &token, &log_probability));
    assert_int_equal(token, -1);
    assert_ok(sampler_take(sampler, logits, 1, &log_probability));
    assert_true(fabs(log_probability - log(0.16 / 0.275)) < 1e-6);
    sampler_free(sampler);
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
    fill_table(table, WORDS, 0, false);
    TestNetwork test = {.table = table};
    test.network = interface(&test, WORDS, 1);
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
    fill_table(table, WORDS, 0, false);
    for (int i = 0; i < WORDS; ++i)
        table[4 * WORDS + i] = -INFINITY; /* behind token 4 there is no way on */
    TestNetwork test = {.table = table};
    test.network = interface(&test, WORDS, 1);
    SearchResult result;
    run(&options, &test, &input, 1, &result);
    for (int i = 0; i < result.count; ++i)
        for (int j = 0; j < result.list[i].length; ++j)
            assert_int_not_equal(result.list[i].token[j], 4);
    search_result_free(&result);
    for (int i = 0; i < WORDS; ++i)
        table[START * WORDS + i] = -INFINITY;
    Search *search;
    run(&options, &test, &input, 1, &result); /* no hypothesis, and no error */
    assert_int_equal(result.count, 0);
    search_result_free(&result);
    table[START * WORDS + 5] = INFINITY;
    assert_ok(search_create(&options, &test.network, &search));
    assert_ok(search_add(search, &input));
    assert_fails(search_step(search), STATUS_NUMERIC, "sentence 0");
    search_free(search);
}

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
        cmocka_unit_test(test_golden_tables),
        cmocka_unit_test(test_golden_searches),
        cmocka_unit_test(test_golden_brute_force),
        cmocka_unit_test(test_a_plain_search_finds_the_same),
        cmocka_unit_test(test_a_wider_limit_is_no_worse),
        cmocka_unit_test(test_nbest_only_shortens_the_list),
        cmocka_unit_test(test_samples_do_not_depend_on_the_batch),
        cmocka_unit_test(test_samples_have_their_shares),
        cmocka_unit_test(test_options_are_checked),
        cmocka_unit_test(test_sentences_are_checked),
        cmocka_unit_test(test_a_network_gives_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
