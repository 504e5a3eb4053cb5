/* row_norms on CUDA: a warp takes a row. */
#include "engine/ops/op_cuda.cuh"

extern "C" {
#include "engine/ops/row_norms.h"
}

namespace
{

constexpr int THREADS = 256;

template <typename T>
__global__ void norms_kernel(const T *x, int64_t stride, double *norm, int64_t rows, int64_t columns)
{
    const int lane = static_cast<int>(threadIdx.x) % WARP;
    for (int64_t row = grid_thread() / WARP; row < rows; row += grid_threads() / WARP) {
        double sum = 0;
        for (int64_t c = lane; c < columns; c += WARP) {
            const double value = static_cast<double>(to_float(x[row * stride + c]));
            sum += value * value;
        }
        sum = warp_sum(sum);
        if (lane == 0) norm[row] = sqrt(sum);
    }
}

template <typename T> Status run_typed(const Call *call)
{
    const Tensor &x = call->in[0];
    const int64_t rows = shape_rows(x.shape);
    if (rows == 0) return OK;
    return launch("row_norms", norms_kernel<T>, blocks_for(rows, THREADS / WARP), THREADS, 0,
                  device_stream(call->device), static_cast<const T *>(x.data), x.stride,
                  static_cast<double *>(call->out[0].data), rows, shape_columns(x.shape));
}

Status run(const Call *call)
{
    return call->in[0].shape.type == BFLOAT16 ? run_typed<Bfloat16>(call) : run_typed<float>(call);
}

} // namespace

/* prepare, run, release, in_place, strided_in, strided_out, pack: as on the CPU. */
const Kernel row_norms_cuda = {nullptr, run, nullptr, 0, 1, 0, nullptr};
