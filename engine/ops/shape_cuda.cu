/* concat, slice and flatten on CUDA: bytes are moved in the widest pieces that everything is aligned to. */
#include "engine/ops/op_cuda.cuh"

extern "C" {
#include "engine/ops/shape_ops.h"
}

namespace
{

constexpr int THREADS = 256;

/* Rows of `units` units each; strides in units. from == nullptr: zeros. Index: of a unit, 32 bits where they
 * suffice, because a division of 64 bits costs more than the memory it serves. */
template <typename Unit, typename Index>
__global__ void copy_kernel(const Unit *from, Index from_stride, Unit *to, Index to_stride, Index rows,
                            Index units)
{
    for (Index i = static_cast<Index>(grid_thread()); i < rows * units;
         i += static_cast<Index>(grid_threads())) {
        const Index row = i / units, unit = i - row * units;
        to[row * to_stride + unit] = from != nullptr ? from[row * from_stride + unit] : Unit{};
    }
}

template <typename Unit>
Status copy_units(const Call *call, const void *from, int64_t from_stride, void *to, int64_t to_stride,
                  int64_t rows, int64_t columns)
{
    constexpr int64_t SIZE = sizeof(Unit);
    const auto *source = static_cast<const Unit *>(from);
    auto *target = static_cast<Unit *>(to);
    const unsigned int blocks = blocks_for(rows * (columns / SIZE), THREADS);
    const Stream stream = device_stream(call->device);
    const int64_t extent = rows * (from_stride > to_stride ? from_stride : to_stride) / SIZE;
    if (extent < INT32_MAX) /* so that the loop's last step does not wrap either */
        return launch(call->node->op->name, copy_kernel<Unit, uint32_t>, blocks, THREADS, 0, stream, source,
                      from_stride / SIZE, target, to_stride / SIZE, rows, columns / SIZE);
    return launch(call->node->op->name, copy_kernel<Unit, uint64_t>, blocks, THREADS, 0, stream, source,
                  from_stride / SIZE, target, to_stride / SIZE, rows, columns / SIZE);
}

/* All in bytes. Nothing to do if both are the same place. */
Status copy_rows(const Call *call, const char *from, int64_t from_stride, char *to, int64_t to_stride,
                 int64_t rows, int64_t columns)
{
    if (rows == 0 || columns == 0 || (from == to && (from_stride == to_stride || rows <= 1))) return OK;
    if (rows > 1 && from_stride == columns && to_stride == columns) { /* one long row */
        columns *= rows;
        rows = 1;
    }
    if (rows == 1) from_stride = to_stride = columns;
    const uint64_t all = reinterpret_cast<uintptr_t>(from) | reinterpret_cast<uintptr_t>(to) |
                         static_cast<uint64_t>(columns | from_stride | to_stride);
    if (all % 16 == 0) return copy_units<uint4>(call, from, from_stride, to, to_stride, rows, columns);
    if (all % 8 == 0) return copy_units<uint2>(call, from, from_stride, to, to_stride, rows, columns);
    if (all % 4 == 0) return copy_units<uint32_t>(call, from, from_stride, to, to_stride, rows, columns);
    if (all % 2 == 0) return copy_units<uint16_t>(call, from, from_stride, to, to_stride, rows, columns);
    return copy_units<uint8_t>(call, from, from_stride, to, to_stride, rows, columns);
}

Status concat_run(const Call *call)
{
    const Tensor &y = call->out[0];
    const int64_t size = static_cast<int64_t>(dtype_size(y.shape.type));
    int64_t column = 0;
    for (int i = 0; i < call->node->input_count; ++i) {
        const Tensor &part = call->in[i];
        const int64_t columns = shape_columns(part.shape);
        TRY(copy_rows(call, static_cast<const char *>(part.data), part.stride * size,
                      static_cast<char *>(y.data) + column * size, y.stride * size, shape_rows(y.shape),
                      columns * size));
        column += columns;
    }
    return OK;
}

Status slice_run(const Call *call)
{
    const auto *a = static_cast<const SliceAttributes *>(call->attributes);
    const Tensor &x = call->in[0], &y = call->out[0];
    const int64_t size = static_cast<int64_t>(dtype_size(y.shape.type));
    return copy_rows(call, static_cast<const char *>(x.data) + a->first * size, x.stride * size,
                     static_cast<char *>(y.data), y.stride * size, shape_rows(y.shape), a->columns * size);
}

Status slice_backward_run(const Call *call)
{
    const auto *a = static_cast<const SliceAttributes *>(call->attributes);
    const Tensor &dy = call->in[0], &dx = call->out[0];
    const int64_t size = static_cast<int64_t>(dtype_size(dx.shape.type)), rows = shape_rows(dx.shape);
    const int64_t after = a->first + a->columns, stride = dx.stride * size;
    char *to = static_cast<char *>(dx.data);
    TRY(copy_rows(call, nullptr, stride, to, stride, rows, a->first * size));
    TRY(copy_rows(call, static_cast<const char *>(dy.data), dy.stride * size, to + a->first * size, stride,
                  rows, a->columns * size));
    return copy_rows(call, nullptr, stride, to + after * size, stride, rows, (a->x_columns - after) * size);
}

/* y[n][j][i] = x[n][i][j], tile by tile through shared memory, so that both sides are read and written in
 * neighbouring places. A padded tile has no two rows in one bank. */
constexpr int TILE = 32, LINES = 8;

template <typename Unit>
__global__ void transpose_kernel(const Unit *x, Unit *y, int64_t samples, int64_t rows, int64_t columns)
{
    __shared__ Unit tile[TILE][TILE + 1];
    const int64_t down = (rows + TILE - 1) / TILE, across = (columns + TILE - 1) / TILE;
    const int lane = static_cast<int>(threadIdx.x) % TILE, line = static_cast<int>(threadIdx.x) / TILE;
    for (int64_t t = blockIdx.x; t < samples * down * across; t += gridDim.x) {
        const int64_t n = t / (down * across), place = t - n * down * across;
        const int64_t row = place / across * TILE, column = place % across * TILE;
        const Unit *from = x + n * rows * columns;
        Unit *to = y + n * rows * columns;
        for (int i = line; i < TILE; i += LINES)
            if (row + i < rows && column + lane < columns)
                tile[i][lane] = from[(row + i) * columns + column + lane];
        __syncthreads();
        for (int j = line; j < TILE; j += LINES)
            if (column + j < columns && row + lane < rows)
                to[(column + j) * rows + row + lane] = tile[lane][j];
        __syncthreads();
    }
}

Status transpose(const Call *call, int64_t samples, int64_t rows, int64_t columns)
{
    if (rows == 1 || columns == 1) {
        const int64_t bytes = static_cast<int64_t>(shape_bytes(call->out[0].shape));
        return copy_rows(call, static_cast<const char *>(call->in[0].data), bytes,
                         static_cast<char *>(call->out[0].data), bytes, 1, bytes);
    }
    const int64_t tiles = samples * ((rows + TILE - 1) / TILE) * ((columns + TILE - 1) / TILE);
    const Stream stream = device_stream(call->device);
    if (dtype_size(call->in[0].shape.type) == 2)
        return launch(call->node->op->name, transpose_kernel<uint16_t>, blocks_for(tiles, 1), TILE * LINES, 0,
                      stream, static_cast<const uint16_t *>(call->in[0].data),
                      static_cast<uint16_t *>(call->out[0].data), samples, rows, columns);
    return launch(call->node->op->name, transpose_kernel<uint32_t>, blocks_for(tiles, 1), TILE * LINES, 0,
                  stream, static_cast<const uint32_t *>(call->in[0].data),
                  static_cast<uint32_t *>(call->out[0].data), samples, rows, columns);
}

Status flatten_run(const Call *call)
{
    const Shape x = static_cast<const FlattenAttributes *>(call->attributes)->x;
    return transpose(call, x.extent[0], x.extent[1] * x.extent[2], x.extent[3]);
}

Status flatten_backward_run(const Call *call)
{
    const Shape x = static_cast<const FlattenAttributes *>(call->attributes)->x;
    return transpose(call, x.extent[0], x.extent[3], x.extent[1] * x.extent[2]);
}

} // namespace

/* prepare, run, release, in_place, strided_in, strided_out, pack: as on the CPU. */
const Kernel concat_cuda = {nullptr, concat_run, nullptr, 0, (1U << CALL_MAX_TENSORS) - 1, 1, nullptr};
const Kernel slice_cuda = {nullptr, slice_run, nullptr, 0, 1, 1, nullptr};
const Kernel slice_backward_cuda = {nullptr, slice_backward_run, nullptr, 0, 1, 1, nullptr};
const Kernel flatten_cuda = {nullptr, flatten_run, nullptr, 0, 0, 0, nullptr};
const Kernel flatten_backward_cuda = {nullptr, flatten_backward_run, nullptr, 0, 0, 0, nullptr};
