/* What the files of the linear layer share. */
#ifndef PLUMB_ENGINE_OPS_LINEAR_H
#define PLUMB_ENGINE_OPS_LINEAR_H

#include "engine/graph/op.h"

/* Of linear and both its backward nodes. */
typedef struct {
    DType in_type, out_type;        /* of x and y */
    int rank;                       /* of x and y */
    int64_t extent[SHAPE_MAX_RANK]; /* of x */
    int64_t features;               /* the last extent of y */
} LinearAttributes;

/* The sum of d_y [..., C] over all but the last dimension: the gradient of a bias, FLOAT32 [C]. */
Value bias_gradient(Graph *, Value d_y);

extern const Kernel bias_gradient_cpu; /* d_y -> d_bias */
extern const Kernel bias_gradient_cuda OPTIONAL_KERNEL;
extern const Kernel linear_cpu; /* x, weight, [bias] -> y */
extern const Kernel linear_cuda OPTIONAL_KERNEL;
extern const Kernel linear_backward_data_cpu; /* d_y, weight -> d_x */
extern const Kernel linear_backward_data_cuda OPTIONAL_KERNEL;
extern const Kernel linear_backward_weights_cpu; /* x, d_y -> d_weight */
extern const Kernel linear_backward_weights_cuda OPTIONAL_KERNEL;

#endif
