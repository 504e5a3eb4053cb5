/* What a device implements of an optimizer. Private to engine/optim/. */
#ifndef PLUMB_ENGINE_OPTIM_OPTIMIZER_KERNEL_H
#define PLUMB_ENGINE_OPTIM_OPTIMIZER_KERNEL_H

#include "engine/optim/optimizer.h"

enum { OPTIMIZER_STATES = 2, OPTIMIZER_BLOCK = 1 << 13 /* elements: a thread's unit of work */ };

/* What changes from step to step. It lies in device memory, so that work captured once is replayed with other
 * numbers. */
typedef struct {
    double gradient_scale;
    float learning_rate;
    float step_size;   /* adam: learning_rate / (1 - beta1^step) */
    float second_root; /* adam: sqrt(1 - beta2^step) */
} OptimizerScalars;

/* All pointers but `options` are device memory. */
typedef struct {
    const OptimizerOptions *options;
    const OptimizerScalars *scalars;
    int64_t count; /* elements of each flat array, gaps included; a multiple of 16 */
    float *parameters;
    const float *gradients;
    float *state[OPTIMIZER_STATES];
    double *partial; /* one a block of OPTIMIZER_BLOCK elements: its sum of squares */
    double *norm;    /* [1] result: the norm of the scaled gradient before clipping; stays if not finite */
} OptimizerCall;

/* Enqueues one step. */
typedef Status OptimizerKernel(Device *, const OptimizerCall *);

OptimizerKernel sgd_cpu, adam_cpu, adagrad_cpu;
/* NULL in a program that is linked without CUDA. */
OptimizerKernel sgd_cuda __attribute__((weak)), adam_cuda __attribute__((weak)),
    adagrad_cuda __attribute__((weak));

#endif
