/* ReLU, addition and cast on CUDA: one pass over memory, rows with or without gaps, 16 bytes a thread at a
 * time where everything is aligned to them. */
#include "engine/ops/op_cuda.cuh"

extern "C" {
#include "engine/ops/elementwise.h"
}

namespace
{

constexpr int THREADS = 256;

struct Relu {
    __device__ static float apply(float x, float) { return !(x <= 0) ? x : 0; } /* NaN passes */
};
struct ReluBackward {
    __device__ static float apply(float d_y, float y) { return !(y <= 0) ? d_y : 0; }
};
struct Add {
    __device__ static float apply(float a, float b) { return a + b; }
};
struct Identity {
    __device__ static float apply(float x, float) { return x; }
};

/* Rows of `packs` packs of N elements; strides in elements. An op of one input reads only `a`. */
template <typename Function, bool BINARY, typename From, typename To, int N>
__global__ void elementwise_kernel(const From *a, const From *b, To *y, int64_t rows, int64_t packs,
                                   int64_t a_stride, int64_t b_stride, int64_t y_stride)
{
    const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < rows * packs;
         i += step) {
        const int64_t row = rows == 1 ? 0 : i / packs, column = (i - row * packs) * N;
        const Pack<From, N> left = *reinterpret_cast<const Pack<From, N> *>(a + row * a_stride + column);
        Pack<From, N> right = left;
        if (BINARY) right = *reinterpret_cast<const Pack<From, N> *>(b + row * b_stride + column);
        Pack<To, N> result;
        for (int k = 0; k < N; ++k)
            result.element[k] =
                from_float<To>(Function::apply(to_float(left.element[k]), to_float(right.element[k])));
        *reinterpret_cast<Pack<To, N> *>(y + row * y_stride + column) = result;
    }
}

bool is_dense(const Tensor &tensor)
{
    return tensor.stride == shape_columns(tensor.shape) || shape_rows(tensor.shape) <= 1;
}

/* Can every row be cut into packs of `elements` that are aligned to their own size? */
bool is_aligned(const Tensor &tensor, int64_t columns, int64_t stride, int64_t elements)
{
    const uint64_t bytes = static_cast<uint64_t>(elements) * dtype_size(tensor.shape.type);
    return columns % elements == 0 && stride % elements == 0 &&
           reinterpret_cast<uintptr_t>(tensor.data) % bytes == 0;
}

template <typename Function, bool BINARY, typename From, typename To>
Status run_typed(const Call *call, const char *name)
{
    const Tensor &a = call->in[0], &b = call->in[BINARY ? 1 : 0], &y = call->out[0];
    int64_t rows = shape_rows(y.shape), columns = shape_columns(y.shape);
    int64_t a_stride = a.stride, b_stride = b.stride, y_stride = y.stride;
    if (rows * columns == 0) return OK;
    if (is_dense(a) && is_dense(b) && is_dense(y)) { /* one long row */
        columns *= rows;
        rows = 1;
        a_stride = b_stride = y_stride = columns;
    }
    const From *from_a = static_cast<const From *>(a.data), *from_b = static_cast<const From *>(b.data);
    To *to = static_cast<To *>(y.data);
    constexpr int64_t MOST = 16 / (sizeof(From) > sizeof(To) ? sizeof(From) : sizeof(To));
    /* One long row that does not part evenly is gone through by single elements: tensors of a network do
     * part. */
    if (is_aligned(a, columns, a_stride, MOST) && is_aligned(b, columns, b_stride, MOST) &&
        is_aligned(y, columns, y_stride, MOST)) {
        const int64_t packs = columns / MOST;
        return launch(name, elementwise_kernel<Function, BINARY, From, To, MOST>,
                      blocks_for(rows * packs, THREADS), THREADS, 0, device_stream(call->device), from_a,
                      from_b, to, rows, packs, a_stride, b_stride, y_stride);
    }
    return launch(name, elementwise_kernel<Function, BINARY, From, To, 1>,
                  blocks_for(rows * columns, THREADS), THREADS, 0, device_stream(call->device), from_a,
                  from_b, to, rows, columns, a_stride, b_stride, y_stride);
}

template <typename Function, bool BINARY> Status run(const Call *call)
{
    const char *name = call->node->op->name;
    return call->out[0].shape.type == BFLOAT16 ? run_typed<Function, BINARY, Bfloat16, Bfloat16>(call, name)
                                               : run_typed<Function, BINARY, float, float>(call, name);
}

/* Of an op, or of no node: gradients are converted before they travel. */
Status run_cast(const Call *call)
{
    return call->out[0].shape.type == BFLOAT16 ? run_typed<Identity, false, float, Bfloat16>(call, "cast")
                                               : run_typed<Identity, false, Bfloat16, float>(call, "cast");
}

template <typename From, typename To> __global__ void convert_kernel(const From *from, To *to, int64_t count)
{
    for (int64_t i = grid_thread(); i < count; i += grid_threads())
        to[i] = from_float<To>(to_float(from[i]));
}

template <typename From, typename To> Status convert(Device *device, const From *from, To *to, int64_t count)
{
    if (count == 0) return OK;
    constexpr int N = 4;
    const uintptr_t both = reinterpret_cast<uintptr_t>(from) | reinterpret_cast<uintptr_t>(to);
    if (count % N == 0 && both % (N * sizeof(float)) == 0)
        return launch("a conversion", elementwise_kernel<Identity, false, From, To, N>,
                      blocks_for(count / N, THREADS), THREADS, 0, device_stream(device), from, from, to, 1,
                      count / N, count, count, count);
    return launch("a conversion", convert_kernel<From, To>, blocks_for(count, THREADS), THREADS, 0,
                  device_stream(device), from, to, count);
}

template <typename T>
__global__ void bias_kernel(T *y, int64_t stride, int64_t rows, int64_t columns, const float *bias)
{
    for (int64_t row = blockIdx.x; row < rows; row += gridDim.x)
        for (int64_t c = threadIdx.x; c < columns; c += blockDim.x)
            y[row * stride + c] = from_float<T>(to_float(y[row * stride + c]) + bias[c]);
}

} // namespace

Status to_bfloat16_cuda(Device *device, const float *from, void *to, int64_t count)
{
    return convert(device, from, static_cast<Bfloat16 *>(to), count);
}

Status from_bfloat16_cuda(Device *device, const void *from, float *to, int64_t count)
{
    return convert(device, static_cast<const Bfloat16 *>(from), to, count);
}

Status add_bias_cuda(Device *device, Tensor y, const float *bias)
{
    const int64_t rows = shape_rows(y.shape), columns = shape_columns(y.shape);
    const unsigned int blocks = blocks_for(rows, 1);
    if (rows * columns == 0) return OK;
    if (y.shape.type == BFLOAT16)
        return launch("a bias", bias_kernel<Bfloat16>, blocks, THREADS, 0, device_stream(device),
                      static_cast<Bfloat16 *>(y.data), y.stride, rows, columns, bias);
    return launch("a bias", bias_kernel<float>, blocks, THREADS, 0, device_stream(device),
                  static_cast<float *>(y.data), y.stride, rows, columns, bias);
}

/* prepare, run, release, in_place, strided_in, strided_out, pack: as on the CPU. */
const Kernel relu_cuda = {nullptr, run<Relu, false>, nullptr, 1, 1, 1, nullptr};
const Kernel relu_backward_cuda = {nullptr, run<ReluBackward, true>, nullptr, 3, 3, 1, nullptr};
const Kernel add_cuda = {nullptr, run<Add, true>, nullptr, 3, 3, 1, nullptr};
const Kernel cast_cuda = {nullptr, run_cast, nullptr, 0, 1, 1, nullptr};
