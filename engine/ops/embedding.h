/* What the files of embedding share. */
#ifndef PLUMB_ENGINE_OPS_EMBEDDING_H
#define PLUMB_ENGINE_OPS_EMBEDDING_H

#include "engine/graph/op.h"
#include "engine/ops/row_sums.h"

typedef struct {
    int64_t rows, width;
    int64_t padding_row; /* -1: none */
    double scale;
    Shape index;
    DType type; /* of the output */
} EmbeddingAttributes;

extern const Kernel embedding_cpu;               /* index, weight -> y */
extern const Kernel embedding_backward_cpu;      /* d_y, index -> d_weight */
extern const Kernel embedding_backward_rows_cpu; /* d_y, index -> gradients of rows, rows, count */
extern const Kernel embedding_cuda OPTIONAL_KERNEL;
extern const Kernel embedding_backward_cuda OPTIONAL_KERNEL;
extern const Kernel embedding_backward_rows_cuda OPTIONAL_KERNEL;

/* For both devices: the scratch of a backward node, and what it asks of row_sums. */
Status embedding_backward_prepare(Call *, size_t *scratch_bytes);
RowSums embedding_row_sums(const Call *);

#endif
