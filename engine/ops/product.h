/* Matrix products for kernels that hand them to a library: what is wanted of oneDNN (onednn/onednn.h) and of cuBLASLt
 * (product_cuda.c). */
#ifndef PLUMB_ENGINE_OPS_PRODUCT_H
#define PLUMB_ENGINE_OPS_PRODUCT_H

#include "engine/base/dtype.h"
#include "engine/base/status.h"
#include "engine/device/device.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* out[rows,columns] = a[rows,inner] b[inner,columns], all row by row and dense. Sums are FLOAT32. */
typedef struct {
    int64_t rows, inner, columns;
    bool a_turned, b_turned; /* it lies in memory as [inner,rows], [columns,inner] */
    DType type, out_type;    /* of a and b; of the result */
    bool accumulate;         /* add to what `out` holds; a FLOAT32 result */
    bool bias;               /* CUDA: add a FLOAT32 [columns] to each row of a FLOAT32 result */
} MatrixProduct;

typedef struct CudaProduct CudaProduct;
/* *workspace: what a run needs of memory, at a multiple of 256 bytes. */
CHECKED Status cuda_product_create(Device *, MatrixProduct, CudaProduct **, size_t *workspace);
void cuda_product_free(CudaProduct *); /* NULL is allowed */
/* bias: NULL without one. */
CHECKED Status cuda_product_run(const CudaProduct *, Device *, const void *a, const void *b,
                                const float *bias, void *out, void *workspace);

#endif
