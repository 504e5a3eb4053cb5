/* What batch_norm's CUDA files share: forward and backward. */
#ifndef PLUMB_ENGINE_OPS_BATCH_NORM_CUDA_CUH
#define PLUMB_ENGINE_OPS_BATCH_NORM_CUDA_CUH

#include "engine/ops/columns_cuda.cuh"

extern "C" {
#include "engine/device/collective.h"
#include "engine/ops/batch_norm.h"
}

/* How many rows count: all but those of padding, of which the clock knows. */
struct CountedRows {
    const int64_t *clock; /* null: no padding */
    int64_t all, a_sample;

    CountedRows(const Shape &x, const Tensor &time)
        : clock(static_cast<const int64_t *>(time.data)), all(shape_rows(x)),
          a_sample(x.extent[0] > 0 ? all / x.extent[0] : 0)
    {
    }
    __device__ int64_t get() const { return clock != nullptr ? all - clock[CLOCK_PADDING] * a_sample : all; }
};

/* Of the passes that write what x becomes. APPLY_BLOCKS of theirs fit a multiprocessor, by __launch_bounds__:
 * 80 registers a thread, which suffice without spilling for 64 to 96 bytes in flight, 48 KiB and more a
 * multiprocessor. What the memory of an H200 needs is about 30 (4.3 TB/s for 0.9 us, over 132). */
constexpr int APPLY_THREADS = 256, APPLY_BLOCKS = 3,
              APPLY_WAVES = 2 * APPLY_BLOCKS /* so that the last round is as full as the first */;

static inline const BatchNormAttributes *attributes_of(const Call *call)
{
    return static_cast<const BatchNormAttributes *>(call->attributes);
}

static inline bool is_synchronized(const Call *call)
{
    return attributes_of(call)->synchronize && call->collective->size > 1;
}

static inline float *floats(const Tensor &tensor) { return static_cast<float *>(tensor.data); }

/* Sums in `total` over all ranks. */
static inline Status sum_ranks(const Call *call, double *total, int columns)
{
    const Stream stream = device_stream(call->device);
    Span span = {};
    span.data = total;
    span.count = 2 * columns + 1;
    span.type = FLOAT64;
    TRY(collective_sum(call->collective, span, stream));
    return collective_join(call->collective, stream);
}

#endif
