/* What the files of pooling share. */
#ifndef PLUMB_ENGINE_OPS_POOL_H
#define PLUMB_ENGINE_OPS_POOL_H

#include "engine/graph/op.h"

/* Of max_pool2d, average_pool2d, adaptive_average_pool2d (whose kernel, stride and padding are 0), and their
 * backward nodes. Sequences are images of one row: their kernel has the height 1. */
typedef struct {
    int rank;                                 /* of the tensors; 3: without the height, which is 1 */
    int64_t samples, height, width, channels; /* of the forward input */
    int64_t out_height, out_width;
    int64_t kernel_height, kernel_width, stride, padding_height, padding_width;
    bool relu; /* of max_pool2d: a ReLU before it is part of the node */
} PoolAttributes;

/* What max_pool2d says of each window beside its maximum: which of its pixels that was, counted in row order from the
 * window's first (padding included). Where `relu` is set and the maximum is not positive: -1, in a byte 255. */
static inline DType pool_index_type(const PoolAttributes *a)
{
    return a->kernel_height * a->kernel_width <= (a->relu ? 255 : 256) ? UINT8 : INT32;
}

/* Maxima along rows, which max_pool2d_cpu leaves to kernels of their own (pool_sequence_cpu.c). */
bool pool_is_sequence(const PoolAttributes *);
Status max_sequence_run(const Call *);
Status max_sequence_backward_run(const Call *);

extern const Kernel average_pool_cpu; /* x -> y; also adaptive */
extern const Kernel average_pool_cuda OPTIONAL_KERNEL;
extern const Kernel average_pool_backward_cpu; /* d_y -> d_x; also adaptive */
extern const Kernel average_pool_backward_cuda OPTIONAL_KERNEL;
extern const Kernel max_pool2d_cpu; /* x -> y, index */
extern const Kernel max_pool2d_cuda OPTIONAL_KERNEL;
extern const Kernel max_pool2d_backward_cpu; /* d_y, index -> d_x */
extern const Kernel max_pool2d_backward_cuda OPTIONAL_KERNEL;

#endif
