/* batch_norm on CUDA: one pass over x for the statistics, one for the result, both bound by memory.
 *
 * Statistics: a thread's rows are taken relative to their first, in float32, so that squares do not cancel
 * however large the mean is; threads, and then in double the blocks, are merged as Chan, Golub and LeVeque do
 * ("Updating Formulae and a Pairwise Algorithm for Computing Sample Variances", 1979). */
#include "engine/ops/batch_norm_cuda.cuh"

namespace
{

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
    float pivot[COLUMNS_A_THREAD] = {}, sum[COLUMNS_A_THREAD] = {}, square[COLUMNS_A_THREAD] = {};
    const auto read = [&](int64_t row) { return read_columns<PACKED>(from + row * stride, present); };
    /* A thread's rows are taken relative to their first, and that to the block's: its origin. */
    __shared__ ColumnConstants<1> origins;
    Eight<T> own = {};
    const bool some = present > 0 && first < end;
    float count = some ? static_cast<float>(static_cast<int>(end - 1 - first) / grid.lines() + 1) : 0;
    if (some) own = read(first);
    constexpr int AT_ONCE = PACKED && sizeof(T) == 2 ? 4 : 1; /* else registers do not suffice */
    each_row<AT_ONCE>(
        grid, first + grid.lines(), present > 0 ? end : 0, read,
        [&] {
            origins.fill(grid, [=](int c, float origin[1]) {
                origin[0] = to_float(x[grid.first_row() * stride + c]);
            });
            for (int half = 0; half < 2 && some; ++half) {
                float origin[4];
                origins.get(0, half, grid.lane(), origin);
                for (int i = 0; i < 4; ++i)
                    pivot[4 * half + i] = to_float(own.element(4 * half + i)) - origin[i];
            }
        },
        [&](int64_t, const auto &row, bool there, int lane) {
            for (int half = 0; half < 2; ++half) {
                float origin[4];
                origins.get(0, half, lane, origin);
                for (int i = 0; i < 4; ++i) {
                    const int k = 4 * half + i;
                    const float d = there ? (to_float(row.element(k)) - origin[i]) - pivot[k] : 0;
                    sum[k] += d;
                    square[k] += d * d;
                }
            }
        });
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
        scratch.origin[place] = origins.one(0, thread);
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

/* residual: there is one. mask: null if not wanted. */
template <typename T, bool PACKED, bool RESIDUAL>
__global__ void __launch_bounds__(APPLY_THREADS, APPLY_BLOCKS)
    apply_kernel(ColumnGrid grid, const T *x, int64_t x_stride, const T *residual, int64_t residual_stride,
                 T *y, int64_t y_stride, uint8_t *mask, int64_t mask_stride, const float *means,
                 const float *scales, const float *offsets, bool relu)
{
    enum { MEAN, SCALE, OFFSET, CONSTANTS };
    __shared__ ColumnConstants<CONSTANTS> shared;
    const int column = grid.column(), present = grid.present();
    const float least = relu ? 0 : -INFINITY;
    struct Row {
        Eight<T> x, residual;
    };
    constexpr int AT_ONCE = PACKED ? (RESIDUAL ? 4 : 8) / sizeof(T) : 1;
    each_row<AT_ONCE>(
        grid, grid.first_row() + grid.line(), present > 0 ? grid.end_row() : 0,
        [=](int64_t row) {
            Row r = {};
            r.x = read_columns<PACKED>(x + row * x_stride + column, present);
            if constexpr (RESIDUAL)
                r.residual = read_columns<PACKED>(residual + row * residual_stride + column, present);
            return r;
        },
        [&] {
            shared.fill(grid, [=](int c, float constant[CONSTANTS]) {
                constant[MEAN] = means[c];
                constant[SCALE] = scales[c];
                constant[OFFSET] = offsets[c];
            });
        },
        [&](int64_t row, const Row &r, bool there, int lane) {
            if (!there) return;
            Eight<T> result = {};
            unsigned int passes = 0;
            for (int half = 0; half < 2; ++half) {
                float mean[4], scale[4], offset[4];
                shared.get(MEAN, half, lane, mean);
                shared.get(SCALE, half, lane, scale);
                shared.get(OFFSET, half, lane, offset);
                for (int i = 0; i < 4; ++i) {
                    const int k = 4 * half + i;
                    float value = (to_float(r.x.element(k)) - mean[i]) * scale[i] + offset[i];
                    if constexpr (RESIDUAL) value += to_float(r.residual.element(k));
                    const bool through = !(value <= least); /* NaN passes */
                    result.set(k, from_float<T>(through ? value : least));
                    if (through && k < present) passes |= 1u << k;
                }
            }
            if (RESIDUAL && mask != nullptr)
                mask[row * mask_stride + column / COLUMNS_A_THREAD] = static_cast<uint8_t>(passes);
            write_columns<PACKED>(y + row * y_stride + column, result, present);
        });
}

/* ---- the kernel ---- */

Status prepare(Call *call, size_t *scratch_bytes)
{
    const ColumnGrid grid = sum_grid(call->in[BATCH_NORM_X].shape);
    *scratch_bytes = Scratch(nullptr, grid, attributes_of(call)->train).bytes;
    return column_counters(call, grid);
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
    return launch("batch_norm",
                  residual.data != nullptr ? apply_kernel<T, PACKED, true> : apply_kernel<T, PACKED, false>,
                  apply.blocks(), APPLY_THREADS, 0, stream, apply, from, x.stride,
                  static_cast<const T *>(residual.data), residual.stride, static_cast<T *>(y.data), y.stride,
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

} // namespace

/* prepare, run, release, in_place, strided_in, strided_out, pack: as on the CPU. */
const Kernel batch_norm_cuda = {prepare,
                                run,
                                release_column_counters,
                                1U << BATCH_NORM_X | 1U << BATCH_NORM_RESIDUAL,
                                1U << BATCH_NORM_X | 1U << BATCH_NORM_RESIDUAL,
                                1U << BATCH_NORM_Y,
                                nullptr};
