/* Runs the output layer with its loss on arrays, as a plan would. */
#ifndef PLUMB_TESTS_LOSS_OUTPUT_RUN_H
#define PLUMB_TESTS_LOSS_OUTPUT_RUN_H

#include "engine/device/collective.h"
#include "losses/loss_output.h"
#include "tests/kernel_call.h"
#include "tests/support.h"

typedef struct {
    int64_t samples, width, classes;
    DType type;            /* of hidden */
    const void *hidden;    /* [samples, width] */
    const float *matrix;   /* [classes, width] */
    const int32_t *target; /* [samples] */
    const float *weight;   /* [samples] */
    int64_t epoch;
} OutputInputs;

typedef struct {
    double sums[LOSS_SUMS];
    void *d_hidden;  /* the caller's, as are all; NULL: not wanted */
    float *d_matrix; /* the same */
    float *confidence, *correct;
} OutputResults;

static inline void loss_output_run(Device *device, Collective *collective, const LossOutput *output,
                                   OutputInputs inputs, OutputResults *results)
{
    int64_t clock[CLOCK_COUNT] = {[CLOCK_EPOCH] = inputs.epoch};
    const Shape shape[OUTPUT_INPUTS] = {
        [OUTPUT_HIDDEN] = shape_of(inputs.type, 2, (const int64_t[]){inputs.samples, inputs.width}),
        [OUTPUT_MATRIX] = shape_of(FLOAT32, 2, (const int64_t[]){inputs.classes, inputs.width}),
        [OUTPUT_TARGET] = shape_of(INT32, 1, &inputs.samples),
        [OUTPUT_WEIGHT] = shape_of(FLOAT32, 1, &inputs.samples),
        [OUTPUT_CLOCK] = shape_of(INT64, 1, (const int64_t[]){CLOCK_COUNT}),
    };
    const void *in[OUTPUT_INPUTS] = {inputs.hidden, inputs.matrix, inputs.target, inputs.weight, clock};
    void *out[OUTPUT_OUTPUTS] = {results->sums, results->d_hidden, results->d_matrix, results->confidence,
                                 results->correct};
    const Node node = {.op = &op_loss_output,
                       .scope = "loss",
                       .input_count = OUTPUT_INPUTS,
                       .output_count = OUTPUT_OUTPUTS,
                       .attributes = output};
    Shape out_shape[OUTPUT_OUTPUTS];
    assert_ok(op_loss_output.infer(&node, shape, out_shape));
    Call call = {.attributes = output};
    uint32_t unwanted = 0;
    for (int i = 0; i < OUTPUT_INPUTS; ++i)
        call.in[i] =
            (Tensor){.data = (void *)(uintptr_t)in[i], .shape = shape[i], .stride = shape_columns(shape[i])};
    for (int i = 0; i < OUTPUT_OUTPUTS; ++i) {
        call.out[i] = (Tensor){.data = out[i], .shape = out_shape[i], .stride = shape_columns(out_shape[i])};
        if (out[i] == NULL) unwanted |= 1U << i;
    }
    assert_ok(kernel_call_with(device, &op_loss_output, &call, OUTPUT_INPUTS, unwanted, collective));
}

#endif
