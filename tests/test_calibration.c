/* The calibration metrics, the temperature search and what they are made of, at any number of ranks and threads. */
#include "tests/evaluation_support.h"

#include "engine/base/random.h"
#include "engine/device/device.h"
#include "losses/calibration/calibration.h"
#include "losses/calibration/exact_sum.h"
#include "losses/calibration/norm_sums.h"
#include "losses/calibration/order_statistics.h"
#include "losses/calibration/temperature.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static World *world;
static Collective *collective;

static const char *const sets[] = {"k2_n64",         "k2_n1000",           "k10_n64",
                                   "k10_n128",       "k10_n4096",          "k100_n128",
                                   "k100_n2000",     "k200_n64",           "k200_n1005",
                                   "single_k10_n1",  "allcorrect_k10_n45", "allwrong_k10_n37",
                                   "ties_k10_n48",   "extreme_k10_n64",    "two_samples_k2_n2",
                                   "two_right_k2_n2"};
enum { SETS = sizeof sets / sizeof *sets, BINS = 15 };

/* Bit for bit the same as one thread of one rank. */
static void test_same_bits(void **state)
{
    (void)state;
    Collective *alone;
    assert_ok(collective_self(&alone));
    for (int s = 0; s < SETS; ++s) {
        LogitSet set = set_example(world, sets[s]);
        const Logits whole = rows_of(&set, 0, set.logits.total);
        static Calibration want, got;
        static TemperatureSearch wanted_search, search;
        assert_ok(calibration_measure(alone, &whole, 1.3, BINS, 1, &want, NULL));
        assert_ok(temperature_search(alone, &whole, temperature_published, BINS, 1, &wanted_search));
        for (int threads = 1; threads <= 3; ++threads) {
            assert_ok(calibration_measure(collective, &set.logits, 1.3, BINS, threads, &got, NULL));
            assert_memory_equal(&got, &want, sizeof got);
            assert_ok(
                temperature_search(collective, &set.logits, temperature_published, BINS, threads, &search));
            assert_memory_equal(&search, &wanted_search, sizeof search);
        }
        set_close(&set);
    }
    collective_free(alone);
}

/* Where the definitions beyond the published code's are easily written down again. */
static void test_other_metrics(void **state)
{
    (void)state;
    LogitSet set = set_example(world, "k10_n4096");
    const Logits whole = rows_of(&set, 0, set.logits.total);
    static Calibration measured;
    assert_ok(calibration_measure(collective, &set.logits, 1, BINS, 0, &measured, NULL));
    double brier = 0, s99_correct = 0;
    for (int64_t row = 0; row < whole.total; ++row) {
        const float *x = (const float *)whole.values + row * whole.classes;
        const int64_t label = logits_label(&whole, row);
        double sum = 0, most = -INFINITY;
        int64_t first = 0;
        for (int64_t k = 0; k < whole.classes; ++k) {
            if ((double)x[k] > most) most = (double)x[k], first = k;
        }
        for (int64_t k = 0; k < whole.classes; ++k)
            sum += exp((double)x[k] - most);
        for (int64_t k = 0; k < whole.classes; ++k) {
            const double gap = exp((double)x[k] - most) / sum - (k == label);
            brier += gap * gap / (double)whole.total;
        }
        if (1 / sum >= 0.99) s99_correct += first == label;
    }
    assert_close(&measured.brier, &brier, 1, 1e-11, 0, "Brier score");
    s99_correct /= (double)measured.s99_count;
    assert_close(&measured.s99_accuracy, &s99_correct, 1, 1e-14, 0, "accuracy of s99");

    /* The debiased errors, the first by drawing accuracies as its definition says. */
    double drawn = 0, l2 = 0;
    enum { DRAWS = 20000 };
    RandomStream random = random_stream(7, RANDOM_TEST, 0);
    for (int b = 0; b < BINS; ++b) {
        const CalibrationBin *bin = &measured.bin[b];
        if (bin->count == 0) continue;
        const double variance = bin->accuracy * (1 - bin->accuracy), share = (double)bin->count / 4096;
        double mean = 0;
        for (int i = 0; i < DRAWS; ++i)
            mean += fabs(bin->accuracy + sqrt(variance / (double)bin->count) * random_normal(&random) -
                         bin->confidence);
        const double gap = fabs(bin->accuracy - bin->confidence);
        drawn += share * (2 * gap - mean / DRAWS);
        if (bin->count > 1) l2 += share * (gap * gap - variance / (double)(bin->count - 1));
    }
    l2 = sqrt(fmax(l2, 0));
    assert_close(&measured.ece_debiased, &drawn, 1, 0, 2e-4, "debiased ece");
    assert_true(measured.ece_debiased < measured.ece);
    assert_close(&measured.ece_l2_debiased, &l2, 1, 1e-6, 0, "debiased l2");
    set_close(&set);
}

/* Logits of 64 bits that 32 bits cannot tell apart: the prediction is still that of the file. */
static void test_double_logits(void **state)
{
    (void)state;
    const double values[] = {1, 1 + 1e-12, 0, /**/ 5e300, -5e300, 0, /**/ -1e4, -1e4, -1e4 - 1e-9};
    const uint8_t labels[] = {1, 0, 1};
    const Logits logits = {.name = "three",
                           .type = FLOAT64,
                           .values = values,
                           .label_type = UINT8,
                           .labels = labels,
                           .count = 3,
                           .total = 3,
                           .classes = 3};
    Collective *alone;
    assert_ok(collective_self(&alone));
    static Calibration measured;
    assert_ok(calibration_measure(alone, &logits, 1, BINS, 1, &measured, NULL));
    const double third = 1.0 / 3;
    assert_close(&measured.error, &third, 1, 1e-15, 0, "error");
    const double nll = (log(2 + exp(-1)) + 0 + log(3)) / 3;
    assert_close(&measured.nll, &nll, 1, 1e-9, 0, "nll");
    collective_free(alone);
}

/* Single precision is for sets too large for a test: here it must only come close. */
static void test_temperature_float(void **state)
{
    (void)state;
    static const char *const names[] = {"k2_n1000", "k100_n128", "k200_n64", "k10_n4096", "k100_n2000"};
    for (size_t i = 0; i < sizeof names / sizeof *names; ++i) {
        LogitSet set = set_example(world, names[i]);
        static TemperatureSearch exact, quick;
        assert_ok(
            temperature_curves(collective, &set.logits, temperature_published, BINS, 0, FLOAT64, &exact));
        assert_ok(
            temperature_curves(collective, &set.logits, temperature_published, BINS, 0, FLOAT32, &quick));
        assert_close(quick.nll, exact.nll, TEMPERATURE_COUNT, 1e-6, 2e-7, names[i]);
        assert_close(quick.ece, exact.ece, TEMPERATURE_COUNT, 0, 1e-6, names[i]);
        assert_memory_not_equal(quick.nll, exact.nll, sizeof exact.nll);
        set_close(&set);
    }
}

/* Rows that lie on an edge together are all in another bin in single precision: the curve says how far to trust it. */
static void test_temperature_on_an_edge(void **state)
{
    (void)state;
    enum { ROWS = 1000, AT_ONE = 9 };
    static float values[2 * ROWS];
    static uint8_t labels[ROWS];
    for (int i = 0; i < ROWS; ++i) {
        values[2 * i] = i % 2 == 0 ? 0.693146884F : 0.85F; /* of the first the confidence is 2/3, an edge */
        labels[i] = (uint8_t)(i % 2);
    }
    Logits logits = {.name = "edge",
                     .type = FLOAT32,
                     .values = values,
                     .label_type = UINT8,
                     .labels = labels,
                     .count = ROWS,
                     .total = ROWS,
                     .classes = 2};
    Collective *alone;
    assert_ok(collective_self(&alone));
    TemperatureSearch exact, quick;
    assert_ok(temperature_curves(alone, &logits, temperature_published, BINS, 1, FLOAT64, &exact));
    assert_ok(temperature_curves(alone, &logits, temperature_published, BINS, 1, FLOAT32, &quick));
    for (int t = 0; t < TEMPERATURE_COUNT; ++t)
        assert_true(fabs(exact.ece[t] - quick.ece[t]) <= 1e-5 + 2 * quick.close[t]);
    assert_true(quick.close[AT_ONE] == 0.5);
    assert_true(quick.close[AT_ONE + 1] == 0);
    collective_free(alone);
}

/* All temperatures of the search against the metrics, which compute each on its own. */
static void test_temperature_matches_metrics(void **state)
{
    (void)state;
    static const char *const names[] = {"k2_n1000",     "k100_n128",     "k200_n64",
                                        "ties_k10_n48", "single_k10_n1", "extreme_k10_n64"};
    for (size_t i = 0; i < sizeof names / sizeof *names; ++i) {
        LogitSet set = set_example(world, names[i]);
        static TemperatureSearch search;
        static Calibration measured;
        assert_ok(temperature_search(collective, &set.logits, temperature_published, 10, 0, &search));
        for (int t = 0; t < TEMPERATURE_COUNT; ++t) {
            assert_ok(
                calibration_measure(collective, &set.logits, search.temperature[t], 10, 0, &measured, NULL));
            assert_close(&search.nll[t], &measured.nll, 1, 1e-11, 1e-12, names[i]);
            assert_close(&search.ece[t], &measured.ece, 1, 1e-11, 1e-12, names[i]);
            assert_true(search.nll[search.best_nll] <= measured.nll + 1e-11);
        }
        set_close(&set);
    }
}

/* Any grid gives what the metrics give at each of its temperatures, and the published one what it always gives. */
static void test_temperature_grid(void **state)
{
    (void)state;
    static const TemperatureGrid grids[] = {
        {0.05, 0.4, 0.05}, {8, 40, 4}, {0.37, 6.1, 1.9}, {2, 2, 1}, {0.1, 12, 0.1}};
    static const int counts[] = {8, 9, 4, 1, 120};
    static TemperatureSearch search, published;
    static Calibration measured;
    LogitSet set = set_example(world, "k10_n128");
    assert_ok(temperature_search(collective, &set.logits, temperature_published, BINS, 0, &published));
    for (size_t g = 0; g < sizeof grids / sizeof *grids; ++g) {
        assert_ok(temperature_search(collective, &set.logits, grids[g], BINS, 0, &search));
        assert_int_equal(search.count, counts[g]);
        for (int t = 0; t < search.count; ++t) {
            assert_ok(calibration_measure(collective, &set.logits, search.temperature[t], BINS, 0, &measured,
                                          NULL));
            assert_close(&search.nll[t], &measured.nll, 1, 1e-11, 1e-12, "NLL of a grid");
            assert_close(&search.ece[t], &measured.ece, 1, 1e-11, 1e-12, "ECE of a grid");
            assert_true(search.nll[search.best_nll] <= search.nll[t] &&
                        search.ece[search.best_ece] <= search.ece[t]);
        }
    }
    assert_memory_equal(search.temperature, published.temperature, TEMPERATURE_COUNT * sizeof(double));
    set_close(&set);

    static const struct {
        const char *text, *message;
    } bad[] = {{"0.1:10", "FIRST:LAST:STEP"},  {"0.1:10:0.1:1", "FIRST:LAST:STEP"},
               {"", "FIRST:LAST:STEP"},        {"0.1:10:x", "FIRST:LAST:STEP"},
               {"0:10:0.1", "at least 0.001"}, {"-1:10:0.1", "at least 0.001"},
               {"5:4:0.1", "not below"},       {"1:2:0", "step positive"},
               {"1:nan:1", "the last"},        {"0.001:10:0.001", "more than 1000"}};
    TemperatureGrid grid;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; ++i)
        assert_fails(temperature_grid_parse(bad[i].text, &grid), STATUS_USAGE, bad[i].message);
    assert_ok(temperature_grid_parse("0.1:10:0.1", &grid));
    assert_memory_equal(&grid, &temperature_published, sizeof grid);
}

static int compare_doubles(const void *a, const void *b)
{
    const double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static void test_order_statistics(void **state)
{
    (void)state;
    enum { COUNT = 10007 };
    static double numbers[COUNT], sorted[COUNT];
    for (int kind = 0; kind < 3; ++kind) {
        RandomStream random = random_stream(3, RANDOM_TEST, (uint64_t)kind);
        for (int i = 0; i < COUNT; ++i) {
            numbers[i] = random_uniform(&random);
            if (kind == 1) numbers[i] = floor(numbers[i] * 10) / 10; /* many equal ones */
            if (kind == 2) numbers[i] = exp(600 * (numbers[i] - 0.5));
        }
        memcpy(sorted, numbers, sizeof sorted);
        qsort(sorted, COUNT, sizeof *sorted, compare_doubles);
        const int64_t position[] = {COUNT - 1, 0, 1, 5000, 5001, 17, 17, 9999};
        double got[8];
        int64_t first, count;
        share_of_rank(COUNT, world->rank, world->size, &first, &count);
        assert_ok(order_statistics(collective, numbers + first, count, position, 8, 0, got));
        for (int i = 0; i < 8; ++i)
            assert_true(got[i] == sorted[position[i]]);
    }
}

static void test_exact_sums(void **state)
{
    (void)state;
    ExactSum sums[3] = {0};
    if (world->rank == 0) {
        exact_sum_add(&sums[0], 1e12);
        exact_sum_add(&sums[1], -0.75);
    }
    exact_sum_add(&sums[0], 0x1p-56);
    exact_sum_add(&sums[1], -3.5 * world->rank);
    if (world->rank == world->size - 1) exact_sum_add(&sums[0], -1e12);
    exact_sum_add(&sums[2], -0x1p40);
    assert_ok(exact_sum_reduce(collective, sums, 3));
    assert_true(exact_sum_value(sums[0]) == 0x1p-56 * world->size);
    assert_true(exact_sum_value(sums[1]) == -0.75 - 3.5 * (world->size * (world->size - 1) / 2));
    assert_true(exact_sum_value(sums[2]) == -0x1p40 * world->size);
}

/* Terms without a bound: the mean is exact to rounding, whatever the order and the ranks. */
static void test_large_sums(void **state)
{
    (void)state;
    static const double terms[][4] = {{7.3e37, 3, 0.25, 0},
                                      {0x1.8p41, 0x1p-50, 5e11, 1},
                                      {1.7e308, 1.7e308, 1e300, 0},
                                      {2e12, 2e12, 2e12, 2e12},
                                      {1, 2, 3, 4},
                                      {INFINITY, 1, 3e20, INFINITY}};
    for (size_t c = 0; c < sizeof terms / sizeof *terms; ++c) {
        ExactSum near = {0};
        LargeSum large = {{0}, 0, 0};
        double want = 0;
        int64_t infinite = 0, big = 0;
        for (int i = 3; i >= 0; --i) {
            const double term = terms[c][i];
            want += term / 4;
            infinite += isinf(term);
            big += large_sum_takes(term);
            if (i % world->size != world->rank) continue;
            if (large_sum_takes(term))
                large_sum_add(&large, term);
            else
                exact_sum_add(&near, term);
        }
        assert_ok(exact_sum_reduce(collective, &near, 1));
        assert_ok(large_sum_reduce(collective, &large, 1));
        assert_int_equal(large.infinite, infinite);
        assert_int_equal(large.terms, big);
        const double got = large_sum_mean(near, &large, 4);
        if (infinite > 0)
            assert_true(got == INFINITY);
        else
            assert_close(&got, &want, 1, 1e-15, 0, "mean of large terms");
    }
}

/* Norms of samples that ranks share have the sums of one rank; what is no number, or beyond the sum, is counted. */
static void test_norm_sums(void **state)
{
    (void)state;
    enum { ROWS = 301, CLASSES = 7 };
    static float logits[ROWS * CLASSES], weights[ROWS];
    static int32_t labels[ROWS];
    static double features[ROWS], norm[ROWS], row[3 * CLASSES];
    const LossHead head = {.form = SAMPLE_FOCAL, .gamma = {.gamma = {3}}};
    NormSums whole = {.samples = {0}}, mine = {.samples = {0}};
    double mean = 0, gradients = 0;
    int64_t counted = 0, first, count;
    for (int i = 0; i < ROWS; ++i) {
        features[i] = 0.37 * ((i * 7919) % 101);
        labels[i] = i % CLASSES;
        weights[i] = i % 5 != 0;
        for (int k = 0; k < CLASSES; ++k)
            logits[i * CLASSES + k] = (float)((i * 31 + k * 77) % 53) * 0.2F;
        if (weights[i] == 0) features[i] = NAN;
    }
    for (int threads = 1; threads <= 3; ++threads) {
        const GradientRows rows = {logits, labels, weights, features, ROWS, CLASSES};
        gradient_norms(&head, 0, &rows, threads, row, norm);
        for (int i = 0; i < ROWS; ++i) {
            double own[CLASSES];
            const float read = (float)features[i];
            for (int k = 0; k < CLASSES; ++k)
                own[k] = (double)logits[i * CLASSES + k];
            const double want =
                weights[i] == 0 ? 0 : gradient_norm(&head, 0, own, CLASSES, labels[i], &read, 1).layer;
            assert_true(fabs(norm[i] - want) <= 1e-6 * want); /* `read` is rounded */
        }
    }
    norm_sums_add(&whole, NORM_FEATURES, features, weights, ROWS);
    norm_sums_add(&whole, NORM_GRADIENT, norm, weights, ROWS);
    share_of_rank(ROWS, world->rank, world->size, &first, &count);
    norm_sums_add(&mine, NORM_FEATURES, features + first, weights + first, count);
    norm_sums_add(&mine, NORM_GRADIENT, norm + first, weights + first, count);
    assert_ok(norm_sums_reduce(collective, &mine));
    assert_memory_equal(&mine, &whole, sizeof mine);
    for (int i = 0; i < ROWS; ++i) {
        if (weights[i] == 0) continue;
        ++counted;
        mean += features[i];
        gradients += norm[i];
    }
    assert_int_equal(whole.samples[NORM_GRADIENT], counted);
    assert_float_equal(norm_sums_mean(&whole, NORM_FEATURES), mean / (double)counted, 1e-12);
    assert_float_equal(norm_sums_mean(&whole, NORM_GRADIENT), gradients / (double)counted, 1e-12);
    assert_true(isnan(norm_sums_mean(&whole, NORM_LOGITS)));
    int64_t in_bins = 0;
    for (int bin = 0; bin < NORM_BINS; ++bin)
        in_bins += whole.bin[bin];
    assert_int_equal(in_bins, counted);
    const double odd[] = {1, NAN, INFINITY, 1e300, 2};
    const float all[] = {1, 1, 1, 1, 1};
    norm_sums_add(&whole, NORM_GRADIENT, odd, all, 5);
    assert_int_equal(whole.beyond[NORM_GRADIENT], 3);
    assert_int_equal(whole.bin[NORM_BINS - 1], mine.bin[NORM_BINS - 1] + 2); /* NaN is in no bin */
    assert_true(isnan(norm_sums_mean(&whole, NORM_GRADIENT)));
}

/* Logits of -infinity are as good as classes that are not there, and a label on one has an infinite NLL. */
static void test_masked_classes(void **state)
{
    (void)state;
    enum { ROWS = 600, CLASSES = 7, MASKED = 2 };
    static float with[ROWS][CLASSES], without[ROWS][CLASSES - 1];
    static int32_t labels[ROWS], fewer[ROWS];
    RandomStream random = random_stream(5, RANDOM_TEST, 1);
    for (int row = 0; row < ROWS; ++row) {
        for (int k = 0; k < CLASSES; ++k) {
            with[row][k] = k == MASKED ? -INFINITY : (float)(4 * random_uniform(&random));
            if (k != MASKED) without[row][k - (k > MASKED)] = with[row][k];
        }
        fewer[row] = row % (CLASSES - 1);
        labels[row] = fewer[row] + (fewer[row] >= MASKED);
    }
    int64_t first, count;
    share_of_rank(ROWS, world->rank, world->size, &first, &count);
    Logits masked = {.name = "masked",
                     .type = FLOAT32,
                     .values = with[first],
                     .label_type = INT32,
                     .labels = labels + first,
                     .count = count,
                     .first = first,
                     .total = ROWS,
                     .classes = CLASSES};
    Logits left = masked;
    left.values = without[first];
    left.labels = fewer + first;
    left.classes = CLASSES - 1;
    static Calibration got, want;
    assert_ok(logits_check(&masked, 1));
    assert_ok(calibration_measure(collective, &masked, 0.7, BINS, 2, &got, NULL));
    assert_ok(calibration_measure(collective, &left, 0.7, BINS, 2, &want, NULL));
    assert_memory_equal(got.adaptive_bin, want.adaptive_bin, sizeof got.adaptive_bin);
    assert_true(got.nll == want.nll && got.brier == want.brier && got.mean_entropy == want.mean_entropy);
    assert_true(got.ece == want.ece && got.mce == want.mce && got.ada_ece == want.ada_ece);
    assert_int_equal(got.large_nll_count, 0);
    assert_int_equal(got.large_nll_row, -1);
    static TemperatureSearch of_masked, of_left;
    assert_ok(temperature_curves(collective, &masked, temperature_published, BINS, 1, FLOAT64, &of_masked));
    assert_ok(temperature_curves(collective, &left, temperature_published, BINS, 1, FLOAT64, &of_left));
    assert_close(of_masked.nll, of_left.nll, TEMPERATURE_COUNT, 1e-13, 0, "NLL by temperature");
    assert_close(of_masked.ece, of_left.ece, TEMPERATURE_COUNT, 1e-12, 1e-14, "ECE by temperature");

    labels[417] = labels[33] = MASKED;
    assert_ok(calibration_measure(collective, &masked, 0.7, BINS, 2, &got, NULL));
    assert_true(got.nll == INFINITY && got.nll_misclassified == INFINITY);
    assert_true(isfinite(got.nll_correct) && isfinite(got.ece) && isfinite(got.brier));
    assert_int_equal(got.infinite_nll_count, 2);
    assert_int_equal(got.large_nll_row, 33);

    /* They have no say in the temperature. */
    TemperatureSearch of_few = of_masked;
    assert_ok(temperature_search(collective, &masked, temperature_published, BINS, 1, &of_few));
    assert_int_equal(of_few.infinite_nll_count, 2);
    assert_true(of_few.nll[0] == INFINITY && of_few.nll[TEMPERATURE_COUNT - 1] == INFINITY);
    assert_in_range(of_few.best_nll, of_masked.best_nll - 1, of_masked.best_nll + 1);
}

/* A label with the logit -1e30 or the type's minimum: its loss is what it is. */
static void test_large_losses(void **state)
{
    (void)state;
    enum { ROWS = 5 };
    static const float lowest[] = {-1e30F, -3.40282347e38F};
    for (int which = 0; which < 2; ++which) {
        const float values[ROWS][3] = {
            {1, 2, 3}, {0, 0, 1}, {2, lowest[which], 1}, {1, 1, 1}, {3, 0, lowest[which]}};
        const uint8_t labels[ROWS] = {2, 1, 1, 0, 0};
        int64_t first, count;
        share_of_rank(ROWS, world->rank, world->size, &first, &count);
        const Logits logits = {.name = "large",
                               .type = FLOAT32,
                               .values = values[first],
                               .label_type = UINT8,
                               .labels = labels + first,
                               .count = count,
                               .first = first,
                               .total = ROWS,
                               .classes = 3};
        static Calibration measured;
        assert_ok(calibration_measure(collective, &logits, 1, BINS, 1, &measured, NULL));
        const double want = -(double)lowest[which] / ROWS;
        assert_close(&measured.nll, &want, 1, 1e-15, 0, "NLL");
        assert_int_equal(measured.large_nll_count, 1);
        assert_int_equal(measured.infinite_nll_count, 0);
        assert_int_equal(measured.large_nll_row, 2);
    }
}

/* Confidences that are equal in exact arithmetic are equal, so no measure depends on the order of the classes. Rounded
 * logits have many such. */
static void test_class_order(void **state)
{
    (void)state;
    enum { ROWS = 4000, CLASSES = 10 };
    static float values[2][ROWS][CLASSES];
    static uint8_t labels[2][ROWS];
    RandomStream random = random_stream(9, RANDOM_TEST, 2);
    for (int row = 0; row < ROWS; ++row) {
        const int best = (int)(random_uniform(&random) * CLASSES);
        const int label = random_uniform(&random) < 0.6 ? best : (int)(random_uniform(&random) * CLASSES);
        for (int k = 0; k < CLASSES; ++k) {
            const double rounded = floor(20 * random_uniform(&random)) / 10;
            values[0][row][k] = (float)(k == best ? 2.1 : rounded);
            values[1][row][CLASSES - 1 - k] = values[0][row][k];
        }
        labels[0][row] = (uint8_t)label;
        labels[1][row] = (uint8_t)(CLASSES - 1 - label);
    }
    static Calibration measured[2];
    int64_t first, count;
    share_of_rank(ROWS, world->rank, world->size, &first, &count);
    for (int order = 0; order < 2; ++order) {
        const Logits logits = {.name = "rounded",
                               .type = FLOAT32,
                               .values = values[order][first],
                               .label_type = UINT8,
                               .labels = labels[order] + first,
                               .count = count,
                               .first = first,
                               .total = ROWS,
                               .classes = CLASSES};
        assert_ok(calibration_measure(collective, &logits, 1, BINS, 1, &measured[order], NULL));
        measured[order].classwise_ece = measured[order].classwise_ece_all =
            0;                          /* a sum over classes in their order */
        measured[order].top5_error = 0; /* equal logits by index */
    }
    assert_memory_equal(&measured[0], &measured[1], sizeof measured[0]);
}

/* Rows in batches, spread over the ranks in any order, some of them padding: as the whole set at once. */
static void test_pass_over_ranks(void **state)
{
    (void)state;
    LogitSet set = set_example(world, "k10_n4096");
    const Logits whole = rows_of(&set, 0, set.logits.total);
    const int64_t classes = whole.classes;
    Device *device;
    Collective *alone;
    CalibrationPass *pass;
    static Calibration want, got;
    assert_ok(collective_self(&alone));
    assert_ok(device_open(DEVICE_CPU, 0, 2, &device));
    assert_ok(calibration_measure(alone, &whole, 1.3, BINS, 1, &want, NULL));
    enum { BATCH = 100 };
    const CalibrationSetup setup = {
        .name = "spread", .classes = classes, .temperature = 1.3, .bins = BINS, .most_rows = BATCH};
    const TemperatureSetup search_setup = {.name = "spread",
                                           .classes = classes,
                                           .grid = temperature_published,
                                           .bins = BINS,
                                           .most_rows = BATCH};
    TemperaturePass *search;
    static TemperatureSearch wanted, found;
    assert_ok(temperature_curves(alone, &whole, temperature_published, BINS, 1, FLOAT64, &wanted));
    assert_ok(temperature_pass_open(device, &search_setup, &search));
    temperature_pass_begin(search);
    assert_ok(calibration_pass_open(device, &setup, &pass));
    assert_ok(calibration_pass_begin(pass));
    static float values[BATCH * 10], weights[BATCH];
    static int32_t labels[BATCH];
    int filled = 0;
    for (int64_t row = 0; row < whole.total; ++row) {
        if (row * 7919 % whole.total % world->size == world->rank) {
            memcpy(values + filled * classes, (const float *)whole.values + row * classes,
                   (size_t)classes * sizeof *values);
            labels[filled] = (int32_t)logits_label(&whole, row);
            weights[filled++] = 1;
            if (filled % 3 == 0) { /* what stands there does not matter */
                values[filled * classes] = NAN;
                labels[filled] = -5;
                weights[filled++] = 0;
            }
        }
        if (filled < BATCH - 1 && row != whole.total - 1) continue;
        const LogitRows rows = {
            .logits = values, .labels = labels, .weights = weights, .rows = filled, .first = row};
        assert_ok(calibration_pass_add(pass, &rows));
        assert_ok(temperature_pass_add(search, &rows));
        filled = 0;
    }
    assert_ok(calibration_pass_collect(pass));
    assert_ok(calibration_pass_measure(pass, collective, &got));
    assert_memory_equal(&got, &want, sizeof got);
    assert_ok(temperature_pass_search(search, collective, &found));
    assert_memory_equal(&found, &wanted, sizeof found);
    temperature_pass_close(search);
    calibration_pass_close(pass);
    device_close(device);
    collective_free(alone);
    set_close(&set);
}

static void test_bad_logits(void **state)
{
    (void)state;
    float values[] = {0, 1, 2, 3, 4, 5};
    const double wide[] = {0, 1, 2, 3, INFINITY, 5};
    int32_t labels[] = {0, 2, 1};
    Logits logits = {.name = "file.npy",
                     .type = FLOAT32,
                     .values = values,
                     .label_type = INT32,
                     .labels = labels,
                     .count = 3,
                     .first = 100,
                     .total = 200,
                     .classes = 2};
    assert_fails(logits_check(&logits, 2), STATUS_INPUT, "file.npy: the label of row 101 is 2");
    labels[1] = -1;
    assert_fails(logits_check(&logits, 2), STATUS_INPUT, "the label of row 101 is -1; with 2 classes");
    labels[1] = 1;
    assert_ok(logits_check(&logits, 2));
    values[3] = NAN;
    assert_fails(logits_check(&logits, 2), STATUS_NUMERIC, "the logit of row 101, column 1 is NaN");
    values[3] = -INFINITY; /* a masked class */
    assert_ok(logits_check(&logits, 2));
    values[2] = -INFINITY;
    assert_fails(logits_check(&logits, 2), STATUS_NUMERIC, "all logits of row 101 are -infinity");
    values[2] = INFINITY;
    assert_fails(logits_check(&logits, 2), STATUS_NUMERIC, "row 101, column 0 is infinity");
    logits.type = FLOAT64;
    logits.values = wide;
    assert_fails(logits_check(&logits, 2), STATUS_NUMERIC, "row 102, column 0 is infinity");
    logits.classes = 1;
    assert_fails(logits_check(&logits, 2), STATUS_INPUT, "at least 2");
    logits.classes = 2;
    logits.total = 0;
    assert_fails(logits_check(&logits, 2), STATUS_INPUT, "no samples");
    static Calibration measured;
    assert_fails(calibration_measure(collective, &logits, 1, 0, 0, &measured, NULL), STATUS_USAGE, "0 bins");
    assert_fails(calibration_measure(collective, &logits, 1, 201, 0, &measured, NULL), STATUS_USAGE,
                 "201 bins");
}

int main(int argc, char **argv)
{
    Status status = comm_start(&argc, &argv, &world);
    if (status == OK) status = comm_collective(world, 60, &collective);
    if (status != OK) comm_abort(world, status);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_other_metrics),
        cmocka_unit_test(test_double_logits),
        cmocka_unit_test(test_temperature_float),
        cmocka_unit_test(test_temperature_on_an_edge),
        cmocka_unit_test(test_temperature_matches_metrics),
        cmocka_unit_test(test_temperature_grid),
        cmocka_unit_test(test_order_statistics),
        cmocka_unit_test(test_exact_sums),
        cmocka_unit_test(test_large_sums),
        cmocka_unit_test(test_norm_sums),
        cmocka_unit_test(test_masked_classes),
        cmocka_unit_test(test_large_losses),
        cmocka_unit_test(test_class_order),
        cmocka_unit_test(test_pass_over_ranks),
        cmocka_unit_test(test_bad_logits),
    };
    const int failures = cmocka_run_group_tests(tests, NULL, NULL);
    if (failures > 0) return 1; /* the ranks may be out of step: leave it to mpirun to end the others */
    collective_free(collective);
    comm_stop(world);
    return 0;
}
