/* What the files of the linear layer share. */
#ifndef PLUMB_ENGINE_OPS_LINEAR_H
#define PLUMB_ENGINE_OPS_LINEAR_H

#include "engine/graph/op.h"

/* Inputs of linear: x, weight, bias or none, and, last of it and of both its backward nodes, the lengths of sequences or none:
 * see linear_sequences in ops.h. Only kernels of the CPU make use of lengths. */
enum { LINEAR_X, LINEAR_WEIGHT, LINEAR_BIAS, LINEAR_LENGTH, LINEAR_INPUTS };
enum { LINEAR_BACKWARD_LENGTH = 2, LINEAR_BACKWARD_INPUTS };

static inline bool linear_has_bias(const Call *call)
{
    return call->node->input_count > LINEAR_BIAS && call->in[LINEAR_BIAS].shape.rank >= 0;
}

/* Of linear and both its backward nodes. */
typedef struct {
    DType in_type, out_type;        /* of x and y */
    int rank;                       /* of x and y */
    int64_t extent[SHAPE_MAX_RANK]; /* of x */
    int64_t features;               /* the last extent of y */
} LinearAttributes;

/* The rows that sequences have, in order. */
typedef struct {
    const int32_t *row; /* NULL: all `count` that there are */
    int64_t count;
} SequenceRows;
/* CPU. input: that of the lengths, which a call may not have; list: memory for all rows. */
SequenceRows linear_sequence_rows(const Call *, int input, int32_t *list);
void linear_clear_other_rows(const Call *, int input,
                             const Tensor *); /* zeros in the rows behind the sequences' ends */

/* The sum of d_y [..., C] over all but the last dimension: the gradient of a bias, FLOAT32 [C]. */
Value bias_gradient(Graph *, Value d_y);

extern const Kernel bias_gradient_cpu; /* d_y -> d_bias */
extern const Kernel bias_gradient_cuda OPTIONAL_KERNEL;
extern const Kernel linear_cpu; /* x, weight, [bias, length] -> y */
extern const Kernel linear_cuda OPTIONAL_KERNEL;
extern const Kernel linear_backward_data_cpu; /* d_y, weight, [length] -> d_x */
extern const Kernel linear_backward_data_cuda OPTIONAL_KERNEL;
extern const Kernel linear_backward_weights_cpu; /* x, d_y, [length] -> d_weight */
extern const Kernel linear_backward_weights_cuda OPTIONAL_KERNEL;

#endif
