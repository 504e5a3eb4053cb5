/* Pooling on CUDA: a thread takes one pixel and up to 16 bytes of its channels. Backward gathers the windows
 * that cover a pixel, always in the same order. Each element is read about once from memory and the window's
 * overlap from cache: bound by memory. */
#include "engine/ops/op_cuda.cuh"

extern "C" {
#include "engine/ops/pool.h"
}

namespace
{

constexpr int THREADS = 256;

/* One axis of a window: pixels begin .. end - 1 of the image; `origin`: its first pixel, padding included. */
struct Window {
    int origin, begin, end, divisor;
};

/* What kernels need of PoolAttributes, in 32 bits: divisions of 64 bits would cost more than the memory. */
struct Geometry {
    int samples, height, width, channels, out_height, out_width;
    int kernel_height, kernel_width, stride, padding_height, padding_width;
    bool relu;

    __device__ Window row(int i) const
    {
        return window(i, height, out_height, kernel_height, padding_height);
    }
    __device__ Window column(int i) const { return window(i, width, out_width, kernel_width, padding_width); }
    __device__ void covering_row(int pixel, int *first, int *last) const
    {
        covering(pixel, height, out_height, kernel_height, padding_height, first, last);
    }
    __device__ void covering_column(int pixel, int *first, int *last) const
    {
        covering(pixel, width, out_width, kernel_width, padding_width, first, last);
    }

  private:
    __device__ Window window(int i, int pixels, int windows, int kernel, int padding) const
    {
        if (kernel == 0) { /* adaptive */
            const int begin = static_cast<int>(static_cast<int64_t>(i) * pixels / windows);
            const int end = static_cast<int>((static_cast<int64_t>(i + 1) * pixels + windows - 1) / windows);
            return {begin, begin, end, end - begin};
        }
        const int origin = i * stride - padding;
        return {origin, origin < 0 ? 0 : origin, origin + kernel < pixels ? origin + kernel : pixels, kernel};
    }
    /* The windows first .. last - 1 cover a pixel. */
    __device__ void covering(int pixel, int pixels, int windows, int kernel, int padding, int *first,
                             int *last) const
    {
        if (kernel == 0) {
            *first = static_cast<int>(static_cast<int64_t>(pixel) * windows / pixels);
            *last = static_cast<int>((static_cast<int64_t>(pixel + 1) * windows + pixels - 1) / pixels);
        } else {
            const int reach = pixel + padding - kernel + 1;
            *first = reach <= 0 ? 0 : (reach + stride - 1) / stride;
            *last = (pixel + padding) / stride + 1;
        }
        if (*last > windows) *last = windows;
    }
};

/* Channels c .. c + N - 1 of a row. */
template <typename T, int N> __device__ Pack<T, N> load(const T *data, int64_t stride, int64_t row, int c)
{
    return *reinterpret_cast<const Pack<T, N> *>(data + row * stride + c);
}

template <typename T, int N>
__global__ void average_kernel(Geometry g, const T *x, int64_t x_stride, T *y, int64_t y_stride)
{
    const int packs = g.channels / N;
    const int64_t work = static_cast<int64_t>(g.samples) * g.out_height * g.out_width * packs;
    for (int64_t at = grid_thread(); at < work; at += grid_threads()) {
        const unsigned int item = static_cast<unsigned int>(at);
        const unsigned int row = item / packs, c = (item - row * packs) * N, line = row / g.out_width;
        const int j = static_cast<int>(row - line * g.out_width), n = static_cast<int>(line / g.out_height);
        const int i = static_cast<int>(line - n * static_cast<unsigned int>(g.out_height));
        const Window down = g.row(i), across = g.column(j);
        float sum[N] = {};
        for (int h = down.begin; h < down.end; ++h)
            for (int w = across.begin; w < across.end; ++w) {
                const Pack<T, N> pixel =
                    load<T, N>(x, x_stride, (static_cast<int64_t>(n) * g.height + h) * g.width + w, c);
                for (int k = 0; k < N; ++k)
                    sum[k] += to_float(pixel.element[k]);
            }
        const float share = 1.0f / static_cast<float>(down.divisor * across.divisor);
        Pack<T, N> result;
        for (int k = 0; k < N; ++k)
            result.element[k] = from_float<T>(sum[k] * share);
        *reinterpret_cast<Pack<T, N> *>(y + row * y_stride + c) = result;
    }
}

/* The place of thread `item` among the pixels of the image. */
struct Pixel {
    int n, h, w, c;
    int64_t row;
    __device__ Pixel(const Geometry &g, unsigned int item, int packs, int pack)
    {
        const unsigned int place = item / packs, line = place / g.width;
        c = static_cast<int>(item - place * packs) * pack;
        w = static_cast<int>(place - line * g.width);
        n = static_cast<int>(line / g.height);
        h = static_cast<int>(line - n * static_cast<unsigned int>(g.height));
        row = place;
    }
};

template <typename T, int N>
__global__ void average_backward_kernel(Geometry g, const T *d_y, int64_t d_y_stride, T *d_x,
                                        int64_t d_x_stride)
{
    const int packs = g.channels / N;
    const int64_t work = static_cast<int64_t>(g.samples) * g.height * g.width * packs;
    for (int64_t at = grid_thread(); at < work; at += grid_threads()) {
        const Pixel pixel(g, static_cast<unsigned int>(at), packs, N);
        int top, bottom, left, right;
        g.covering_row(pixel.h, &top, &bottom);
        g.covering_column(pixel.w, &left, &right);
        float sum[N] = {};
        for (int i = top; i < bottom; ++i)
            for (int j = left; j < right; ++j) {
                const int divisor = g.row(i).divisor * g.column(j).divisor;
                const float share = 1.0f / static_cast<float>(divisor);
                const int64_t row = (static_cast<int64_t>(pixel.n) * g.out_height + i) * g.out_width + j;
                const Pack<T, N> gradient = load<T, N>(d_y, d_y_stride, row, pixel.c);
                for (int k = 0; k < N; ++k)
                    sum[k] += to_float(gradient.element[k]) * share;
            }
        Pack<T, N> result;
        for (int k = 0; k < N; ++k)
            result.element[k] = from_float<T>(sum[k]);
        *reinterpret_cast<Pack<T, N> *>(d_x + pixel.row * d_x_stride + pixel.c) = result;
    }
}

/* index may be null: nobody asks for it. */
template <typename T, int N, typename I>
__global__ void max_kernel(Geometry g, const T *x, int64_t x_stride, T *y, int64_t y_stride, I *index)
{
    const int packs = g.channels / N;
    const int64_t work = static_cast<int64_t>(g.samples) * g.out_height * g.out_width * packs;
    for (int64_t at = grid_thread(); at < work; at += grid_threads()) {
        const unsigned int item = static_cast<unsigned int>(at);
        const unsigned int row = item / packs, c = (item - row * packs) * N, line = row / g.out_width;
        const int j = static_cast<int>(row - line * g.out_width), n = static_cast<int>(line / g.out_height);
        const int i = static_cast<int>(line - n * static_cast<unsigned int>(g.out_height));
        const Window down = g.row(i), across = g.column(j);
        Pack<T, N> best = load<T, N>(
            x, x_stride, (static_cast<int64_t>(n) * g.height + down.begin) * g.width + across.begin, c);
        int where[N];
        for (int k = 0; k < N; ++k)
            where[k] = (down.begin - down.origin) * g.kernel_width + across.begin - across.origin;
        for (int h = down.begin; h < down.end; ++h)
            for (int w = across.begin; w < across.end; ++w) {
                const int here = (h - down.origin) * g.kernel_width + w - across.origin;
                const Pack<T, N> pixel =
                    load<T, N>(x, x_stride, (static_cast<int64_t>(n) * g.height + h) * g.width + w, c);
                for (int k = 0; k < N; ++k) {
                    const float value = to_float(pixel.element[k]);
                    if (value > to_float(best.element[k]) || value != value) { /* NaN wins */
                        best.element[k] = pixel.element[k];
                        where[k] = here;
                    }
                }
            }
        if (g.relu)
            for (int k = 0; k < N; ++k)
                if (to_float(best.element[k]) <= 0) {
                    best.element[k] = from_float<T>(0);
                    where[k] = -1;
                }
        *reinterpret_cast<Pack<T, N> *>(y + row * y_stride + c) = best;
        if (index == nullptr) continue;
        Pack<I, N> places;
        for (int k = 0; k < N; ++k)
            places.element[k] = static_cast<I>(where[k]);
        *reinterpret_cast<Pack<I, N> *>(index + static_cast<int64_t>(row) * g.channels + c) = places;
    }
}

template <typename T, int N, typename I>
__global__ void max_backward_kernel(Geometry g, const T *d_y, int64_t d_y_stride, const I *index, T *d_x,
                                    int64_t d_x_stride)
{
    const int packs = g.channels / N;
    const int64_t work = static_cast<int64_t>(g.samples) * g.height * g.width * packs;
    for (int64_t at = grid_thread(); at < work; at += grid_threads()) {
        const Pixel pixel(g, static_cast<unsigned int>(at), packs, N);
        int top, bottom, left, right;
        g.covering_row(pixel.h, &top, &bottom);
        g.covering_column(pixel.w, &left, &right);
        float sum[N] = {};
        for (int i = top; i < bottom; ++i)
            for (int j = left; j < right; ++j) {
                const int64_t row = (static_cast<int64_t>(pixel.n) * g.out_height + i) * g.out_width + j;
                const int here = (pixel.h - g.row(i).origin) * g.kernel_width + pixel.w - g.column(j).origin;
                const Pack<T, N> gradient = load<T, N>(d_y, d_y_stride, row, pixel.c);
                const Pack<I, N> places = load<I, N>(index, g.channels, row, pixel.c);
                for (int k = 0; k < N; ++k)
                    if (static_cast<int>(places.element[k]) == here) sum[k] += to_float(gradient.element[k]);
            }
        Pack<T, N> result;
        for (int k = 0; k < N; ++k)
            result.element[k] = from_float<T>(sum[k]);
        *reinterpret_cast<Pack<T, N> *>(d_x + pixel.row * d_x_stride + pixel.c) = result;
    }
}

/* ---- launches ---- */

Geometry geometry(const Call *call)
{
    const auto *a = static_cast<const PoolAttributes *>(call->attributes);
    const auto narrow = [](int64_t value) { return static_cast<int>(value); };
    Geometry g;
    g.samples = narrow(a->samples);
    g.height = narrow(a->height);
    g.width = narrow(a->width);
    g.channels = narrow(a->channels);
    g.out_height = narrow(a->out_height);
    g.out_width = narrow(a->out_width);
    g.kernel_height = narrow(a->kernel_height);
    g.kernel_width = narrow(a->kernel_width);
    g.stride = narrow(a->stride);
    g.padding_height = narrow(a->padding_height);
    g.padding_width = narrow(a->padding_width);
    g.relu = a->relu;
    return g;
}

/* Threads count in 32 bits. */
Status prepare(Call *call, size_t *scratch_bytes)
{
    *scratch_bytes = 0;
    for (int i = 0; i < 2; ++i) {
        const Tensor &tensor = i == 0 ? call->in[0] : call->out[0];
        if (shape_count(tensor.shape) > INT32_MAX)
            return fail(STATUS_UNSUPPORTED,
                        "%s of more than 2^31 elements on a GPU; use a smaller batch or micro_batches",
                        call->node->op->name);
    }
    return OK;
}

/* Calls function<T, N>(...) for the tensors' type with the widest packs that both allow. */
template <typename Function> Status with_packs(const Call *call, bool index, const Function &function)
{
    const Tensor &a = call->in[0], &b = call->out[0];
    const auto fits = [&](int n) {
        return fits_pack(a, n) && fits_pack(b, n) &&
               (!index || fits_pack(call->node->output_count == 2 ? call->out[1] : call->in[1], n));
    };
    if (a.shape.type == BFLOAT16)
        return fits(8) ? function(Bfloat16{}, std::integral_constant<int, 8>{})
                       : function(Bfloat16{}, std::integral_constant<int, 1>{});
    return fits(4) ? function(0.0f, std::integral_constant<int, 4>{})
                   : function(0.0f, std::integral_constant<int, 1>{});
}

template <bool BACKWARD> Status average_run(const Call *call)
{
    const Geometry g = geometry(call);
    const Tensor &in = call->in[0], &out = call->out[0];
    if (shape_count(out.shape) == 0) return OK;
    return with_packs(call, false, [&]<typename T, int N>(T, std::integral_constant<int, N>) {
        auto *kernel = BACKWARD ? average_backward_kernel<T, N> : average_kernel<T, N>;
        return launch(call->node->op->name, kernel, blocks_for(shape_count(out.shape) / N, THREADS), THREADS,
                      0, device_stream(call->device), g, static_cast<const T *>(in.data), in.stride,
                      static_cast<T *>(out.data), out.stride);
    });
}

template <typename I> Status max_run_typed(const Call *call)
{
    const Tensor &x = call->in[0], &y = call->out[0];
    return with_packs(call, true, [&]<typename T, int N>(T, std::integral_constant<int, N>) {
        return launch(call->node->op->name, max_kernel<T, N, I>,
                      blocks_for(shape_count(y.shape) / N, THREADS), THREADS, 0, device_stream(call->device),
                      geometry(call), static_cast<const T *>(x.data), x.stride, static_cast<T *>(y.data),
                      y.stride,
                      call->wanted[1] ? static_cast<I *>(call->out[1].data) : static_cast<I *>(nullptr));
    });
}

Status max_run(const Call *call)
{
    if (shape_count(call->out[0].shape) == 0) return OK;
    return call->out[1].shape.type == UINT8 ? max_run_typed<uint8_t>(call) : max_run_typed<int32_t>(call);
}

template <typename I> Status max_backward_typed(const Call *call)
{
    const Tensor &d_y = call->in[0], &d_x = call->out[0];
    return with_packs(call, true, [&]<typename T, int N>(T, std::integral_constant<int, N>) {
        return launch(call->node->op->name, max_backward_kernel<T, N, I>,
                      blocks_for(shape_count(d_x.shape) / N, THREADS), THREADS, 0,
                      device_stream(call->device), geometry(call), static_cast<const T *>(d_y.data),
                      d_y.stride, static_cast<const I *>(call->in[1].data), static_cast<T *>(d_x.data),
                      d_x.stride);
    });
}

Status max_backward_run(const Call *call)
{
    if (shape_count(call->out[0].shape) == 0) return OK;
    return call->in[1].shape.type == UINT8 ? max_backward_typed<uint8_t>(call)
                                           : max_backward_typed<int32_t>(call);
}

} // namespace

/* prepare, run, release, in_place, strided_in, strided_out, pack: as on the CPU. */
const Kernel average_pool_cuda = {prepare, average_run<false>, nullptr, 0, 1, 1, nullptr};
const Kernel average_pool_backward_cuda = {prepare, average_run<true>, nullptr, 0, 1, 1, nullptr};
const Kernel max_pool2d_cuda = {prepare, max_run, nullptr, 0, 1, 1, nullptr};
const Kernel max_pool2d_backward_cuda = {prepare, max_backward_run, nullptr, 0, 1, 1, nullptr};
