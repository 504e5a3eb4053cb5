/* The linear layer on the CPU: oneDNN's inner product over rows, a large product of ours, or one with packed weights; and the
 * bias gradient, ours. Ours leave out the rows behind the end of sequences. */
#include "engine/ops/linear.h"

#include "engine/base/memory.h"
#include "engine/ops/large_product_cpu.h"
#include "engine/ops/linear_packed_cpu.h"
#include "engine/ops/onednn/onednn_kernel.h"
#include "engine/ops/rows_cpu.h"

#include <stdlib.h>
#include <string.h>

static OneDnnInnerProduct product_of(const Call *call)
{
    const LinearAttributes *a = call->attributes;
    const Shape x = shape_of(a->in_type, a->rank, a->extent);
    return (OneDnnInnerProduct){
        .rows = shape_rows(x),
        .channels = shape_columns(x),
        .features = a->features,
        .in_type = a->in_type,
        .out_type = a->out_type,
    };
}

/* ---- the rows of sequences ---- */

SequenceRows linear_sequence_rows(const Call *call, int input, int32_t *list)
{
    const LinearAttributes *a = call->attributes;
    const int64_t rows = shape_rows(shape_of(a->in_type, a->rank, a->extent));
    if (call->node->input_count <= input) return (SequenceRows){NULL, rows};
    const int64_t each = rows / a->extent[0];
    const int32_t *length = call->in[input].data;
    int64_t count = 0;
    for (int64_t n = 0; n < a->extent[0]; ++n)
        for (int64_t r = 0; r < each && r < length[n]; ++r)
            list[count++] = (int32_t)(n * each + r);
    return (SequenceRows){count < rows ? list : NULL, count};
}

void linear_clear_other_rows(const Call *call, int input, const Tensor *tensor)
{
    const LinearAttributes *a = call->attributes;
    if (call->node->input_count <= input) return;
    const int64_t sequences = a->extent[0], each = shape_rows(tensor->shape) / sequences;
    const size_t bytes = (size_t)shape_columns(tensor->shape) * dtype_size(tensor->shape.type);
    const int32_t *length = call->in[input].data;
#pragma omp parallel for schedule(static) num_threads(threads_for(call->device, shape_count(tensor->shape)))
    for (int64_t n = 0; n < sequences; ++n) {
        const int64_t first = length[n] < 0 ? 0 : length[n] < each ? length[n] : each;
        memset((char *)tensor->data + (size_t)(n * each + first) * bytes, 0, (size_t)(each - first) * bytes);
    }
}

/* ---- large products of ours ---- */

/* x weight^T */
static LargeProduct large_forward(const OneDnnInnerProduct *p)
{
    return (LargeProduct){.rows = p->rows,
                          .inner = p->channels,
                          .columns = p->features,
                          .b_turned = true,
                          .type = p->in_type,
                          .out_type = p->out_type};
}

/* d_y weight */
static LargeProduct large_backward_data(const OneDnnInnerProduct *p)
{
    return (LargeProduct){.rows = p->rows,
                          .inner = p->features,
                          .columns = p->channels,
                          .type = p->in_type,
                          .out_type = p->in_type};
}

/* d_y^T x */
static LargeProduct large_backward_weights(const OneDnnInnerProduct *p)
{
    return (LargeProduct){.rows = p->features,
                          .inner = p->rows,
                          .columns = p->channels,
                          .a_turned = true,
                          .type = p->in_type,
                          .b_type = p->in_type};
}

/* Is this one of ours? Logits, which are wider than what they are made of, are not. */
static bool is_large(const OneDnnInnerProduct *p, LargeProduct large)
{
    return p->in_type == p->out_type && large_product_pays(&large);
}

/* What a call needs beside the product's scratch, before it: a list of rows. */
static size_t list_bytes(const Call *call)
{
    enum { ALIGNMENT = 64 };
    const size_t bytes = (size_t)product_of(call).rows * sizeof(int32_t);
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* `out` from the rows that sequences have; length: the input that says which these are. */
static void run_large(const Call *call, LargeProduct large, int length, const void *a, const void *b,
                      const float *bias)
{
    const SequenceRows rows = linear_sequence_rows(call, length, call->scratch);
    large.row = rows.row;
    if (large.a_turned)
        large.inner = rows.count;
    else
        large.rows = rows.count;
    if (rows.count == 0)
        memset(call->out[0].data, 0, shape_bytes(call->out[0].shape));
    else
        large_product_run(call->device, &large, a, b, bias, call->out[0].data,
                          (char *)call->scratch + list_bytes(call));
    if (!large.a_turned) linear_clear_other_rows(call, length, &call->out[0]);
}

/* ---- forward ---- */

/* One of three: oneDNN's, of ours with packed weights, or a large product. */
typedef struct {
    OneDnn *library;
    bool is_packed;
    PackedLinear packed;
} Forward;

static Status prepare_library(Call *call, Forward *forward, size_t *scratch_bytes)
{
    OneDnnInnerProduct product = product_of(call);
    product.bias = linear_has_bias(call);
    product.keeps_weight = call->in[1].packs;
    TRY(onednn_inner_product(product, &forward->library, scratch_bytes));
    call->in[1].packed_bytes = onednn_kept(forward->library, &call->in[1].packed_form);
    return OK;
}

static Status forward_prepare(Call *call, size_t *scratch_bytes)
{
    Forward *forward;
    const OneDnnInnerProduct product = product_of(call);
    const LargeProduct large = large_forward(&product);
    TRY(memory_new(&forward, 1, sizeof *forward, "a linear layer"));
    call->state = forward;
    forward->is_packed = packed_linear_prepare(call, &forward->packed, scratch_bytes);
    if (forward->is_packed) return OK;
    *scratch_bytes = list_bytes(call) + large_product_scratch(&large);
    if (is_large(&product, large)) return OK;
    const Status status = prepare_library(call, forward, scratch_bytes);
    if (status == OK) return OK;
    free(forward);
    call->state = NULL;
    return status;
}

static void forward_release(Call *call)
{
    Forward *forward = call->state;
    if (forward != NULL) onednn_free(forward->library);
    free(forward);
    call->state = NULL;
}

static Status forward_pack(const Call *call)
{
    const Forward *forward = call->state;
    if (forward->library != NULL)
        return onednn_pack(forward->library, call->in[1].data, call->in[1].packed, call->scratch);
    packed_linear_pack(call, &forward->packed);
    return OK;
}

static Status forward_run(const Call *call)
{
    const Forward *forward = call->state;
    void *const bias = linear_has_bias(call) ? call->in[LINEAR_BIAS].data : NULL;
    if (forward->is_packed) {
        packed_linear_run(call, &forward->packed);
        return OK;
    }
    if (forward->library != NULL) {
        void *const weight = call->in[1].packed != NULL ? call->in[1].packed : call->in[1].data;
        void *const tensors[] = {call->in[0].data, weight, bias != NULL ? bias : call->out[0].data,
                                 call->out[0].data};
        return onednn_run(forward->library, tensors, call->scratch);
    }
    const OneDnnInnerProduct product = product_of(call);
    run_large(call, large_forward(&product), LINEAR_LENGTH, call->in[0].data, call->in[1].data, bias);
    return OK;
}

/* ---- backward: the state is oneDNN's, or NULL for products of ours ---- */

static Status run_library(const Call *call)
{
    void *const tensors[] = {call->in[0].data, call->in[1].data, call->out[0].data};
    return onednn_run(call->state, tensors, call->scratch);
}

static Status backward_data_prepare(Call *call, size_t *scratch_bytes)
{
    OneDnn *one;
    const OneDnnInnerProduct product = product_of(call);
    const LargeProduct large = large_backward_data(&product);
    *scratch_bytes = list_bytes(call) + large_product_scratch(&large);
    if (is_large(&product, large)) return OK;
    TRY(onednn_inner_product_backward_data(product, &one, scratch_bytes));
    call->state = one;
    return OK;
}

static Status backward_data_run(const Call *call)
{
    if (call->state != NULL) return run_library(call);
    const OneDnnInnerProduct product = product_of(call);
    run_large(call, large_backward_data(&product), LINEAR_BACKWARD_LENGTH, call->in[0].data, call->in[1].data,
              NULL);
    return OK;
}

static Status backward_weights_prepare(Call *call, size_t *scratch_bytes)
{
    OneDnn *one;
    const OneDnnInnerProduct product = product_of(call);
    const LargeProduct large = large_backward_weights(&product);
    *scratch_bytes = list_bytes(call) + large_product_scratch(&large);
    if (is_large(&product, large)) return OK;
    TRY(onednn_inner_product_backward_weights(product, &one, scratch_bytes));
    call->state = one;
    return OK;
}

static Status backward_weights_run(const Call *call)
{
    if (call->state != NULL) return run_library(call);
    const OneDnnInnerProduct product = product_of(call);
    run_large(call, large_backward_weights(&product), LINEAR_BACKWARD_LENGTH, call->in[1].data,
              call->in[0].data, NULL);
    return OK;
}

const Kernel linear_cpu = {
    .prepare = forward_prepare, .run = forward_run, .pack = forward_pack, .release = forward_release};
const Kernel linear_backward_data_cpu = {
    .prepare = backward_data_prepare, .run = backward_data_run, .release = onednn_kernel_release};
const Kernel linear_backward_weights_cpu = {
    .prepare = backward_weights_prepare, .run = backward_weights_run, .release = onednn_kernel_release};

/* ---- bias gradient ---- */

/* Sums over many rows are added up in pieces: PIECES runs of rows, each summed by one thread, then added in
 * their order. The number of pieces does not depend on the threads, so neither does the result; and short
 * chains of additions lose fewer bits. */
enum { PIECES = 16, BLOCK = 64 };

static Status bias_prepare(Call *call, size_t *scratch_bytes)
{
    *scratch_bytes = (size_t)PIECES * (size_t)shape_columns(call->in[0].shape) * sizeof(float);
    return OK;
}

static void add_rows(float *sum, const Tensor *rows, int64_t first, int64_t last, int64_t columns)
{
    memset(sum, 0, (size_t)columns * sizeof *sum);
    for (int64_t column = 0; column < columns; column += BLOCK) {
        const int count = columns - column < BLOCK ? (int)(columns - column) : BLOCK;
        float block[BLOCK] = {0};
        for (int64_t row = first; row < last; ++row) {
            const int64_t offset = row * rows->stride + column;
            if (rows->shape.type == FLOAT32) {
                for (int c = 0; c < count; ++c)
                    block[c] += ((const float *)rows->data)[offset + c];
            } else {
                for (int c = 0; c < count; ++c)
                    block[c] += bfloat16_to_float(((const bfloat16 *)rows->data)[offset + c]);
            }
        }
        memcpy(sum + column, block, (size_t)count * sizeof *sum);
    }
}

static Status bias_run(const Call *call)
{
    const Tensor d_y = call->in[0];
    const int64_t rows = shape_rows(d_y.shape), columns = shape_columns(d_y.shape);
    float *partial = call->scratch, *d_bias = call->out[0].data;
    /* Waking threads takes longer than the sum of fewer elements. */
#pragma omp parallel for schedule(static) if (rows * columns > 1 << 14)
    for (int piece = 0; piece < PIECES; ++piece)
        add_rows(partial + piece * columns, &d_y, rows * piece / PIECES, rows * (piece + 1) / PIECES,
                 columns);
    for (int64_t c = 0; c < columns; ++c) {
        float sum = 0;
        for (int piece = 0; piece < PIECES; ++piece)
            sum += partial[piece * columns + c];
        d_bias[c] = sum;
    }
    return OK;
}

const Kernel bias_gradient_cpu = {.prepare = bias_prepare, .run = bias_run, .strided_in = 1};
