/* NumPy's random numbers, intervals and paired tests against sacreBLEU's own, and the lines that are compared. */
#include "tests/bleu_lines.h"

#include "nlp/bleu/significance.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Random numbers ---- */

static NumpyRandom started(const char *text)
{
    NumpySeed seed;
    NumpyRandom random;
    assert_ok(numpy_seed_parse(text, &seed));
    assert_ok(numpy_random_start(&seed, &random));
    return random;
}

/* numpy.random.default_rng(SEED).bit_generator.random_raw(3) */
static void outputs_are_numpys(void **state)
{
    (void)state;
    static const struct {
        const char *seed;
        uint64_t output[3];
    } rows[] = {
        {"12345", {0x3A32B18DB2FFC19DU, 0x51171315C9E4C4DEU, 0xCC2024823444EFD9U}},
        {"0", {0xA30FEBCFD9C2825FU, 0x4510BDF882D9D721U, 0x0A7D3DA94ECDE8B8U}},
        {"1", {0x8306BDF37922E4FFU, 0xF35196BBC152A866U, 0x24E7A4F608EC18CDU}},
        {"4294967296", {0xE3C5EBE285AC1625U, 0x8EA09968FE31DBCCU, 0xCD084FF84D8DE9BEU}},
        {"18446744073709551615", {0xAE163A7A8C47568FU, 0xD86659F5F3382359U, 0x01E52B195BC2D24AU}},
        {"123456789012345678901234567890123456789012345678901234567890",
         {0x6DDF70691237A84BU, 0xF4B1D54D7B59F8C5U, 0x79EC438A9F7D4D9DU}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; ++i) {
        NumpyRandom random = started(rows[i].seed);
        for (int k = 0; k < 3; ++k)
            assert_true(numpy_random_64(&random) == rows[i].output[k]);
    }
}

static void seeds_are_what_python_reads(void **state)
{
    (void)state;
    NumpySeed seed;
    static const char *const same[] = {"12345", " 12345\n", "+12_345", "0012345"};
    for (int i = 0; i < 4; ++i) {
        assert_ok(numpy_seed_parse(same[i], &seed));
        assert_int_equal(seed.words, 1);
        assert_int_equal(seed.word[0], 12345);
    }
    assert_ok(numpy_seed_parse("-0", &seed));
    assert_ok(numpy_seed_parse("18446744073709551616", &seed)); /* 2^64 */
    assert_int_equal(seed.words, 3);
    assert_true(seed.word[0] == 0 && seed.word[1] == 0 && seed.word[2] == 1);
    assert_ok(numpy_seed_parse("None", &seed));
    assert_int_equal(seed.words, 0);
    static const char *const wrong[] = {"", "-1", "1_", "_1", "1__2", "0x10", "1.5", "12 3", "-"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; ++i) {
        Status status = numpy_seed_parse(wrong[i], &seed);
        if (status == OK) print_error("\"%s\" is no seed\n", wrong[i]);
        assert_true(status != OK);
        status_free(status);
    }
    char many[400];
    memset(many, '9', sizeof many - 1);
    many[sizeof many - 1] = '\0';
    assert_fails(numpy_seed_parse(many, &seed), STATUS_INPUT, "1024 bits");
    /* Without a seed no two are the same. */
    NumpyRandom a = started("none"), b = started("none");
    assert_true(numpy_random_64(&a) != numpy_random_64(&b) || numpy_random_64(&a) != numpy_random_64(&b));
}

static void golden_random_numbers(void **state)
{
    (void)state;
    const GoldenCase *bootstrap = golden_next("bleu_bootstrap", NULL, NULL);
    if (bootstrap == NULL) skip();
    char seed[32];
    (void)snprintf(seed, sizeof seed, "%.0f", golden_number(bootstrap, "params/seed"));
    NumpyRandom random = started(seed);
    const cJSON *list = golden_item(bootstrap, "expected/resampling/first_12_outputs_64_bit");
    for (const cJSON *item = list->child; item != NULL; item = item->next)
        assert_true(numpy_random_64(&random) == strtoull(item->valuestring, NULL, 16));
    random = started(seed);
    list = golden_item(bootstrap, "expected/resampling/first_300_indices");
    for (const cJSON *item = list->child; item != NULL; item = item->next) {
        uint32_t index;
        numpy_random_integers(&random, (uint32_t)golden_number(bootstrap, "params/lines"), 1, &index);
        assert_int_equal(index, item->valueint);
    }
    const GoldenCase *randomisation = golden_next("bleu_randomisation", NULL, NULL);
    if (randomisation == NULL) return;
    random = started(seed);
    list = golden_item(randomisation, "expected/selection/first_96");
    int64_t ones = 0, drawn = 0;
    uint8_t bit;
    for (const cJSON *item = list->child; item != NULL; item = item->next, ++drawn) {
        numpy_random_choose(&random, 1, &bit);
        assert_int_equal(bit, item->valueint);
        ones += bit;
    }
    const double all =
        golden_number(randomisation, "params/lines") * golden_number(randomisation, "params/trials");
    for (; drawn < (int64_t)all; ++drawn) {
        numpy_random_choose(&random, 1, &bit);
        ones += bit;
    }
    assert_int_equal(ones, (int64_t)golden_number(randomisation, "expected/selection/ones"));
}

/* ---- Intervals and p-values ---- */

static Metric metric_named(const char *name)
{
    Metric metric = {.kind = METRIC_TER};
    if (strcmp(name, "BLEU") == 0) metric = (Metric){.kind = METRIC_BLEU, .bleu = {.value = -1}};
    if (strncmp(name, "chrF2", 5) == 0) metric = (Metric){.kind = METRIC_CHRF, .chrf = chrf_usual};
    metric.chrf.words = strcmp(name, "chrF2++") == 0 ? 2 : 0;
    return metric;
}

typedef struct {
    TextLines reference, system[3];
    Metric metric;
    double *rows;
    Statistics statistics;
} Set;

/* Systems in the order of names: "base", "slight", "better". */
static Set make_set(const GoldenCase *golden, const char *metric, const char *const names[], int systems)
{
    Set set = {.reference = read_lines(golden, "inputs/ref"), .metric = metric_named(metric)};
    const TextSpan *hypothesis[3];
    for (int s = 0; s < systems; ++s) {
        char path[128];
        (void)snprintf(path, sizeof path, "inputs/%s", names[s]);
        set.system[s] = read_lines(golden, path);
        hypothesis[s] = set.system[s].line;
    }
    int *references = calloc((size_t)set.reference.count, sizeof *references);
    assert_non_null(references);
    for (int64_t i = 0; i < set.reference.count; ++i)
        references[i] = 1;
    const Segments segments = {.count = set.reference.count,
                               .systems = systems,
                               .hypothesis = hypothesis,
                               .reference = set.reference.line,
                               .references = references};
    double *two;
    assert_ok(metric_rows(&set.metric, &segments, 1, &set.rows));
    assert_ok(metric_rows(&set.metric, &segments, 2, &two)); /* two threads count the same */
    assert_memory_equal(set.rows, two,
                        (size_t)(segments.count * systems * metric_width(&set.metric)) * sizeof *two);
    free(two);
    free(references);
    set.statistics = (Statistics){.segments = segments.count, .systems = systems};
    return set;
}

/* What of a Set must point into it. */
static const Statistics *statistics_of(Set *set)
{
    set->statistics.metric = &set->metric;
    set->statistics.rows = set->rows;
    return &set->statistics;
}

static void set_free(Set *set)
{
    text_lines_free(&set->reference);
    for (int s = 0; s < set->statistics.systems; ++s)
        text_lines_free(&set->system[s]);
    free(set->rows);
}

static Resampling resampling_of(const GoldenCase *golden, const char *samples, Numpy numpy)
{
    Resampling resampling = {
        .samples = (int64_t)golden_number(golden, samples), .numpy = numpy, .threads = 2};
    char seed[32];
    (void)snprintf(seed, sizeof seed, "%.0f", golden_number(golden, "params/seed"));
    assert_ok(numpy_seed_parse(seed, &resampling.seed));
    return resampling;
}

/* key: in a table; absent or null: nothing to compare. */
static void assert_number(const cJSON *table, const char *key, double got, const char *what, int *compared)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(table, key);
    if (!cJSON_IsNumber(item)) return;
    if (got != item->valuedouble)
        print_error("%s %s: %.17g, expected %.17g\n", what, key, got, item->valuedouble);
    assert_true(got == item->valuedouble);
    ++*compared;
}

static void golden_intervals(void **state)
{
    (void)state;
    int compared = 0;
    for (const GoldenCase *golden = NULL; (golden = golden_next("bleu_bootstrap", NULL, golden)) != NULL;)
        for (const cJSON *row = golden_item(golden, "expected/single")->child; row != NULL; row = row->next) {
            char name[64];
            (void)snprintf(name, sizeof name, "%s", row->string); /* base/BLEU */
            char *metric = strchr(name, '/');
            *metric++ = '\0';
            const char *const names[] = {name};
            Set set = make_set(golden, metric, names, 1);
            const Resampling resampling = resampling_of(golden, "params/resamples", NUMPY_2);
            Significance result;
            assert_ok(significance_interval(statistics_of(&set), &resampling, &result));
            assert_number(row, "score", result.score, row->string, &compared);
            assert_number(row, "sacrebleu_numpy2_mean", result.mean, row->string, &compared);
            assert_number(row, "sacrebleu_numpy2_ci", result.interval, row->string, &compared);
            set_free(&set);
        }
    print_message("%d numbers compared\n", compared);
    if (compared == 0) skip();
}

static void compare_paired(const GoldenCase *golden, bool bootstrap, int *compared)
{
    static const char *const names[] = {"base", "slight", "better"};
    for (const cJSON *metric = golden_item(golden, "expected/paired")->child; metric; metric = metric->next) {
        Set set = make_set(golden, metric->string, names, 3);
        const cJSON *row = cJSON_GetObjectItemCaseSensitive(metric, "systems")->child;
        Significance result[3], older[3];
        const char *samples = bootstrap ? "params/resamples" : "params/trials";
        const Resampling two = resampling_of(golden, samples, NUMPY_2),
                         one = resampling_of(golden, samples, NUMPY_1);
        if (bootstrap) {
            assert_ok(significance_bootstrap(statistics_of(&set), &two, result));
            assert_ok(significance_bootstrap(statistics_of(&set), &one, older));
        } else {
            assert_ok(significance_randomisation(statistics_of(&set), &two, result));
        }
        for (int s = 0; s < 3; ++s, row = row->next) {
            assert_string_equal(cJSON_GetObjectItemCaseSensitive(row, "system")->valuestring, names[s]);
            assert_int_equal(result[s].has_interval, bootstrap);
            assert_int_equal(result[s].has_p, s > 0);
            assert_number(row, "score", result[s].score, metric->string, compared);
            if (s > 0) assert_number(row, "p_value", result[s].p, metric->string, compared);
            if (!bootstrap) continue;
            assert_number(row, "mean", result[s].mean, metric->string, compared);
            assert_number(row, "ci", result[s].interval, metric->string, compared);
            assert_number(row, "mean_numpy1", older[s].mean, metric->string, compared);
            assert_number(row, "ci_numpy1", older[s].interval, metric->string, compared);
        }
        set_free(&set);
    }
}

static void golden_paired_bootstrap(void **state)
{
    (void)state;
    int compared = 0;
    for (const GoldenCase *golden = NULL; (golden = golden_next("bleu_bootstrap", NULL, golden)) != NULL;)
        compare_paired(golden, true, &compared);
    print_message("%d numbers compared\n", compared);
    if (compared == 0) skip();
}

static void golden_paired_randomisation(void **state)
{
    (void)state;
    int compared = 0;
    for (const GoldenCase *golden = NULL; (golden = golden_next("bleu_randomisation", NULL, golden)) != NULL;)
        compare_paired(golden, false, &compared);
    print_message("%d numbers compared\n", compared);
    if (compared == 0) skip();
}

/* An array of whole numbers, in which approximate randomisation keeps its sums, loses the fraction that add-k adds. */
static void an_integer_array_keeps_no_fraction(void **state)
{
    (void)state;
    const double row[BLEU_WIDTH] = {8, 8, 8, 5, 3, 0, 8, 7, 6, 5};
    const BleuOptions half = {.smoothing = BLEU_SMOOTH_ADD_K, .value = 0.5};
    const BleuScore plain = bleu_score_of(row, &half, (Arithmetic){.kept = KEPT_IN_PYTHON});
    assert_true(plain.precision[1] == 100 * 5.5 / 7.5);
    const BleuScore whole = bleu_score_of(row, &half, (Arithmetic){.kept = KEPT_IN_INTEGER});
    assert_true(whole.precision[1] == 100.0 * 5 / 7 && whole.precision[3] == 0);
    const BleuScore single = bleu_score_of(row, &half, (Arithmetic){.kept = KEPT_IN_SINGLE});
    assert_true(single.precision[1] == (double)(float)(100 * 5.5 / 7.5));
}

/* ---- Lines ---- */

static void assert_line(const TextLines *lines, int64_t index, const char *text)
{
    assert_true(index < lines->count);
    assert_int_equal(lines->line[index].size, strlen(text));
    assert_memory_equal(lines->line[index].data, text, strlen(text));
}

static void lines_end_as_sacrebleus_do(void **state)
{
    (void)state;
    TextLines file = read_text("a\rb\r\n c\t \xC2\xA0\xE3\x80\x80\n\n\xE2\x80\x8B\nd\xC2\x85"
                               "e\xE2\x80\xA8"
                               "f\x1C",
                               LINES_END_IN_LF);
    assert_int_equal(file.count, 5);
    assert_line(&file, 0, "a\rb");
    assert_line(&file, 1, " c");
    assert_line(&file, 2, "");
    assert_line(&file, 3, "\xE2\x80\x8B"); /* U+200B is no white space */
    assert_line(&file, 4,
                "d\xC2\x85"
                "e\xE2\x80\xA8"
                "f"); /* NEL and U+2028 end no line; the last line needs no LF */
    text_lines_free(&file);
    TextLines input = read_text("a\rb\r\n\rc", LINES_END_IN_ANY);
    assert_int_equal(input.count, 4);
    assert_line(&input, 1, "b");
    assert_line(&input, 2, "");
    assert_line(&input, 3, "c");
    text_lines_free(&input);
}

static void what_is_not_utf8_is_named(void **state)
{
    (void)state;
    TextLines lines;
    char *copy;
    assert_ok(text_copy("ab\nä\xFFz", &copy));
    assert_fails(text_lines_split("file", copy, strlen(copy), LINES_END_IN_LF, &lines), STATUS_INPUT,
                 "file:2: the byte 0xFF in column 2");
    assert_null(lines.text);
}

static void assert_cell(const TextColumns *columns, int column, int64_t line, const char *text)
{
    const TextSpan cell = columns->cell[column * columns->count + line];
    assert_int_equal(cell.size, strlen(text));
    assert_memory_equal(cell.data, text, cell.size);
}

static void tabs_make_columns(void **state)
{
    (void)state;
    TextColumns columns;
    TextLines lines = read_text("a \tb\nc \td\n\te\n", LINES_END_IN_ANY);
    assert_ok(text_columns_split("input", &lines, COLUMNS_OF_SYSTEMS, 0, &columns));
    assert_int_equal(columns.columns, 2);
    assert_cell(&columns, 0, 0, "a "); /* the first line's only: they stay as they are */
    assert_cell(&columns, 0, 1, "c");
    assert_cell(&columns, 0, 2, "");
    assert_cell(&columns, 1, 2, "e");
    text_columns_free(&columns);
    text_lines_free(&lines);
    /* TABs at the end of a line are white space. */
    lines = read_text("a\tb\nc\t\n", LINES_END_IN_ANY);
    assert_fails(text_columns_split("input", &lines, COLUMNS_OF_SYSTEMS, 0, &columns), STATUS_INPUT,
                 "input:2: 1 texts with TABs between them, not 2 as in the first line");
    assert_fails(text_columns_split("input", &lines, COLUMNS_OF_REFERENCES, 2, &columns), STATUS_INPUT,
                 "--num-refs");
    assert_ok(text_columns_split("input", &lines, COLUMNS_UP_TO, 0, &columns));
    assert_int_equal(columns.columns, 2);
    assert_null(columns.cell[columns.count + 1].data);
    text_columns_free(&columns);
    text_lines_free(&lines);
    lines = read_text("a\tb\tc\n", LINES_END_IN_LF);
    assert_ok(text_columns_split("refs", &lines, COLUMNS_OF_REFERENCES, 2, &columns));
    assert_cell(&columns, 1, 0, "b\tc");
    text_columns_free(&columns);
    text_lines_free(&lines);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outputs_are_numpys),
        cmocka_unit_test(seeds_are_what_python_reads),
        cmocka_unit_test(golden_random_numbers),
        cmocka_unit_test(golden_intervals),
        cmocka_unit_test(golden_paired_bootstrap),
        cmocka_unit_test(golden_paired_randomisation),
        cmocka_unit_test(an_integer_array_keeps_no_fraction),
        cmocka_unit_test(lines_end_as_sacrebleus_do),
        cmocka_unit_test(what_is_not_utf8_is_named),
        cmocka_unit_test(tabs_make_columns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
