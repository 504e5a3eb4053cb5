/* Convolution and linear layers against float64 programs. */
#include "tests/support.h"

#include "tests/op_test.h"

#include "engine/ops/onednn/onednn.h"
#include "engine/ops/ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT(cases) ((int)(sizeof(cases) / sizeof *(cases)))
#define X(...)                                                                                               \
    {                                                                                                        \
        {                                                                                                    \
            .name = "x", .rank = sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), .extent = {             \
                __VA_ARGS__                                                                                  \
            }                                                                                                \
        }                                                                                                    \
    }

/* ---- convolution ---- */

static Value build_conv2d(Graph *graph, const OpCase *op_case, const Value in[])
{
    return conv2d(graph, "layer", in[0], *(const Conv2d *)op_case->parameters);
}

/* Calls visit for every product x[i] * weight[j] that goes into y[k]. */
static void conv2d_products(const OpCase *op_case, OpReference *r,
                            void (*visit)(OpReference *, int64_t x, int64_t weight, int64_t y))
{
    const Conv2d *conv = op_case->parameters;
    const int64_t *x = r->in[0].shape.extent, *w = r->in[1].shape.extent, *y = r->shape.extent;
    const int64_t stride = conv->stride == 0 ? 1 : conv->stride;
    const int64_t top = conv->padding_height > 0 ? conv->padding_height : conv->padding;
    const int64_t left = conv->padding_width > 0 ? conv->padding_width : conv->padding;
    for (int64_t n = 0; n < y[0]; ++n)
        for (int64_t i = 0; i < y[1]; ++i)
            for (int64_t j = 0; j < y[2]; ++j)
                for (int64_t o = 0; o < y[3]; ++o)
                    for (int64_t a = 0; a < w[1]; ++a)
                        for (int64_t b = 0; b < w[2]; ++b)
                            for (int64_t c = 0; c < w[3]; ++c) {
                                const int64_t row = i * stride + a - top, column = j * stride + b - left;
                                if (row < 0 || row >= x[1] || column < 0 || column >= x[2]) continue;
                                visit(r, ((n * x[1] + row) * x[2] + column) * x[3] + c,
                                      ((o * w[1] + a) * w[2] + b) * w[3] + c,
                                      ((n * y[1] + i) * y[2] + j) * y[3] + o);
                            }
}

static void product_forward(OpReference *r, int64_t x, int64_t weight, int64_t y)
{
    r->out[y] += r->in[0].data[x] * r->in[1].data[weight];
}

static void product_backward(OpReference *r, int64_t x, int64_t weight, int64_t y)
{
    r->in[0].gradient[x] += r->upstream[y] * r->in[1].data[weight];
    r->in[1].gradient[weight] += r->upstream[y] * r->in[0].data[x];
}

/* The output starts as the bias, which is the third tensor if there is one. */
static void start_with_bias(OpReference *r)
{
    const int64_t features = shape_columns(r->shape);
    for (int64_t e = 0; e < shape_count(r->shape); ++e)
        r->out[e] = r->in_count > 2 ? r->in[2].data[e % features] : 0;
}

static void bias_backward(OpReference *r)
{
    if (r->in_count < 3) return;
    for (int64_t e = 0; e < shape_count(r->shape); ++e)
        r->in[2].gradient[e % shape_columns(r->shape)] += r->upstream[e];
}

static void reference_conv2d(const OpCase *op_case, OpReference *r)
{
    start_with_bias(r);
    conv2d_products(op_case, r, product_forward);
}

static void gradient_conv2d(const OpCase *op_case, OpReference *r)
{
    conv2d_products(op_case, r, product_backward);
    bias_backward(r);
}

#define CONV(text, shape, ...)                                                                               \
    {                                                                                                        \
        .name = "conv2d " text, .build = build_conv2d, .reference = reference_conv2d,                        \
        .gradient = gradient_conv2d, .in = shape, .chosen_by_timing = true,                                  \
        .parameters = &(const Conv2d){__VA_ARGS__},                                                          \
    }
static const OpCase conv2d_cases[] = {
    CONV("1x1", X(2, 5, 4, 3), .channels = 4, .kernel = 1),
    CONV("1x1 of one pixel", X(1, 1, 1, 7), .channels = 5, .kernel = 1),
    CONV("1x1, stride 2, odd size", X(3, 7, 9, 16), .channels = 32, .kernel = 1, .stride = 2),
    CONV("1x1, stride 2, even size", X(2, 8, 6, 8), .channels = 16, .kernel = 1, .stride = 2),
    CONV("1x1, stride 2, fewer channels than a vector's", X(3, 32, 32, 6), .channels = 12, .kernel = 1,
         .stride = 2),
    CONV("1x1, stride 2, channels not in whole vectors", X(3, 16, 16, 20), .channels = 40, .kernel = 1,
         .stride = 2),
    CONV("1x1, stride 2, of a size worth threads", X(3, 32, 32, 64), .channels = 128, .kernel = 1,
         .stride = 2),
    CONV("1x1, stride 2, many channels", X(4, 8, 8, 256), .channels = 512, .kernel = 1, .stride = 2),
    CONV("1x1 with bias", X(2, 3, 3, 33), .channels = 17, .kernel = 1, .bias = true),
    CONV("3x3, three channels", X(2, 9, 8, 3), .channels = 16, .kernel = 3, .padding = 1),
    CONV("3x3, one channel to one", X(2, 6, 5, 1), .channels = 1, .kernel = 3, .padding = 1),
    CONV("3x3", X(2, 8, 8, 16), .channels = 32, .kernel = 3, .padding = 1),
    CONV("3x3, odd channels", X(2, 7, 5, 13), .channels = 19, .kernel = 3, .padding = 1, .bias = true),
    CONV("3x3 of one pixel", X(2, 1, 1, 8), .channels = 8, .kernel = 3, .padding = 1),
    CONV("3x3, stride 2, odd size", X(1, 7, 9, 16), .channels = 16, .kernel = 3, .stride = 2, .padding = 1),
    CONV("3x3, stride 2, even size", X(2, 8, 6, 16), .channels = 24, .kernel = 3, .stride = 2, .padding = 1),
    CONV("3x3 without padding", X(2, 6, 5, 4), .channels = 3, .kernel = 3),
    CONV("3x3, stride 3", X(2, 10, 11, 4), .channels = 5, .kernel = 3, .stride = 3),
    CONV("5x5", X(1, 9, 7, 6), .channels = 8, .kernel = 5, .padding = 2, .bias = true),
    CONV("7x7, stride 2", X(1, 15, 13, 3), .channels = 16, .kernel = 7, .stride = 2, .padding = 3),
    CONV("kernel as large as the image", X(2, 4, 4, 5), .channels = 6, .kernel = 4),
    CONV("1x5", X(2, 4, 11, 4), .channels = 3, .kernel_height = 1, .kernel_width = 5, .padding_width = 2),
    CONV("3x2, uneven padding", X(2, 6, 7, 4), .channels = 5, .kernel_height = 3, .kernel_width = 2,
         .padding_height = 2, .padding_width = 1, .stride = 2, .bias = true),
    CONV("many channels, few pixels", X(2, 4, 4, 128), .channels = 96, .kernel = 1),
    CONV("3x3 of a few pixels", X(3, 2, 2, 64), .channels = 48, .kernel = 3, .padding = 1),
};

static void test_conv2d(void **state)
{
    (void)state;
    op_test_cases(conv2d_cases, COUNT(conv2d_cases), test_device());
}

/* A first layer has no data gradient: no node computes it. */
static void test_conv2d_of_an_input(void **state)
{
    (void)state;
    Graph *graph;
    assert_ok(graph_create(GRAPH_TRAIN, FLOAT32, &graph));
    Value x = graph_input(graph, "x", shape_of(FLOAT32, 4, (int64_t[]){2, 4, 4, 3}));
    Value y = conv2d(graph, "layer", x, (Conv2d){.channels = 4, .kernel = 3, .bias = true});
    Value upstream = graph_input(graph, "upstream", graph_shape(graph, y));
    Value loss = dot(graph, y, upstream);
    graph_keep(graph, loss);
    graph_differentiate(graph, loss);
    assert_ok(graph_finish(graph));
    int weights = 0, biases = 0;
    for (int i = 0; i < graph_node_count(graph); ++i) {
        const char *name = graph_node_at(graph, i)->op->name;
        assert_string_not_equal(name, "conv2d_backward_data");
        weights += strcmp(name, "conv2d_backward_weights") == 0;
        biases += strcmp(name, "bias_gradient") == 0;
    }
    assert_int_equal(weights, 1);
    assert_int_equal(biases, 1);
    assert_true(value_exists(graph_gradient(graph, graph_find(graph, "layer.weight"))));
    graph_free(graph);
}

/* Flops as the field counts them: ResNet's first layer has 2 * 32 * 32 * 64 * 27 a sample. */
static void test_conv2d_cost(void **state)
{
    (void)state;
    Graph *graph;
    assert_ok(graph_create(GRAPH_EVALUATE, FLOAT32, &graph));
    Value x = graph_input(graph, "x", shape_of(FLOAT32, 4, (int64_t[]){2, 32, 32, 3}));
    Value y = conv2d(graph, "layer", x, (Conv2d){.channels = 64, .kernel = 3, .padding = 1});
    assert_ok(graph_finish(graph));
    const Node *node = graph_node_at(graph, graph_producer(graph, y));
    const Shape in[2] = {graph_shape(graph, node->input[0]), graph_shape(graph, node->input[1])};
    const Shape out[1] = {graph_shape(graph, y)};
    const Cost cost = node->op->cost(node, in, out);
    assert_true(cost.flops == 2.0 * 2 * 32 * 32 * 64 * 27);
    assert_true(cost.bytes == 4.0 * (2 * 32 * 32 * 3 + 64 * 27 + 2 * 32 * 32 * 64));
    graph_free(graph);
}

/* ---- linear ---- */

static Value build_linear(Graph *graph, const OpCase *op_case, const Value in[])
{
    return linear(graph, "layer", in[0], *(const Linear *)op_case->parameters);
}

/* The output has the graph's compute type. */
static Value build_linear_compute(Graph *graph, const OpCase *op_case, const Value in[])
{
    Linear parameters = *(const Linear *)op_case->parameters;
    parameters.type = graph_compute_type(graph);
    return linear(graph, "layer", in[0], parameters);
}

static void reference_linear(const OpCase *op_case, OpReference *r)
{
    (void)op_case;
    const int64_t channels = shape_columns(r->in[0].shape), features = shape_columns(r->shape);
    start_with_bias(r);
    for (int64_t row = 0; row < shape_rows(r->shape); ++row)
        for (int64_t o = 0; o < features; ++o)
            for (int64_t c = 0; c < channels; ++c)
                product_forward(r, row * channels + c, o * channels + c, row * features + o);
}

static void gradient_linear(const OpCase *op_case, OpReference *r)
{
    (void)op_case;
    const int64_t channels = shape_columns(r->in[0].shape), features = shape_columns(r->shape);
    for (int64_t row = 0; row < shape_rows(r->shape); ++row)
        for (int64_t o = 0; o < features; ++o)
            for (int64_t c = 0; c < channels; ++c)
                product_backward(r, row * channels + c, o * channels + c, row * features + o);
    bias_backward(r);
}

#define LINEAR(text, builder, shape, ...)                                                                    \
    {                                                                                                        \
        .name = "linear " text, .build = builder, .reference = reference_linear,                             \
        .gradient = gradient_linear, .in = shape, .parameters = &(const Linear){__VA_ARGS__},                \
    }

/* With weights in a form of the kernel's own. */
#define KEPT(text, builder, shape, ...)                                                                      \
    {                                                                                                        \
        .name = "linear, kept weights, " text, .build = builder, .reference = reference_linear,              \
        .gradient = gradient_linear, .packs = true, .in = shape, .parameters = &(const Linear){__VA_ARGS__}, \
    }
static const OpCase linear_cases[] = {
    LINEAR("to float32", build_linear, X(6, 20), .features = 10),
    LINEAR("of one sample", build_linear, X(1, 64), .features = 10),
    LINEAR("to one feature", build_linear, X(5, 9), .features = 1),
    LINEAR("of one channel", build_linear, X(5, 1), .features = 3),
    LINEAR("without bias", build_linear, X(7, 33), .features = 17, .no_bias = true),
    LINEAR("in the compute type", build_linear_compute, X(32, 48), .features = 64),
    LINEAR("in the compute type without bias", build_linear_compute, X(3, 5), .features = 7, .no_bias = true),
    LINEAR("of rank 3", build_linear_compute, X(2, 5, 12), .features = 8),
    LINEAR("of rank 4 to float32", build_linear, X(2, 3, 2, 12), .features = 4),
    LINEAR("of rank 1", build_linear, X(12), .features = 4),
    LINEAR("of many rows", build_linear, X(200, 16), .features = 100),
    KEPT("one row", build_linear, X(1, 64), .features = 10),
    KEPT("a column more than whole vectors", build_linear, X(5, 6), .features = 17),
    KEPT("tiles of two heights", build_linear_compute, X(29, 48), .features = 70),
    KEPT("rows that clash in the cache", build_linear_compute, X(31, 1024), .features = 40, .no_bias = true),
    KEPT("an odd depth", build_linear_compute, X(3, 7), .features = 33),
    KEPT("rank 3", build_linear_compute, X(2, 5, 12), .features = 8),
};

static void test_linear(void **state)
{
    (void)state;
    op_test_cases(linear_cases, COUNT(linear_cases), test_device());
}

/* Logits are FLOAT32, not rounded to BFLOAT16 and widened: with weights and inputs that BFLOAT16 holds,
 * products and sums are exact to float32's precision. */
static double small_integer(const OpCase *op_case, const char *name, int64_t index, RandomStream *random)
{
    (void)op_case;
    (void)name;
    (void)index;
    return (double)random_below(random, 31) - 15;
}

static void test_linear_logits_are_not_rounded(void **state)
{
    (void)state;
    OpCase exact = LINEAR("with exact numbers", build_linear, X(4, 50), .features = 10);
    exact.in[0].fill = small_integer;
    exact.fill_stored = small_integer;
    exact.tolerance[1] = 1e-7; /* of the output; the upstream gradient is rounded to BFLOAT16 on its way in */
    exact.no_gradient = true;
    op_test_cases(&exact, 1, test_device());
}

/* ---- errors, the table, the library ---- */

static Value large_kernel(Graph *graph, Value x)
{
    return conv2d(graph, "conv1", x, (Conv2d){.channels = 4, .kernel = 7, .padding = 1});
}
static Value no_channels(Graph *graph, Value x) { return conv2d(graph, "conv1", x, (Conv2d){.kernel = 3}); }
static Value negative_stride(Graph *graph, Value x)
{
    return conv2d(graph, "conv1", x, (Conv2d){.channels = 1, .kernel = 3, .stride = -1});
}
static Value no_features(Graph *graph, Value x) { return linear(graph, "fc", x, (Linear){0}); }
static void test_errors(void **state)
{
    (void)state;
    const Shape image = shape_of(FLOAT32, 4, (int64_t[]){2, 4, 4, 3});
    const Shape matrix = shape_of(FLOAT32, 2, (int64_t[]){4, 3});
    const OpError errors[] = {
        {image, large_kernel, "kernel of 7 x 7 does not fit"},
        {matrix, large_kernel, "not float32[4, 3]"},
        {image, no_channels, "convolution of 0 channels"},
        {image, negative_stride, "stride -1"},
        {image, no_features, "0 features"},
    };
    op_test_errors(errors, COUNT(errors));
}

static void test_table(void **state)
{
    (void)state;
    int count;
    const Op *const *table = ops_table(&count);
    assert_true(count > 0);
    for (int i = 0; i < count; ++i) {
        assert_non_null(table[i]->infer);
        assert_true(table[i]->output_count >= 1 && table[i]->output_count <= CALL_MAX_TENSORS);
        assert_true(table[i]->kernel[DEVICE_CPU] != NULL || table[i]->alias != ALIAS_NONE);
        if (i > 0) assert_true(strcmp(table[i - 1]->name, table[i]->name) < 0);
    }
}

typedef Status Create(OneDnnConvolution, OneDnn **, size_t *scratch_bytes);

/* A layout that sends the library to its slow paths would pass every other test. */
static void test_onednn_is_fast(void **state)
{
    (void)state;
    const struct {
        int64_t channels, out_channels, kernel, stride;
    } layers[] = {{3, 64, 3, 1},    {64, 64, 1, 1},   {64, 64, 3, 1},
                  {128, 128, 3, 2}, {256, 512, 1, 2}, {512, 2048, 1, 1}};
    Create *const create[3] = {onednn_convolution, onednn_convolution_backward_data,
                               onednn_convolution_backward_weights};
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; ++i) {
        for (int type = 0; type < 2; ++type) {
            const int64_t padding = layers[i].kernel / 2;
            const OneDnnConvolution convolution = {
                .samples = 8,
                .height = 16,
                .width = 16,
                .channels = layers[i].channels,
                .out_height = (16 + 2 * padding - layers[i].kernel) / layers[i].stride + 1,
                .out_width = (16 + 2 * padding - layers[i].kernel) / layers[i].stride + 1,
                .out_channels = layers[i].out_channels,
                .kernel_height = layers[i].kernel,
                .kernel_width = layers[i].kernel,
                .stride = layers[i].stride,
                .padding_height = padding,
                .padding_width = padding,
                .type = type == 0 ? FLOAT32 : BFLOAT16,
            };
            for (int direction = 0; direction < 3; ++direction) {
                OneDnn *one;
                size_t scratch;
                assert_ok(create[direction](convolution, &one, &scratch));
                const char *name = onednn_implementation(one);
                if (strncmp(name, "ref", 3) == 0 || strncmp(name, "gemm:ref", 8) == 0) {
                    print_error("%lld -> %lld channels, direction %d: %s\n", (long long)layers[i].channels,
                                (long long)layers[i].out_channels, direction, name);
                    assert_true(false);
                }
                onednn_free(one);
            }
        }
    }
}

/* On a processor without AVX-512 the library has no bfloat16, and we widen. This one is told that it has
 * none; the library reads that once a process. */
static const char *const without_bfloat16 = "--without-bfloat16";

static void test_without_bfloat16(void **state)
{
    (void)state;
    if (test_device() != DEVICE_CPU) skip(); /* it has its own bfloat16 */
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)setenv("DNNL_MAX_CPU_ISA", "AVX2", 1);   /* oneDNN 2.x */
        (void)setenv("ONEDNN_MAX_CPU_ISA", "AVX2", 1); /* and 3.x */
        (void)execl("/proc/self/exe", "test_ops_conv", without_bfloat16, (char *)NULL);
        _exit(127);
    }
    int result = -1;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_int_equal(result, 0);
}

static void test_is_without_bfloat16(void **state)
{
    (void)state;
    const OneDnnInnerProduct product = {
        .rows = 4, .channels = 4, .features = 4, .in_type = BFLOAT16, .out_type = BFLOAT16};
    OneDnn *one;
    size_t scratch;
    assert_ok(onednn_inner_product(product, &one, &scratch));
    assert_non_null(strstr(onednn_implementation(one), "float32 for bfloat16"));
    onednn_free(one);
}

int main(int count, char **arguments)
{
    if (count > 1 && strcmp(arguments[1], without_bfloat16) == 0) {
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_is_without_bfloat16),
            cmocka_unit_test(test_conv2d),
            cmocka_unit_test(test_linear),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conv2d),
        cmocka_unit_test(test_conv2d_of_an_input),
        cmocka_unit_test(test_conv2d_cost),
        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_linear_logits_are_not_rounded),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_onednn_is_fast),
        cmocka_unit_test(test_without_bfloat16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
