/* What the files of dot share. */
#ifndef PLUMB_ENGINE_OPS_DOT_H
#define PLUMB_ENGINE_OPS_DOT_H

#include "engine/graph/op.h"

/* Of dot_backward: the type of the gradient. */
typedef struct {
    DType type;
} DotAttributes;

extern const Kernel dot_backward_cpu; /* other, [d_y] -> d_x = d_y * other; without d_y it is 1 */
extern const Kernel dot_backward_cuda OPTIONAL_KERNEL;
extern const Kernel dot_cpu; /* x, weight -> y */
extern const Kernel dot_cuda OPTIONAL_KERNEL;

#endif
