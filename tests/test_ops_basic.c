/* ReLU, addition, casts, softmax, dot and norms of rows against float64 programs. */
#include "tests/support.h"

#include "tests/kernel_call.h"
#include "tests/op_rows.h"
#include "tests/op_test.h"

#include "engine/ops/ops.h"
#include "engine/ops/table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(cases) ((int)(sizeof(cases) / sizeof *(cases)))
#define IN(the_name, ...)                                                                                    \
    {                                                                                                        \
        .name = the_name, .rank = sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), .extent = {            \
            __VA_ARGS__                                                                                      \
        }                                                                                                    \
    }
#define X(...)                                                                                               \
    {                                                                                                        \
        IN("x", __VA_ARGS__)                                                                                 \
    }

/* ---- relu ---- */

static Value build_relu(Graph *graph, const OpCase *op_case, const Value in[])
{
    (void)op_case;
    return relu(graph, in[0]);
}

static void reference_relu(const OpCase *op_case, OpReference *r)
{
    (void)op_case;
    for (int64_t i = 0; i < shape_count(r->shape); ++i)
        r->out[i] = r->in[0].data[i] > 0 ? r->in[0].data[i] : 0;
}

static void gradient_relu(const OpCase *op_case, OpReference *r)
{
    (void)op_case;
    for (int64_t i = 0; i < shape_count(r->shape); ++i)
        r->in[0].gradient[i] += r->in[0].data[i] > 0 ? r->upstream[i] : 0;
}

#define RELU(text, ...)                                                                                      \
    {                                                                                                        \
        .name = "relu " text, .build = build_relu, .in = X(__VA_ARGS__), .reference = reference_relu,        \
        .gradient = gradient_relu                                                                            \
    }

static const OpCase relu_cases[] = {
    RELU("of one number", 1),
    RELU("of a vector", 37),
    RELU("of an image", 2, 5, 3, 7),
    RELU("of whole vectors", 3, 64),
    RELU("on many threads", 13, 99, 77),
};

static void test_relu(void **state)
{
    (void)state;
    op_test_cases(relu_cases, COUNT(relu_cases), test_device());
}

static void test_relu_lets_nan_through_and_stops_zero(void **state)
{
    (void)state;
    float x[20] = {-1, 0, -0.0F, NAN, INFINITY, -INFINITY, 1e-45F, 2}, y[20], dy[20], dx[20];
    for (int i = 0; i < 20; ++i)
        dy[i] = 3;
    Call call = {.in = {tensor_vector(x, 20)}, .out = {tensor_vector(y, 20)}};
    assert_ok(kernel_call(&relu_op, &call, 1, 2, 0, NULL));
    assert_true(y[0] == 0 && y[1] == 0 && y[2] == 0 && isnan(y[3]) && isinf(y[4]) && y[5] == 0 && y[7] == 2);
    call = (Call){.in = {tensor_vector(dy, 20), tensor_vector(y, 20)}, .out = {tensor_vector(dx, 20)}};
    assert_ok(kernel_call(&relu_backward_op, &call, 2, 2, 0, NULL));
    assert_true(dx[0] == 0 && dx[1] == 0 && dx[2] == 0 && dx[3] == 3 && dx[4] == 3 && dx[5] == 0 &&
                dx[7] == 3);
}

/* ---- add ---- */

static Value build_add(Graph *graph, const OpCase *op_case, const Value in[])
{
    return add(graph, in[0], op_case->in[1].name != NULL ? in[1] : in[0]);
}

static void reference_add(const OpCase *op_case, OpReference *r)
{
    const OpTensor *b = &r->in[op_case->in[1].name != NULL ? 1 : 0];
    for (int64_t i = 0; i < shape_count(r->shape); ++i)
        r->out[i] = r->in[0].data[i] + b->data[i];
}

static void gradient_add(const OpCase *op_case, OpReference *r)
{
    OpTensor *b = &r->in[op_case->in[1].name != NULL ? 1 : 0];
    for (int64_t i = 0; i < shape_count(r->shape); ++i) {
        r->in[0].gradient[i] += r->upstream[i];
        b->gradient[i] += r->upstream[i];
    }
}

#define ADD(text, ...)                                                                                       \
    {                                                                                                        \
        .name = "add " text, .build = build_add, .in = {__VA_ARGS__}, .reference = reference_add,            \
        .gradient = gradient_add                                                                             \
    }

static const OpCase add_cases[] = {
    ADD("of two numbers", IN("a", 1), IN("b", 1)),
    ADD("of images", IN("a", 2, 3, 5, 7), IN("b", 2, 3, 5, 7)),
    ADD("on many threads", IN("a", 401, 131), IN("b", 401, 131)),
    ADD("of a value and itself", IN("a", 5, 19)),
};

static void test_add(void **state)
{
    (void)state;
    op_test_cases(add_cases, COUNT(add_cases), test_device());
}

/* Rows apart, of every width from less than a vector to several. */
static void test_strided_elementwise(void **state)
{
    (void)state;
    enum { ROWS = 9, MOST = 70 };
    static float a[ROWS * 80], b[ROWS * 90], y[ROWS * 100];
    for (int i = 0; i < ROWS * 90; ++i) {
        if (i < ROWS * 80) a[i] = (float)(i % 23) - 11;
        b[i] = (float)(i % 17) - 8;
    }
    for (int64_t columns = 1; columns <= MOST; ++columns) {
        for (int64_t i = 0; i < ROWS * 100; ++i)
            y[i] = -99;
        Call call = {.in = {tensor_floats(a, ROWS, columns, 80), tensor_floats(b, ROWS, columns, 90)},
                     .out = {tensor_floats(y, ROWS, columns, 100)}};
        assert_ok(kernel_call(&add_op, &call, 2, 2, 0, NULL));
        for (int64_t row = 0; row < ROWS; ++row)
            for (int64_t c = 0; c < 100; ++c)
                assert_true(y[row * 100 + c] == (c < columns ? a[row * 80 + c] + b[row * 90 + c] : -99));
        assert_ok(kernel_call(&relu_op, &call, 1, 2, 0, NULL));
        for (int64_t row = 0; row < ROWS; ++row)
            for (int64_t c = 0; c < 100; ++c)
                assert_true(y[row * 100 + c] == (c < columns ? fmaxf(a[row * 80 + c], 0) : -99));
    }
}

/* ---- cast ---- */

static Value build_cast(Graph *graph, const OpCase *op_case, const Value in[])
{
    (void)op_case;
    /* There and back, so that the table's types hold. */
    const DType other = graph_compute_type(graph) == FLOAT32 ? BFLOAT16 : FLOAT32;
    return cast(graph, cast(graph, in[0], other), graph_compute_type(graph));
}

static void reference_cast(const OpCase *op_case, OpReference *r)
{
    (void)op_case;
    for (int64_t i = 0; i < shape_count(r->shape); ++i)
        r->out[i] = (double)bfloat16_to_float(bfloat16_from_float((float)r->in[0].data[i]));
}

/* Without the rounding, which has no derivative. */
static void reference_cast_smooth(const OpCase *op_case, OpReference *r)
{
    (void)op_case;
    memcpy(r->out, r->in[0].data, (size_t)shape_count(r->shape) * sizeof *r->out);
}

static const OpCase cast_cases[] = {
    {.name = "cast and its gradient",
     .build = build_cast,
     .in = X(3, 7),
     .reference = reference_cast_smooth,
     .tolerance = {4e-3}},
    {.name = "cast of one number",
     .build = build_cast,
     .in = X(1),
     .reference = reference_cast,
     .no_gradient = true},
    {.name = "cast",
     .build = build_cast,
     .in = X(3, 41, 29),
     .reference = reference_cast,
     .no_gradient = true},
};

static void test_cast(void **state)
{
    (void)state;
    op_test_cases(cast_cases, COUNT(cast_cases), test_device());
    Graph *graph;
    assert_ok(graph_create(GRAPH_TRAIN, FLOAT32, &graph));
    const Value x = graph_input(graph, "x", shape_of(FLOAT32, 1, (int64_t[]){4}));
    assert_true(value_equal(cast(graph, x, FLOAT32), x));
    const Value half = cast(graph, x, BFLOAT16);
    graph_want_gradient(graph, x);
    const Value loss = dot(graph, half, graph_input(graph, "w", shape_of(FLOAT32, 1, (int64_t[]){4})));
    graph_differentiate(graph, loss);
    assert_int_equal(graph_shape(graph, graph_gradient(graph, x)).type, FLOAT32);
    assert_ok(graph_finish(graph));
    graph_free(graph);
}

static void test_rounding_to_bfloat16(void **state)
{
    (void)state;
    float x[64], back[64];
    bfloat16 half[64];
    const float special[] = {0,        -0.0F,     1,   1.00390625F, 1.01171875F, 3.3895314e38F, 3.4e38F,
                             INFINITY, -INFINITY, NAN, -1.0e-30F,   65504,       1.001F,        -7.77F};
    for (int i = 0; i < 64; ++i)
        x[i] = i < COUNT(special) ? special[i] : (float)i * 0.37F - 9;
    for (int count = 1; count <= 64; count += 7) { /* whole vectors and parts round alike */
        Tensor halves = tensor_vector(NULL, count);
        halves.data = half;
        halves.shape.type = BFLOAT16;
        Call call = {.in = {tensor_vector(x, count)}, .out = {halves}};
        assert_ok(kernel_call(&cast_op, &call, 1, 1, 0, NULL));
        call = (Call){.in = {halves}, .out = {tensor_vector(back, count)}};
        assert_ok(kernel_call(&cast_op, &call, 1, 1, 0, NULL));
        for (int i = 0; i < count; ++i) {
            const float want = bfloat16_to_float(bfloat16_from_float(x[i]));
            assert_true(isnan(x[i]) ? isnan(back[i]) : memcmp(&back[i], &want, sizeof want) == 0);
        }
    }
}

/* ---- softmax ---- */

static Value build_softmax(Graph *graph, const OpCase *op_case, const Value in[])
{
    (void)op_case;
    return softmax(graph, in[0]);
}

static Value build_log_softmax(Graph *graph, const OpCase *op_case, const Value in[])
{
    (void)op_case;
    return log_softmax(graph, in[0]);
}

static bool is_log(const OpCase *op_case) { return op_case->build == build_log_softmax; }

static void reference_softmax(const OpCase *op_case, OpReference *r)
{
    const int64_t columns = shape_columns(r->shape);
    for (int64_t i = 0; i < shape_rows(r->shape); ++i) {
        const double *x = r->in[0].data + i * columns;
        double *y = r->out + i * columns, maximum = x[0], sum = 0;
        int64_t where = 0;
        for (int64_t c = 1; c < columns; ++c)
            if (x[c] > maximum) maximum = x[where = c];
        for (int64_t c = 0; c < columns; ++c)
            sum += c == where ? 0 : exp(x[c] - maximum);
        for (int64_t c = 0; c < columns; ++c)
            y[c] = is_log(op_case) ? x[c] - maximum - log1p(sum) : exp(x[c] - maximum) / (1 + sum);
    }
}

static void gradient_softmax(const OpCase *op_case, OpReference *r)
{
    const int64_t columns = shape_columns(r->shape);
    reference_softmax(op_case, r);
    for (int64_t i = 0; i < shape_rows(r->shape); ++i) {
        const double *y = r->out + i * columns, *dy = r->upstream + i * columns;
        double *dx = r->in[0].gradient + i * columns, sum = 0;
        for (int64_t c = 0; c < columns; ++c)
            sum += is_log(op_case) ? dy[c] : dy[c] * y[c];
        for (int64_t c = 0; c < columns; ++c)
            dx[c] += is_log(op_case) ? dy[c] - exp(y[c]) * sum : y[c] * (dy[c] - sum);
    }
}

static double fill_wide(const OpCase *op_case, const char *name, int64_t index, RandomStream *random)
{
    (void)op_case;
    (void)name;
    (void)index;
    return 30 * random_normal(random);
}

static double fill_extreme(const OpCase *op_case, const char *name, int64_t index, RandomStream *random)
{
    (void)op_case;
    (void)name;
    (void)random;
    return index % 3 == 0 ? 1e4 : index % 3 == 1 ? -1e4 : 0;
}

#define SOFTMAX(text, the_fill, ...)                                                                         \
    {.name = "softmax " text,                                                                                \
     .build = build_softmax,                                                                                 \
     .in = {{.name = "x",                                                                                    \
             .rank = sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t),                                     \
             .extent = {__VA_ARGS__},                                                                        \
             .fill = the_fill}},                                                                             \
     .reference = reference_softmax,                                                                         \
     .gradient = gradient_softmax},                                                                          \
    {                                                                                                        \
        .name = "log_softmax " text, .build = build_log_softmax,                                             \
        .in = {{.name = "x",                                                                                 \
                .rank = sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t),                                  \
                .extent = {__VA_ARGS__},                                                                     \
                .fill = the_fill}},                                                                          \
        .reference = reference_softmax, .gradient = gradient_softmax                                         \
    }

static const OpCase softmax_cases[] = {
    SOFTMAX("of two classes", NULL, 3, 2),         SOFTMAX("of ten classes", NULL, 7, 10),
    SOFTMAX("of whole vectors", NULL, 2, 3, 32),   SOFTMAX("of odd width", NULL, 5, 4, 131),
    SOFTMAX("of wide logits", fill_wide, 40, 100), SOFTMAX("on many threads", NULL, 300, 75),
    SOFTMAX("of many classes", NULL, 2, 20000),
};

/* Finite differences have nothing to say of these. */
static const OpCase extreme_cases[] = {
    {.name = "log_softmax of extremes",
     .build = build_log_softmax,
     .in = {{.name = "x", .rank = 2, .extent = {6, 3}, .fill = fill_extreme}},
     .reference = reference_softmax,
     .no_gradient = true},
    {.name = "softmax of extremes",
     .build = build_softmax,
     .in = {{.name = "x", .rank = 2, .extent = {6, 3}, .fill = fill_extreme}},
     .reference = reference_softmax,
     .no_gradient = true},
    {.name = "softmax of one class",
     .build = build_softmax,
     .in = X(4, 1),
     .reference = reference_softmax,
     .no_gradient = true},
    {.name = "log_softmax of one class",
     .build = build_log_softmax,
     .in = X(4, 1),
     .reference = reference_softmax,
     .no_gradient = true},
};

static void test_softmax(void **state)
{
    (void)state;
    op_test_cases(softmax_cases, COUNT(softmax_cases), test_device());
    op_test_cases(extreme_cases, COUNT(extreme_cases), test_device());
}

/* Each element by itself, not by the tensor's scale: also -log p for p near 1, where 1 + rest rounds to 1. */
static void test_log_softmax_is_accurate_elementwise(void **state)
{
    (void)state;
    float x[20], y[20];
    for (int gap = 0; gap < 90; ++gap) {
        for (int c = 0; c < 20; ++c)
            x[c] = c == 13 ? (float)gap : -0.1F * (float)c;
        Call call = {.in = {tensor_floats(x, 1, 20, 20)}, .out = {tensor_floats(y, 1, 20, 20)}};
        assert_ok(kernel_call(&log_softmax_op, &call, 1, 1, 0, NULL));
        double rest = 0;
        for (int c = 0; c < 20; ++c)
            if (c != 13) rest += exp((double)x[c] - gap);
        for (int c = 0; c < 20; ++c) {
            const double want = (double)x[c] - gap - log1p(rest);
            assert_true(fabs((double)y[c] - want) <= 1e-5 * fabs(want) + 1e-37);
        }
    }
}

static void test_softmax_passes_nan_on(void **state)
{
    (void)state;
    float x[2 * 18] = {0}, y[2 * 18];
    x[3] = NAN;
    for (int which = 0; which < 2; ++which) {
        Call call = {.in = {tensor_floats(x, 2, 18, 18)}, .out = {tensor_floats(y, 2, 18, 18)}};
        assert_ok(kernel_call(which == 0 ? &softmax_op : &log_softmax_op, &call, 1, 1, 0, NULL));
        for (int c = 0; c < 18; ++c)
            assert_true(isnan(y[c]) && !isnan(y[18 + c]));
    }
}

/* ---- dot ---- */

static void test_dot(void **state)
{
    (void)state;
    enum { SIZE = 50001 };
    static float x[SIZE], w[SIZE], dx[SIZE];
    double want = 0, result[4] = {0};
    for (int i = 0; i < SIZE; ++i) {
        x[i] = (float)((i * 7919) % 1000) * 0.01F - 5;
        w[i] = (float)((i * 10473) % 1000) * 0.01F - 5;
        want += (double)x[i] * (double)w[i];
    }
    for (int threads = 1; threads <= 3; ++threads) {
        Call call = {
            .in = {tensor_vector(x, SIZE), tensor_vector(w, SIZE)},
            .out = {{.data = &result[threads], .shape = shape_of(FLOAT64, 1, (int64_t[]){1}), .stride = 1}}};
        assert_ok(kernel_call(&dot_op, &call, 2, threads, 0, NULL));
        assert_true(result[threads] == result[1]);
    }
    assert_true(fabs(result[1] - want) <= 1e-9 * fabs(want));
    result[0] = 1;
    Call of_nothing = {
        .in = {tensor_vector(x, 0), tensor_vector(w, 0)},
        .out = {{.data = &result[0], .shape = shape_of(FLOAT64, 1, (int64_t[]){1}), .stride = 1}}};
    assert_ok(kernel_call(&dot_op, &of_nothing, 2, 1, 0, NULL));
    assert_true(result[0] == 0);
    /* A gradient that is not the root's. */
    double g = -2.5;
    Call call = {.in = {tensor_vector(w, SIZE),
                        {.data = &g, .shape = shape_of(FLOAT64, 1, (int64_t[]){1}), .stride = 1}},
                 .out = {tensor_vector(dx, SIZE)}};
    assert_ok(kernel_call(&dot_backward_op, &call, 2, 2, 0, NULL));
    for (int i = 0; i < SIZE; ++i)
        assert_true(dx[i] == -2.5F * w[i]);
}

/* ---- norms of rows ---- */

static double norm_of(const float *x, int64_t columns)
{
    long double squares = 0;
    for (int64_t c = 0; c < columns; ++c)
        squares += (long double)x[c] * (long double)x[c];
    return (double)sqrtl(squares);
}

/* Rows of every width, apart, in both types; sizes that float32 cannot square. */
static void test_row_norms(void **state)
{
    (void)state;
    enum { ROWS = 5, MOST = 77, STRIDE = 80 };
    static float x[ROWS * STRIDE], rounded[ROWS * STRIDE];
    static bfloat16 half[ROWS * STRIDE];
    double norm[2][ROWS];
    for (int i = 0; i < ROWS * STRIDE; ++i) {
        static const float scale[ROWS] = {1, 1e-30F, 1e30F, 1e3F, 0};
        x[i] = scale[i / STRIDE] * ((float)((i * 7919) % 1000) * 0.01F - 5);
        half[i] = bfloat16_from_float(x[i]);
        rounded[i] = bfloat16_to_float(half[i]);
    }
    for (int columns = 1; columns <= MOST; ++columns)
        for (int threads = 1; threads <= 3; ++threads) {
            Tensor in = tensor_floats(x, ROWS, columns, STRIDE);
            const Tensor out = {.shape = shape_of(FLOAT64, 1, (int64_t[]){ROWS}), .stride = 1};
            Call call = {.in = {in}, .out = {out}};
            call.out[0].data = norm[0];
            assert_ok(kernel_call(&row_norms_op, &call, 1, threads, 0, NULL));
            in.data = half;
            in.shape.type = BFLOAT16;
            call = (Call){.in = {in}, .out = {out}};
            call.out[0].data = norm[1];
            assert_ok(kernel_call(&row_norms_op, &call, 1, threads, 0, NULL));
            for (int row = 0; row < ROWS; ++row) {
                const double want[] = {norm_of(x + row * STRIDE, columns),
                                       norm_of(rounded + row * STRIDE, columns)};
                for (int type = 0; type < 2; ++type)
                    assert_true(fabs(norm[type][row] - want[type]) <= 1e-14 * want[type]);
            }
        }
    x[3 * STRIDE + 40] = NAN;
    Call call = {.in = {tensor_floats(x, ROWS, MOST, STRIDE)},
                 .out = {{.data = norm[0], .shape = shape_of(FLOAT64, 1, (int64_t[]){ROWS}), .stride = 1}}};
    assert_ok(kernel_call(&row_norms_op, &call, 1, 2, 0, NULL));
    assert_true(isnan(norm[0][3]) && norm[0][4] == 0);
    op_rows_record(&row_norms_op, OP_ROW_REFERENCE);
}

static void test_row_norms_of_what_has_none(void **state)
{
    (void)state;
    Graph *graph;
    assert_ok(graph_create(GRAPH_EVALUATE, FLOAT32, &graph));
    (void)row_norms(graph, graph_input(graph, "ids", shape_of(INT32, 2, (int64_t[]){3, 4})));
    assert_fails(graph_finish(graph), STATUS_INPUT, "norms of rows need float32 or bfloat16");
    graph_free(graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_relu),
        cmocka_unit_test(test_relu_lets_nan_through_and_stops_zero),
        cmocka_unit_test(test_add),
        cmocka_unit_test(test_strided_elementwise),
        cmocka_unit_test(test_cast),
        cmocka_unit_test(test_rounding_to_bfloat16),
        cmocka_unit_test(test_softmax),
        cmocka_unit_test(test_log_softmax_is_accurate_elementwise),
        cmocka_unit_test(test_softmax_passes_nan_on),
        cmocka_unit_test(test_dot),
        cmocka_unit_test(test_row_norms),
        cmocka_unit_test(test_row_norms_of_what_has_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
