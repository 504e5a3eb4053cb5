/* The output layer with its loss against a float64 program, against the linear layer and the loss head one after the other, and
 * what it needs of memory. */
#include "engine/base/random.h"
#include "engine/ops/table.h"
#include "engine/plan/plan.h"
#include "losses/loss.h"
#include "tests/loss_output_run.h"
#include "tests/loss_set.h"
#include "tests/op_rows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *name;
    LossHead head;
} Case;

static const Case cases[] = {
    {"cross-entropy", {.form = SAMPLE_LABEL_SMOOTHING}},
    {"label smoothing of the paper", {.form = SAMPLE_LABEL_SMOOTHING, .alpha = 0.1}},
    {"uniform label smoothing", {.form = SAMPLE_LABEL_SMOOTHING, .alpha = 0.1, .uniform = true}},
    {"focal", {.form = SAMPLE_FOCAL, .gamma = {.gamma = {3}}}},
    {"focal by sample", {.form = SAMPLE_FOCAL, .gamma = {.gamma = {5, 3}, .limit = {0.2}, .limits = 1}}},
    {"focal by epoch",
     {.form = SAMPLE_FOCAL, .gamma = {.gamma = {5, 1}, .limit = {2}, .limits = 1, .by_epoch = true}}},
    {"Brier", {.form = SAMPLE_BRIER}},
    {"MMCE", {.penalty = PENALTY_MMCE, .lambda = 2, .kernel_width = 0.4}},
    {"MMCE weighted", {.penalty = PENALTY_MMCE_WEIGHTED, .lambda = 2, .kernel_width = 0.4}},
};
enum { CASES = sizeof cases / sizeof cases[0], EPOCH = 3 };

/* ---- a batch, and what a plain program makes of it ---- */

typedef struct {
    int64_t samples, width, classes, real; /* real: rows that count */
    DType type;
    float *hidden, *matrix; /* numbers that the type can hold */
    void *typed;            /* hidden in its type */
    float *weight;
    int32_t *target;
} Batch;

static void *typed_copy(const float *from, DType type, int64_t count)
{
    if (type == FLOAT32) {
        float *copy = loss_allocate(count, sizeof *copy);
        memcpy(copy, from, (size_t)count * sizeof *copy);
        return copy;
    }
    bfloat16 *copy = loss_allocate(count, sizeof *copy);
    for (int64_t i = 0; i < count; ++i)
        copy[i] = bfloat16_from_float(from[i]);
    return copy;
}

static float rounded(double value, DType type)
{
    return type == BFLOAT16 ? bfloat16_to_float(bfloat16_from_float((float)value)) : (float)value;
}

/* Every `padding`th row is padding; 0: none. About half of the rows have the highest logit at the target. */
static Batch batch_new(int64_t samples, int64_t width, int64_t classes, DType type, int64_t padding)
{
    Batch b = {.samples = samples, .width = width, .classes = classes, .type = type};
    RandomStream random = random_stream(11, RANDOM_TEST, (uint64_t)(samples * 1000 + classes));
    b.hidden = loss_allocate(samples * width, sizeof *b.hidden);
    b.matrix = loss_allocate(classes * width, sizeof *b.matrix);
    b.weight = loss_allocate(samples, sizeof *b.weight);
    b.target = loss_allocate(samples, sizeof *b.target);
    for (int64_t i = 0; i < classes * width; ++i)
        b.matrix[i] = rounded(random_normal(&random), type);
    for (int64_t n = 0; n < samples; ++n) {
        const bool pad = padding > 0 && n % padding == padding - 1;
        b.target[n] = (int32_t)random_below(&random, (uint64_t)classes);
        for (int64_t c = 0; c < width; ++c) {
            const double towards = n % 2 == 0 ? 2 * (double)b.matrix[b.target[n] * width + c] : 0;
            b.hidden[n * width + c] = rounded((random_normal(&random) + towards) / sqrt((double)width), type);
        }
        b.weight[n] = pad ? 0 : 1;
        if (pad) b.target[n] = -7;
        b.real += !pad;
    }
    b.typed = typed_copy(b.hidden, type, samples * width);
    return b;
}

static void batch_free(Batch *b)
{
    free(b->hidden);
    free(b->matrix);
    free(b->typed);
    free(b->weight);
    free(b->target);
}

/* The loss; and the gradients [samples, width] and [classes, width], if not NULL. In float64, logits in memory. */
static double plain(const Batch *b, const LossHead *head, double *d_hidden, double *d_matrix)
{
    LossSet set = loss_set_new(b->real, b->classes);
    double *d_logits = loss_allocate(b->real * b->classes, sizeof *d_logits);
    int64_t row = 0;
    for (int64_t n = 0; n < b->samples; ++n) {
        if (b->weight[n] == 0) continue;
        for (int64_t k = 0; k < b->classes; ++k)
            for (int64_t c = 0; c < b->width; ++c)
                set.logits[row * b->classes + k] +=
                    (double)b->hidden[n * b->width + c] * (double)b->matrix[k * b->width + c];
        set.labels[row++] = b->target[n];
    }
    const double value = loss_set_evaluate(&set, head, false, EPOCH, d_logits);
    row = 0;
    for (int64_t n = 0; n < b->samples && d_hidden != NULL; ++n) {
        if (b->weight[n] == 0) continue;
        for (int64_t k = 0; k < b->classes; ++k)
            for (int64_t c = 0; c < b->width; ++c) {
                const double d = d_logits[row * b->classes + k];
                d_hidden[n * b->width + c] += d * (double)b->matrix[k * b->width + c];
                d_matrix[k * b->width + c] += d * (double)b->hidden[n * b->width + c];
            }
        ++row;
    }
    free(d_logits);
    loss_set_free(&set);
    return value;
}

/* Relative to the largest magnitude. */
static void assert_near(const double *got, const double *want, int64_t count, double tolerance,
                        const char *what)
{
    double largest = 0;
    for (int64_t i = 0; i < count; ++i)
        largest = fmax(largest, fabs(want[i]));
    assert_close(got, want, count, 0, tolerance * largest, what);
}

/* ---- the kernel ---- */

typedef struct {
    OutputResults results;
    double *d_hidden, *d_matrix;
} Made;

static void made_free(Made *made)
{
    free(made->results.d_hidden);
    free(made->results.d_matrix);
    free(made->results.confidence);
    free(made->results.correct);
    free(made->d_hidden);
    free(made->d_matrix);
}

static Made make(const Batch *b, const LossOutput *output, int threads)
{
    Device *device;
    Collective *self;
    Made made = {.d_hidden = loss_allocate(b->samples * b->width, sizeof(double)),
                 .d_matrix = loss_allocate(b->classes * b->width, sizeof(double))};
    made.results.d_hidden = loss_allocate(b->samples * b->width, sizeof(float));
    made.results.d_matrix = loss_allocate(b->classes * b->width, sizeof(float));
    made.results.confidence = loss_allocate(b->samples, sizeof(float));
    made.results.correct = loss_allocate(b->samples, sizeof(float));
    memset(made.results.d_hidden, 0x7f, (size_t)(b->samples * b->width) * dtype_size(b->type));
    memset(made.results.d_matrix, 0x7f, (size_t)(b->classes * b->width) * sizeof(float));
    assert_ok(device_open(test_device(), 0, threads, &device));
    assert_ok(collective_self(&self));
    loss_output_run(device, self, output,
                    (OutputInputs){b->samples, b->width, b->classes, b->type, b->typed, b->matrix, b->target,
                                   b->weight, EPOCH},
                    &made.results);
    collective_free(self);
    device_close(device);
    for (int64_t i = 0; i < b->samples * b->width; ++i)
        made.d_hidden[i] =
            (double)(b->type == FLOAT32 ? ((float *)made.results.d_hidden)[i]
                                        : bfloat16_to_float(((bfloat16 *)made.results.d_hidden)[i]));
    for (int64_t i = 0; i < b->classes * b->width; ++i)
        made.d_matrix[i] = (double)made.results.d_matrix[i];
    return made;
}

static void check_case(const Batch *b, const Case *with, int64_t chunk)
{
    const double tolerance = b->type == FLOAT32 ? 1e-5 : 2e-2;
    const LossOutput output = {.head = with->head, .chunk = chunk};
    double *d_hidden = loss_allocate(b->samples * b->width, sizeof *d_hidden);
    double *d_matrix = loss_allocate(b->classes * b->width, sizeof *d_matrix);
    const double value = plain(b, &with->head, d_hidden, d_matrix);
    Made made = make(b, &output, 2);
    assert_close(&made.results.sums[LOSS_SUM], &value, 1, 1e-5, 0, with->name);
    assert_true(made.results.sums[LOSS_WEIGHT] == (double)b->real);
    double correct = 0;
    for (int64_t n = 0; n < b->samples; ++n) {
        correct += (double)made.results.correct[n];
        assert_true((made.results.confidence[n] > 0) == (b->weight[n] != 0));
    }
    assert_true(made.results.sums[LOSS_CORRECT] == correct && correct > 0);
    assert_near(made.d_hidden, d_hidden, b->samples * b->width, tolerance, with->name);
    assert_near(made.d_matrix, d_matrix, b->classes * b->width, tolerance, with->name);
    op_rows_record(&op_loss_output, OP_ROW_REFERENCE);
    made_free(&made);
    free(d_matrix);
    free(d_hidden);
}

static void test_reference(void **state)
{
    (void)state;
    static const int64_t chunks[] = {0, 1, 4, 9, 16, 24, 1000};
    for (int type = 0; type < 2; ++type) {
        Batch b = batch_new(37, 24, 53, type == 0 ? FLOAT32 : BFLOAT16, 5);
        for (int i = 0; i < CASES; ++i)
            for (size_t c = 0; c < sizeof chunks / sizeof chunks[0]; ++c)
                check_case(&b, &cases[i], chunks[c]);
        batch_free(&b);
        Batch even = batch_new(32, 8, 1040, type == 0 ? FLOAT32 : BFLOAT16, 0);
        check_case(&even, &cases[1], 8);
        check_case(&even, &cases[7], 0);
        batch_free(&even);
    }
}

/* Of the plain program: that its gradients are those of its value. */
static void test_differences(void **state)
{
    (void)state;
    enum { N = 5, C = 3, K = 4 };
    const double step = 1e-3;
    for (int i = 0; i < CASES; ++i) {
        Batch b = batch_new(N, C, K, FLOAT32, 4);
        double d_hidden[N * C] = {0}, d_matrix[K * C] = {0};
        (void)plain(&b, &cases[i].head, d_hidden, d_matrix);
        for (int p = 0; p < (N + K) * C; ++p) {
            float *at = p < N * C ? &b.hidden[p] : &b.matrix[p - N * C];
            const double *gradient = p < N * C ? &d_hidden[p] : &d_matrix[p - N * C];
            const float value = *at, above = value + (float)step, below = value - (float)step;
            *at = above;
            const double high = plain(&b, &cases[i].head, NULL, NULL);
            *at = below;
            const double low = plain(&b, &cases[i].head, NULL, NULL);
            *at = value;
            const double slope = (high - low) / ((double)above - (double)below);
            assert_close(gradient, &slope, 1, 1e-4, 1e-5, cases[i].name);
        }
        batch_free(&b);
    }
    op_rows_record(&op_loss_output, OP_ROW_DIFFERENCES);
}

/* The threads do not matter, nor how many rows there are of padding and what is in them; nothing is wanted, or one thing. */
static void test_padding(void **state)
{
    (void)state;
    Batch b = batch_new(30, 16, 40, FLOAT32, 3);
    for (int i = 0; i < CASES; ++i) {
        const LossOutput output = {.head = cases[i].head, .chunk = 8};
        Made one = make(&b, &output, 1), three = make(&b, &output, 3);
        assert_memory_equal(one.results.sums, three.results.sums, sizeof one.results.sums);
        for (int64_t n = 2; n < b.samples; n += 3)
            for (int64_t c = 0; c < b.width; ++c) {
                assert_true(one.d_hidden[n * b.width + c] == 0);
                ((float *)b.typed)[n * b.width + c] = -3e5F;
            }
        Made other = make(&b, &output, 2);
        assert_memory_equal(one.results.sums, other.results.sums, sizeof one.results.sums);
        assert_memory_equal(one.results.d_matrix, other.results.d_matrix,
                            (size_t)(b.classes * b.width) * sizeof(float));
        made_free(&one);
        made_free(&three);
        made_free(&other);
    }
    for (int64_t n = 0; n < b.samples; ++n)
        b.weight[n] = 0;
    Made nothing = make(&b, &(LossOutput){.head = cases[7].head}, 2);
    for (int i = 0; i < LOSS_SUMS; ++i)
        assert_true(nothing.results.sums[i] == 0);
    for (int64_t i = 0; i < b.samples * b.width; ++i)
        assert_true(nothing.d_hidden[i] == 0);
    for (int64_t i = 0; i < b.classes * b.width; ++i)
        assert_true(nothing.d_matrix[i] == 0);
    made_free(&nothing);
    batch_free(&b);
}

static void test_bad_target(void **state)
{
    (void)state;
    Batch b = batch_new(6, 4, 5, FLOAT32, 0);
    b.target[4] = 5;
    Made made = make(&b, &(LossOutput){.head = cases[0].head, .chunk = 4}, 2);
    assert_true(isnan(made.results.sums[LOSS_SUM]));
    made_free(&made);
    batch_free(&b);
}

/* ---- graphs ---- */

enum { ROWS = 1024, WIDTH = 16, CLASSES = 300 };

typedef struct {
    Graph *graph;
    Device *device;
    Store *store;
    Arena *arena;
    Collective *self;
    Plan *plan;
    Value x, target, weight, sums;
    int fused;
    double result[LOSS_SUMS];
} Net;

typedef enum { UNFUSED, FUSED, LOGITS_KEPT, WITH_BIAS } Kind;

static void net_open(Net *net, Kind kind, DType type, const LossHead *head, int64_t classes)
{
    const LossOptions options = {.head = *head};
    *net = (Net){.graph = NULL};
    assert_ok(graph_create(GRAPH_TRAIN, type, &net->graph));
    Graph *graph = net->graph;
    net->x = graph_input(graph, "x", shape_of(type, 2, (const int64_t[]){ROWS, WIDTH}));
    net->target = graph_input(graph, "target", shape_of(INT32, 1, (const int64_t[]){ROWS}));
    net->weight = graph_input(graph, "weight", shape_of(FLOAT32, 1, (const int64_t[]){ROWS}));
    const Value hidden = linear(graph, "inner", net->x, (Linear){.features = WIDTH, .type = type});
    const Value logits =
        linear(graph, "outer", hidden, (Linear){.features = classes, .no_bias = kind != WITH_BIAS});
    assert_true(loss_takes_logits(graph, logits) == (kind != WITH_BIAS));
    if (kind == LOGITS_KEPT) graph_keep(graph, logits);
    net->sums = loss_build(graph, &options, logits, net->target, net->weight);
    graph_keep(graph, net->sums);
    if (kind != UNFUSED) net->fused = graph_fuse(graph);
    graph_differentiate(graph, net->sums);
    assert_ok(graph_finish(graph));
    assert_ok(device_open(test_device(), 0, 2, &net->device));
    assert_ok(collective_self(&net->self));
    assert_ok(store_create(net->device, (const Graph *[]){graph}, 1, 3, &net->store));
    assert_ok(arena_create(net->device, &net->arena));
    assert_ok(plan_create(graph, net->store, net->arena, net->self, PLAN_DEFAULTS, &net->plan));
}

static Status enqueue(void *plan) { return plan_run(plan); }

/* Three times: plainly, recorded, and from the record. */
static void net_run(Net *net, DType type)
{
    static float x[ROWS * WIDTH], weight[ROWS];
    static int32_t target[ROWS];
    RandomStream random = random_stream(3, RANDOM_TEST, 0);
    for (int64_t i = 0; i < (int64_t)ROWS * WIDTH; ++i)
        x[i] = (float)random_normal(&random);
    for (int n = 0; n < ROWS; ++n) {
        target[n] = n * 7 % CLASSES;
        weight[n] = n % 10 == 9 ? 0 : 1;
    }
    void *typed = typed_copy(x, type, (int64_t)ROWS * WIDTH);
    Recording recording = {0};
    for (int run = 0; run < (test_device() == DEVICE_CPU ? 1 : 3); ++run) {
        assert_ok(device_upload(net->device, plan_data(net->plan, net->x), typed,
                                (size_t)ROWS * WIDTH * dtype_size(type)));
        assert_ok(device_upload(net->device, plan_data(net->plan, net->target), target, sizeof target));
        assert_ok(device_upload(net->device, plan_data(net->plan, net->weight), weight, sizeof weight));
        assert_ok(device_repeat(net->device, &recording, enqueue, net->plan));
    }
    assert_ok(device_download(net->device, net->result, plan_data(net->plan, net->sums), sizeof net->result));
    assert_ok(device_synchronize(net->device));
    device_forget(net->device, &recording);
    free(typed);
}

static void net_close(Net *net)
{
    plan_free(net->plan);
    arena_free(net->arena);
    store_free(net->store);
    collective_free(net->self);
    device_close(net->device);
    graph_free(net->graph);
}

static double *gradient_of(const Net *net, const char *name, int64_t *count)
{
    const StoreEntry *entry = store_find(net->store, name);
    *count = shape_count(entry->shape);
    double *copy = loss_allocate(*count, sizeof *copy);
    float *host = loss_allocate(*count, sizeof *host);
    assert_ok(device_download(net->device, host, entry->gradient, (size_t)*count * sizeof *host));
    assert_ok(device_synchronize(net->device));
    for (int64_t i = 0; i < *count; ++i)
        copy[i] = (double)host[i];
    free(host);
    return copy;
}

/* The same numbers as a linear layer and a loss head. */
static void test_same_as_two_ops(void **state)
{
    (void)state;
    static const char *const names[] = {"inner.weight", "inner.bias", "outer.weight"};
    for (int i = 0; i < 2 * CASES; ++i) {
        const DType type = i < CASES ? FLOAT32 : BFLOAT16;
        const Case *with = &cases[i % CASES];
        if (with->head.gamma.by_epoch) continue;                 /* it has a clock */
        if (test_device() != DEVICE_CPU && i % 5 != 3) continue; /* emulated, a few are enough */
        Net two, one;
        net_open(&two, UNFUSED, type, &with->head, CLASSES);
        net_open(&one, FUSED, type, &with->head, CLASSES);
        assert_true(two.fused == 0 && one.fused == 1);
        net_run(&two, type);
        net_run(&one, type);
        assert_close(one.result, two.result, LOSS_SUMS, 1e-7, 0, with->name);
        for (size_t n = 0; n < sizeof names / sizeof names[0]; ++n) {
            int64_t count;
            double *got = gradient_of(&one, names[n], &count), *want = gradient_of(&two, names[n], &count);
            assert_near(got, want, count, type == FLOAT32 ? 1e-5 : 1e-2, with->name);
            free(got);
            free(want);
        }
        net_close(&one);
        net_close(&two);
    }
}

/* No array of rows x classes is anywhere: all that the plan needs is less than one, and what two ops need more than two. */
static void test_memory(void **state)
{
    (void)state;
    if (test_device() != DEVICE_CPU) skip(); /* so few rows are one chunk there */
    enum { MANY = 3000 };
    const size_t logits = (size_t)ROWS * MANY * sizeof(float);
    Net two, one;
    net_open(&two, UNFUSED, FLOAT32, &cases[0].head, MANY);
    net_open(&one, FUSED, FLOAT32, &cases[0].head, MANY);
    assert_true(plan_report(two.plan).arena_bytes > logits);
    assert_true(plan_report(two.plan).tensor_bytes > 2 * logits);
    assert_true(plan_report(one.plan).arena_bytes < logits * 3 / 4); /* half of them is a chunk */
    assert_true(plan_report(one.plan).tensor_bytes < logits / 2);
    for (int v = 0; v < graph_value_count(one.graph); ++v) {
        const Shape shape = graph_shape(one.graph, (Value){v});
        if (graph_producer(one.graph, (Value){v}) < 0) continue;
        assert_true(shape_count(shape) < (int64_t)ROWS * MANY);
    }
    net_close(&one);
    net_close(&two);
}

/* What cannot be one op stays two. */
static void test_stays_two(void **state)
{
    (void)state;
    static const Kind kinds[] = {LOGITS_KEPT, WITH_BIAS};
    for (int i = 0; i < 2; ++i) {
        Net net;
        net_open(&net, kinds[i], FLOAT32, &cases[0].head, CLASSES);
        assert_int_equal(net.fused, 0);
        net_close(&net);
    }
    Graph *graph; /* few logits, or no training */
    for (int i = 0; i < 2; ++i) {
        assert_ok(graph_create(i == 0 ? GRAPH_TRAIN : GRAPH_EVALUATE, FLOAT32, &graph));
        const int64_t rows = i == 0 ? 100 : ROWS;
        const Value x = graph_input(graph, "x", shape_of(FLOAT32, 2, (const int64_t[]){rows, WIDTH}));
        const Value logits = linear(graph, "outer", x, (Linear){.features = CLASSES, .no_bias = true});
        assert_false(loss_takes_logits(graph, logits));
        assert_ok(graph_finish(graph));
        graph_free(graph);
    }
}

static void test_chunks(void **state)
{
    (void)state;
    const LossOutput as_fits = {.chunk = 0}, given = {.chunk = 100};
    assert_int_equal(loss_output_chunk(&as_fits, 2000, 10000, 64 << 20, 64, 512), 500); /* four alike */
    assert_int_equal(loss_output_chunk(&as_fits, 300, 10000, 64 << 20, 64, 512), 300);
    assert_int_equal(loss_output_chunk(&as_fits, 2000, 1000000, 64 << 20, 64, 512), 63);
    assert_int_equal(loss_output_chunk(&given, 2000, 10000, 64 << 20, 64, 512), 100);
    assert_int_equal(loss_output_chunk(&given, 50, 10000, 64 << 20, 64, 512), 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),       cmocka_unit_test(test_differences),
        cmocka_unit_test(test_padding),         cmocka_unit_test(test_bad_target),
        cmocka_unit_test(test_same_as_two_ops), cmocka_unit_test(test_memory),
        cmocka_unit_test(test_stays_two),       cmocka_unit_test(test_chunks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
