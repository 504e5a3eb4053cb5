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

/* For kernels that hand work to libraries: count elements to bfloat16 and back; and y += bias in every row.
 */
CHECKED Status to_bfloat16_cuda(Device *, const float *from, void *to, int64_t count);
CHECKED Status from_bfloat16_cuda(Device *, const void *from, float *to, int64_t count);
CHECKED Status add_bias_cuda(Device *, Tensor y, const float *bias);

extern const Kernel add_cuda OPTIONAL_KERNEL;
extern const Kernel cast_cuda OPTIONAL_KERNEL;
extern const Kernel relu_backward_cuda OPTIONAL_KERNEL;
extern const Kernel relu_cuda OPTIONAL_KERNEL;

#endif
