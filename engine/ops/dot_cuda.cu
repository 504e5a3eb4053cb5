/* dot on CUDA: each block sums a piece of fixed length in double, then one block the pieces. */
#include "engine/ops/op_cuda.cuh"

extern "C" {
#include "engine/ops/dot.h"
}

namespace
{

constexpr int THREADS = 256;
constexpr int64_t PIECE = 4096;

int64_t piece_count(const Tensor &x) { return (shape_count(x.shape) + PIECE - 1) / PIECE; }

template <typename X, typename W>
__global__ void pieces_kernel(const X *x, const W *weight, int64_t count, double *piece)
{
    __shared__ double shared[WARP];
    const int64_t first = blockIdx.x * PIECE, end = first + PIECE < count ? first + PIECE : count;
    double sum = 0;
    for (int64_t i = first + threadIdx.x; i < end; i += THREADS)
        sum += static_cast<double>(to_float(x[i])) * static_cast<double>(to_float(weight[i]));
    sum = block_sum(sum, shared);
    if (threadIdx.x == 0) piece[blockIdx.x] = sum;
}

__global__ void total_kernel(const double *piece, int64_t pieces, double *total)
{
    __shared__ double shared[WARP];
    double sum = 0;
    for (int64_t i = threadIdx.x; i < pieces; i += THREADS)
        sum += piece[i];
    sum = block_sum(sum, shared);
    if (threadIdx.x == 0) *total = sum;
}

Status prepare(Call *call, size_t *scratch_bytes)
{
    *scratch_bytes = static_cast<size_t>(piece_count(call->in[0])) * sizeof(double);
    return OK;
}

template <typename X, typename W> Status run_typed(const Call *call)
{
    const Tensor &x = call->in[0];
    const int64_t pieces = piece_count(x);
    const Stream stream = device_stream(call->device);
    double *piece = static_cast<double *>(call->scratch);
    if (pieces > 0) /* a GPU refuses a launch of no blocks */
        TRY(launch("dot", pieces_kernel<X, W>, static_cast<unsigned int>(pieces), THREADS, 0, stream,
                   static_cast<const X *>(x.data), static_cast<const W *>(call->in[1].data),
                   shape_count(x.shape), piece));
    return launch("dot", total_kernel, 1, THREADS, 0, stream, piece, pieces,
                  static_cast<double *>(call->out[0].data));
}

Status run(const Call *call)
{
    const bool half = call->in[0].shape.type == BFLOAT16;
    if (call->in[1].shape.type == BFLOAT16)
        return half ? run_typed<Bfloat16, Bfloat16>(call) : run_typed<float, Bfloat16>(call);
    return half ? run_typed<Bfloat16, float>(call) : run_typed<float, float>(call);
}

template <typename O, typename D>
__global__ void backward_kernel(const O *other, const double *d_y, D *d_x, int64_t count)
{
    const double factor = d_y != nullptr ? *d_y : 1;
    for (int64_t i = grid_thread(); i < count; i += grid_threads())
        d_x[i] = from_float<D>(static_cast<float>(factor * static_cast<double>(to_float(other[i]))));
}

template <typename O, typename D> Status backward_typed(const Call *call)
{
    const int64_t count = shape_count(call->out[0].shape);
    return launch("dot_backward", backward_kernel<O, D>, blocks_for(count, THREADS), THREADS, 0,
                  device_stream(call->device), static_cast<const O *>(call->in[0].data),
                  static_cast<const double *>(call->in[1].data), static_cast<D *>(call->out[0].data), count);
}

Status backward_run(const Call *call)
{
    const bool half = call->in[0].shape.type == BFLOAT16;
    if (call->out[0].shape.type == BFLOAT16)
        return half ? backward_typed<Bfloat16, Bfloat16>(call) : backward_typed<float, Bfloat16>(call);
    return half ? backward_typed<Bfloat16, float>(call) : backward_typed<float, float>(call);
}

} // namespace

/* prepare, run, release, in_place, strided_in, strided_out, pack: as on the CPU. */
const Kernel dot_cuda = {prepare, run, nullptr, 0, 0, 0, nullptr};
const Kernel dot_backward_cuda = {nullptr, backward_run, nullptr, 0, 0, 0, nullptr};
