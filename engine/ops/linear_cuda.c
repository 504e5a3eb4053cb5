/* The linear layer on a GPU: matrix products of cuBLASLt, whose matrices are column-major: a row-major matrix
 * is its transpose. So with rows x channels X, features x channels W and rows x features Y it computes
 *
 *     Y^T = W X^T + bias        dX^T = W^T dY^T        dW^T = X^T dY
 *
 * Products are accumulated in float32. Weights are float32 in the store; beside bfloat16 inputs the plan
 * gives them rounded, else they are rounded into scratch. */
#include "engine/base/memory.h"
#include "engine/device/cuda_library.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/linear.h"

#include <stdlib.h>

typedef enum { PRODUCT_FORWARD, PRODUCT_DATA, PRODUCT_WEIGHTS } ProductKind;

typedef struct {
    const CublasLt *blas;
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t a, b, d;
    cublasLtMatmulHeuristicResult_t chosen;
    ProductKind kind;
    int64_t weights;                           /* elements */
    bool weights_in_bf16, other_in_bf16;       /* what must be rounded to bfloat16 before: the weights, dY */
    int64_t other;                             /* elements of dY */
    size_t weights_at, other_at, workspace_at; /* in scratch */
} Product;

enum { LINE = 256, WORKSPACE = 32 << 20 };

static cudaDataType_t data_type(DType type) { return type == BFLOAT16 ? CUDA_R_16BF : CUDA_R_32F; }

static void release(Call *call)
{
    Product *product = call->state;
    if (product == NULL) return;
    if (product->operation != NULL) (void)product->blas->MatmulDescDestroy(product->operation);
    if (product->a != NULL) (void)product->blas->MatrixLayoutDestroy(product->a);
    if (product->b != NULL) (void)product->blas->MatrixLayoutDestroy(product->b);
    if (product->d != NULL) (void)product->blas->MatrixLayoutDestroy(product->d);
    free(product);
    call->state = NULL;
}

/* A column-major matrix, dense. */
static Status layout(const CublasLt *blas, DType type, int64_t rows, int64_t columns,
                     cublasLtMatrixLayout_t *out)
{
    return cublaslt_status(
        blas, blas->MatrixLayoutCreate(out, data_type(type), (uint64_t)rows, (uint64_t)columns, rows),
        "a matrix");
}

static Status set(const Product *product, cublasLtMatmulDescAttributes_t attribute, const void *value,
                  size_t size)
{
    return cublaslt_status(product->blas,
                           product->blas->MatmulDescSetAttribute(product->operation, attribute, value, size),
                           "a matrix product");
}

/* The fastest by the library's own estimate; it is the same for the same shapes, types, version and GPU. */
static Status choose(Product *product)
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

static Status make(const Call *call, Product *product)
{
    const LinearAttributes *a = call->attributes;
    const Shape x = shape_of(a->in_type, a->rank, a->extent);
    const int64_t rows = shape_rows(x), channels = shape_columns(x), features = a->features;
    const CublasLt *blas = product->blas;
    const cublasComputeType_t compute = a->in_type == FLOAT32 && device_numerics(call->device).tf32
                                            ? CUBLAS_COMPUTE_32F_FAST_TF32
                                            : CUBLAS_COMPUTE_32F;
    TRY(cublaslt_status(blas, blas->MatmulDescCreate(&product->operation, compute, CUDA_R_32F),
                        "a matrix product"));
    const cublasOperation_t transpose = CUBLAS_OP_T;
    if (product->kind == PRODUCT_FORWARD) {
        TRY(layout(blas, a->in_type, channels, features, &product->a)); /* W^T */
        TRY(layout(blas, a->in_type, channels, rows, &product->b));     /* X^T */
        TRY(layout(blas, a->out_type, features, rows, &product->d));    /* Y^T */
        TRY(set(product, CUBLASLT_MATMUL_DESC_TRANSA, &transpose, sizeof transpose));
    } else if (product->kind == PRODUCT_DATA) {
        TRY(layout(blas, a->in_type, channels, features, &product->a)); /* W^T */
        TRY(layout(blas, a->in_type, features, rows, &product->b));     /* dY^T */
        TRY(layout(blas, a->in_type, channels, rows, &product->d));     /* dX^T */
    } else {
        TRY(layout(blas, a->in_type, channels, rows, &product->a));  /* X^T */
        TRY(layout(blas, a->in_type, features, rows, &product->b));  /* dY^T */
        TRY(layout(blas, FLOAT32, channels, features, &product->d)); /* dW^T */
        TRY(set(product, CUBLASLT_MATMUL_DESC_TRANSB, &transpose, sizeof transpose));
    }
    if (product->kind == PRODUCT_FORWARD && call->node->input_count > 2 && a->out_type == FLOAT32) {
        const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
        TRY(set(product, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue));
    }
    return choose(product);
}

static size_t part(size_t *bytes, size_t wanted)
{
    const size_t at = *bytes;
    *bytes += (wanted + LINE - 1) / LINE * LINE;
    return at;
}

static Status prepare(Call *call, ProductKind kind, size_t *scratch_bytes)
{
    const LinearAttributes *a = call->attributes;
    const Shape x = shape_of(a->in_type, a->rank, a->extent);
    const CublasLt *blas;
    Product *product;
    TRY(cublaslt_load(&blas));
    TRY(memory_new(&product, 1, sizeof *product, "a matrix product"));
    product->blas = blas;
    product->kind = kind;
    call->state = product;
    const Status status = make(call, product);
    if (status != OK) {
        release(call);
        return status;
    }
    product->weights = shape_columns(x) * a->features;
    product->other = shape_rows(x) * a->features;
    product->weights_in_bf16 = a->in_type == BFLOAT16 && kind != PRODUCT_WEIGHTS;
    product->other_in_bf16 = a->in_type == BFLOAT16 && a->out_type == FLOAT32 && kind != PRODUCT_FORWARD;
    size_t bytes = 0;
    product->weights_at = part(&bytes, product->weights_in_bf16 ? (size_t)product->weights * 2 : 0);
    product->other_at = part(&bytes, product->other_in_bf16 ? (size_t)product->other * 2 : 0);
    product->workspace_at = part(&bytes, product->chosen.workspaceSize);
    *scratch_bytes = bytes;
    return OK;
}

static Status forward_prepare(Call *call, size_t *bytes) { return prepare(call, PRODUCT_FORWARD, bytes); }
static Status data_prepare(Call *call, size_t *bytes) { return prepare(call, PRODUCT_DATA, bytes); }
static Status weights_prepare(Call *call, size_t *bytes) { return prepare(call, PRODUCT_WEIGHTS, bytes); }

/* d = op(a) op(b), and the bias where the product adds it. */
static Status multiply(const Call *call, const void *a, const void *b, void *d)
{
    const Product *product = call->state;
    const float one = 1, zero = 0;
    void *workspace = (char *)call->scratch + product->workspace_at;
    return cublaslt_status(product->blas,
                           product->blas->Matmul(product->blas->handle, product->operation, &one, a,
                                                 product->a, b, product->b, &zero, d, product->d, d,
                                                 product->d, &product->chosen.algo,
                                                 product->chosen.workspaceSize > 0 ? workspace : NULL,
                                                 product->chosen.workspaceSize, device_stream(call->device)),
                           "a matrix product");
}

/* The operand as bfloat16, if it must be. */
static Status rounded(const Call *call, const Tensor *tensor, bool round, size_t at, int64_t count,
                      const void **out)
{
    *out = round && tensor->rounded != NULL ? tensor->rounded : tensor->data;
    if (!round || tensor->rounded != NULL) return OK;
    void *to = (char *)call->scratch + at;
    *out = to;
    return to_bfloat16_cuda(call->device, tensor->data, to, count);
}

static Status forward_run(const Call *call)
{
    const LinearAttributes *a = call->attributes;
    const Product *product = call->state;
    const void *weight;
    TRY(rounded(call, &call->in[1], product->weights_in_bf16, product->weights_at, product->weights,
                &weight));
    const bool bias = call->node->input_count > 2;
    if (bias && a->out_type == FLOAT32)
        TRY(set(product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &call->in[2].data, sizeof call->in[2].data));
    TRY(multiply(call, weight, call->in[0].data, call->out[0].data));
    if (!bias || a->out_type == FLOAT32) return OK;
    return add_bias_cuda(call->device, call->out[0], call->in[2].data);
}

static Status data_run(const Call *call)
{
    const Product *product = call->state;
    const void *weight, *d_y;
    TRY(rounded(call, &call->in[1], product->weights_in_bf16, product->weights_at, product->weights,
                &weight));
    TRY(rounded(call, &call->in[0], product->other_in_bf16, product->other_at, product->other, &d_y));
    return multiply(call, weight, d_y, call->out[0].data);
}

static Status weights_run(const Call *call)
{
    const Product *product = call->state;
    const void *d_y;
    TRY(rounded(call, &call->in[1], product->other_in_bf16, product->other_at, product->other, &d_y));
    return multiply(call, call->in[0].data, d_y, call->out[0].data);
}

const Kernel linear_cuda = {.prepare = forward_prepare, .run = forward_run, .release = release};
const Kernel linear_backward_data_cuda = {.prepare = data_prepare, .run = data_run, .release = release};
const Kernel linear_backward_weights_cuda = {
    .prepare = weights_prepare, .run = weights_run, .release = release};
