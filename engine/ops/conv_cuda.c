/* Convolution on a GPU: cuDNN, channels last. Sums are float32. Weights are float32 in the store; beside
 * bfloat16 inputs they are rounded to bfloat16 first, into scratch, and their gradient comes as bfloat16 and is
 * widened, by the plan where it can: cuDNN's engines that split its sum over pixels among multiprocessors write no other type then. A
 * tensor inside a wider one (DenseNet's blocks) is read and written where it is, or, where no engine does that,
 * by way of a dense copy in scratch. */
#include "engine/base/memory.h"
#include "engine/ops/cudnn/cuda_convolution.h"
#include "engine/ops/elementwise.h"

#include <stdlib.h>

typedef struct {
    ConvolutionKind kind;
    CudaConvolution *convolution;
    int64_t weights;         /* elements */
    void *narrow;            /* where the gradient stays as bfloat16; NULL: it is widened here */
    bool weights_in_bf16;    /* the operand, or the gradient, goes through scratch */
    bool x_copied, y_copied; /* through a dense copy */
    size_t weights_at, x_at, y_at, workspace_at;
} State;

enum { LINE = 256, ALIGNED = 16 };

static void release(Call *call)
{
    State *state = call->state;
    if (state == NULL) return;
    cuda_convolution_free(call->device, state->convolution);
    free(state);
    call->state = NULL;
}

static size_t part(size_t *bytes, size_t wanted)
{
    const size_t at = *bytes;
    *bytes += (wanted + LINE - 1) / LINE * LINE;
    return at;
}

/* Tries strides as they are, then dense. */
static Status find(Device *device, ConvolutionProblem problem, State *state)
{
    const int64_t x_stride = problem.x_stride, y_stride = problem.y_stride;
    const bool strided = x_stride != problem.shape.channels || y_stride != problem.shape.out_channels;
    Status status = cuda_convolution(device, &problem, &state->convolution);
    if (status == OK || !strided || status_code(status) != STATUS_UNSUPPORTED) return status;
    status_free(status);
    problem.x_alignment = problem.y_alignment = ALIGNED;
    problem.x_stride = problem.shape.channels;
    problem.y_stride = problem.shape.out_channels;
    state->x_copied = x_stride != problem.x_stride;
    state->y_copied = y_stride != problem.y_stride;
    return cuda_convolution(device, &problem, &state->convolution);
}

/* Bytes of which the tensor's address will be a multiple. */
static int64_t alignment_of(const Tensor *tensor)
{
    const int64_t size = (int64_t)dtype_size(tensor->shape.type);
    return tensor->column * size % ALIGNED == 0 ? ALIGNED : size;
}

static Status prepare(Call *call, ConvolutionKind kind, const Tensor *x, const Tensor *y,
                      size_t *scratch_bytes)
{
    const ConvAttributes *a = call->attributes;
    State *state;
    TRY(memory_new(&state, 1, sizeof *state, "a convolution"));
    call->state = state;
    state->kind = kind;
    state->weights = a->out_channels * a->kernel_height * a->kernel_width * a->channels;
    const DType type = kind == CONVOLUTION_DATA ? y->shape.type : x->shape.type;
    const ConvolutionProblem problem = {.kind = kind,
                                        .shape = *a,
                                        .type = type,
                                        .x_stride = x->stride,
                                        .y_stride = y->stride,
                                        .x_alignment = alignment_of(x),
                                        .y_alignment = alignment_of(y)};
    state->weights_in_bf16 = type == BFLOAT16;
    if (kind == CONVOLUTION_WEIGHTS && type == BFLOAT16) state->narrow = call->out[0].narrow;
    const Status status = find(call->device, problem, state);
    if (status != OK) {
        release(call);
        return status;
    }
    call->out[0].narrowed = state->narrow != NULL;
    size_t bytes = 0;
    state->weights_at = part(&bytes, state->weights_in_bf16 && state->narrow == NULL
                                         ? (size_t)state->weights * dtype_size(BFLOAT16)
                                         : 0);
    state->x_at = part(&bytes, state->x_copied ? shape_bytes(x->shape) : 0);
    state->y_at = part(&bytes, state->y_copied ? shape_bytes(y->shape) : 0);
    state->workspace_at = part(&bytes, cuda_convolution_workspace(state->convolution));
    *scratch_bytes = bytes;
    return OK;
}

static Status forward_prepare(Call *call, size_t *bytes)
{
    return prepare(call, CONVOLUTION_FORWARD, &call->in[0], &call->out[0], bytes);
}

static Status data_prepare(Call *call, size_t *bytes)
{
    return prepare(call, CONVOLUTION_DATA, &call->out[0], &call->in[0], bytes);
}

static Status weights_prepare(Call *call, size_t *bytes)
{
    return prepare(call, CONVOLUTION_WEIGHTS, &call->in[0], &call->in[1], bytes);
}

/* To or from the dense copy. */
static Status copy(const Call *call, const Tensor *tensor, void *dense, bool to_dense)
{
    const size_t size = dtype_size(tensor->shape.type), row = (size_t)shape_columns(tensor->shape) * size;
    const size_t stride = (size_t)tensor->stride * size, rows = (size_t)shape_rows(tensor->shape);
    return to_dense ? device_copy_rows(call->device, dense, row, tensor->data, stride, row, rows)
                    : device_copy_rows(call->device, tensor->data, stride, dense, row, row, rows);
}

static Status run(const Call *call, const Tensor *x, const Tensor *weights, const Tensor *y)
{
    const State *state = call->state;
    char *scratch = call->scratch;
    const bool writes_x = state->kind == CONVOLUTION_DATA,
               writes_weights = state->kind == CONVOLUTION_WEIGHTS;
    const bool writes_y = state->kind == CONVOLUTION_FORWARD;
    void *x_data = state->x_copied ? scratch + state->x_at : x->data;
    void *y_data = state->y_copied ? scratch + state->y_at : y->data;
    const bool round = state->weights_in_bf16 && !writes_weights;
    void *weights_data = state->weights_in_bf16 ? scratch + state->weights_at : weights->data;
    if (state->narrow != NULL) weights_data = state->narrow;
    if (round && weights->rounded != NULL) weights_data = (void *)(uintptr_t)weights->rounded;
    if (state->x_copied && !writes_x) TRY(copy(call, x, x_data, true));
    if (state->y_copied && !writes_y) TRY(copy(call, y, y_data, true));
    if (round && weights->rounded == NULL)
        TRY(to_bfloat16_cuda(call->device, weights->data, weights_data, state->weights));
    TRY(cuda_convolution_run(state->convolution, call->device, x_data, weights_data, y_data,
                             scratch + state->workspace_at));
    if (state->x_copied && writes_x) TRY(copy(call, x, x_data, false));
    if (state->y_copied && writes_y) TRY(copy(call, y, y_data, false));
    if (state->weights_in_bf16 && writes_weights && state->narrow == NULL)
        TRY(from_bfloat16_cuda(call->device, weights_data, weights->data, state->weights));
    return OK;
}

static Status forward_run(const Call *call)
{
    TRY(run(call, &call->in[0], &call->in[1], &call->out[0]));
    return call->node->input_count > 2 ? add_bias_cuda(call->device, call->out[0], call->in[2].data) : OK;
}

static Status data_run(const Call *call) { return run(call, &call->out[0], &call->in[1], &call->in[0]); }

static Status weights_run(const Call *call) { return run(call, &call->in[0], &call->out[0], &call->in[1]); }

const Kernel conv2d_cuda = {
    .prepare = forward_prepare, .run = forward_run, .release = release, .strided_in = 1, .strided_out = 1};
const Kernel conv2d_backward_data_cuda = {
    .prepare = data_prepare, .run = data_run, .release = release, .strided_in = 1, .strided_out = 1};
const Kernel conv2d_backward_weights_cuda = {
    .prepare = weights_prepare, .run = weights_run, .release = release, .strided_in = 3};
