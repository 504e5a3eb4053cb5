/* softmax and log_softmax on CUDA: a warp takes a row, which stays in the cache. */
#include "engine/ops/op_cuda.cuh"

extern "C" {
#include "engine/ops/softmax.h"
}

namespace
{

constexpr int THREADS = 256;
enum Kind { FORWARD, LOG_FORWARD, BACKWARD, LOG_BACKWARD };

/* What equals the maximum is counted, the rest summed apart, so that the logarithm is accurate also when the
 * rest is tiny beside 1. NaN is passed over by the maximum and comes back with the exponentials. */
template <typename T, bool LOG> __device__ void forward_row(const T *x, T *y, int64_t columns)
{
    const int lane = static_cast<int>(threadIdx.x) % WARP;
    float maximum = __uint_as_float(0xff800000u), equal = 0, rest = 0; /* minus infinity */
    for (int64_t c = lane; c < columns; c += WARP) {
        const float value = to_float(x[c]);
        maximum = value > maximum ? value : maximum;
    }
    maximum = warp_max(maximum);
    for (int64_t c = lane; c < columns; c += WARP) {
        const float value = to_float(x[c]);
        if (value == maximum)
            equal += 1;
        else
            rest += expf(value - maximum);
    }
    const double sum = static_cast<double>(warp_sum(equal)), others = static_cast<double>(warp_sum(rest));
    const float share = static_cast<float>(1 / (sum + others)),
                logarithm = static_cast<float>(log1p(sum - 1 + others));
    for (int64_t c = lane; c < columns; c += WARP) {
        const float less = to_float(x[c]) - maximum;
        y[c] = from_float<T>(LOG ? less - logarithm : expf(less) * share);
    }
}

/* d_x = y (d_y - sum d_y y); of the logarithm d_x = d_y - e^y sum d_y */
template <typename T, bool LOG> __device__ void backward_row(const T *dy, const T *y, T *dx, int64_t columns)
{
    const int lane = static_cast<int>(threadIdx.x) % WARP;
    float sum = 0;
    for (int64_t c = lane; c < columns; c += WARP)
        sum += LOG ? to_float(dy[c]) : to_float(dy[c]) * to_float(y[c]);
    sum = warp_sum(sum);
    for (int64_t c = lane; c < columns; c += WARP) {
        const float gradient = to_float(dy[c]), value = to_float(y[c]);
        dx[c] = from_float<T>(LOG ? gradient - expf(value) * sum : value * (gradient - sum));
    }
}

template <typename T, Kind KIND>
__global__ void rows_kernel(const T *a, const T *b, T *out, int64_t rows, int64_t columns)
{
    for (int64_t row = grid_thread() / WARP; row < rows; row += grid_threads() / WARP) {
        const int64_t at = row * columns;
        if (KIND == FORWARD || KIND == LOG_FORWARD)
            forward_row<T, KIND == LOG_FORWARD>(a + at, out + at, columns);
        else
            backward_row<T, KIND == LOG_BACKWARD>(a + at, b + at, out + at, columns);
    }
}

template <typename T, Kind KIND> Status run_typed(const Call *call)
{
    const Shape shape = call->out[0].shape;
    const int64_t rows = shape_rows(shape);
    if (shape_count(shape) == 0) return OK;
    return launch(call->node->op->name, rows_kernel<T, KIND>, blocks_for(rows, THREADS / WARP), THREADS, 0,
                  device_stream(call->device), static_cast<const T *>(call->in[0].data),
                  static_cast<const T *>(call->in[1].data), static_cast<T *>(call->out[0].data), rows,
                  shape_columns(shape));
}

template <Kind KIND> Status run(const Call *call)
{
    return call->out[0].shape.type == BFLOAT16 ? run_typed<Bfloat16, KIND>(call)
                                               : run_typed<float, KIND>(call);
}

} // namespace

/* prepare, run, release, in_place, strided_in, strided_out, pack: as on the CPU. */
const Kernel softmax_cuda = {nullptr, run<FORWARD>, nullptr, 1, 0, 0, nullptr};
const Kernel log_softmax_cuda = {nullptr, run<LOG_FORWARD>, nullptr, 1, 0, 0, nullptr};
const Kernel softmax_backward_cuda = {nullptr, run<BACKWARD>, nullptr, 3, 0, 0, nullptr};
const Kernel log_softmax_backward_cuda = {nullptr, run<LOG_BACKWARD>, nullptr, 3, 0, 0, nullptr};
