/* CUDA kernels of pooling, concat, slice, flatten, dropout, augment and dot, executed on the host, beside the
 * CPU's kernels, which test_ops_* hold to float64 references. Bit for bit where no sum could be made in
 * another order; NaN is NaN. Memory around every output must stay as it was. A size past a whole grid is one
 * of more than 132 * 16 * 256 threads. */
#include "tests/support.h"

#include "engine/ops/augment.h"
#include "engine/ops/dot.h"
#include "engine/ops/dropout.h"
#include "engine/ops/pool.h"
#include "engine/ops/shape_ops.h"
#include "engine/ops/table.h"
#include "tests/kernel_call.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(items) ((int)(sizeof(items) / sizeof *(items)))

enum { GUARD = 0x5a, MOST_HELD = 16 };

/* ---- tensors ---- */

typedef struct {
    char *memory;
    size_t bytes;
} Held;

static Held held[MOST_HELD];
static int held_count;

static void *hold(size_t bytes)
{
    bytes = (bytes + 127) / 64 * 64;
    void *memory = aligned_alloc(64, bytes);
    assert_non_null(memory);
    memset(memory, GUARD, bytes);
    assert_true(held_count < MOST_HELD);
    held[held_count++] = (Held){memory, bytes};
    return memory;
}

static void free_held(void)
{
    while (held_count > 0)
        free(held[--held_count].memory);
}

static Held held_of(const Tensor *tensor)
{
    const char *data = tensor->data;
    int i = 0;
    while (i < held_count && (data < held[i].memory || data >= held[i].memory + held[i].bytes))
        ++i;
    assert_true(i < held_count);
    return held[i];
}

/* gap: elements between rows; offset: of the first element. */
static Tensor tensor_new(Shape shape, int64_t gap, int64_t offset)
{
    const int64_t stride = shape_columns(shape) + gap;
    char *memory = hold((size_t)(offset + shape_rows(shape) * stride) * dtype_size(shape.type));
    return (Tensor){
        .data = memory + (size_t)offset * dtype_size(shape.type), .shape = shape, .stride = stride};
}

static Tensor tensor_copy(const Tensor *tensor)
{
    const Held of = held_of(tensor);
    char *memory = hold(of.bytes - 64);
    memcpy(memory, of.memory, of.bytes);
    Tensor copy = *tensor;
    copy.data = memory + ((char *)tensor->data - of.memory);
    return copy;
}

static double get(DType type, const void *data, size_t i)
{
    switch (type) {
    case BFLOAT16:
        return (double)bfloat16_to_float(((const bfloat16 *)data)[i]);
    case FLOAT32:
        return (double)((const float *)data)[i];
    case FLOAT64:
        return ((const double *)data)[i];
    default:
        return NAN;
    }
}

/* Halves between -3 and 3, so that there are equal ones; with `special`, also infinities and NaN. */
static void fill(const Tensor *tensor, bool special, uint64_t seed)
{
    const Held of = held_of(tensor);
    const DType type = tensor->shape.type;
    uint64_t state = seed;
    for (size_t i = 0; i < of.bytes / dtype_size(type); ++i) {
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        float value = (float)((int)((state >> 40) % 13) - 6) * 0.5F;
        if (special && (state >> 50) % 29 == 3)
            value = (float[]){NAN, INFINITY, -INFINITY, -0.0F}[(state >> 33) % 4];
        if (type == BFLOAT16)
            ((bfloat16 *)of.memory)[i] = bfloat16_from_float(value);
        else if (type == FLOAT32)
            memcpy(of.memory + i * sizeof value, &value, sizeof value);
        else
            memset(of.memory + i * dtype_size(type), (int)(state >> 40 & 0xff), dtype_size(type));
    }
}

/* Runs the op on both devices: outputs, gaps and surroundings included, must be the same, or differ by at
 * most `tolerance` in absolute value. The call's outputs are then those of the CPU. */
static void compare(const char *what, const Op *op, Call *call, int inputs, double tolerance)
{
    Call cuda = *call;
    for (int o = 0; o < op->output_count; ++o)
        cuda.out[o] = tensor_copy(&call->out[o]);
    assert_ok(kernel_call_on(DEVICE_CPU, op, call, inputs, 2, 0, NULL));
    assert_ok(kernel_call_on(DEVICE_CUDA, op, &cuda, inputs, 0, 0, NULL));
    for (int o = 0; o < op->output_count; ++o) {
        const Held a = held_of(&call->out[o]), b = held_of(&cuda.out[o]);
        const DType type = call->out[o].shape.type;
        const size_t size = dtype_size(type);
        for (size_t i = 0; i < a.bytes / size; ++i) {
            if (memcmp(a.memory + i * size, b.memory + i * size, size) == 0) continue;
            const double x = get(type, a.memory, i), y = get(type, b.memory, i);
            const bool number = type == BFLOAT16 || type == FLOAT32 || type == FLOAT64;
            if (number && ((isnan(x) && isnan(y)) || (tolerance > 0 && fabs(x - y) <= tolerance))) continue;
            print_error("%s of %s: CPU and CUDA differ in output %d at element %zu: %.9g and %.9g\n",
                        op->name, what, o, i, x, y);
            assert_true(false);
        }
    }
}

/* ---- pooling ---- */

typedef struct {
    const char *what;
    PoolAttributes a;
    int64_t gap, offset;
} PoolCase;

#define WINDOWS(pixels, kernel, stride, padding) (((pixels) + 2 * (padding) - (kernel)) / (stride) + 1)
#define POOL(what, n, h, w, c, k, s, p, ...)                                                                 \
    {                                                                                                        \
        what, {4, n, h, w, c, WINDOWS(h, k, s, p), WINDOWS(w, k, s, p), k, k, s, p, p, false}, __VA_ARGS__   \
    }
#define ADAPTIVE(what, n, h, w, c, to_h, to_w, ...)                                                          \
    {                                                                                                        \
        what, {4, n, h, w, c, to_h, to_w, 0, 0, 0, 0, 0, false}, __VA_ARGS__                                 \
    }

static const PoolCase pool_cases[] = {
    POOL("one element", 1, 1, 1, 1, 1, 1, 0, 0, 0),
    POOL("odd sizes", 2, 7, 6, 3, 2, 2, 0, 0, 0),
    POOL("overlapping windows", 2, 8, 7, 8, 3, 2, 1, 0, 0),
    POOL("overlapping windows in wider rows", 2, 8, 7, 8, 3, 1, 1, 24, 16),
    POOL("rows that are not aligned", 2, 5, 9, 8, 3, 2, 1, 3, 0),
    POOL("a first row that is not aligned", 2, 5, 9, 16, 2, 1, 0, 0, 1),
    POOL("pixels that no window covers", 2, 9, 8, 8, 2, 3, 0, 0, 0),
    POOL("places of more than a byte", 1, 20, 18, 8, 17, 1, 8, 0, 0),
    POOL("many blocks", 3, 33, 31, 40, 2, 2, 0, 8, 0),
    POOL("more than a grid", 4, 64, 64, 35, 2, 1, 1, 0, 0),
    ADAPTIVE("one pixel", 2, 8, 8, 256, 1, 1, 0, 0),
    ADAPTIVE("uneven windows", 2, 7, 5, 3, 2, 3, 0, 0),
    ADAPTIVE("more windows than pixels", 2, 3, 2, 8, 5, 7, 8, 8),
};

/* wide_x, wide_y: does x (or y), and its gradient, lie in rows with the case's gap and offset? */
static void check_pooling(const PoolCase *c, DType type, bool wide_x, bool wide_y)
{
    const PoolAttributes *a = &c->a;
    const Op *average = a->kernel_height == 0 ? &adaptive_average_pool2d_op : &average_pool2d_op;
    const Op *back =
        a->kernel_height == 0 ? &adaptive_average_pool2d_backward_op : &average_pool2d_backward_op;
    const Shape in = shape_of(type, 4, (int64_t[]){a->samples, a->height, a->width, a->channels});
    const Shape out = shape_of(type, 4, (int64_t[]){a->samples, a->out_height, a->out_width, a->channels});
    Shape index = out;
    index.type = pool_index_type(a);
    const int64_t x_gap = wide_x ? c->gap : 0, x_offset = wide_x ? c->offset : 0;
    const int64_t y_gap = wide_y ? c->gap : 0, y_offset = wide_y ? c->offset : 0;
    const Tensor x = tensor_new(in, x_gap, x_offset), d_y = tensor_new(out, y_gap, y_offset);
    fill(&x, true, 5);
    fill(&d_y, false, 6);
    Call forward = {.attributes = a, .in = {x}, .out = {tensor_new(out, y_gap, y_offset)}};
    compare(c->what, average, &forward, 1, 0);
    /* Products are summed, which compilers may do with one rounding or with two. */
    Call backward = {.attributes = a, .in = {d_y}, .out = {tensor_new(in, x_gap, x_offset)}};
    compare(c->what, back, &backward, 1, type == FLOAT32 ? 1e-5 : 3e-2);
    if (a->kernel_height > 0) {
        Call max = {
            .attributes = a, .in = {x}, .out = {tensor_new(out, y_gap, y_offset), tensor_new(index, 0, 0)}};
        compare(c->what, &max_pool2d_op, &max, 1, 0);
        Call max_backward = {
            .attributes = a, .in = {d_y, max.out[1]}, .out = {tensor_new(in, x_gap, x_offset)}};
        compare(c->what, &max_pool2d_backward_op, &max_backward, 2, 0);
    }
    free_held();
}

static void test_pooling(void **state)
{
    (void)state;
    for (int i = 0; i < COUNT(pool_cases); ++i)
        for (int which = 0; which < 3; ++which)
            if (which == 0 || pool_cases[i].gap + pool_cases[i].offset > 0)
                for (int bf16 = 0; bf16 < 2; ++bf16)
                    check_pooling(&pool_cases[i], bf16 ? BFLOAT16 : FLOAT32, which != 1, which != 2);
}

/* ---- concat, slice, flatten ---- */

typedef struct {
    const char *what;
    int64_t rows, before, columns, after; /* the middle part is cut out and pasted in */
    int64_t gap, offset;
} MoveCase;

static const MoveCase move_cases[] = {
    {"one element", 1, 0, 1, 0, 0, 0},
    {"one row", 1, 3, 5, 2, 0, 0},
    {"the first columns", 7, 0, 8, 8, 0, 0},
    {"the last columns", 7, 8, 8, 0, 0, 0},
    {"16 bytes", 9, 16, 32, 48, 16, 16},
    {"8 bytes", 9, 4, 12, 4, 0, 0},
    {"a place in the middle that is not aligned", 9, 3, 16, 13, 0, 0},
    {"rows that are not aligned", 9, 0, 16, 13, 0, 0},
    {"single elements", 9, 1, 3, 5, 1, 1},
    {"many blocks", 333, 8, 24, 32, 0, 0},
    {"more than a grid", 1601, 351, 341, 357, 0, 0},
};

static Shape matrix(DType type, int64_t rows, int64_t columns)
{
    return shape_of(type, 2, (int64_t[]){rows, columns});
}

static void test_concat_and_slice(void **state)
{
    (void)state;
    static const DType types[] = {FLOAT32, BFLOAT16, UINT8};
    for (int i = 0; i < COUNT(types) * COUNT(move_cases); ++i) {
        const MoveCase *c = &move_cases[i / COUNT(types)];
        const DType type = types[i % COUNT(types)];
        const int64_t all = c->before + c->columns + c->after;
        const SliceAttributes a = {.first = c->before, .columns = c->columns, .x_columns = all};
        const Tensor x = tensor_new(matrix(type, c->rows, all), c->gap, c->offset);
        fill(&x, true, 7);
        Call slice = {.attributes = &a,
                      .in = {x},
                      .out = {tensor_new(matrix(type, c->rows, c->columns), c->gap, c->offset)}};
        compare(c->what, &slice_op, &slice, 1, 0);
        Call backward = {.attributes = &a,
                         .in = {slice.out[0]},
                         .out = {tensor_new(matrix(type, c->rows, all), c->gap, c->offset)}};
        compare(c->what, &slice_backward_op, &backward, 1, 0);
        /* Part, whole, part. */
        Call concat = {.in = {slice.out[0], x, slice.out[0]},
                       .out = {tensor_new(matrix(type, c->rows, all + 2 * c->columns), c->gap, c->offset)}};
        compare(c->what, &concat_op, &concat, 3, 0);
        free_held();
    }
}

static void test_flatten(void **state)
{
    (void)state;
    static const int64_t extents[][4] = {{1, 1, 1, 1}, {3, 2, 5, 7},    {2, 4, 3, 1},
                                         {2, 1, 1, 9}, {2, 8, 8, 64},   {3, 5, 7, 33},
                                         {5, 4, 4, 3}, {750, 3, 3, 65}, {1, 33, 1, 31}};
    for (int i = 0; i < 2 * COUNT(extents); ++i) {
        const Shape x = shape_of(i % 2 == 0 ? FLOAT32 : BFLOAT16, 4, extents[i / 2]);
        const FlattenAttributes a = {.x = x};
        const Shape y = matrix(x.type, x.extent[0], shape_count(x) / x.extent[0]);
        Call forward = {.attributes = &a, .in = {tensor_new(x, 0, 0)}, .out = {tensor_new(y, 0, 0)}};
        fill(&forward.in[0], true, 8);
        compare("an image", &flatten_op, &forward, 1, 0);
        Call backward = {.attributes = &a, .in = {forward.out[0]}, .out = {tensor_new(x, 0, 0)}};
        compare("an image", &flatten_backward_op, &backward, 1, 0);
        assert_memory_equal(backward.out[0].data, forward.in[0].data, shape_bytes(x));
        free_held();
    }
}

/* ---- dropout and augment ---- */

static void test_dropout(void **state)
{
    (void)state;
    static const int64_t extents[][2] = {{1, 1}, {3, 7}, {5, 64}, {9, 1021}, {2, 1100003}};
    /* Numbers that need their upper 32 bits; a first sample whose elements begin within a block. */
    static const int64_t clocks[][CLOCK_COUNT] = {
        {1, 0, 9, 0}, {0x123456789abcdef, 3, 0x500000007, 8}, {-2, 1, 12, 4000000007}};
    for (int i = 0; i < 2 * COUNT(extents) * COUNT(clocks); ++i) {
        const Shape shape = shape_of(i % 2 == 0 ? FLOAT32 : BFLOAT16, 2, extents[i / 2 % COUNT(extents)]);
        const DropoutAttributes a = {.probability = 0.3, .name_key = (uint64_t)i * 7919};
        Tensor clock = tensor_new(shape_of(INT64, 1, (int64_t[]){CLOCK_COUNT}), 0, 0);
        memcpy(clock.data, clocks[i / 2 / COUNT(extents)], sizeof clocks[0]);
        Call call = {
            .attributes = &a, .in = {tensor_new(shape, 0, 0), clock}, .out = {tensor_new(shape, 0, 0)}};
        fill(&call.in[0], true, 9);
        compare("a matrix", &dropout_op, &call, DROPOUT_INPUTS, 0);
        call.in[DROPOUT_KEY] = tensor_new(shape_of(INT64, 1, extents[i / 2 % COUNT(extents)]), 0, 0);
        for (int64_t row = 0; row < shape.extent[0]; ++row)
            ((int64_t *)call.in[DROPOUT_KEY].data)[row] = (int64_t)dropout_key(row * 5 % 3, row);
        compare("rows with keys", &dropout_op, &call, DROPOUT_INPUTS, 0);
        free_held();
    }
}

static void test_augment(void **state)
{
    (void)state;
    static const struct {
        int64_t samples, height, width, channels, padding;
        bool flip;
    } cases[] = {{1, 1, 1, 1, 0, false},
                 {5, 7, 9, 3, 2, true},
                 {33, 6, 5, 4, 8, true},
                 {9, 8, 8, 2, 1, false},
                 {530, 32, 32, 1, 4, true}};
    enum { TABLE = 11 };
    for (int i = 0; i < 2 * COUNT(cases); ++i) {
        const int64_t n = cases[i / 2].samples, h = cases[i / 2].height, w = cases[i / 2].width,
                      c = cases[i / 2].channels, padding = cases[i / 2].padding;
        const DType type = i % 2 == 0 ? FLOAT32 : BFLOAT16;
        const AugmentAttributes a = {.padding = padding,
                                     .mean = {0.4914, 0.4822, 0.4465, 0.1},
                                     .deviation = {0.2023, 0.1994, 0.201, 0.3},
                                     .type = type,
                                     .flip = cases[i / 2].flip};
        Call call = {.attributes = &a,
                     .in = {tensor_new(shape_of(UINT8, 4, (int64_t[]){TABLE, h, w, c}), 0, 0),
                            tensor_new(shape_of(INT64, 1, (int64_t[]){n}), 0, 0),
                            tensor_new(matrix(INT32, n, CROP_COLUMNS), 0, 0)},
                     .out = {tensor_new(shape_of(type, 4, (int64_t[]){n, h, w, c}), 0, 0)}};
        fill(&call.in[AUGMENT_TABLE], false, 10);
        for (int64_t s = 0; s < n; ++s) {
            ((int64_t *)call.in[AUGMENT_INDEX].data)[s] = (s * 7 + 3) % TABLE;
            int32_t *crop = (int32_t *)call.in[AUGMENT_CROP].data + s * CROP_COLUMNS;
            crop[CROP_TOP] = (int32_t)(s * 5 % (2 * padding + 1));
            crop[CROP_LEFT] = (int32_t)((s * 3 + 1) % (2 * padding + 1));
            crop[CROP_FLIP] = (int32_t)(s / 2 % 2);
        }
        compare("images", &augment_op, &call, AUGMENT_INPUTS, 0);
        free_held();
    }
}

/* ---- dot ---- */

static void test_dot(void **state)
{
    (void)state;
    static const int64_t counts[] = {1, 7, 4096, 4097, 50001, 1200007};
    for (int i = 0; i < 4 * COUNT(counts); ++i) {
        const DType type = i % 2 == 0 ? FLOAT32 : BFLOAT16, other = i / 2 % 2 == 0 ? FLOAT32 : BFLOAT16;
        const int64_t count = counts[i / 4];
        const DotAttributes a = {.type = type};
        const Tensor x = tensor_new(shape_of(type, 1, &count), 0, 0);
        const Tensor w = tensor_new(shape_of(other, 1, &count), 0, 0);
        fill(&x, false, 11);
        fill(&w, false, 12);
        /* Quarters add up to the same number in any order. */
        Call dot = {.in = {x, w}, .out = {tensor_new(shape_of(FLOAT64, 1, (int64_t[]){1}), 0, 0)}};
        compare("vectors", &dot_op, &dot, 2, 0);
        Tensor d_y = tensor_new(shape_of(FLOAT64, 1, (int64_t[]){1}), 0, 0);
        *(double *)d_y.data = -0.3;
        Call backward = {.attributes = &a, .in = {w, d_y}, .out = {tensor_new(x.shape, 0, 0)}};
        compare("vectors", &dot_backward_op, &backward, 2, 0);
        Call of_root = {.attributes = &a, .in = {w}, .out = {tensor_new(x.shape, 0, 0)}};
        of_root.in[1].shape = d_y.shape;
        compare("vectors", &dot_backward_op, &of_root, 2, 0);
        free_held();
    }
}

/* After a test that failed too, so that the next one finds nothing. */
static int free_all(void **state)
{
    (void)state;
    free_held();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_teardown(test_pooling, free_all),
                                       cmocka_unit_test_teardown(test_concat_and_slice, free_all),
                                       cmocka_unit_test_teardown(test_flatten, free_all),
                                       cmocka_unit_test_teardown(test_dropout, free_all),
                                       cmocka_unit_test_teardown(test_augment, free_all),
                                       cmocka_unit_test_teardown(test_dot, free_all)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
