/* What kernels of ops are written with: cuda_kernel.cuh, and tensors. */
#ifndef PLUMB_ENGINE_OPS_OP_CUDA_CUH
#define PLUMB_ENGINE_OPS_OP_CUDA_CUH

#include "engine/device/cuda_kernel.cuh"

extern "C" {
#include "engine/graph/op.h"
}

/* Do N neighbouring elements make a Pack everywhere in the tensor? */
static inline bool fits_pack(const Tensor &tensor, int64_t n)
{
    const uint64_t bytes = static_cast<uint64_t>(n) * dtype_size(tensor.shape.type);
    return shape_columns(tensor.shape) % n == 0 &&
           (tensor.stride % n == 0 || shape_rows(tensor.shape) <= 1) &&
           reinterpret_cast<uintptr_t>(tensor.data) % bytes == 0;
}

#endif
