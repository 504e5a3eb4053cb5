/* Large matrix products on the CPU, ours: for processors with AVX-512 and its bfloat16 instructions but without tiles (AMX),
 * where they are faster than oneDNN's. */
#ifndef PLUMB_ENGINE_OPS_LARGE_PRODUCT_CPU_H
#define PLUMB_ENGINE_OPS_LARGE_PRODUCT_CPU_H

#include "engine/base/dtype.h"
#include "engine/device/device.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* out[rows,columns] = a[rows,inner] b[inner,columns], all row by row and dense. Sums are FLOAT32, each in the order of
 * `inner`: an element has the same bits whatever the number of threads, rows and columns. */
typedef struct {
    int64_t rows, inner, columns;
    bool a_turned, b_turned; /* it lies in memory as [inner,rows], [columns,inner] */
    DType type;              /* of a and of the arithmetic */
    DType b_type;            /* FLOAT32 or `type`, to which b is rounded */
    DType out_type;          /* FLOAT32 or `type` */
    /* Which rows in memory those of a and of the result are; if a is turned, then b is not, and they are those along the inner
     * dimension of both. NULL: all, in order. Others are neither read nor written. */
    const int32_t *row;
} LargeProduct;

/* Is it so large, and is this such a processor? */
bool large_product_pays(const LargeProduct *);
/* Can this build compute it at all? */
bool large_product_possible(const LargeProduct *);
/* Bytes that a run needs, at a multiple of 64; of fewer rows or a shorter inner dimension no more. */
size_t large_product_scratch(const LargeProduct *);
/* bias: FLOAT32 [columns], added to each row; NULL: none. */
void large_product_run(const Device *, const LargeProduct *, const void *a, const void *b, const float *bias,
                       void *out, void *scratch);

#endif
