/* dropout on CUDA: a thread takes the four elements whose random words are one block of Philox, the same
 * words that the CPU uses. */
#include "engine/ops/op_cuda.cuh"

extern "C" {
#include "engine/ops/dropout.h"
}
#include "engine/base/philox.h"
#include "engine/base/random.h"

namespace
{

constexpr int THREADS = 256;

template <typename T>
__global__ void dropout_kernel(const T *x, T *y, const int64_t *clock, const int64_t *keys, int64_t rows,
                               int64_t columns, uint64_t name_key, uint32_t threshold, float scale,
                               bool packed)
{
    const uint64_t seed = dropout_seed(static_cast<uint64_t>(clock[CLOCK_SEED]), name_key);
    const uint64_t philox_word = philox_key(seed, RANDOM_DROPOUT);
    const uint64_t step = static_cast<uint64_t>(clock[CLOCK_STEP]);
    const uint64_t first_sample = static_cast<uint64_t>(clock[CLOCK_FIRST_SAMPLE]);
    const uint64_t row_blocks = dropout_row_blocks(columns),
                   blocks = row_blocks * static_cast<uint64_t>(rows);
    for (uint64_t block = static_cast<uint64_t>(grid_thread()); block < blocks;
         block += static_cast<uint64_t>(grid_threads())) {
        const uint64_t row = block / row_blocks, in_row = block % row_blocks;
        const uint64_t key =
            keys != nullptr ? static_cast<uint64_t>(keys[row]) : (first_sample + row) << DROPOUT_ROW_BITS;
        const uint64_t index = dropout_block(key, row_blocks) + in_row;
        uint32_t word[DROPOUT_WORDS] = {static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32),
                                        static_cast<uint32_t>(step), static_cast<uint32_t>(step >> 32)};
        philox(static_cast<uint32_t>(philox_word), static_cast<uint32_t>(philox_word >> 32), word);
        const int64_t column = static_cast<int64_t>(in_row) * DROPOUT_WORDS;
        const int64_t at = static_cast<int64_t>(row) * columns + column;
        if (packed) {
            Pack<T, DROPOUT_WORDS> pack = *reinterpret_cast<const Pack<T, DROPOUT_WORDS> *>(x + at);
            for (int i = 0; i < DROPOUT_WORDS; ++i)
                pack.element[i] =
                    from_float<T>(word[i] >> 8 >= threshold ? to_float(pack.element[i]) * scale : 0.0f);
            *reinterpret_cast<Pack<T, DROPOUT_WORDS> *>(y + at) = pack;
        } else {
            for (int i = 0; i < DROPOUT_WORDS && column + i < columns; ++i)
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
    const auto *keys = static_cast<const int64_t *>(call->in[DROPOUT_KEY].data);
    const int64_t rows = keys != nullptr ? shape_rows(shape) : shape.extent[0], columns = count / rows;
    const uintptr_t places = reinterpret_cast<uintptr_t>(call->in[DROPOUT_X].data) |
                             reinterpret_cast<uintptr_t>(call->out[0].data);
    const bool packed = columns % DROPOUT_WORDS == 0 && places % (DROPOUT_WORDS * sizeof(T)) == 0;
    return launch("dropout", dropout_kernel<T>,
                  blocks_for(rows * static_cast<int64_t>(dropout_row_blocks(columns)), THREADS), THREADS, 0,
                  device_stream(call->device), static_cast<const T *>(call->in[DROPOUT_X].data),
                  static_cast<T *>(call->out[0].data),
                  static_cast<const int64_t *>(call->in[DROPOUT_CLOCK].data), keys, rows, columns,
                  attributes->name_key, dropout_threshold(attributes->probability),
                  dropout_scale(attributes->probability), packed);
}

Status run(const Call *call)
{
    return call->out[0].shape.type == BFLOAT16 ? run_typed<Bfloat16>(call) : run_typed<float>(call);
}

} // namespace

/* prepare, run, release, in_place, strided_in, strided_out, pack: as on the CPU. */
const Kernel dropout_cuda = {nullptr, run, nullptr, 1, 0, 0, nullptr};
