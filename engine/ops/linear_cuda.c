/* The linear layer on a GPU: matrix products of cuBLASLt.
 *
 *     Y = X W^T + bias        dX = dY W        dW = dY^T X
 *
 * Weights are float32 in the store; beside bfloat16 inputs the plan gives them rounded, else they are rounded into
 * scratch. */
#include "engine/base/memory.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/linear.h"
#include "engine/ops/product.h"

#include <stdlib.h>

typedef enum { PRODUCT_FORWARD, PRODUCT_DATA, PRODUCT_WEIGHTS } ProductKind;

typedef struct {
    CudaProduct *product;
    int64_t weights;                           /* elements */
    bool weights_in_bf16, other_in_bf16;       /* what must be rounded to bfloat16 before: the weights, dY */
    int64_t other;                             /* elements of dY */
    size_t weights_at, other_at, workspace_at; /* in scratch */
} LinearState;

enum { LINE = 256 };

static void release(Call *call)
{
    LinearState *state = call->state;
    if (state == NULL) return;
    cuda_product_free(state->product);
    free(state);
    call->state = NULL;
}

static MatrixProduct product_of(const Call *call, ProductKind kind)
{
    const LinearAttributes *a = call->attributes;
    const Shape x = shape_of(a->in_type, a->rank, a->extent);
    const int64_t rows = shape_rows(x), channels = shape_columns(x), features = a->features;
    if (kind == PRODUCT_FORWARD)
        return (MatrixProduct){.rows = rows,
                               .inner = channels,
                               .columns = features,
                               .b_turned = true,
                               .type = a->in_type,
                               .out_type = a->out_type,
                               .bias = linear_has_bias(call) && a->out_type == FLOAT32};
    if (kind == PRODUCT_DATA)
        return (MatrixProduct){
            .rows = rows, .inner = features, .columns = channels, .type = a->in_type, .out_type = a->in_type};
    return (MatrixProduct){.rows = features,
                           .inner = rows,
                           .columns = channels,
                           .a_turned = true,
                           .type = a->in_type,
                           .out_type = FLOAT32};
}

static size_t part(size_t *bytes, size_t wanted)
{
    const size_t at = *bytes;
    *bytes += (wanted + LINE - 1) / LINE * LINE;
    return at;
}

static Status prepare(Call *call, ProductKind kind, size_t *scratch_bytes)
{
    const LinearAttributes *a = call->attributes;
    const Shape x = shape_of(a->in_type, a->rank, a->extent);
    LinearState *state;
    size_t workspace;
    TRY(memory_new(&state, 1, sizeof *state, "a matrix product"));
    call->state = state;
    const Status status =
        cuda_product_create(call->device, product_of(call, kind), &state->product, &workspace);
    if (status != OK) {
        release(call);
        return status;
    }
    state->weights = shape_columns(x) * a->features;
    state->other = shape_rows(x) * a->features;
    state->weights_in_bf16 = a->in_type == BFLOAT16 && kind != PRODUCT_WEIGHTS;
    state->other_in_bf16 = a->in_type == BFLOAT16 && a->out_type == FLOAT32 && kind != PRODUCT_FORWARD;
    size_t bytes = 0;
    state->weights_at = part(&bytes, state->weights_in_bf16 ? (size_t)state->weights * 2 : 0);
    state->other_at = part(&bytes, state->other_in_bf16 ? (size_t)state->other * 2 : 0);
    state->workspace_at = part(&bytes, workspace);
    *scratch_bytes = bytes;
    return OK;
}

static Status forward_prepare(Call *call, size_t *bytes) { return prepare(call, PRODUCT_FORWARD, bytes); }
static Status data_prepare(Call *call, size_t *bytes) { return prepare(call, PRODUCT_DATA, bytes); }
static Status weights_prepare(Call *call, size_t *bytes) { return prepare(call, PRODUCT_WEIGHTS, bytes); }

static Status multiply(const Call *call, const void *a, const void *b, const float *bias)
{
    const LinearState *state = call->state;
    return cuda_product_run(state->product, call->device, a, b, bias, call->out[0].data,
                            (char *)call->scratch + state->workspace_at);
}

/* The operand as bfloat16, if it must be. */
static Status rounded(const Call *call, const Tensor *tensor, bool round, size_t at, int64_t count,
                      const void **out)
{
    *out = round && tensor->rounded != NULL ? tensor->rounded : tensor->data;
    if (!round || tensor->rounded != NULL) return OK;
    void *to = (char *)call->scratch + at;
    *out = to;
    return to_bfloat16_cuda(call->device, tensor->data, to, count);
}

static Status forward_run(const Call *call)
{
    const LinearAttributes *a = call->attributes;
    const LinearState *state = call->state;
    const void *weight;
    TRY(rounded(call, &call->in[1], state->weights_in_bf16, state->weights_at, state->weights, &weight));
    const bool bias = linear_has_bias(call);
    TRY(multiply(call, call->in[0].data, weight, bias ? call->in[2].data : NULL));
    if (!bias || a->out_type == FLOAT32) return OK;
    return add_bias_cuda(call->device, call->out[0], call->in[2].data);
}

static Status data_run(const Call *call)
{
    const LinearState *state = call->state;
    const void *weight, *d_y;
    TRY(rounded(call, &call->in[1], state->weights_in_bf16, state->weights_at, state->weights, &weight));
    TRY(rounded(call, &call->in[0], state->other_in_bf16, state->other_at, state->other, &d_y));
    return multiply(call, d_y, weight, NULL);
}

static Status weights_run(const Call *call)
{
    const LinearState *state = call->state;
    const void *d_y;
    TRY(rounded(call, &call->in[1], state->other_in_bf16, state->other_at, state->other, &d_y));
    return multiply(call, d_y, call->in[0].data, NULL);
}

const Kernel linear_cuda = {.prepare = forward_prepare, .run = forward_run, .release = release};
const Kernel linear_backward_data_cuda = {.prepare = data_prepare, .run = data_run, .release = release};
const Kernel linear_backward_weights_cuda = {
    .prepare = weights_prepare, .run = weights_run, .release = release};
