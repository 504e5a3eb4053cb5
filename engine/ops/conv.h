/* What the files of convolution share. */
#ifndef PLUMB_ENGINE_OPS_CONV_H
#define PLUMB_ENGINE_OPS_CONV_H

#include "engine/graph/op.h"

/* Of conv2d, conv1d and their backward nodes. conv1d's have no height: height and kernel_height are 1, stride is
 * 1, there is no padding. */
typedef struct {
    int rank;                                 /* of the images: 4, or 3 without the height */
    int64_t samples, height, width, channels; /* of the forward input */
    int64_t out_height, out_width, out_channels;
    int64_t kernel_height, kernel_width;
    int64_t stride, padding_height, padding_width;
} ConvAttributes;

extern const Kernel conv1d_cpu; /* as conv2d's; on GPUs conv2d's take both */
extern const Kernel conv1d_backward_data_cpu;
extern const Kernel conv1d_backward_weights_cpu;
extern const Kernel conv2d_cpu; /* x, weight, [bias] -> y */
extern const Kernel conv2d_cuda OPTIONAL_KERNEL;
extern const Kernel conv2d_backward_data_cpu; /* d_y, weight -> d_x */
extern const Kernel conv2d_backward_data_cuda OPTIONAL_KERNEL;
extern const Kernel conv2d_backward_weights_cpu; /* x, d_y -> d_weight */
extern const Kernel conv2d_backward_weights_cuda OPTIONAL_KERNEL;

#endif
