/* positions on CUDA. A position that there cannot be gives NaN, as an id that no table has does. */
#include "engine/ops/op_cuda.cuh"

extern "C" {
#include "engine/base/memory.h"
#include "engine/ops/positions.h"
}

#include <cstdlib>

namespace
{

constexpr int THREADS = 256;

template <typename T>
__global__ void forward_kernel(const T *x, const int32_t *position, const float *table, T *y,
                               int64_t elements, int64_t length, int64_t width, int64_t most)
{
    for (int64_t i = grid_thread(); i < elements; i += grid_threads()) {
        const int64_t row = i / width, p = position != nullptr ? position[row] : row % length;
        float added = 0;
        if (p >= 0 && p < most)
            added = table[p * width + i % width];
        else if (p != -1)
            added = __uint_as_float(0x7fc00000u);
        y[i] = from_float<T>(to_float(x[i]) + added);
    }
}

template <typename T>
__global__ void backward_kernel(const T *d_y, float *d_weight, int64_t samples, int64_t length, int64_t width,
                                int64_t elements)
{
    for (int64_t i = grid_thread(); i < elements; i += grid_threads()) {
        float sum = 0;
        for (int64_t n = 0; i < length * width && n < samples; ++n)
            sum += to_float(d_y[n * length * width + i]);
        d_weight[i] = sum;
    }
}

/* The state: the table of sines and cosines. */
Status prepare(Call *call, size_t *scratch_bytes)
{
    const auto *a = static_cast<const PositionsAttributes *>(call->attributes);
    const int64_t width = shape_columns(call->in[POSITIONS_X].shape);
    *scratch_bytes = 0;
    if (a->kind == POSITIONS_LEARNED) return OK;
    const size_t bytes = static_cast<size_t>(a->most * width) * sizeof(float);
    float *table = nullptr;
    TRY(memory_new(&table, static_cast<size_t>(a->most * width), sizeof(float), "the vectors of positions"));
    positions_table(a->kind, a->most, width, table);
    Status status = device_allocate(call->device, bytes, "positions", &call->state);
    if (status == OK) status = device_upload(call->device, call->state, table, bytes);
    if (status == OK) status = device_synchronize(call->device);
    free(table);
    return status;
}

void release(Call *call)
{
    device_free(call->device, call->state);
    call->state = nullptr;
}

template <typename T> Status run_typed(const Call *call)
{
    const auto *a = static_cast<const PositionsAttributes *>(call->attributes);
    const Shape x = call->in[POSITIONS_X].shape;
    const int64_t elements = shape_count(x);
    const void *table = call->in[POSITIONS_WEIGHT].data;
    return launch("positions", forward_kernel<T>, blocks_for(elements, THREADS), THREADS, 0,
                  device_stream(call->device), static_cast<const T *>(call->in[POSITIONS_X].data),
                  static_cast<const int32_t *>(call->in[POSITIONS_POSITION].data),
                  static_cast<const float *>(table != nullptr ? table : call->state),
                  static_cast<T *>(call->out[0].data), elements, x.extent[x.rank - 2], shape_columns(x),
                  a->most);
}

template <typename T> Status backward_typed(const Call *call)
{
    const Shape d_y = call->in[0].shape;
    const int64_t elements = shape_count(call->out[0].shape);
    return launch("positions_backward", backward_kernel<T>, blocks_for(elements, THREADS), THREADS, 0,
                  device_stream(call->device), static_cast<const T *>(call->in[0].data),
                  static_cast<float *>(call->out[0].data), d_y.extent[0], d_y.extent[1], d_y.extent[2],
                  elements);
}

Status run(const Call *call)
{
    return call->out[0].shape.type == BFLOAT16 ? run_typed<Bfloat16>(call) : run_typed<float>(call);
}

Status backward_run(const Call *call)
{
    return call->in[0].shape.type == BFLOAT16 ? backward_typed<Bfloat16>(call) : backward_typed<float>(call);
}

} // namespace

/* prepare, run, release, in_place, strided_in, strided_out, pack: as on the CPU. */
const Kernel positions_cuda = {prepare, run, release, 1U << POSITIONS_X, 0, 0, nullptr};
const Kernel positions_backward_cuda = {nullptr, backward_run, nullptr, 0, 0, 0, nullptr};
