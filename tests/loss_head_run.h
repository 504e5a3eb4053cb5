/* Runs the loss head's kernel on arrays, as a plan would. */
#ifndef PLUMB_TESTS_LOSS_HEAD_RUN_H
#define PLUMB_TESTS_LOSS_HEAD_RUN_H

#include "engine/device/collective.h"
#include "losses/loss.h"
#include "losses/loss_head.h"
#include "tests/kernel_call.h"
#include "tests/support.h"

typedef struct {
    int64_t samples, classes;
    const float *logits;   /* [samples, classes] */
    const int32_t *target; /* [samples] */
    const float *weight;   /* [samples] */
    int64_t epoch;
} HeadInputs;

typedef struct {
    double sums[LOSS_SUMS];
    float *gradient, *confidence, *correct; /* the caller's; gradient NULL: not wanted */
} HeadOutputs;

static inline void loss_head_run(Device *device, Collective *collective, const LossHead *head,
                                 HeadInputs inputs, HeadOutputs *outputs)
{
    int64_t clock[CLOCK_COUNT] = {[CLOCK_EPOCH] = inputs.epoch};
    const Shape shape[HEAD_INPUTS] = {
        [HEAD_LOGITS] = shape_of(FLOAT32, 2, (const int64_t[]){inputs.samples, inputs.classes}),
        [HEAD_TARGET] = shape_of(INT32, 1, &inputs.samples),
        [HEAD_WEIGHT] = shape_of(FLOAT32, 1, &inputs.samples),
        [HEAD_CLOCK] = shape_of(INT64, 1, (const int64_t[]){CLOCK_COUNT}),
    };
    const void *in[HEAD_INPUTS] = {inputs.logits, inputs.target, inputs.weight, clock};
    void *out[HEAD_OUTPUTS] = {outputs->sums, outputs->gradient, outputs->confidence, outputs->correct};
    const Node node = {.op = &op_loss_head,
                       .scope = "loss",
                       .input_count = HEAD_INPUTS,
                       .output_count = HEAD_OUTPUTS,
                       .attributes = head};
    Shape out_shape[HEAD_OUTPUTS];
    assert_ok(op_loss_head.infer(&node, shape, out_shape));
    Call call = {.attributes = head};
    uint32_t unwanted = 0;
    for (int i = 0; i < HEAD_INPUTS; ++i)
        call.in[i] =
            (Tensor){.data = (void *)(uintptr_t)in[i], .shape = shape[i], .stride = shape_columns(shape[i])};
    for (int i = 0; i < HEAD_OUTPUTS; ++i) {
        call.out[i] = (Tensor){.data = out[i], .shape = out_shape[i], .stride = shape_columns(out_shape[i])};
        if (out[i] == NULL) unwanted |= 1U << i;
    }
    assert_ok(kernel_call_with(device, &op_loss_head, &call, HEAD_INPUTS, unwanted, collective));
}

#endif
