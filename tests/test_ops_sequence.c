/* Convolution and pooling over sequences against float64 programs. */
#include "tests/support.h"

#include "tests/op_test.h"

#include "engine/ops/ops.h"

#include <stdlib.h>

#define COUNT(cases) ((int)(sizeof(cases) / sizeof *(cases)))
#define X(...)                                                                                               \
    {                                                                                                        \
        {.name = "x", .rank = 3, .extent = {__VA_ARGS__}},                                                   \
    }

/* A convolution (channels 0: none), then a ReLU, then a maximum over windows or over all positions. */
typedef struct {
    Conv1d conv;
    Pool1d pool; /* kernel 0: none */
    bool relu, fuse, global;
} Chain;

static Value build_chain(Graph *graph, const OpCase *op_case, const Value in[])
{
    const Chain *chain = op_case->parameters;
    Value x = in[0];
    if (chain->conv.channels > 0) x = conv1d(graph, "layer", x, chain->conv);
    if (chain->relu) x = relu(graph, x);
    if (chain->pool.kernel > 0) x = max_pool1d(graph, x, chain->pool);
    if (chain->global) x = global_max_pool1d(graph, x);
    if (chain->fuse) assert_int_equal(graph_fuse(graph), 1);
    return x;
}

/* What lies between: the convolution's result, and which of its positions each output came from (-1: none). */
typedef struct {
    int64_t samples, length, channels, out_length;
    double *values;
    int64_t *source;
} Middle;

static Middle middle_of(const OpCase *op_case, const OpReference *r)
{
    const Chain *chain = op_case->parameters;
    const Conv1d *conv = &chain->conv;
    const int64_t *x = r->in[0].shape.extent;
    const bool convolves = conv->channels > 0;
    Middle m = {.samples = x[0],
                .length = convolves ? x[1] - conv->kernel + 1 : x[1],
                .channels = convolves ? conv->channels : x[2]};
    m.values = calloc((size_t)(m.samples * m.length * m.channels), sizeof *m.values);
    assert_non_null(m.values);
    for (int64_t row = 0; row < m.samples * m.length; ++row) {
        const int64_t n = row / m.length, t = row % m.length;
        for (int64_t o = 0; o < m.channels; ++o) {
            double sum = convolves && conv->bias ? r->in[2].data[o] : 0;
            if (!convolves) sum = r->in[0].data[row * m.channels + o];
            for (int64_t k = 0; convolves && k < conv->kernel; ++k)
                for (int64_t c = 0; c < x[2]; ++c)
                    sum += r->in[0].data[(n * x[1] + t + k) * x[2] + c] *
                           r->in[1].data[(o * conv->kernel + k) * x[2] + c];
            m.values[row * m.channels + o] = chain->relu && sum < 0 ? 0 : sum;
        }
    }
    Pool1d pool = chain->pool;
    if (chain->global) pool.kernel = m.length;
    if (pool.kernel == 0) pool.kernel = 1;
    if (pool.stride == 0) pool.stride = pool.kernel;
    m.out_length = (m.length + 2 * pool.padding - pool.kernel) / pool.stride + 1;
    m.source = calloc((size_t)(m.samples * m.out_length * m.channels), sizeof *m.source);
    assert_non_null(m.source);
    for (int64_t e = 0; e < m.samples * m.out_length * m.channels; ++e) {
        const int64_t o = e % m.channels, i = e / m.channels % m.out_length,
                      n = e / m.channels / m.out_length;
        int64_t best = -1;
        for (int64_t k = 0; k < pool.kernel; ++k) {
            const int64_t t = i * pool.stride - pool.padding + k;
            if (t < 0 || t >= m.length) continue;
            const int64_t here = (n * m.length + t) * m.channels + o;
            if (best < 0 || m.values[here] > m.values[best]) best = here;
        }
        m.source[e] = best;
    }
    return m;
}

static void middle_free(Middle *m)
{
    free(m->values);
    free(m->source);
}

static void reference_chain(const OpCase *op_case, OpReference *r)
{
    Middle m = middle_of(op_case, r);
    for (int64_t e = 0; e < shape_count(r->shape); ++e)
        r->out[e] = m.values[m.source[e]];
    middle_free(&m);
}

static void gradient_chain(const OpCase *op_case, OpReference *r)
{
    const Chain *chain = op_case->parameters;
    const Conv1d *conv = &chain->conv;
    const int64_t *x = r->in[0].shape.extent;
    Middle m = middle_of(op_case, r);
    for (int64_t e = 0; e < shape_count(r->shape); ++e) {
        const int64_t from = m.source[e], row = from / m.channels, o = from % m.channels;
        const double d = chain->relu && m.values[from] <= 0 ? 0 : r->upstream[e];
        if (conv->channels == 0) {
            r->in[0].gradient[from] += d;
            continue;
        }
        if (conv->bias) r->in[2].gradient[o] += d;
        const int64_t first = (row / m.length * x[1] + row % m.length) * x[2];
        const int64_t depth = conv->kernel * x[2];
        for (int64_t i = 0; i < depth; ++i) {
            r->in[0].gradient[first + i] += d * r->in[1].data[o * depth + i];
            r->in[1].gradient[o * depth + i] += d * r->in[0].data[first + i];
        }
    }
    middle_free(&m);
}

/* ---- convolution ---- */

#define CONV(text, shape, ...)                                                                               \
    {                                                                                                        \
        .name = "conv1d " text, .build = build_chain, .reference = reference_chain,                          \
        .gradient = gradient_chain, .in = shape, .chosen_by_timing = true,                                   \
        .parameters = &(const Chain){__VA_ARGS__},                                                           \
    }

static const OpCase conv1d_cases[] = {
    CONV("of one position", X(1, 1, 1), .conv = {.channels = 1, .kernel = 1}),
    CONV("kernel 1", X(2, 5, 3), .conv = {.channels = 4, .kernel = 1, .bias = true}),
    CONV("kernel as long as the sequence", X(3, 5, 6), .conv = {.channels = 5, .kernel = 5, .bias = true}),
    CONV("kernel longer than the result", X(2, 9, 4), .conv = {.channels = 6, .kernel = 7, .bias = true}),
    CONV("kernel 2, odd channels", X(2, 8, 3), .conv = {.channels = 5, .kernel = 2}),
    CONV("odd channels in and out, odd kernel", X(2, 11, 7),
         .conv = {.channels = 9, .kernel = 3, .bias = true}),
    CONV("whole tiles", X(2, 32, 16), .conv = {.channels = 32, .kernel = 5, .bias = true}),
    CONV("one more than whole tiles", X(1, 33, 17), .conv = {.channels = 33, .kernel = 5, .bias = true}),
    CONV("100 to 128", X(2, 40, 100), .conv = {.channels = 128, .kernel = 5, .bias = true}),
    CONV("128 to 100", X(1, 30, 128), .conv = {.channels = 100, .kernel = 5}),
    CONV("more samples than pieces", X(37, 7, 4), .conv = {.channels = 3, .kernel = 5, .bias = true}),
    CONV("several segments, blocks of rows and an odd rest", X(1, 1001, 4),
         .conv = {.channels = 6, .kernel = 5, .bias = true}),
    CONV("a kernel longer than a segment", X(1, 520, 2), .conv = {.channels = 2, .kernel = 460}),
};

/* The maximum with kernel 1 picks every so manieth row: so many rows of the gradient are zero. */
static const OpCase sparse_cases[] = {
    CONV("of which every third row has a gradient", X(3, 50, 16),
         .conv = {.channels = 24, .kernel = 5, .bias = true}, .pool = {.kernel = 1, .stride = 3}),
    CONV("of which every eleventh row has a gradient", X(2, 500, 8), .conv = {.channels = 16, .kernel = 5},
         .pool = {.kernel = 1, .stride = 11}),
    CONV("of which a few rows have a gradient", X(2, 700, 6),
         .conv = {.channels = 16, .kernel = 5, .bias = true}, .pool = {.kernel = 1, .stride = 150}),
    CONV("of which a few rows have a gradient, odd channels", X(2, 600, 5),
         .conv = {.channels = 7, .kernel = 3}, .pool = {.kernel = 1, .stride = 150}),
    CONV("of which the last row has none", X(1, 300, 20), .conv = {.channels = 20, .kernel = 4, .bias = true},
         .pool = {.kernel = 1, .stride = 100}),
};

static void test_conv1d(void **state)
{
    (void)state;
    op_test_cases(conv1d_cases, COUNT(conv1d_cases), test_device());
}

static void test_conv1d_of_sparse_gradients(void **state)
{
    (void)state;
    op_test_cases(sparse_cases, COUNT(sparse_cases), test_device());
}

/* Where the maximum is may differ in bfloat16, so its gradient has no reference there. */
#define CHAIN(text, shape, ...)                                                                              \
    {                                                                                                        \
        .name = text, .build = build_chain, .reference = reference_chain, .gradient = gradient_chain,        \
        .in = shape, .float32_only = true, .chosen_by_timing = true,                                         \
        .parameters = &(const Chain){__VA_ARGS__},                                                           \
    }

static const OpCase chain_cases[] = {
    CHAIN("conv1d, maximum over time", X(2, 60, 10), .conv = {.channels = 24, .kernel = 5, .bias = true},
          .global = true),
    CHAIN("conv1d, ReLU, maximum over time, fused", X(2, 60, 10),
          .conv = {.channels = 24, .kernel = 5, .bias = true}, .relu = true, .global = true, .fuse = true),
    CHAIN("conv1d, ReLU, maximum of 5, fused", X(2, 40, 10),
          .conv = {.channels = 24, .kernel = 5, .bias = true}, .relu = true,
          .pool = {.kernel = 5, .stride = 1}, .fuse = true),
    CHAIN("conv1d, ReLU, maximum of 5: a third of the gradient is not zero", X(2, 200, 37),
          .conv = {.channels = 40, .kernel = 5, .bias = true}, .relu = true,
          .pool = {.kernel = 5, .stride = 1}, .fuse = true),
    CHAIN("conv1d, maximum of 20: an eighth of the gradient is not zero", X(2, 500, 100),
          .conv = {.channels = 40, .kernel = 3}, .pool = {.kernel = 20, .stride = 1}),
};

static void test_chains(void **state)
{
    (void)state;
    op_test_cases(chain_cases, COUNT(chain_cases), test_device());
}

/* ---- pooling ---- */

#define POOL(text, shape, ...)                                                                               \
    {                                                                                                        \
        .name = "max_pool1d " text, .build = build_chain, .reference = reference_chain,                      \
        .gradient = gradient_chain, .in = shape, .parameters = &(const Chain){__VA_ARGS__},                  \
    }

static const OpCase pool_cases[] = {
    POOL("5, stride 1", X(2, 17, 4), .pool = {.kernel = 5, .stride = 1}),
    POOL("5, stride 5, a rest dropped", X(2, 17, 4), .pool = {.kernel = 5}),
    POOL("5, stride 1, one output", X(3, 5, 33), .pool = {.kernel = 5, .stride = 1}),
    POOL("1", X(2, 3, 2), .pool = {.kernel = 1}),
    POOL("3, stride 2, padding 1", X(2, 8, 5), .pool = {.kernel = 3, .stride = 2, .padding = 1}),
    POOL("2, stride 3: positions in no window", X(2, 9, 3), .pool = {.kernel = 2, .stride = 3}),
    POOL("2, stride 1, many channels", X(1, 6, 131), .pool = {.kernel = 2, .stride = 1}),
    POOL("5, stride 1, of a size worth threads", X(4, 90, 64), .pool = {.kernel = 5, .stride = 1}),
    POOL("7, stride 1", X(2, 20, 48), .pool = {.kernel = 7, .stride = 1}),
    POOL("300: the index needs more than a byte", X(1, 310, 3), .pool = {.kernel = 300, .stride = 1}),
    POOL("of a ReLU, 5, stride 1, fused", X(2, 30, 20), .relu = true, .pool = {.kernel = 5, .stride = 1},
         .fuse = true),
    POOL("of a ReLU, 5, stride 5, fused", X(2, 31, 20), .relu = true, .pool = {.kernel = 5}, .fuse = true),
    POOL("of a ReLU, 2, stride 1, fused", X(2, 30, 37), .relu = true, .pool = {.kernel = 2, .stride = 1},
         .fuse = true),
    POOL("of a ReLU, 255 of a byte, fused", X(1, 260, 3), .relu = true, .pool = {.kernel = 255, .stride = 1},
         .fuse = true),
    POOL("of a ReLU, 300, fused", X(1, 310, 3), .relu = true, .pool = {.kernel = 300, .stride = 1},
         .fuse = true),
    POOL("over all positions", X(3, 12, 5), .global = true),
    POOL("over all of one position", X(3, 1, 5), .global = true),
    POOL("over many positions", X(2, 300, 37), .global = true),
    POOL("of a ReLU over many positions, fused", X(2, 300, 37), .relu = true, .global = true, .fuse = true),
};

static void test_max_pool1d(void **state)
{
    (void)state;
    op_test_cases(pool_cases, COUNT(pool_cases), test_device());
}

/* Few different numbers, zeros and negative ones among them, so windows have several maxima: the first one counts. */
static double few_numbers(const OpCase *op_case, const char *name, int64_t index, RandomStream *random)
{
    (void)op_case;
    (void)name;
    (void)index;
    return (double)random_below(random, 4) - 2;
}

static void test_ties(void **state)
{
    (void)state;
    OpCase ties[COUNT(pool_cases)];
    for (int i = 0; i < COUNT(pool_cases); ++i) {
        ties[i] = pool_cases[i];
        ties[i].in[0].fill = few_numbers;
        ties[i].not_smooth = true;
    }
    op_test_cases(ties, COUNT(ties), test_device());
}

/* ---- errors ---- */

static Value long_kernel(Graph *graph, Value x)
{
    return conv1d(graph, "conv1", x, (Conv1d){.channels = 4, .kernel = 6});
}
static Value no_channels(Graph *graph, Value x) { return conv1d(graph, "conv1", x, (Conv1d){.kernel = 3}); }
static Value no_kernel(Graph *graph, Value x) { return conv1d(graph, "conv1", x, (Conv1d){.channels = 3}); }
static Value long_pool(Graph *graph, Value x) { return max_pool1d(graph, x, (Pool1d){.kernel = 6}); }
static Value all_padding(Graph *graph, Value x)
{
    return max_pool1d(graph, x, (Pool1d){.kernel = 2, .padding = 2});
}

static void test_errors(void **state)
{
    (void)state;
    const Shape sequence = shape_of(FLOAT32, 3, (int64_t[]){2, 5, 3});
    const Shape matrix = shape_of(FLOAT32, 2, (int64_t[]){4, 3});
    const OpError errors[] = {
        {sequence, long_kernel, "conv1: a kernel of 6 does not fit into a sequence of 5"},
        {matrix, long_kernel, "[samples, length, channels], not float32[4, 3]"},
        {sequence, no_channels, "of 0 channels, kernel 3"},
        {sequence, no_kernel, "of 3 channels, kernel 0"},
        {sequence, long_pool, "max_pool1d of float32[2, 5, 3] with kernel 6"},
        {sequence, all_padding, "padding 2"},
        {matrix, long_pool, "not float32[4, 3]"},
        {matrix, global_max_pool1d, "not float32[4, 3]"},
    };
    op_test_errors(errors, COUNT(errors));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conv1d), cmocka_unit_test(test_conv1d_of_sparse_gradients),
        cmocka_unit_test(test_chains), cmocka_unit_test(test_max_pool1d),
        cmocka_unit_test(test_ties),   cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
