/* An index outside the table gives NaN, which the loss carries on and the trainer reports: a GPU cannot refuse it, and
 * another row would be a silent mistake. */
#include "engine/ops/op_cuda.cuh"

extern "C" {
#include "engine/ops/embedding.h"
}

namespace
{

constexpr int THREADS = 256;

template <typename T>
__global__ void forward_kernel(const int32_t *index, const float *weight, T *y, int64_t elements,
                               int64_t rows, int64_t width, float scale)
{
    for (int64_t i = grid_thread(); i < elements; i += grid_threads()) {
        const int64_t row = index[i / width];
        const bool is_there = row >= 0 && row < rows;
        y[i] =
            from_float<T>(is_there ? scale * weight[row * width + i % width] : __uint_as_float(0x7fc00000u));
    }
}

template <typename T> Status run(const Call *call)
{
    const auto *a = static_cast<const EmbeddingAttributes *>(call->attributes);
    const int64_t elements = shape_count(call->out[0].shape);
    return launch("embedding", forward_kernel<T>, blocks_for(elements, THREADS), THREADS, 0,
                  device_stream(call->device), static_cast<const int32_t *>(call->in[0].data),
                  static_cast<const float *>(call->in[1].data), static_cast<T *>(call->out[0].data), elements,
                  a->rows, a->width, static_cast<float>(a->scale));
}

Status forward(const Call *call)
{
    return call->out[0].shape.type == BFLOAT16 ? run<Bfloat16>(call) : run<float>(call);
}

Status backward(const Call *call)
{
    const RowSums sums = embedding_row_sums(call);
    return row_sums_cuda(call->device, &sums);
}

} // namespace

/* prepare, run, release, in_place, strided_in, strided_out, pack: as on the CPU. */
const Kernel embedding_cuda = {nullptr, forward, nullptr, 0, 0, 0, nullptr};
const Kernel embedding_backward_cuda = {
    embedding_backward_prepare, backward, nullptr, 1u << 2, 0, 0, nullptr};
const Kernel embedding_backward_rows_cuda = {embedding_backward_prepare, backward, nullptr, 0, 0, 0, nullptr};
