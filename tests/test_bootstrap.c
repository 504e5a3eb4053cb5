/* Bootstrap intervals against resamples made and measured one by one, at any number of ranks and threads. */
#include "tests/evaluation_support.h"

#include "engine/base/random.h"
#include "losses/calibration/bootstrap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static World *world;
static Collective *collective, *alone;

static LogitSet golden_set(const char *name)
{
    char values[256], labels[256];
    (void)snprintf(values, sizeof values, "logits/%s.logits.npy", name);
    (void)snprintf(labels, sizeof labels, "logits/%s.labels.npy", name);
    return set_open(world, values, labels);
}

static BootstrapIntervals intervals_of(Collective *ranks, const Logits *logits, double temperature,
                                       const BootstrapOptions *options, int threads)
{
    static Calibration measured;
    CalibrationScores scores;
    BootstrapIntervals intervals;
    assert_ok(calibration_measure(ranks, logits, temperature, options->bins, threads, &measured, &scores));
    assert_ok(
        bootstrap_intervals(ranks, logits, temperature, &measured, &scores, options, threads, &intervals));
    calibration_scores_free(&scores);
    return intervals;
}

static int compare(const void *a, const void *b)
{
    const double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

/* numpy.quantile's default */
static double quantile(const double *sorted, int count, double share)
{
    const double at = share * (count - 1);
    const int low = (int)floor(at);
    return low + 1 < count ? sorted[low] + (at - low) * (sorted[low + 1] - sorted[low]) : sorted[low];
}

static void assert_interval(Interval got, double *values, int count, double level, const char *what)
{
    qsort(values, (size_t)count, sizeof *values, compare);
    const double want[] = {quantile(values, count, (1 - level) / 2),
                           quantile(values, count, (1 + level) / 2)};
    assert_close(&got.lower, &want[0], 1, 1e-6, 1e-8, what);
    assert_close(&got.upper, &want[1], 1, 1e-6, 1e-8, what);
}

/* Copies the rows that a replicate draws, so that the metrics themselves can measure it. */
static void resample(const Logits *whole, uint64_t seed, int replicate, float *values, int64_t *labels)
{
    const int64_t classes = whole->classes;
    for (int64_t d = 0; d < whole->total; ++d) {
        const RandomBlock random =
            random_block(seed, RANDOM_BOOTSTRAP, (uint64_t)replicate, (uint64_t)(d / 2));
        const uint64_t bits = random.word[d % 2 * 2] | (uint64_t)random.word[d % 2 * 2 + 1] << 32;
        const int64_t row = (int64_t)((unsigned __int128)bits * (uint64_t)whole->total >> 64);
        memcpy(values + d * classes, (const float *)whole->values + row * classes,
               (size_t)classes * sizeof *values);
        labels[d] = logits_label(whole, row);
    }
}

static void test_resamples(void **state)
{
    (void)state;
    /* More classes than are summed at once, more bins than samples in a bin, equal confidences. */
    static const struct {
        const char *name;
        int bins;
        int64_t replicates;
    } cases[] = {{"k10_n128", 15, 37},
                 {"k200_n64", 15, 20},
                 {"k2_n64", 80, 33},
                 {"ties_k10_n48", 15, 16},
                 {"extreme_k10_n64", 15, 5}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; ++c) {
        LogitSet set = golden_set(cases[c].name);
        const Logits whole = rows_of(&set, 0, set.logits.total);
        const int count = (int)cases[c].replicates;
        const BootstrapOptions options = {
            .replicates = count, .seed = 11, .level = 0.9, .bins = cases[c].bins};
        const BootstrapIntervals got = intervals_of(collective, &set.logits, 1.5, &options, 0);

        static Calibration measured;
        float *values = malloc((size_t)(whole.total * whole.classes) * sizeof *values);
        int64_t *labels = malloc((size_t)whole.total * sizeof *labels);
        double ece[64] = {0}, adaptive[64] = {0}, classwise[64] = {0};
        assert_ok(calibration_measure(alone, &whole, 1.5, options.bins, 1, &measured, NULL));
        const double label_classes = (double)measured.label_classes;
        for (int r = 0; r < count; ++r) {
            resample(&whole, options.seed, r, values, labels);
            Logits drawn = whole;
            drawn.values = values;
            drawn.labels = labels;
            drawn.label_type = INT64;
            assert_ok(calibration_measure(alone, &drawn, 1.5, options.bins, 1, &measured, NULL));
            ece[r] = measured.ece;
            adaptive[r] = measured.ada_ece;
            classwise[r] = measured.classwise_ece_all;
        }
        assert_interval(got.ece, ece, count, options.level, "interval of ece");
        assert_interval(got.ada_ece, adaptive, count, options.level, "interval of ada_ece");
        /* The mean over all classes is also known of a resample without the last label. */
        if (label_classes == (double)whole.classes)
            assert_interval(got.classwise_ece, classwise, count, options.level, "interval of classwise_ece");
        free(values);
        free(labels);
        set_close(&set);
    }
}

static void test_same_bits(void **state)
{
    (void)state;
    LogitSet set = golden_set("k100_n2000");
    const Logits whole = rows_of(&set, 0, set.logits.total);
    const BootstrapOptions options = {.replicates = 100, .seed = 1, .level = 0.9, .bins = 15};
    const BootstrapIntervals want = intervals_of(alone, &whole, 1, &options, 1);
    for (int threads = 1; threads <= 3; ++threads) {
        const BootstrapIntervals got = intervals_of(collective, &set.logits, 1, &options, threads);
        assert_memory_equal(&got, &want, sizeof got);
    }
    set_close(&set);
}

/* The bootstrap's spread of the ECE against what the central limit theorem says for one bin, where
 * ECE = |mean of (confidence - correct)|. */
static void test_width(void **state)
{
    (void)state;
    LogitSet set = golden_set("k10_n4096");
    const Logits whole = rows_of(&set, 0, set.logits.total);
    static Calibration measured;
    CalibrationScores scores;
    assert_ok(calibration_measure(alone, &whole, 0.5, 1, 0, &measured, &scores));
    double mean = 0, square = 0;
    for (int64_t i = 0; i < whole.total; ++i) {
        const double gap = fabs(scores.signed_confidence[i]) - (scores.signed_confidence[i] > 0);
        mean += gap / (double)whole.total;
        square += gap * gap / (double)whole.total;
    }
    calibration_scores_free(&scores);
    const double deviation = sqrt((square - mean * mean) / (double)whole.total);
    assert_true(fabs(mean) > 4 * deviation); /* so that the sign is certain */
    const BootstrapOptions options = {.replicates = 2000, .seed = 5, .level = 0.9, .bins = 1};
    const BootstrapIntervals got = intervals_of(collective, &set.logits, 0.5, &options, 0);
    const double width = 2 * 1.6448536 * deviation;
    assert_true(fabs(got.ece.upper - got.ece.lower - width) < 0.06 * width);
    assert_true(fabs((got.ece.upper + got.ece.lower) / 2 - fabs(mean)) < 0.06 * width);
    set_close(&set);
}

static void test_edge_cases(void **state)
{
    (void)state;
    LogitSet one = golden_set("single_k10_n1"), set = golden_set("k10_n64");
    BootstrapOptions options = {.replicates = 3, .seed = 1, .level = 0.9, .bins = 15};
    static Calibration measured;
    CalibrationScores scores;
    assert_ok(calibration_measure(collective, &one.logits, 1, 15, 0, &measured, &scores));
    calibration_scores_free(&scores);
    const BootstrapIntervals single = intervals_of(collective, &one.logits, 1, &options, 0);
    assert_close(&single.ece.lower, &measured.ece, 1, 1e-12, 0, "the only sample");
    assert_true(single.ece.lower == single.ece.upper);
    assert_true(single.ada_ece.upper == 0);

    const BootstrapIntervals first = intervals_of(collective, &set.logits, 1, &options, 0);
    options.seed = 2;
    const BootstrapIntervals second = intervals_of(collective, &set.logits, 1, &options, 0);
    assert_memory_not_equal(&first, &second, sizeof first);
    assert_true(first.ece.lower < first.ece.upper);
    options.replicates = 1;
    const BootstrapIntervals point = intervals_of(collective, &set.logits, 1, &options, 0);
    assert_true(point.ece.lower == point.ece.upper);

    assert_ok(calibration_measure(collective, &set.logits, 1, 15, 0, &measured, &scores));
    BootstrapIntervals unused;
    options.replicates = 0;
    assert_fails(bootstrap_intervals(collective, &set.logits, 1, &measured, &scores, &options, 0, &unused),
                 STATUS_USAGE, "0 bootstrap replicates");
    options.replicates = 1;
    options.bins = 0;
    assert_fails(bootstrap_intervals(collective, &set.logits, 1, &measured, &scores, &options, 0, &unused),
                 STATUS_USAGE, "0 bins");
    calibration_scores_free(&scores);
    set_close(&one);
    set_close(&set);
}

int main(int argc, char **argv)
{
    Status status = comm_start(&argc, &argv, &world);
    if (status == OK) status = comm_collective(world, 60, &collective);
    if (status == OK) status = collective_self(&alone);
    if (status != OK) comm_abort(world, status);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resamples),
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_width),
        cmocka_unit_test(test_edge_cases),
    };
    const int failures = cmocka_run_group_tests(tests, NULL, NULL);
    if (failures > 0) return 1; /* the ranks may be out of step: leave it to mpirun to end the others */
    collective_free(alone);
    collective_free(collective);
    comm_stop(world);
    return 0;
}
