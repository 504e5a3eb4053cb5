/* What the files of dropout share. */
#ifndef PLUMB_ENGINE_OPS_DROPOUT_H
#define PLUMB_ENGINE_OPS_DROPOUT_H

#include "engine/graph/op.h"

typedef struct {
    double probability; /* of an element being dropped */
    uint64_t key;       /* tells the dropouts of a graph apart */
} DropoutAttributes;

extern const Kernel dropout_cpu; /* x, clock -> y */
extern const Kernel dropout_cuda OPTIONAL_KERNEL;

#endif
