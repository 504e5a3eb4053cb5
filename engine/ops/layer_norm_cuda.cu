/* layer_norm on CUDA: a warp takes a row, which stays in the cache, so one pass over memory each way. */
#include "engine/ops/columns_cuda.cuh"

extern "C" {
#include "engine/ops/layer_norm.h"
}
#include "engine/base/philox.h"
#include "engine/base/random.h"

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

/* added, if not NULL, is added to dx. dx may be the memory of dy, x or added: each element is read before it is written, by the thread that writes it.
 */
template <typename T>
__global__ void backward_kernel(const T *dy, const T *x, const T *added, T *dx, int64_t rows, int64_t columns,
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
            float d = (h - h_mean - n * hn_mean) * inverse;
            if (added != nullptr) d += to_float(added[row * columns + c]);
            dx[row * columns + c] = from_float<T>(d);
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

/* What a backward node computes with, fused or not. */
struct Backward {
    const Tensor *dy, *x;
    const void *added; /* to dx; may be NULL */
    void *dx;          /* NULL: not wanted */
    const void *weight, *mean, *inverse;
    void *dweight, *dbias;
};

/* The parameters' gradients first: dx may take the memory of dy or x. */
template <typename T, bool PACKED> Status backward_typed(const Call *call, const Backward &b)
{
    const ColumnGrid grid = sum_grid(b.x->shape);
    const Stream stream = device_stream(call->device);
    const char *name = call->node->op->name;
    const Pairs<T, PACKED> pairs = {static_cast<const T *>(b.dy->data), static_cast<const T *>(b.x->data),
                                    grid.columns, static_cast<const float *>(b.mean),
                                    static_cast<const float *>(b.inverse)};
    const Finish finish = {static_cast<float *>(b.dweight), static_cast<float *>(b.dbias)};
    TRY(launch(name, column_sums_kernel<Pairs<T, PACKED>, Finish>, grid.blocks(), COLUMN_THREADS, 0, stream,
               pairs, finish, grid, static_cast<float *>(call->scratch),
               static_cast<unsigned int *>(call->state)));
    if (b.dx == nullptr) return OK;
    return launch(name, backward_kernel<T>, blocks_for(grid.rows, THREADS / WARP), THREADS, 0, stream,
                  pairs.dy, pairs.x, static_cast<const T *>(b.added), static_cast<T *>(b.dx), grid.rows,
                  pairs.stride, static_cast<const float *>(b.weight), pairs.mean, pairs.inverse);
}

Status backward_of(const Call *call, const Backward &b)
{
    const bool packed = fits_pack(*b.dy, COLUMNS_A_THREAD) && fits_pack(*b.x, COLUMNS_A_THREAD);
    if (b.x->shape.type == BFLOAT16)
        return packed ? backward_typed<Bfloat16, true>(call, b) : backward_typed<Bfloat16, false>(call, b);
    return packed ? backward_typed<float, true>(call, b) : backward_typed<float, false>(call, b);
}

Status backward_run(const Call *call)
{
    const Tensor *in = call->in, *out = call->out;
    return backward_of(call,
                       {&in[LAYER_NORM_BACKWARD_DY], &in[LAYER_NORM_BACKWARD_X], nullptr,
                        call->wanted[LAYER_NORM_BACKWARD_DX] ? out[LAYER_NORM_BACKWARD_DX].data : nullptr,
                        in[LAYER_NORM_BACKWARD_WEIGHT].data, in[LAYER_NORM_BACKWARD_MEAN].data,
                        in[LAYER_NORM_BACKWARD_INVERSE_DEVIATION].data, out[LAYER_NORM_BACKWARD_DWEIGHT].data,
                        out[LAYER_NORM_BACKWARD_DBIAS].data});
}

/* ---- fused with the addition before it ---- */

/* to = x + from m, or from m where x is NULL; m: the mask of dropout, 1 where the clock is NULL. A thread takes the four elements
 * of a sample whose random words are one block. `to` may be x or from. */
template <typename T>
__global__ void residual_kernel(const T *x, const T *from, T *to, const int64_t *clock, int64_t samples,
                                int64_t elements, uint64_t name_key, uint32_t threshold, float scale)
{
    const uint64_t a_sample = dropout_row_blocks(elements),
                   blocks = a_sample * static_cast<uint64_t>(samples);
    for (uint64_t block = static_cast<uint64_t>(grid_thread()); block < blocks;
         block += static_cast<uint64_t>(grid_threads())) {
        const uint64_t sample = block / a_sample, in_sample = block % a_sample;
        uint32_t word[DROPOUT_WORDS] = {};
        if (clock != nullptr) {
            const uint64_t key =
                philox_key(dropout_seed(static_cast<uint64_t>(clock[CLOCK_SEED]), name_key), RANDOM_DROPOUT);
            const uint64_t step = static_cast<uint64_t>(clock[CLOCK_STEP]);
            const uint64_t index =
                ((static_cast<uint64_t>(clock[CLOCK_FIRST_SAMPLE]) + sample) << DROPOUT_ROW_BITS) + in_sample;
            word[0] = static_cast<uint32_t>(index);
            word[1] = static_cast<uint32_t>(index >> 32);
            word[2] = static_cast<uint32_t>(step);
            word[3] = static_cast<uint32_t>(step >> 32);
            philox(static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32), word);
        }
        const int64_t element = static_cast<int64_t>(in_sample) * DROPOUT_WORDS;
        const int64_t at = static_cast<int64_t>(sample) * elements + element;
        for (int i = 0; i < DROPOUT_WORDS && element + i < elements; ++i) {
            float value = to_float(from[at + i]);
            if (clock != nullptr) value = word[i] >> 8 >= threshold ? value * scale : 0.0f;
            to[at + i] = from_float<T>(x != nullptr ? to_float(x[at + i]) + value : value);
        }
    }
}

template <typename T>
Status residual_launch(const Call *call, const void *x, const void *from, void *to, const Tensor &clock,
                       Shape shape)
{
    const auto *a = static_cast<const ResidualNormAttributes *>(call->attributes);
    const int64_t count = shape_count(shape), samples = shape.extent[0];
    const double probability = a->dropout.probability;
    return launch(
        call->node->op->name, residual_kernel<T>, blocks_for(count, THREADS * DROPOUT_WORDS), THREADS, 0,
        device_stream(call->device), static_cast<const T *>(x), static_cast<const T *>(from),
        static_cast<T *>(to), probability > 0 ? static_cast<const int64_t *>(clock.data) : nullptr, samples,
        count / samples, a->dropout.name_key, dropout_threshold(probability), dropout_scale(probability));
}

template <typename T> Status residual_typed(const Call *call)
{
    const Tensor &x = call->in[RESIDUAL_NORM_X];
    const int64_t rows = shape_rows(x.shape);
    void *sum = call->out[RESIDUAL_NORM_SUM].data;
    if (shape_count(x.shape) == 0) return OK;
    TRY(residual_launch<T>(call, x.data, call->in[RESIDUAL_NORM_MADE].data, sum,
                           call->in[RESIDUAL_NORM_CLOCK], x.shape));
    return launch("residual_norm", forward_kernel<T>, blocks_for(rows, THREADS / WARP), THREADS, 0,
                  device_stream(call->device), static_cast<const T *>(sum),
                  static_cast<T *>(call->out[RESIDUAL_NORM_Y].data), rows, shape_columns(x.shape),
                  static_cast<const float *>(call->in[RESIDUAL_NORM_WEIGHT].data),
                  static_cast<const float *>(call->in[RESIDUAL_NORM_BIAS].data),
                  static_cast<const ResidualNormAttributes *>(call->attributes)->epsilon,
                  static_cast<float *>(call->out[RESIDUAL_NORM_MEAN].data),
                  static_cast<float *>(call->out[RESIDUAL_NORM_INVERSE_DEVIATION].data));
}

Status residual_run(const Call *call)
{
    return call->in[RESIDUAL_NORM_X].shape.type == BFLOAT16 ? residual_typed<Bfloat16>(call)
                                                            : residual_typed<float>(call);
}

Status residual_backward_prepare(Call *call, size_t *scratch_bytes)
{
    const ColumnGrid grid = sum_grid(call->in[RESIDUAL_NORM_BACKWARD_SUM].shape);
    *scratch_bytes = column_sums_bytes(grid);
    return column_counters(call, grid);
}

Status residual_backward_run(const Call *call)
{
    const Tensor *in = call->in, *out = call->out;
    const Shape shape = in[RESIDUAL_NORM_BACKWARD_SUM].shape;
    void *dx = out[RESIDUAL_NORM_BACKWARD_DX].data;
    TRY(backward_of(call,
                    {&in[RESIDUAL_NORM_BACKWARD_DY], &in[RESIDUAL_NORM_BACKWARD_SUM],
                     in[RESIDUAL_NORM_BACKWARD_DSUM].data, dx, in[RESIDUAL_NORM_BACKWARD_WEIGHT].data,
                     in[RESIDUAL_NORM_BACKWARD_MEAN].data, in[RESIDUAL_NORM_BACKWARD_INVERSE_DEVIATION].data,
                     out[RESIDUAL_NORM_BACKWARD_DWEIGHT].data, out[RESIDUAL_NORM_BACKWARD_DBIAS].data}));
    if (static_cast<const ResidualNormAttributes *>(call->attributes)->dropout.probability == 0) return OK;
    void *dmade = out[RESIDUAL_NORM_BACKWARD_DMADE].data;
    const Tensor &clock = in[RESIDUAL_NORM_BACKWARD_CLOCK];
    return shape.type == BFLOAT16 ? residual_launch<Bfloat16>(call, nullptr, dx, dmade, clock, shape)
                                  : residual_launch<float>(call, nullptr, dx, dmade, clock, shape);
}

} // namespace

/* prepare, run, release, in_place, strided_in, strided_out, pack: as on the CPU. */
const Kernel layer_norm_cuda = {nullptr, forward_run, nullptr, 1U << LAYER_NORM_X, 0, 0, nullptr};
const Kernel layer_norm_backward_cuda = {backward_prepare,
                                         backward_run,
                                         release_column_counters,
                                         1U << LAYER_NORM_BACKWARD_DY | 1U << LAYER_NORM_BACKWARD_X,
                                         0,
                                         0,
                                         nullptr};
const Kernel residual_norm_cuda = {
    nullptr, residual_run, nullptr, 1U << RESIDUAL_NORM_X | 1U << RESIDUAL_NORM_MADE, 0, 0, nullptr};
const Kernel residual_norm_backward_cuda = {
    residual_backward_prepare,
    residual_backward_run,
    release_column_counters,
    1U << RESIDUAL_NORM_BACKWARD_DY | 1U << RESIDUAL_NORM_BACKWARD_DSUM | 1U << RESIDUAL_NORM_BACKWARD_SUM,
    0,
    0,
    nullptr};
