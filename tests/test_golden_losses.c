/* Losses against golden values: values, gradients, the gamma of each sample and of each epoch. */
#include "tests/golden.h"
#include "tests/loss_head_run.h"
#include "tests/loss_set.h"

#include "losses/gamma.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what a case's loss is ---- */

/* Behind the last '/': "exp(-|ri-rj|/0.4)". */
static double kernel_width(const GoldenCase *golden)
{
    if (!golden_has(golden, "params/kernel")) return 0.4; /* the published code's */
    const char *slash = strrchr(golden_text(golden, "params/kernel"), '/');
    assert_non_null(slash);
    return strtod(slash + 1, NULL);
}

static LossHead plain(const GoldenCase *golden)
{
    (void)golden;
    return (LossHead){.form = SAMPLE_LABEL_SMOOTHING};
}

static LossHead smoothing(const GoldenCase *golden)
{
    return (LossHead){.form = SAMPLE_LABEL_SMOOTHING, .alpha = golden_number(golden, "params/alpha")};
}

static LossHead uniform_smoothing(const GoldenCase *golden)
{
    LossHead head = smoothing(golden);
    head.uniform = true;
    return head;
}

static LossHead brier(const GoldenCase *golden)
{
    (void)golden;
    return (LossHead){.form = SAMPLE_BRIER};
}

static LossHead focal(const GoldenCase *golden)
{
    return (LossHead){.form = SAMPLE_FOCAL, .gamma = {.gamma = {golden_number(golden, "params/gamma")}}};
}

/* "p<0.2:5; 0.2<=p<0.5:3; p>=0.5:2" */
static LossHead focal_by_sample(const GoldenCase *golden)
{
    LossHead head = {.form = SAMPLE_FOCAL};
    int steps = 0;
    for (const char *part = golden_text(golden, "params/policy"); part != NULL;) {
        const char *colon = strchr(part, ':'), *less = strstr(part, "p<");
        assert_true(colon != NULL && steps < GAMMA_MAX_STEPS);
        if (less != NULL && less < colon) head.gamma.limit[steps] = strtod(less + 2, NULL);
        head.gamma.gamma[steps++] = strtod(colon + 1, NULL);
        part = strstr(part, "; ");
        if (part != NULL) part += 2;
    }
    head.gamma.limits = steps - 1;
    return head;
}

static LossHead mmce_alone(const GoldenCase *golden)
{
    return (LossHead){.penalty = PENALTY_MMCE, .lambda = 1, .kernel_width = kernel_width(golden)};
}

static LossHead with_mmce(const GoldenCase *golden)
{
    LossHead head = mmce_alone(golden);
    head.lambda = golden_number(golden, "params/lambda");
    return head;
}

static LossHead weighted(LossHead head)
{
    head.penalty = PENALTY_MMCE_WEIGHTED;
    return head;
}

static LossHead mmce_weighted_alone(const GoldenCase *golden) { return weighted(mmce_alone(golden)); }
static LossHead with_mmce_weighted(const GoldenCase *golden) { return weighted(with_mmce(golden)); }

/* By how the names of losses begin and end. */
static const struct {
    const char *start, *end;
    LossHead (*head)(const GoldenCase *);
    bool alone; /* only the penalty, which is of the batch */
} rows[] = {
    {"cross_entropy", "", plain, false},
    {"ls_torch", "", uniform_smoothing, false},
    {"ls_paper", "", smoothing, false},
    {"brier", "", brier, false},
    {"focal_gamma", "", focal, false},
    {"flsd_", "", focal_by_sample, false},
    {"mmce_weighted_alone", "", mmce_weighted_alone, true},
    {"mmce_alone", "", mmce_alone, true},
    {"ce_plus_", "mmce_weighted", with_mmce_weighted, false},
    {"ce_plus_", "mmce", with_mmce, false},
};

typedef struct {
    LossHead head;
    bool alone;
} CaseLoss;

static CaseLoss loss_of(const GoldenCase *golden)
{
    const char *name = golden_text(golden, "loss");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; ++i) {
        const size_t start = strlen(rows[i].start), end = strlen(rows[i].end), all = strlen(name);
        if (all < start + end || strncmp(name, rows[i].start, start) != 0 ||
            strcmp(name + all - end, rows[i].end) != 0)
            continue;
        return (CaseLoss){rows[i].head(golden), rows[i].alone};
    }
    print_error("%s of %s: tests/test_golden_losses.c has no row for the loss %s\n", golden->id,
                golden->folder, name);
    assert_true(false);
    return (CaseLoss){0};
}

static LossSet open_set(const GoldenCase *golden)
{
    GoldenArray logits = golden_array(golden, "inputs/logits"),
                labels = golden_array(golden, "inputs/labels");
    assert_true(logits.rank == 2 && labels.count == logits.extent[0]);
    LossSet set = loss_set_new(logits.extent[0], logits.extent[1]);
    memcpy(set.logits, logits.values, (size_t)logits.count * sizeof *set.logits);
    for (int64_t n = 0; n < set.samples; ++n)
        set.labels[n] = (int64_t)labels.values[n];
    golden_array_free(&logits);
    golden_array_free(&labels);
    return set;
}

/* NULL where the published code gives NaN or fails. */
static const char *value_path(const GoldenCase *golden, bool alone)
{
    const char *path = alone ? "expected/value" : "expected/value_sum";
    return golden_has(golden, path) && !isnan(golden_number(golden, path)) ? path : NULL;
}

/* The gradient of MMCE has the sign of differences, which rounding may decide. */
static bool gradient_is_sure(const GoldenCase *golden, const char *path)
{
    return golden_has(golden, "expected_files/grad") && golden_number_or(golden, path, 0) == 0;
}

/* Files may hold the first rows only. */
static int64_t gradient_count(const GoldenCase *golden, const LossSet *set)
{
    GoldenArray file = golden_array(golden, "expected_files/grad");
    assert_true(file.extent[1] == set->classes && file.extent[0] <= set->samples);
    const int64_t count = file.count;
    golden_array_free(&file);
    return count;
}

/* ---- tests ---- */

/* Every case in float64: value, gradient file, and over all rows the gradient's norm and largest element. */
static void test_float64(void **state)
{
    (void)state;
    for (const GoldenCase *golden = NULL; (golden = golden_next("loss", NULL, golden)) != NULL;) {
        const CaseLoss loss = loss_of(golden);
        LossSet set = open_set(golden);
        const int64_t count = set.samples * set.classes;
        double *gradient = loss_allocate(count, sizeof *gradient);
        const double value = loss_set_evaluate(&set, &loss.head, loss.alone, 0, gradient);
        const char *path = value_path(golden, loss.alone);
        if (path == NULL) {
            const LossHead without = {.form = SAMPLE_LABEL_SMOOTHING}; /* the penalty is 0 */
            const double want = loss.alone ? 0 : loss_set_evaluate(&set, &without, false, 0, NULL);
            assert_close(&value, &want, 1, 1e-15, 0, golden->id);
            golden_count(1);
        } else {
            const GoldenTolerance tolerance = golden_tolerance(golden, "f64", "");
            golden_check_number(golden, path, value, tolerance);
            double norm = 0, largest = 0;
            for (int64_t i = 0; i < count; ++i) {
                norm += gradient[i] * gradient[i];
                largest = fmax(largest, fabs(gradient[i]));
            }
            if (gradient_is_sure(golden, "expected/gradient_depends_on_rounding/f64")) {
                (void)golden_check(golden, "expected_files/grad", gradient, gradient_count(golden, &set),
                                   "f64");
                golden_check_number(golden, "expected/grad_frobenius", sqrt(norm), tolerance);
                golden_check_number(golden, "expected/grad_abs_max", largest, tolerance);
            }
        }
        free(gradient);
        loss_set_free(&set);
    }
}

/* The same through the op, which takes float32 and computes in float64: nearer than the sets ask of float32. */
static void check_op(Device *device, Collective *self, const GoldenCase *golden, const LossHead *head)
{
    LossSet set = open_set(golden);
    const int64_t samples = set.samples, classes = set.classes, count = samples * classes;
    float *logits = loss_allocate(count, sizeof *logits), *weight = loss_allocate(samples, sizeof *weight);
    int32_t *target = loss_allocate(samples, sizeof *target);
    HeadOutputs outputs = {.gradient = loss_allocate(count, sizeof(float)),
                           .confidence = loss_allocate(samples, sizeof(float)),
                           .correct = loss_allocate(samples, sizeof(float))};
    for (int64_t i = 0; i < count; ++i)
        logits[i] = (float)set.logits[i];
    double right = 0;
    for (int64_t n = 0; n < samples; ++n) {
        target[n] = (int32_t)set.labels[n];
        weight[n] = 1;
        int64_t best = 0;
        for (int64_t k = 1; k < classes; ++k)
            if (logits[n * classes + k] > logits[n * classes + best]) best = k;
        right += best == set.labels[n];
    }
    loss_head_run(device, self, head, (HeadInputs){samples, classes, logits, target, weight, 0}, &outputs);
    const double want[LOSS_SUMS] = {golden_number(golden, "expected/value_sum"), (double)samples, right};
    assert_close(outputs.sums, want, LOSS_SUMS, 1e-9, 1e-12, golden->id);
    golden_count(LOSS_SUMS);
    if (gradient_is_sure(golden, "expected/gradient_depends_on_rounding/f32")) {
        const int64_t expected = gradient_count(golden, &set);
        (void)golden_check_float(golden, "expected_files/grad", outputs.gradient, expected, "f32");
        GoldenArray file = golden_array(golden, "expected_files/grad");
        assert_close_float(outputs.gradient, file.values, expected, 1e-6, 1e-9, golden->id);
        golden_array_free(&file);
    }
    free(outputs.correct);
    free(outputs.confidence);
    free(outputs.gradient);
    free(target);
    free(weight);
    free(logits);
    loss_set_free(&set);
}

static void test_op(void **state)
{
    (void)state;
    Device *device;
    Collective *self;
    assert_ok(device_open(test_device(), 0, 0, &device));
    assert_ok(collective_self(&self));
    for (const GoldenCase *golden = NULL; (golden = golden_next("loss", NULL, golden)) != NULL;) {
        const CaseLoss loss = loss_of(golden);
        if (!loss.alone && value_path(golden, false) != NULL) check_op(device, self, golden, &loss.head);
    }
    collective_free(self);
    device_close(device);
}

/* The gamma of each sample, by its probability. */
static void test_sample_gammas(void **state)
{
    (void)state;
    for (const GoldenCase *golden = NULL;
         (golden = golden_next("loss", "expected_files/gamma", golden)) != NULL;) {
        const CaseLoss loss = loss_of(golden);
        LossSet set = open_set(golden);
        GoldenArray gammas = golden_array(golden, "expected_files/gamma");
        assert_int_equal(gammas.count, set.samples);
        for (int64_t n = 0; n < set.samples; ++n) {
            const Sample sample = sample_softmax(set.logits + n * set.classes, set.classes, set.labels[n]);
            assert_true(gamma_choose(&loss.head.gamma, sample.probability, 0) == gammas.values[n]);
        }
        golden_count(gammas.count);
        golden_array_free(&gammas);
        loss_set_free(&set);
    }
}

static GammaPolicy schedule_of(const GoldenCase *golden)
{
    static const char *const limits[] = {"params/gamma_schedule_step1", "params/gamma_schedule_step2"};
    GammaPolicy policy = {.by_epoch = true, .limits = golden_length(golden, "params/gammas") - 1};
    assert_true(policy.limits == 2);
    for (int i = 0; i <= policy.limits; ++i)
        policy.gamma[i] = golden_number_at(golden, "params/gammas", i);
    for (int i = 0; i < policy.limits; ++i)
        policy.limit[i] = golden_number(golden, limits[i]);
    return policy;
}

static double row_number(const cJSON *row, const char *key)
{
    return golden_json_number(cJSON_GetObjectItemCaseSensitive(row, key));
}

/* gamma by epoch. */
static void test_schedules(void **state)
{
    (void)state;
    for (const GoldenCase *golden = NULL; (golden = golden_next("gamma_schedule", NULL, golden)) != NULL;) {
        const GammaPolicy policy = schedule_of(golden);
        const cJSON *row;
        cJSON_ArrayForEach(row, golden_item(golden, "expected/rows"))
        {
            const int64_t epoch = (int64_t)row_number(row, "epoch_0based");
            assert_true(gamma_choose(&policy, 0.5, epoch) == row_number(row, "gamma"));
            golden_count(1);
        }
    }
}

/* The loss of a set in an epoch. */
static void test_scheduled_losses(void **state)
{
    (void)state;
    for (const GoldenCase *golden = NULL; (golden = golden_next("loss_schedule", NULL, golden)) != NULL;) {
        LossSet set = open_set(golden);
        const LossHead head = {.form = SAMPLE_FOCAL, .gamma = schedule_of(golden)};
        const GoldenTolerance tolerance = golden_tolerance(golden, "f64", "");
        const cJSON *row;
        cJSON_ArrayForEach(row, golden_item(golden, "expected/rows"))
        {
            const int64_t epoch = (int64_t)row_number(row, "epoch_0based");
            assert_true(gamma_choose(&head.gamma, 0.5, epoch) == row_number(row, "gamma"));
            const double value = loss_set_evaluate(&set, &head, false, epoch, NULL);
            assert_close(&value, (const double[]){row_number(row, "value_sum")}, 1, tolerance.relative,
                         tolerance.absolute, golden->id);
            golden_count(2);
        }
        loss_set_free(&set);
    }
}

/* gamma(p), where the focal loss's gradient is that of cross-entropy. */
static void test_gamma(void **state)
{
    (void)state;
    for (const GoldenCase *golden = NULL;
         (golden = golden_next("gamma", "expected_files/gamma_root", golden)) != NULL;) {
        GoldenArray p = golden_array(golden, "inputs/p"),
                    root = golden_array(golden, "expected_files/gamma_root");
        double *gamma = loss_allocate(p.count, sizeof *gamma);
        for (int64_t i = 0; i < p.count; ++i)
            gamma[i] = gamma_from_threshold(p.values[i]);
        (void)golden_check(golden, "expected_files/gamma_official", gamma, p.count, "f64");
        assert_int_equal(root.count, p.count);
        assert_close(gamma, root.values, p.count, 1e-9, 1e-7,
                     golden->id); /* of the root more digits are good */
        golden_count(p.count);
        static const char start[] = "gamma_at_";
        const cJSON *item;
        cJSON_ArrayForEach(item, golden_item(golden, "expected"))
        {
            if (strncmp(item->string, start, strlen(start)) != 0) continue;
            const double got = gamma_from_threshold(strtod(item->string + strlen(start), NULL));
            assert_close(&got, &item->valuedouble, 1, 1e-8, 1e-7, item->string);
            golden_count(1);
        }
        free(gamma);
        golden_array_free(&root);
        golden_array_free(&p);
    }
}

static double growth(double p, double gamma)
{
    return pow(1 - p, gamma) * focal_growth(p, 1 - p, -log(p), gamma);
}

/* g(p, gamma), the ratio of the two gradients, on a grid; and that it is 1 at gamma(p). */
static void test_growth(void **state)
{
    (void)state;
    for (const GoldenCase *golden = NULL;
         (golden = golden_next("gamma", "expected_files/g", golden)) != NULL;) {
        GoldenArray p = golden_array(golden, "inputs/p"), gamma = golden_array(golden, "inputs/gamma");
        double *g = loss_allocate(p.count * gamma.count, sizeof *g);
        for (int64_t i = 0; i < p.count; ++i)
            for (int64_t j = 0; j < gamma.count; ++j)
                g[i * gamma.count + j] = growth(p.values[i], gamma.values[j]);
        (void)golden_check(golden, "expected_files/g", g, p.count * gamma.count, "f64");
        free(g);
        golden_array_free(&gamma);
        golden_array_free(&p);
    }
    for (double p = 1e-6; p < 0.5; p *= 1.7) {
        const double factor = growth(p, gamma_from_threshold(p));
        assert_close(&factor, (const double[]){1}, 1, 1e-8, 0, "g(p, gamma(p))");
        golden_count(1);
    }
}

static int report(void **state)
{
    (void)state;
    print_message("%lld values\n", (long long)golden_checked());
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_float64),   cmocka_unit_test(test_op),
        cmocka_unit_test(test_schedules), cmocka_unit_test(test_scheduled_losses),
        cmocka_unit_test(test_gamma),     cmocka_unit_test(test_sample_gammas),
        cmocka_unit_test(test_growth),
    };
    return cmocka_run_group_tests(tests, NULL, report);
}
