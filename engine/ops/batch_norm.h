/* What the files of batch_norm share. Users see engine/ops/ops.h. */
#ifndef PLUMB_ENGINE_OPS_BATCH_NORM_H
#define PLUMB_ENGINE_OPS_BATCH_NORM_H

#include "engine/graph/op.h"

#include <stddef.h>

/* Per channel, with the batch's mean m and biased variance v (GRAPH_EVALUATE: the running ones):
 *     y = [relu] ((x - m) / sqrt(v + epsilon) * weight + bias [+ residual])
 * Ioffe and Szegedy, "Batch Normalization", 2015, algorithms 1 and 2. */
typedef struct {
    double epsilon, momentum;
    bool relu, synchronize, train;
} BatchNormAttributes;

/* Padding at the end of a ragged batch (CLOCK_PADDING) has no part in the statistics, so that they are those
 * of a smaller batch; its rows of y are as arbitrary as its rows of x, those of all gradients are 0. A rank
 * that has nothing but padding leaves its running statistics as they are. */
static inline int64_t batch_norm_counted_rows(const Tensor *x, const Tensor *clock)
{
    const int64_t rows = shape_rows(x->shape), samples = x->shape.extent[0];
    if (clock->data == NULL || samples == 0) return rows;
    return rows - ((const int64_t *)clock->data)[CLOCK_PADDING] * (rows / samples);
}

enum {
    BATCH_NORM_X,
    BATCH_NORM_WEIGHT,
    BATCH_NORM_BIAS,
    BATCH_NORM_RUNNING_MEAN,
    BATCH_NORM_RUNNING_VAR,
    BATCH_NORM_BATCHES_TRACKED,
    BATCH_NORM_RESIDUAL, /* optional; type and shape of y */
    BATCH_NORM_CLOCK,    /* in GRAPH_TRAIN: says how many samples are padding; optional: none is */
    BATCH_NORM_INPUTS
};
enum {
    BATCH_NORM_Y,
    BATCH_NORM_MEAN,              /* FLOAT32 [C]: what was subtracted */
    BATCH_NORM_INVERSE_DEVIATION, /* FLOAT32 [C]: 1 / sqrt(v + epsilon) */
    /* UINT8 [..., ceil(C/8)]: bit i of a row says whether the ReLU passed column i. Written where there is a
     * residual, so that backward need not read y: without one it computes the same from x. */
    BATCH_NORM_MASK,
    BATCH_NORM_OUTPUTS
};

/* With g = dy where the ReLU passed, xm = x - mean, i = inverse deviation, n rows:
 *     dbias = sum g;  dweight = i sum g xm;  dresidual = g
 *     dx = weight i (g - sum g / n - xm i^2 sum(g xm) / n) + addend     (train)
 *     dx = weight i g + addend                                          (evaluate) */
enum {
    BATCH_NORM_BACKWARD_DY,
    BATCH_NORM_BACKWARD_X,
    BATCH_NORM_BACKWARD_WEIGHT,
    BATCH_NORM_BACKWARD_BIAS,
    BATCH_NORM_BACKWARD_MEAN,
    BATCH_NORM_BACKWARD_INVERSE_DEVIATION,
    BATCH_NORM_BACKWARD_MASK,   /* exactly with relu and a residual */
    BATCH_NORM_BACKWARD_ADDEND, /* optional: another gradient of x */
    BATCH_NORM_BACKWARD_CLOCK,  /* as forward's */
    BATCH_NORM_BACKWARD_INPUTS
};
enum {
    BATCH_NORM_BACKWARD_DX,
    BATCH_NORM_BACKWARD_DWEIGHT,
    BATCH_NORM_BACKWARD_DBIAS,
    BATCH_NORM_BACKWARD_DRESIDUAL, /* shape of x with a mask; else an unused [1] */
    BATCH_NORM_BACKWARD_OUTPUTS
};

extern const Kernel batch_norm_cpu, batch_norm_backward_cpu;
extern const Kernel batch_norm_cuda OPTIONAL_KERNEL, batch_norm_backward_cuda OPTIONAL_KERNEL;

/* For the fuse rules of relu: can `node`, a batch_norm, take a residual and a ReLU? If so the fusion with
 * its inputs, attributes and outputs (all but output 0, which is the chain's) is filled in. */
bool batch_norm_fuse(const Graph *, int node, Value residual, Fusion *);

#endif
