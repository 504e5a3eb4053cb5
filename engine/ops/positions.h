/* What the files of positions share: y[n,t] = x[n,t] + vector[t], or y[r] = x[r] + vector[position[r]]. */
#ifndef PLUMB_ENGINE_OPS_POSITIONS_H
#define PLUMB_ENGINE_OPS_POSITIONS_H

#include "engine/graph/op.h"
#include "engine/ops/ops.h"

typedef struct {
    PositionKind kind;
    int64_t most; /* vectors that there are */
} PositionsAttributes;

enum {
    POSITIONS_X,
    POSITIONS_POSITION, /* INT32 [R]; may be absent */
    POSITIONS_WEIGHT,   /* FLOAT32 [most,width], of learned ones; else absent */
    POSITIONS_INPUTS
};

/* Vectors 0 .. count-1 of the sinusoids. Angles are made in double: in float they would be off by 3e-4 at position 5000. */
void positions_table(PositionKind, int64_t count, int64_t width, float *table);

extern const Kernel positions_cpu; /* x, position, weight -> y */
extern const Kernel positions_cuda OPTIONAL_KERNEL;
extern const Kernel positions_backward_cpu; /* d_y -> d_weight: the sum over samples */
extern const Kernel positions_backward_cuda OPTIONAL_KERNEL;

#endif
