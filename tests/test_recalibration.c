/* Calibrators: against golden values, and what their files refuse. */
#include "tests/study_sets.h"

#include "losses/calibration/bins.h"
#include "losses/calibration/calibration.h"
#include "losses/calibration/calibrator.h"
#include "losses/calibration/calibrator_fit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static Collective *collective;

static CalibratorSettings settings_of(const GoldenCase *golden)
{
    static const struct {
        const char *golden, *text;
    } names[] = {{"vector_scaling", "vector_scaling"},
                 {"matrix_scaling_odir", "matrix_scaling"},
                 {"dirichlet", "dirichlet"},
                 {"dirichlet_odir", "dirichlet"},
                 {"isotonic", "isotonic"},
                 {"beta", "beta"},
                 {"histogram_binning", "histogram_binning"}};
    const char *method = golden_text(golden, "params/method");
    CalibratorSettings settings = {.bins = 0};
    int found = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; ++i)
        if (strcmp(method, names[i].golden) == 0) {
            assert_ok(calibrator_settings_parse(names[i].text, &settings));
            ++found;
        }
    if (found != 1) print_error("%s: unknown method %s\n", golden->id, method);
    assert_int_equal(found, 1);
    settings.lambda = golden_number_or(golden, "params/lambda", 0);
    settings.mu = golden_number_or(golden, "params/mu", 0);
    settings.bins = (int)golden_number_or(golden, "params/bins", 15);
    if (golden_has(golden, "params/scheme"))
        settings.equal_mass = strcmp(golden_text(golden, "params/scheme"), "equal_mass") == 0;
    if (golden_has(golden, "params/on"))
        settings.on_log_probabilities = strcmp(golden_text(golden, "params/on"), "log_probabilities") == 0;
    return settings;
}

/* Calibrated probabilities as a set. */
static Logits calibrated(const Calibrator *calibrator, const Logits *set, double **memory)
{
    *memory = calloc((size_t)(set->count * set->classes), sizeof **memory);
    assert_non_null(*memory);
    assert_ok(calibrator_apply(calibrator, set, 2, *memory));
    Logits result = *set;
    result.values = *memory;
    result.type = FLOAT64;
    result.probabilities = true;
    assert_ok(logits_check(&result, 2));
    return result;
}

static GoldenTolerance tolerance_of_test(const GoldenCase *golden, const char *name)
{
    char path[128];
    (void)snprintf(path, sizeof path, "tolerance/test/%s/atol", name);
    if (golden_has(golden, path)) return (GoldenTolerance){0, golden_number(golden, path)};
    return golden_has(golden, "tolerance/f64") ? golden_tolerance(golden, "f64", NULL)
                                               : (GoldenTolerance){1e-9, 1e-9};
}

static void check_figure(const GoldenCase *golden, const char *name, double got)
{
    char path[128];
    (void)snprintf(path, sizeof path, "expected/test/%s", name);
    golden_check_number(golden, path, got, tolerance_of_test(golden, name));
}

enum { STUDY_BINS = 15 };

/* An error over bins, and what rows so close to an edge that rounding decides may make of it. */
typedef struct {
    double gap[STUDY_BINS], close;
} StudyError;

static void add_value(StudyError *error, double p, bool hit)
{
    const double at = p * STUDY_BINS;
    error->gap[bins_find_ceiling(STUDY_BINS, p)] += p - hit;
    error->close += at > 0.5 && at < STUDY_BINS - 0.5 && fabs(at - round(at)) < 1e-12;
}

static double error_value(const StudyError *error, int64_t count)
{
    double sum = 0;
    for (int b = 0; b < STUDY_BINS; ++b)
        sum += fabs(error->gap[b]) / (double)count;
    return sum;
}

/* Calibrated values are fractions of small numbers and lie on edges of bins, which are b / 15 in double precision in these
 * cases, and float32 in calibration.h; and p = 0 is in their first bin, there in none. */
static void check_errors(const GoldenCase *golden, const Logits *set)
{
    StudyError top = {.close = 0};
    double classwise = 0, close = 0;
    for (int64_t k = 0; k < set->classes; ++k) {
        StudyError of_class = {.close = 0};
        for (int64_t row = 0; row < set->count; ++row)
            add_value(&of_class, ((const double *)set->values)[row * set->classes + k],
                      logits_label(set, row) == k);
        classwise += error_value(&of_class, set->count) / (double)set->classes;
        close += 2 * of_class.close / (double)(set->count * set->classes);
    }
    for (int64_t row = 0; row < set->count; ++row) {
        const double *p = (const double *)set->values + row * set->classes;
        int64_t best = 0;
        for (int64_t k = 1; k < set->classes; ++k)
            if (p[k] > p[best]) best = k;
        add_value(&top, p[best], logits_label(set, row) == best);
    }
    GoldenTolerance tolerance = tolerance_of_test(golden, "ece15");
    tolerance.absolute += 2 * top.close / (double)set->count;
    golden_check_number(golden, "expected/test/ece15", error_value(&top, set->count), tolerance);
    tolerance = tolerance_of_test(golden, "classwise_ece15_over_all_K");
    tolerance.absolute += close;
    golden_check_number(golden, "expected/test/classwise_ece15_over_all_K", classwise, tolerance);
}

static void check_figures(const GoldenCase *golden, const Logits *test)
{
    static Calibration measured;
    assert_ok(calibration_measure(collective, test, 1, 15, 2, &measured, NULL));
    const int64_t infinite = (int64_t)golden_number(golden, "expected/test/true_label_with_probability_0");
    assert_int_equal(measured.infinite_nll_count, infinite);
    check_figure(golden, "nll", measured.nll);
    check_figure(golden, "accuracy", 1 - measured.error);
    check_figure(golden, "brier_sum", measured.brier);
    check_figure(golden, "mean_confidence", measured.mean_confidence);
    check_errors(golden, test);
}

/* What is to be divided by its sum. */
static double *values_before(const Calibrator *calibrator, const Logits *set, int64_t rows)
{
    const CalibratorKind *kind = calibrator_kind(calibrator->settings.method);
    double *value = calloc((size_t)(set->count * set->classes), sizeof *value), *p;
    assert_non_null(value);
    Logits head = *set;
    head.count = head.total = rows;
    /* The probabilities themselves: a temperature of 1. */
    Calibrator same;
    assert_ok(calibrator_new(&(CalibratorSettings){.method = CALIBRATOR_TEMPERATURE}, set->classes, &same));
    same.weight[0] = 1;
    if (set->probabilities && set->type == FLOAT64) { /* whose sums are 1 in these cases */
        for (int64_t i = 0; i < rows * set->classes; ++i)
            value[i] = set->type == FLOAT32 ? (double)((const float *)set->values)[i]
                                            : ((const double *)set->values)[i];
    } else {
        assert_ok(calibrator_apply(&same, &head, 2, value));
    }
    calibrator_free(&same);
    p = calloc((size_t)set->classes, sizeof *p);
    assert_non_null(p);
    for (int64_t row = 0; row < rows; ++row) {
        kind->apply(calibrator, value + row * set->classes, p);
        memcpy(value + row * set->classes, p, (size_t)set->classes * sizeof *p);
    }
    free(p);
    return value;
}

static void check_maps(const GoldenCase *golden, const Calibrator *calibrator)
{
    if (golden_has(golden, "expected/bins_by_class"))
        for (int64_t k = 0; k < golden_length(golden, "expected/bins_by_class"); ++k)
            assert_int_equal(calibrator->map[k].count,
                             (int)golden_number_at(golden, "expected/bins_by_class", (int)k));
    if (!golden_has(golden, "expected_files/upper_edges_by_class")) return;
    GoldenArray edges = golden_array(golden, "expected_files/upper_edges_by_class");
    const int64_t most = edges.extent[1];
    double *x = calloc((size_t)edges.count, sizeof *x), *y = calloc((size_t)edges.count, sizeof *y);
    assert_true(x != NULL && y != NULL);
    for (int64_t k = 0; k < calibrator->classes; ++k)
        for (int64_t b = 0; b < most; ++b) {
            const CalibratorMap *map = &calibrator->map[k];
            const int64_t bin = b < map->count ? b : map->count - 1;
            x[k * most + b] = map->x[bin];
            y[k * most + b] = map->y[bin];
        }
    (void)golden_check(golden, "expected_files/upper_edges_by_class", x, edges.count, "f64");
    (void)golden_check(golden, "expected_files/values_by_class", y, edges.count, "f64");
    golden_array_free(&edges);
    free(x);
    free(y);
}

/* The objective is what is compared: parameters are flat. */
static void check_objective(const GoldenCase *golden, const Calibrator *calibrator)
{
    const bool infimum = golden_has(golden, "expected/infimum");
    const char *path = infimum ? "expected/infimum" : "expected/objective";
    const double want = golden_number(golden, path),
                 allowed = golden_number(golden, "tolerance/objective/atol");
    golden_check_number(golden, path, calibrator->objective, (GoldenTolerance){0, allowed});
    assert_true(calibrator->objective >= want - 1e-9);
    assert_true(infimum || calibrator->finished);
}

static void check_heads(const GoldenCase *golden, const Calibrator *calibrator, const Logits *set,
                        const Logits *test)
{
    if (golden_has(golden, "expected_files/test_values_head")) {
        GoldenArray head = golden_array(golden, "expected_files/test_values_head");
        double *before = values_before(calibrator, set, head.extent[0]);
        (void)golden_check(golden, "expected_files/test_values_head", before, head.count, "f64");
        free(before);
        golden_array_free(&head);
    }
    if (!golden_has(golden, "expected_files/test_probabilities_head")) return;
    GoldenArray head = golden_array(golden, "expected_files/test_probabilities_head");
    const double *p = test->values;
    const GoldenTolerance tolerance =
        golden_has(golden, "tolerance/test_probabilities/atol")
            ? (GoldenTolerance){0, golden_number(golden, "tolerance/test_probabilities/atol")}
            : golden_tolerance(golden, "f64", NULL);
    const bool of_class_1 = head.count == head.extent[0] && test->classes == 2; /* beta gives one column */
    for (int64_t i = 0; i < head.count; ++i) {
        const double got = of_class_1 ? p[2 * i + 1] : p[i];
        if (!golden_is_close(got, head.values[i], tolerance))
            print_error("%s: probability %lld is %.12g, not %.12g\n", golden->id, (long long)i, got,
                        head.values[i]);
        assert_true(golden_is_close(got, head.values[i], tolerance));
    }
    golden_count(head.count);
    golden_array_free(&head);
}

/* A calibrator that was written and read again does the same to the bit. */
static void check_file(const Calibrator *calibrator, const Logits *set, const Logits *want)
{
    char *text;
    Calibrator again;
    double *memory;
    assert_ok(calibrator_write(calibrator, &text));
    assert_ok(calibrator_parse("again", text, &again));
    const Logits got = calibrated(&again, set, &memory);
    assert_memory_equal(got.values, want->values, (size_t)(set->count * set->classes) * sizeof(double));
    assert_true(again.missing == calibrator->missing && again.first_missing == calibrator->first_missing);
    free(memory);
    free(text);
    calibrator_free(&again);
}

static void check_case(const GoldenCase *golden)
{
    StudySet validation, test;
    if (!study_open(golden, "validation", &validation)) return;
    assert_true(study_open(golden, "test", &test));
    const CalibratorSettings settings = settings_of(golden);
    Calibrator calibrator;
    assert_ok(calibrator_fit(&settings, &validation.logits, 2, &calibrator));
    if (golden_has(golden, "tolerance/objective")) check_objective(golden, &calibrator);
    if (golden_has(golden, "params/missing_class")) {
        assert_true(calibrator.missing == 1);
        assert_true(calibrator.first_missing == (int64_t)golden_number(golden, "params/missing_class"));
    }
    double *memory;
    const Logits after = calibrated(&calibrator, &test.logits, &memory);
    check_file(&calibrator, &test.logits, &after);
    if (golden_has(golden, "expected/test")) check_figures(golden, &after);
    if (calibrator.map != NULL) check_maps(golden, &calibrator);
    check_heads(golden, &calibrator, &test.logits, &after);
    if (golden_has(golden, "expected/a") && golden_has(golden, "tolerance/parameters/atol")) {
        const GoldenTolerance tolerance = {0, golden_number(golden, "tolerance/parameters/atol")};
        golden_check_number(golden, "expected/a", calibrator.weight[0], tolerance);
        golden_check_number(golden, "expected/b", calibrator.weight[1], tolerance);
        golden_check_number(golden, "expected/c", calibrator.bias[0], tolerance);
    }
    free(memory);
    calibrator_free(&calibrator);
    study_close(&validation);
    study_close(&test);
}

static void test_golden_cases(void **state)
{
    (void)state;
    int cases = 0, left_out = 0;
    for (const GoldenCase *golden = NULL; (golden = golden_next("recalibration", NULL, golden)) != NULL;) {
        /* Ten seconds of a processor: when a set is asked for. */
        const bool is_slow = golden_number(golden, "params/K") > 50 &&
                             strncmp(golden_text(golden, "params/method"), "dirichlet", 9) == 0;
        if (is_slow && getenv("PLUMB_TEST_GOLDEN") == NULL) {
            ++left_out;
            continue;
        }
        check_case(golden);
        ++cases;
    }
    if (left_out > 0)
        print_message("left out: %d slow cases, which PLUMB_TEST_GOLDEN=FOLDER compares\n", left_out);
    print_message("%d cases, %lld values\n", cases, (long long)golden_checked());
}

/* The sets themselves, before anything is done to them. */
static void check_data(const GoldenCase *golden, const char *part)
{
    static Calibration measured;
    StudySet set;
    char path[64], full[128];
    if (!study_open(golden, part, &set)) return;
    assert_ok(logits_check(&set.logits, 2));
    assert_ok(calibration_measure(collective, &set.logits, 1, STUDY_BINS, 2, &measured, NULL));
    (void)snprintf(path, sizeof path, "expected/%s", part);
    (void)snprintf(full, sizeof full, "%s/true_label_with_probability_0", path);
    const bool finite = golden_number(golden, full) == 0; /* else their rule for p = 0 is another one */
    const struct {
        const char *name;
        double value;
    } figures[] = {{"accuracy", 1 - measured.error},
                   {"ece15", measured.ece},
                   {"nll", measured.nll},
                   {"brier_sum", measured.brier},
                   {"mean_confidence", measured.mean_confidence},
                   {"classwise_ece15_over_all_K", measured.classwise_ece_all}};
    for (size_t i = 0; i < sizeof figures / sizeof *figures - !finite; ++i) {
        (void)snprintf(full, sizeof full, "%s/%s", path, figures[i].name);
        golden_check_number(golden, full, figures[i].value, golden_tolerance(golden, "f64", NULL));
    }
    study_close(&set);
}

static void test_data(void **state)
{
    (void)state;
    for (const GoldenCase *golden = NULL; (golden = golden_next("data", NULL, golden)) != NULL;) {
        check_data(golden, "validation");
        check_data(golden, "test");
    }
}

/* ---- what has no golden value ---- */

static void test_settings(void **state)
{
    (void)state;
    CalibratorSettings settings;
    assert_ok(calibrator_settings_parse("matrix:lambda=0.5:mu=2:on=log_probabilities", &settings));
    assert_int_equal(settings.method, CALIBRATOR_MATRIX);
    assert_true(settings.lambda == 0.5 && settings.mu == 2 && settings.on_log_probabilities);
    assert_ok(calibrator_settings_parse("histogram_binning:bins=7:scheme=equal_mass", &settings));
    assert_true(settings.bins == 7 && settings.equal_mass);
    static const struct {
        const char *text, *message;
    } wrong[] = {
        {"platt", "there is no recalibration 'platt': there are temperature_scaling,"},
        {"isotonic:bins=3", "isotonic takes no settings"},
        {"dirichlet:nu=3", "dirichlet takes lambda, mu as KEY=VALUE, not 'nu'"},
        {"dirichlet:mu", "dirichlet takes lambda, mu as KEY=VALUE, not 'mu'"},
        {"dirichlet:mu=-1", "mu is a number that is not negative, not '-1'"},
        {"histogram:bins=0", "bins is a whole number from 1 to 10000, not '0'"},
        {"histogram:bins=2.5", "bins is a whole number"},
        {"histogram:scheme=even", "scheme is equal_width or equal_mass, not 'even'"},
        {"vector:on=odds", "on is logits or log_probabilities, not 'odds'"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; ++i)
        assert_fails(calibrator_settings_parse(wrong[i].text, &settings), STATUS_USAGE, wrong[i].message);
}

static Logits set_of(const float *values, const int64_t *labels, int64_t rows, int64_t classes)
{
    return (Logits){.name = "set",
                    .type = FLOAT32,
                    .values = values,
                    .label_type = INT64,
                    .labels = labels,
                    .count = rows,
                    .total = rows,
                    .classes = classes};
}

/* Sets that have no best fit: one that is right everywhere, one of a single row, one with masked classes and a class that is
 * missing. Fits end, and what they give are probabilities. */
static void test_no_minimiser(void **state)
{
    (void)state;
    static const float right[4 * 2] = {3, -1, -2, 2, 1, 0, 0, 4};
    static const float masked[4 * 3] = {1, -INFINITY, 0, 0.5F, 1, -INFINITY, 2, 1, -INFINITY, 0, 3, 1};
    static const int64_t labels[] = {0, 1, 0, 1}, of_masked[] = {0, 0, 0, 1};
    const Logits sets[] = {set_of(right, labels, 4, 2), set_of(right, labels, 1, 2),
                           set_of(masked, of_masked, 4, 3)};
    static const char *const methods[] = {"vector_scaling",
                                          "matrix_scaling",
                                          "matrix_scaling:lambda=0:mu=0",
                                          "dirichlet",
                                          "isotonic",
                                          "histogram_binning",
                                          "beta"};
    for (size_t s = 0; s < 3; ++s)
        for (size_t m = 0; m < sizeof methods / sizeof *methods; ++m) {
            CalibratorSettings settings;
            Calibrator calibrator;
            assert_ok(calibrator_settings_parse(methods[m], &settings));
            if (settings.method == CALIBRATOR_BETA && sets[s].classes != 2) {
                assert_fails(calibrator_fit(&settings, &sets[s], 1, &calibrator), STATUS_INPUT,
                             "beta is for two classes, not for 3");
                continue;
            }
            assert_ok(calibrator_fit(&settings, &sets[s], 1, &calibrator));
            assert_int_equal(calibrator.missing, s == 0 ? 0 : 1);
            double *memory;
            const Logits after = calibrated(&calibrator, &sets[s], &memory); /* which checks the rows */
            check_file(&calibrator, &sets[s], &after);
            free(memory);
            calibrator_free(&calibrator);
        }
}

/* The optimum does not depend on the number of threads, to the bit. */
static void test_threads(void **state)
{
    (void)state;
    enum { ROWS = 300, CLASSES = 5 };
    static float values[ROWS * CLASSES];
    static int64_t labels[ROWS];
    for (int i = 0; i < ROWS * CLASSES; ++i)
        values[i] = (float)((i * 7919) % 1009) / 250 - 2;
    for (int row = 0; row < ROWS; ++row)
        labels[row] = row % 3 == 0 ? (row * 31) % CLASSES : row % 2;
    const Logits set = set_of(values, labels, ROWS, CLASSES);
    for (int method = 0; method < CALIBRATOR_METHODS; ++method) {
        if (method == CALIBRATOR_BETA || method == CALIBRATOR_TEMPERATURE) continue;
        const CalibratorSettings settings = {
            .method = (CalibratorMethod)method, .lambda = 1, .mu = 1, .bins = 10};
        char *text[2];
        for (int i = 0; i < 2; ++i) {
            Calibrator calibrator;
            assert_ok(calibrator_fit(&settings, &set, 1 + 2 * i, &calibrator));
            assert_ok(calibrator_write(&calibrator, &text[i]));
            calibrator_free(&calibrator);
        }
        assert_string_equal(text[0], text[1]);
        free(text[0]);
        free(text[1]);
    }
}

#define HEAD "{\"format\": \"plumb calibrator\", \"version\": 1, \"method\": "

static void test_bad_files(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } wrong[] = {
        {"", "cal.json is no calibrator: it is not JSON"},
        {"[]", "cal.json is no calibrator"},
        {"{\"format\": \"plumb calibrator\"}", "the calibrator has no version"},
        {"{\"format\": \"plumb calibrator\", \"version\": 2}",
         "the calibrator is of version 2, and this plumb reads up to version 1: use a newer plumb"},
        {HEAD "\"magic\"}", "method is magic, which"},
        {HEAD "\"beta\", \"classes\": 1.5}", "'classes' is a whole number from 2"},
        {HEAD "\"beta\", \"classes\": 2}", "'on' is logits"},
        {HEAD
         "\"beta\", \"classes\": 3, \"on\": \"log_probabilities\", \"weights\": [1, 1], \"biases\": [0]}",
         "beta is for two classes, not for 3"},
        {HEAD "\"vector_scaling\", \"classes\": 2, \"on\": \"logits\", \"weights\": [1], \"biases\": [0, 0]}",
         "'weights' is a list of 2 numbers"},
        {HEAD "\"vector_scaling\", \"classes\": 2, \"on\": \"logits\", \"weights\": [1, null], \"biases\": "
              "[0, 0]}",
         "'weights' has no number at place 1"},
        {HEAD "\"matrix_scaling\", \"classes\": 16000000, \"on\": \"logits\", \"weights\": [1]}",
         "a matrix for 16000000 classes"},
        {HEAD "\"isotonic\", \"classes\": 2, \"on\": \"probabilities\", \"by_class\": [{\"x\": [0.1], \"y\": "
              "[0]}, "
              "{\"x\": [0.5, 0.2], \"y\": [0, 1]}]}",
         "the map of class 1 is none"},
        {HEAD "\"histogram_binning\", \"classes\": 2, \"on\": \"probabilities\", \"bins\": 2, \"by_class\": "
              "[{\"x\": [0.5, 0.9], \"y\": [0, 1]}, {\"x\": [1], \"y\": [1]}]}",
         "the map of class 0 is none: 'x' ascends in 0..1 up to 1"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; ++i) {
        Calibrator calibrator;
        assert_fails(calibrator_parse("cal.json", wrong[i].text, &calibrator), STATUS_INPUT,
                     wrong[i].message);
        calibrator_free(&calibrator);
    }
}

int main(void)
{
    assert_ok(collective_self(&collective));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_data),     cmocka_unit_test(test_golden_cases),
        cmocka_unit_test(test_settings), cmocka_unit_test(test_no_minimiser),
        cmocka_unit_test(test_threads),  cmocka_unit_test(test_bad_files),
    };
    const int failures = cmocka_run_group_tests(tests, NULL, NULL);
    collective_free(collective);
    return failures;
}
