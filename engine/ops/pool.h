/* What the files of pooling share. */
#ifndef PLUMB_ENGINE_OPS_POOL_H
#define PLUMB_ENGINE_OPS_POOL_H

#include "engine/graph/op.h"

/* Of max_pool2d, average_pool2d, adaptive_average_pool2d (whose kernel, stride and padding are 0), and their
 * backward nodes. */
typedef struct {
    int64_t samples, height, width, channels; /* of the forward input */
    int64_t out_height, out_width;
    int64_t kernel, stride, padding;
} PoolAttributes;

extern const Kernel average_pool_cpu; /* x -> y; also adaptive */
extern const Kernel average_pool_cuda OPTIONAL_KERNEL;
extern const Kernel average_pool_backward_cpu; /* d_y -> d_x; also adaptive */
extern const Kernel average_pool_backward_cuda OPTIONAL_KERNEL;
extern const Kernel max_pool2d_cpu; /* x -> y, index */
extern const Kernel max_pool2d_cuda OPTIONAL_KERNEL;
extern const Kernel max_pool2d_backward_cpu; /* d_y, index -> d_x */
extern const Kernel max_pool2d_backward_cuda OPTIONAL_KERNEL;

#endif
