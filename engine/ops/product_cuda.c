/* Matrix products on a GPU by cuBLASLt, whose matrices are column-major: a row-major matrix is its transpose, so what it
 * computes of out = a b is out^T = b^T a^T. Products are accumulated in float32. */
#include "engine/ops/product.h"

#include "engine/base/memory.h"
#include "engine/device/cuda_library.h"

#include <stdlib.h>

struct CudaProduct {
    const CublasLt *blas;
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t a, b, d; /* the library's: b, a and out */
    cublasLtMatmulHeuristicResult_t chosen;
    bool accumulate, bias;
};

enum { WORKSPACE = 32 << 20 };

static cudaDataType_t data_type(DType type) { return type == BFLOAT16 ? CUDA_R_16BF : CUDA_R_32F; }

void cuda_product_free(CudaProduct *product)
{
    if (product == NULL) return;
    if (product->operation != NULL) (void)product->blas->MatmulDescDestroy(product->operation);
    if (product->a != NULL) (void)product->blas->MatrixLayoutDestroy(product->a);
    if (product->b != NULL) (void)product->blas->MatrixLayoutDestroy(product->b);
    if (product->d != NULL) (void)product->blas->MatrixLayoutDestroy(product->d);
    free(product);
}

/* A column-major matrix, dense. */
static Status layout(const CublasLt *blas, DType type, int64_t rows, int64_t columns,
                     cublasLtMatrixLayout_t *out)
{
    return cublaslt_status(
        blas, blas->MatrixLayoutCreate(out, data_type(type), (uint64_t)rows, (uint64_t)columns, rows),
        "a matrix");
}

static Status set(const CudaProduct *product, cublasLtMatmulDescAttributes_t attribute, const void *value,
                  size_t size)
{
    return cublaslt_status(product->blas,
                           product->blas->MatmulDescSetAttribute(product->operation, attribute, value, size),
                           "a matrix product");
}

/* The fastest by the library's own estimate; it is the same for the same shapes, types, version and GPU. */
static Status choose(CudaProduct *product)
{
    const CublasLt *blas = product->blas;
    cublasLtMatmulPreference_t preference;
    const uint64_t most = WORKSPACE;
    /* Unless told, it counts on 256 bytes; parameters and their gradients begin wherever the one before ends,
     * at a multiple of 16 elements. More than 16 bytes help no kernel. */
    static const cublasLtMatmulPreferenceAttributes_t alignments[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    const uint32_t aligned = 16;
    /* A sum in several parts is put together in float32, in a fixed order. Unless told, the parts may also go
     * through the result, and its type, one after the other. */
    const uint32_t scheme = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    int found = 0;
    TRY(cublaslt_status(blas, blas->MatmulPreferenceCreate(&preference), "a preference"));
    Status status =
        cublaslt_status(blas,
                        blas->MatmulPreferenceSetAttribute(
                            preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &most, sizeof most),
                        "a preference");
    if (status == OK)
        status = cublaslt_status(
            blas,
            blas->MatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                               &scheme, sizeof scheme),
            "a preference");
    for (int i = 0; i < 4 && status == OK; ++i)
        status = cublaslt_status(
            blas, blas->MatmulPreferenceSetAttribute(preference, alignments[i], &aligned, sizeof aligned),
            "a preference");
    if (status == OK)
        status = cublaslt_status(blas,
                                 blas->MatmulAlgoGetHeuristic(blas->handle, product->operation, product->a,
                                                              product->b, product->d, product->d, preference,
                                                              1, &product->chosen, &found),
                                 "no algorithm for a matrix product");
    if (status == OK && found == 0)
        status = fail(STATUS_UNSUPPORTED, "cuBLASLt %zu has no algorithm for a matrix product of this shape",
                      blas->version);
    (void)blas->MatmulPreferenceDestroy(preference);
    return status;
}

static Status make(Device *device, MatrixProduct p, CudaProduct *product)
{
    const CublasLt *blas = product->blas;
    const cublasComputeType_t compute =
        p.type == FLOAT32 && device_numerics(device).tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    TRY(cublaslt_status(blas, blas->MatmulDescCreate(&product->operation, compute, CUDA_R_32F),
                        "a matrix product"));
    const cublasOperation_t transpose = CUBLAS_OP_T;
    if (p.b_turned) {
        TRY(layout(blas, p.type, p.inner, p.columns, &product->a));
        TRY(set(product, CUBLASLT_MATMUL_DESC_TRANSA, &transpose, sizeof transpose));
    } else {
        TRY(layout(blas, p.type, p.columns, p.inner, &product->a));
    }
    if (p.a_turned) {
        TRY(layout(blas, p.type, p.rows, p.inner, &product->b));
        TRY(set(product, CUBLASLT_MATMUL_DESC_TRANSB, &transpose, sizeof transpose));
    } else {
        TRY(layout(blas, p.type, p.inner, p.rows, &product->b));
    }
    TRY(layout(blas, p.out_type, p.columns, p.rows, &product->d));
    if (p.bias) {
        const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
        TRY(set(product, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue));
    }
    return choose(product);
}

Status cuda_product_create(Device *device, MatrixProduct p, CudaProduct **out, size_t *workspace)
{
    const CublasLt *blas;
    CudaProduct *product;
    *out = NULL;
    TRY(cublaslt_load(&blas));
    TRY(memory_new(&product, 1, sizeof *product, "a matrix product"));
    product->blas = blas;
    product->accumulate = p.accumulate;
    product->bias = p.bias;
    const Status status = make(device, p, product);
    if (status != OK) {
        cuda_product_free(product);
        return status;
    }
    *workspace = product->chosen.workspaceSize;
    *out = product;
    return OK;
}

Status cuda_product_run(const CudaProduct *product, Device *device, const void *a, const void *b,
                        const float *bias, void *out, void *workspace)
{
    const float one = 1, others = product->accumulate ? 1 : 0;
    const size_t bytes = product->chosen.workspaceSize;
    if (product->bias) TRY(set(product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias));
    return cublaslt_status(product->blas,
                           product->blas->Matmul(product->blas->handle, product->operation, &one, b,
                                                 product->a, a, product->b, &others, out, product->d, out,
                                                 product->d, &product->chosen.algo,
                                                 bytes > 0 ? workspace : NULL, bytes, device_stream(device)),
                           "a matrix product");
}
