/* Convolution on the CPU: oneDNN. */
#include "engine/ops/conv.h"

#include "engine/ops/onednn/onednn_kernel.h"

static OneDnnConvolution convolution_of(const Call *call)
{
    const ConvAttributes *a = call->attributes;
    return (OneDnnConvolution){
        .samples = a->samples,
        .height = a->height,
        .width = a->width,
        .channels = a->channels,
        .out_height = a->out_height,
        .out_width = a->out_width,
        .out_channels = a->out_channels,
        .kernel_height = a->kernel_height,
        .kernel_width = a->kernel_width,
        .stride = a->stride,
        .padding_height = a->padding_height,
        .padding_width = a->padding_width,
        .type = call->in[0].shape.type,
    };
}

static Status forward_prepare(Call *call, size_t *scratch_bytes)
{
    OneDnnConvolution convolution = convolution_of(call);
    convolution.bias = call->node->input_count > 2;
    OneDnn *one;
    TRY(onednn_convolution(convolution, &one, scratch_bytes));
    call->state = one;
    return OK;
}

static Status backward_data_prepare(Call *call, size_t *scratch_bytes)
{
    OneDnn *one;
    TRY(onednn_convolution_backward_data(convolution_of(call), &one, scratch_bytes));
    call->state = one;
    return OK;
}

static Status backward_weights_prepare(Call *call, size_t *scratch_bytes)
{
    OneDnn *one;
    TRY(onednn_convolution_backward_weights(convolution_of(call), &one, scratch_bytes));
    call->state = one;
    return OK;
}

const Kernel conv2d_cpu = {
    .prepare = forward_prepare, .run = onednn_kernel_run, .release = onednn_kernel_release};
const Kernel conv2d_backward_data_cpu = {
    .prepare = backward_data_prepare, .run = onednn_kernel_run, .release = onednn_kernel_release};
const Kernel conv2d_backward_weights_cpu = {
    .prepare = backward_weights_prepare, .run = onednn_kernel_run, .release = onednn_kernel_release};
