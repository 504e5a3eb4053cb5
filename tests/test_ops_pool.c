/* Pooling of images against float64 programs. */
#include "tests/support.h"

#include "tests/op_test.h"

#include "engine/ops/ops.h"

#include <math.h>

#define COUNT(cases) ((int)(sizeof(cases) / sizeof *(cases)))
#define X(...)                                                                                               \
    {                                                                                                        \
        {                                                                                                    \
            .name = "x", .rank = sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), .extent = {             \
                __VA_ARGS__                                                                                  \
            }                                                                                                \
        }                                                                                                    \
    }

static Value build_average(Graph *graph, const OpCase *op_case, const Value in[])
{
    return average_pool2d(graph, in[0], *(const Pool2d *)op_case->parameters);
}

static Value build_adaptive(Graph *graph, const OpCase *op_case, const Value in[])
{
    const int64_t *size = op_case->parameters;
    return adaptive_average_pool2d(graph, in[0], size[0], size[1]);
}

static Value build_max(Graph *graph, const OpCase *op_case, const Value in[])
{
    return max_pool2d(graph, in[0], *(const Pool2d *)op_case->parameters);
}

/* The element of x that a window of y[n, i, j, c] covers at (a, b), or -1 outside. */
static int64_t pool_element(const OpCase *op_case, const OpReference *r, int64_t n, int64_t i, int64_t j,
                            int64_t c, int64_t a, int64_t b)
{
    const Pool2d *pool = op_case->parameters;
    const int64_t *x = r->in[0].shape.extent;
    const int64_t stride = pool->stride == 0 ? pool->kernel : pool->stride;
    const int64_t row = i * stride + a - pool->padding, column = j * stride + b - pool->padding;
    if (row < 0 || row >= x[1] || column < 0 || column >= x[2]) return -1;
    return ((n * x[1] + row) * x[2] + column) * x[3] + c;
}

static int64_t pool_largest(const OpCase *op_case, const OpReference *r, int64_t n, int64_t i, int64_t j,
                            int64_t c)
{
    const Pool2d *pool = op_case->parameters;
    int64_t largest = -1;
    for (int64_t a = 0; a < pool->kernel; ++a)
        for (int64_t b = 0; b < pool->kernel; ++b) {
            const int64_t e = pool_element(op_case, r, n, i, j, c, a, b);
            if (e >= 0 && (largest < 0 || r->in[0].data[e] > r->in[0].data[largest])) largest = e;
        }
    return largest;
}

static void pool(const OpCase *op_case, OpReference *r, bool maximum, bool backward)
{
    const Pool2d *window = op_case->parameters;
    const int64_t *y = r->shape.extent;
    const double share = 1 / (double)(window->kernel * window->kernel);
    int64_t k = 0;
    for (int64_t n = 0; n < y[0]; ++n)
        for (int64_t i = 0; i < y[1]; ++i)
            for (int64_t j = 0; j < y[2]; ++j)
                for (int64_t c = 0; c < y[3]; ++c, ++k) {
                    if (!backward) r->out[k] = 0;
                    if (maximum) {
                        const int64_t e = pool_largest(op_case, r, n, i, j, c);
                        if (backward)
                            r->in[0].gradient[e] += r->upstream[k];
                        else
                            r->out[k] = r->in[0].data[e];
                        continue;
                    }
                    for (int64_t a = 0; a < window->kernel; ++a)
                        for (int64_t b = 0; b < window->kernel; ++b) {
                            const int64_t e = pool_element(op_case, r, n, i, j, c, a, b);
                            if (e < 0) continue;
                            if (backward)
                                r->in[0].gradient[e] += r->upstream[k] * share;
                            else
                                r->out[k] += r->in[0].data[e] * share;
                        }
                }
}

static void reference_average(const OpCase *op_case, OpReference *r) { pool(op_case, r, false, false); }
static void gradient_average(const OpCase *op_case, OpReference *r) { pool(op_case, r, false, true); }
static void reference_max(const OpCase *op_case, OpReference *r) { pool(op_case, r, true, false); }
static void gradient_max(const OpCase *op_case, OpReference *r) { pool(op_case, r, true, true); }

static void reference_adaptive(const OpCase *op_case, OpReference *r)
{
    const int64_t *size = op_case->parameters, *x = r->in[0].shape.extent;
    for (int64_t k = 0; k < shape_count(r->shape); ++k) {
        const int64_t c = k % x[3], j = k / x[3] % size[1], i = k / x[3] / size[1] % size[0];
        const int64_t n = k / x[3] / size[1] / size[0];
        double sum = 0, pixels = 0;
        for (int64_t h = 0; h < x[1]; ++h)
            for (int64_t w = 0; w < x[2]; ++w) {
                const bool row = h >= floor((double)(i * x[1]) / (double)size[0]) &&
                                 h < ceil((double)((i + 1) * x[1]) / (double)size[0]);
                const bool column = w >= floor((double)(j * x[2]) / (double)size[1]) &&
                                    w < ceil((double)((j + 1) * x[2]) / (double)size[1]);
                if (!row || !column) continue;
                sum += r->in[0].data[((n * x[1] + h) * x[2] + w) * x[3] + c];
                ++pixels;
            }
        r->out[k] = sum / pixels;
    }
}

#define AVERAGE(text, shape, ...)                                                                            \
    {                                                                                                        \
        .name = "average_pool2d " text, .build = build_average, .reference = reference_average,              \
        .gradient = gradient_average, .in = shape, .parameters = &(const Pool2d){__VA_ARGS__},               \
    }
#define MAX(text, shape, ...)                                                                                \
    {                                                                                                        \
        .name = "max_pool2d " text, .build = build_max, .reference = reference_max,                          \
        .gradient = gradient_max, .in = shape, .parameters = &(const Pool2d){__VA_ARGS__},                   \
    }
/* The gradient is that of finite differences. */
#define ADAPTIVE(text, shape, ...)                                                                           \
    {                                                                                                        \
        .name = "adaptive_average_pool2d " text, .build = build_adaptive, .reference = reference_adaptive,   \
        .in = shape, .parameters = (const int64_t[2]){__VA_ARGS__},                                          \
    }
/* Both pools of the middle channels of x, one behind the other: the plan lets them read a part of x's rows
 * and write parts of the result's, so their tensors have strides. */
enum { BEFORE = 3, AFTER = 2 };

static Value build_both(Graph *graph, const OpCase *op_case, const Value in[])
{
    const Value x = slice(graph, in[0], BEFORE, shape_columns(graph_shape(graph, in[0])) - BEFORE - AFTER);
    const Value parts[2] = {build_average(graph, op_case, &x), build_max(graph, op_case, &x)};
    return concat(graph, parts, 2);
}

static void reference_both(const OpCase *op_case, OpReference *r)
{
    const Shape wide = r->in[0].shape, wide_out = r->shape;
    const int64_t channels = shape_columns(wide) - BEFORE - AFTER;
    OpReference part = *r;
    part.in[0].shape.extent[3] = channels;
    part.shape.extent[3] = channels;
    double data[1024], out[1024];
    assert_true(shape_count(part.in[0].shape) <= 1024 && shape_count(part.shape) <= 1024);
    part.in[0].data = data;
    part.out = out;
    for (int64_t e = 0; e < shape_count(part.in[0].shape); ++e)
        data[e] = r->in[0].data[e / channels * shape_columns(wide) + BEFORE + e % channels];
    for (int half = 0; half < 2; ++half) {
        pool(op_case, &part, half == 1, false);
        for (int64_t e = 0; e < shape_count(part.shape); ++e)
            r->out[e / channels * shape_columns(wide_out) + half * channels + e % channels] = out[e];
    }
}

/* Largest values have no derivative where bfloat16 makes two of them equal. */
static const OpCase strided_cases[] = {
    {.name = "both pools of a slice into a concatenation",
     .build = build_both,
     .reference = reference_both,
     .in = X(2, 5, 4, 12),
     .float32_only = true,
     .parameters = &(const Pool2d){.kernel = 3, .stride = 1, .padding = 1}},
    {.name = "both pools of a slice into a concatenation, stride 2",
     .build = build_both,
     .reference = reference_both,
     .in = X(1, 6, 6, 9),
     .float32_only = true,
     .parameters = &(const Pool2d){.kernel = 2}},
};

static void test_strided_pools(void **state)
{
    (void)state;
    op_test_cases(strided_cases, COUNT(strided_cases), test_device());
}

static const OpCase average_cases[] = {
    AVERAGE("2", X(2, 6, 4, 3), .kernel = 2),
    AVERAGE("2, incomplete windows", X(2, 7, 5, 16), .kernel = 2),
    AVERAGE("3, stride 2, padding 1", X(2, 7, 8, 5), .kernel = 3, .stride = 2, .padding = 1),
    AVERAGE("3, stride 1, padding 2", X(1, 5, 4, 17), .kernel = 3, .stride = 1, .padding = 2),
    AVERAGE("2, stride 3: pixels in no window", X(2, 8, 9, 4), .kernel = 2, .stride = 3),
    AVERAGE("1", X(1, 3, 2, 2), .kernel = 1),
    AVERAGE("4 of 4 pixels", X(3, 4, 4, 70), .kernel = 4),
    AVERAGE("8, stride 1", X(1, 10, 9, 65), .kernel = 8, .stride = 1),
    AVERAGE("3, stride 2, of a size worth threads", X(3, 16, 16, 40), .kernel = 3, .stride = 2, .padding = 1),
};

static const OpCase adaptive_cases[] = {
    ADAPTIVE("to 1", X(2, 4, 4, 6), 1, 1),
    ADAPTIVE("to 1 of one pixel", X(2, 1, 1, 5), 1, 1),
    ADAPTIVE("to 2, even", X(2, 6, 4, 3), 2, 2),
    ADAPTIVE("to 2, odd: windows overlap", X(1, 7, 5, 3), 2, 2),
    ADAPTIVE("to 3 x 2", X(1, 5, 7, 4), 3, 2),
    ADAPTIVE("to more pixels than there are", X(1, 2, 3, 3), 5, 4),
    ADAPTIVE("to 1 with many channels", X(2, 2, 2, 130), 1, 1),
};

static const OpCase max_cases[] = {
    MAX("2", X(2, 6, 4, 3), .kernel = 2),
    MAX("2, incomplete windows", X(2, 7, 5, 16), .kernel = 2),
    MAX("3, stride 2, padding 1", X(2, 8, 7, 5), .kernel = 3, .stride = 2, .padding = 1),
    MAX("3, stride 1, padding 2", X(1, 5, 4, 17), .kernel = 3, .stride = 1, .padding = 2),
    MAX("2, stride 3: pixels in no window", X(2, 8, 9, 4), .kernel = 2, .stride = 3),
    MAX("1", X(1, 3, 2, 2), .kernel = 1),
    MAX("16: the last index that a byte holds", X(1, 16, 17, 3), .kernel = 16, .stride = 1),
    MAX("17: the index needs more than a byte", X(1, 18, 17, 3), .kernel = 17, .stride = 1),
    MAX("3 of 64 channels and one more", X(1, 6, 6, 65), .kernel = 3, .stride = 2),
    MAX("3, stride 2, of a size worth threads", X(3, 16, 16, 40), .kernel = 3, .stride = 2, .padding = 1),
};

static void test_average_pool2d(void **state)
{
    (void)state;
    op_test_cases(average_cases, COUNT(average_cases), test_device());
}

static void test_adaptive_average_pool2d(void **state)
{
    (void)state;
    op_test_cases(adaptive_cases, COUNT(adaptive_cases), test_device());
}

static void test_max_pool2d(void **state)
{
    (void)state;
    op_test_cases(max_cases, COUNT(max_cases), test_device());
}

/* All negative values: padding, were it zero, would win. */
static double negative(const OpCase *op_case, const char *name, int64_t index, RandomStream *random)
{
    (void)op_case;
    (void)name;
    (void)index;
    return -1 - random_uniform(random);
}

static void test_max_pool2d_padding_never_wins(void **state)
{
    (void)state;
    OpCase below_zero = MAX("of negative values", X(1, 4, 4, 20), .kernel = 3, .stride = 1, .padding = 2);
    below_zero.in[0].fill = negative;
    op_test_cases(&below_zero, 1, test_device());
}

static Value all_padding(Graph *graph, Value x)
{
    return max_pool2d(graph, x, (Pool2d){.kernel = 2, .padding = 2});
}
static Value large_pool(Graph *graph, Value x) { return average_pool2d(graph, x, (Pool2d){.kernel = 8}); }
static Value to_nothing(Graph *graph, Value x) { return adaptive_average_pool2d(graph, x, 0, 1); }
static Value pool_of_a_matrix(Graph *graph, Value x) { return max_pool2d(graph, x, (Pool2d){.kernel = 2}); }

static void test_errors(void **state)
{
    (void)state;
    const Shape image = shape_of(FLOAT32, 4, (int64_t[]){2, 4, 4, 3});
    const Shape matrix = shape_of(FLOAT32, 2, (int64_t[]){4, 3});
    const OpError errors[] = {
        {image, all_padding, "padding 2"},
        {image, large_pool, "does not fit"},
        {image, to_nothing, "0 x 1"},
        {matrix, pool_of_a_matrix, "not float32[4, 3]"},
    };
    op_test_errors(errors, COUNT(errors));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_average_pool2d), cmocka_unit_test(test_adaptive_average_pool2d),
        cmocka_unit_test(test_max_pool2d),     cmocka_unit_test(test_max_pool2d_padding_never_wins),
        cmocka_unit_test(test_strided_pools),  cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
