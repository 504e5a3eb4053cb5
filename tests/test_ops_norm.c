/* Batch and layer normalisation against float64 programs, golden files and themselves: fused or not, strided
 * or not, on any number of threads and ranks. */
#include "tests/support.h"

#include "tests/kernel_call.h"
#include "tests/op_test.h"

#include "engine/ops/batch_norm.h"
#include "engine/ops/ops.h"
#include "engine/ops/table.h"
#include "engine/plan/collective.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(cases) ((int)(sizeof(cases) / sizeof *(cases)))

/* ---- batch_norm by table ---- */

typedef enum { ALONE, SUM_FIRST, SUM_SECOND, SUM_OF_TWO } Residual; /* which operand of an add bn is */

typedef struct {
    BatchNorm options;
    bool relu;
    Residual residual;
    bool inside; /* reads columns of wider tensors, writes into a wider one */
} NormRow;

enum { X_BEFORE = 3, X_AFTER = 2, RESIDUAL_BEFORE = 1, OUT_BEFORE = 3 }; /* columns around, if inside */

static int64_t channels_of(const OpCase *op_case)
{
    const NormRow *row = op_case->parameters;
    return op_case->in[0].extent[op_case->in[0].rank - 1] - (row->inside ? X_BEFORE + X_AFTER : 0);
}

static Value build_batch_norm(Graph *graph, const OpCase *op_case, const Value in[])
{
    const NormRow *row = op_case->parameters;
    const int64_t channels = channels_of(op_case);
    const Value x = row->inside ? slice(graph, in[0], X_BEFORE, channels) : in[0];
    Value y = batch_norm(graph, "bn", x, row->options);
    if (row->residual != ALONE) {
        Value other = row->inside ? slice(graph, in[1], RESIDUAL_BEFORE, channels) : in[1];
        if (row->residual == SUM_OF_TWO) other = batch_norm(graph, "other", other, row->options);
        y = row->residual == SUM_SECOND ? add(graph, other, y) : add(graph, y, other);
    }
    if (row->relu) y = relu(graph, y);
    assert_int_equal(graph_fuse(graph), row->relu ? 1 : 0);
    if (row->inside) y = concat(graph, (Value[]){slice(graph, in[0], 0, OUT_BEFORE), y}, 2);
    return y;
}

/* One normalisation: of the columns that begin at `before` in tensor `x`, with the parameters and states that
 * begin at tensor `layer`. */
typedef struct {
    const OpCase *op_case;
    OpReference *r;
    int x, layer;
    int64_t before, rows, channels;
} Normalised;

static int64_t x_at(const Normalised *n, int64_t row, int64_t c)
{
    return row * shape_columns(n->r->in[n->x].shape) + n->before + c;
}

static void statistics(const Normalised *n, int64_t c, double *mean, double *variance)
{
    const double *x = n->r->in[n->x].data;
    if (n->op_case->mode == GRAPH_EVALUATE) {
        *mean = n->r->in[n->layer + 2].data[c];
        *variance = n->r->in[n->layer + 3].data[c];
        return;
    }
    *mean = *variance = 0;
    for (int64_t i = 0; i < n->rows; ++i)
        *mean += x[x_at(n, i, c)] / (double)n->rows;
    for (int64_t i = 0; i < n->rows; ++i)
        *variance += pow(x[x_at(n, i, c)] - *mean, 2) / (double)n->rows;
}

static double epsilon_of(const Normalised *n)
{
    const NormRow *row = n->op_case->parameters;
    return row->options.epsilon == 0 ? 1e-5 : row->options.epsilon;
}

/* Adds the normalised columns to sum [rows][channels], and updates the states. */
static void add_normalised(const Normalised *n, double *sum)
{
    const NormRow *row = n->op_case->parameters;
    OpTensor *layer = &n->r->in[n->layer];
    const double fresh = row->options.momentum == 0 ? 0.1 : row->options.momentum;
    for (int64_t c = 0; c < n->channels; ++c) {
        double mean, variance;
        statistics(n, c, &mean, &variance);
        for (int64_t i = 0; i < n->rows; ++i)
            sum[i * n->channels + c] += (n->r->in[n->x].data[x_at(n, i, c)] - mean) /
                                            sqrt(variance + epsilon_of(n)) * layer[0].data[c] +
                                        layer[1].data[c];
        if (n->op_case->mode == GRAPH_EVALUATE) continue;
        layer[2].after[c] = (1 - fresh) * layer[2].data[c] + fresh * mean;
        layer[3].after[c] =
            (1 - fresh) * layer[3].data[c] + fresh * variance * (double)n->rows / (double)(n->rows - 1);
    }
    if (n->op_case->mode == GRAPH_TRAIN) layer[4].after[0] = layer[4].data[0] + 1;
}

/* Adds to the gradients of x and the parameters, g being that of the normalised columns. */
static void back_through(const Normalised *n, const double *g)
{
    OpTensor *layer = &n->r->in[n->layer], *x = &n->r->in[n->x];
    for (int64_t c = 0; c < n->channels; ++c) {
        double mean, variance, sum = 0, product = 0;
        statistics(n, c, &mean, &variance);
        const double inverse = 1 / sqrt(variance + epsilon_of(n));
        for (int64_t i = 0; i < n->rows; ++i) {
            sum += g[i * n->channels + c];
            product += g[i * n->channels + c] * (x->data[x_at(n, i, c)] - mean) * inverse;
        }
        layer[0].gradient[c] += product;
        layer[1].gradient[c] += sum;
        if (n->op_case->mode == GRAPH_EVALUATE) sum = product = 0;
        for (int64_t i = 0; i < n->rows; ++i) {
            const double normal = (x->data[x_at(n, i, c)] - mean) * inverse;
            x->gradient[x_at(n, i, c)] +=
                layer[0].data[c] * inverse *
                (g[i * n->channels + c] - (sum + normal * product) / (double)n->rows);
        }
    }
}

/* The normalisations of a row, at most two. */
static int normalisations(const OpCase *op_case, OpReference *r, Normalised n[2])
{
    const NormRow *row = op_case->parameters;
    const int inputs = row->residual == ALONE ? 1 : 2;
    const int64_t rows = shape_rows(r->in[0].shape), channels = channels_of(op_case);
    n[0] = (Normalised){op_case, r, 0, inputs, row->inside ? X_BEFORE : 0, rows, channels};
    n[1] = (Normalised){op_case, r, 1, inputs + 5, row->inside ? RESIDUAL_BEFORE : 0, rows, channels};
    return row->residual == SUM_OF_TWO ? 2 : 1;
}

/* What the ReLU, if any, is applied to: [rows][channels], released with free(). */
static double *sum_of_terms(const OpCase *op_case, OpReference *r)
{
    const NormRow *row = op_case->parameters;
    Normalised n[2];
    const int count = normalisations(op_case, r, n);
    double *sum = calloc((size_t)(n->rows * n->channels), sizeof *sum);
    assert_non_null(sum);
    for (int i = 0; i < count; ++i)
        add_normalised(&n[i], sum);
    if (row->residual == SUM_FIRST || row->residual == SUM_SECOND)
        for (int64_t i = 0; i < n->rows; ++i)
            for (int64_t c = 0; c < n->channels; ++c)
                sum[i * n->channels + c] += r->in[1].data[x_at(&n[1], i, c)];
    return sum;
}

static void reference_batch_norm(const OpCase *op_case, OpReference *r)
{
    const NormRow *row = op_case->parameters;
    const int64_t channels = channels_of(op_case), rows = shape_rows(r->shape),
                  width = shape_columns(r->shape);
    double *sum = sum_of_terms(op_case, r);
    for (int64_t i = 0; i < rows; ++i) {
        for (int64_t c = 0; c < width - channels; ++c)
            r->out[i * width + c] = r->in[0].data[i * shape_columns(r->in[0].shape) + c];
        for (int64_t c = 0; c < channels; ++c) {
            const double value = sum[i * channels + c];
            r->out[i * width + width - channels + c] = row->relu && value < 0 ? 0 : value;
        }
    }
    free(sum);
}

static void gradient_batch_norm(const OpCase *op_case, OpReference *r)
{
    const NormRow *row = op_case->parameters;
    const int64_t channels = channels_of(op_case), rows = shape_rows(r->shape),
                  width = shape_columns(r->shape);
    double *g = sum_of_terms(op_case, r);
    for (int64_t i = 0; i < rows; ++i) {
        for (int64_t c = 0; c < width - channels; ++c)
            r->in[0].gradient[i * shape_columns(r->in[0].shape) + c] += r->upstream[i * width + c];
        for (int64_t c = 0; c < channels; ++c) {
            double *value = &g[i * channels + c];
            *value = row->relu && *value <= 0 ? 0 : r->upstream[i * width + width - channels + c];
        }
    }
    Normalised n[2];
    const int count = normalisations(op_case, r, n);
    for (int i = 0; i < count; ++i)
        back_through(&n[i], g);
    if (row->residual == SUM_FIRST || row->residual == SUM_SECOND)
        for (int64_t i = 0; i < rows; ++i)
            for (int64_t c = 0; c < channels; ++c)
                r->in[1].gradient[x_at(&n[1], i, c)] += g[i * channels + c];
    free(g);
}

static double fill_stored(const OpCase *op_case, const char *name, int64_t index, RandomStream *random)
{
    (void)op_case;
    (void)index;
    if (strstr(name, "running_var") != NULL) return 0.25 + 2 * random_uniform(random);
    if (strstr(name, "num_batches_tracked") != NULL) return 41;
    return random_normal(random);
}

/* Values far from zero: what squares of float32 would lose. */
static double fill_offset(const OpCase *op_case, const char *name, int64_t index, RandomStream *random)
{
    (void)op_case;
    (void)name;
    (void)index;
    return 300 + 2 * random_normal(random);
}

#define X(...)                                                                                               \
    {                                                                                                        \
        .name = "x", .rank = sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), .extent = { __VA_ARGS__ }   \
    }
#define SECOND(...)                                                                                          \
    {                                                                                                        \
        .name = "residual", .rank = sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), .extent = {          \
            __VA_ARGS__                                                                                      \
        }                                                                                                    \
    }
#define ONE(...)                                                                                             \
    {                                                                                                        \
        X(__VA_ARGS__)                                                                                       \
    }
#define TWO(...)                                                                                             \
    {                                                                                                        \
        X(__VA_ARGS__), SECOND(__VA_ARGS__)                                                                  \
    }
#define NORM(text, the_mode, inputs, ...)                                                                    \
    {                                                                                                        \
        .name = "batch_norm " text, .build = build_batch_norm, .in = inputs,                                 \
        .reference = reference_batch_norm, .gradient = gradient_batch_norm, .fill_stored = fill_stored,      \
        .mode = the_mode, .parameters = &(const NormRow){__VA_ARGS__},                                       \
    }

static const OpCase batch_norm_cases[] = {
    NORM("of two rows", GRAPH_TRAIN, ONE(2, 1), .options = {.epsilon = 0.5}),
    NORM("of three rows", GRAPH_TRAIN, ONE(3, 1), .relu = true),
    NORM("of one row, evaluated", GRAPH_EVALUATE, ONE(1, 1), .relu = false),
    NORM("small", GRAPH_TRAIN, ONE(6, 5), .options = {.momentum = 0.3, .epsilon = 1e-3}),
    NORM("rank 5", GRAPH_TRAIN, ONE(3, 2, 2, 2, 5), .relu = true),
    NORM("odd", GRAPH_TRAIN, ONE(3, 3, 3, 17), .relu = true),
    NORM("whole vectors", GRAPH_TRAIN, ONE(4, 5, 5, 32), .relu = false),
    NORM("64 channels", GRAPH_TRAIN, ONE(2, 7, 9, 64), .relu = true),
    NORM("many rows", GRAPH_TRAIN, ONE(2003, 3), .relu = false),
    NORM("many blocks", GRAPH_TRAIN, ONE(5, 16, 17, 24), .relu = false),
    NORM("many blocks, ReLU", GRAPH_TRAIN, ONE(1100, 21), .relu = true),
    NORM("many channels", GRAPH_TRAIN, ONE(37, 1, 1, 2051), .relu = true),
    NORM("evaluated", GRAPH_EVALUATE, ONE(3, 5, 2, 21), .relu = false),
    NORM("evaluated, ReLU", GRAPH_EVALUATE, ONE(3, 5, 2, 21), .relu = true),
    NORM("evaluated, residual", GRAPH_EVALUATE, TWO(3, 5, 2, 21), .relu = true, .residual = SUM_FIRST),
    NORM("residual", GRAPH_TRAIN, TWO(5, 3, 3, 16), .relu = true, .residual = SUM_FIRST),
    NORM("residual, odd", GRAPH_TRAIN, TWO(5, 3, 4, 13), .relu = true, .residual = SUM_SECOND),
    NORM("residual, one channel", GRAPH_TRAIN, TWO(7, 1), .relu = true, .residual = SUM_SECOND),
    NORM("residual, many blocks", GRAPH_TRAIN, TWO(1333, 40), .relu = true, .residual = SUM_FIRST),
    NORM("residual, not fused", GRAPH_TRAIN, TWO(5, 3, 4, 13), .relu = false, .residual = SUM_FIRST),
    NORM("of both operands", GRAPH_TRAIN, TWO(4, 3, 3, 20), .relu = true, .residual = SUM_OF_TWO),
    NORM("inside", GRAPH_TRAIN, ONE(4, 3, 3, 23), .relu = false, .inside = true),
    NORM("inside, ReLU", GRAPH_TRAIN, ONE(9, 5, 7, 37), .relu = true, .inside = true),
    NORM("inside, residual", GRAPH_TRAIN, TWO(9, 5, 7, 37), .relu = true, .residual = SUM_SECOND,
         .inside = true),
    NORM("inside, evaluated", GRAPH_EVALUATE, TWO(6, 4, 3, 21), .relu = true, .residual = SUM_FIRST,
         .inside = true),
};

/* bfloat16 resolves such numbers to whole units; and where it rounds one operand of a sum near zero, the ReLU
 * decides otherwise. */
static const OpCase float32_cases[] = {
    {.name = "batch_norm of both operands, evaluated",
     .build = build_batch_norm,
     .in = TWO(4, 3, 3, 20),
     .reference = reference_batch_norm,
     .gradient = gradient_batch_norm,
     .fill_stored = fill_stored,
     .mode = GRAPH_EVALUATE,
     .float32_only = true,
     .parameters = &(const NormRow){.relu = true, .residual = SUM_OF_TWO}},
    {.name = "batch_norm far from zero",
     .build = build_batch_norm,
     .in = {{.name = "x", .rank = 2, .extent = {3000, 19}, .fill = fill_offset}},
     .reference = reference_batch_norm,
     .gradient = gradient_batch_norm,
     .fill_stored = fill_stored,
     .float32_only = true,
     .tolerance = {2e-5},
     .parameters = &(const NormRow){.relu = false}},
};

static Value build_golden(Graph *graph, const OpCase *op_case, const Value in[])
{
    (void)op_case;
    return batch_norm(graph, "layer", in[0], (BatchNorm){0});
}

static Value build_layer_norm(Graph *graph, const OpCase *op_case, const Value in[])
{
    (void)op_case;
    return layer_norm(graph, "layer", in[0], 0);
}

static const OpCase golden_cases[] = {
    {.name = "batchnorm2d_train",
     .build = build_golden,
     .in = ONE(4, 3, 5, 3),
     .golden = "layers/batchnorm2d_train"},
    {.name = "batchnorm2d_eval",
     .build = build_golden,
     .in = ONE(4, 3, 5, 3),
     .mode = GRAPH_EVALUATE,
     .golden = "layers/batchnorm2d_eval"},
    {.name = "batchnorm1d_train",
     .build = build_golden,
     .in = ONE(6, 5),
     .golden = "layers/batchnorm1d_train"},
    {.name = "batchnorm1d_eval",
     .build = build_golden,
     .in = ONE(6, 5),
     .mode = GRAPH_EVALUATE,
     .golden = "layers/batchnorm1d_eval"},
    {.name = "layernorm", .build = build_layer_norm, .in = ONE(3, 4, 8), .golden = "layers/layernorm"},
};

static void test_batch_norm(void **state)
{
    (void)state;
    op_test_cases(batch_norm_cases, COUNT(batch_norm_cases), DEVICE_CPU);
}

static void test_batch_norm_in_float32(void **state)
{
    (void)state;
    op_test_cases(float32_cases, COUNT(float32_cases), DEVICE_CPU);
}

static void test_golden(void **state)
{
    (void)state;
    op_test_cases(golden_cases, COUNT(golden_cases), DEVICE_CPU);
}

/* ---- batch_norm by hand ---- */

enum { ROWS = 1500, COLUMNS = 37, X_STRIDE = 41, Y_STRIDE = 53 };

static float *floats(int64_t count, uint64_t seed)
{
    float *data = aligned_alloc(64, ((size_t)count * sizeof *data + 63) / 64 * 64);
    assert_non_null(data);
    RandomStream random = random_stream(seed, RANDOM_TEST, 7);
    for (int64_t i = 0; i < count; ++i)
        data[i] = (float)random_normal(&random);
    return data;
}

/* All tensors of a forward and backward call with every option, in memory of their own. */
typedef struct {
    float *x, *residual, *weight, *bias, *running_mean, *running_var, *dy, *dy2, *addend;
    float *y, *mean, *inverse, *dx, *dresidual, *dweight, *dbias;
    uint8_t *mask;
    int64_t batches;
} Tensors;

enum { MASK_COLUMNS = (COLUMNS + 7) / 8 };

static Tensors make_tensors(int64_t rows)
{
    Tensors t = {.x = floats(rows * X_STRIDE, 1),
                 .residual = floats(rows * X_STRIDE, 2),
                 .weight = floats(COLUMNS, 3),
                 .bias = floats(COLUMNS, 4),
                 .running_mean = floats(COLUMNS, 5),
                 .running_var = floats(COLUMNS, 6),
                 .dy = floats(rows * Y_STRIDE, 7),
                 .dy2 = floats(rows * X_STRIDE, 8),
                 .addend = floats(rows * COLUMNS, 9),
                 .y = floats(rows * Y_STRIDE, 10),
                 .mean = floats(COLUMNS, 11),
                 .inverse = floats(COLUMNS, 12),
                 .dx = floats(rows * X_STRIDE, 13),
                 .dresidual = floats(rows * Y_STRIDE, 14),
                 .dweight = floats(COLUMNS, 15),
                 .dbias = floats(COLUMNS, 16),
                 .mask = calloc((size_t)rows, MASK_COLUMNS)};
    assert_non_null(t.mask);
    return t;
}

static void free_tensors(Tensors *t)
{
    float *all[] = {t->x,  t->residual,  t->weight,  t->bias, t->running_mean, t->running_var,
                    t->dy, t->dy2,       t->addend,  t->y,    t->mean,         t->inverse,
                    t->dx, t->dresidual, t->dweight, t->dbias};
    for (int i = 0; i < COUNT(all); ++i)
        free(all[i]);
    free(t->mask);
}

static Tensor mask_tensor(uint8_t *mask, int64_t rows)
{
    return (Tensor){
        .data = mask, .shape = shape_of(UINT8, 2, (int64_t[]){rows, MASK_COLUMNS}), .stride = MASK_COLUMNS};
}

static Status forward(Tensors *t, int64_t rows, const BatchNormAttributes *attributes, int threads,
                      Collective *collective)
{
    Call call = {.attributes = attributes};
    call.in[BATCH_NORM_X] = tensor_floats(t->x, rows, COLUMNS, X_STRIDE);
    call.in[BATCH_NORM_WEIGHT] = tensor_vector(t->weight, COLUMNS);
    call.in[BATCH_NORM_BIAS] = tensor_vector(t->bias, COLUMNS);
    call.in[BATCH_NORM_RUNNING_MEAN] = tensor_vector(t->running_mean, COLUMNS);
    call.in[BATCH_NORM_RUNNING_VAR] = tensor_vector(t->running_var, COLUMNS);
    call.in[BATCH_NORM_BATCHES_TRACKED] =
        (Tensor){.data = &t->batches, .shape = shape_of(INT64, 0, NULL), .stride = 1};
    call.in[BATCH_NORM_RESIDUAL] = tensor_floats(t->residual, rows, COLUMNS, X_STRIDE);
    call.out[BATCH_NORM_Y] = tensor_floats(t->y, rows, COLUMNS, Y_STRIDE);
    call.out[BATCH_NORM_MEAN] = tensor_vector(t->mean, COLUMNS);
    call.out[BATCH_NORM_INVERSE_DEVIATION] = tensor_vector(t->inverse, COLUMNS);
    call.out[BATCH_NORM_MASK] = mask_tensor(t->mask, rows);
    return kernel_call(&batch_norm_op, &call, BATCH_NORM_INPUTS, threads, 0, collective);
}

static Status backward(Tensors *t, int64_t rows, const BatchNormAttributes *attributes, int threads,
                       uint32_t unwanted, Collective *collective)
{
    Call call = {.attributes = attributes};
    call.in[BATCH_NORM_BACKWARD_DY] = tensor_floats(t->dy, rows, COLUMNS, Y_STRIDE);
    call.in[BATCH_NORM_BACKWARD_DY2] = tensor_floats(t->dy2, rows, COLUMNS, X_STRIDE);
    call.in[BATCH_NORM_BACKWARD_X] = tensor_floats(t->x, rows, COLUMNS, X_STRIDE);
    call.in[BATCH_NORM_BACKWARD_WEIGHT] = tensor_vector(t->weight, COLUMNS);
    call.in[BATCH_NORM_BACKWARD_BIAS] = tensor_vector(t->bias, COLUMNS);
    call.in[BATCH_NORM_BACKWARD_MEAN] = tensor_vector(t->mean, COLUMNS);
    call.in[BATCH_NORM_BACKWARD_INVERSE_DEVIATION] = tensor_vector(t->inverse, COLUMNS);
    call.in[BATCH_NORM_BACKWARD_MASK] = mask_tensor(t->mask, rows);
    call.in[BATCH_NORM_BACKWARD_ADDEND] = tensor_floats(t->addend, rows, COLUMNS, COLUMNS);
    call.out[BATCH_NORM_BACKWARD_DX] = tensor_floats(t->dx, rows, COLUMNS, X_STRIDE);
    call.out[BATCH_NORM_BACKWARD_DRESIDUAL] = tensor_floats(t->dresidual, rows, COLUMNS, Y_STRIDE);
    call.out[BATCH_NORM_BACKWARD_DWEIGHT] = tensor_vector(t->dweight, COLUMNS);
    call.out[BATCH_NORM_BACKWARD_DBIAS] = tensor_vector(t->dbias, COLUMNS);
    return kernel_call(&batch_norm_backward_op, &call, BATCH_NORM_BACKWARD_INPUTS, threads, unwanted,
                       collective);
}

static const BatchNormAttributes all_options = {
    .epsilon = 1e-5, .momentum = 0.1, .relu = true, .train = true, .synchronize = true};

static void assert_same_bits(const void *got, const void *want, size_t bytes, const char *what)
{
    if (memcmp(got, want, bytes) == 0) return;
    print_error("%s differs\n", what);
    assert_true(false);
}

#define ASSERT_SAME(a, b, member, count)                                                                     \
    assert_same_bits((a).member, (b).member, (size_t)(count) * sizeof *(a).member, #member)

static void assert_same_results(const Tensors *a, const Tensors *b, int64_t rows)
{
    ASSERT_SAME(*a, *b, y, rows * Y_STRIDE);
    ASSERT_SAME(*a, *b, mask, rows * MASK_COLUMNS);
    ASSERT_SAME(*a, *b, running_mean, COLUMNS);
    ASSERT_SAME(*a, *b, running_var, COLUMNS);
    ASSERT_SAME(*a, *b, dx, rows * X_STRIDE);
    ASSERT_SAME(*a, *b, dresidual, rows * Y_STRIDE);
    ASSERT_SAME(*a, *b, dweight, COLUMNS);
    ASSERT_SAME(*a, *b, dbias, COLUMNS);
}

static void test_any_number_of_threads_gives_the_same_bits(void **state)
{
    (void)state;
    Tensors one = make_tensors(ROWS);
    assert_ok(forward(&one, ROWS, &all_options, 1, NULL));
    assert_ok(backward(&one, ROWS, &all_options, 1, 0, NULL));
    for (int threads = 2; threads <= 5; ++threads) {
        Tensors many = make_tensors(ROWS);
        assert_ok(forward(&many, ROWS, &all_options, threads, NULL));
        assert_ok(backward(&many, ROWS, &all_options, threads, 0, NULL));
        assert_same_results(&one, &many, ROWS);
        free_tensors(&many);
    }
    free_tensors(&one);
}

/* dy2 and the addend do what separate additions would. */
static void test_accumulating_gradients(void **state)
{
    (void)state;
    Tensors fused = make_tensors(ROWS), plain = make_tensors(ROWS);
    assert_ok(forward(&fused, ROWS, &all_options, 2, NULL));
    assert_ok(backward(&fused, ROWS, &all_options, 2, 0, NULL));
    assert_ok(forward(&plain, ROWS, &all_options, 2, NULL));
    for (int64_t i = 0; i < ROWS; ++i)
        for (int64_t c = 0; c < COLUMNS; ++c)
            plain.dy[i * Y_STRIDE + c] += plain.dy2[i * X_STRIDE + c];
    memset(plain.dy2, 0, ROWS * X_STRIDE * sizeof(float));
    float *addend = plain.addend;
    plain.addend = NULL; /* tensors without data are absent */
    assert_ok(backward(&plain, ROWS, &all_options, 2, 0, NULL));
    plain.addend = addend;
    ASSERT_SAME(fused, plain, dresidual, ROWS * Y_STRIDE);
    ASSERT_SAME(fused, plain, dweight, COLUMNS);
    for (int64_t i = 0; i < ROWS; ++i)
        for (int64_t c = 0; c < COLUMNS; ++c) {
            const float sum = plain.dx[i * X_STRIDE + c] + addend[i * COLUMNS + c];
            assert_true(fabsf(fused.dx[i * X_STRIDE + c] - sum) <= 1e-6F * (1 + fabsf(sum)));
        }
    free_tensors(&fused);
    free_tensors(&plain);
}

/* Columns outside a strided tensor and outputs that nobody wants are left alone. */
static void test_writes_only_what_it_must(void **state)
{
    (void)state;
    Tensors t = make_tensors(ROWS), before = make_tensors(ROWS);
    assert_ok(forward(&t, ROWS, &all_options, 2, NULL));
    assert_ok(backward(&t, ROWS, &all_options, 2, 1U << BATCH_NORM_BACKWARD_DX, NULL));
    ASSERT_SAME(t, before, dx, ROWS * X_STRIDE);
    assert_ok(backward(&t, ROWS, &all_options, 2, 0, NULL));
    for (int64_t i = 0; i < ROWS; ++i) {
        const size_t y_gap = (Y_STRIDE - COLUMNS) * sizeof(float),
                     x_gap = (X_STRIDE - COLUMNS) * sizeof(float);
        assert_memory_equal(t.y + i * Y_STRIDE + COLUMNS, before.y + i * Y_STRIDE + COLUMNS, y_gap);
        assert_memory_equal(t.dx + i * X_STRIDE + COLUMNS, before.dx + i * X_STRIDE + COLUMNS, x_gap);
        assert_memory_equal(t.dresidual + i * Y_STRIDE + COLUMNS, before.dresidual + i * Y_STRIDE + COLUMNS,
                            y_gap);
    }
    ASSERT_SAME(t, before, x, ROWS * X_STRIDE);
    ASSERT_SAME(t, before, dy, ROWS * Y_STRIDE);
    free_tensors(&t);
    free_tensors(&before);
}

static void test_in_place(void **state)
{
    (void)state;
    assert_int_equal(batch_norm_op.kernel[DEVICE_CPU]->in_place,
                     1 << BATCH_NORM_X | 1 << BATCH_NORM_RESIDUAL);
    Tensors apart = make_tensors(ROWS), shared = make_tensors(ROWS);
    assert_ok(forward(&apart, ROWS, &all_options, 2, NULL));
    assert_ok(backward(&apart, ROWS, &all_options, 2, 0, NULL));
    /* dx over dy: shapes are those of Y_STRIDE. */
    memcpy(shared.mask, apart.mask, ROWS * MASK_COLUMNS);
    memcpy(shared.mean, apart.mean, COLUMNS * sizeof(float));
    memcpy(shared.inverse, apart.inverse, COLUMNS * sizeof(float));
    float *own = shared.dx;
    Call call = {.attributes = &all_options};
    call.in[BATCH_NORM_BACKWARD_DY] = tensor_floats(shared.dy, ROWS, COLUMNS, Y_STRIDE);
    call.in[BATCH_NORM_BACKWARD_DY2] = tensor_floats(shared.dy2, ROWS, COLUMNS, X_STRIDE);
    call.in[BATCH_NORM_BACKWARD_X] = tensor_floats(shared.x, ROWS, COLUMNS, X_STRIDE);
    call.in[BATCH_NORM_BACKWARD_WEIGHT] = tensor_vector(shared.weight, COLUMNS);
    call.in[BATCH_NORM_BACKWARD_BIAS] = tensor_vector(shared.bias, COLUMNS);
    call.in[BATCH_NORM_BACKWARD_MEAN] = tensor_vector(shared.mean, COLUMNS);
    call.in[BATCH_NORM_BACKWARD_INVERSE_DEVIATION] = tensor_vector(shared.inverse, COLUMNS);
    call.in[BATCH_NORM_BACKWARD_MASK] = mask_tensor(shared.mask, ROWS);
    call.in[BATCH_NORM_BACKWARD_ADDEND] = tensor_floats(shared.addend, ROWS, COLUMNS, COLUMNS);
    call.out[BATCH_NORM_BACKWARD_DX] = call.in[BATCH_NORM_BACKWARD_DY];
    call.out[BATCH_NORM_BACKWARD_DRESIDUAL] = tensor_floats(shared.dresidual, ROWS, COLUMNS, Y_STRIDE);
    call.out[BATCH_NORM_BACKWARD_DWEIGHT] = tensor_vector(shared.dweight, COLUMNS);
    call.out[BATCH_NORM_BACKWARD_DBIAS] = tensor_vector(shared.dbias, COLUMNS);
    assert_ok(kernel_call(&batch_norm_backward_op, &call, BATCH_NORM_BACKWARD_INPUTS, 2, 0, NULL));
    for (int64_t i = 0; i < ROWS; ++i)
        assert_memory_equal(shared.dy + i * Y_STRIDE, apart.dx + i * X_STRIDE, COLUMNS * sizeof(float));
    ASSERT_SAME(apart, shared, dresidual, ROWS * Y_STRIDE);
    shared.dx = own;
    free_tensors(&apart);
    free_tensors(&shared);
}

static void test_nan_is_seen(void **state)
{
    (void)state;
    Tensors t = make_tensors(ROWS);
    t.x[700 * X_STRIDE + 20] = NAN;
    assert_ok(forward(&t, ROWS, &all_options, 2, NULL));
    assert_true(isnan(t.y[20]) && isnan(t.y[700 * Y_STRIDE + 20]) && isnan(t.running_mean[20]));
    assert_false(isnan(t.y[21]));
    assert_ok(backward(&t, ROWS, &all_options, 2, 0, NULL));
    assert_true(isnan(t.dx[20]) && isnan(t.dweight[20]));
    assert_false(isnan(t.dx[21]));
    free_tensors(&t);
}

/* ---- synchronised: ranks as threads of this process ---- */

enum { RANKS = 3 };

typedef struct {
    pthread_barrier_t barrier;
    double *part[RANKS];
} World;

typedef struct {
    Collective collective;
    World *world;
} Rank;

static Status sum_in_world(Collective *collective, Span span, Stream after)
{
    (void)after;
    World *world = ((Rank *)collective->implementation)->world;
    assert_true(span.type == FLOAT64);
    world->part[collective->rank] = span.data;
    pthread_barrier_wait(&world->barrier);
    double *sum = calloc((size_t)span.count, sizeof *sum);
    assert_non_null(sum);
    for (int r = 0; r < RANKS; ++r)
        for (int64_t i = 0; i < span.count; ++i)
            sum[i] += world->part[r][i];
    pthread_barrier_wait(&world->barrier);
    memcpy(span.data, sum, (size_t)span.count * sizeof *sum);
    free(sum);
    return OK;
}

static Status join_world(Collective *collective, Stream stream)
{
    (void)collective;
    (void)stream;
    return OK;
}

typedef struct {
    Rank rank;
    Tensors tensors;
    int64_t first, rows; /* of the global batch */
    Status status;
} Worker;

static void *work(void *argument)
{
    Worker *worker = argument;
    worker->status = forward(&worker->tensors, worker->rows, &all_options, 1, &worker->rank.collective);
    if (worker->status == OK)
        worker->status =
            backward(&worker->tensors, worker->rows, &all_options, 1, 0, &worker->rank.collective);
    return NULL;
}

static void move_rows(float *to, const float *from, const Worker *worker, int64_t stride)
{
    memcpy(to, from + worker->first * stride, (size_t)(worker->rows * stride) * sizeof *to);
}

static void assert_near(const float *got, const float *want, int64_t count, float tolerance, const char *what)
{
    for (int64_t i = 0; i < count; ++i) {
        if (fabsf(got[i] - want[i]) <= tolerance * (1 + fabsf(want[i]))) continue;
        print_error("%s[%lld] is %.9g, not %.9g\n", what, (long long)i, (double)got[i], (double)want[i]);
        assert_true(false);
    }
}

static void test_synchronised_statistics_are_those_of_the_global_batch(void **state)
{
    (void)state;
    Tensors whole = make_tensors(ROWS);
    assert_ok(forward(&whole, ROWS, &all_options, 1, NULL));
    assert_ok(backward(&whole, ROWS, &all_options, 1, 0, NULL));
    World world;
    assert_int_equal(pthread_barrier_init(&world.barrier, NULL, RANKS), 0);
    const int64_t share[RANKS] = {700, 1, 799}; /* uneven; one row alone would have no variance */
    Worker worker[RANKS];
    pthread_t thread[RANKS];
    int64_t first = 0;
    const Tensors fresh = make_tensors(ROWS);
    for (int r = 0; r < RANKS; ++r) {
        Worker *w = &worker[r];
        *w = (Worker){.first = first, .rows = share[r], .tensors = make_tensors(share[r])};
        first += share[r];
        w->rank = (Rank){.world = &world,
                         .collective = {.rank = r, .size = RANKS, .sum = sum_in_world, .join = join_world}};
        move_rows(w->tensors.x, fresh.x, w, X_STRIDE);
        move_rows(w->tensors.residual, fresh.residual, w, X_STRIDE);
        move_rows(w->tensors.dy, fresh.dy, w, Y_STRIDE);
        move_rows(w->tensors.dy2, fresh.dy2, w, X_STRIDE);
        move_rows(w->tensors.addend, fresh.addend, w, COLUMNS);
        move_rows(w->tensors.y, fresh.y, w, Y_STRIDE);
        move_rows(w->tensors.dx, fresh.dx, w, X_STRIDE);
    }
    for (int r = 0; r < RANKS; ++r) {
        worker[r].rank.collective.implementation = &worker[r].rank;
        assert_int_equal(pthread_create(&thread[r], NULL, work, &worker[r]), 0);
    }
    float dweight[COLUMNS] = {0};
    for (int r = 0; r < RANKS; ++r) {
        assert_int_equal(pthread_join(thread[r], NULL), 0);
        assert_ok(worker[r].status);
    }
    for (int r = 0; r < RANKS; ++r) {
        Worker *w = &worker[r];
        assert_near(w->tensors.mean, whole.mean, COLUMNS, 1e-6F, "mean");
        assert_near(w->tensors.inverse, whole.inverse, COLUMNS, 1e-6F, "inverse deviation");
        assert_near(w->tensors.running_mean, whole.running_mean, COLUMNS, 1e-6F, "running mean");
        assert_near(w->tensors.running_var, whole.running_var, COLUMNS, 1e-6F, "running variance");
        assert_near(w->tensors.y, whole.y + w->first * Y_STRIDE, w->rows * Y_STRIDE, 1e-5F, "y");
        assert_near(w->tensors.dx, whole.dx + w->first * X_STRIDE, w->rows * X_STRIDE, 1e-5F, "dx");
        for (int64_t c = 0; c < COLUMNS; ++c)
            dweight[c] += w->tensors.dweight[c];
        /* Every rank has the very same statistics. */
        ASSERT_SAME(w->tensors, worker[0].tensors, running_var, COLUMNS);
        free_tensors(&w->tensors);
    }
    assert_near(dweight, whole.dweight, COLUMNS, 1e-4F, "dweight");
    Tensors unused = fresh;
    free_tensors(&unused);
    free_tensors(&whole);
    pthread_barrier_destroy(&world.barrier);
}

/* ---- layer_norm ---- */

static void reference_layer_norm(const OpCase *op_case, OpReference *r)
{
    (void)op_case;
    const int64_t rows = shape_rows(r->shape), columns = shape_columns(r->shape);
    for (int64_t i = 0; i < rows; ++i) {
        const double *x = r->in[0].data + i * columns;
        double mean = 0, variance = 0;
        for (int64_t c = 0; c < columns; ++c)
            mean += x[c] / (double)columns;
        for (int64_t c = 0; c < columns; ++c)
            variance += (x[c] - mean) * (x[c] - mean) / (double)columns;
        for (int64_t c = 0; c < columns; ++c)
            r->out[i * columns + c] =
                (x[c] - mean) / sqrt(variance + 1e-5) * r->in[1].data[c] + r->in[2].data[c];
    }
}

static void gradient_layer_norm(const OpCase *op_case, OpReference *r)
{
    (void)op_case;
    const int64_t rows = shape_rows(r->shape), columns = shape_columns(r->shape);
    for (int64_t i = 0; i < rows; ++i) {
        const double *x = r->in[0].data + i * columns, *dy = r->upstream + i * columns;
        const double *weight = r->in[1].data;
        double mean = 0, variance = 0, h_mean = 0, hn_mean = 0;
        for (int64_t c = 0; c < columns; ++c)
            mean += x[c] / (double)columns;
        for (int64_t c = 0; c < columns; ++c)
            variance += (x[c] - mean) * (x[c] - mean) / (double)columns;
        const double inverse = 1 / sqrt(variance + 1e-5);
        for (int64_t c = 0; c < columns; ++c) {
            h_mean += dy[c] * weight[c] / (double)columns;
            hn_mean += dy[c] * weight[c] * (x[c] - mean) * inverse / (double)columns;
        }
        for (int64_t c = 0; c < columns; ++c) {
            const double n = (x[c] - mean) * inverse;
            r->in[0].gradient[i * columns + c] += inverse * (dy[c] * weight[c] - h_mean - n * hn_mean);
            r->in[1].gradient[c] += dy[c] * n;
            r->in[2].gradient[c] += dy[c];
        }
    }
}

#define LAYER_NORM(text, ...)                                                                                \
    {                                                                                                        \
        .name = "layer_norm " text, .build = build_layer_norm, .in = ONE(__VA_ARGS__),                       \
        .reference = reference_layer_norm, .gradient = gradient_layer_norm,                                  \
    }

static const OpCase layer_norm_cases[] = {
    /* Its gradient is 0, but for rounding. */
    {.name = "layer_norm of one number",
     .build = build_layer_norm,
     .in = ONE(1, 1),
     .reference = reference_layer_norm,
     .no_gradient = true},
    LAYER_NORM("of a vector", 19),
    LAYER_NORM("small", 3, 4, 8),
    LAYER_NORM("of whole vectors", 5, 64),
    LAYER_NORM("odd", 2, 3, 517),
    LAYER_NORM("many rows", 1201, 33),
    {.name = "layer_norm far from zero",
     .build = build_layer_norm,
     .in = {{.name = "x", .rank = 2, .extent = {11, 130}, .fill = fill_offset}},
     .reference = reference_layer_norm,
     .gradient = gradient_layer_norm,
     .float32_only = true,
     .tolerance = {2e-5}},
};

static void test_layer_norm(void **state)
{
    (void)state;
    op_test_cases(layer_norm_cases, COUNT(layer_norm_cases), DEVICE_CPU);
}

/* ---- fusion and errors ---- */

static Graph *graph_with_x(GraphMode mode, Shape shape, Value *x)
{
    Graph *graph;
    assert_ok(graph_create(mode, FLOAT32, &graph));
    *x = graph_input(graph, "x", shape);
    return graph;
}

static void test_no_fusion_when_others_read_what_lies_between(void **state)
{
    (void)state;
    for (int which = 0; which < 3; ++which) {
        Value x;
        Graph *graph = graph_with_x(GRAPH_TRAIN, shape_of(FLOAT32, 2, (int64_t[]){4, 3}), &x);
        const Value normalised = batch_norm(graph, "bn", x, (BatchNorm){0});
        const Value sum = which == 2 ? normalised : add(graph, normalised, x);
        const Value y = relu(graph, sum);
        graph_keep(graph, which == 0 ? normalised : sum);
        graph_keep(graph, y);
        assert_int_equal(graph_fuse(graph), 0);
        assert_ok(graph_finish(graph));
        graph_free(graph);
    }
    /* The sum of a value with itself has no residual. */
    Value x;
    Graph *graph = graph_with_x(GRAPH_TRAIN, shape_of(FLOAT32, 2, (int64_t[]){4, 3}), &x);
    const Value normalised = batch_norm(graph, "bn", x, (BatchNorm){0});
    graph_keep(graph, relu(graph, add(graph, normalised, normalised)));
    assert_int_equal(graph_fuse(graph), 0);
    graph_free(graph);
}

static void test_errors(void **state)
{
    (void)state;
    Value x;
    Graph *graph = graph_with_x(GRAPH_TRAIN, shape_of(FLOAT32, 4, (int64_t[]){1, 1, 1, 8}), &x);
    batch_norm(graph, "bn", x, (BatchNorm){0});
    assert_fails(graph_finish(graph), STATUS_INPUT, "more than one value a channel");
    graph_free(graph);

    graph = graph_with_x(GRAPH_TRAIN, shape_of(FLOAT32, 1, (int64_t[]){8}), &x);
    batch_norm(graph, "bn", x, (BatchNorm){0});
    assert_fails(graph_finish(graph), STATUS_INPUT, "two dimensions or more");
    graph_free(graph);

    graph = graph_with_x(GRAPH_TRAIN, shape_of(INT64, 2, (int64_t[]){8, 8}), &x);
    batch_norm(graph, "bn", x, (BatchNorm){0});
    assert_fails(graph_finish(graph), STATUS_INPUT, "not int64[8, 8]");
    graph_free(graph);

    graph = graph_with_x(GRAPH_TRAIN, shape_of(FLOAT32, 2, (int64_t[]){8, 8}), &x);
    batch_norm(graph, "bn", x, (BatchNorm){.momentum = 1.5});
    assert_fails(graph_finish(graph), STATUS_INPUT, "momentum 1.5");
    graph_free(graph);

    graph = graph_with_x(GRAPH_TRAIN, shape_of(UINT8, 2, (int64_t[]){8, 8}), &x);
    layer_norm(graph, "norm", x, 0);
    assert_fails(graph_finish(graph), STATUS_INPUT, "layer_norm");
    graph_free(graph);
}

static void test_cost(void **state)
{
    (void)state;
    Value x;
    Graph *graph = graph_with_x(GRAPH_TRAIN, shape_of(FLOAT32, 2, (int64_t[]){100, 8}), &x);
    const Value y = batch_norm(graph, "bn", x, (BatchNorm){0});
    const Node *node = graph_node_at(graph, graph_producer(graph, y));
    Shape in[BATCH_NORM_INPUTS], out[BATCH_NORM_OUTPUTS];
    for (int i = 0; i < BATCH_NORM_INPUTS; ++i) {
        in[i].rank = -1;
        if (value_exists(node->input[i])) in[i] = graph_shape(graph, node->input[i]);
    }
    for (int i = 0; i < BATCH_NORM_OUTPUTS; ++i)
        out[i] = graph_shape(graph, node->output[i]);
    const Cost cost = node->op->cost(node, in, out);
    assert_true(cost.bytes == 3 * 3200 && cost.flops == 7 * 800);
    graph_free(graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batch_norm),
        cmocka_unit_test(test_batch_norm_in_float32),
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_any_number_of_threads_gives_the_same_bits),
        cmocka_unit_test(test_accumulating_gradients),
        cmocka_unit_test(test_writes_only_what_it_must),
        cmocka_unit_test(test_in_place),
        cmocka_unit_test(test_nan_is_seen),
        cmocka_unit_test(test_synchronised_statistics_are_those_of_the_global_batch),
        cmocka_unit_test(test_layer_norm),
        cmocka_unit_test(test_no_fusion_when_others_read_what_lies_between),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_cost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
