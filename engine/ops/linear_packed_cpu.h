/* The linear layer with weights that stay packed (op.h, Tensor.packed): our own product of rows. Its sums do not depend on the
 * number of rows. */
#ifndef PLUMB_ENGINE_OPS_LINEAR_PACKED_CPU_H
#define PLUMB_ENGINE_OPS_LINEAR_PACKED_CPU_H

#include "engine/ops/linear.h"
#include "engine/ops/window_product_cpu.h"

typedef struct {
    WindowMatrix matrix; /* without its memory */
    size_t pad;          /* bytes between the rows of a copy of x; 0: there is none */
    size_t copy_at;      /* where that begins in scratch */
} PackedLinear;

/* false: not for this call, whose weights change, or of whose types the library makes more. */
bool packed_linear_prepare(Call *, PackedLinear *, size_t *scratch_bytes);
void packed_linear_pack(const Call *, const PackedLinear *);
void packed_linear_run(const Call *, const PackedLinear *);

#endif
