/* attention_step on CUDA: a step of decoding, whose keys and values are in a cache. */
#include "engine/ops/attention_cuda.cuh"

namespace
{

constexpr int WARPS = 4;

/* A warp takes a head of a row. A position or slot that the cache lacks gives NaN, and nothing is read or written there. */
template <typename T>
__global__ void step_kernel(const T *x, T *cache, const int32_t *table, const int32_t *position, T *y,
                            int64_t tasks, int64_t heads, int64_t width, int64_t slots, int64_t positions,
                            float scale)
{
    const int lane = static_cast<int>(threadIdx.x) % WARP;
    for (int64_t task = grid_thread() / WARP; task < tasks; task += grid_threads() / WARP) {
        const int64_t r = task / heads, h = task % heads, all = heads * width, last = position[r];
        const int32_t *slot = table + r * positions;
        const T *query = x + r * 3 * all + h * width;
        T *to = y + r * all + h * width;
        bool valid = last < positions;
        for (int64_t p = lane; valid && p <= last; p += WARP)
            valid = slot[p] >= 0 && slot[p] < slots;
        valid = __any_sync(0xffffffffu, valid ? 0 : 1) == 0;
        if (!valid || last < 0) {
            for (int64_t c = lane; c < width; c += WARP)
                to[c] = from_float<T>(valid ? 0.0f : __uint_as_float(0x7fc00000u));
            continue;
        }
        T *added = cache + (slot[last] * positions + last) * 2 * all + h * width;
        for (int64_t c = lane; c < width; c += WARP) {
            added[c] = query[all + c];
            added[all + c] = query[2 * all + c];
        }
        float sum[MOST_WIDTH / WARP] = {0}, maximum = __uint_as_float(0xff800000u), total = 0;
        for (int64_t p = 0; p <= last; ++p) {
            /* A lane reads what it wrote itself. */
            const T *key = cache + (slot[p] * positions + p) * 2 * all + h * width;
            float product = 0;
            for (int64_t c = lane; c < width; c += WARP)
                product += to_float(query[c]) * to_float(key[c]);
            const float score = warp_sum(product) * scale, next = score > maximum ? score : maximum;
            const float shrink = maximum == next ? 1.0f : expf(maximum - next), weight = expf(score - next);
            total = total * shrink + weight;
            maximum = next;
            int i = 0;
            for (int64_t c = lane; c < width; c += WARP, ++i)
                sum[i] = sum[i] * shrink + weight * to_float(key[all + c]);
        }
        int i = 0;
        for (int64_t c = lane; c < width; c += WARP, ++i)
            to[c] = from_float<T>(sum[i] / total);
    }
}

Status step_prepare(Call *call, size_t *scratch_bytes)
{
    *scratch_bytes = 0;
    return attention_check_width(static_cast<const AttentionStepAttributes *>(call->attributes)->head_width);
}

template <typename T> Status step_typed(const Call *call)
{
    const auto *a = static_cast<const AttentionStepAttributes *>(call->attributes);
    const Shape cache = call->in[ATTENTION_STEP_CACHE].shape;
    const int64_t tasks = call->out[0].shape.extent[0] * a->heads;
    return launch("attention_step", step_kernel<T>, blocks_for(tasks, WARPS), WARPS * WARP, 0,
                  device_stream(call->device),
                  static_cast<const T *>(call->in[ATTENTION_STEP_QUERY_KEY_VALUE].data),
                  static_cast<T *>(call->in[ATTENTION_STEP_CACHE].data),
                  static_cast<const int32_t *>(call->in[ATTENTION_STEP_TABLE].data),
                  static_cast<const int32_t *>(call->in[ATTENTION_STEP_POSITION].data),
                  static_cast<T *>(call->out[0].data), tasks, a->heads, a->head_width, cache.extent[0],
                  cache.extent[1], static_cast<float>(1 / sqrt(static_cast<double>(a->head_width))));
}

Status step_run(const Call *call)
{
    return call->out[0].shape.type == BFLOAT16 ? step_typed<Bfloat16>(call) : step_typed<float>(call);
}

} // namespace

/* prepare, run, release, in_place, strided_in, strided_out, pack: as on the CPU. */
const Kernel attention_step_cuda = {step_prepare, step_run, nullptr, 0, 0, 0, nullptr};
