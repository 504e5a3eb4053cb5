/* ReLU, addition and cast on the CPU: one pass over memory, rows with or without gaps. */
#include "engine/ops/elementwise.h"

#include "engine/ops/rows_cpu.h"
#include "engine/ops/vector_cpu.h"

/* Computes `count` contiguous elements; b is NULL for ops of one input. */
typedef void (*Piece)(const void *a, const void *b, void *y, int64_t count);

static bool is_dense(const Tensor *tensor)
{
    return tensor->stride == shape_columns(tensor->shape) || shape_rows(tensor->shape) <= 1;
}

static size_t row_bytes(const Tensor *tensor)
{
    return (size_t)tensor->stride * dtype_size(tensor->shape.type);
}

/* `piece` over all elements: threads share the elements if all is dense, else the rows. */
static void run_pieces(const Call *call, int inputs, Piece piece)
{
    const Tensor *a = &call->in[0], *b = &call->in[1], *y = &call->out[0];
    const int64_t count = shape_count(y->shape), rows = shape_rows(y->shape);
    const int64_t columns = shape_columns(y->shape);
    const bool dense = is_dense(a) && is_dense(y) && (inputs < 2 || is_dense(b));
    const size_t a_size = dtype_size(a->shape.type), y_size = dtype_size(y->shape.type);
    const size_t b_size = inputs > 1 ? dtype_size(b->shape.type) : 0;
    enum { UNIT = 64 }; /* shares begin at whole cache lines */
#pragma omp parallel num_threads(threads_for(call->device, count))
    {
        int64_t first, last;
        if (dense) {
            thread_share((count + UNIT - 1) / UNIT, &first, &last);
            first *= UNIT;
            last = last * UNIT < count ? last * UNIT : count;
            if (first < last)
                piece((const char *)a->data + (size_t)first * a_size,
                      inputs > 1 ? (const char *)b->data + (size_t)first * b_size : NULL,
                      (char *)y->data + (size_t)first * y_size, last - first);
        } else {
            thread_share(rows, &first, &last);
            for (int64_t row = first; row < last; ++row)
                piece((const char *)a->data + (size_t)row * row_bytes(a),
                      inputs > 1 ? (const char *)b->data + (size_t)row * row_bytes(b) : NULL,
                      (char *)y->data + (size_t)row * row_bytes(y), columns);
        }
    }
}

/* ---- relu ---- */

VECTOR_INLINE void relu_piece(const void *x, void *y, int64_t count, bool bf16)
{
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        vector_store(y, i, LANES, bf16, vector_relu(vector_load(x, i, LANES, bf16)));
    const int left = (int)(count - i);
    if (left > 0) vector_store(y, i, left, bf16, vector_relu(vector_load(x, i, left, bf16)));
}

static void relu_float(const void *x, const void *b, void *y, int64_t count)
{
    (void)b;
    relu_piece(x, y, count, false);
}

static void relu_bfloat16(const void *x, const void *b, void *y, int64_t count)
{
    (void)b;
    relu_piece(x, y, count, true);
}

static Status relu_run(const Call *call)
{
    run_pieces(call, 1, call->out[0].shape.type == BFLOAT16 ? relu_bfloat16 : relu_float);
    return OK;
}

const Kernel relu_cpu = {.run = relu_run, .in_place = 1, .strided_in = 1, .strided_out = 1};

VECTOR_INLINE void relu_backward_part(const void *dy, const void *y, void *dx, int64_t i, int lanes,
                                      bool bf16)
{
    const Mask passed = vector_passes(vector_load(y, i, lanes, bf16));
    vector_store(dx, i, lanes, bf16, vector_gate(passed, vector_load(dy, i, lanes, bf16)));
}

VECTOR_INLINE void relu_backward_piece(const void *dy, const void *y, void *dx, int64_t count, bool bf16)
{
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        relu_backward_part(dy, y, dx, i, LANES, bf16);
    if (i < count) relu_backward_part(dy, y, dx, i, (int)(count - i), bf16);
}

static void relu_backward_float(const void *dy, const void *y, void *dx, int64_t count)
{
    relu_backward_piece(dy, y, dx, count, false);
}

static void relu_backward_bfloat16(const void *dy, const void *y, void *dx, int64_t count)
{
    relu_backward_piece(dy, y, dx, count, true);
}

static Status relu_backward_run(const Call *call)
{
    run_pieces(call, 2, call->out[0].shape.type == BFLOAT16 ? relu_backward_bfloat16 : relu_backward_float);
    return OK;
}

const Kernel relu_backward_cpu = {.run = relu_backward_run, .in_place = 3, .strided_in = 3, .strided_out = 1};

/* ---- add ---- */

VECTOR_INLINE void add_part(const void *a, const void *b, void *y, int64_t i, int lanes, bool bf16)
{
    vector_store(y, i, lanes, bf16, vector_load(a, i, lanes, bf16) + vector_load(b, i, lanes, bf16));
}

VECTOR_INLINE void add_piece(const void *a, const void *b, void *y, int64_t count, bool bf16)
{
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        add_part(a, b, y, i, LANES, bf16);
    if (i < count) add_part(a, b, y, i, (int)(count - i), bf16);
}

static void add_float(const void *a, const void *b, void *y, int64_t count)
{
    add_piece(a, b, y, count, false);
}

static void add_bfloat16(const void *a, const void *b, void *y, int64_t count)
{
    add_piece(a, b, y, count, true);
}

static Status add_run(const Call *call)
{
    run_pieces(call, 2, call->out[0].shape.type == BFLOAT16 ? add_bfloat16 : add_float);
    return OK;
}

const Kernel add_cpu = {.run = add_run, .in_place = 3, .strided_in = 3, .strided_out = 1};

/* ---- cast ---- */

VECTOR_INLINE void cast_piece(const void *x, void *y, int64_t count, bool from_bf16, bool to_bf16)
{
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        vector_store(y, i, LANES, to_bf16, vector_load(x, i, LANES, from_bf16));
    const int left = (int)(count - i);
    if (left > 0) vector_store(y, i, left, to_bf16, vector_load(x, i, left, from_bf16));
}

static void cast_to_bfloat16(const void *x, const void *b, void *y, int64_t count)
{
    (void)b;
    cast_piece(x, y, count, false, true);
}

static void cast_to_float(const void *x, const void *b, void *y, int64_t count)
{
    (void)b;
    cast_piece(x, y, count, true, false);
}

static Status cast_run(const Call *call)
{
    run_pieces(call, 1, call->out[0].shape.type == BFLOAT16 ? cast_to_bfloat16 : cast_to_float);
    return OK;
}

const Kernel cast_cpu = {.run = cast_run, .strided_in = 1, .strided_out = 1};
