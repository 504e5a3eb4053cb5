/* What the files of softmax and log_softmax share. */
#ifndef PLUMB_ENGINE_OPS_SOFTMAX_H
#define PLUMB_ENGINE_OPS_SOFTMAX_H

#include "engine/graph/op.h"

extern const Kernel log_softmax_backward_cpu; /* d_y, y -> d_x */
extern const Kernel log_softmax_backward_cuda OPTIONAL_KERNEL;
extern const Kernel log_softmax_cpu; /* x -> y */
extern const Kernel log_softmax_cuda OPTIONAL_KERNEL;
extern const Kernel softmax_backward_cpu; /* d_y, y -> d_x */
extern const Kernel softmax_backward_cuda OPTIONAL_KERNEL;
extern const Kernel softmax_cpu; /* x -> y */
extern const Kernel softmax_cuda OPTIONAL_KERNEL;

#endif
