/* batch_norm on CUDA: one pass over x for the statistics, one for the result, both bound by memory.
 *
 * Statistics: a thread's rows are taken relative to their first, in float32, so that squares do not cancel
 * however large the mean is; threads, and then in double the blocks, are merged as Chan, Golub and LeVeque do
 * ("Updating Formulae and a Pairwise Algorithm for Computing Sample Variances", 1979). */
#include "engine/ops/columns_cuda.cuh"

extern "C" {
#include "engine/ops/batch_norm.h"
#include "engine/plan/collective.h"
}

namespace
{

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

/* Parts of the scratch memory. */
struct Scratch {
    double *total; /* [2C + 1], synchronised: sums of x and of x^2 over the rows, and their number */
    float *mean, *scale, *offset;    /* [C] each: y = (x - mean) * scale + offset */
    float *origin, *apart, *squares; /* [row blocks][C] each: a block's mean is origin + apart */
    size_t bytes;

    Scratch(void *memory, const ColumnGrid &grid, bool train)
    {
        const size_t columns = static_cast<size_t>(grid.columns);
        const size_t partial = train ? static_cast<size_t>(grid.row_blocks) * columns : 0;
        bytes = (2 * columns + 1) * sizeof(double) + 3 * (columns + partial) * sizeof(float);
        total = static_cast<double *>(memory);
        mean = reinterpret_cast<float *>(total + 2 * columns + 1);
        scale = mean + columns;
        offset = scale + columns;
        origin = offset + columns;
        apart = origin + partial;
        squares = apart + partial;
    }
};

/* What a channel's statistics lead to. */
struct Channel {
    const float *weight, *bias;
    float *running_mean, *running_var, *saved_mean, *saved_inverse;
    int64_t *batches;
    float *mean, *scale, *offset;
    double epsilon, momentum;

    __device__ void set(int c, double average, double variance) const
    {
        const double inverse = 1 / sqrt(variance + epsilon),
                     factor = static_cast<double>(weight[c]) * inverse;
        mean[c] = saved_mean[c] = static_cast<float>(average);
        scale[c] = static_cast<float>(factor);
        /* What rounding the mean to float32 lost is made good here. */
        offset[c] = static_cast<float>(static_cast<double>(bias[c]) -
                                       (average - static_cast<double>(static_cast<float>(average))) * factor);
        saved_inverse[c] = static_cast<float>(inverse);
    }
    /* squares: the sum of squared differences from `average` over `rows` rows. */
    __device__ void train(int c, double average, double squares, double rows) const
    {
        if (!(rows > 0)) return set(c, 0, 1);                                 /* nothing but padding */
        const double sound = squares > 0 || squares != squares ? squares : 0; /* NaN stays */
        running_mean[c] =
            static_cast<float>((1 - momentum) * static_cast<double>(running_mean[c]) + momentum * average);
        running_var[c] = static_cast<float>((1 - momentum) * static_cast<double>(running_var[c]) +
                                            momentum * sound / (rows > 1 ? rows - 1 : 1));
        if (c == 0) ++*batches;
        set(c, average, sound / rows);
    }
};

/* (count, mean, sum of squared differences) of two sets made one. */
__device__ inline void merge(float *count, float *mean, float *squares, float other_count, float other_mean,
                             float other_squares)
{
    const float all = *count + other_count;
    if (all == 0) return;
    const float apart = other_mean - *mean, share = other_count / all;
    *squares += other_squares + apart * apart * *count * share;
    *mean += apart * share;
    *count = all;
}

template <typename T, bool PACKED>
__global__ void __launch_bounds__(COLUMN_THREADS, 2)
    statistics_kernel(const T *x, int64_t stride, ColumnGrid grid, CountedRows counted_rows, Scratch scratch,
                      Channel channel, bool synchronize, unsigned int *done)
{
    constexpr int WARPS = COLUMN_THREADS / WARP;
    __shared__ float means[WARPS][COLUMN_TILE], squares_of[WARPS][COLUMN_TILE],
        counts[WARPS][COLUMN_TILE / COLUMNS_A_THREAD];
    const int present = grid.present();
    const T *from = x + grid.column();
    const int64_t counted = counted_rows.get();
    const int64_t first = grid.first_row() + grid.line(),
                  end = grid.end_row() < counted ? grid.end_row() : counted;
    float origin[COLUMNS_A_THREAD] = {}, pivot[COLUMNS_A_THREAD] = {}, sum[COLUMNS_A_THREAD] = {},
          square[COLUMNS_A_THREAD] = {};
    float count = 0;
    if (present > 0) load_columns<PACKED>(origin, from + grid.first_row() * stride, present);
    if (present > 0 && first < end) {
        load_columns<PACKED>(pivot, from + first * stride, present);
        for (int k = 0; k < COLUMNS_A_THREAD; ++k)
            pivot[k] -= origin[k];
        count = 1;
        constexpr int AT_ONCE = PACKED && sizeof(T) == 2 ? 4 : 1; /* else registers do not suffice */
        for (int64_t row = first + grid.lines(); row < end; row += AT_ONCE * grid.lines()) {
            float value[AT_ONCE][COLUMNS_A_THREAD];
            load_lines<PACKED>(value, from, stride, row, grid.lines(), end, present);
            for (int i = 0; i < AT_ONCE; ++i) {
                const bool there = row + i * grid.lines() < end;
                for (int k = 0; k < COLUMNS_A_THREAD; ++k) {
                    const float d = there ? (value[i][k] - origin[k]) - pivot[k] : 0;
                    sum[k] += d;
                    square[k] += d * d;
                }
                count += there ? 1 : 0;
            }
        }
    }
    for (int k = 0; k < COLUMNS_A_THREAD;
         ++k) { /* from here on: the mean less the origin, and squares about it */
        const float d = count > 0 ? sum[k] / count : 0;
        pivot[k] += d;
        square[k] -= d * sum[k];
    }
    for (int offset = grid.groups; offset < WARP; offset *= 2) {
        const float other_count = __shfl_xor_sync(0xffffffffu, count, offset);
        float all = count;
        for (int k = 0; k < COLUMNS_A_THREAD; ++k) {
            const float other_mean = __shfl_xor_sync(0xffffffffu, pivot[k], offset);
            const float other_square = __shfl_xor_sync(0xffffffffu, square[k], offset);
            all = count;
            merge(&all, &pivot[k], &square[k], other_count, other_mean, other_square);
        }
        count = all;
    }
    const int thread = static_cast<int>(threadIdx.x);
    if (thread % WARP < grid.groups) {
        counts[thread / WARP][grid.lane()] = count;
        for (int k = 0; k < COLUMNS_A_THREAD; ++k) {
            means[thread / WARP][grid.lane() * COLUMNS_A_THREAD + k] = pivot[k];
            squares_of[thread / WARP][grid.lane() * COLUMNS_A_THREAD + k] = square[k];
        }
    }
    __syncthreads();
    const int width = grid.groups * COLUMNS_A_THREAD, column = static_cast<int>(blockIdx.y) * width + thread;
    if (thread < width && column < grid.columns) {
        float all = 0, mean = 0, squares = 0;
        for (int warp = 0; warp < WARPS; ++warp)
            merge(&all, &mean, &squares, counts[warp][thread / COLUMNS_A_THREAD], means[warp][thread],
                  squares_of[warp][thread]);
        const int64_t place = static_cast<int64_t>(blockIdx.x) * grid.columns + column;
        scratch.origin[place] = to_float(x[grid.first_row() * stride + column]);
        scratch.apart[place] = mean;
        scratch.squares[place] = squares;
    }
    if (!is_last_block(done)) return;
    /* Means relative to that of block 0, so that their squares do not cancel. */
    const auto mean_of = [=](int block, int at) {
        const int64_t place = static_cast<int64_t>(block) * grid.columns + at;
        return static_cast<double>(scratch.origin[place]) + static_cast<double>(scratch.apart[place]);
    };
    combine_blocks(
        grid,
        [=](int block, int at, double pair[2]) {
            const int64_t left = counted - block * grid.rows_a_block;
            const double rows = static_cast<double>(left < 0                   ? 0
                                                    : left < grid.rows_a_block ? left
                                                                               : grid.rows_a_block);
            pair[0] = pair[1] = 0;
            if (rows == 0) return; /* nothing but padding, where anything may stand: NaN, too */
            const double apart = mean_of(block, at) - mean_of(0, at);
            pair[0] = rows * apart;
            pair[1] = static_cast<double>(scratch.squares[static_cast<int64_t>(block) * grid.columns + at]) +
                      rows * apart * apart;
        },
        [=](int at, double apart, double squares) {
            const double rows = static_cast<double>(counted), share = counted > 0 ? 1 / rows : 0;
            const double average = counted > 0 ? mean_of(0, at) + apart * share : 0;
            squares -= apart * apart * share;
            if (synchronize) {
                scratch.total[at] = rows * average;
                scratch.total[grid.columns + at] = squares + rows * average * average;
                if (at == 0) scratch.total[2 * grid.columns] = rows;
            } else {
                channel.train(at, average, squares, rows);
            }
        });
}

/* After the sums of all ranks came together. */
__global__ void synchronized_kernel(int columns, Scratch scratch, Channel channel)
{
    const int c = static_cast<int>(grid_thread());
    if (c >= columns) return;
    const double rows = scratch.total[2 * columns], average = scratch.total[c] / rows;
    channel.train(c, average, scratch.total[columns + c] - rows * average * average, rows);
}

__global__ void evaluation_kernel(int columns, Channel channel)
{
    const int c = static_cast<int>(grid_thread());
    if (c < columns)
        channel.set(c, static_cast<double>(channel.running_mean[c]),
                    static_cast<double>(channel.running_var[c]));
}

/* residual, mask: null if absent. */
template <typename T, bool PACKED>
__global__ void apply_kernel(ColumnGrid grid, const T *x, int64_t x_stride, const T *residual,
                             int64_t residual_stride, T *y, int64_t y_stride, uint8_t *mask,
                             int64_t mask_stride, const float *means, const float *scales,
                             const float *offsets, bool relu)
{
    const int column = grid.column(), present = grid.present();
    if (present == 0) return;
    float mean[COLUMNS_A_THREAD], scale[COLUMNS_A_THREAD], offset[COLUMNS_A_THREAD];
    load_columns<false>(mean, means + column, present);
    load_columns<false>(scale, scales + column, present);
    load_columns<false>(offset, offsets + column, present);
    constexpr int AT_ONCE = 2;
    const int64_t end = grid.end_row();
    for (int64_t first = grid.first_row() + grid.line(); first < end; first += AT_ONCE * grid.lines()) {
        float value[AT_ONCE][COLUMNS_A_THREAD], beside[AT_ONCE][COLUMNS_A_THREAD];
        load_lines<PACKED>(value, x + column, x_stride, first, grid.lines(), end, present);
        if (residual != nullptr)
            load_lines<PACKED>(beside, residual + column, residual_stride, first, grid.lines(), end, present);
        for (int i = 0; i < AT_ONCE; ++i) {
            const int64_t row = first + i * grid.lines();
            if (row >= end) break;
            for (int k = 0; k < COLUMNS_A_THREAD; ++k) {
                value[i][k] = (value[i][k] - mean[k]) * scale[k] + offset[k];
                if (residual != nullptr) value[i][k] += beside[i][k];
            }
            if (relu) {
                unsigned int passes = 0;
                for (int k = 0; k < COLUMNS_A_THREAD; ++k) {
                    const bool through = !(value[i][k] <= 0); /* NaN passes */
                    if (!through) value[i][k] = 0;
                    if (through && k < present) passes |= 1u << k;
                }
                if (mask != nullptr)
                    mask[row * mask_stride + column / COLUMNS_A_THREAD] = static_cast<uint8_t>(passes);
            }
            store_columns<PACKED>(y + row * y_stride + column, value[i], present);
        }
    }
}

/* ---- the kernel ---- */

constexpr int APPLY_THREADS = 256, APPLY_WAVES = 8;

const BatchNormAttributes *attributes_of(const Call *call)
{
    return static_cast<const BatchNormAttributes *>(call->attributes);
}

bool is_synchronized(const Call *call)
{
    return attributes_of(call)->synchronize && call->collective->size > 1;
}

Status prepare(Call *call, size_t *scratch_bytes)
{
    const ColumnGrid grid = sum_grid(call->in[BATCH_NORM_X].shape);
    *scratch_bytes = Scratch(nullptr, grid, attributes_of(call)->train).bytes;
    return column_counters(call, grid);
}

float *floats(const Tensor &tensor) { return static_cast<float *>(tensor.data); }

/* Sums in `total` over all ranks. */
Status sum_ranks(const Call *call, double *total, int columns)
{
    const Stream stream = device_stream(call->device);
    Span span = {};
    span.data = total;
    span.count = 2 * columns + 1;
    span.type = FLOAT64;
    TRY(call->collective->sum(call->collective, span, stream));
    return call->collective->join(call->collective, stream);
}

template <typename T, bool PACKED> Status run_typed(const Call *call)
{
    const BatchNormAttributes *a = attributes_of(call);
    const Tensor &x = call->in[BATCH_NORM_X], &residual = call->in[BATCH_NORM_RESIDUAL],
                 &y = call->out[BATCH_NORM_Y];
    const Tensor &mask = call->out[BATCH_NORM_MASK];
    const ColumnGrid grid = sum_grid(x.shape), apply = column_grid(x.shape, APPLY_THREADS, APPLY_WAVES);
    const Scratch scratch(call->scratch, grid, a->train);
    const Stream stream = device_stream(call->device);
    const Channel channel = {floats(call->in[BATCH_NORM_WEIGHT]),
                             floats(call->in[BATCH_NORM_BIAS]),
                             floats(call->in[BATCH_NORM_RUNNING_MEAN]),
                             floats(call->in[BATCH_NORM_RUNNING_VAR]),
                             floats(call->out[BATCH_NORM_MEAN]),
                             floats(call->out[BATCH_NORM_INVERSE_DEVIATION]),
                             static_cast<int64_t *>(call->in[BATCH_NORM_BATCHES_TRACKED].data),
                             scratch.mean,
                             scratch.scale,
                             scratch.offset,
                             a->epsilon,
                             a->momentum};
    const T *from = static_cast<const T *>(x.data);
    const unsigned int few = static_cast<unsigned int>((grid.columns + APPLY_THREADS - 1) / APPLY_THREADS);
    if (a->train)
        TRY(launch("batch_norm", statistics_kernel<T, PACKED>, grid.blocks(), COLUMN_THREADS, 0, stream, from,
                   x.stride, grid, CountedRows(x.shape, call->in[BATCH_NORM_CLOCK]), scratch, channel,
                   is_synchronized(call), static_cast<unsigned int *>(call->state)));
    if (a->train && is_synchronized(call)) {
        TRY(sum_ranks(call, scratch.total, grid.columns));
        TRY(launch("batch_norm", synchronized_kernel, few, APPLY_THREADS, 0, stream, grid.columns, scratch,
                   channel));
    }
    if (!a->train)
        TRY(launch("batch_norm", evaluation_kernel, few, APPLY_THREADS, 0, stream, grid.columns, channel));
    const bool with_mask = a->relu && residual.data != nullptr && call->wanted[BATCH_NORM_MASK];
    return launch("batch_norm", apply_kernel<T, PACKED>, apply.blocks(), APPLY_THREADS, 0, stream, apply,
                  from, x.stride, static_cast<const T *>(residual.data), residual.stride,
                  static_cast<T *>(y.data), y.stride,
                  with_mask ? static_cast<uint8_t *>(mask.data) : static_cast<uint8_t *>(nullptr),
                  shape_columns(mask.shape), scratch.mean, scratch.scale, scratch.offset, a->relu);
}

Status run(const Call *call)
{
    const Tensor &x = call->in[BATCH_NORM_X], &residual = call->in[BATCH_NORM_RESIDUAL];
    const bool packed = fits_pack(x, COLUMNS_A_THREAD) &&
                        fits_pack(call->out[BATCH_NORM_Y], COLUMNS_A_THREAD) &&
                        (residual.data == nullptr || fits_pack(residual, COLUMNS_A_THREAD));
    if (x.shape.type == BFLOAT16)
        return packed ? run_typed<Bfloat16, true>(call) : run_typed<Bfloat16, false>(call);
    return packed ? run_typed<float, true>(call) : run_typed<float, false>(call);
}

/* ---- backward ---- */

enum Gate { GATE_NONE, GATE_FROM_X, GATE_FROM_MASK };

/* What both passes read: the gradient that came through the ReLU, and x less its mean. The ReLU is worked out
 * from x as forward did, or read as bits where there was a residual; y is never read. */
template <typename T, bool PACKED, Gate GATE> struct Gradient {
    const T *dy, *x;
    int64_t dy_stride, x_stride;
    const uint8_t *mask;
    int64_t mask_stride;
    const float *mean, *weight, *inverse, *bias;
    CountedRows rows;

    struct Columns {
        const Gradient &g;
        int column, present;
        int64_t counted;
        float mean[COLUMNS_A_THREAD], scale[COLUMNS_A_THREAD], bias[COLUMNS_A_THREAD];

        __device__ Columns(const Gradient &gradient, int c, int there)
            : g(gradient), column(c), present(there), counted(gradient.rows.get())
        {
            for (int k = 0; k < COLUMNS_A_THREAD; ++k) {
                const bool here = k < present;
                mean[k] = here ? g.mean[column + k] : 0;
                scale[k] = here ? static_cast<float>(static_cast<double>(g.weight[column + k]) *
                                                     static_cast<double>(g.inverse[column + k]))
                                : 0;
                bias[k] = here && GATE == GATE_FROM_X ? g.bias[column + k] : 0;
            }
        }
        __device__ void read(int64_t row, float gradient[COLUMNS_A_THREAD],
                             float less[COLUMNS_A_THREAD]) const
        {
            load_columns<PACKED>(gradient, g.dy + row * g.dy_stride + column, present);
            load_columns<PACKED>(less, g.x + row * g.x_stride + column, present);
            unsigned int passes = 0xff;
            if (GATE == GATE_FROM_MASK) passes = g.mask[row * g.mask_stride + column / COLUMNS_A_THREAD];
            for (int k = 0; k < COLUMNS_A_THREAD; ++k) {
                less[k] -= mean[k];
                const bool through =
                    GATE == GATE_FROM_X ? !(less[k] * scale[k] + bias[k] <= 0) : (passes >> k & 1) != 0;
                if (GATE != GATE_NONE && !through) gradient[k] = 0;
            }
        }
        __device__ void add(int64_t row, float a[COLUMNS_A_THREAD], float b[COLUMNS_A_THREAD]) const
        {
            if (row >= counted) return;
            float gradient[COLUMNS_A_THREAD], less[COLUMNS_A_THREAD];
            read(row, gradient, less);
            for (int k = 0; k < COLUMNS_A_THREAD; ++k) {
                a[k] += gradient[k];
                b[k] += gradient[k] * less[k];
            }
        }
    };
};

/* dx = g * scale + (x - mean) * factor + constant */
struct BackwardChannel {
    const float *weight, *inverse;
    float *dweight, *dbias, *constant, *factor;
    double *total; /* synchronised: the sums; else null */
    CountedRows rows;
    bool train; /* false: no gradient goes through the statistics */
    int columns;

    __device__ void set(int c, double sum, double product, double all_rows) const
    {
        const double i = static_cast<double>(inverse[c]), scale = static_cast<double>(weight[c]) * i;
        constant[c] = all_rows > 0 ? static_cast<float>(-scale * sum / all_rows) : 0;
        factor[c] = all_rows > 0 ? static_cast<float>(-scale * i * i * product / all_rows) : 0;
    }
    __device__ void operator()(int c, double sum, double product) const
    {
        dbias[c] = static_cast<float>(sum);
        dweight[c] = static_cast<float>(product * static_cast<double>(inverse[c]));
        const double counted = train ? static_cast<double>(rows.get()) : 0;
        if (total != nullptr) {
            total[c] = sum;
            total[columns + c] = product;
            if (c == 0) total[2 * columns] = counted;
        } else {
            set(c, sum, product, counted);
        }
    }
};

__global__ void synchronized_backward_kernel(BackwardChannel channel)
{
    const int c = static_cast<int>(grid_thread());
    if (c < channel.columns)
        channel.set(c, channel.total[c], channel.total[channel.columns + c],
                    channel.total[2 * channel.columns]);
}

/* dx, dresidual, addend: null if not wanted or absent. */
template <typename T, bool PACKED, Gate GATE>
__global__ void backward_kernel(ColumnGrid grid, Gradient<T, PACKED, GATE> source, const float *constants,
                                const float *factors, const T *addend, int64_t addend_stride, T *dx,
                                int64_t dx_stride, T *dresidual, int64_t dresidual_stride)
{
    const int column = grid.column(), present = grid.present();
    if (present == 0) return;
    const typename Gradient<T, PACKED, GATE>::Columns columns(source, column, present);
    float constant[COLUMNS_A_THREAD], factor[COLUMNS_A_THREAD];
    load_columns<false>(constant, constants + column, present);
    load_columns<false>(factor, factors + column, present);
    UNROLL(2)
    for (int64_t row = grid.first_row() + grid.line(); row < grid.end_row(); row += grid.lines()) {
        float gradient[COLUMNS_A_THREAD], less[COLUMNS_A_THREAD];
        columns.read(row, gradient, less);
        const bool counts = row < columns.counted;
        for (int k = 0; k < COLUMNS_A_THREAD && !counts; ++k)
            gradient[k] = 0;
        if (dresidual != nullptr)
            store_columns<PACKED>(dresidual + row * dresidual_stride + column, gradient, present);
        if (dx == nullptr) continue;
        if (!counts) {
            store_columns<PACKED>(dx + row * dx_stride + column, gradient, present);
            continue;
        }
        for (int k = 0; k < COLUMNS_A_THREAD; ++k)
            gradient[k] = gradient[k] * columns.scale[k] + (less[k] * factor[k] + constant[k]);
        if (addend != nullptr) {
            float more[COLUMNS_A_THREAD];
            load_columns<PACKED>(more, addend + row * addend_stride + column, present);
            for (int k = 0; k < COLUMNS_A_THREAD; ++k)
                gradient[k] += more[k];
        }
        store_columns<PACKED>(dx + row * dx_stride + column, gradient, present);
    }
}

struct BackwardScratch {
    double *total;
    float *constant, *factor, *partial;
    size_t bytes;

    BackwardScratch(void *memory, const ColumnGrid &grid)
    {
        const size_t columns = static_cast<size_t>(grid.columns);
        bytes = (2 * columns + 1) * sizeof(double) + 2 * columns * sizeof(float) + column_sums_bytes(grid);
        total = static_cast<double *>(memory);
        constant = reinterpret_cast<float *>(total + 2 * columns + 1);
        factor = constant + columns;
        partial = factor + columns;
    }
};

Status backward_prepare(Call *call, size_t *scratch_bytes)
{
    const ColumnGrid grid = sum_grid(call->in[BATCH_NORM_BACKWARD_X].shape);
    *scratch_bytes = BackwardScratch(nullptr, grid).bytes;
    return column_counters(call, grid);
}

template <typename T, bool PACKED, Gate GATE> Status backward_typed(const Call *call)
{
    const BatchNormAttributes *a = attributes_of(call);
    const Tensor &x = call->in[BATCH_NORM_BACKWARD_X], &dy = call->in[BATCH_NORM_BACKWARD_DY];
    const Tensor &mask = call->in[BATCH_NORM_BACKWARD_MASK], &addend = call->in[BATCH_NORM_BACKWARD_ADDEND];
    const Tensor &dx = call->out[BATCH_NORM_BACKWARD_DX],
                 &dresidual = call->out[BATCH_NORM_BACKWARD_DRESIDUAL];
    const ColumnGrid grid = sum_grid(x.shape), apply = column_grid(x.shape, APPLY_THREADS, APPLY_WAVES);
    const BackwardScratch scratch(call->scratch, grid);
    const Stream stream = device_stream(call->device);
    const CountedRows rows(x.shape, call->in[BATCH_NORM_BACKWARD_CLOCK]);
    const Gradient<T, PACKED, GATE> source = {static_cast<const T *>(dy.data),
                                              static_cast<const T *>(x.data),
                                              dy.stride,
                                              x.stride,
                                              static_cast<const uint8_t *>(mask.data),
                                              mask.data != nullptr ? shape_columns(mask.shape) : 0,
                                              floats(call->in[BATCH_NORM_BACKWARD_MEAN]),
                                              floats(call->in[BATCH_NORM_BACKWARD_WEIGHT]),
                                              floats(call->in[BATCH_NORM_BACKWARD_INVERSE_DEVIATION]),
                                              floats(call->in[BATCH_NORM_BACKWARD_BIAS]),
                                              rows};
    const bool synchronized = a->train && is_synchronized(call);
    const BackwardChannel channel = {source.weight,
                                     source.inverse,
                                     floats(call->out[BATCH_NORM_BACKWARD_DWEIGHT]),
                                     floats(call->out[BATCH_NORM_BACKWARD_DBIAS]),
                                     scratch.constant,
                                     scratch.factor,
                                     synchronized ? scratch.total : nullptr,
                                     rows,
                                     a->train,
                                     grid.columns};
    TRY(launch("batch_norm_backward", column_sums_kernel<Gradient<T, PACKED, GATE>, BackwardChannel>,
               grid.blocks(), COLUMN_THREADS, 0, stream, source, channel, grid, scratch.partial,
               static_cast<unsigned int *>(call->state)));
    if (synchronized) {
        /* Every rank must take part in the exchange, whatever it wants itself. */
        TRY(sum_ranks(call, scratch.total, grid.columns));
        TRY(launch("batch_norm_backward", synchronized_backward_kernel,
                   static_cast<unsigned int>((grid.columns + APPLY_THREADS - 1) / APPLY_THREADS),
                   APPLY_THREADS, 0, stream, channel));
    }
    T *to = call->wanted[BATCH_NORM_BACKWARD_DX] ? static_cast<T *>(dx.data) : nullptr;
    T *beside = GATE == GATE_FROM_MASK && call->wanted[BATCH_NORM_BACKWARD_DRESIDUAL]
                    ? static_cast<T *>(dresidual.data)
                    : nullptr;
    if (to == nullptr && beside == nullptr) return OK;
    return launch("batch_norm_backward", backward_kernel<T, PACKED, GATE>, apply.blocks(), APPLY_THREADS, 0,
                  stream, apply, source, scratch.constant, scratch.factor,
                  static_cast<const T *>(addend.data), addend.stride, to, dx.stride, beside,
                  dresidual.stride);
}

template <typename T, bool PACKED> Status backward_gated(const Call *call)
{
    if (!attributes_of(call)->relu) return backward_typed<T, PACKED, GATE_NONE>(call);
    return call->in[BATCH_NORM_BACKWARD_MASK].data != nullptr
               ? backward_typed<T, PACKED, GATE_FROM_MASK>(call)
               : backward_typed<T, PACKED, GATE_FROM_X>(call);
}

Status backward_run(const Call *call)
{
    const auto fits = [](const Tensor &tensor) {
        return tensor.data == nullptr || fits_pack(tensor, COLUMNS_A_THREAD);
    };
    const bool masked = call->in[BATCH_NORM_BACKWARD_MASK].data != nullptr;
    const bool packed = fits(call->in[BATCH_NORM_BACKWARD_DY]) && fits(call->in[BATCH_NORM_BACKWARD_X]) &&
                        fits(call->in[BATCH_NORM_BACKWARD_ADDEND]) &&
                        (!call->wanted[BATCH_NORM_BACKWARD_DX] || fits(call->out[BATCH_NORM_BACKWARD_DX])) &&
                        (!masked || !call->wanted[BATCH_NORM_BACKWARD_DRESIDUAL] ||
                         fits(call->out[BATCH_NORM_BACKWARD_DRESIDUAL]));
    if (call->in[BATCH_NORM_BACKWARD_X].shape.type == BFLOAT16)
        return packed ? backward_gated<Bfloat16, true>(call) : backward_gated<Bfloat16, false>(call);
    return packed ? backward_gated<float, true>(call) : backward_gated<float, false>(call);
}

} // namespace

/* prepare, run, release, in_place, strided_in, strided_out: as on the CPU. */
const Kernel batch_norm_cuda = {prepare,
                                run,
                                release_column_counters,
                                1U << BATCH_NORM_X | 1U << BATCH_NORM_RESIDUAL,
                                1U << BATCH_NORM_X | 1U << BATCH_NORM_RESIDUAL,
                                1U << BATCH_NORM_Y};
const Kernel batch_norm_backward_cuda = {
    backward_prepare,
    backward_run,
    release_column_counters,
    1U << BATCH_NORM_BACKWARD_DY | 1U << BATCH_NORM_BACKWARD_ADDEND | 1U << BATCH_NORM_BACKWARD_X,
    1U << BATCH_NORM_BACKWARD_DY | 1U << BATCH_NORM_BACKWARD_X | 1U << BATCH_NORM_BACKWARD_ADDEND,
    1U << BATCH_NORM_BACKWARD_DX | 1U << BATCH_NORM_BACKWARD_DRESIDUAL};
