/* batch_norm's backward on CUDA: one pass over dy and x for the sums, one for the gradients, both bound by
 * memory. */
#include "engine/ops/batch_norm_cuda.cuh"

namespace
{

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

    /* What both passes need of a channel. */
    enum { MEAN, SCALE, BIAS, CONSTANTS };
    __device__ void get_constants(int c, float constant[CONSTANTS]) const
    {
        constant[MEAN] = mean[c];
        constant[SCALE] =
            static_cast<float>(static_cast<double>(weight[c]) * static_cast<double>(inverse[c]));
        constant[BIAS] = GATE == GATE_FROM_X ? bias[c] : 0;
    }

    /* A row as it lies in memory. */
    struct Row {
        Eight<T> dy, x;
        uint8_t passes;
    };
    __device__ Row read(int64_t row, int column, int present) const
    {
        Row r;
        r.dy = read_columns<PACKED>(dy + row * dy_stride + column, present);
        r.x = read_columns<PACKED>(x + row * x_stride + column, present);
        r.passes = 0xff;
        if (GATE == GATE_FROM_MASK) r.passes = mask[row * mask_stride + column / COLUMNS_A_THREAD];
        return r;
    }

    /* Of columns 4 * half and the three after it. Gradients are 0 in a row that does not count. */
    template <typename Constants>
    __device__ static void open(const Row &row, bool counts, int half, int lane, const Constants &constants,
                                float gradient[4], float less[4])
    {
        float means[4], scales[4] = {}, biases[4] = {};
        constants.get(MEAN, half, lane, means);
        if (GATE == GATE_FROM_X) {
            constants.get(SCALE, half, lane, scales);
            constants.get(BIAS, half, lane, biases);
        }
        for (int i = 0; i < 4; ++i) {
            const int k = 4 * half + i;
            less[i] = to_float(row.x.element(k)) - means[i];
            const bool through =
                GATE == GATE_FROM_X ? !(less[i] * scales[i] + biases[i] <= 0) : (row.passes >> k & 1) != 0;
            gradient[i] = counts && (GATE == GATE_NONE || through) ? to_float(row.dy.element(k)) : 0;
        }
    }

    /* For column_sums_kernel. Registers suffice for no more. */
    enum { AT_ONCE = PACKED && sizeof(T) == 2 ? 2 : 1 };
    struct Columns {
        const Gradient &g;
        int column, present;

        __device__ Columns(const Gradient &gradient, const ColumnGrid &grid)
            : g(gradient), column(grid.column()), present(grid.present())
        {
        }
        __device__ static ColumnConstants<CONSTANTS> &constants()
        {
            __shared__ ColumnConstants<CONSTANTS> shared;
            return shared;
        }
        __device__ void prepare(const ColumnGrid &grid) const
        {
            constants().fill(grid, [&](int c, float constant[CONSTANTS]) { g.get_constants(c, constant); });
        }
        __device__ int64_t end(int64_t row) const
        {
            const int64_t counted = g.rows.get();
            return row < counted ? row : counted;
        }
        __device__ Row read(int64_t row) const { return g.read(row, column, present); }
        __device__ void add(const Row &row, bool there, int lane, float a[COLUMNS_A_THREAD],
                            float b[COLUMNS_A_THREAD]) const
        {
            for (int half = 0; half < 2; ++half) {
                float gradient[4], less[4];
                open(row, there, half, lane, constants(), gradient, less);
                for (int i = 0; i < 4; ++i) {
                    a[4 * half + i] += gradient[i];
                    b[4 * half + i] += gradient[i] * less[i];
                }
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

/* dx, dresidual: null if not wanted. */
template <typename T, bool PACKED, Gate GATE, bool ADDEND>
__global__ void __launch_bounds__(APPLY_THREADS, APPLY_BLOCKS)
    backward_kernel(ColumnGrid grid, Gradient<T, PACKED, GATE> source, const float *constants,
                    const float *factors, const T *addend, int64_t addend_stride, T *dx, int64_t dx_stride,
                    T *dresidual, int64_t dresidual_stride)
{
    using Source = Gradient<T, PACKED, GATE>;
    enum { FACTOR = Source::CONSTANTS, CONSTANT, CONSTANTS };
    __shared__ ColumnConstants<CONSTANTS> shared;
    const int column = grid.column(), present = grid.present();
    const int64_t counted = source.rows.get();
    struct Row {
        typename Source::Row of;
        Eight<T> addend;
    };
    constexpr int AT_ONCE = PACKED && sizeof(T) == 2 ? 2 : 1;
    each_row<AT_ONCE>(
        grid, grid.first_row() + grid.line(), present > 0 ? grid.end_row() : 0,
        [&](int64_t row) {
            Row r = {};
            r.of = source.read(row, column, present);
            if constexpr (ADDEND)
                r.addend = read_columns<PACKED>(addend + row * addend_stride + column, present);
            return r;
        },
        [&] {
            shared.fill(grid, [&](int c, float constant[CONSTANTS]) {
                source.get_constants(c, constant);
                constant[FACTOR] = factors[c];
                constant[CONSTANT] = constants[c];
            });
        },
        [&](int64_t row, const Row &r, bool there, int lane) {
            if (!there) return;
            const bool counts = row < counted;
            Eight<T> through = {}, result = {};
            for (int half = 0; half < 2; ++half) {
                float gradient[4], less[4], scale[4], factor[4], constant[4];
                Source::open(r.of, counts, half, lane, shared, gradient, less);
                shared.get(Source::SCALE, half, lane, scale);
                shared.get(FACTOR, half, lane, factor);
                shared.get(CONSTANT, half, lane, constant);
                for (int i = 0; i < 4; ++i) {
                    const int k = 4 * half + i;
                    float value = gradient[i] * scale[i] + (less[i] * factor[i] + constant[i]);
                    if constexpr (ADDEND) value += to_float(r.addend.element(k));
                    through.set(k, from_float<T>(gradient[i]));
                    result.set(k, from_float<T>(counts ? value : 0));
                }
            }
            if (GATE == GATE_FROM_MASK && dresidual != nullptr)
                write_columns<PACKED>(dresidual + row * dresidual_stride + column, through, present);
            if (dx != nullptr) write_columns<PACKED>(dx + row * dx_stride + column, result, present);
        });
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
    return launch("batch_norm_backward",
                  addend.data != nullptr ? backward_kernel<T, PACKED, GATE, true>
                                         : backward_kernel<T, PACKED, GATE, false>,
                  apply.blocks(), APPLY_THREADS, 0, stream, apply, source, scratch.constant, scratch.factor,
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

/* prepare, run, release, in_place, strided_in, strided_out, pack: as on the CPU. */
const Kernel batch_norm_backward_cuda = {
    backward_prepare,
    backward_run,
    release_column_counters,
    1U << BATCH_NORM_BACKWARD_DY | 1U << BATCH_NORM_BACKWARD_ADDEND | 1U << BATCH_NORM_BACKWARD_X,
    1U << BATCH_NORM_BACKWARD_DY | 1U << BATCH_NORM_BACKWARD_X | 1U << BATCH_NORM_BACKWARD_ADDEND,
    1U << BATCH_NORM_BACKWARD_DX | 1U << BATCH_NORM_BACKWARD_DRESIDUAL,
    nullptr};
