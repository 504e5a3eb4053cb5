/* The calibration metrics, the temperature search and AUROC against golden values, at any number of ranks. */
#include "tests/evaluation_support.h"

#include "losses/calibration/calibration.h"
#include "losses/calibration/ood.h"
#include "losses/calibration/temperature.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static World *world;
static Collective *collective;

enum { BINS = 15, MORE_BINS = 25 };

/* ---- metrics at one temperature ---- */

typedef struct {
    Calibration with15, with25;
} Measured;

static double accuracy(const Measured *m) { return 1 - m->with15.error; }
static double top5_accuracy(const Measured *m) { return 1 - m->with15.top5_error; }
static double nll(const Measured *m) { return m->with15.nll; }
static double mean_entropy(const Measured *m) { return m->with15.mean_entropy; }
static double mean_confidence(const Measured *m) { return m->with15.mean_confidence; }
static double s99_count(const Measured *m) { return (double)m->with15.s99_count; }
static double s99_percent(const Measured *m) { return 100 * m->with15.s99_fraction; }
static double s99_accuracy(const Measured *m) { return 100 * m->with15.s99_accuracy; }
static double ece15(const Measured *m) { return m->with15.ece; }
static double ece25(const Measured *m) { return m->with25.ece; }
static double ada_ece15(const Measured *m) { return m->with15.ada_ece; }
static double classwise15(const Measured *m) { return m->with15.classwise_ece; }
static double classwise15_all(const Measured *m) { return m->with15.classwise_ece_all; }
static double mce15(const Measured *m) { return m->with15.mce; }
static double mce25(const Measured *m) { return m->with25.mce; }
static double l2_15(const Measured *m) { return m->with15.ece_l2; }
static double l2_25(const Measured *m) { return m->with25.ece_l2; }

/* What the sets call the metrics. Those that a case lacks are not compared. */
static const struct {
    const char *name;
    double (*value)(const Measured *);
} metrics[] = {
    {"accuracy", accuracy},
    {"top5_accuracy_first_index_rule", top5_accuracy},
    {"nll", nll},
    {"mean_entropy", mean_entropy},
    {"mean_confidence", mean_confidence},
    {"s99_count", s99_count},
    {"s99_percent", s99_percent},
    {"s99_accuracy_percent", s99_accuracy},
    {"ece15", ece15},
    {"ece25", ece25},
    {"adaece15", ada_ece15},
    {"classwise_ece15", classwise15},
    {"classwise_ece15_over_all_K", classwise15_all},
    {"mce_dict15", mce15},
    {"mce_dict25", mce25},
    {"l2_dict15", l2_15},
    {"l2_dict25", l2_25},
};

static bool is_listed(const cJSON *list, const char *name)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, list)
    {
        if (cJSON_IsString(item) && strcmp(item->valuestring, name) == 0) return true;
    }
    return false;
}

/* `at`: the path of the metrics at one temperature. In the published code's float32 a probability may lie on the other
 * side of a bin's edge: the case lists the metrics that this changes. */
static void check_metrics(const GoldenCase *golden, const char *at, const char *precision,
                          GoldenTolerance tolerance, const Measured *measured)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/checks/metrics_where_f32_and_f64_differ", at);
    const cJSON *uncertain = golden_item(golden, path);
    const bool single = strcmp(precision, "official_f32") == 0;
    int compared = 0;
    for (size_t i = 0; i < sizeof metrics / sizeof metrics[0]; ++i) {
        (void)snprintf(path, sizeof path, "%s/%s/%s", at, precision, metrics[i].name);
        if (!golden_has(golden, path) || (single && is_listed(uncertain, metrics[i].name))) continue;
        const double value = metrics[i].value(measured);
        if (cJSON_IsNull(golden_item(golden, path)))
            assert_true(isnan(value)); /* of no samples */
        else
            golden_check_number(golden, path, value, tolerance);
        ++compared;
    }
    assert_true(compared > 5);
}

static bool flag(const GoldenCase *golden, const char *at, const char *name)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/checks/%s", at, name);
    return golden_number(golden, path) != 0;
}

static GoldenArray bins_file(const GoldenCase *golden, const char *files, const char *role)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", files, role);
    return golden_array(golden, path);
}

/* The files have the bins of MCE; those of ECE are others where a confidence lies on an edge. */
static void check_bins(const GoldenCase *golden, const char *at, const char *files,
                       const Calibration *measured)
{
    char name[128];
    (void)snprintf(name, sizeof name, "bin_counts_agree_dict_f32_vs_f64_rule/%d", measured->bins);
    if (!flag(golden, at, name) || !flag(golden, at, "ece_class_and_dict_rule_agree_f32")) return;
    (void)snprintf(name, sizeof name, "bins%d", measured->bins);
    GoldenArray bins = bins_file(golden, files, name);
    assert_int_equal(bins.count, measured->bins * 3);
    for (int b = 0; b < measured->bins; ++b) {
        const CalibrationBin *bin = &measured->bin[b];
        assert_int_equal(bin->count, (int64_t)bins.values[3 * b]);
        assert_close(&bin->accuracy, &bins.values[3 * b + 1], 1, 1e-9, 0, "accuracy of a bin");
        assert_close(&bin->confidence, &bins.values[3 * b + 2], 1, 1e-6, 0, "confidence of a bin");
    }
    golden_count(bins.count);
    golden_array_free(&bins);
}

/* The file's counts are those of float32, where edges and confidences that coincide lie the other way round. */
static void check_adaptive_bins(const GoldenCase *golden, const char *at, const char *files,
                                const Calibration *measured)
{
    char exact[512];
    (void)snprintf(exact, sizeof exact, "%s/checks/ada_counts_f64", at);
    GoldenArray counts = bins_file(golden, files, "ada_counts"),
                edges = bins_file(golden, files, "ada_edges");
    assert_true(counts.count == measured->bins && edges.count == measured->bins + 1);
    assert_int_equal(golden_length(golden, exact), measured->bins);
    const bool agree = flag(golden, at, "ada_counts_agree_f32_f64");
    for (int b = 0; b < measured->bins; ++b) {
        const CalibrationBin *bin = &measured->adaptive_bin[b];
        /* An edge meant to lie on a sample may miss it by a rounding, and the sample changes bins. */
        assert_true(fabs((double)bin->count - golden_number_at(golden, exact, b)) <= 1);
        if (agree) assert_true(fabs((double)bin->count - counts.values[b]) <= 1);
        assert_close(&bin->lower, &edges.values[b], 1, 1e-6, 0, "adaptive edge");
        assert_close(&bin->upper, &edges.values[b + 1], 1, 1e-6, 0, "adaptive edge");
    }
    golden_count(3 * counts.count);
    golden_array_free(&edges);
    golden_array_free(&counts);
}

/* All that a case says of a set at one temperature; tolerances: the path of the table of them. */
static void check_temperature(const GoldenCase *golden, const LogitSet *set, double temperature,
                              const char *at, const char *files, const char *tolerances)
{
    static Measured measured;
    assert_ok(calibration_measure(collective, &set->logits, temperature, BINS, 0, &measured.with15, NULL));
    assert_ok(
        calibration_measure(collective, &set->logits, temperature, MORE_BINS, 0, &measured.with25, NULL));
    assert_int_equal(measured.with15.samples, set->logits.total);
    if (set->logits.classes <= 5) assert_true(measured.with15.top5_error == 0);
    static const char *const precisions[] = {"numpy_f64", "official_f32"};
    for (int i = 0; i < 2; ++i) {
        char path[512];
        (void)snprintf(path, sizeof path, "%s/%s/rtol", tolerances, precisions[i]);
        GoldenTolerance tolerance = {.relative = golden_number(golden, path)};
        (void)snprintf(path, sizeof path, "%s/%s/atol", tolerances, precisions[i]);
        tolerance.absolute = golden_number(golden, path);
        check_metrics(golden, at, precisions[i], tolerance, &measured);
    }
    check_bins(golden, at, files, &measured.with15);
    check_bins(golden, at, files, &measured.with25);
    check_adaptive_bins(golden, at, files, &measured.with15);
}

static void test_metrics(void **state)
{
    (void)state;
    for (const GoldenCase *golden = NULL; (golden = golden_next("metrics", NULL, golden)) != NULL;) {
        LogitSet set = set_open(world, golden, "inputs/logits", "inputs/labels");
        assert_ok(logits_check(&set.logits, 0));
        const cJSON *temperature;
        cJSON_ArrayForEach(temperature, golden_item(golden, "expected"))
        {
            char at[256], files[256];
            (void)snprintf(at, sizeof at, "expected/%s", temperature->string);
            (void)snprintf(files, sizeof files, "expected_files/%s", temperature->string);
            assert_memory_equal(temperature->string, "T=", 2);
            check_temperature(golden, &set, strtod(temperature->string + 2, NULL), at, files, "tolerance");
        }
        set_close(&set);
    }
}

/* What can be said of logits at a glance. */
static void test_logits(void **state)
{
    (void)state;
    for (const GoldenCase *golden = NULL; (golden = golden_next("logits", NULL, golden)) != NULL;) {
        LogitSet set = set_open(world, golden, "inputs/logits", "inputs/labels");
        static Calibration measured;
        assert_ok(calibration_measure(collective, &set.logits, 1, BINS, 0, &measured, NULL));
        const double samples = (double)set.logits.total;
        const GoldenTolerance exact = {0, 0};
        golden_check_number(golden, "params/N", samples, exact);
        golden_check_number(golden, "params/K", (double)set.logits.classes, exact);
        golden_check_number(golden, "expected/correct_first_index_argmax",
                            round((1 - measured.error) * samples), exact);
        set_close(&set);
    }
}

/* ---- the temperature search ---- */

/* T is found on validation logits; the metrics of test logits are then those at T. */
static void check_search(const GoldenCase *golden)
{
    LogitSet set = set_open(world, golden, "inputs/val_logits", "inputs/val_labels");
    LogitSet test = set_open(world, golden, "inputs/test_logits", "inputs/test_labels");
    const int bins = (int)golden_number(golden, "params/bins");
    static TemperatureSearch search;
    assert_ok(temperature_search(collective, &set.logits, temperature_published, bins, 0, &search));
    GoldenArray grid = golden_array(golden, "expected_files/T_grid");
    assert_int_equal(search.count, grid.count);
    assert_memory_equal(search.temperature, grid.values, (size_t)grid.count * sizeof *grid.values);
    golden_count(grid.count);
    golden_array_free(&grid);
    static const struct {
        const char *file;
        const double *curve;
    } curves[] = {{"expected_files/val_ece_curve_f64", search.ece},
                  {"expected_files/val_nll_curve_f64", search.nll}};
    for (int i = 0; i < 2; ++i) {
        GoldenArray want = golden_array(golden, curves[i].file);
        assert_int_equal(search.count, want.count);
        assert_close(curves[i].curve, want.values, want.count, 1e-9, 1e-10, curves[i].file);
        golden_count(want.count);
        golden_array_free(&want);
    }
    const GoldenTolerance exact = {0, 0};
    golden_check_number(golden, "expected/index_ece_f64", search.best_ece, exact);
    golden_check_number(golden, "expected/index_nll_f64", search.best_nll, exact);
    golden_check_number(golden, "expected/best_ece_f64", search.ece[search.best_ece],
                        (GoldenTolerance){1e-9, 1e-10});
    golden_check_number(golden, "expected/best_nll_f64", search.nll[search.best_nll],
                        (GoldenTolerance){1e-9, 1e-10});
    const struct {
        const char *at, *files;
        double temperature;
    } measured[] = {
        {"expected/test_metrics/before_T1", "expected_files/test_before_T1", 1},
        {"expected/test_metrics/after_T_ece", "expected_files/test_after_T_ece",
         golden_number(golden, "expected/T_opt_ece")},
        {"expected/test_metrics/after_T_nll", "expected_files/test_after_T_nll",
         golden_number(golden, "expected/T_opt_nll")},
    };
    for (int i = 0; i < 3; ++i)
        check_temperature(golden, &test, measured[i].temperature, measured[i].at, measured[i].files,
                          "tolerance/metrics");
    set_close(&test);
    set_close(&set);
}

static void test_search(void **state)
{
    (void)state;
    for (const GoldenCase *golden = NULL; (golden = golden_next("temperature", NULL, golden)) != NULL;)
        check_search(golden);
}

/* ---- out of distribution ---- */

/* Rows of the first set, then those of the second, in one file. */
static void check_row_scores(const GoldenCase *golden, const char *files, const LogitSet *sets,
                             double temperature)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/entropy_f64", files);
    if (!golden_has(golden, path)) return;
    double *scores[2];
    int64_t first = 0;
    const int64_t total = sets[0].logits.total + sets[1].logits.total;
    for (int i = 0; i < 2; ++i) {
        scores[i] = malloc((size_t)total * sizeof(double));
        assert_non_null(scores[i]);
    }
    for (int i = 0; i < 2; ++i) {
        const Logits whole = rows_of(&sets[i], 0, sets[i].logits.total);
        assert_ok(calibration_row_scores(&whole, temperature, 0, scores[0] + first, scores[1] + first));
        first += whole.total;
    }
    static const char *const roles[] = {"confidence_f64", "entropy_f64"};
    for (int i = 0; i < 2; ++i) {
        GoldenArray want = bins_file(golden, files, roles[i]);
        assert_int_equal(want.count, total);
        assert_close(scores[i], want.values, total, 1e-9, 1e-12, roles[i]);
        golden_count(total);
        golden_array_free(&want);
        free(scores[i]);
    }
}

static void check_auroc(const GoldenCase *golden, const char *at, const char *name, double got)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s_rounding_allowance_f64", at, name);
    const double allowance = golden_number(golden, path);
    (void)snprintf(path, sizeof path, "%s/official_f64/%s", at, name);
    golden_check_number(golden, path, got, (GoldenTolerance){0, 1e-9 + allowance});
}

static double area_under(const RocCurve *curve)
{
    double area = 0;
    for (int i = 1; i < curve->count; ++i)
        area += (curve->false_positive[i] - curve->false_positive[i - 1]) *
                (curve->true_positive[i] + curve->true_positive[i - 1]) / 2;
    return area;
}

/* From (x, y) to the line between two points of the curve. */
static double distance_to_line(const RocCurve *curve, int point, double x, double y)
{
    const double right = curve->false_positive[point] - curve->false_positive[point - 1],
                 up = curve->true_positive[point] - curve->true_positive[point - 1];
    const double from_x = x - curve->false_positive[point - 1], from_y = y - curve->true_positive[point - 1];
    const double length = right * right + up * up;
    const double along = length > 0 ? fmin(fmax((from_x * right + from_y * up) / length, 0), 1) : 0;
    return hypot(from_x - along * right, from_y - along * up);
}

/* The vertices of a case's curve lie on ours. Where rounding parts scores that are equal in exact arithmetic, a case has vertices
 * on lines of ours. */
static void check_vertices(const GoldenCase *golden, const char *files, const RocCurve *curve)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/roc_entropy_fpr", files);
    if (!golden_has(golden, path)) return;
    GoldenArray right = golden_array(golden, path);
    (void)snprintf(path, sizeof path, "%s/roc_entropy_tpr", files);
    GoldenArray up = golden_array(golden, path);
    for (int64_t k = 0; k < right.count; ++k) {
        double nearest = 2;
        for (int i = 1; i < curve->count; ++i)
            nearest = fmin(nearest, distance_to_line(curve, i, right.values[k], up.values[k]));
        assert_true(nearest < (!curve->whole ? 2.1 / ROC_MOST_POINTS : 1e-12));
    }
    golden_count(2 * right.count);
    golden_array_free(&right);
    golden_array_free(&up);
}

/* The area again, an interval around it, and a curve that has this area. */
static void check_measure(const GoldenCase *golden, const char *files, const LogitSet sets[2],
                          double temperature, const OodScores *scores)
{
    static OodMeasure measure;
    assert_ok(ood_measure(collective, &sets[0].logits, &sets[1].logits, temperature, 0, &measure));
    assert_true(measure.entropy.area == scores->auroc_entropy);
    assert_true(measure.confidence.area == scores->auroc_confidence);
    const Auroc *const areas[] = {&measure.entropy, &measure.confidence};
    const RocCurve *const curves[] = {&measure.entropy_curve, &measure.confidence_curve};
    for (int i = 0; i < 2; ++i) {
        assert_true(areas[i]->lower <= areas[i]->area && areas[i]->area <= areas[i]->upper);
        assert_true(curves[i]->count >= 2 && curves[i]->count <= ROC_MOST_POINTS);
        assert_float_equal(area_under(curves[i]), areas[i]->area, !curves[i]->whole ? 1e-3 : 1e-12);
    }
    check_vertices(golden, files, &measure.entropy_curve);
}

/* DeLong's interval against one worked out by hand: positives 3, 5 and 5, negatives 1, 3, 4 and 5. */
static void test_interval(void **state)
{
    (void)state;
    double positive[] = {5, 3, 5}, negative[] = {4, 1, 5, 3};
    const Auroc auroc = auroc_with_interval(positive, 3, negative, 4);
    /* The positives beat 1.5, 3.5 and 3.5 of 4, the negatives lose to 3, 2.5, 2 and 1 of 3. */
    const double area = 8.5 / 12;
    const double of_positives =
                     ((1.5 - 17.0 / 6) * (1.5 - 17.0 / 6) + 2 * (3.5 - 17.0 / 6) * (3.5 - 17.0 / 6)) / 2 / 16,
                 of_negatives = ((3 - 2.125) * (3 - 2.125) + (2.5 - 2.125) * (2.5 - 2.125) +
                                 (2 - 2.125) * (2 - 2.125) + (1 - 2.125) * (1 - 2.125)) /
                                3 / 9;
    const double error = sqrt(of_positives / 3 + of_negatives / 4),
                 width = 1.6448536269514722 * error / (area * (1 - area));
    assert_float_equal(auroc.area, area, 1e-15);
    assert_float_equal(log(auroc.lower / (1 - auroc.lower)), log(area / (1 - area)) - width, 1e-12);
    assert_float_equal(log(auroc.upper / (1 - auroc.upper)), log(area / (1 - area)) + width, 1e-12);
    RocCurve curve;
    roc_curve(positive, 3, negative, 4, &curve);
    static const double right[] = {0, 0.25, 0.5, 0.75, 1}, up[] = {0, 2.0 / 3, 2.0 / 3, 1, 1};
    assert_int_equal(curve.count, 5);
    assert_close(curve.false_positive, right, 5, 0, 1e-15, "false positives");
    assert_close(curve.true_positive, up, 5, 0, 1e-15, "true positives");
    const Auroc alone = auroc_with_interval(positive, 1, negative, 4);
    assert_true(isnan(alone.lower) && isnan(alone.upper));
}

static void test_ood(void **state)
{
    (void)state;
    for (const GoldenCase *golden = NULL; (golden = golden_next("ood", NULL, golden)) != NULL;) {
        LogitSet sets[2] = {set_open(world, golden, "inputs/in_logits", NULL),
                            set_open(world, golden, "inputs/ood_logits", NULL)};
        assert_ok(logits_check(&sets[0].logits, 0));
        const cJSON *item;
        cJSON_ArrayForEach(item, golden_item(golden, "expected"))
        {
            char at[256], files[256];
            (void)snprintf(at, sizeof at, "expected/%s", item->string);
            (void)snprintf(files, sizeof files, "expected_files/%s", item->string);
            assert_memory_equal(item->string, "T=", 2);
            const double temperature = strtod(item->string + 2, NULL);
            OodScores scores;
            assert_ok(ood_auroc(collective, &sets[0].logits, &sets[1].logits, temperature, 0, &scores));
            check_auroc(golden, at, "auroc_entropy", scores.auroc_entropy);
            check_auroc(golden, at, "auroc_confidence", scores.auroc_confidence);
            check_row_scores(golden, files, sets, temperature);
            check_measure(golden, files, sets, temperature, &scores);
        }
        set_close(&sets[0]);
        set_close(&sets[1]);
    }
}

static int report(void **state)
{
    (void)state;
    if (world->rank == 0) print_message("%lld values\n", (long long)golden_checked());
    return 0;
}

int main(int argc, char **argv)
{
    Status status = comm_start(&argc, &argv, &world);
    if (status == OK) status = comm_collective(world, 60, &collective);
    if (status != OK) comm_abort(world, status);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_metrics), cmocka_unit_test(test_logits),   cmocka_unit_test(test_search),
        cmocka_unit_test(test_ood),     cmocka_unit_test(test_interval),
    };
    const int failures = cmocka_run_group_tests(tests, NULL, report);
    if (failures > 0) return 1; /* the ranks may be out of step: leave it to mpirun to end the others */
    collective_free(collective);
    comm_stop(world);
    return 0;
}
