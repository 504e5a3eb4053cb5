/* augment on CUDA: one kernel gathers, crops, flips and normalises; a thread takes a pixel. The values of the
 * 256 bytes are worked out once a block, in double as on the CPU, so the pixels are the same. A few bytes a
 * pixel: its time does not show beside the network's. */
#include "engine/ops/op_cuda.cuh"

extern "C" {
#include "engine/ops/augment.h"
}

namespace
{

constexpr int THREADS = 256, BYTES = 256, CHANNELS = 4;

struct Constants {
    double mean[CHANNELS], deviation[CHANNELS];
    int64_t padding, rows, height, width, channels;
    bool flip;
};

/* A sample whose row is not in the table or whose crop is not in the padded image becomes NaN, which the
 * trainer reports: nothing outside the table is read. */
template <typename T>
__global__ void augment_kernel(Constants c, const uint8_t *table, const int64_t *index, const int32_t *crops,
                               T *y, int64_t pixels)
{
    __shared__ T value[CHANNELS][BYTES];
    for (int i = static_cast<int>(threadIdx.x); i < static_cast<int>(c.channels) * BYTES; i += THREADS)
        value[i / BYTES][i % BYTES] = from_float<T>(
            static_cast<float>((i % BYTES / 255.0 - c.mean[i / BYTES]) / c.deviation[i / BYTES]));
    __syncthreads();
    const int64_t image = c.height * c.width;
    for (int64_t p = grid_thread(); p < pixels; p += grid_threads()) {
        const int64_t n = p / image, place = p - n * image;
        const int row = static_cast<int>(place / c.width), column = static_cast<int>(place % c.width);
        const int32_t *crop = crops + n * CROP_COLUMNS;
        const int64_t limit = 2 * c.padding;
        T *to = y + p * c.channels;
        if (index[n] < 0 || index[n] >= c.rows || crop[CROP_TOP] < 0 || crop[CROP_TOP] > limit ||
            crop[CROP_LEFT] < 0 || crop[CROP_LEFT] > limit || crop[CROP_FLIP] < 0 || crop[CROP_FLIP] > 1) {
            for (int k = 0; k < static_cast<int>(c.channels); ++k)
                to[k] = from_float<T>(__uint_as_float(0x7fc00000u));
            continue;
        }
        const bool mirror = c.flip && crop[CROP_FLIP] != 0;
        const int64_t h = crop[CROP_TOP] - c.padding + row;
        const int64_t w = crop[CROP_LEFT] - c.padding + (mirror ? c.width - 1 - column : column);
        const bool inside = h >= 0 && h < c.height && w >= 0 && w < c.width;
        const uint8_t *from = table + (inside ? (index[n] * image + h * c.width + w) * c.channels : 0);
        for (int k = 0; k < static_cast<int>(c.channels); ++k)
            to[k] = value[k][inside ? from[k] : 0];
    }
}

template <typename T> Status run_typed(const Call *call)
{
    const auto *a = static_cast<const AugmentAttributes *>(call->attributes);
    const Shape shape = call->out[0].shape;
    Constants c = {{},
                   {},
                   a->padding,
                   call->in[AUGMENT_TABLE].shape.extent[0],
                   shape.extent[1],
                   shape.extent[2],
                   shape.extent[3],
                   a->flip};
    for (int k = 0; k < CHANNELS; ++k) {
        c.mean[k] = a->mean[k];
        c.deviation[k] = a->deviation[k];
    }
    const int64_t pixels = shape.extent[0] * c.height * c.width;
    return launch("augment", augment_kernel<T>, blocks_for(pixels, THREADS), THREADS, 0,
                  device_stream(call->device), c, static_cast<const uint8_t *>(call->in[AUGMENT_TABLE].data),
                  static_cast<const int64_t *>(call->in[AUGMENT_INDEX].data),
                  static_cast<const int32_t *>(call->in[AUGMENT_CROP].data),
                  static_cast<T *>(call->out[0].data), pixels);
}

Status run(const Call *call)
{
    return call->out[0].shape.type == BFLOAT16 ? run_typed<Bfloat16>(call) : run_typed<float>(call);
}

} // namespace

/* prepare, run, release, in_place, strided_in, strided_out, pack: as on the CPU. */
const Kernel augment_cuda = {nullptr, run, nullptr, 0, 0, 0, nullptr};
