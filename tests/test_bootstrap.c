/* Bootstrap intervals against resamples made and measured one by one, at any number of ranks and threads. */
#include "tests/evaluation_support.h"

#include "engine/base/random.h"
#include "losses/calibration/bootstrap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static World *world;
static Collective *collective, *alone;

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
        LogitSet set = set_example(world, cases[c].name);
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

/* Overconfident logits; rounded ones have many equal confidences. */
enum { MADE = 9000, MADE_CLASSES = 6 };
static float made_values[MADE][MADE_CLASSES];
static uint8_t made_labels[MADE];

static Logits made_logits(bool rounded)
{
    RandomStream random = random_stream(21, RANDOM_TEST, rounded);
    for (int row = 0; row < MADE; ++row) {
        made_labels[row] = (uint8_t)(random_uniform(&random) * MADE_CLASSES);
        for (int k = 0; k < MADE_CLASSES; ++k) {
            const double value = 2 * random_normal(&random) + (k == made_labels[row] ? 2 : 0);
            made_values[row][k] = (float)(rounded ? floor(value) : value);
        }
    }
    return (Logits){.name = "made",
                    .type = FLOAT32,
                    .values = made_values,
                    .label_type = UINT8,
                    .labels = made_labels,
                    .count = MADE,
                    .total = MADE,
                    .classes = MADE_CLASSES};
}

static Logits share_of(const Logits *whole)
{
    Logits share = *whole;
    share_of_rank(whole->total, world->rank, world->size, &share.first, &share.count);
    share.values = made_values[share.first];
    share.labels = made_labels + share.first;
    return share;
}

/* Copies the rows of the groups that a replicate draws; returns how many. */
static int64_t resample_groups(const Logits *whole, uint64_t seed, int replicate, float *values,
                               int64_t *labels)
{
    static int64_t shuffled[MADE];
    int64_t rows = 0;
    for (int64_t i = 0; i < MADE; ++i)
        shuffled[i] = i;
    random_shuffle(seed, RANDOM_BOOTSTRAP, UINT64_MAX, shuffled, MADE);
    for (int64_t d = 0; d < BOOTSTRAP_GROUPS; ++d) {
        const RandomBlock random =
            random_block(seed, RANDOM_BOOTSTRAP, (uint64_t)replicate, (uint64_t)(d / 2));
        const uint64_t bits = random.word[d % 2 * 2] | (uint64_t)random.word[d % 2 * 2 + 1] << 32;
        for (int64_t i = (int64_t)((unsigned __int128)bits * BOOTSTRAP_GROUPS >> 64); i < MADE;
             i += BOOTSTRAP_GROUPS) {
            memcpy(values + rows * MADE_CLASSES, made_values[shuffled[i]], sizeof made_values[0]);
            labels[rows++] = logits_label(whole, shuffled[i]);
        }
    }
    return rows;
}

/* Resamples of groups, made and measured one by one, at any number of ranks and threads. */
static void test_groups(void **state)
{
    (void)state;
    enum { COUNT = 21 };
    float *values = malloc(2 * sizeof made_values);
    int64_t *labels = malloc(2 * MADE * sizeof *labels);
    assert_non_null(values);
    assert_non_null(labels);
    for (int kind = 0; kind < 3; ++kind) {
        const Logits whole = made_logits(kind == 1), mine = share_of(&whole);
        const BootstrapOptions options = {.replicates = COUNT,
                                          .seed = 5,
                                          .level = 0.9,
                                          .bins = kind == 2 ? 200 : 15,
                                          .by_groups = BOOTSTRAP_YES};
        const BootstrapIntervals got = intervals_of(collective, &mine, 0.8, &options, 2);
        const BootstrapIntervals want = intervals_of(alone, &whole, 0.8, &options, 1);
        assert_memory_equal(&got.ece, &want.ece, sizeof got.ece);
        assert_memory_equal(&got.ada_ece, &want.ada_ece, sizeof got.ada_ece);
        assert_memory_equal(&got.classwise_ece, &want.classwise_ece, sizeof got.classwise_ece);
        assert_int_equal(got.groups, BOOTSTRAP_GROUPS);
        double ece[COUNT], adaptive[COUNT], classwise[COUNT];
        for (int r = 0; r < COUNT; ++r) {
            Logits drawn = whole;
            drawn.values = values;
            drawn.labels = labels;
            drawn.label_type = INT64;
            drawn.count = drawn.total = resample_groups(&whole, options.seed, r, values, labels);
            assert_in_range(drawn.total, MADE - 500, MADE + 500);
            static Calibration measured;
            assert_ok(calibration_measure(alone, &drawn, 0.8, options.bins, 2, &measured, NULL));
            ece[r] = measured.ece;
            adaptive[r] = measured.ada_ece;
            classwise[r] = measured.classwise_ece_all;
        }
        assert_interval(got.ece, ece, COUNT, options.level, "ece of groups");
        assert_interval(got.ada_ece, adaptive, COUNT, options.level, "ada_ece of groups");
        assert_interval(got.classwise_ece, classwise, COUNT, options.level, "classwise_ece of groups");
    }
    free(values);
    free(labels);
}

static void assert_alike(Interval got, Interval want, const char *what)
{
    const double width = want.upper - want.lower;
    assert_close(&got.lower, &want.lower, 1, 0, 0.12 * width, what);
    assert_close(&got.upper, &want.upper, 1, 0, 0.12 * width, what);
}

/* Both kinds of resample give the same intervals, but for what 1000 resamples leave open. The rows are sorted by class,
 * as files often are. */
static void test_groups_against_samples(void **state)
{
    (void)state;
    Logits whole = made_logits(false);
    static float sorted[MADE][MADE_CLASSES];
    static uint8_t labels[MADE];
    int64_t rows = 0;
    for (int label = 0; label < MADE_CLASSES; ++label)
        for (int row = 0; row < MADE; ++row) {
            if (made_labels[row] != label) continue;
            memcpy(sorted[rows], made_values[row], sizeof sorted[0]);
            labels[rows++] = (uint8_t)label;
        }
    memcpy(made_values, sorted, sizeof sorted);
    memcpy(made_labels, labels, sizeof labels);
    const Logits mine = share_of(&whole);
    BootstrapOptions options = {.replicates = 1000, .seed = 3, .level = 0.9, .bins = 15};
    const BootstrapIntervals samples = intervals_of(collective, &mine, 1, &options, 0);
    assert_int_equal(samples.groups, 0);
    options.by_groups = BOOTSTRAP_YES;
    const BootstrapIntervals groups = intervals_of(collective, &mine, 1, &options, 0);
    assert_alike(groups.ece, samples.ece, "ece");
    assert_alike(groups.ada_ece, samples.ada_ece, "ada_ece");
    assert_alike(groups.classwise_ece, samples.classwise_ece, "classwise_ece");

    /* Without the logits: Classwise-ECE has no interval, the others are what they were but for the samples' numbers. */
    static Calibration measured;
    CalibrationScores scores;
    BootstrapIntervals streamed, again;
    assert_ok(calibration_measure(collective, &mine, 1, options.bins, 0, &measured, &scores));
    for (int by_groups = 0; by_groups < 2; ++by_groups) {
        options.by_groups = by_groups ? BOOTSTRAP_YES : BOOTSTRAP_NO;
        assert_ok(bootstrap_intervals(collective, NULL, 1, &measured, &scores, &options, 2, &streamed));
        assert_false(streamed.has_classwise);
        assert_alike(streamed.ece, samples.ece, "ece of scores");
        assert_alike(streamed.ada_ece, samples.ada_ece, "ada_ece of scores");
        /* Whichever rank has which samples, and in whatever order. */
        CalibrationScores reversed = {.count = scores.count,
                                      .signed_confidence = malloc((size_t)scores.count * sizeof(double))};
        for (int64_t i = 0; i < scores.count; ++i)
            reversed.signed_confidence[i] = scores.signed_confidence[scores.count - 1 - i];
        assert_ok(bootstrap_intervals(collective, NULL, 1, &measured, &reversed, &options, 1, &again));
        assert_memory_equal(&again.ece, &streamed.ece, sizeof again.ece);
        assert_memory_equal(&again.ada_ece, &streamed.ada_ece, sizeof again.ada_ece);
        calibration_scores_free(&reversed);
    }
    calibration_scores_free(&scores);
}

/* Every sample four times, on whichever rank: drawn together they say no more than once. */
static void test_clusters(void **state)
{
    (void)state;
    enum { COUNT = 600, TIMES = 4 };
    Logits whole = made_logits(false);
    whole.count = whole.total = COUNT;
    const Logits mine = share_of(&whole);
    static Calibration measured, repeated;
    CalibrationScores scores, more = {.count = 0};
    BootstrapOptions options = {.replicates = 500, .seed = 3, .level = 0.9, .bins = 15, .clusters = COUNT};
    BootstrapIntervals one_by_one, once, together, apart;
    assert_ok(calibration_measure(collective, &mine, 1, options.bins, 0, &measured, &scores));
    more.signed_confidence = malloc((size_t)scores.count * TIMES * sizeof(double) + 1);
    int32_t *cluster = malloc((size_t)scores.count * sizeof *cluster + 1);
    int32_t *cluster_of_more = malloc((size_t)scores.count * TIMES * sizeof *cluster + 1);
    assert_true(more.signed_confidence != NULL && cluster != NULL && cluster_of_more != NULL);
    for (int64_t i = 0; i < scores.count; ++i) {
        cluster[i] = (int32_t)(mine.first + i);
        for (int t = 0; t < TIMES; ++t) {
            cluster_of_more[more.count] = cluster[i];
            more.signed_confidence[more.count++] = scores.signed_confidence[i];
        }
    }
    repeated = measured;
    repeated.samples = (int64_t)COUNT * TIMES;
    assert_ok(bootstrap_intervals(collective, NULL, 1, &measured, &scores, &options, 1, &one_by_one));
    options.cluster = cluster;
    assert_ok(bootstrap_intervals(collective, NULL, 1, &measured, &scores, &options, 1, &once));
    options.cluster = cluster_of_more;
    assert_ok(bootstrap_intervals(collective, NULL, 1, &repeated, &more, &options, 2, &together));
    options.cluster = NULL;
    assert_ok(bootstrap_intervals(collective, NULL, 1, &repeated, &more, &options, 1, &apart));
    assert_int_equal(once.groups, COUNT);
    const double width = once.ece.upper - once.ece.lower;
    assert_close(&together.ece.lower, &once.ece.lower, 1, 1e-9, 0, "clusters of four");
    assert_close(&together.ece.upper, &once.ece.upper, 1, 1e-9, 0, "clusters of four");
    assert_true(fabs(one_by_one.ece.upper - one_by_one.ece.lower - width) < 0.25 * width);
    assert_true(apart.ece.upper - apart.ece.lower <
                0.65 * width); /* as if they said something of their own */
    /* The same bits on one rank. */
    CalibrationScores all;
    int32_t number[COUNT];
    for (int i = 0; i < COUNT; ++i)
        number[i] = i;
    assert_ok(calibration_measure(alone, &whole, 1, options.bins, 0, &measured, &all));
    options.cluster = number;
    assert_ok(bootstrap_intervals(alone, NULL, 1, &measured, &all, &options, 1, &apart));
    assert_memory_equal(&apart.ece, &once.ece, sizeof once.ece);
    assert_memory_equal(&apart.ada_ece, &once.ada_ece, sizeof once.ada_ece);
    calibration_scores_free(&all);
    calibration_scores_free(&scores);
    calibration_scores_free(&more);
    free(cluster);
    free(cluster_of_more);
}

static void count_progress(void *context, double done)
{
    double *last = context;
    assert_true(done >= *last && done <= 1);
    *last = done;
}

/* What is done without being asked for, and what can be asked for. */
static void test_choices(void **state)
{
    (void)state;
    LogitSet set = set_example(world, "k10_n128");
    double done = 0;
    BootstrapOptions options = {.replicates = 40,
                                .seed = 1,
                                .level = 0.9,
                                .bins = 15,
                                .classwise = BOOTSTRAP_NO,
                                .progress = count_progress,
                                .context = &done};
    const BootstrapIntervals without = intervals_of(collective, &set.logits, 1, &options, 1);
    if (world->rank < 3) assert_true(done > 0); /* of three blocks of replicates */
    assert_false(without.has_classwise);
    assert_true(without.bytes == 17 * 128);
    options.classwise = BOOTSTRAP_AS_FITS;
    done = 0;
    const BootstrapIntervals with = intervals_of(collective, &set.logits, 1, &options, 1);
    assert_true(with.has_classwise && with.classwise_ece.upper > 0);
    assert_memory_equal(&with.ece, &without.ece, sizeof with.ece);
    assert_memory_equal(&with.ada_ece, &without.ada_ece, sizeof with.ada_ece);
    set_close(&set);
}

static void test_same_bits(void **state)
{
    (void)state;
    LogitSet set = set_example(world, "k100_n2000");
    const Logits whole = rows_of(&set, 0, set.logits.total);
    const BootstrapOptions options = {.replicates = 100, .seed = 1, .level = 0.9, .bins = 15};
    const BootstrapIntervals want = intervals_of(alone, &whole, 1, &options, 1);
    for (int threads = 1; threads <= 3; ++threads) {
        const BootstrapIntervals got = intervals_of(collective, &set.logits, 1, &options, threads);
        assert_memory_equal(&got.ece, &want.ece, sizeof got.ece);
        assert_memory_equal(&got.ada_ece, &want.ada_ece, sizeof got.ada_ece);
        assert_memory_equal(&got.classwise_ece, &want.classwise_ece, sizeof got.classwise_ece);
        assert_true(got.has_classwise == want.has_classwise && got.groups == want.groups &&
                    got.bytes == want.bytes);
    }
    set_close(&set);
}

/* The bootstrap's spread of the ECE against what the central limit theorem says for one bin, where
 * ECE = |mean of (confidence - correct)|. */
static void test_width(void **state)
{
    (void)state;
    LogitSet set = set_example(world, "k10_n4096");
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
    LogitSet one = set_example(world, "single_k10_n1"), set = set_example(world, "k10_n64");
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
        cmocka_unit_test(test_resamples),  cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_groups),     cmocka_unit_test(test_groups_against_samples),
        cmocka_unit_test(test_choices),    cmocka_unit_test(test_width),
        cmocka_unit_test(test_edge_cases), cmocka_unit_test(test_clusters),
    };
    const int failures = cmocka_run_group_tests(tests, NULL, NULL);
    if (failures > 0) return 1; /* the ranks may be out of step: leave it to mpirun to end the others */
    collective_free(alone);
    collective_free(collective);
    comm_stop(world);
    return 0;
}
