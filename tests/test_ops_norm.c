/* Batch and layer normalisation by table: float64 programs, fused or not, dense or not. */
#include "tests/support.h"

#include "tests/op_test.h"

#include "engine/ops/dropout.h"
#include "engine/ops/ops.h"

#include <math.h>
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

static Value build_layer_norm(Graph *graph, const OpCase *op_case, const Value in[])
{
    (void)op_case;
    return layer_norm(graph, "layer", in[0], 0);
}

static void test_batch_norm(void **state)
{
    (void)state;
    op_test_cases(batch_norm_cases, COUNT(batch_norm_cases), test_device());
}

static void test_batch_norm_in_float32(void **state)
{
    (void)state;
    op_test_cases(float32_cases, COUNT(float32_cases), test_device());
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
    op_test_cases(layer_norm_cases, COUNT(layer_norm_cases), test_device());
}

/* ---- layer_norm of a sum, fused ---- */

typedef struct {
    double dropout;
    bool swapped; /* add(dropout(made), x) */
    bool both;    /* the sum is read elsewhere, too: y + sum comes out */
} ResidualRow;

static Value build_residual(Graph *graph, const OpCase *op_case, const Value in[])
{
    const ResidualRow *row = op_case->parameters;
    const Value made = dropout(graph, "drop", in[1], row->dropout);
    const Value sum = row->swapped ? add(graph, made, in[0]) : add(graph, in[0], made);
    Value y = layer_norm(graph, "layer", sum, 0);
    if (row->both) y = add(graph, y, sum);
    assert_int_equal(graph_fuse(graph), 1);
    return y;
}

/* What element e of `made` is multiplied by. */
static double residual_mask(const OpCase *op_case, Shape shape, int64_t e)
{
    const ResidualRow *row = op_case->parameters;
    const int64_t *clock = op_case->clock, elements = shape_count(shape) / shape.extent[0];
    if (row->dropout == 0) return 1;
    const uint64_t sample = (uint64_t)(clock[CLOCK_FIRST_SAMPLE] + e / elements);
    const RandomBlock block = random_block(
        dropout_seed((uint64_t)clock[CLOCK_SEED], random_name_key("drop")), RANDOM_DROPOUT,
        (uint64_t)clock[CLOCK_STEP], (sample << DROPOUT_ROW_BITS) + (uint64_t)(e % elements / DROPOUT_WORDS));
    const bool kept = block.word[e % elements % DROPOUT_WORDS] >> 8 >= dropout_threshold(row->dropout);
    return kept ? 1 / (1 - row->dropout) : 0;
}

/* The layer norm's own part: its x is the sum. Release in[0] with free_norm_part. */
static OpReference norm_part(const OpCase *op_case, const OpReference *r)
{
    const int64_t count = shape_count(r->shape);
    OpReference part = *r;
    part.in[0].data = calloc((size_t)count, sizeof(double));
    part.in[0].gradient = calloc((size_t)count, sizeof(double));
    assert_true(part.in[0].data != NULL && part.in[0].gradient != NULL);
    for (int64_t e = 0; e < count; ++e)
        part.in[0].data[e] = r->in[0].data[e] + r->in[1].data[e] * residual_mask(op_case, r->shape, e);
    part.in[1] = r->in[2];
    part.in[2] = r->in[3];
    return part;
}

static void free_norm_part(OpReference *part)
{
    free(part->in[0].data);
    free(part->in[0].gradient);
}

static void reference_residual(const OpCase *op_case, OpReference *r)
{
    OpReference part = norm_part(op_case, r);
    reference_layer_norm(op_case, &part);
    for (int64_t e = 0; e < shape_count(r->shape) && ((const ResidualRow *)op_case->parameters)->both; ++e)
        r->out[e] += part.in[0].data[e];
    free_norm_part(&part);
}

static void gradient_residual(const OpCase *op_case, OpReference *r)
{
    OpReference part = norm_part(op_case, r);
    gradient_layer_norm(op_case, &part);
    for (int64_t e = 0; e < shape_count(r->shape); ++e) {
        const double d =
            part.in[0].gradient[e] + (((const ResidualRow *)op_case->parameters)->both ? r->upstream[e] : 0);
        r->in[0].gradient[e] += d;
        r->in[1].gradient[e] += d * residual_mask(op_case, r->shape, e);
    }
    free_norm_part(&part);
}

#define RESIDUAL(text, extents, ...)                                                                         \
    {                                                                                                        \
        .name = "residual_norm " text, .build = build_residual, .reference = reference_residual,             \
        .gradient = gradient_residual, .clock = {3, 0, 8, 6, 0},                                             \
        .in = {{.name = "x", .rank = 3, .extent = extents}, {.name = "made", .rank = 3, .extent = extents}}, \
        .parameters = &(const ResidualRow)                                                                   \
        {                                                                                                    \
            __VA_ARGS__                                                                                      \
        }                                                                                                    \
    }
#define EXTENTS(...)                                                                                         \
    {                                                                                                        \
        __VA_ARGS__                                                                                          \
    }

static const OpCase residual_cases[] = {
    RESIDUAL("of a sum", EXTENTS(2, 3, 20), .both = false),
    RESIDUAL("of a sum that is read elsewhere", EXTENTS(3, 5, 33), .both = true),
    RESIDUAL("with dropout", EXTENTS(3, 5, 64), .dropout = 0.3),
    RESIDUAL("with dropout, odd", EXTENTS(2, 7, 37), .dropout = 0.5, .swapped = true),
    RESIDUAL("with dropout, read elsewhere", EXTENTS(3, 4, 130), .dropout = 0.1, .both = true),
    RESIDUAL("with dropout, many rows", EXTENTS(41, 17, 96), .dropout = 0.1),
    RESIDUAL("with dropout, wide", EXTENTS(2, 2, 1030), .dropout = 0.2, .both = true),
};

static void test_residual_norm(void **state)
{
    (void)state;
    op_test_cases(residual_cases, COUNT(residual_cases), test_device());
}

/* What reads the sum before the norm stands against it. */
static void test_no_fusion(void **state)
{
    (void)state;
    Graph *graph;
    assert_ok(graph_create(GRAPH_TRAIN, FLOAT32, &graph));
    const Shape shape = shape_of(FLOAT32, 2, (int64_t[]){3, 4});
    const Value a = graph_input(graph, "a", shape), sum = add(graph, a, graph_input(graph, "b", shape));
    const Value early = relu(graph, sum);
    graph_keep(graph, add(graph, early, layer_norm(graph, "norm", sum, 0)));
    graph_keep(graph, layer_norm(graph, "other", a, 0)); /* of no sum */
    assert_int_equal(graph_fuse(graph), 0);
    assert_ok(graph_finish(graph));
    graph_free(graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batch_norm), cmocka_unit_test(test_batch_norm_in_float32),
        cmocka_unit_test(test_layer_norm), cmocka_unit_test(test_residual_norm),
        cmocka_unit_test(test_no_fusion),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
