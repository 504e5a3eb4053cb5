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
const Kernel batch_norm_backward_cuda = {
    backward_prepare,
    backward_run,
    release_column_counters,
    1U << BATCH_NORM_BACKWARD_DY | 1U << BATCH_NORM_BACKWARD_ADDEND | 1U << BATCH_NORM_BACKWARD_X,
    1U << BATCH_NORM_BACKWARD_DY | 1U << BATCH_NORM_BACKWARD_X | 1U << BATCH_NORM_BACKWARD_ADDEND,
    1U << BATCH_NORM_BACKWARD_DX | 1U << BATCH_NORM_BACKWARD_DRESIDUAL};
