/* What the files of row_norms share. */
#ifndef PLUMB_ENGINE_OPS_ROW_NORMS_H
#define PLUMB_ENGINE_OPS_ROW_NORMS_H

#include "engine/graph/op.h"

extern const Kernel row_norms_cpu; /* x -> norms */
extern const Kernel row_norms_cuda OPTIONAL_KERNEL;

#endif
