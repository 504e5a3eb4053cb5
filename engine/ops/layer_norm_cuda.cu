/* layer_norm on CUDA: a warp takes a row, which stays in the cache, so one pass over memory each way. */
#include "engine/ops/columns_cuda.cuh"

extern "C" {
#include "engine/ops/layer_norm.h"
}

namespace
{

constexpr int THREADS = 256;

/* Calls f(column) for this lane's columns of a row. */
template <typename Function> __device__ void each_column(int64_t columns, const Function &f)
{
    for (int64_t c = static_cast<int64_t>(threadIdx.x) % WARP; c < columns; c += WARP)
        f(c);
}

/* The differences from the row's first element are summed first, then those from the mean so found; what its
 * rounding left over corrects the variance. */
template <typename T>
__global__ void forward_kernel(const T *x, T *y, int64_t rows, int64_t columns, const float *weight,
                               const float *bias, double epsilon, float *means, float *inverses)
{
    const double count = static_cast<double>(columns);
    for (int64_t row = grid_thread() / WARP; row < rows; row += grid_threads() / WARP) {
        const T *from = x + row * columns;
        T *to = y + row * columns;
        const float origin = to_float(from[0]);
        float sum = 0, left = 0, square = 0;
        each_column(columns, [&](int64_t c) { sum += to_float(from[c]) - origin; });
        const float mean =
            static_cast<float>(static_cast<double>(origin) + static_cast<double>(warp_sum(sum)) / count);
        each_column(columns, [&](int64_t c) {
            const float d = to_float(from[c]) - mean;
            left += d;
            square += d * d;
        });
        const double rest = static_cast<double>(warp_sum(left)) / count;
        const double variance = static_cast<double>(warp_sum(square)) / count - rest * rest;
        const double sound = variance > 0 || variance != variance ? variance : 0; /* NaN stays */
        const float inverse = static_cast<float>(1 / sqrt(sound + epsilon));
        const float shift = static_cast<float>(-rest * static_cast<double>(inverse));
        each_column(columns, [&](int64_t c) {
            const float n = (to_float(from[c]) - mean) * inverse + shift;
            to[c] = from_float<T>(n * weight[c] + bias[c]);
        });
        if (threadIdx.x % WARP == 0) {
            means[row] = mean;
            inverses[row] = inverse;
        }
    }
}

template <typename T> Status forward_typed(const Call *call)
{
    const Tensor &x = call->in[LAYER_NORM_X];
    const int64_t rows = shape_rows(x.shape);
    if (shape_count(x.shape) == 0) return OK;
    return launch("layer_norm", forward_kernel<T>, blocks_for(rows, THREADS / WARP), THREADS, 0,
                  device_stream(call->device), static_cast<const T *>(x.data),
                  static_cast<T *>(call->out[LAYER_NORM_Y].data), rows, shape_columns(x.shape),
                  static_cast<const float *>(call->in[LAYER_NORM_WEIGHT].data),
                  static_cast<const float *>(call->in[LAYER_NORM_BIAS].data),
                  static_cast<const LayerNormAttributes *>(call->attributes)->epsilon,
                  static_cast<float *>(call->out[LAYER_NORM_MEAN].data),
                  static_cast<float *>(call->out[LAYER_NORM_INVERSE_DEVIATION].data));
}

Status forward_run(const Call *call)
{
    return call->in[LAYER_NORM_X].shape.type == BFLOAT16 ? forward_typed<Bfloat16>(call)
                                                         : forward_typed<float>(call);
}

/* dx may be the memory of dy or x: each element is read before it is written, by the thread that writes it.
 */
template <typename T>
__global__ void backward_kernel(const T *dy, const T *x, T *dx, int64_t rows, int64_t columns,
                                const float *weight, const float *means, const float *inverses)
{
    for (int64_t row = grid_thread() / WARP; row < rows; row += grid_threads() / WARP) {
        const T *gradient = dy + row * columns, *from = x + row * columns;
        const float mean = means[row], inverse = inverses[row];
        float h_sum = 0, hn_sum = 0;
        each_column(columns, [&](int64_t c) {
            const float h = to_float(gradient[c]) * weight[c];
            h_sum += h;
            hn_sum += h * ((to_float(from[c]) - mean) * inverse);
        });
        const float h_mean = warp_sum(h_sum) / static_cast<float>(columns);
        const float hn_mean = warp_sum(hn_sum) / static_cast<float>(columns);
        each_column(columns, [&](int64_t c) {
            const float n = (to_float(from[c]) - mean) * inverse, h = to_float(gradient[c]) * weight[c];
            dx[row * columns + c] = from_float<T>((h - h_mean - n * hn_mean) * inverse);
        });
    }
}

/* Pairs (dy n, dy). */
template <typename T, bool PACKED> struct Pairs {
    const T *dy, *x;
    int64_t stride;
    const float *mean, *inverse;

    struct Row {
        Eight<T> dy, x;
        float mean, inverse;
    };
    enum { AT_ONCE = PACKED && sizeof(T) == 2 ? 2 : 1 };

    struct Columns {
        const Pairs &p;
        int column, present;
        __device__ Columns(const Pairs &pairs, const ColumnGrid &grid)
            : p(pairs), column(grid.column()), present(grid.present())
        {
        }
        __device__ int64_t end(int64_t row) const { return row; }
        __device__ void prepare(const ColumnGrid &) const {}
        __device__ Row read(int64_t row) const
        {
            return {read_columns<PACKED>(p.dy + row * p.stride + column, present),
                    read_columns<PACKED>(p.x + row * p.stride + column, present), p.mean[row],
                    p.inverse[row]};
        }
        __device__ void add(const Row &row, bool there, int, float a[COLUMNS_A_THREAD],
                            float b[COLUMNS_A_THREAD]) const
        {
            for (int k = 0; k < COLUMNS_A_THREAD; ++k) {
                const float gradient = there ? to_float(row.dy.element(k)) : 0;
                a[k] += gradient * ((to_float(row.x.element(k)) - row.mean) * row.inverse);
                b[k] += gradient;
            }
        }
    };
};

struct Finish {
    float *dweight, *dbias;
    __device__ void operator()(int column, double product, double sum) const
    {
        dweight[column] = static_cast<float>(product);
        dbias[column] = static_cast<float>(sum);
    }
};

Status backward_prepare(Call *call, size_t *scratch_bytes)
{
    const ColumnGrid grid = sum_grid(call->in[LAYER_NORM_BACKWARD_X].shape);
    *scratch_bytes = column_sums_bytes(grid);
    return column_counters(call, grid);
}

/* The parameters' gradients first: dx may take the memory of dy or x. */
template <typename T, bool PACKED> Status backward_typed(const Call *call)
{
    const Tensor &x = call->in[LAYER_NORM_BACKWARD_X];
    const ColumnGrid grid = sum_grid(x.shape);
    const Stream stream = device_stream(call->device);
    const Pairs<T, PACKED> pairs = {
        static_cast<const T *>(call->in[LAYER_NORM_BACKWARD_DY].data), static_cast<const T *>(x.data),
        grid.columns, static_cast<const float *>(call->in[LAYER_NORM_BACKWARD_MEAN].data),
        static_cast<const float *>(call->in[LAYER_NORM_BACKWARD_INVERSE_DEVIATION].data)};
    const Finish finish = {static_cast<float *>(call->out[LAYER_NORM_BACKWARD_DWEIGHT].data),
                           static_cast<float *>(call->out[LAYER_NORM_BACKWARD_DBIAS].data)};
    TRY(launch("layer_norm_backward", column_sums_kernel<Pairs<T, PACKED>, Finish>, grid.blocks(),
               COLUMN_THREADS, 0, stream, pairs, finish, grid, static_cast<float *>(call->scratch),
               static_cast<unsigned int *>(call->state)));
    if (!call->wanted[LAYER_NORM_BACKWARD_DX]) return OK;
    return launch(
        "layer_norm_backward", backward_kernel<T>, blocks_for(grid.rows, THREADS / WARP), THREADS, 0, stream,
        pairs.dy, pairs.x, static_cast<T *>(call->out[LAYER_NORM_BACKWARD_DX].data), grid.rows, pairs.stride,
        static_cast<const float *>(call->in[LAYER_NORM_BACKWARD_WEIGHT].data), pairs.mean, pairs.inverse);
}

Status backward_run(const Call *call)
{
    const Tensor &dy = call->in[LAYER_NORM_BACKWARD_DY], &x = call->in[LAYER_NORM_BACKWARD_X];
    const bool packed = fits_pack(dy, COLUMNS_A_THREAD) && fits_pack(x, COLUMNS_A_THREAD);
    if (x.shape.type == BFLOAT16)
        return packed ? backward_typed<Bfloat16, true>(call) : backward_typed<Bfloat16, false>(call);
    return packed ? backward_typed<float, true>(call) : backward_typed<float, false>(call);
}

} // namespace

/* prepare, run, release, in_place, strided_in, strided_out: as on the CPU. */
const Kernel layer_norm_cuda = {nullptr, forward_run, nullptr, 1U << LAYER_NORM_X, 0, 0};
const Kernel layer_norm_backward_cuda = {backward_prepare,
                                         backward_run,
                                         release_column_counters,
                                         1U << LAYER_NORM_BACKWARD_DY | 1U << LAYER_NORM_BACKWARD_X,
                                         0,
                                         0};
