/* Optimizers against traces of torch, step by step; schedules against the published code's learning rates. */
#include "engine/graph/op.h"
#include "engine/optim/optimizer.h"
#include "tests/golden.h"

#include <float.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- a store without a network: an op that all parameters enter, and its gradient ---- */

static Status infer_sink(const Node *node, const Shape in[], Shape out[])
{
    (void)node, (void)in;
    const int64_t one = 1;
    out[0] = shape_of(FLOAT32, 1, &one);
    return OK;
}

static Status infer_sink_gradient(const Node *node, const Shape in[], Shape out[])
{
    for (int i = 0; i < node->output_count; ++i)
        out[i] = in[i];
    return OK;
}

enum { TENSORS = 3 };
static const Op sink_gradient = {
    .name = "sink_gradient", .output_count = TENSORS, .infer = infer_sink_gradient};

static void gradient_of_sink(Graph *graph, const Node *node, const Value d_out[], const bool wanted[],
                             Value d_in[])
{
    (void)d_out, (void)wanted;
    const Value first = graph_node(graph, &sink_gradient, node->input, TENSORS, NULL, 0);
    for (int i = 0; i < TENSORS; ++i)
        d_in[i] = graph_output(graph, first, i);
}

static const Op sink = {.name = "sink", .output_count = 1, .infer = infer_sink, .gradient = gradient_of_sink};

typedef struct {
    Device *device;
    Graph *graph;
    Store *store;
    const StoreEntry *entry[TENSORS];
    int64_t count;
} Fixture;

static Fixture fixture_new(const Shape shape[TENSORS], int threads)
{
    Fixture fixture = {0};
    assert_ok(device_open(test_device(), 0, threads, &fixture.device));
    assert_ok(graph_create(GRAPH_TRAIN, FLOAT32, &fixture.graph));
    static const char *const names[TENSORS] = {"a", "b", "c"};
    Value parameter[TENSORS];
    for (int i = 0; i < TENSORS; ++i)
        parameter[i] = graph_parameter(fixture.graph, names[i], shape[i], (Init){.kind = INIT_ZEROS});
    graph_differentiate(fixture.graph, graph_node(fixture.graph, &sink, parameter, TENSORS, NULL, 0));
    assert_ok(graph_finish(fixture.graph));
    assert_ok(store_create(fixture.device, (const Graph *[]){fixture.graph}, 1, 1, &fixture.store));
    for (int i = 0; i < TENSORS; ++i) {
        fixture.entry[i] = store_find(fixture.store, names[i]);
        assert_non_null(fixture.entry[i]);
        assert_non_null(fixture.entry[i]->gradient);
        fixture.count += shape_count(shape[i]);
    }
    return fixture;
}

static void fixture_free(Fixture *fixture)
{
    store_free(fixture->store);
    graph_free(fixture->graph);
    device_close(fixture->device);
}

/* The tensors one after the other, as the traces have them. */
static void set(const Fixture *fixture, bool gradients, const double *values)
{
    for (int t = 0; t < TENSORS; ++t) {
        float *to = gradients ? fixture->entry[t]->gradient : fixture->entry[t]->data;
        const int64_t count = shape_count(fixture->entry[t]->shape);
        float *host = malloc((size_t)count * sizeof *host);
        assert_non_null(host);
        for (int64_t i = 0; i < count; ++i)
            host[i] = (float)*values++;
        assert_ok(device_upload(fixture->device, to, host, (size_t)count * sizeof *host));
        assert_ok(device_synchronize(fixture->device));
        free(host);
    }
}

/* A copy on the host; released with free(). */
static float *fetch(const Fixture *fixture, const float *from, int64_t count)
{
    float *host = malloc((size_t)count * sizeof *host);
    assert_non_null(host);
    assert_ok(device_download(fixture->device, host, from, (size_t)count * sizeof *host));
    assert_ok(device_synchronize(fixture->device));
    return host;
}

static void get(const Fixture *fixture, double *values)
{
    for (int t = 0; t < TENSORS; ++t) {
        const int64_t count = shape_count(fixture->entry[t]->shape);
        float *host = fetch(fixture, fixture->entry[t]->data, count);
        for (int64_t i = 0; i < count; ++i)
            *values++ = (double)host[i];
        free(host);
    }
}

static const Shape small_shapes[TENSORS] = {
    {FLOAT32, 2, {4, 3}},
    {FLOAT32, 1, {3}},
    {FLOAT32, 1, {5}},
};
enum { SIZE = 20, STEPS = 20 };

static double gradient_norm(Optimizer *optimizer, const Store *store)
{
    double norm;
    assert_ok(optimizer_gradient_norm(optimizer, &norm));
    assert_ok(device_synchronize(store_device(store)));
    return norm;
}

/* ---- traces ---- */

#define SGD .name = "sgd", .momentum = 0.9, .weight_decay = 5e-4

/* What a golden case asks for. */
typedef struct {
    OptimizerOptions options;
    Schedule schedule;
    int64_t drop_after; /* steps, after which the learning rate is `dropped`; 0: never */
    double dropped;
} Case;

static Case case_of(const GoldenCase *golden)
{
    Case c = {.options = {.name = "sgd"}, .schedule = {.name = "constant"}};
    OptimizerOptions *options = &c.options;
    options->momentum = golden_number_or(golden, "params/momentum", 0);
    options->weight_decay = golden_number_or(golden, "params/weight_decay", 0);
    options->nesterov = golden_number_or(golden, "params/nesterov", 0) != 0;
    options->clip_norm = golden_number_or(golden, "params/clip_grad_norm", 0);
    options->epsilon = golden_number_or(golden, "params/eps", 0);
    if (golden_has(golden, "params/betas")) {
        options->name = "adam";
        options->beta1 = golden_number_at(golden, "params/betas", 0);
        options->beta2 = golden_number_at(golden, "params/betas", 1);
    } else if (golden_has(golden, "params/initial_accumulator")) {
        options->name = "adagrad";
        assert_true(golden_number(golden, "params/initial_accumulator") == 0 &&
                    golden_number(golden, "params/lr_decay") == 0);
    }
    if (golden_has(golden, "params/warmup")) {
        c.schedule = (Schedule){.name = "inverse_square_root",
                                .learning_rate = 1,
                                .warmup_steps = (int64_t)golden_number(golden, "params/warmup"),
                                .model_width = (int64_t)golden_number(golden, "params/d_model")};
    } else if (cJSON_IsString(golden_item(golden, "params/lr"))) {
        int read = 0;
        long last;
        (void)sscanf(golden_text(golden, "params/lr"), "%lf for steps 1-%ld, %lf for steps%n",
                     &c.schedule.learning_rate, &last, &c.dropped, &read);
        assert_true(read > 0);
        c.drop_after = last;
    } else {
        c.schedule.learning_rate = golden_number(golden, "params/lr");
    }
    return c;
}

static double rate_at(const Case *c, int step)
{
    return c->drop_after > 0 && step > c->drop_after ? c->dropped
                                                     : schedule_learning_rate(&c->schedule, 0, step);
}

static void check_shapes(const GoldenCase *golden)
{
    const cJSON *tensors = golden_item(golden, "params/parameter_tensors");
    assert_int_equal(cJSON_GetArraySize(tensors), TENSORS);
    for (int t = 0; t < TENSORS; ++t) {
        const cJSON *extents = cJSON_GetArrayItem(tensors, t);
        assert_int_equal(cJSON_GetArraySize(extents), small_shapes[t].rank);
        for (int i = 0; i < small_shapes[t].rank; ++i)
            assert_int_equal(cJSON_GetArrayItem(extents, i)->valueint, small_shapes[t].extent[i]);
    }
    assert_true(golden_number(golden, "params/steps") == STEPS);
}

/* gradient_scale s with gradients divided by s must give the same trace: it is a mean over 1 / s. */
static void run_trace(const GoldenCase *golden, double gradient_scale)
{
    check_shapes(golden);
    const Case c = case_of(golden);
    const bool quadratic = strcmp(golden_text(golden, "params/gradient"), "A p - b") == 0;
    assert_true(quadratic || strcmp(golden_text(golden, "params/gradient"), "row t of grads") == 0);
    GoldenArray trace = golden_array(golden, "expected_files/trace"),
                given = golden_array(golden, "inputs/grads"), matrix = golden_array(golden, "inputs/quad_A"),
                offset = golden_array(golden, "inputs/quad_b"), start = golden_array(golden, "inputs/p0");
    assert_true(trace.count == (STEPS + 1) * SIZE && given.count == STEPS * SIZE);
    assert_true(matrix.count == SIZE * SIZE && offset.count == SIZE && start.count == SIZE);

    Fixture fixture = fixture_new(small_shapes, 2);
    assert_int_equal(fixture.count, SIZE);
    set(&fixture, false, start.values);
    Optimizer *optimizer;
    assert_ok(optimizer_create(fixture.store, c.options, &optimizer));
    for (int step = 1; step <= STEPS; ++step) {
        double parameter[SIZE], gradient[SIZE], squares = 0;
        get(&fixture, parameter);
        for (int i = 0; i < SIZE; ++i) {
            gradient[i] = given.values[(step - 1) * SIZE + i];
            if (quadratic) {
                gradient[i] = -offset.values[i];
                for (int j = 0; j < SIZE; ++j)
                    gradient[i] += matrix.values[i * SIZE + j] * parameter[j];
            }
            squares += gradient[i] * gradient[i];
            gradient[i] /= gradient_scale;
        }
        set(&fixture, true, gradient);
        assert_ok(optimizer_set(optimizer, step, rate_at(&c, step), gradient_scale));
        assert_ok(optimizer_step(optimizer));
        const double norm = gradient_norm(optimizer, fixture.store), rate = rate_at(&c, step);
        assert_close(&norm, &(double){sqrt(squares)}, 1, 1e-6, 0, "gradient norm");
        /* The gradient of the quadratic problem is that of parameters in float32. */
        const double want_norm = golden_number_at(golden, "expected/grad_norm_before_clip", step - 1);
        const double want_rate = golden_number_at(golden, "expected/lr_per_step", step - 1);
        assert_close(&norm, &want_norm, 1, 1e-5, 1e-6, golden->id);
        assert_close(&rate, &want_rate, 1, 1e-12, 0, golden->id);
        get(&fixture, parameter);
        assert_close(parameter, trace.values + (ptrdiff_t)step * SIZE, SIZE, 1e-5, 1e-6, golden->id);
        golden_count(SIZE + 2);
    }
    optimizer_free(optimizer);
    fixture_free(&fixture);
    golden_array_free(&trace);
    golden_array_free(&given);
    golden_array_free(&matrix);
    golden_array_free(&offset);
    golden_array_free(&start);
}

static void test_traces(void **state)
{
    (void)state;
    for (const GoldenCase *golden = NULL; (golden = golden_next("optimizer", NULL, golden)) != NULL;) {
        run_trace(golden, 1);
        run_trace(golden, 1.0 / 128);
    }
}

/* ---- what the traces do not show ---- */

static const Shape large_shapes[TENSORS] = {
    {FLOAT32, 2, {317, 211}},
    {FLOAT32, 1, {100003}},
    {FLOAT32, 1, {1}},
};

/* The same bits whatever the number of threads, and gaps between tensors that stay zero. */
static void test_threads(void **state)
{
    (void)state;
    double *expected = NULL, expected_norm = 0;
    for (int threads = 1; threads <= 4; ++threads) {
        Fixture fixture = fixture_new(large_shapes, threads);
        double *values = malloc((size_t)fixture.count * sizeof *values);
        assert_non_null(values);
        Optimizer *optimizer;
        assert_ok(optimizer_create(fixture.store, (OptimizerOptions){SGD, .clip_norm = 2}, &optimizer));
        for (int step = 1; step <= 3; ++step) {
            for (int64_t i = 0; i < fixture.count; ++i)
                values[i] = sin((double)(i * 7919 + step));
            if (step == 1) set(&fixture, false, values);
            set(&fixture, true, values);
            assert_ok(optimizer_set(optimizer, step, 0.1, 1));
            assert_ok(optimizer_step(optimizer));
        }
        const double norm = gradient_norm(optimizer, fixture.store);
        get(&fixture, values);
        float *flat = fetch(&fixture, store_parameters(fixture.store), store_flat_count(fixture.store));
        int64_t zeros = 0;
        for (int64_t i = 0; i < store_flat_count(fixture.store); ++i)
            zeros += flat[i] == 0;
        free(flat);
        assert_true(zeros >= store_flat_count(fixture.store) - fixture.count);
        if (expected == NULL) {
            expected = values;
            expected_norm = norm;
            double squares = 0;
            for (int64_t i = 0; i < fixture.count; ++i)
                squares +=
                    (double)(float)sin((double)(i * 7919 + 3)) * (double)(float)sin((double)(i * 7919 + 3));
            assert_close(&norm, &(double){sqrt(squares)}, 1, 1e-12, 0, "norm");
        } else {
            assert_memory_equal(expected, values, (size_t)fixture.count * sizeof *values);
            assert_true(norm == expected_norm);
            free(values);
        }
        optimizer_free(optimizer);
        fixture_free(&fixture);
    }
    free(expected);
}

#define VASWANI .name = "adam", .beta1 = 0.9, .beta2 = 0.98, .epsilon = 1e-9
static const OptimizerOptions optimizers[] = {
    {SGD},
    {SGD, .nesterov = true},
    {SGD, .clip_norm = 2},
    {SGD, .nesterov = true, .clip_norm = 2},
    {.name = "adam", .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8},
    {.name = "adam", .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = 5e-4},
    {VASWANI},
    {.name = "adagrad", .weight_decay = 1e-4, .epsilon = 1e-10},
};

/* Optimizer state is the store's: another optimizer on the same store goes on where the first stopped. */
static void test_state_survives(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof optimizers / sizeof *optimizers; ++i) {
        double result[2][SIZE];
        for (int restart = 0; restart < 2; ++restart) {
            Fixture fixture = fixture_new(small_shapes, 1);
            Optimizer *optimizer;
            assert_ok(optimizer_create(fixture.store, optimizers[i], &optimizer));
            for (int step = 1; step <= 6; ++step) {
                double gradient[SIZE];
                for (int k = 0; k < SIZE; ++k)
                    gradient[k] = cos((double)(k + 31 * step));
                set(&fixture, true, gradient);
                if (restart && step == 4) {
                    optimizer_free(optimizer);
                    assert_ok(optimizer_create(fixture.store, optimizers[i], &optimizer));
                }
                assert_ok(optimizer_set(optimizer, step, 0.01, 1));
                assert_ok(optimizer_step(optimizer));
            }
            get(&fixture, result[restart]);
            assert_true(store_flat_arrays(fixture.store) ==
                        (strcmp(optimizers[i].name, "adam") == 0 ? 2 : 1));
            optimizer_free(optimizer);
            fixture_free(&fixture);
        }
        assert_memory_equal(result[0], result[1], sizeof result[0]);
    }
}

static void test_plain_sgd(void **state)
{
    (void)state;
    Fixture fixture = fixture_new(small_shapes, 1);
    Optimizer *optimizer;
    assert_ok(optimizer_create(fixture.store, (OptimizerOptions){.name = "sgd"}, &optimizer));
    assert_int_equal(store_flat_arrays(fixture.store), 0); /* no memory for a momentum that is not there */
    double gradient[SIZE], parameter[SIZE], expected[SIZE];
    for (int i = 0; i < SIZE; ++i) {
        gradient[i] = i;
        expected[i] = -0.5 * 0.25 * i;
    }
    set(&fixture, true, gradient);
    assert_ok(optimizer_set(optimizer, 1, 0.5, 0.25));
    assert_ok(optimizer_step(optimizer));
    get(&fixture, parameter);
    assert_close(parameter, expected, SIZE, 0, 0, "parameter");
    /* Gradients that are not finite are reported by their norm and change nothing. */
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int clip = 0; clip < 2; ++clip)
        for (size_t i = 0; i < sizeof bad / sizeof *bad; ++i) {
            optimizer_free(optimizer);
            assert_ok(optimizer_create(
                fixture.store, (OptimizerOptions){.name = "sgd", .momentum = 0.9, .clip_norm = 2.0 * clip},
                &optimizer));
            gradient[7] = (double)bad[i];
            for (int step = 1; step <= 2; ++step) { /* nor does one change anything that comes after them */
                set(&fixture, true, gradient);
                assert_ok(optimizer_set(optimizer, step, 0.5, 1));
                assert_ok(optimizer_step(optimizer));
                const double norm = gradient_norm(optimizer, fixture.store);
                assert_false(isfinite(norm));
                get(&fixture, parameter);
                assert_close(parameter, expected, SIZE, 0, 0, "parameter");
                gradient[7] = 1;
            }
            float *momentum =
                fetch(&fixture, store_flat_data(fixture.store, 0), store_flat_count(fixture.store));
            for (int64_t k = 0; k < store_flat_count(fixture.store); ++k)
                assert_true(momentum[k] == 0);
            free(momentum);
        }
    optimizer_free(optimizer);
    fixture_free(&fixture);
}

static void test_bad_options(void **state)
{
    (void)state;
    static const struct {
        OptimizerOptions options;
        const char *text;
    } bad[] = {
        {{.name = "sdg"}, "no optimizer \"sdg\""},
        {{.name = NULL}, "no optimizer \"\""},
        {{.name = "sgd", .momentum = 1}, "not in [0, 1)"},
        {{.name = "sgd", .momentum = (double)NAN}, "not in [0, 1)"},
        {{.name = "sgd", .nesterov = true}, "nesterov needs a momentum"},
        {{.name = "sgd", .weight_decay = -1}, "must not be negative"},
        {{.name = "sgd", .clip_norm = -1}, "must not be negative"},
        {{.name = "adam", .beta2 = 1, .epsilon = 1e-8}, "not both in [0, 1)"},
        {{.name = "adam", .beta2 = 0.999}, "needs an epsilon"},
        {{.name = "adagrad"}, "needs an epsilon"},
    };
    Fixture fixture = fixture_new(small_shapes, 1);
    Optimizer *optimizer;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; ++i) {
        assert_fails(optimizer_create(fixture.store, bad[i].options, &optimizer), STATUS_INPUT, bad[i].text);
        assert_null(optimizer);
    }
    assert_ok(optimizer_create(fixture.store, (OptimizerOptions){.name = "sgd"}, &optimizer));
    assert_fails(optimizer_set(optimizer, 0, 0.1, 1), STATUS_INTERNAL, "the first is 1");
    optimizer_free(optimizer);
    optimizer_free(NULL);
    fixture_free(&fixture);
}

/* ---- schedules ---- */

static void assert_rate(const Schedule *schedule, int64_t epoch, int64_t step, double expected)
{
    const double rate = schedule_learning_rate(schedule, epoch, step);
    assert_close(&rate, &expected, 1, 1e-12, 0, schedule->name);
}

/* The learning rate by step, steps being the keys. */
static void test_vaswani(void **state)
{
    (void)state;
    for (const GoldenCase *golden = NULL;
         (golden = golden_next("lr_schedule", "params/warmup", golden)) != NULL;) {
        const Schedule schedule = case_of(golden).schedule;
        const cJSON *rate;
        cJSON_ArrayForEach(rate, golden_item(golden, "expected/lr"))
        {
            assert_rate(&schedule, 0, strtoll(rate->string, NULL, 10), golden_json_number(rate));
            golden_count(1);
        }
    }
}

/* Steps, in the published code's loop and as the paper says. */
static void check_steps(const GoldenCase *golden, const char *loop, bool early)
{
    char epochs[128], rates[128];
    (void)snprintf(epochs, sizeof epochs, "expected/%s_change_epochs_0based", loop);
    (void)snprintf(rates, sizeof rates, "expected/%s_lr", loop);
    int64_t milestones[8];
    const int count = golden_length(golden, "params/milestones");
    assert_true(count <= 8 && golden_length(golden, epochs) == count &&
                golden_length(golden, rates) == count + 1);
    for (int i = 0; i < count; ++i)
        milestones[i] = (int64_t)golden_number_at(golden, "params/milestones", i);
    const Schedule schedule = {.name = "steps",
                               .learning_rate = golden_number(golden, "params/base_lr"),
                               .epochs = milestones,
                               .epoch_count = count,
                               .factor = 0.1,
                               .one_epoch_early = early};
    const GoldenTolerance tolerance = golden_tolerance(golden, "f64", "");
    int part = 0;
    for (int64_t epoch = 0; epoch < (int64_t)golden_number(golden, "params/epochs"); ++epoch) {
        if (part < count && epoch == (int64_t)golden_number_at(golden, epochs, part)) ++part;
        const double expected = golden_number_at(golden, rates, part);
        const double rate = schedule_learning_rate(&schedule, epoch, epoch * 352 + 1);
        assert_close(&rate, &expected, 1, fmin(tolerance.relative, 1e-12), tolerance.absolute, golden->id);
        golden_count(1);
    }
    assert_int_equal(part, count);
}

static void test_steps(void **state)
{
    (void)state;
    for (const GoldenCase *golden = NULL;
         (golden = golden_next("lr_schedule", "params/milestones", golden)) != NULL;) {
        check_steps(golden, "official_loop", true);
        check_steps(golden, "paper", false);
    }
    static const int64_t cifar[] = {150, 250};
    const Schedule warm = {.name = "steps",
                           .learning_rate = 0.1,
                           .epochs = cifar,
                           .epoch_count = 2,
                           .factor = 0.1,
                           .warmup_steps = 10};
    assert_rate(&warm, 0, 1, 0.01);
    assert_rate(&warm, 0, 9, 0.09);
    assert_rate(&warm, 0, 10, 0.1);
    assert_rate(&warm, 1, 11, 0.1);
    assert_rate(&warm, 150, 50000, 0.01);
}

static void test_other_schedules(void **state)
{
    (void)state;
    const Schedule constant = {.name = "constant", .learning_rate = 0.3, .warmup_steps = 4};
    assert_rate(&constant, 0, 1, 0.075);
    assert_rate(&constant, 0, 4, 0.3);
    assert_rate(&constant, 99, 1000000, 0.3);

    const Schedule cosine = {.name = "cosine", .learning_rate = 0.5, .total_steps = 100, .final_rate = 0.1};
    assert_rate(&cosine, 0, 1, 0.5);
    assert_rate(&cosine, 0, 26, 0.3 + 0.2 * sqrt(0.5));
    assert_rate(&cosine, 0, 51, 0.3);
    assert_rate(&cosine, 0, 101, 0.1);
    assert_rate(&cosine, 0, 1000, 0.1); /* it ends there and does not rise again */
    const Schedule warm = {.name = "cosine", .learning_rate = 0.5, .total_steps = 120, .warmup_steps = 20};
    assert_rate(&warm, 0, 10, 0.25);
    assert_rate(&warm, 0, 20, 0.5);
    assert_rate(&warm, 0, 21, 0.5);
    assert_rate(&warm, 0, 71, 0.25);

    const Schedule linear = {.name = "linear",
                             .learning_rate = 0.5,
                             .total_steps = 100,
                             .warmup_steps = 20,
                             .final_rate = 0.1,
                             .decay = 0.5};
    assert_rate(&linear, 0, 10, 0.25);
    assert_rate(&linear, 0, 20, 0.5);
    assert_rate(&linear, 0, 51, 0.5);
    assert_rate(&linear, 0, 76, 0.3);
    assert_rate(&linear, 0, 101, 0.1);
    assert_rate(&linear, 0, 1000, 0.1);
    /* A warm-up longer than the constant part, and a rate that rises. */
    const Schedule steep = {
        .name = "linear", .learning_rate = 1, .total_steps = 10, .warmup_steps = 9, .decay = 1};
    assert_rate(&steep, 0, 5, 5.0 / 9);
    assert_rate(&steep, 0, 8, 0.3);
    const Schedule rising = {
        .name = "linear", .learning_rate = 1, .total_steps = 10, .final_rate = 2, .decay = 1};
    assert_rate(&rising, 0, 6, 1.5);

    const Schedule cold = {.name = "inverse_square_root", .learning_rate = 2, .model_width = 4};
    assert_rate(&cold, 0, 1, 1);
    assert_rate(&cold, 0, 16, 0.25);
    assert_true(isnan(schedule_learning_rate(&(Schedule){.name = "stairs"}, 0, 1)));
    assert_int_equal(schedule_takes("stairs"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_traces),         cmocka_unit_test(test_threads),
        cmocka_unit_test(test_state_survives), cmocka_unit_test(test_plain_sgd),
        cmocka_unit_test(test_bad_options),    cmocka_unit_test(test_vaswani),
        cmocka_unit_test(test_steps),          cmocka_unit_test(test_other_schedules),
    };
    const int failures = cmocka_run_group_tests(tests, NULL, NULL);
    print_message("%lld golden values\n", (long long)golden_checked());
    return failures;
}
