/* oneDNN behind a surface of our own: convolution and inner product as our ops need them. All that differs
 * between oneDNN 2.x and 3.x stays in onednn_*.[ch].
 *
 * Activations are dense NHWC (or rows) of FLOAT32 or BFLOAT16; weights are FLOAT32 [out, kernel height,
 * kernel width, in] (or [out, in]), biases FLOAT32. Where the library wants other layouts or types, it
 * converts in each run, in scratch memory. Without hardware for BFLOAT16 the arithmetic is FLOAT32. */
#ifndef PLUMB_ENGINE_OPS_ONEDNN_ONEDNN_H
#define PLUMB_ENGINE_OPS_ONEDNN_ONEDNN_H

#include "engine/base/dtype.h"
#include "engine/base/status.h"
#include "engine/ops/product.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A prepared operation; belongs to the thread that uses it. */
typedef struct OneDnn OneDnn;

typedef struct {
    int64_t samples, height, width, channels; /* of the input */
    int64_t out_height, out_width, out_channels;
    int64_t kernel_height, kernel_width;
    int64_t stride, padding_height, padding_width;
    DType type; /* of input and output and their gradients */
    bool bias;  /* forward only */
} OneDnnConvolution;

typedef struct {
    int64_t rows, channels, features;
    DType in_type, out_type; /* of input and output and their gradients */
    bool bias;               /* forward only */
    bool keeps_weight;       /* forward only: see onednn_kept */
} OneDnnInnerProduct;

/* Each makes an operation whose tensors, in the order of onednn_run, are given behind it. Release with
 * onednn_free. *scratch_bytes: what a run needs, aligned to 64 bytes. Threads: as OpenMP says now. */
CHECKED Status onednn_convolution(OneDnnConvolution, OneDnn **,
                                  size_t *scratch_bytes); /* x, weight, [bias], y */
CHECKED Status onednn_convolution_backward_data(OneDnnConvolution, OneDnn **,
                                                size_t *scratch_bytes); /* d_y, weight, d_x */
CHECKED Status onednn_convolution_backward_weights(OneDnnConvolution, OneDnn **,
                                                   size_t *scratch_bytes); /* x, d_y, d_weight */
CHECKED Status onednn_inner_product(OneDnnInnerProduct, OneDnn **,
                                    size_t *scratch_bytes); /* x, weight, [bias], y */
CHECKED Status onednn_inner_product_backward_data(OneDnnInnerProduct, OneDnn **,
                                                  size_t *scratch_bytes); /* d_y, weight, d_x */
CHECKED Status onednn_inner_product_backward_weights(OneDnnInnerProduct, OneDnn **,
                                                     size_t *scratch_bytes); /* x, d_y, d_weight */

CHECKED Status onednn_product(MatrixProduct, OneDnn **, size_t *scratch_bytes); /* a, b, out */

CHECKED Status onednn_run(OneDnn *, void *const tensors[], void *scratch);

/* Of an operation that keeps its weight: the bytes of the form that it wants, 64-byte aligned, and a number that other
 * operations on the weight have, too, if theirs is the same. A run gets that form, made by onednn_pack, in the weight's place.
 * 0 bytes: it wants the weight as it is. */
size_t onednn_kept(const OneDnn *, uint64_t *form);
CHECKED Status onednn_pack(OneDnn *, void *weight, void *packed, void *scratch);
void onednn_free(OneDnn *); /* NULL is allowed */

/* What the library chose, for reports and tests: "brgconv:avx512_core_bf16". Owned by the operation. */
const char *onednn_implementation(const OneDnn *);
/* The library's own: "2.6.3". */
const char *onednn_version(char text[32]);

#endif
