/* What the files of convolution share. */
#ifndef PLUMB_ENGINE_OPS_CONV_H
#define PLUMB_ENGINE_OPS_CONV_H

#include "engine/graph/op.h"

/* Of conv2d and both its backward nodes. */
typedef struct {
    int64_t samples, height, width, channels; /* of the forward input */
    int64_t out_height, out_width, out_channels;
    int64_t kernel_height, kernel_width;
    int64_t stride, padding_height, padding_width;
} ConvAttributes;

extern const Kernel conv2d_cpu; /* x, weight, [bias] -> y */
extern const Kernel conv2d_cuda OPTIONAL_KERNEL;
extern const Kernel conv2d_backward_data_cpu; /* d_y, weight -> d_x */
extern const Kernel conv2d_backward_data_cuda OPTIONAL_KERNEL;
extern const Kernel conv2d_backward_weights_cpu; /* x, d_y -> d_weight */
extern const Kernel conv2d_backward_weights_cuda OPTIONAL_KERNEL;

#endif
