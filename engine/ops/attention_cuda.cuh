/* What the files of attention on CUDA share: how wide a head can be, whose numbers the lanes of a warp have among them. */
#ifndef PLUMB_ENGINE_OPS_ATTENTION_CUDA_CUH
#define PLUMB_ENGINE_OPS_ATTENTION_CUDA_CUH

#include "engine/ops/op_cuda.cuh"

extern "C" {
#include "engine/ops/attention.h"
}

constexpr int MOST_WIDTH = 128;

static inline Status attention_check_width(int64_t head_width)
{
    if (head_width <= MOST_WIDTH) return OK;
    return fail(STATUS_UNSUPPORTED, "heads of %lld numbers; on a GPU they can have %d",
                static_cast<long long>(head_width), MOST_WIDTH);
}

#endif
