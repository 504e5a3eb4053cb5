/* What the files of the elementwise ops share. */
#ifndef PLUMB_ENGINE_OPS_ELEMENTWISE_H
#define PLUMB_ENGINE_OPS_ELEMENTWISE_H

#include "engine/graph/op.h"

/* Of cast: the output's type. */
typedef struct {
    DType type;
} CastAttributes;

extern const Kernel add_cpu;           /* a, b -> y */
extern const Kernel cast_cpu;          /* x -> y */
extern const Kernel relu_backward_cpu; /* d_y, y -> d_x */
extern const Kernel relu_cpu;          /* x -> y */

extern const Kernel add_cuda OPTIONAL_KERNEL;
extern const Kernel cast_cuda OPTIONAL_KERNEL;
extern const Kernel relu_backward_cuda OPTIONAL_KERNEL;
extern const Kernel relu_cuda OPTIONAL_KERNEL;

#endif
