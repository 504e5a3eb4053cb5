/* Measures beside the calibration errors of the published code, against golden values: SmoothECE, kernel calibration error,
 * decomposition of the Brier score, consistency bars, debiased errors. */
#include "tests/study_sets.h"

#include "losses/calibration/binned_errors.h"
#include "losses/calibration/calibrator.h"
#include "losses/calibration/calibrator_fit.h"
#include "losses/calibration/intervals.h"
#include "losses/calibration/kernel_error.h"
#include "losses/calibration/smooth_ece.h"
#include "losses/calibration/top_label.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A set as the measures take it. */
typedef struct {
    double *p, *confidence;
    int64_t *label;
    uint8_t *correct;
    ProbabilitySet all;
    ConfidenceSet top;
} Outputs;

static void outputs_close(Outputs *outputs)
{
    free(outputs->p);
    free(outputs->confidence);
    free(outputs->label);
    free(outputs->correct);
}

/* Softmax in double precision; of probabilities themselves, divided by their sum. */
static void fill_probabilities(const Logits *set, double *p)
{
    for (int64_t row = 0; row < set->count; ++row) {
        double *to = p + row * set->classes, maximum = -INFINITY, sum = 0;
        for (int64_t k = 0; k < set->classes; ++k) {
            const int64_t at = row * set->classes + k;
            to[k] = set->type == FLOAT32 ? (double)((const float *)set->values)[at]
                                         : ((const double *)set->values)[at];
            maximum = fmax(maximum, to[k]);
        }
        for (int64_t k = 0; k < set->classes; ++k) {
            if (!set->probabilities) to[k] = exp(to[k] - maximum);
            sum += to[k];
        }
        for (int64_t k = 0; k < set->classes; ++k)
            to[k] /= sum;
    }
}

static bool outputs_open(const GoldenCase *golden, Outputs *outputs)
{
    StudySet set;
    if (!study_open(golden, golden_has(golden, "params/part") ? golden_text(golden, "params/part") : "test",
                    &set))
        return false;
    const Logits *logits = &set.logits;
    const int64_t rows = logits->count, classes = logits->classes;
    *outputs = (Outputs){.p = calloc((size_t)(rows * classes), sizeof(double)),
                         .confidence = calloc((size_t)rows, sizeof(double)),
                         .label = calloc((size_t)rows, sizeof(int64_t)),
                         .correct = calloc((size_t)rows, 1)};
    assert_true(outputs->p && outputs->confidence && outputs->label && outputs->correct);
    fill_probabilities(logits, outputs->p);
    for (int64_t row = 0; row < rows; ++row) {
        const double *p = outputs->p + row * classes;
        int64_t top = 0;
        for (int64_t k = 1; k < classes; ++k)
            if (p[k] > p[top]) top = k;
        outputs->label[row] = logits_label(logits, row);
        outputs->confidence[row] = p[top];
        outputs->correct[row] = outputs->label[row] == top;
    }
    outputs->all = (ProbabilitySet){outputs->p, outputs->label, rows, classes};
    outputs->top = (ConfidenceSet){golden->id, outputs->confidence, outputs->correct, rows};
    study_close(&set);
    return true;
}

static void check_at(const GoldenCase *golden, double got, GoldenTolerance tolerance, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static void check_at(const GoldenCase *golden, double got, GoldenTolerance tolerance, const char *format, ...)
{
    char path[256];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(path, sizeof path, format, arguments);
    va_end(arguments);
    if (cJSON_IsNull(golden_item(golden, path)))
        assert_true(isnan(got));
    else
        golden_check_number(golden, path, got, tolerance);
}

/* ---- SmoothECE ---- */

static void check_list(const GoldenCase *golden, const char *path, int i, double got,
                       GoldenTolerance tolerance)
{
    const double want = golden_number_at(golden, path, i);
    if (!golden_is_close(got, want, tolerance))
        print_error("%s: %s[%d] is %.12g, not %.12g\n", golden->id, path, i, got, want);
    assert_true(golden_is_close(got, want, tolerance));
    golden_count(1);
}

static void check_continuous(const GoldenCase *golden, const ConfidenceSet *top)
{
    const GoldenTolerance tolerance = {0, golden_number(golden, "tolerance/continuous_definition/atol")};
    SmoothEce result;
    assert_ok(smooth_ece(top, 2, &result));
    golden_check_number(golden, "expected/continuous_definition/bandwidth_and_value", result.value,
                        tolerance);
    golden_check_number(golden, "expected/continuous_definition/bandwidth_and_value", result.bandwidth,
                        tolerance);
    for (int i = 0; i < golden_length(golden, "expected/fixed_bandwidths"); ++i) {
        double value;
        assert_ok(smooth_ece_at(top, golden_number_at(golden, "expected/fixed_bandwidths", i), 2, &value));
        check_list(golden, "expected/continuous_definition/at_fixed_bandwidths", i, value, tolerance);
    }
}

static void check_relplot(const GoldenCase *golden, const ConfidenceSet *top)
{
    const GoldenTolerance tolerance = golden_tolerance(golden, "f64", NULL), exact = {0, 0};
    SmoothEce result;
    assert_ok(smooth_ece_relplot(top, &result));
    golden_check_number(golden, "expected/bandwidth", result.bandwidth, exact);
    golden_check_number(golden, "expected/smece", result.value, tolerance);
    for (int i = 0; i < golden_length(golden, "expected/fixed_bandwidths"); ++i) {
        double value;
        assert_ok(
            smooth_ece_relplot_at(top, golden_number_at(golden, "expected/fixed_bandwidths", i), &value));
        check_list(golden, "expected/smece_at_fixed_bandwidths", i, value, tolerance);
    }
    GoldenArray mesh = golden_array(golden, "expected_files/mesh");
    double *curve = calloc((size_t)mesh.count, sizeof *curve),
           *density = calloc((size_t)mesh.count, sizeof *density);
    assert_true(curve != NULL && density != NULL);
    assert_ok(smooth_curve_relplot(top, result.bandwidth, (int)mesh.count, mesh.values, curve, density));
    (void)golden_check(golden, "expected_files/curve", curve, mesh.count, "f64");
    free(curve);
    free(density);
    golden_array_free(&mesh);
}

/* A band is drawn at random. The curve is compared with its own definition. */
static void check_band(const GoldenCase *golden, const ConfidenceSet *top)
{
    const double width = golden_number(golden, "expected/bandwidth");
    GoldenArray at = golden_array(golden, "expected_files/band_points");
    GoldenArray band = golden_array(golden, "expected_files/band_lower_upper");
    const GoldenTolerance tolerance = {0, golden_number(golden, "tolerance/band/atol")};
    const int points = (int)at.count;
    double lower[64], upper[64], curve[64], density[64];
    assert_true(points <= 64);
    const SmoothBandOptions options = {
        .replicates = 1000, .seed = 1, .level = 0.95, .threads = 2, .relplot = true};
    assert_ok(smooth_band(top, width, points, at.values, &options, lower, upper));
    assert_ok(smooth_curve_relplot(top, width, points, at.values, curve, density));
    for (int i = 0; i < points; ++i) {
        if (!golden_is_close(lower[i], band.values[i], tolerance) ||
            !golden_is_close(upper[i], band.values[points + i], tolerance))
            print_error("%s: at %g the band is %g to %g, not %g to %g\n", golden->id, at.values[i], lower[i],
                        upper[i], band.values[i], band.values[points + i]);
        assert_true(golden_is_close(lower[i], band.values[i], tolerance));
        assert_true(golden_is_close(upper[i], band.values[points + i], tolerance));
        assert_true(curve[i] > lower[i] && curve[i] < upper[i]);
    }
    golden_count(2 * (int64_t)points);
    golden_array_free(&at);
    golden_array_free(&band);
}

static void test_smooth_ece(void **state)
{
    (void)state;
    for (const GoldenCase *golden = NULL; (golden = golden_next("smooth_ece", NULL, golden)) != NULL;) {
        Outputs outputs;
        if (!outputs_open(golden, &outputs)) continue;
        check_continuous(golden, &outputs.top);
        check_relplot(golden, &outputs.top);
        check_band(golden, &outputs.top);
        outputs_close(&outputs);
    }
}

/* Nothing is wrong with a set that is right with confidence 1; one that is wrong with confidence 1 could not be worse. */
static void test_smooth_ends(void **state)
{
    (void)state;
    static const double confidence[4] = {1, 1, 0, 0};
    static const uint8_t right[4] = {1, 1, 0, 0}, wrong[4] = {0, 0, 1, 1};
    SmoothEce result;
    assert_ok(smooth_ece(&(ConfidenceSet){"right", confidence, right, 4}, 1, &result));
    assert_true(result.value == 0);
    assert_ok(smooth_ece(&(ConfidenceSet){"wrong", confidence, wrong, 2}, 1, &result));
    const double one = 1;
    assert_close(&result.value, &one, 1, 1e-6, 0, "all wrong");
}

/* ---- the kernel calibration error ---- */

/* An item of a list in a case, as a case of its own. */
static GoldenCase item_of(const GoldenCase *golden, const char *list, int i)
{
    GoldenCase item = *golden;
    item.json = cJSON_GetArrayItem(golden_item(golden, list), i);
    assert_non_null(item.json);
    return item;
}

static void check_kernel_test(const GoldenCase *golden, const ProbabilitySet *set, int i)
{
    const GoldenTolerance tolerance = golden_tolerance(golden, "f64", NULL), of_p = {1e-6, 1e-300};
    const GoldenCase item = item_of(golden, "expected/tests", i), *test = &item;
    const bool is_gaussian = strcmp(golden_text(test, "kernel"), "gaussian") == 0;
    const bool is_median = strcmp(golden_text(test, "nu_rule"), "median") == 0;
    const KernelOptions options = {.form = is_gaussian ? KERNEL_GAUSSIAN : KERNEL_LAPLACIAN,
                                   .width = is_median ? 0 : golden_number(test, "nu"),
                                   .resamples = 1000,
                                   .seed = 1};
    KernelError error;
    assert_ok(kernel_error(set, &options, 2, &error));
    golden_check_number(golden, "expected/median_distance", error.median_distance, tolerance);
    golden_check_number(test, "nu", error.width, tolerance);
    golden_check_number(test, "biased", error.biased, tolerance);
    golden_check_number(test, "unbiased", error.unbiased, tolerance);
    golden_check_number(test, "distribution_free/p_value_biased", error.bound_biased, of_p);
    golden_check_number(test, "distribution_free/p_value_unbiased", error.bound_unbiased, of_p);
    for (int b = 0; b < KERNEL_BLOCK_TESTS; ++b) {
        const BlockTest *block = &error.block[b];
        const int size = (int)block->size;
        check_at(test, (double)block->blocks, tolerance, "block_tests/%d/blocks", size);
        check_at(test, block->estimate, tolerance, "block_tests/%d/estimate", size);
        check_at(test, block->standard_error, tolerance, "block_tests/%d/standard_error", size);
        check_at(test, block->z, of_p, "block_tests/%d/z", size);
        check_at(test, block->p, of_p, "block_tests/%d/p_value", size);
    }
    golden_check_number(test, "asymptotic/statistic", error.statistic, tolerance);
    const GoldenTolerance statistical = {0, golden_number(test, "asymptotic/tolerance_for_1000_resamples")};
    golden_check_number(test, "asymptotic/p_value_by_10000_resamples", error.p, statistical);
}

static void test_kernel_error(void **state)
{
    (void)state;
    for (const GoldenCase *golden = NULL;
         (golden = golden_next("kernel_calibration_error", NULL, golden)) != NULL;) {
        Outputs outputs;
        if (!outputs_open(golden, &outputs)) continue;
        const int64_t first = (int64_t)golden_number_at(golden, "params/rows", 0),
                      end = (int64_t)golden_number_at(golden, "params/rows", 1);
        if (strcmp(golden_text(golden, "params/labels"), "as stored") != 0)
            for (int64_t i = 0; i < outputs.all.count; ++i)
                outputs.label[i] = (outputs.label[i] + 1) % outputs.all.classes;
        const ProbabilitySet rows = {outputs.p + first * outputs.all.classes, outputs.label + first,
                                     end - first, outputs.all.classes};
        for (int i = 0; i < golden_length(golden, "expected/tests"); ++i)
            check_kernel_test(golden, &rows, i);
        outputs_close(&outputs);
    }
}

/* ---- the Brier score ---- */

static void check_parts(const GoldenCase *golden, const char *at, const BrierParts *parts)
{
    const GoldenTolerance tolerance = golden_tolerance(golden, "f64", NULL);
    check_at(golden, parts->brier, tolerance, "%s/brier", at);
    check_at(golden, parts->reliability, tolerance, "%s/reliability", at);
    check_at(golden, parts->resolution, tolerance, "%s/resolution", at);
    check_at(golden, parts->uncertainty, tolerance, "%s/uncertainty", at);
    check_at(golden, parts->within_variance, tolerance, "%s/within_bin_variance", at);
    check_at(golden, parts->within_covariance, tolerance, "%s/within_bin_covariance", at);
    check_at(golden, parts->generalised_resolution, tolerance, "%s/generalised_resolution", at);
    const double sum = parts->reliability - parts->resolution + parts->uncertainty + parts->within_variance -
                       parts->within_covariance;
    assert_close(&sum, &parts->brier, 1, 1e-12, 1e-13, "the five parts");
}

static void test_brier_parts(void **state)
{
    (void)state;
    static const int bins[] = {10, 15};
    for (const GoldenCase *golden = NULL;
         (golden = golden_next("brier_decomposition", NULL, golden)) != NULL;) {
        Outputs outputs;
        if (!outputs_open(golden, &outputs)) continue;
        for (int i = 0; i < 2; ++i) {
            char at[128];
            BrierParts parts;
            assert_ok(brier_parts_top(&outputs.top, bins[i], &parts));
            (void)snprintf(at, sizeof at, "expected/%d_bins/top_label", bins[i]);
            check_parts(golden, at, &parts);
            assert_ok(brier_parts_by_confidence(&outputs.all, bins[i], &parts));
            (void)snprintf(at, sizeof at, "expected/%d_bins/multiclass_by_confidence", bins[i]);
            check_parts(golden, at, &parts);
            assert_ok(brier_parts_by_class(&outputs.all, bins[i], &parts));
            (void)snprintf(at, sizeof at, "expected/%d_bins/multiclass_class_by_class", bins[i]);
            check_parts(golden, at, &parts);
        }
        outputs_close(&outputs);
    }
}

/* ---- consistency bars ---- */

static void test_consistency(void **state)
{
    (void)state;
    for (const GoldenCase *golden = NULL; (golden = golden_next("consistency_bars", NULL, golden)) != NULL;) {
        Outputs outputs;
        if (!outputs_open(golden, &outputs)) continue;
        const int levels = golden_length(golden, "params/levels");
        double level[16], quantile[16];
        assert_true(levels <= 16);
        for (int i = 0; i < levels; ++i)
            level[i] = golden_number_at(golden, "params/levels", i);
        for (int b = 0; b < golden_length(golden, "expected/bins"); ++b) {
            const GoldenCase bin = item_of(golden, "expected/bins", b);
            assert_ok(consistency_quantiles(outputs.all.count, (int64_t)golden_number(&bin, "count"),
                                            golden_number(&bin, "mean_confidence"), levels, level, quantile));
            for (int i = 0; i < levels; ++i)
                check_list(&bin, "exact_quantiles", i, quantile[i], (GoldenTolerance){1e-8, 1e-10});
        }
        outputs_close(&outputs);
    }
}

/* Of many samples the law is summed in strides: the quantiles are those of the normal law. */
static void test_consistency_of_many(void **state)
{
    (void)state;
    const double level[2] = {0.05, 0.95};
    double quantile[2];
    assert_ok(consistency_quantiles(4000000, 1000000, 0.8, 2, level, quantile));
    const double spread = 1.6448536 * sqrt(0.8 * 0.2 / 1e6), want[2] = {0.8 - spread, 0.8 + spread};
    assert_close(quantile, want, 2, 0, 2e-6, "quantiles");
    assert_ok(consistency_quantiles(10, 0, 0, 2, level, quantile));
    assert_true(isnan(quantile[0]) && isnan(quantile[1]));
    assert_ok(consistency_quantiles(10, 10, 1, 2, level, quantile)); /* all samples, all right */
    assert_true(quantile[0] > 1 - 1e-9 && quantile[1] > 1 - 1e-9);
}

/* ---- debiased errors ---- */

static void check_binned(const GoldenCase *golden, BinScheme scheme, const char *of, const BinnedError *error)
{
    const GoldenTolerance tolerance = golden_tolerance(golden, "f64", NULL);
    char key[64];
    (void)snprintf(key, sizeof key, "%s/%s", bin_scheme_names[scheme], of); /* a key that holds a slash */
    const cJSON *want =
        cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(golden->json, "expected"), key);
    if (want == NULL) return;
    const struct {
        const char *name;
        double value;
    } figures[] = {{"plug_in_p1", error->plug_in[1]},
                   {"plug_in_p2", error->plug_in[2]},
                   {"debiased_p1", error->debiased[1]},
                   {"debiased_p2", error->debiased[2]},
                   {"debiased_p2_square_unclipped", strcmp(of, "top-label") == 0 ? error->square : NAN}};
    for (size_t i = 0; i < sizeof figures / sizeof *figures; ++i) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(want, figures[i].name);
        if (item == NULL || (isnan(figures[i].value) && i == 4)) continue;
        if (cJSON_IsNull(item)) {
            assert_true(isnan(figures[i].value));
            continue;
        }
        if (!golden_is_close(figures[i].value, item->valuedouble, tolerance))
            print_error("%s: %s %s is %.15g, not %.15g\n", golden->id, key, figures[i].name, figures[i].value,
                        item->valuedouble);
        assert_true(golden_is_close(figures[i].value, item->valuedouble, tolerance));
        golden_count(1);
    }
}

static void test_binned_errors(void **state)
{
    (void)state;
    for (const GoldenCase *golden = NULL;
         (golden = golden_next("verified_calibration", NULL, golden)) != NULL;) {
        Outputs outputs;
        if (!outputs_open(golden, &outputs)) continue;
        const int bins = (int)golden_number(golden, "params/bins");
        const int64_t before = golden_checked();
        for (int scheme = 0; scheme < BINS_SCHEMES; ++scheme) {
            BinnedError error;
            assert_ok(binned_error_top(&outputs.top, (BinScheme)scheme, bins, &error));
            check_binned(golden, (BinScheme)scheme, "top-label", &error);
            assert_ok(binned_error_classes(&outputs.all, (BinScheme)scheme, bins, &error));
            check_binned(golden, (BinScheme)scheme, "marginal", &error);
        }
        assert_true(golden_checked() > before + 10);
        outputs_close(&outputs);
    }
}

static int report(void **state)
{
    (void)state;
    print_message("%lld values\n", (long long)golden_checked());
    return 0;
}

/* ---- intervals and labels ---- */

static void expect_interval(Interval interval, double lower, double upper)
{
    assert_float_equal(interval.lower, lower, 1e-9);
    assert_float_equal(interval.upper, upper, 1e-9);
}

/* Where the beta distribution has a closed form: none or all of n, 1 - 0.05^(1/n); one of one. */
static void test_interval_of_proportion(void **state)
{
    (void)state;
    expect_interval(interval_of_proportion(0, 10, 0.9), 0, 1 - pow(0.05, 0.1));
    expect_interval(interval_of_proportion(10, 10, 0.9), pow(0.05, 0.1), 1);
    expect_interval(interval_of_proportion(1, 2, 0.9), 1 - sqrt(0.95), sqrt(0.95));
    const Interval many =
        interval_of_proportion(4900, 5000, 0.9); /* normal: 0.98 -+ 1.645 sqrt(0.98 0.02 / 5000) */
    assert_float_equal(many.lower, 0.9767, 4e-4);
    assert_float_equal(many.upper, 0.9833, 4e-4);
    assert_true(isnan(interval_of_proportion(0, 0, 0.9).lower) &&
                isnan(interval_of_proportion(NAN, NAN, 0.9).upper));
}

/* Student's quantiles of one and two degrees of freedom are tan(pi (p - 1/2)) and (2p - 1) sqrt(2 / (4 p (1 - p))). */
static void test_interval_of_the_next(void **state)
{
    (void)state;
    const double one = tan(acos(-1) * 0.45), two = 0.9 * sqrt(2 / (4 * 0.95 * 0.05));
    assert_float_equal(interval_next_reach(2, 2, 0.9), 2 * one * sqrt(1.5), 1e-9);
    assert_float_equal(interval_next_reach(1, 3, 0.9), two * sqrt(4.0 / 3), 1e-9);
    assert_true(isnan(interval_next_reach(1, 1, 0.9)));
}

static void test_top_label(void **state)
{
    (void)state;
    const float row[] = {0, 3, 1, 3}, large[] = {-1e30F, 1e30F};
    double confidence;
    assert_int_equal(top_label(row, 4, 1, &confidence), 1);
    assert_float_equal(confidence, 1 / (2 + exp(-3) + exp(-2)), 1e-15);
    assert_int_equal(top_label(row, 3, 2, &confidence), 1);
    assert_float_equal(confidence, 1 / (1 + exp(-1.5) + exp(-1)), 1e-15);
    assert_int_equal(top_label(large, 2, 1, &confidence), 1);
    assert_true(confidence == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_smooth_ece),           cmocka_unit_test(test_smooth_ends),
        cmocka_unit_test(test_kernel_error),         cmocka_unit_test(test_brier_parts),
        cmocka_unit_test(test_consistency),          cmocka_unit_test(test_consistency_of_many),
        cmocka_unit_test(test_binned_errors),        cmocka_unit_test(test_interval_of_proportion),
        cmocka_unit_test(test_interval_of_the_next), cmocka_unit_test(test_top_label),
    };
    return cmocka_run_group_tests(tests, NULL, report);
}
