/* dropout on CUDA: a thread takes the four elements whose random words are one block of Philox, the same
 * words that the CPU uses. */
#include "engine/device/cuda_kernel.cuh"

extern "C" {
#include "engine/ops/dropout.h"
}
#include "engine/base/philox.h"
#include "engine/base/random.h"

namespace
{

constexpr int THREADS = 256, WORDS = 4, KEY_SHIFT = 40;

template <typename T>
__global__ void dropout_kernel(const T *x, T *y, const int64_t *clock, int64_t count, uint64_t per_sample,
                               uint64_t key, uint32_t threshold, float scale, bool packed)
{
    const uint64_t philox_word = philox_key(static_cast<uint64_t>(clock[CLOCK_SEED]), RANDOM_DROPOUT);
    const uint64_t step = static_cast<uint64_t>(clock[CLOCK_STEP]);
    /* Element 0 here is element `origin` of the global batch. */
    const uint64_t origin = static_cast<uint64_t>(clock[CLOCK_FIRST_SAMPLE]) * per_sample;
    const uint64_t first = origin / WORDS, last = (origin + static_cast<uint64_t>(count) + WORDS - 1) / WORDS;
    const bool aligned = packed && origin % WORDS == 0;
    for (uint64_t block = first + static_cast<uint64_t>(grid_thread()); block < last;
         block += static_cast<uint64_t>(grid_threads())) {
        const uint64_t index = (key << KEY_SHIFT) + block;
        uint32_t word[WORDS] = {static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32),
                                static_cast<uint32_t>(step), static_cast<uint32_t>(step >> 32)};
        philox(static_cast<uint32_t>(philox_word), static_cast<uint32_t>(philox_word >> 32), word);
        const int64_t at = static_cast<int64_t>(block * WORDS - origin); /* may be a little below 0 */
        if (aligned && at + WORDS <= count) {
            Pack<T, WORDS> pack = *reinterpret_cast<const Pack<T, WORDS> *>(x + at);
            for (int i = 0; i < WORDS; ++i)
                pack.element[i] =
                    from_float<T>(word[i] >> 8 >= threshold ? to_float(pack.element[i]) * scale : 0.0f);
            *reinterpret_cast<Pack<T, WORDS> *>(y + at) = pack;
        } else {
            for (int i = 0; i < WORDS; ++i)
                if (at + i >= 0 && at + i < count)
                    y[at + i] = from_float<T>(word[i] >> 8 >= threshold ? to_float(x[at + i]) * scale : 0.0f);
        }
    }
}

template <typename T> Status run_typed(const Call *call)
{
    const auto *attributes = static_cast<const DropoutAttributes *>(call->attributes);
    const Shape shape = call->out[0].shape;
    const int64_t count = shape_count(shape);
    if (count == 0) return OK;
    const uintptr_t places =
        reinterpret_cast<uintptr_t>(call->in[0].data) | reinterpret_cast<uintptr_t>(call->out[0].data);
    const bool packed = places % (WORDS * sizeof(T)) == 0;
    return launch("dropout", dropout_kernel<T>, blocks_for(count, THREADS * WORDS), THREADS, 0,
                  device_stream(call->device), static_cast<const T *>(call->in[0].data),
                  static_cast<T *>(call->out[0].data), static_cast<const int64_t *>(call->in[1].data), count,
                  count / shape.extent[0], attributes->key,
                  static_cast<uint32_t>(lround(attributes->probability * 0x1p24)),
                  static_cast<float>(1 / (1 - attributes->probability)), packed);
}

Status run(const Call *call)
{
    return call->out[0].shape.type == BFLOAT16 ? run_typed<Bfloat16>(call) : run_typed<float>(call);
}

} // namespace

/* prepare, run, release, in_place, strided_in, strided_out: as on the CPU. */
const Kernel dropout_cuda = {nullptr, run, nullptr, 1, 0, 0};
