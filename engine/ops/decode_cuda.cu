/* A block takes a row of logits, which stays in the second-level cache. The count-th greatest logit is found digit by digit of
 * its bits, from the most significant on, by counting; then what is greater is gathered, and of what is equal the lowest
 * tokens. Nothing depends on the order of atomic operations: they count, and the few that are gathered are then sorted. */
#include "engine/ops/op_cuda.cuh"

extern "C" {
#include "engine/ops/decode.h"
}

namespace
{

constexpr int THREADS = 256, DIGIT_BITS = 8, DIGITS = 1 << DIGIT_BITS, MOST = BEST_TOKENS_MOST;

/* A number that is ordered as the float is. NaN comes below all others, as minus infinity does. */
__device__ uint32_t key_of(float value)
{
    const uint32_t bits = __float_as_uint(value);
    if (value != value) return 0;
    return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

struct Row {
    const float *logit;
    int64_t columns;
    const int32_t *banned;
    int banned_count;
};

__device__ bool is_banned(const Row &row, int32_t token)
{
    for (int i = 0; i < row.banned_count; ++i)
        if (row.banned[i] == token) return true;
    return false;
}

/* The greatest logit and the sum of e^((logit - greatest) / temperature). */
__device__ void measure(const Row &row, float temperature, float *scale)
{
    __shared__ float of_warp[WARP];
    const int me = static_cast<int>(threadIdx.x), lane = me % WARP;
    const float lowest = __uint_as_float(0xff800000u), inverse = 1 / temperature; /* minus infinity */
    float greatest = lowest, sum = 0;
    for (int64_t c = me; c < row.columns; c += THREADS)
        greatest = row.logit[c] > greatest ? row.logit[c] : greatest;
    greatest = warp_max(greatest);
    if (lane == 0) of_warp[me / WARP] = greatest;
    __syncthreads();
    greatest = warp_max(lane < THREADS / WARP ? of_warp[lane] : lowest);
    __syncthreads();
    for (int64_t c = me; c < row.columns; c += THREADS)
        sum += expf((row.logit[c] - greatest) * inverse);
    sum = block_sum(sum, of_warp);
    if (me == 0) {
        scale[0] = greatest;
        scale[1] = sum;
    }
}

/* The key of the count-th greatest logit that is not banned, and how many of those equal to it belong to the best; the key is 0
 * if there are not so many. */
__device__ uint32_t find_key(const Row &row, int count, int *equal)
{
    __shared__ int counts[DIGITS], digit, left;
    const int me = static_cast<int>(threadIdx.x);
    uint32_t prefix = 0, mask = 0;
    if (me == 0) left = count;
    for (int shift = 32 - DIGIT_BITS; shift >= 0; shift -= DIGIT_BITS) {
        for (int i = me; i < DIGITS; i += THREADS)
            counts[i] = 0;
        __syncthreads();
        for (int64_t c = me; c < row.columns; c += THREADS) {
            const uint32_t key = key_of(row.logit[c]);
            if ((key & mask) == prefix) atomicAdd(&counts[key >> shift & (DIGITS - 1)], 1);
        }
        for (int i = me; i < row.banned_count; i += THREADS) {
            const uint32_t key = key_of(row.logit[row.banned[i]]);
            if ((key & mask) == prefix) atomicAdd(&counts[key >> shift & (DIGITS - 1)], -1);
        }
        __syncthreads();
        if (me == 0) {
            int at = DIGITS - 1;
            while (at > 0 && counts[at] < left)
                left -= counts[at--];
            digit = at;
        }
        __syncthreads();
        prefix |= static_cast<uint32_t>(digit) << shift;
        mask |= static_cast<uint32_t>(DIGITS - 1) << shift;
        __syncthreads();
    }
    *equal = left;
    return prefix;
}

/* Gathers what is greater than `key`, in any order, and the first `equal` tokens of those equal to it, in order; -1 and minus
 * infinity and whatever compares no better are left out. Returns how many there are. */
__device__ int gather(const Row &row, uint32_t key, int equal, float *logit, int32_t *token)
{
    __shared__ int found, equals, before[THREADS];
    const int me = static_cast<int>(threadIdx.x);
    const uint32_t lowest = key_of(__uint_as_float(0xff800000u));
    if (me == 0) found = equals = 0;
    __syncthreads();
    for (int64_t first = 0; first < row.columns; first += THREADS) {
        const int64_t c = first + me;
        const uint32_t mine = c < row.columns ? key_of(row.logit[c]) : 0;
        const bool counts = mine > lowest && mine >= key && !is_banned(row, static_cast<int32_t>(c));
        if (counts && mine > key) {
            const int at = atomicAdd(&found, 1);
            if (at < MOST) {
                logit[at] = row.logit[c];
                token[at] = static_cast<int32_t>(c);
            }
        }
        before[me] = counts && mine == key ? 1 : 0;
        if (__syncthreads_or(before[me]) == 0) continue;
        int earlier = 0;
        for (int i = 0; i < me && before[me] != 0; ++i)
            earlier += before[i];
        const int at = equals + earlier;
        __syncthreads();
        if (before[me] != 0 && at < equal) {
            const int to = atomicAdd(&found, 1);
            if (to < MOST) {
                logit[to] = row.logit[c];
                token[to] = static_cast<int32_t>(c);
            }
        }
        if (me == 0)
            for (int i = 0; i < THREADS; ++i)
                equals += before[i];
        __syncthreads();
    }
    __syncthreads();
    return found < MOST ? found : MOST;
}

__global__ void best_tokens_kernel(const float *logits, const float *temperature, const int32_t *forced,
                                   const int32_t *start, const int32_t *banned, int32_t *token, float *logit,
                                   float *scale, int64_t rows, int64_t columns, int count)
{
    __shared__ float best_logit[MOST];
    __shared__ int32_t best_token[MOST];
    const int me = static_cast<int>(threadIdx.x);
    for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
        const Row row = {logits + r * columns, columns, banned + start[r], start[r + 1] - start[r]};
        int found, equal;
        measure(row, temperature[0], scale + 2 * r);
        if (forced[r] >= 0) {
            found = forced[r] < columns ? 1 : 0;
            if (me == 0 && found == 1) {
                best_token[0] = forced[r];
                best_logit[0] = row.logit[forced[r]];
            }
        } else {
            const uint32_t key = find_key(row, count, &equal);
            found = gather(row, key, equal, best_logit, best_token);
        }
        __syncthreads();
        for (int i = me; i < count; i += THREADS) {
            if (i >= found) {
                token[r * count + i] = -1;
                logit[r * count + i] = __uint_as_float(0xff800000u);
                continue;
            }
            int place = 0;
            for (int j = 0; j < found; ++j)
                place += best_logit[j] > best_logit[i] ||
                                 (best_logit[j] == best_logit[i] && best_token[j] < best_token[i])
                             ? 1
                             : 0;
            token[r * count + place] = best_token[i];
            logit[r * count + place] = best_logit[i];
        }
        __syncthreads();
    }
}

Status best_tokens_run(const Call *call)
{
    const auto *a = static_cast<const BestTokensAttributes *>(call->attributes);
    const Shape shape = call->in[BEST_TOKENS_LOGITS].shape;
    return launch("best_tokens", best_tokens_kernel, blocks_for(shape.extent[0], 1), THREADS, 0,
                  device_stream(call->device), static_cast<const float *>(call->in[BEST_TOKENS_LOGITS].data),
                  static_cast<const float *>(call->in[BEST_TOKENS_TEMPERATURE].data),
                  static_cast<const int32_t *>(call->in[BEST_TOKENS_FORCED].data),
                  static_cast<const int32_t *>(call->in[BEST_TOKENS_BANNED_START].data),
                  static_cast<const int32_t *>(call->in[BEST_TOKENS_BANNED].data),
                  static_cast<int32_t *>(call->out[BEST_TOKENS_TOKEN].data),
                  static_cast<float *>(call->out[BEST_TOKENS_LOGIT].data),
                  static_cast<float *>(call->out[BEST_TOKENS_SCALE].data), shape.extent[0], shape.extent[1],
                  static_cast<int>(a->count));
}

/* In words of T; `apart`: from row to row of the state. */
template <typename T>
__global__ void place_kernel(const T *x, T *state, const int32_t *row, int32_t *done, int64_t sequences,
                             int64_t words, int64_t rows, int64_t apart)
{
    for (int64_t i = grid_thread(); i < sequences * words; i += grid_threads()) {
        const int64_t n = i / words, to = row[n];
        if (to >= 0 && to < rows) state[to * apart + i % words] = x[i];
    }
    for (int64_t n = grid_thread(); n < sequences; n += grid_threads())
        done[n] = row[n];
}

template <typename T> Status place(const Call *call, int64_t width)
{
    const Shape x = call->in[PLACE_SEQUENCES_X].shape, state = call->in[PLACE_SEQUENCES_STATE].shape;
    const int64_t words = x.extent[1] * x.extent[2] / width;
    return launch("place_sequences", place_kernel<T>, blocks_for(x.extent[0] * words, THREADS), THREADS, 0,
                  device_stream(call->device), static_cast<const T *>(call->in[PLACE_SEQUENCES_X].data),
                  static_cast<T *>(call->in[PLACE_SEQUENCES_STATE].data),
                  static_cast<const int32_t *>(call->in[PLACE_SEQUENCES_ROW].data),
                  static_cast<int32_t *>(call->out[0].data), x.extent[0], words, state.extent[0],
                  state.extent[1] * state.extent[2] / width);
}

Status place_sequences_run(const Call *call)
{
    const Tensor &x = call->in[PLACE_SEQUENCES_X], &state = call->in[PLACE_SEQUENCES_STATE];
    if (x.shape.type == BFLOAT16)
        return fits_pack(x, 8) && fits_pack(state, 8) ? place<Pack<Bfloat16, 8>>(call, 8)
                                                      : place<Bfloat16>(call, 1);
    return fits_pack(x, 4) && fits_pack(state, 4) ? place<Pack<float, 4>>(call, 4) : place<float>(call, 1);
}

} // namespace

/* prepare, run, release, in_place, strided_in, strided_out, pack: as on the CPU. */
const Kernel best_tokens_cuda = {nullptr, best_tokens_run, nullptr, 0, 0, 0, nullptr};
const Kernel place_sequences_cuda = {nullptr, place_sequences_run, nullptr, 0, 0, 0, nullptr};
