/* chrF, chrF++ and TER against sacreBLEU's numbers: golden cases, their traps, and texts in lower case. */
#include "tests/bleu_lines.h"

#include "nlp/bleu/characters.h"
#include "nlp/bleu/metric.h"
#include "nlp/bleu/ter_tokens.h"
#include "nlp/bleu/unicode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Lower case ---- */

static void assert_lower(const char *text, const char *lower)
{
    char out[256];
    assert_true(text_lower_room(strlen(text)) < sizeof out);
    const size_t size = text_lower(text_span(text), out);
    if (size != strlen(lower) || memcmp(out, lower, size) != 0)
        print_error("\"%s\" becomes \"%.*s\"\n", text, (int)size, out);
    assert_int_equal(size, strlen(lower));
    assert_memory_equal(out, lower, size);
}

static void lower_case_is_pythons(void **state)
{
    (void)state;
    assert_lower("", "");
    assert_lower("AbC-1 ÄÖÜẞ ŁÓDŹ", "abc-1 äöüß łódź");
    assert_lower("İstanbul", "i̇stanbul"); /* two characters */
    /* A sigma at the end of a word is another one; at its start, alone and within a word it is not. */
    assert_lower("ΟΔΟΣ", "οδος");
    assert_lower("ΟΔΟΣ.", "οδος.");
    assert_lower("ΟΔΟΣ ΣΑΣ Σ", "οδος σας σ");
    assert_lower("Α'Σ", "α'ς");   /* an apostrophe is ignorable */
    assert_lower("ΑΣ'Β", "ασ'β"); /* ignorable again, and a cased letter behind */
    assert_lower("𐐀Ω", "𐐨ω");     /* beyond U+FFFF; the Ohm sign */
    assert_lower("KȺ", "kⱥ");     /* shorter and longer than before */
    assert_lower("a\xFF\xC3", "a\xFF\xC3");
}

static void characters_have_the_classes_of_a_late_unicode(void **state)
{
    (void)state;
    assert_int_equal(unicode_class('a'), UNICODE_OTHER);
    assert_int_equal(unicode_class('$'), UNICODE_SYMBOL);
    assert_int_equal(unicode_class('.'), UNICODE_PUNCTUATION);
    assert_int_equal(unicode_class(0xBD), UNICODE_NUMBER);
    assert_int_equal(unicode_class(0x10FFFF), UNICODE_OTHER);
    assert_int_equal(unicode_class(0x1E2FF), UNICODE_SYMBOL);
    /* Assigned in Unicode 15 to 17. */
    assert_int_equal(unicode_class(0x1F774), UNICODE_SYMBOL);
    assert_int_equal(unicode_class(0x2FFC), UNICODE_SYMBOL);
    assert_int_equal(unicode_class(0x11B00), UNICODE_PUNCTUATION);
    assert_int_equal(unicode_class(0x1CC00), UNICODE_SYMBOL);
    assert_int_equal(unicode_class(0x20C1), UNICODE_SYMBOL);
}

/* ---- Golden cases ---- */

enum { MOST_REFERENCES = 3 };

/* The row of one line, or (-1) the sum of all rows. */
static void sum_rows(const GoldenCase *golden, const Metric *metric, int references, int64_t line,
                     double sum[])
{
    static const char *const names[] = {"inputs/ref0", "inputs/ref1", "inputs/ref2"};
    TextLines hypothesis = read_lines(golden, "inputs/hyp"), reference[MOST_REFERENCES];
    for (int r = 0; r < references; ++r)
        reference[r] = read_lines(golden, golden_has(golden, "inputs/ref0") ? names[r] : "inputs/ref");
    MetricCounter *counter;
    assert_ok(metric_counter_new(metric, &counter));
    memset(sum, 0, (size_t)metric_width(metric) * sizeof *sum);
    for (int64_t i = 0; i < hypothesis.count; ++i) {
        if (line >= 0 && i != line) continue;
        TextSpan here[MOST_REFERENCES];
        for (int r = 0; r < references; ++r)
            here[r] = reference[r].line[i];
        double row[METRIC_WIDEST];
        assert_ok(metric_counter_references(counter, here, references));
        assert_ok(metric_counter_count(counter, hypothesis.line[i], row));
        for (int k = 0; k < metric_width(metric); ++k)
            sum[k] += row[k];
    }
    metric_counter_free(counter);
    text_lines_free(&hypothesis);
    for (int r = 0; r < references; ++r)
        text_lines_free(&reference[r]);
}

static double score_of(const Metric *metric, const double row[])
{
    return metric_score(metric, row, (Arithmetic){.kept = KEPT_IN_PYTHON}).value;
}

static void assert_equal_numbers(double got, double want, const char *what)
{
    const double difference = got > want ? got - want : want - got;
    if (!(difference <= 1e-9)) print_error("%s: %.17g, expected %.17g\n", what, got, want);
    assert_true(difference <= 1e-9);
}

static bool is_true(const cJSON *table, const char *key)
{
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(table, key));
}

static int number_or(const cJSON *table, const char *key, int otherwise)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(table, key);
    return item != NULL ? item->valueint : otherwise;
}

static Metric chrf_of(const cJSON *variant)
{
    return (Metric){.kind = METRIC_CHRF,
                    .chrf = {.characters = number_or(variant, "char_order", 6),
                             .words = number_or(variant, "word_order", 0),
                             .beta = number_or(variant, "beta", 2),
                             .whitespace = is_true(variant, "whitespace"),
                             .lowercase = is_true(variant, "lowercase"),
                             .epsilon = is_true(variant, "eps_smoothing")}};
}

static Metric ter_of(const cJSON *variant)
{
    return (Metric){.kind = METRIC_TER,
                    .ter = {.case_sensitive = is_true(variant, "case_sensitive"),
                            .normalized = is_true(variant, "normalized"),
                            .no_punctuation = is_true(variant, "no_punct"),
                            .asian = is_true(variant, "asian_support")}};
}

static void assert_case(const GoldenCase *golden, const Metric *metric, const cJSON *expected, int references)
{
    double sum[METRIC_WIDEST];
    sum_rows(golden, metric, references, -1, sum);
    assert_equal_numbers(score_of(metric, sum),
                         cJSON_GetObjectItemCaseSensitive(expected, "score")->valuedouble, golden->id);
    const cJSON *edits = cJSON_GetObjectItemCaseSensitive(expected, "edits");
    if (edits != NULL) assert_true(sum[0] == edits->valuedouble);
    const cJSON *length = cJSON_GetObjectItemCaseSensitive(expected, "reference_length");
    if (length != NULL) assert_equal_numbers(sum[1], length->valuedouble, "length of the references");
    const cJSON *text = cJSON_GetObjectItemCaseSensitive(expected, "signature");
    if (text == NULL) return;
    const SignatureFacts facts = {.references = references, .version = "2.6.0"};
    char *signature, *name;
    assert_ok(metric_signature(metric, &facts, false, &signature));
    assert_string_equal(signature, text->valuestring);
    assert_ok(metric_name(metric, &name));
    const cJSON *named = cJSON_GetObjectItemCaseSensitive(expected, "name");
    if (named != NULL) assert_string_equal(name, named->valuestring);
    free(signature);
    free(name);
}

static void compare_corpora(const char *kind, Metric (*metric_of)(const cJSON *))
{
    int compared = 0;
    for (const GoldenCase *golden = NULL; (golden = golden_next(kind, NULL, golden)) != NULL;) {
        for (const cJSON *expected = golden_item(golden, "expected")->child; expected;
             expected = expected->next) {
            const char *variant = strstr(expected->string, " references/");
            assert_non_null(variant);
            const cJSON *settings = cJSON_GetObjectItemCaseSensitive(golden_item(golden, "params/variants"),
                                                                     variant + strlen(" references/"));
            assert_non_null(settings);
            const Metric metric = metric_of(settings);
            assert_case(golden, &metric, expected, atoi(expected->string));
            ++compared;
        }
    }
    print_message("%d scores compared\n", compared);
    if (compared == 0) skip();
}

static void golden_chrf(void **state)
{
    (void)state;
    compare_corpora("chrf_corpus", chrf_of);
}

static void golden_ter(void **state)
{
    (void)state;
    compare_corpora("ter_corpus", ter_of);
}

/* The cases of BLEU have chrF2, too. */
static void golden_chrf_beside_bleu(void **state)
{
    (void)state;
    int compared = 0;
    for (const GoldenCase *golden = NULL; (golden = golden_next("bleu_corpus", NULL, golden)) != NULL;) {
        for (int lowercase = 0; lowercase < 2; ++lowercase) {
            const cJSON *expected = cJSON_GetObjectItemCaseSensitive(golden_item(golden, "expected"),
                                                                     lowercase ? "chrF2_lc" : "chrF2");
            if (expected == NULL) continue;
            Metric metric = {.kind = METRIC_CHRF, .chrf = chrf_usual};
            metric.chrf.lowercase = lowercase;
            assert_case(golden, &metric, expected, 1);
            ++compared;
        }
    }
    print_message("%d scores compared\n", compared);
    if (compared == 0) skip();
}

static void golden_sentences(void **state)
{
    (void)state;
    int compared = 0;
    for (const GoldenCase *golden = NULL; (golden = golden_next("sentence_scores", NULL, golden)) != NULL;) {
        cJSON *list = golden_document(golden, "expected_files/scores");
        Metric metrics[] = {{.kind = METRIC_CHRF, .chrf = chrf_usual},
                            {.kind = METRIC_CHRF, .chrf = chrf_usual},
                            {.kind = METRIC_TER}};
        metrics[1].chrf.words = 2;
        static const char *const keys[] = {"chrF2", "chrF2++", "ter"};
        for (const cJSON *row = list->child; row != NULL; row = row->next) {
            const int references = number_or(row, "references", 1);
            char id[128];
            (void)snprintf(id, sizeof id, "bleu/%s/%s", references > 1 ? "references" : "corpus",
                           cJSON_GetObjectItemCaseSensitive(row, "set")->valuestring);
            const GoldenCase *of = golden_find(golden->set, id);
            assert_non_null(of);
            for (int m = 0; m < 3; ++m) {
                double sum[METRIC_WIDEST];
                sum_rows(of, &metrics[m], references, number_or(row, "line", 0), sum);
                assert_equal_numbers(score_of(&metrics[m], sum),
                                     cJSON_GetObjectItemCaseSensitive(row, keys[m])->valuedouble, keys[m]);
                ++compared;
            }
        }
        cJSON_Delete(list);
    }
    print_message("%d scores compared\n", compared);
    if (compared == 0) skip();
}

/* ---- Traps ---- */

static double score_lines(const Metric *metric, const char *hypothesis, const char *const reference[],
                          int references)
{
    MetricCounter *counter;
    TextSpan spans[MOST_REFERENCES];
    double row[METRIC_WIDEST];
    for (int r = 0; r < references; ++r)
        spans[r] = text_span(reference[r]);
    assert_ok(metric_counter_new(metric, &counter));
    assert_ok(metric_counter_references(counter, spans, references));
    assert_ok(metric_counter_count(counter, text_span(hypothesis), row));
    metric_counter_free(counter);
    return score_of(metric, row);
}

static double score_line(const Metric *metric, const char *hypothesis, const char *reference)
{
    return score_lines(metric, hypothesis, &reference, 1);
}

static void empty_sides_of_ter(void **state)
{
    (void)state;
    const Metric ter = {.kind = METRIC_TER};
    assert_true(score_line(&ter, "", "") == 0);
    assert_true(score_line(&ter, "a", "") == 100);
    assert_true(score_line(&ter, "", "a b") == 100);
    assert_true(score_line(&ter, "A B", "a b") == 0);              /* lower case unless told otherwise */
    assert_true(score_line(&ter, "c d e a b", "a b c d e") == 20); /* one shift */
    const char *const two[] = {"a b", "a b c d"};
    assert_true(score_lines(&ter, "a b", two, 2) == 0);
    assert_equal_numbers(score_lines(&ter, "a b x", two, 2), 100.0 / 3, "by the mean length");
}

static void references_of_ter_are_prepared_twice(void **state)
{
    (void)state;
    const TerOptions options = {.normalized = true};
    BleuTokens tokens = {.text = NULL};
    assert_ok(ter_tokenize(&options, text_span("Donald's, it"), 1, &tokens));
    assert_int_equal(tokens.count, 3);
    assert_ok(ter_tokenize(&options, text_span("Donald's, it"), 2, &tokens));
    assert_int_equal(tokens.count, 4);
    bleu_tokens_free(&tokens);
}

static void chrf_without_a_match_counts_its_reference(void **state)
{
    (void)state;
    Metric chrf = {.kind = METRIC_CHRF, .chrf = chrf_usual};
    MetricCounter *counter;
    double row[METRIC_WIDEST];
    const TextSpan reference = text_span("abc");
    assert_ok(metric_counter_new(&chrf, &counter));
    assert_ok(metric_counter_references(counter, &reference, 1));
    assert_ok(metric_counter_count(counter, text_span("xyzuvw"), row));
    assert_true(row[0] == 6 && row[1] == 3 && row[2] == 0);
    assert_true(row[9] == 0 &&
                row[10] == 0); /* no four characters in the reference: those of the hypothesis do not count */
    metric_counter_free(counter);
    /* Of equally bad references the first one. */
    const char *const two[] = {"a", "bb"};
    assert_true(score_lines(&chrf, "x", two, 2) == 0);
    /* "(hi)": the mark at the end comes off, the one at the start then does not. */
    chrf.chrf.words = 1;
    chrf.chrf.characters = 0;
    assert_equal_numbers(score_line(&chrf, "(hi)", "((hi )"), 500.0 / 7, "(hi and )"); /* of (, (hi and ) */
    assert_true(score_line(&chrf, "(hi", "( hi") == 100);
    assert_true(score_line(&chrf, "((", "( (") == 100);
    chrf.chrf.words = 0;
    assert_fails(metric_counter_new(&chrf, &counter), STATUS_INPUT, "1 to 64 orders");
}

static void long_pairs_keep_to_tercoms_limits(void **state)
{
    (void)state;
    /* 60 words between where a word is and where it belongs: no shift, so two edits. */
    char hypothesis[512] = "", reference[512] = "";
    for (int i = 0; i < 61; ++i) {
        char word[8];
        (void)snprintf(word, sizeof word, "w%d ", i);
        strcat(hypothesis, word);
        strcat(reference, word);
    }
    char moved[512];
    (void)snprintf(moved, sizeof moved, "z %s", reference);
    strcat(hypothesis, "z");
    const Metric ter = {.kind = METRIC_TER};
    assert_equal_numbers(score_line(&ter, hypothesis, moved), 100.0 * 2 / 62, "too far");
    /* Very unequal lengths widen the beam. */
    assert_equal_numbers(score_line(&ter, "w60", reference), 100.0 * 60 / 61, "wide beam");
}

/* ---- which words are right ---- */

static void assert_right(const char *reference, const char *hypothesis, int64_t edits, const char *right)
{
    const TerOptions options = {.case_sensitive = true};
    uint32_t words[2][64];
    uint8_t got[64];
    int64_t found;
    TerCounter *counter;
    const size_t there = strlen(reference), here = strlen(hypothesis); /* a letter is a word */
    for (size_t i = 0; i < there; ++i)
        words[0][i] = (uint32_t)reference[i];
    for (size_t i = 0; i < here; ++i)
        words[1][i] = (uint32_t)hypothesis[i];
    assert_ok(ter_counter_new(&options, &counter));
    assert_ok(ter_counter_align(counter, (TerWords){words[0], (int64_t)there},
                                (TerWords){words[1], (int64_t)here}, got, &found));
    ter_counter_free(counter);
    assert_int_equal(found, edits);
    for (size_t i = 0; i < here; ++i) {
        if (got[i] != (right[i] == '1'))
            print_error("\"%s\" beside \"%s\": word %zu is %d\n", hypothesis, reference, i, got[i]);
        assert_int_equal(got[i], right[i] == '1');
    }
}

static void words_that_ter_aligns_are_right(void **state)
{
    (void)state;
    assert_right("abcde", "abcde", 0, "11111");
    assert_right("abcde", "abxde", 1, "11011");
    assert_right("abcde", "abde", 1, "1111");
    assert_right("abcde", "abcxde", 1, "111011");
    assert_right("abcde", "deabc", 1, "11111");   /* a shift: places travel with their words */
    assert_right("abcde", "dexabc", 2, "110111"); /* and what is wrong stays where it stood */
    assert_right("", "abc", 3, "000");
    assert_right("abc", "", 3, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lower_case_is_pythons),
        cmocka_unit_test(characters_have_the_classes_of_a_late_unicode),
        cmocka_unit_test(golden_chrf),
        cmocka_unit_test(golden_ter),
        cmocka_unit_test(golden_chrf_beside_bleu),
        cmocka_unit_test(golden_sentences),
        cmocka_unit_test(empty_sides_of_ter),
        cmocka_unit_test(words_that_ter_aligns_are_right),
        cmocka_unit_test(references_of_ter_are_prepared_twice),
        cmocka_unit_test(chrf_without_a_match_counts_its_reference),
        cmocka_unit_test(long_pairs_keep_to_tercoms_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
