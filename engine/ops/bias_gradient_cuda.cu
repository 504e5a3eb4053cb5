/* The gradient of a bias on CUDA: sums over rows. */
#include "engine/ops/columns_cuda.cuh"

extern "C" {
#include "engine/ops/linear.h"
}

namespace
{

template <typename T, bool PACKED> struct Rows {
    const T *data;
    int64_t stride;

    enum { AT_ONCE = PACKED && sizeof(T) == 2 ? 4 : 2 };

    struct Columns {
        const T *data;
        int64_t stride;
        int present;
        __device__ Columns(const Rows &rows, const ColumnGrid &grid)
            : data(rows.data + grid.column()), stride(rows.stride), present(grid.present())
        {
        }
        __device__ int64_t end(int64_t row) const { return row; }
        __device__ void prepare(const ColumnGrid &) const {}
        __device__ auto read(int64_t row) const { return read_columns<PACKED>(data + row * stride, present); }
        __device__ void add(const Eight<T> &row, bool there, int, float a[COLUMNS_A_THREAD], float *) const
        {
            for (int k = 0; k < COLUMNS_A_THREAD; ++k)
                a[k] += there ? to_float(row.element(k)) : 0;
        }
    };
};

struct Finish {
    float *d_bias;
    __device__ void operator()(int column, double sum, double) const
    {
        d_bias[column] = static_cast<float>(sum);
    }
};

Status prepare(Call *call, size_t *scratch_bytes)
{
    const ColumnGrid grid = sum_grid(call->in[0].shape);
    *scratch_bytes = column_sums_bytes(grid);
    return column_counters(call, grid);
}

template <typename T, bool PACKED> Status run_typed(const Call *call)
{
    const Tensor &d_y = call->in[0];
    const ColumnGrid grid = sum_grid(d_y.shape);
    const Rows<T, PACKED> rows = {static_cast<const T *>(d_y.data), d_y.stride};
    const Finish finish = {static_cast<float *>(call->out[0].data)};
    return launch("bias_gradient", column_sums_kernel<Rows<T, PACKED>, Finish>, grid.blocks(), COLUMN_THREADS,
                  0, device_stream(call->device), rows, finish, grid, static_cast<float *>(call->scratch),
                  static_cast<unsigned int *>(call->state));
}

Status run(const Call *call)
{
    const bool packed = fits_pack(call->in[0], COLUMNS_A_THREAD);
    if (call->in[0].shape.type == BFLOAT16)
        return packed ? run_typed<Bfloat16, true>(call) : run_typed<Bfloat16, false>(call);
    return packed ? run_typed<float, true>(call) : run_typed<float, false>(call);
}

} // namespace

/* prepare, run, release, in_place, strided_in, strided_out, pack: as on the CPU. */
const Kernel bias_gradient_cuda = {prepare, run, release_column_counters, 0, 1, 0, nullptr};
