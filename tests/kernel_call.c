#include "tests/support.h"

#include "tests/kernel_call.h"

#include "engine/plan/collective.h"

#include <stdlib.h>

Status kernel_call_on(DeviceKind device, const Op *op, Call *call, int inputs, int threads, uint32_t unwanted,
                      Collective *collective)
{
    const Kernel *kernel = op->kernel[device];
    const Node node = {.op = op,
                       .scope = "",
                       .input_count = inputs,
                       .output_count = op->output_count,
                       .attributes = call->attributes,
                       .forward = -1};
    Collective *self = NULL;
    size_t scratch_bytes = 0;
    call->node = &node;
    call->state = call->scratch = NULL;
    assert_ok(device_open(device, 0, threads, &call->device));
    if (collective == NULL) assert_ok(collective_self(&self));
    call->collective = collective != NULL ? collective : self;
    for (int i = 0; i < op->output_count; ++i)
        call->wanted[i] = (unwanted >> i & 1U) == 0;
    if (kernel->prepare != NULL) assert_ok(kernel->prepare(call, &scratch_bytes));
    if (scratch_bytes > 0) assert_ok(device_allocate(call->device, scratch_bytes, "scratch", &call->scratch));
    Status status = kernel->run(call);
    if (kernel->release != NULL) kernel->release(call);
    device_free(call->device, call->scratch);
    if (self != NULL) self->free(self);
    device_close(call->device);
    call->node = NULL;
    call->device = NULL;
    return status;
}

Status kernel_call(const Op *op, Call *call, int inputs, int threads, uint32_t unwanted,
                   Collective *collective)
{
    return kernel_call_on(DEVICE_CPU, op, call, inputs, threads, unwanted, collective);
}

Tensor tensor_floats(float *data, int64_t rows, int64_t columns, int64_t stride)
{
    return (Tensor){
        .data = data, .shape = shape_of(FLOAT32, 2, (int64_t[]){rows, columns}), .stride = stride};
}

Tensor tensor_vector(float *data, int64_t count)
{
    return (Tensor){.data = data, .shape = shape_of(FLOAT32, 1, (int64_t[]){count}), .stride = count};
}
