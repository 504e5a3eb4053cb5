/* Losses over ranks: the penalty is that of the global batch, the ranks' shares add up, and what evaluation
 * reports has the same bits as one rank's. Every rank holds the whole, and takes its part. */
#include "comm/comm.h"
#include "engine/base/random.h"
#include "engine/ops/ops.h"
#include "engine/plan/plan.h"
#include "losses/calibration/evaluated_losses.h"
#include "tests/evaluation_support.h"
#include "tests/loss_head_run.h"
#include "tests/loss_output_run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static World *world;
static Collective *ranks, *alone;
static Device *device;

enum { K = 10, EACH = 9, MOST = 64 };

/* The op on each rank's part, against the op on the whole. Some samples of each rank are padding, of one rank
 * all but one. */
static void check_head(const LossHead *head, const char *what)
{
    const int64_t samples = (int64_t)EACH * world->size;
    assert_true(world->size <= MOST);
    float *logits = calloc((size_t)samples * K, sizeof *logits),
          *weight = calloc((size_t)samples, sizeof *weight);
    int32_t *target = calloc((size_t)samples, sizeof *target);
    RandomStream random = random_stream(5, RANDOM_TEST, 0);
    for (int64_t n = 0; n < samples; ++n) {
        for (int k = 0; k < K; ++k)
            logits[n * K + k] = (float)(2 * random_normal(&random));
        target[n] = (int32_t)random_below(&random, K);
        logits[n * K + target[n]] += 3;
        weight[n] = n % 4 == 3 || (n / EACH == world->size - 1 && n % EACH != 1) ? 0 : 1;
    }
    float *want = calloc((size_t)samples * K, sizeof *want), *got = calloc(EACH * K, sizeof *got);
    float confidence[MOST * EACH], correct[MOST * EACH];
    HeadOutputs whole = {.gradient = want, .confidence = confidence, .correct = correct};
    loss_head_run(device, alone, head, (HeadInputs){samples, K, logits, target, weight, 0}, &whole);
    HeadOutputs part = {.gradient = got, .confidence = confidence, .correct = correct};
    const int64_t first = (int64_t)EACH * world->rank;
    loss_head_run(device, ranks, head,
                  (HeadInputs){EACH, K, logits + first * K, target + first, weight + first, 0}, &part);
    for (int64_t i = 0; i < (int64_t)EACH * K; ++i)
        assert_close(&(double){(double)got[i]}, &(double){(double)want[first * K + i]}, 1, 2e-7, 1e-12, what);
    assert_ok(collective_sum(ranks, (Span){part.sums, LOSS_SUMS, FLOAT64}, NULL));
    assert_ok(collective_join(ranks, NULL));
    assert_close(part.sums, whole.sums, LOSS_SUMS, 1e-13, 0, what);
    free(got);
    free(want);
    free(target);
    free(weight);
    free(logits);
}

static void test_head(void **state)
{
    (void)state;
    check_head(&(LossHead){.form = SAMPLE_LABEL_SMOOTHING}, "cross-entropy");
    check_head(&(LossHead){.form = SAMPLE_FOCAL, .gamma = {.gamma = {5, 3}, .limit = {0.2}, .limits = 1}},
               "focal");
    check_head(&(LossHead){.penalty = PENALTY_MMCE, .lambda = 2, .kernel_width = 0.4}, "mmce");
    check_head(&(LossHead){.penalty = PENALTY_MMCE_WEIGHTED, .lambda = 2, .kernel_width = 0.4},
               "mmce weighted");
}

/* The output layer with its loss, in the same way; the ranks' gradients of the matrix add up. */
static void check_output(const LossHead *head, const char *what)
{
    enum { WIDTH = 4 };
    const LossOutput output = {.head = *head, .chunk = 4};
    const int64_t samples = (int64_t)EACH * world->size, first = (int64_t)EACH * world->rank;
    float hidden[MOST * EACH * WIDTH], weight[MOST * EACH], matrix[K * WIDTH], confidence[MOST * EACH],
        correct[MOST * EACH], d_hidden[MOST * EACH * WIDTH], own_d_hidden[EACH * WIDTH], d_matrix[K * WIDTH],
        own_d_matrix[K * WIDTH];
    int32_t target[MOST * EACH];
    RandomStream random = random_stream(6, RANDOM_TEST, 0);
    for (int i = 0; i < K * WIDTH; ++i)
        matrix[i] = (float)(2 * random_normal(&random));
    for (int64_t n = 0; n < samples; ++n) {
        for (int c = 0; c < WIDTH; ++c)
            hidden[n * WIDTH + c] = (float)random_normal(&random);
        target[n] = (int32_t)random_below(&random, K);
        weight[n] = n % 4 == 3 || (n / EACH == world->size - 1 && n % EACH != 1) ? 0 : 1;
    }
    OutputResults whole = {
        .d_hidden = d_hidden, .d_matrix = d_matrix, .confidence = confidence, .correct = correct};
    loss_output_run(device, alone, &output,
                    (OutputInputs){samples, WIDTH, K, FLOAT32, hidden, matrix, target, weight, 0}, &whole);
    OutputResults part = {
        .d_hidden = own_d_hidden, .d_matrix = own_d_matrix, .confidence = confidence, .correct = correct};
    loss_output_run(device, ranks, &output,
                    (OutputInputs){EACH, WIDTH, K, FLOAT32, hidden + first * WIDTH, matrix, target + first,
                                   weight + first, 0},
                    &part);
    assert_ok(collective_sum(ranks, (Span){part.sums, LOSS_SUMS, FLOAT64}, NULL));
    assert_ok(collective_sum(ranks, (Span){own_d_matrix, (int64_t)K * WIDTH, FLOAT32}, NULL));
    assert_ok(collective_join(ranks, NULL));
    assert_close(part.sums, whole.sums, LOSS_SUMS, 1e-6, 0, what);
    for (int i = 0; i < EACH * WIDTH; ++i)
        assert_close(&(double){(double)own_d_hidden[i]}, &(double){(double)d_hidden[first * WIDTH + i]}, 1,
                     1e-5, 1e-5, what);
    for (int i = 0; i < K * WIDTH; ++i)
        assert_close(&(double){(double)own_d_matrix[i]}, &(double){(double)d_matrix[i]}, 1, 1e-5, 1e-4, what);
}

static void test_output(void **state)
{
    (void)state;
    check_output(&(LossHead){.form = SAMPLE_FOCAL, .gamma = {.gamma = {3}}}, "focal");
    check_output(&(LossHead){.penalty = PENALTY_MMCE, .lambda = 2, .kernel_width = 0.4}, "mmce");
    check_output(&(LossHead){.penalty = PENALTY_MMCE_WEIGHTED, .lambda = 2, .kernel_width = 0.4},
                 "mmce weighted");
}

/* A linear network planned with a loss: its parameters' gradients and the reduced sums. */
enum { FEATURES = 6, CLASSES = 3, PARAMETERS = CLASSES * FEATURES + CLASSES };

/* own: if not NULL, the last rank has NaN in its samples, gradients are not reduced, and *own receives what
 * plan_check_finite says. */
static void train_step(Collective *collective, const LossHead *head, int64_t first, int64_t samples,
                       double gradient[PARAMETERS], double sums[LOSS_SUMS], Status *own)
{
    Graph *graph;
    Store *store;
    Arena *arena;
    Plan *plan;
    assert_ok(graph_create(GRAPH_TRAIN, FLOAT32, &graph));
    const Value x = graph_input(graph, "x", shape_of(FLOAT32, 2, (const int64_t[]){samples, FEATURES}));
    const Value target = graph_input(graph, "target", shape_of(INT32, 1, &samples));
    const Value weight = graph_input(graph, "weight", shape_of(FLOAT32, 1, &samples));
    const Value logits = linear(graph, "fc", x, (Linear){.features = CLASSES});
    const Value loss = loss_head(graph, logits, target, weight, head);
    graph_keep(graph, loss);
    graph_differentiate(graph, loss);
    assert_ok(graph_finish(graph));
    assert_ok(store_create(device, (const Graph *[]){graph}, 1, 3, &store));
    assert_ok(arena_create(device, &arena));
    assert_ok(plan_create(graph, store, arena, collective, PLAN_DEFAULTS, &plan));
    assert_ok(plan_reduce(plan, loss));
    RandomStream random = random_stream(9, RANDOM_TEST, 0);
    for (int64_t n = 0; n < first + samples; ++n) {
        for (int i = 0; i < FEATURES; ++i) {
            const float feature = (float)(3 * random_normal(&random));
            if (n >= first) ((float *)plan_data(plan, x))[(n - first) * FEATURES + i] = feature;
        }
        if (n < first) continue;
        ((int32_t *)plan_data(plan, target))[n - first] = (int32_t)(n * 7 % CLASSES);
        ((float *)plan_data(plan, weight))[n - first] = n % 5 == 4 ? 0 : 1;
    }
    if (own != NULL) {
        plan_set_micro_step(plan, 0, 2);
        for (int64_t n = 0; n < samples && world->rank == world->size - 1; ++n)
            ((float *)plan_data(plan, x))[n * FEATURES] = NAN;
    }
    assert_ok(plan_run(plan));
    if (own != NULL) *own = plan_check_finite(plan);
    memcpy(sums, plan_data(plan, loss), LOSS_SUMS * sizeof *sums);
    const StoreEntry *matrix = store_find(store, "fc.weight"), *bias = store_find(store, "fc.bias");
    for (int i = 0; i < PARAMETERS; ++i)
        gradient[i] =
            (double)(i < CLASSES * FEATURES ? matrix->gradient[i] : bias->gradient[i - CLASSES * FEATURES]);
    plan_free(plan);
    arena_free(arena);
    store_free(store);
    graph_free(graph);
}

static void check_train_step(const LossHead *head, const char *what)
{
    double whole[PARAMETERS], parts[PARAMETERS], whole_sums[LOSS_SUMS], parts_sums[LOSS_SUMS];
    train_step(alone, head, 0, (int64_t)EACH * world->size, whole, whole_sums, NULL);
    train_step(ranks, head, (int64_t)EACH * world->rank, EACH, parts, parts_sums, NULL);
    assert_close(parts, whole, PARAMETERS, 1e-5, 1e-5, what);
    assert_close(parts_sums, whole_sums, LOSS_SUMS, 1e-6, 0, what);
    double size = 0;
    for (int i = 0; i < PARAMETERS; ++i)
        size += whole[i] * whole[i];
    assert_true(size > 1 && whole_sums[LOSS_SUM] > 1);
}

static void test_train_step(void **state)
{
    (void)state;
    check_train_step(&(LossHead){.form = SAMPLE_BRIER}, "brier");
    check_train_step(&(LossHead){.penalty = PENALTY_MMCE, .lambda = 2, .kernel_width = 0.4}, "mmce");
    check_train_step(&(LossHead){.penalty = PENALTY_MMCE_WEIGHTED, .lambda = 20, .kernel_width = 0.4},
                     "mmce weighted");
}

/* Sums over ranks carry a NaN to all of them; only the rank that has it in its samples is told. */
static void test_a_nan_is_its_ranks_own(void **state)
{
    (void)state;
    double gradient[PARAMETERS], sums[LOSS_SUMS];
    Status own;
    train_step(ranks, &(LossHead){.form = SAMPLE_BRIER}, (int64_t)EACH * world->rank, EACH, gradient, sums,
               &own);
    assert_true(isnan(sums[LOSS_SUM]));
    if (world->rank == world->size - 1)
        assert_fails(own, STATUS_NUMERIC, "NaN");
    else
        assert_ok(own);
}

/* What golden cases call the losses of an evaluation, in its order. */
static const char *const golden_names[EVALUATED_LOSSES] = {
    "cross_entropy", "ls_paper_a0.05", "brier",    "focal_gamma1", "focal_gamma2",
    "focal_gamma3",  "flsd_53",        "flsd_532", "mmce_alone",   "mmce_weighted_alone"};

/* Which of them a case gives, or -1. */
static int evaluated_loss(const GoldenCase *golden)
{
    for (int i = 0; i < EVALUATED_LOSSES; ++i)
        if (strcmp(golden_text(golden, "loss"), golden_names[i]) == 0) return i;
    return -1;
}

/* What the case says of the loss; 0 where the published code gives NaN or fails. */
static double expected_loss(const GoldenCase *golden)
{
    if (golden_has(golden, "expected/value_mean")) return golden_number(golden, "expected/value_mean");
    const double value = golden_number_or(golden, "expected/value", 0);
    return isnan(value) ? 0 : value;
}

/* Each set's ten numbers: golden, and on several ranks bit for bit those of one. */
static void test_evaluated_losses(void **state)
{
    (void)state;
    int checked = 0, own = 0;
    for (const GoldenCase *golden = NULL; (golden = golden_next("loss", NULL, golden)) != NULL;) {
        const int index = evaluated_loss(golden);
        if (index < 0) continue;
        LogitSet set = set_open(world, golden, "inputs/logits", "inputs/labels");
        EvaluatedLosses got, single;
        const Logits whole = rows_of(&set, 0, set.logits.total);
        assert_ok(losses_evaluate(ranks, &set.logits, 0, &got));
        assert_ok(losses_evaluate(alone, &whole, 3, &single));
        assert_memory_equal(&got, &single, sizeof got);
        const double want = expected_loss(golden);
        assert_close(&got.value[index], &want, 1, 1e-10, 1e-12, golden->id);
        ++checked;
        own += index < 8;
        set_close(&set);
    }
    assert_true(checked > own && own > 0);
}

/* Losses without a bound are what they are, and the first row that has one is named. */
static void test_large_losses(void **state)
{
    (void)state;
    enum { ROWS = 4, WIDE = 3 };
    static const float highest = 1e30F;
    float values[ROWS][WIDE] = {{1, 2, 3}, {2, 0, 1}, {2, -highest, 1}, {1, 1, 1}};
    const uint8_t labels[ROWS] = {2, 1, 1, 0};
    EvaluatedLosses got;
    for (int masked = 0; masked < 2; ++masked) {
        if (masked) values[1][2] = values[2][1] = -INFINITY; /* of another class, and the label's own */
        int64_t first, count;
        share_of_rank(ROWS, world->rank, world->size, &first, &count);
        const Logits logits = {.name = "large",
                               .type = FLOAT32,
                               .values = values[first < ROWS ? first : 0],
                               .label_type = UINT8,
                               .labels = labels + first,
                               .count = count,
                               .first = first,
                               .total = ROWS,
                               .classes = WIDE};
        assert_ok(losses_evaluate(ranks, &logits, 1, &got));
        assert_int_equal(got.large_count, masked ? 2 : 1);
        assert_int_equal(got.large_row, masked ? 1 : 2);
        for (int i = 0; i < EVALUATED_LOSSES; ++i) {
            const char *name = evaluated_loss_names[i];
            const bool bounded = strcmp(name, "brier") == 0 || strncmp(name, "mmce", 4) == 0;
            const bool smooth = strncmp(name, "label_smoothing", 15) == 0;
            const double want = (double)highest / ROWS * (smooth ? 0.95 : 1);
            if (bounded)
                assert_true(fabs(got.value[i]) < 2);
            else if (masked)
                assert_true(got.value[i] == INFINITY);
            else
                assert_close(&got.value[i], &want, 1, 1e-7, 0, name);
        }
    }
}

int main(int argc, char **argv)
{
    enum { TIMEOUT = 60 };
    Status status = comm_start(&argc, &argv, &world);
    if (status == OK) status = comm_collective(world, TIMEOUT, &ranks);
    if (status == OK) status = collective_self(&alone);
    if (status == OK) status = device_open(test_device(), 0, 2, &device);
    if (status != OK) comm_abort(world, status);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_head),
        cmocka_unit_test(test_output),
        cmocka_unit_test(test_train_step),
        cmocka_unit_test(test_a_nan_is_its_ranks_own),
        cmocka_unit_test(test_evaluated_losses),
        cmocka_unit_test(test_large_losses),
    };
    const int failures = cmocka_run_group_tests(tests, NULL, NULL);
    if (failures > 0) return 1; /* the ranks may be out of step: leave it to mpirun to end the others */
    device_close(device);
    collective_free(alone);
    collective_free(ranks);
    comm_stop(world);
    return 0;
}
