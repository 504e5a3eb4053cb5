/* Losses against direct forms and finite differences, and at the edges of their domain. */
#include "engine/base/random.h"
#include "losses/gamma.h"
#include "tests/loss_head_run.h"
#include "tests/loss_set.h"
#include "tests/op_rows.h"

#include <float.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#define BY_SAMPLE_53                                                                                         \
    {                                                                                                        \
        .gamma = {5, 3}, .limit = {0.2}, .limits = 1                                                         \
    }
#define BY_SAMPLE_532                                                                                        \
    {                                                                                                        \
        .gamma = {5, 3, 2}, .limit = {0.2, 0.5}, .limits = 2                                                 \
    }
#define BY_SAMPLE_52                                                                                         \
    {                                                                                                        \
        .gamma = {5, 2}, .limit = {0.2}, .limits = 1                                                         \
    }

typedef struct {
    const char *name;
    LossHead head;
    bool alone; /* only the penalty */
} Case;

static const Case cases[] = {
    {"cross_entropy", {.form = SAMPLE_LABEL_SMOOTHING}, false},
    {"ls_torch_a0.05", {.form = SAMPLE_LABEL_SMOOTHING, .alpha = 0.05, .uniform = true}, false},
    {"ls_paper_a0.05", {.form = SAMPLE_LABEL_SMOOTHING, .alpha = 0.05}, false},
    {"ls_torch_a0.1", {.form = SAMPLE_LABEL_SMOOTHING, .alpha = 0.1, .uniform = true}, false},
    {"ls_paper_a0.1", {.form = SAMPLE_LABEL_SMOOTHING, .alpha = 0.1}, false},
    {"brier", {.form = SAMPLE_BRIER}, false},
    {"focal_gamma1", {.form = SAMPLE_FOCAL, .gamma = {.gamma = {1}}}, false},
    {"focal_gamma2", {.form = SAMPLE_FOCAL, .gamma = {.gamma = {2}}}, false},
    {"focal_gamma3", {.form = SAMPLE_FOCAL, .gamma = {.gamma = {3}}}, false},
    {"focal_gamma5", {.form = SAMPLE_FOCAL, .gamma = {.gamma = {5}}}, false},
    {"flsd_53", {.form = SAMPLE_FOCAL, .gamma = BY_SAMPLE_53}, false},
    {"flsd_532", {.form = SAMPLE_FOCAL, .gamma = BY_SAMPLE_532}, false},
    {"flsd_52_literal", {.form = SAMPLE_FOCAL, .gamma = BY_SAMPLE_52}, false},
    {"mmce_alone", {.penalty = PENALTY_MMCE, .lambda = 1, .kernel_width = 0.4}, true},
    {"mmce_weighted_alone", {.penalty = PENALTY_MMCE_WEIGHTED, .lambda = 1, .kernel_width = 0.4}, true},
    {"ce_plus_2mmce", {.penalty = PENALTY_MMCE, .lambda = 2, .kernel_width = 0.4}, false},
    {"ce_plus_2mmce_weighted", {.penalty = PENALTY_MMCE_WEIGHTED, .lambda = 2, .kernel_width = 0.4}, false},
};
enum { CASES = sizeof cases / sizeof cases[0] };

/* Logits from a normal distribution; the label's is raised, so that about half are right. */
static LossSet random_set(int64_t samples, int64_t classes, uint64_t seed)
{
    LossSet set = loss_set_new(samples, classes);
    RandomStream random = random_stream(seed, RANDOM_TEST, 0);
    for (int64_t n = 0; n < samples; ++n) {
        for (int64_t k = 0; k < classes; ++k)
            set.logits[n * classes + k] = 2 * random_normal(&random);
        set.labels[n] = (int64_t)random_below(&random, (uint64_t)classes);
        set.logits[n * classes + set.labels[n]] += 3;
    }
    return set;
}

/* ---- MMCE ---- */

/* The published code's pairs, one by one. */
static double direct_mmce(const Judged samples[], int64_t count, double width, bool weighted,
                          double *gradient)
{
    double total = 0, m = 0, n = 0, right = 0, wrong = 0, mixed = 0;
    for (int64_t i = 0; i < count; ++i)
        *(samples[i].correct != 0 ? &m : &n) += samples[i].weight;
    total = m + n;
    const double scale_right = weighted ? 1 / (m * m * (m * m + 1e-5)) : 1 / (total * total);
    const double scale_wrong = weighted ? 1 / (n * n * (n * n + 1e-5)) : 1 / (total * total);
    const double scale_mixed = weighted ? -1 / (m * n * (m * n + 1e-5)) : -1 / (total * total);
    for (int64_t i = 0; i < count; ++i) {
        double d = 0;
        for (int64_t j = 0; j < count; ++j) {
            const double ri = samples[i].confidence, rj = samples[j].confidence;
            const bool ci = samples[i].correct != 0, cj = samples[j].correct != 0;
            const double ui = ci ? 1 - ri : ri, uj = cj ? 1 - rj : rj;
            const double kernel = samples[i].weight * samples[j].weight * exp(-fabs(ri - rj) / width);
            const double scale = ci != cj ? scale_mixed : ci ? scale_right : scale_wrong;
            *(ci != cj ? &mixed : ci ? &right : &wrong) += scale * ui * uj * kernel;
            const double sign = ri > rj ? 1 : ri < rj ? -1 : 0;
            d += 2 * scale * ((ci ? -1 : 1) * uj * kernel - ui * uj * kernel * sign / width);
        }
        gradient[i] = d;
    }
    if (!weighted) return right + wrong + mixed;
    const double square = right + wrong + mixed + 1e-10;
    const bool none = m == 0 || n == 0 || square <= 0;
    for (int64_t i = 0; i < count; ++i)
        gradient[i] = none ? 0 : gradient[i] / (2 * sqrt(square));
    return none ? 0 : sqrt(square);
}

/* coarse: confidences from a grid, so that many are equal. */
static Judged random_judged(RandomStream *random, bool coarse)
{
    const double u = random_uniform(random);
    return (Judged){.confidence = coarse ? floor(u * 8) / 8 : u,
                    .correct = random_below(random, 3) != 0,
                    .weight = (double)random_below(random, 4)};
}

static void check_mmce(const Judged samples[], int64_t count, double width)
{
    double *want = loss_allocate(count, sizeof *want), *got = loss_allocate(count, sizeof *got);
    void *workspace = loss_allocate((int64_t)mmce_workspace(count), 1);
    for (int weighted = 0; weighted < 2; ++weighted) {
        const double direct = direct_mmce(samples, count, width, weighted, want);
        const double value = (weighted ? mmce_weighted : mmce)(samples, count, width, workspace, got);
        assert_close(&value, &direct, 1, 1e-10, 1e-14, "mmce");
        assert_close(got, want, count, 1e-9, 1e-13, "gradient of mmce");
        const double only_value = (weighted ? mmce_weighted : mmce)(samples, count, width, workspace, NULL);
        assert_true(only_value == value);
        double both[2];
        mmce_both(samples, count, width, workspace, &both[0], &both[1]);
        assert_true(both[weighted] == value);
    }
    free(workspace);
    free(got);
    free(want);
}

static void test_mmce_equals_direct_form(void **state)
{
    (void)state;
    static const int64_t counts[] = {1, 2, 3, 7, 64, 500};
    static const double widths[] = {0.4, 0.01, 5};
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; ++c)
        for (size_t w = 0; w < sizeof widths / sizeof widths[0]; ++w)
            for (int coarse = 0; coarse < 2; ++coarse) {
                Judged *samples = loss_allocate(counts[c], sizeof *samples);
                RandomStream random = random_stream(c, RANDOM_TEST, w);
                samples[0] = (Judged){0.9, 1, 1};
                for (int64_t i = 1; i < counts[c]; ++i)
                    samples[i] = random_judged(&random, coarse != 0);
                check_mmce(samples, counts[c], widths[w]);
                free(samples);
            }
}

/* The result is a function of the set: its bits do not depend on the order, and weight 0 is absence. */
static void test_mmce_ignores_order_and_padding(void **state)
{
    (void)state;
    enum { N = 1000 };
    Judged *samples = loss_allocate(N, sizeof *samples), *turned = loss_allocate(2 * N, sizeof *turned);
    void *workspace = loss_allocate((int64_t)mmce_workspace(2 * N), 1);
    RandomStream random = random_stream(1, RANDOM_TEST, 0);
    for (int i = 0; i < N; ++i) {
        samples[i] = random_judged(&random, i % 2 == 0);
        turned[2 * ((i * 7 + 3) % N)] = samples[i];
        turned[2 * i + 1] = (Judged){NAN, 1, 0};
    }
    assert_true(mmce(samples, N, 0.4, workspace, NULL) == mmce(turned, (int64_t)2 * N, 0.4, workspace, NULL));
    assert_true(mmce_weighted(samples, N, 0.4, workspace, NULL) ==
                mmce_weighted(turned, (int64_t)2 * N, 0.4, workspace, NULL));
    samples[5].weight = 1;
    samples[5].confidence = NAN;
    assert_true(isnan(mmce(samples, N, 0.4, workspace, NULL)));
    assert_true(isnan(mmce_weighted(samples, N, 0.4, workspace, NULL)));
    assert_true(mmce(samples, 0, 0.4, workspace, NULL) == 0);
    assert_true(mmce_weighted(samples, 0, 0.4, workspace, NULL) == 0);
    free(workspace);
    free(turned);
    free(samples);
}

/* ---- gradients ---- */

static void check_differences(const Case *with, int64_t samples, int64_t classes, uint64_t seed)
{
    const double step = 1e-5;
    LossSet set = random_set(samples, classes, seed);
    double *gradient = loss_allocate(samples * classes, sizeof *gradient);
    (void)loss_set_evaluate(&set, &with->head, with->alone, 0, gradient);
    for (int64_t i = 0; i < samples * classes; ++i) {
        const double logit = set.logits[i];
        set.logits[i] = logit + step;
        const double above = loss_set_evaluate(&set, &with->head, with->alone, 0, NULL);
        set.logits[i] = logit - step;
        const double below = loss_set_evaluate(&set, &with->head, with->alone, 0, NULL);
        set.logits[i] = logit;
        const double slope = (above - below) / (2 * step);
        assert_close(&gradient[i], &slope, 1, 1e-6, 1e-8, with->name);
    }
    free(gradient);
    loss_set_free(&set);
}

static void test_gradients_are_differences(void **state)
{
    (void)state;
    op_rows_record(&op_loss_head, OP_ROW_DIFFERENCES);
    static const Case more[] = {
        {"focal 0.5", {.form = SAMPLE_FOCAL, .gamma = {.gamma = {0.5}}}, false},
        {"focal 0", {.form = SAMPLE_FOCAL, .gamma = {.gamma = {0}}}, false},
    };
    for (int i = 0; i < CASES; ++i) {
        check_differences(&cases[i], 13, 7, 10);
        check_differences(&cases[i], 5, 2, 11);
        check_differences(&cases[i], 9, 33, 12);
    }
    check_differences(&more[0], 13, 7, 13);
    check_differences(&more[1], 13, 7, 14);
}

/* ---- edges ---- */

/* p of exactly 1 and of exactly 0. */
static void test_certainty(void **state)
{
    (void)state;
    static const double gammas[] = {0, 1e-3, 0.5, 1, 2, 5, 50};
    for (size_t g = 0; g < sizeof gammas / sizeof gammas[0]; ++g)
        for (int right = 0; right < 2; ++right) {
            double row[3] = {-1e4, 1e4, -1e4};
            const Sample sample = sample_softmax(row, 3, right ? 1 : 2);
            assert_true(sample.probability == right && sample.complement == !right);
            assert_true(sample.confidence == 1 && sample.confidence_complement == 0);
            const SampleLoss focal = sample_focal(&sample, gammas[g]);
            assert_true(focal.value == (right ? 0 : 2e4));
            sample_gradient(&sample, &focal, 1, row);
            const double want_right[3] = {0, 0, 0}, want_wrong[3] = {0, 1, -1};
            assert_close(row, right ? want_right : want_wrong, 3, 0, 0, "gradient");
        }
    double row[3] = {-1e4, 1e4, -1e4};
    Sample sample = sample_softmax(row, 3, 0);
    assert_true(sample_brier(&sample).value == 2);
    assert_true(sample_cross_entropy(&sample).value == 2e4);
    sample_gradient(&sample, &(SampleLoss){0}, 1, row);
    memcpy(row, (const double[]){-1e4, 1e4, -1e4}, sizeof row);
    sample = sample_softmax(row, 3, 1);
    assert_true(sample_brier(&sample).value == 0);
    const double smoothed = sample_label_smoothing(&sample, smoothing_paper(0.1, 3)).value;
    assert_close(&smoothed, (const double[]){0.1 * 2e4}, 1, 1e-12, 0, "label smoothing");
}

/* Near certainty nothing is lost to cancellation: -log p and 1 - p of a sample with p = 1 - 1e-30. */
static void test_nearly_certain(void **state)
{
    (void)state;
    const double gap = 30 * log(10);
    double row[2] = {0, -gap};
    const Sample sample = sample_softmax(row, 2, 0);
    const double want = 1e-30;
    assert_close(&sample.complement, &want, 1, 1e-12, 0, "1 - p");
    assert_close(&sample.negative_log, &want, 1, 1e-12, 0, "-log p");
    const SampleLoss focal = sample_focal(&sample, 0.5);
    assert_close(&focal.value, (const double[]){1e-45}, 1, 1e-12, 0, "focal");
    assert_close(&focal.linear, (const double[]){1.5e-15}, 1, 1e-12, 0, "factor");
}

static void test_extreme_logits_stay_finite(void **state)
{
    (void)state;
    static const double values[] = {-1e4, -1, 0, 1, 1e4};
    enum { VALUES = 5, K = 4 };
    LossSet set = loss_set_new(VALUES * VALUES * VALUES * K, K);
    for (int64_t n = 0; n < set.samples; ++n) {
        int64_t rest = n / K;
        for (int k = 0; k < K; ++k) {
            set.logits[n * K + k] = k < 3 ? values[rest % VALUES] : 0.5;
            rest /= VALUES;
        }
        set.labels[n] = n % K;
    }
    double *gradient = loss_allocate(set.samples * K, sizeof *gradient);
    for (int i = 0; i < CASES; ++i) {
        assert_true(isfinite(loss_set_evaluate(&set, &cases[i].head, cases[i].alone, 0, gradient)));
        for (int64_t n = 0; n < set.samples; ++n) {
            double sum = 0;
            for (int k = 0; k < K; ++k) {
                assert_true(isfinite(gradient[n * K + k]));
                sum += gradient[n * K + k];
            }
            /* softmax does not mind a shift of all logits */
            assert_close(&sum, (const double[]){0}, 1, 0, 1e-12, cases[i].name);
        }
    }
    free(gradient);
    loss_set_free(&set);
}

static void test_bad_samples_give_nan(void **state)
{
    (void)state;
    for (int i = 0; i < CASES; ++i)
        for (int64_t classes = 1; classes <= 20; classes += 6)
            for (int64_t bad = 0; bad < classes; ++bad)
                for (int64_t label = 0; label < classes; ++label) {
                    LossSet set = random_set(3, classes, 5);
                    set.labels[1] = label;
                    set.logits[classes + bad] = NAN;
                    assert_true(isnan(loss_set_evaluate(&set, &cases[i].head, cases[i].alone, 0, NULL)));
                    loss_set_free(&set);
                }
    for (int64_t label = -1; label <= 3; label += 4) {
        double row[3] = {1, 2, 3};
        const Sample sample = sample_softmax(row, 3, label);
        assert_true(isnan(sample_cross_entropy(&sample).value) && isnan(sample_brier(&sample).value));
        const SampleLoss focal = sample_focal(&sample, 2);
        assert_true(isnan(focal.value) && !sample.correct);
        sample_gradient(&sample, &focal, 1, row); /* the label's element is not written: there is none */
    }
}

/* ---- the op ---- */

/* Padding is not looked at; thread counts do not matter; weights multiply. */
static void test_head_weights(void **state)
{
    (void)state;
    enum { N = 37, K = 11 };
    LossSet set = random_set(N, K, 77);
    float logits[2 * N * K], weight[2 * N], gradient[2 * N * K], confidence[2 * N], correct[2 * N];
    float padded_gradient[2 * N * K];
    int32_t target[2 * N];
    for (int n = 0; n < 2 * N; ++n) {
        const bool padding = n % 2 == 1;
        for (int k = 0; k < K; ++k)
            logits[n * K + k] = padding ? NAN : (float)set.logits[n / 2 * K + k];
        target[n] = padding ? 1000000 * (n - 40) : (int32_t)set.labels[n / 2];
        weight[n] = padding ? 0 : 1;
    }
    Device *device;
    Collective *self;
    assert_ok(device_open(test_device(), 0, 3, &device));
    assert_ok(collective_self(&self));
    float dense[N * K], ones[N];
    int32_t dense_target[N];
    for (int n = 0; n < N; ++n) {
        memcpy(dense + n * K, logits + (ptrdiff_t)2 * n * K, sizeof(float) * K);
        dense_target[n] = target[2 * n];
        ones[n] = 1;
    }
    for (int i = 0; i < CASES; ++i) {
        HeadOutputs padded = {.gradient = padded_gradient, .confidence = confidence, .correct = correct};
        loss_head_run(device, self, &cases[i].head, (HeadInputs){2 * N, K, logits, target, weight, 0},
                      &padded);
        for (int n = 1; n < 2 * N; n += 2) {
            assert_true(confidence[n] == 0 && correct[n] == 0);
            for (int k = 0; k < K; ++k)
                assert_true(padded_gradient[n * K + k] == 0);
        }
        HeadOutputs whole = {.gradient = gradient, .confidence = confidence, .correct = correct};
        loss_head_run(device, self, &cases[i].head, (HeadInputs){N, K, dense, dense_target, ones, 0}, &whole);
        /* A GPU adds the same numbers in another order when there are others between them. */
        const bool exact = test_device() == DEVICE_CPU;
        assert_close(padded.sums, whole.sums, LOSS_SUMS, exact ? 0 : 1e-14, 0, cases[i].name);
        for (int n = 0; n < N; ++n)
            for (int k = 0; k < K; ++k)
                assert_true(fabsf(gradient[n * K + k] - padded_gradient[2 * n * K + k]) <=
                            (exact ? 0 : 1e-6F) * fabsf(gradient[n * K + k]));
        /* A weight of 2 is the sample twice: here of all of them, so everything doubles; but the value of
         * the penalty alone is that of the set. */
        float twos[N], doubled_gradient[N * K];
        for (int n = 0; n < N; ++n)
            twos[n] = 2;
        HeadOutputs doubled = {.gradient = doubled_gradient, .confidence = confidence, .correct = correct};
        loss_head_run(device, self, &cases[i].head, (HeadInputs){N, K, dense, dense_target, twos, 0},
                      &doubled);
        if (cases[i].head.penalty != PENALTY_NONE) continue;
        const double want[LOSS_SUMS] = {2 * whole.sums[LOSS_SUM], 2 * N, 2 * whole.sums[LOSS_CORRECT]};
        assert_close(doubled.sums, want, LOSS_SUMS, 1e-14, 0, cases[i].name);
        for (int j = 0; j < N * K; ++j)
            assert_true(doubled_gradient[j] == 2 * gradient[j]);
    }
    collective_free(self);
    device_close(device);
    loss_set_free(&set);
}

/* Rows that a GPU gives to a whole block, as long as a vocabulary. */
static void test_head_many_classes(void **state)
{
    (void)state;
    enum { N = 3, K = 37001 };
    Device *device;
    Collective *self;
    assert_ok(device_open(test_device(), 0, 2, &device));
    assert_ok(collective_self(&self));
    LossSet set = random_set(N, K, 5);
    float *logits = loss_allocate((int64_t)N * K, sizeof *logits),
          *got = loss_allocate((int64_t)N * K, sizeof *got);
    double *want = loss_allocate((int64_t)N * K, sizeof *want);
    float confidence[N], correct[N];
    const float weight[N] = {1, 1, 1};
    int32_t target[N];
    for (int64_t i = 0; i < (int64_t)N * K; ++i)
        set.logits[i] = (double)(logits[i] = (float)set.logits[i]);
    set.logits[2 * K + K - 1] = (double)(logits[2 * K + K - 1] = 50); /* the last class wins */
    set.labels[2] = K - 1;
    for (int n = 0; n < N; ++n)
        target[n] = (int32_t)set.labels[n];
    for (int i = 0; i < CASES; ++i) {
        if (cases[i].alone) continue;
        HeadOutputs outputs = {.gradient = got, .confidence = confidence, .correct = correct};
        loss_head_run(device, self, &cases[i].head, (HeadInputs){N, K, logits, target, weight, 0}, &outputs);
        const double value = loss_set_evaluate(&set, &cases[i].head, false, 0, want);
        op_rows_record(&op_loss_head, OP_ROW_REFERENCE);
        assert_close(&outputs.sums[LOSS_SUM], &value, 1, 1e-10, 1e-12, cases[i].name);
        assert_close_float(got, want, (int64_t)N * K, 1e-6, 1e-12, cases[i].name);
        assert_true(correct[2] == 1);
    }
    free(want);
    free(got);
    free(logits);
    collective_free(self);
    device_close(device);
    loss_set_free(&set);
}

static void test_head_threads_do_not_matter(void **state)
{
    (void)state;
    enum { N = 61, K = 5 };
    LossSet set = random_set(N, K, 3);
    float logits[N * K], weight[N], gradient[4][N * K], confidence[N], correct[N];
    int32_t target[N];
    for (int n = 0; n < N; ++n) {
        for (int k = 0; k < K; ++k)
            logits[n * K + k] = (float)set.logits[n * K + k];
        target[n] = (int32_t)set.labels[n];
        weight[n] = 0.25F * (float)(n % 5);
    }
    for (int i = 0; i < CASES; ++i) {
        double sums[4][LOSS_SUMS];
        for (int threads = 1; threads <= 4; ++threads) {
            Device *device;
            Collective *self;
            assert_ok(device_open(test_device(), 0, threads, &device));
            assert_ok(collective_self(&self));
            HeadOutputs outputs = {
                .gradient = gradient[threads - 1], .confidence = confidence, .correct = correct};
            loss_head_run(device, self, &cases[i].head, (HeadInputs){N, K, logits, target, weight, 0},
                          &outputs);
            memcpy(sums[threads - 1], outputs.sums, sizeof outputs.sums);
            collective_free(self);
            device_close(device);
            assert_memory_equal(sums[threads - 1], sums[0], sizeof sums[0]);
            assert_memory_equal(gradient[threads - 1], gradient[0], sizeof gradient[0]);
        }
    }
    loss_set_free(&set);
}

static void test_head_bad_input(void **state)
{
    (void)state;
    Device *device;
    Collective *self;
    assert_ok(device_open(test_device(), 0, 1, &device));
    assert_ok(collective_self(&self));
    float gradient[6], confidence[2], correct[2];
    const float weight[2] = {1, 1};
    static const int32_t targets[][2] = {{0, 3}, {-1, 0}, {INT32_MAX, 1}, {INT32_MIN, 1}, {0, 1}};
    for (int i = 0; i < CASES; ++i)
        for (size_t t = 0; t < sizeof targets / sizeof targets[0]; ++t) {
            const bool good = t + 1 == sizeof targets / sizeof targets[0];
            const float logits[6] = {1, good ? NAN : 2, 3, 1, 2, 3};
            HeadOutputs outputs = {.gradient = gradient, .confidence = confidence, .correct = correct};
            loss_head_run(device, self, &cases[i].head, (HeadInputs){2, 3, logits, targets[t], weight, 0},
                          &outputs);
            assert_true(isnan(outputs.sums[LOSS_SUM]));
        }
    collective_free(self);
    device_close(device);
}

/* A scheduled gamma reads the epoch from the clock. */
static void test_head_reads_the_clock(void **state)
{
    (void)state;
    Device *device;
    Collective *self;
    assert_ok(device_open(test_device(), 0, 1, &device));
    assert_ok(collective_self(&self));
    const LossHead scheduled = {
        .form = SAMPLE_FOCAL,
        .gamma = {.gamma = {5, 3, 1}, .limit = {100, 250}, .limits = 2, .by_epoch = true}};
    static const struct {
        int64_t epoch;
        double gamma;
    } rows[] = {{0, 5}, {99, 5}, {100, 3}, {249, 3}, {250, 1}, {349, 1}};
    const float logits[4] = {0.5F, 1, -1, 2}, weight[2] = {1, 1};
    const int32_t target[2] = {0, 1};
    float gradient[4], want_gradient[4], confidence[2], correct[2];
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; ++r) {
        const LossHead fixed = {.form = SAMPLE_FOCAL, .gamma = {.gamma = {rows[r].gamma}}};
        HeadOutputs got = {.gradient = gradient, .confidence = confidence, .correct = correct};
        HeadOutputs want = {.gradient = want_gradient, .confidence = confidence, .correct = correct};
        loss_head_run(device, self, &scheduled, (HeadInputs){2, 2, logits, target, weight, rows[r].epoch},
                      &got);
        loss_head_run(device, self, &fixed, (HeadInputs){2, 2, logits, target, weight, 0}, &want);
        assert_true(got.sums[LOSS_SUM] == want.sums[LOSS_SUM]);
        assert_memory_equal(gradient, want_gradient, sizeof gradient);
    }
    collective_free(self);
    device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mmce_equals_direct_form),
        cmocka_unit_test(test_mmce_ignores_order_and_padding),
        cmocka_unit_test(test_gradients_are_differences),
        cmocka_unit_test(test_certainty),
        cmocka_unit_test(test_nearly_certain),
        cmocka_unit_test(test_extreme_logits_stay_finite),
        cmocka_unit_test(test_bad_samples_give_nan),
        cmocka_unit_test(test_head_weights),
        cmocka_unit_test(test_head_many_classes),
        cmocka_unit_test(test_head_threads_do_not_matter),
        cmocka_unit_test(test_head_bad_input),
        cmocka_unit_test(test_head_reads_the_clock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
