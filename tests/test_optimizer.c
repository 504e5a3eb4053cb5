/* Optimizers against traces of torch, step by step; schedules against the published code's learning rates. */
#include "engine/graph/op.h"
#include "engine/optim/optimizer.h"
#include "tests/support.h"

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

static const Shape golden_shapes[TENSORS] = {
    {FLOAT32, 2, {4, 3}},
    {FLOAT32, 1, {3}},
    {FLOAT32, 1, {5}},
};
enum { SIZE = 20, STEPS = 20 };

/* ---- traces ---- */

typedef struct {
    const char *name;
    OptimizerOptions options;
    Schedule schedule;
    int drop_after; /* steps, after which the learning rate is a tenth; 0: never */
} Case;

#define SGD .name = "sgd", .momentum = 0.9, .weight_decay = 5e-4
#define VASWANI .name = "adam", .beta1 = 0.9, .beta2 = 0.98, .epsilon = 1e-9
static const Case cases[] = {
    {"sgd_m0.9_wd5e-4", {SGD}, {.name = "constant", .learning_rate = 0.1}, 0},
    {"sgd_m0.9_wd5e-4_nesterov", {SGD, .nesterov = true}, {.name = "constant", .learning_rate = 0.1}, 0},
    {"sgd_m0.9_wd5e-4_clip2", {SGD, .clip_norm = 2}, {.name = "constant", .learning_rate = 0.1}, 0},
    {"sgd_m0.9_wd5e-4_nesterov_clip2",
     {SGD, .nesterov = true, .clip_norm = 2},
     {.name = "constant", .learning_rate = 0.1},
     0},
    {"sgd_m0.9_wd5e-4_clip2_lrdrop", {SGD, .clip_norm = 2}, {.name = "constant", .learning_rate = 0.1}, 10},
    {"adam",
     {.name = "adam", .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8},
     {.name = "constant", .learning_rate = 1e-3},
     0},
    {"adam_l2_5e-4",
     {.name = "adam", .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = 5e-4},
     {.name = "constant", .learning_rate = 1e-3},
     0},
    {"adam_vaswani_w4000",
     {VASWANI},
     {.name = "inverse_square_root", .learning_rate = 1, .warmup_steps = 4000, .model_width = 512},
     0},
    {"adam_vaswani_w8",
     {VASWANI},
     {.name = "inverse_square_root", .learning_rate = 1, .warmup_steps = 8, .model_width = 512},
     0},
    {"adagrad",
     {.name = "adagrad", .weight_decay = 1e-4, .epsilon = 1e-10},
     {.name = "constant", .learning_rate = 0.05},
     0},
};

static double gradient_norm(Optimizer *optimizer, const Store *store)
{
    double norm;
    assert_ok(optimizer_gradient_norm(optimizer, &norm));
    assert_ok(device_synchronize(store_device(store)));
    return norm;
}

static double rate_at(const Case *c, int step)
{
    const double rate = schedule_learning_rate(&c->schedule, 0, step);
    return c->drop_after > 0 && step > c->drop_after ? 0.1 * rate : rate;
}

/* gradient_scale s with gradients divided by s must give the same trace: it is a mean over 1 / s. */
static void run_trace(const Case *c, const char *gradient_kind, double gradient_scale)
{
    char path[256];
    (void)snprintf(path, sizeof path, "optim/%s.%s.trace.npy", c->name, gradient_kind);
    int64_t count;
    double *trace = golden_doubles(path, &count, NULL);
    assert_int_equal(count, (STEPS + 1) * SIZE);
    double *given = golden_doubles("optim/grads.npy", &count, NULL);
    assert_int_equal(count, STEPS * SIZE);
    double *matrix = golden_doubles("optim/quad_A.npy", &count, NULL);
    assert_int_equal(count, SIZE * SIZE);
    double *offset = golden_doubles("optim/quad_b.npy", &count, NULL);
    assert_int_equal(count, SIZE);

    Fixture fixture = fixture_new(golden_shapes, 2);
    assert_int_equal(fixture.count, SIZE);
    set(&fixture, false, trace);
    Optimizer *optimizer;
    assert_ok(optimizer_create(fixture.store, c->options, &optimizer));
    for (int step = 1; step <= STEPS; ++step) {
        double parameter[SIZE], gradient[SIZE], squares = 0, norm;
        get(&fixture, parameter);
        for (int i = 0; i < SIZE; ++i) {
            gradient[i] = given[(step - 1) * SIZE + i];
            if (strcmp(gradient_kind, "quadratic") == 0) {
                gradient[i] = -offset[i];
                for (int j = 0; j < SIZE; ++j)
                    gradient[i] += matrix[i * SIZE + j] * parameter[j];
            }
            squares += gradient[i] * gradient[i];
            gradient[i] /= gradient_scale;
        }
        set(&fixture, true, gradient);
        assert_ok(optimizer_set(optimizer, step, rate_at(c, step), gradient_scale));
        assert_ok(optimizer_step(optimizer));
        norm = gradient_norm(optimizer, fixture.store);
        assert_close(&norm, &(double){sqrt(squares)}, 1, 1e-6, 0, "gradient norm");
        get(&fixture, parameter);
        assert_close(parameter, trace + (ptrdiff_t)step * SIZE, SIZE, 1e-5, 1e-6, path);
    }
    optimizer_free(optimizer);
    fixture_free(&fixture);
    free(trace);
    free(given);
    free(matrix);
    free(offset);
}

static void test_traces(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        run_trace(&cases[i], "given_gradients", 1);
        run_trace(&cases[i], "quadratic", 1);
        run_trace(&cases[i], "given_gradients", 1.0 / 128);
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

/* Optimizer state is the store's: another optimizer on the same store goes on where the first stopped. */
static void test_state_survives(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        double result[2][SIZE];
        for (int restart = 0; restart < 2; ++restart) {
            Fixture fixture = fixture_new(golden_shapes, 1);
            Optimizer *optimizer;
            assert_ok(optimizer_create(fixture.store, cases[i].options, &optimizer));
            for (int step = 1; step <= 6; ++step) {
                double gradient[SIZE];
                for (int k = 0; k < SIZE; ++k)
                    gradient[k] = cos((double)(k + 31 * step));
                set(&fixture, true, gradient);
                if (restart && step == 4) {
                    optimizer_free(optimizer);
                    assert_ok(optimizer_create(fixture.store, cases[i].options, &optimizer));
                }
                assert_ok(optimizer_set(optimizer, step, 0.01, 1));
                assert_ok(optimizer_step(optimizer));
            }
            get(&fixture, result[restart]);
            assert_true(store_flat_arrays(fixture.store) ==
                        (strcmp(cases[i].options.name, "adam") == 0 ? 2 : 1));
            optimizer_free(optimizer);
            fixture_free(&fixture);
        }
        assert_memory_equal(result[0], result[1], sizeof result[0]);
    }
}

static void test_plain_sgd(void **state)
{
    (void)state;
    Fixture fixture = fixture_new(golden_shapes, 1);
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
    Fixture fixture = fixture_new(golden_shapes, 1);
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

static void test_vaswani(void **state)
{
    (void)state;
    const Schedule schedule = {
        .name = "inverse_square_root", .learning_rate = 1, .warmup_steps = 4000, .model_width = 512};
    static const struct {
        int64_t step;
        double rate;
    } expected[] = {
        {1, 1.746928107421711e-07},      {2, 3.493856214843422e-07},       {100, 1.746928107421711e-05},
        {3999, 0.0006985965501579421},   {4000, 0.0006987712429686843},    {4001, 0.000698683912937353},
        {10000, 0.00044194173824159226}, {100000, 0.00013975424859373687},
    };
    for (size_t i = 0; i < sizeof expected / sizeof *expected; ++i)
        assert_rate(&schedule, 0, expected[i].step, expected[i].rate);
}

/* The paper's epochs, and those of the published loop under torch >= 1.1, one earlier. */
static void test_steps(void **state)
{
    (void)state;
    static const int64_t cifar[] = {150, 250}, tiny_imagenet[] = {40, 60};
    const int64_t *const milestones[] = {cifar, tiny_imagenet};
    const int64_t epochs[] = {350, 100};
    for (int set_index = 0; set_index < 2; ++set_index)
        for (int early = 0; early < 2; ++early) {
            const Schedule schedule = {.name = "steps",
                                       .learning_rate = 0.1,
                                       .epochs = milestones[set_index],
                                       .epoch_count = 2,
                                       .factor = 0.1,
                                       .one_epoch_early = early == 1};
            for (int64_t epoch = 0; epoch < epochs[set_index]; ++epoch) {
                double expected = 0.1;
                if (epoch >= milestones[set_index][0] - early) expected = 0.01;
                if (epoch >= milestones[set_index][1] - early) expected = 0.001;
                const double rate = schedule_learning_rate(&schedule, epoch, epoch * 352 + 1);
                assert_close(&rate, &expected, 1, 1e-12, 0, "steps");
            }
        }
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

    const Schedule cold = {.name = "inverse_square_root", .learning_rate = 2, .model_width = 4};
    assert_rate(&cold, 0, 1, 1);
    assert_rate(&cold, 0, 16, 0.25);
    assert_true(isnan(schedule_learning_rate(&(Schedule){.name = "stairs"}, 0, 1)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_traces),         cmocka_unit_test(test_threads),
        cmocka_unit_test(test_state_survives), cmocka_unit_test(test_plain_sgd),
        cmocka_unit_test(test_bad_options),    cmocka_unit_test(test_vaswani),
        cmocka_unit_test(test_steps),          cmocka_unit_test(test_other_schedules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
