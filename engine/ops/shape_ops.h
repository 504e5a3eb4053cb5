/* What the files of the ops that only move data share. */
#ifndef PLUMB_ENGINE_OPS_SHAPE_OPS_H
#define PLUMB_ENGINE_OPS_SHAPE_OPS_H

#include "engine/graph/op.h"

/* Of slice, and of slice_backward, where x is what slice read. The planner reads `first` (ALIAS_SLICE). */
typedef struct {
    int64_t first;     /* column of x at which y begins */
    int64_t columns;   /* of y */
    int64_t x_columns; /* of x */
} SliceAttributes;

/* Of reshape: the shape of the output, type included. */
typedef struct {
    Shape shape;
} ReshapeAttributes;

/* Of flatten and flatten_backward: [samples, pixels, channels] <-> [samples, channels, pixels]. */
typedef struct {
    Shape x; /* of flatten: [N,H,W,C] */
} FlattenAttributes;

extern const Kernel concat_cpu; /* parts -> y */
extern const Kernel concat_cuda OPTIONAL_KERNEL;
extern const Kernel flatten_backward_cpu; /* d_y -> d_x */
extern const Kernel flatten_backward_cuda OPTIONAL_KERNEL;
extern const Kernel flatten_cpu; /* x -> y */
extern const Kernel flatten_cuda OPTIONAL_KERNEL;
extern const Kernel slice_backward_cpu; /* d_y -> d_x */
extern const Kernel slice_backward_cuda OPTIONAL_KERNEL;
extern const Kernel slice_cpu; /* x -> y */
extern const Kernel slice_cuda OPTIONAL_KERNEL;

#endif
