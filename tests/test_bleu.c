/* BLEU against sacreBLEU's numbers. */
#include "tests/bleu_lines.h"

#include "engine/base/file.h"
#include "nlp/bleu/bleu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Tokenisers ---- */

static void assert_tokens_of(BleuTokenization how, const char *line, const char *const expected[], int count)
{
    BleuTokens tokens = {.text = NULL};
    assert_ok(bleu_tokenize(&how, text_span(line), &tokens));
    bool equal = tokens.count == count;
    for (int i = 0; i < count && equal; ++i)
        equal = text_span_equal(tokens.token[i], text_span(expected[i]));
    if (!equal) {
        print_error("%s: \"%s\" gives", bleu_tokenizer_name(how.tokenizer), line);
        for (int64_t i = 0; i < tokens.count; ++i)
            print_error(" [%.*s]", (int)tokens.token[i].size, tokens.token[i].data);
        print_error("\n");
    }
    assert_true(equal);
    bleu_tokens_free(&tokens);
}

static void assert_tokens(BleuTokenizer tokenizer, const char *line, const char *const expected[], int count)
{
    assert_tokens_of((BleuTokenization){.tokenizer = tokenizer}, line, expected, count);
}

static void lines_become_tokens(void **state)
{
    (void)state;
    static const struct {
        BleuTokenizer tokenizer;
        const char *line;
        int count;
        const char *tokens[12];
    } cases[] = {
        {BLEU_TOKENS_13A, "", 0, {0}},
        {BLEU_TOKENS_13A, " \t\xC2\xA0", 0, {0}},
        {BLEU_TOKENS_13A,
         "1,000.5 a,b 3-4 c-d x.",
         10,
         {"1,000.5", "a", ",", "b", "3", "-", "4", "c-d", "x", "."}},
        {BLEU_TOKENS_13A, "..,5 5.,", 7, {".", ".", ",", "5", "5", ".", ","}},
        {BLEU_TOKENS_13A, "&amp;lt; &quot;x&quot;<skipped>", 4, {"<", "\"", "x", "\""}},
        {BLEU_TOKENS_13A, "it's {a}'", 5, {"it's", "{", "a", "}", "'"}},
        {BLEU_TOKENS_13A, "a\xE2\x80\x9C,b", 3, {"a\xE2\x80\x9C", ",", "b"}},
        {BLEU_TOKENS_NONE,
         " a,b  c\xE3\x80\x80"
         "d ",
         3,
         {"a,b", "c", "d"}},
        {BLEU_TOKENS_CHAR, "a\xC3\xA9 b", 3, {"a", "\xC3\xA9", "b"}},
        {BLEU_TOKENS_CHAR, "\xFF\xC3", 2, {"\xFF", "\xC3"}}, /* not UTF-8: bytes */
        {BLEU_TOKENS_ZH, "a\xE4\xB8\xAD\xE6\x96\x87x.", 5, {"a", "\xE4\xB8\xAD", "\xE6\x96\x87", "x", "."}},
        {BLEU_TOKENS_ZH,
         "a\xE2\x80\x94"
         "b",
         3,
         {"a", "\xE2\x80\x94", "b"}}, /* U+2014: the table's mistake */
        {BLEU_TOKENS_ZH,
         "a\xF0\xA0\x80\x80"
         "b",
         1,
         {"a\xF0\xA0\x80\x80"
          "b"}}, /* U+20000: the other side of it */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i)
        assert_tokens(cases[i].tokenizer, cases[i].line, cases[i].tokens, cases[i].count);
}

/* ---- Scores ---- */

static const BleuOptions usual = {.smoothing = BLEU_SMOOTH_EXP, .value = -1};

static void counts_are_clipped_by_the_best_reference(void **state)
{
    (void)state;
    const TextSpan references[] = {text_span("the cat is on the mat"),
                                   text_span("there is a cat on the mat")};
    BleuStatistics statistics;
    assert_ok(
        bleu_segment(BLEU_TOKENS_NONE, text_span("the the the cat the the the"), references, 2, &statistics));
    assert_int_equal(statistics.correct[0], 3); /* "the" twice, "cat" */
    assert_int_equal(statistics.correct[1], 1);
    assert_int_equal(statistics.correct[2], 0);
    for (int n = 0; n < BLEU_ORDER; ++n)
        assert_int_equal(statistics.total[n], 7 - n);
    assert_int_equal(statistics.hypothesis, 7);
    assert_int_equal(statistics.reference, 7);
    assert_ok(bleu_segment(BLEU_TOKENS_NONE, text_span("a b c"),
                           (const TextSpan[]){text_span("a b c d"), text_span("a b")}, 2, &statistics));
    assert_int_equal(statistics.reference, 2); /* as close as four: the shorter */
    assert_fails(bleu_segment(BLEU_TOKENS_NONE, text_span("a"), NULL, 0, &statistics), STATUS_INPUT,
                 "without a reference");
}

static void empty_sides_score_nothing(void **state)
{
    (void)state;
    const TextSpan empty = text_span(""), text = text_span("a b c d");
    BleuStatistics statistics;
    assert_ok(bleu_segment(BLEU_TOKENS_13A, empty, &text, 1, &statistics));
    assert_int_equal(statistics.total[0], 0);
    assert_true(bleu_score(&statistics, &usual).score == 0);
    assert_true(bleu_score(&statistics, &usual).brevity_penalty == 0);
    assert_ok(bleu_segment(BLEU_TOKENS_13A, text, &empty, 1, &statistics));
    assert_int_equal(statistics.reference, 0);
    assert_true(bleu_score(&statistics, &usual).score == 0);
    assert_true(bleu_score(&statistics, &usual).brevity_penalty == 1);
    assert_ok(bleu_segment(BLEU_TOKENS_13A, empty, &empty, 1, &statistics));
    assert_true(bleu_score(&statistics, &usual).score == 0);
}

/* sacreBLEU's own last digits: 100.00000000000004 for four orders of a hundred, and two words against themselves. */
static void the_last_digit_is_sacrebleus(void **state)
{
    (void)state;
    const TextSpan long_text = text_span("a b c d e"), short_text = text_span("a b");
    BleuStatistics statistics;
    assert_ok(bleu_segment(BLEU_TOKENS_13A, long_text, &long_text, 1, &statistics));
    assert_true(bleu_score(&statistics, &usual).score == 100.00000000000004);
    assert_ok(bleu_segment(BLEU_TOKENS_13A, short_text, &short_text, 1, &statistics));
    assert_true(bleu_score(&statistics, &usual).score == 0); /* no order of three: a precision of 0 */
    const BleuOptions effective = {.smoothing = BLEU_SMOOTH_EXP, .value = -1, .effective_order = true};
    assert_true(bleu_score(&statistics, &effective).score > 99.999);
}

/* ---- Golden values ---- */

/* Lines of $PLUMB_DATA/system-outputs/NAME. */
static TextLines read_system(const char *name)
{
    char path[256];
    (void)snprintf(path, sizeof path, "system-outputs/%s", name);
    TextLines lines;
    assert_ok(text_lines_read(test_data_or_skip(path), &lines));
    return lines;
}

enum { MOST_REFERENCES = 3 };

typedef struct {
    TextLines hypothesis, reference[MOST_REFERENCES];
    int references;
} Corpus;

/* The hypotheses of a case, and at most so many references. */
static Corpus read_corpus(const GoldenCase *golden, int most)
{
    static const char *const names[] = {"inputs/ref", "inputs/ref0", "inputs/ref1", "inputs/ref2"};
    Corpus corpus = {.hypothesis = read_lines(golden, "inputs/hyp")};
    for (int i = 0; i < 4 && corpus.references < most; ++i)
        if (golden_has(golden, names[i]))
            corpus.reference[corpus.references++] = read_lines(golden, names[i]);
    assert_true(corpus.references > 0);
    for (int r = 0; r < corpus.references; ++r)
        assert_int_equal(corpus.reference[r].count, corpus.hypothesis.count);
    return corpus;
}

static void corpus_free(Corpus *corpus)
{
    text_lines_free(&corpus->hypothesis);
    for (int r = 0; r < corpus->references; ++r)
        text_lines_free(&corpus->reference[r]);
}

static void add_line(const Corpus *corpus, BleuCounter *counter, int64_t line, BleuStatistics *sum)
{
    TextSpan reference[MOST_REFERENCES];
    for (int r = 0; r < corpus->references; ++r)
        reference[r] = corpus->reference[r].line[line];
    BleuStatistics one;
    assert_ok(bleu_counter_references(counter, reference, corpus->references));
    assert_ok(bleu_counter_count(counter, corpus->hypothesis.line[line], &one));
    bleu_add(sum, &one);
}

static BleuStatistics statistics_of(const Corpus *corpus, BleuTokenizer tokenizer, bool lowercase)
{
    BleuStatistics sum = {.hypothesis = 0};
    BleuCounter *counter;
    assert_ok(bleu_counter_new((BleuTokenization){.tokenizer = tokenizer, .lowercase = lowercase}, &counter));
    for (int64_t i = 0; i < corpus->hypothesis.count; ++i)
        add_line(corpus, counter, i, &sum);
    bleu_counter_free(counter);
    return sum;
}

static double json_number(const cJSON *table, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(table, key);
    assert_true(cJSON_IsNumber(item));
    return item->valuedouble;
}

static void assert_near(double got, double want, const char *what)
{
    const double difference = got > want ? got - want : want - got;
    if (!(difference <= 1e-9)) print_error("%s: %.17g, expected %.17g\n", what, got, want);
    assert_true(difference <= 1e-9);
}

/* What a table of the manifest has of a score. */
static void assert_score(const cJSON *expected, const BleuStatistics *statistics, const BleuOptions *options)
{
    const BleuScore score = bleu_score(statistics, options);
    assert_near(score.score, json_number(expected, "score"), "score");
    const cJSON *precisions = cJSON_GetObjectItemCaseSensitive(expected, "precisions");
    for (int n = 0; n < BLEU_ORDER; ++n)
        assert_near(score.precision[n], cJSON_GetArrayItem(precisions, n)->valuedouble, "precision");
    if (cJSON_HasObjectItem(expected, "bp")) {
        assert_near(score.brevity_penalty, json_number(expected, "bp"), "brevity penalty");
        assert_int_equal(statistics->hypothesis, (int64_t)json_number(expected, "sys_len"));
        assert_int_equal(statistics->reference, (int64_t)json_number(expected, "ref_len"));
    }
    const cJSON *counts = cJSON_GetObjectItemCaseSensitive(expected, "counts");
    const cJSON *totals = cJSON_GetObjectItemCaseSensitive(expected, "totals");
    for (int n = 0; n < BLEU_ORDER && counts != NULL; ++n) {
        assert_int_equal(statistics->correct[n], cJSON_GetArrayItem(counts, n)->valueint);
        assert_int_equal(statistics->total[n], cJSON_GetArrayItem(totals, n)->valueint);
    }
}

static void golden_corpora(void **state)
{
    (void)state;
    int compared = 0;
    for (const GoldenCase *golden = NULL; (golden = golden_next("bleu_corpus", NULL, golden)) != NULL;) {
        Corpus corpus = read_corpus(golden, 1);
        for (int t = 0; t < 2 * BLEU_TOKENIZERS; ++t) {
            const BleuTokenizer tokenizer = (BleuTokenizer)(t / 2);
            const bool lowercase = t % 2 == 1;
            char key[32];
            (void)snprintf(key, sizeof key, "%s/%s", bleu_tokenizer_name(tokenizer),
                           lowercase ? "lc" : "mixed");
            const cJSON *expected = cJSON_GetObjectItemCaseSensitive(golden_item(golden, "expected"), key);
            if (expected == NULL) continue;
            const BleuStatistics statistics = statistics_of(&corpus, tokenizer, lowercase);
            assert_score(expected, &statistics, &usual);
            ++compared;
        }
        corpus_free(&corpus);
    }
    print_message("%d scores compared\n", compared);
    if (compared == 0) skip();
}

static void golden_references(void **state)
{
    (void)state;
    int compared = 0;
    for (const GoldenCase *golden = NULL; (golden = golden_next("bleu_multi_ref", NULL, golden)) != NULL;) {
        for (int references = 2; references <= MOST_REFERENCES; ++references)
            for (int t = 0; t < BLEU_TOKENIZERS; ++t) {
                char key[64];
                (void)snprintf(key, sizeof key, "%d references/%s", references,
                               bleu_tokenizer_name((BleuTokenizer)t));
                const cJSON *all = golden_item(golden, "expected"),
                            *expected = cJSON_GetObjectItemCaseSensitive(all, key);
                if (expected == NULL && references == 2 && t == BLEU_TOKENS_13A &&
                    cJSON_HasObjectItem(all, "score"))
                    expected = all; /* a case of one score */
                if (expected == NULL) continue;
                Corpus corpus = read_corpus(golden, references);
                assert_int_equal(corpus.references, references);
                const BleuStatistics statistics = statistics_of(&corpus, (BleuTokenizer)t, false);
                assert_score(expected, &statistics, &usual);
                corpus_free(&corpus);
                ++compared;
            }
    }
    print_message("%d scores compared\n", compared);
    if (compared == 0) skip();
}

static void golden_smoothing(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        BleuSmoothing smoothing;
    } rows[] = {{"none", BLEU_SMOOTH_NONE},
                {"floor", BLEU_SMOOTH_FLOOR},
                {"add-k", BLEU_SMOOTH_ADD_K},
                {"exp", BLEU_SMOOTH_EXP}};
    int cases = 0;
    for (const GoldenCase *golden = NULL; (golden = golden_next("bleu_smoothing", NULL, golden)) != NULL;
         ++cases) {
        Corpus corpus = read_corpus(golden, 1);
        const BleuStatistics statistics = statistics_of(&corpus, BLEU_TOKENS_13A, false);
        for (int i = 0; i < 4; ++i) {
            const cJSON *expected =
                cJSON_GetObjectItemCaseSensitive(golden_item(golden, "expected"), rows[i].name);
            assert_non_null(expected);
            const BleuOptions options = {.smoothing = rows[i].smoothing, .value = -1};
            assert_score(expected, &statistics, &options);
        }
        corpus_free(&corpus);
    }
    if (cases == 0) skip();
}

static void assert_sentence(const cJSON *row, const Corpus *corpus)
{
    static const char *const keys[] = {"effective_order", "bleu_effective_order", "full_order"};
    BleuStatistics statistics = {.hypothesis = 0};
    BleuCounter *counter;
    assert_ok(bleu_counter_new((BleuTokenization){.tokenizer = BLEU_TOKENS_13A}, &counter));
    add_line(corpus, counter, (int64_t)json_number(row, "line"), &statistics);
    bleu_counter_free(counter);
    for (int k = 0; k < 3; ++k) {
        const cJSON *expected = cJSON_GetObjectItemCaseSensitive(row, keys[k]);
        const BleuOptions options = {.smoothing = BLEU_SMOOTH_EXP, .value = -1, .effective_order = k < 2};
        if (expected != NULL) assert_score(expected, &statistics, &options);
    }
}

/* Rows name a corpus of the same set, and a line of it. */
static int check_sentences(const char *kind)
{
    int rows = 0;
    for (const GoldenCase *golden = NULL; (golden = golden_next(kind, NULL, golden)) != NULL;) {
        cJSON *list = golden_document(golden, "expected_files/scores");
        for (const cJSON *row = list->child; row != NULL; row = row->next, ++rows) {
            const bool several = cJSON_HasObjectItem(row, "references") && json_number(row, "references") > 1;
            char id[128];
            (void)snprintf(id, sizeof id, "bleu/%s/%s", several ? "references" : "corpus",
                           cJSON_GetObjectItemCaseSensitive(row, "set")->valuestring);
            const GoldenCase *of = golden_find(golden->set, id);
            assert_non_null(of);
            Corpus corpus = read_corpus(of, several ? MOST_REFERENCES : 1);
            assert_sentence(row, &corpus);
            corpus_free(&corpus);
        }
        cJSON_Delete(list);
    }
    return rows;
}

static void golden_sentences(void **state)
{
    (void)state;
    const int rows = check_sentences("bleu_sentence") + check_sentences("sentence_scores");
    print_message("%d sentences compared\n", rows);
    if (rows == 0) skip();
}

static void golden_tokens(void **state)
{
    (void)state;
    int compared = 0;
    for (const GoldenCase *golden = NULL; (golden = golden_next("bleu_tokens", NULL, golden)) != NULL;) {
        cJSON *list = golden_document(golden, "expected_files/tokens");
        for (const cJSON *row = list->child; row != NULL; row = row->next)
            for (int t = 0; t < 2 * BLEU_TOKENIZERS; ++t) {
                const BleuTokenization how = {.tokenizer = (BleuTokenizer)(t / 2), .lowercase = t % 2 == 1};
                const char *name = bleu_tokenizer_name(how.tokenizer);
                char key[32];
                (void)snprintf(key, sizeof key, "%s/%s", name, how.lowercase ? "lc" : "mixed");
                const cJSON *expected = cJSON_GetObjectItemCaseSensitive(row, key);
                if (expected == NULL && !how.lowercase)
                    expected = cJSON_GetObjectItemCaseSensitive(row, name);
                if (expected == NULL) continue;
                const int count = cJSON_GetArraySize(expected);
                const char **tokens = calloc((size_t)count + 1, sizeof *tokens);
                assert_non_null(tokens);
                int i = 0;
                for (const cJSON *token = expected->child; token != NULL; token = token->next)
                    tokens[i++] = token->valuestring;
                assert_tokens_of(how, cJSON_GetObjectItemCaseSensitive(row, "line")->valuestring, tokens,
                                 count);
                free((void *)tokens);
                ++compared;
            }
        cJSON_Delete(list);
    }
    print_message("%d lines compared\n", compared);
    if (compared == 0) skip();
}

/* ---- Systems of WMT17 and WMT21 ---- */

static void assert_system_score(const cJSON *computed, const char *key, const Corpus *corpus,
                                BleuTokenizer tokenizer, int *compared)
{
    if (!cJSON_HasObjectItem(computed, key)) return;
    const BleuStatistics statistics = statistics_of(corpus, tokenizer, false);
    assert_near(bleu_score(&statistics, &usual).score, json_number(computed, key), key);
    ++*compared;
}

static void assert_system(const cJSON *row, int *compared)
{
    Corpus corpus = {.hypothesis =
                         read_system(cJSON_GetObjectItemCaseSensitive(row, "hypothesis")->valuestring)};
    const cJSON *reference = cJSON_GetObjectItemCaseSensitive(row, "references")->child;
    for (; reference != NULL && corpus.references < MOST_REFERENCES; reference = reference->next) {
        corpus.reference[corpus.references] = read_system(reference->valuestring);
        assert_int_equal(corpus.reference[corpus.references++].count, corpus.hypothesis.count);
    }
    assert_null(reference);
    const cJSON *computed = cJSON_GetObjectItemCaseSensitive(row, "computed");
    for (int t = 0; t < BLEU_TOKENIZERS; ++t) {
        char key[64];
        (void)snprintf(key, sizeof key, "bleu_%s%s", bleu_tokenizer_name((BleuTokenizer)t),
                       corpus.references > 1 ? "_all" : "");
        assert_system_score(computed, key, &corpus, (BleuTokenizer)t, compared);
    }
    /* Each reference alone: newstest2021.ref.A.de.gz is "A". */
    const cJSON *names = cJSON_GetObjectItemCaseSensitive(row, "references");
    for (int r = 0; corpus.references > 1 && r < corpus.references; ++r) {
        const Corpus one = {
            .hypothesis = corpus.hypothesis, .reference = {corpus.reference[r]}, .references = 1};
        char key[64];
        (void)snprintf(key, sizeof key, "bleu_13a_%c",
                       strstr(cJSON_GetArrayItem(names, r)->valuestring, ".ref.")[5]);
        assert_system_score(computed, key, &one, BLEU_TOKENS_13A, compared);
    }
    corpus_free(&corpus);
}

static void systems_have_their_published_scores(void **state)
{
    (void)state;
    char *text;
    size_t size;
    assert_ok(file_read(test_data_or_skip("system-outputs/expected.json"), (size_t)16 << 20, &text, &size));
    cJSON *root = cJSON_Parse(text);
    free(text);
    const cJSON *cases = cJSON_GetObjectItemCaseSensitive(root, "cases");
    assert_true(cJSON_GetArraySize(cases) > 0);
    int compared = 0;
    for (const cJSON *row = cases->child; row != NULL; row = row->next)
        assert_system(row, &compared);
    print_message("%d scores compared\n", compared);
    assert_true(compared >= cJSON_GetArraySize(cases));
    cJSON_Delete(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_become_tokens),
        cmocka_unit_test(counts_are_clipped_by_the_best_reference),
        cmocka_unit_test(empty_sides_score_nothing),
        cmocka_unit_test(the_last_digit_is_sacrebleus),
        cmocka_unit_test(golden_corpora),
        cmocka_unit_test(golden_references),
        cmocka_unit_test(golden_smoothing),
        cmocka_unit_test(golden_sentences),
        cmocka_unit_test(golden_tokens),
        cmocka_unit_test(systems_have_their_published_scores),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
