/* Ops that only move data: concat, slice, reshape, flatten. */
#include "tests/support.h"

#include "tests/kernel_call.h"
#include "tests/op_test.h"

#include "engine/ops/ops.h"
#include "engine/ops/table.h"

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

/* ---- concat and slice ---- */

/* Concatenates its inputs, as a dense block does: the later in front of all before. */
static Value build_dense(Graph *graph, const OpCase *op_case, const Value in[])
{
    Value all = in[0];
    for (int i = 1; i < OP_TEST_INPUTS && op_case->in[i].name != NULL; ++i) {
        /* A value made by a node: the plan may place it. The sum reads what is inside the buffer. */
        const Value fresh = relu(graph, in[i]);
        all = concat(graph, (Value[]){fresh, all}, 2);
    }
    return all;
}

static int inputs_of(const OpCase *op_case)
{
    int count = 0;
    while (count < OP_TEST_INPUTS && op_case->in[count].name != NULL)
        ++count;
    return count;
}

/* Which element of which input is column c of row i of the output? */
static int64_t dense_source(const OpCase *op_case, const OpReference *r, int64_t i, int64_t c, int *input)
{
    for (*input = inputs_of(op_case) - 1; *input > 0; --*input) {
        const int64_t columns = shape_columns(r->in[*input].shape);
        if (c < columns) break;
        c -= columns;
    }
    return i * shape_columns(r->in[*input].shape) + c;
}

static void reference_dense(const OpCase *op_case, OpReference *r)
{
    const int64_t columns = shape_columns(r->shape);
    for (int64_t e = 0; e < shape_count(r->shape); ++e) {
        int input;
        const int64_t from = dense_source(op_case, r, e / columns, e % columns, &input);
        const double value = r->in[input].data[from];
        r->out[e] = input > 0 && value < 0 ? 0 : value;
    }
}

static void gradient_dense(const OpCase *op_case, OpReference *r)
{
    const int64_t columns = shape_columns(r->shape);
    for (int64_t e = 0; e < shape_count(r->shape); ++e) {
        int input;
        const int64_t from = dense_source(op_case, r, e / columns, e % columns, &input);
        if (input == 0 || r->in[input].data[from] > 0) r->in[input].gradient[from] += r->upstream[e];
    }
}

/* Takes columns apart and puts them together in another order, one part twice. */
static Value build_shuffle(Graph *graph, const OpCase *op_case, const Value in[])
{
    const int64_t columns = op_case->in[0].extent[op_case->in[0].rank - 1];
    const Value x = relu(graph, in[0]);
    const Value left = slice(graph, x, 0, 1), right = slice(graph, x, 1, columns - 1);
    return concat(graph, (Value[]){right, left, right}, 3);
}

static void reference_shuffle(const OpCase *op_case, OpReference *r)
{
    (void)op_case;
    const int64_t columns = shape_columns(r->in[0].shape), width = shape_columns(r->shape);
    for (int64_t e = 0; e < shape_count(r->shape); ++e) {
        const double value = r->in[0].data[e / width * columns + (e % width + 1) % columns];
        r->out[e] = value > 0 ? value : 0;
    }
}

static void gradient_shuffle(const OpCase *op_case, OpReference *r)
{
    (void)op_case;
    const int64_t columns = shape_columns(r->in[0].shape), width = shape_columns(r->shape);
    for (int64_t e = 0; e < shape_count(r->shape); ++e) {
        const int64_t from = e / width * columns + (e % width + 1) % columns;
        if (r->in[0].data[from] > 0) r->in[0].gradient[from] += r->upstream[e];
    }
}

#define DENSE(text, ...)                                                                                     \
    {                                                                                                        \
        .name = "concat " text, .build = build_dense, .in = {__VA_ARGS__}, .reference = reference_dense,     \
        .gradient = gradient_dense                                                                           \
    }
#define SHUFFLE(text, ...)                                                                                   \
    {                                                                                                        \
        .name = "slice and concat " text, .build = build_shuffle, .in = X(__VA_ARGS__),                      \
        .reference = reference_shuffle, .gradient = gradient_shuffle                                         \
    }

static const OpCase concat_cases[] = {
    DENSE("of two numbers", IN("a", 1), IN("b", 1)),
    DENSE("of two", IN("a", 3, 4, 5), IN("b", 3, 4, 2)),
    DENSE("of four", IN("a", 2, 5, 5, 16), IN("b", 2, 5, 5, 3), IN("c", 2, 5, 5, 8), IN("d", 2, 5, 5, 1)),
    DENSE("on many threads", IN("a", 700, 33), IN("b", 700, 17), IN("c", 700, 16)),
    SHUFFLE("of two columns", 1, 2),
    SHUFFLE("of an image", 2, 3, 3, 19),
    SHUFFLE("on many threads", 811, 32),
};

static void test_concat_and_slice(void **state)
{
    (void)state;
    op_test_cases(concat_cases, COUNT(concat_cases), test_device());
}

/* What the planner put into the result is not touched; the rest is copied. */
static void test_concat_copies_only_what_is_elsewhere(void **state)
{
    (void)state;
    float y[4 * 8], other[4 * 3];
    for (int i = 0; i < 32; ++i)
        y[i] = (float)i;
    for (int i = 0; i < 12; ++i)
        other[i] = 100 + (float)i;
    Call call = {.in = {tensor_floats(other, 4, 3, 3), tensor_floats(y + 3, 4, 5, 8)},
                 .out = {tensor_floats(y, 4, 8, 8)}};
    assert_ok(kernel_call(&concat_op, &call, 2, 2, 0, NULL));
    for (int i = 0; i < 32; ++i)
        assert_true(y[i] == (i % 8 < 3 ? 100 + (float)(i / 8 * 3 + i % 8) : (float)i));
}

static void test_concat_and_slice_errors(void **state)
{
    (void)state;
    for (int which = 0; which < 5; ++which) {
        Graph *graph;
        assert_ok(graph_create(GRAPH_TRAIN, FLOAT32, &graph));
        const Value a = graph_input(graph, "a", shape_of(FLOAT32, 2, (int64_t[]){3, 4}));
        const Value b = graph_input(graph, "b", shape_of(FLOAT32, 2, (int64_t[]){2, 4}));
        const Value c = graph_input(graph, "c", shape_of(BFLOAT16, 2, (int64_t[]){3, 4}));
        switch (which) {
        case 0:
            concat(graph, (Value[]){a, b}, 2);
            break;
        case 1:
            concat(graph, (Value[]){a, c}, 2);
            break;
        case 2:
            slice(graph, a, 2, 3);
            break;
        case 3:
            slice(graph, a, -1, 2);
            break;
        default:
            slice(graph, a, 3, INT64_MAX);
            break;
        }
        assert_fails(graph_finish(graph), STATUS_INPUT, which < 2 ? "differ" : "not within float32[3, 4]");
        graph_free(graph);
    }
}

/* ---- reshape and flatten ---- */

typedef struct {
    int rank;
    int64_t extent[SHAPE_MAX_RANK];
} Extents;

static Value build_reshape(Graph *graph, const OpCase *op_case, const Value in[])
{
    const Extents *extents = op_case->parameters;
    return reshape(graph, in[0], extents->rank, extents->extent);
}

static Value build_flatten(Graph *graph, const OpCase *op_case, const Value in[])
{
    (void)op_case;
    return flatten(graph, in[0]);
}

/* Element e of the output, channels before pixels where there are four dimensions. */
static int64_t flat_source(const OpCase *op_case, const OpReference *r, int64_t e)
{
    if (op_case->build != build_flatten || r->in[0].shape.rank != 4) return e;
    const int64_t pixels = r->in[0].shape.extent[1] * r->in[0].shape.extent[2];
    const int64_t channels = r->in[0].shape.extent[3];
    const int64_t sample = e / (pixels * channels), channel = e / pixels % channels, pixel = e % pixels;
    return (sample * pixels + pixel) * channels + channel;
}

static void reference_flat(const OpCase *op_case, OpReference *r)
{
    for (int64_t e = 0; e < shape_count(r->shape); ++e)
        r->out[e] = r->in[0].data[flat_source(op_case, r, e)];
}

static void gradient_flat(const OpCase *op_case, OpReference *r)
{
    for (int64_t e = 0; e < shape_count(r->shape); ++e)
        r->in[0].gradient[flat_source(op_case, r, e)] += r->upstream[e];
}

#define FLAT(text, function, in_shape, ...)                                                                  \
    {                                                                                                        \
        .name = text, .build = function, .in = in_shape, .reference = reference_flat,                        \
        .gradient = gradient_flat, .parameters = &(const Extents)                                            \
        {                                                                                                    \
            __VA_ARGS__                                                                                      \
        }                                                                                                    \
    }

static const OpCase flat_cases[] = {
    FLAT("reshape", build_reshape, X(2, 3, 4), 2, {6, 4}),
    FLAT("reshape, one extent open", build_reshape, X(2, 3, 4), 3, {4, -1, 2}),
    FLAT("reshape of one number", build_reshape, X(1), 2, {1, 1}),
    FLAT("flatten", build_flatten, X(3, 2, 5, 7), 0),
    FLAT("flatten of one pixel", build_flatten, X(3, 1, 1, 7), 0),
    FLAT("flatten of one channel", build_flatten, X(3, 4, 3, 1), 0),
    FLAT("flatten of rank 3", build_flatten, X(3, 4, 3), 0),
    FLAT("flatten of rank 1", build_flatten, X(5), 0),
    FLAT("flatten on many threads", build_flatten, X(70, 4, 4, 33), 0),
};

static void test_reshape_and_flatten(void **state)
{
    (void)state;
    op_test_cases(flat_cases, COUNT(flat_cases), test_device());
}

static void test_reshape_errors(void **state)
{
    (void)state;
    static const Extents wrong[] = {{2, {5, 5}}, {2, {-1, -1}}, {2, {7, -1}}, {2, {INT64_MAX, INT64_MAX}},
                                    {6, {1}},    {1, {0}}};
    for (int i = 0; i < COUNT(wrong); ++i) {
        Graph *graph;
        assert_ok(graph_create(GRAPH_TRAIN, FLOAT32, &graph));
        const Value x = graph_input(graph, "x", shape_of(FLOAT32, 2, (int64_t[]){3, 8}));
        reshape(graph, x, wrong[i].rank, wrong[i].extent);
        assert_fails(graph_finish(graph), STATUS_INPUT, "reshape");
        graph_free(graph);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_concat_and_slice),
        cmocka_unit_test(test_concat_copies_only_what_is_elsewhere),
        cmocka_unit_test(test_concat_and_slice_errors),
        cmocka_unit_test(test_reshape_and_flatten),
        cmocka_unit_test(test_reshape_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
