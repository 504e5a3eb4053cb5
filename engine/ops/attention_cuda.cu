/* attention on CUDA: a block of threads takes a head of a sample and a few of its queries; what it needs of keys and values
 * is in shared memory, 32 keys at a time, and scores only ever in registers. Sentences are short, so one or two such
 * tiles are all. Backward has two kernels, each of which makes the scores anew: one sums over the keys of a query, the
 * other over the queries of a key, so that nothing is added by atomics and the same run gives the same bits. */
#include "engine/device/cuda_kernel.cuh"

extern "C" {
#include "engine/ops/attention.h"
}
#include "engine/base/philox.h"
#include "engine/base/random.h"

namespace
{

constexpr int WARPS = 4, THREADS = WARPS * WARP, TILE = WARP, MOST_WIDTH = 128;

/* Rows of a block of threads, of which each warp has so many: fewer where heads are wide, for the sake of shared memory. */
template <int COLUMNS> struct Rows {
    static constexpr int OF_WARP = COLUMNS <= 2 ? 8 : 2, OF_BLOCK = WARPS * OF_WARP;
};

struct Job {
    AttentionSizes size;
    bool causal, drops;
    float scale, kept;
    uint32_t threshold;
    int64_t positions;
    uint64_t name_key;
    const int32_t *first, *end, *sequence;
    const int64_t *clock;
};

/* A head of a sample; first, count: the keys that can be seen. */
struct Task {
    int64_t sample, head, sequence, first, count;
};

__device__ inline Task task_at(const Job &j, int64_t index)
{
    Task t{index / j.size.heads, index % j.size.heads, 0, 0, 0};
    t.sequence = j.sequence != nullptr ? j.sequence[t.sample] : t.sample;
    if (t.sequence < 0 || t.sequence >= j.size.sequences) return t;
    int64_t end = j.end != nullptr ? j.end[t.sequence] : j.size.keys;
    end = end < j.size.keys ? end : j.size.keys;
    if (j.first != nullptr && j.first[t.sequence] > 0) t.first = j.first[t.sequence];
    t.count = end > t.first ? end - t.first : 0;
    return t;
}

__device__ inline int64_t query_place(const Job &j, const Task &t, int64_t p)
{
    return (t.sample * j.size.queries + p) * j.size.query_stride + t.head * j.size.width;
}
__device__ inline int64_t y_place(const Job &j, const Task &t, int64_t p)
{
    return ((t.sample * j.size.queries + p) * j.size.heads + t.head) * j.size.width;
}
__device__ inline int64_t key_place(const Job &j, const Task &t, int64_t p, int64_t column)
{
    return (t.sequence * j.size.keys + p) * j.size.key_stride + column + t.head * j.size.width;
}
__device__ inline int64_t sum_place(const Job &j, const Task &t, int64_t p)
{
    return (t.sample * j.size.heads + t.head) * j.size.queries + p;
}

/* Of how many keys, counted from the first that can be seen, query p sees some. */
__device__ inline int64_t seen_by(const Job &j, const Task &t, int64_t p)
{
    if (p >= j.size.queries) return 0;
    if (!j.causal || p - t.first + 1 > t.count) return t.count;
    return p < t.first ? 0 : p - t.first + 1;
}

/* What dropout multiplies the weight of a query and a key by (p and k: positions). */
__device__ inline float mask_of(const Job &j, const Task &t, int64_t p, int64_t k)
{
    const uint64_t sample =
        static_cast<uint64_t>(j.clock[CLOCK_FIRST_SAMPLE]) + static_cast<uint64_t>(t.sample);
    const uint64_t step = static_cast<uint64_t>(j.clock[CLOCK_STEP]);
    const uint64_t index =
        attention_block(sample, t.head, p, j.positions) + static_cast<uint64_t>(k / DROPOUT_WORDS);
    const uint64_t key =
        philox_key(dropout_seed(static_cast<uint64_t>(j.clock[CLOCK_SEED]), j.name_key), RANDOM_DROPOUT);
    uint32_t word[DROPOUT_WORDS] = {static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32),
                                    static_cast<uint32_t>(step), static_cast<uint32_t>(step >> 32)};
    philox(static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32), word);
    return word[k % DROPOUT_WORDS] >> 8 >= j.threshold ? j.kept : 0.0f;
}

/* `rows` rows of a tile, `stride` floats apart in shared memory: row r of `from` + r * apart, zero unless `r < there`. */
template <typename T>
__device__ void load_tile(float *tile, int stride, const T *from, int64_t apart, int rows, int64_t there,
                          int64_t width)
{
    for (int i = static_cast<int>(threadIdx.x); i < rows * static_cast<int>(width); i += THREADS) {
        const int r = i / static_cast<int>(width), c = i % static_cast<int>(width);
        tile[r * stride + c] = r < there ? to_float(from[r * apart + c]) : 0.0f;
    }
}

/* Which rows of a tile of dy are not all zeros; a warp takes a row at a time. */
__device__ inline void find_rows(const float *tile, int stride, int rows, int64_t width, bool *found)
{
    const int lane = static_cast<int>(threadIdx.x) % WARP, warp = static_cast<int>(threadIdx.x) / WARP;
    for (int r = warp; r < rows; r += WARPS) {
        bool any = false;
        for (int64_t c = lane; c < width; c += WARP)
            any = any || tile[r * stride + c] != 0;
        const bool all = __any_sync(0xffffffffu, any ? 1 : 0) != 0;
        if (lane == 0) found[r] = all;
    }
}

/* The products of this lane's row of a tile with the warp's rows of a block. */
template <int COLUMNS>
__device__ void scores_of(const float *rows, const float *tile, int stride, int64_t width,
                          float score[Rows<COLUMNS>::OF_WARP])
{
    const int lane = static_cast<int>(threadIdx.x) % WARP, warp = static_cast<int>(threadIdx.x) / WARP;
    const float *row = rows + warp * Rows<COLUMNS>::OF_WARP * stride;
    for (int i = 0; i < Rows<COLUMNS>::OF_WARP; ++i)
        score[i] = 0;
    for (int c = 0; c < static_cast<int>(width); ++c) {
        const float right = tile[lane * stride + c];
        for (int i = 0; i < Rows<COLUMNS>::OF_WARP; ++i)
            score[i] += row[i * stride + c] * right;
    }
}

/* sum[i] += over the tile's rows: the weight that its lane has for row i, times this lane's columns of it. */
template <int COLUMNS>
__device__ void add_weighted(const float weight[Rows<COLUMNS>::OF_WARP], const float *tile, int stride,
                             int there, int64_t width, float sum[Rows<COLUMNS>::OF_WARP][COLUMNS])
{
    const int lane = static_cast<int>(threadIdx.x) % WARP;
    for (int k = 0; k < there; ++k) {
        float value[COLUMNS];
        for (int c = 0; c < COLUMNS; ++c)
            value[c] = c * WARP + lane < width ? tile[k * stride + c * WARP + lane] : 0.0f;
        for (int i = 0; i < Rows<COLUMNS>::OF_WARP; ++i) {
            const float w = __shfl_sync(0xffffffffu, weight[i], k);
            for (int c = 0; c < COLUMNS; ++c)
                sum[i][c] += w * value[c];
        }
    }
}

template <typename T, int COLUMNS>
__global__ void forward_kernel(Job j, const T *query, const T *key_value, T *y, float *sums, int64_t blocks)
{
    constexpr int OF_WARP = Rows<COLUMNS>::OF_WARP, OF_BLOCK = Rows<COLUMNS>::OF_BLOCK;
    constexpr int STRIDE = COLUMNS * WARP + 1;
    __shared__ float queries[OF_BLOCK * STRIDE];
    __shared__ float keys[TILE * STRIDE];
    __shared__ float values[TILE * STRIDE];
    const int lane = static_cast<int>(threadIdx.x) % WARP, warp = static_cast<int>(threadIdx.x) / WARP;
    const int64_t tiles = (j.size.queries + OF_BLOCK - 1) / OF_BLOCK;
    for (int64_t index = blockIdx.x; index < blocks; index += gridDim.x) {
        const Task t = task_at(j, index / tiles);
        const int64_t begin = index % tiles * OF_BLOCK;
        load_tile(queries, STRIDE, query + query_place(j, t, begin), j.size.query_stride, OF_BLOCK,
                  j.size.queries - begin, j.size.width);
        float maximum[OF_WARP], total[OF_WARP], sum[OF_WARP][COLUMNS];
        for (int i = 0; i < OF_WARP; ++i) {
            maximum[i] = __uint_as_float(0xff800000u); /* minus infinity */
            total[i] = 0;
            for (int c = 0; c < COLUMNS; ++c)
                sum[i][c] = 0;
        }
        const int64_t most =
            seen_by(j, t, begin + OF_BLOCK < j.size.queries ? begin + OF_BLOCK - 1 : j.size.queries - 1);
        for (int64_t key = 0; key < most; key += TILE) {
            const int64_t left = most - key;
            const int there = left < TILE ? static_cast<int>(left) : TILE;
            __syncthreads();
            load_tile(keys, STRIDE, key_value + key_place(j, t, t.first + key, j.size.key_column),
                      j.size.key_stride, TILE, there, j.size.width);
            load_tile(values, STRIDE, key_value + key_place(j, t, t.first + key, j.size.value_column),
                      j.size.key_stride, TILE, there, j.size.width);
            __syncthreads();
            float weight[OF_WARP];
            scores_of<COLUMNS>(queries, keys, STRIDE, j.size.width, weight);
            for (int i = 0; i < OF_WARP; ++i) {
                const int64_t p = begin + warp * OF_WARP + i;
                const bool sees = key + lane < seen_by(j, t, p);
                const float score = weight[i] * j.scale;
                float next = warp_max(sees ? score : __uint_as_float(0xff800000u));
                next = next > maximum[i] ? next : maximum[i];
                const float shrink = maximum[i] == next ? 1.0f : expf(maximum[i] - next);
                float w = sees ? expf(score - next) : 0.0f;
                total[i] = total[i] * shrink + warp_sum(w);
                maximum[i] = next;
                if (j.drops && sees) w *= mask_of(j, t, p, t.first + key + lane);
                weight[i] = w;
                for (int c = 0; c < COLUMNS; ++c)
                    sum[i][c] *= shrink;
            }
            add_weighted<COLUMNS>(weight, values, STRIDE, there, j.size.width, sum);
        }
        for (int i = 0; i < OF_WARP; ++i) {
            const int64_t p = begin + warp * OF_WARP + i;
            if (p >= j.size.queries) break;
            const bool sees = seen_by(j, t, p) > 0;
            const float share = sees ? 1 / total[i] : 0.0f;
            for (int c = 0; c < COLUMNS; ++c)
                if (c * WARP + lane < j.size.width)
                    y[y_place(j, t, p) + c * WARP + lane] = from_float<T>(sees ? sum[i][c] * share : 0.0f);
            if (lane == 0) sums[sum_place(j, t, p)] = sees ? maximum[i] + logf(total[i]) : 0.0f;
        }
        __syncthreads();
    }
}

/* The weight of a pair, and the gradient of its score; product: dy . y of the query. */
struct Pair {
    float kept, d_score;
};
__device__ inline Pair pair_of(const Job &j, const Task &t, int64_t p, int64_t key, float score,
                               float d_weight, float sum, float product)
{
    const float e = expf(score * j.scale - sum), mask = j.drops ? mask_of(j, t, p, t.first + key) : 1.0f;
    return Pair{e * mask, e * (d_weight * mask - product)};
}

/* d_query, and dy . y of each query into `products`. */
template <typename T, int COLUMNS>
__global__ void query_kernel(Job j, const T *query, const T *key_value, const T *dy, const T *y,
                             const float *sums, float *products, T *d_query, int64_t blocks)
{
    constexpr int OF_WARP = Rows<COLUMNS>::OF_WARP, OF_BLOCK = Rows<COLUMNS>::OF_BLOCK;
    constexpr int STRIDE = COLUMNS * WARP + 1;
    __shared__ float queries[OF_BLOCK * STRIDE];
    __shared__ float d_ys[OF_BLOCK * STRIDE];
    __shared__ float keys[TILE * STRIDE];
    __shared__ float values[TILE * STRIDE];
    __shared__ bool has_gradient[OF_BLOCK];
    const int lane = static_cast<int>(threadIdx.x) % WARP, warp = static_cast<int>(threadIdx.x) / WARP;
    const int64_t tiles = (j.size.queries + OF_BLOCK - 1) / OF_BLOCK;
    for (int64_t index = blockIdx.x; index < blocks; index += gridDim.x) {
        const Task t = task_at(j, index / tiles);
        const int64_t begin = index % tiles * OF_BLOCK;
        load_tile(queries, STRIDE, query + query_place(j, t, begin), j.size.query_stride, OF_BLOCK,
                  j.size.queries - begin, j.size.width);
        load_tile(d_ys, STRIDE, dy + y_place(j, t, begin), j.size.heads * j.size.width, OF_BLOCK,
                  j.size.queries - begin, j.size.width);
        __syncthreads();
        find_rows(d_ys, STRIDE, OF_BLOCK, j.size.width, has_gradient);
        __syncthreads();
        float product[OF_WARP], sum[OF_WARP][COLUMNS];
        int64_t seen[OF_WARP];
        for (int i = 0; i < OF_WARP; ++i) {
            const int row = warp * OF_WARP + i;
            const int64_t p = begin + row;
            seen[i] = has_gradient[row] ? seen_by(j, t, p) : 0;
            float part = 0;
            for (int c = 0; c < COLUMNS; ++c) {
                const int column = c * WARP + lane;
                if (seen[i] > 0 && column < j.size.width)
                    part += d_ys[row * STRIDE + column] * to_float(y[y_place(j, t, p) + column]);
                sum[i][c] = 0;
            }
            product[i] = warp_sum(part);
            if (lane == 0 && p < j.size.queries) products[sum_place(j, t, p)] = product[i];
        }
        const int64_t most =
            seen_by(j, t, begin + OF_BLOCK < j.size.queries ? begin + OF_BLOCK - 1 : j.size.queries - 1);
        for (int64_t key = 0; key < most; key += TILE) {
            const int64_t left = most - key;
            const int there = left < TILE ? static_cast<int>(left) : TILE;
            __syncthreads();
            load_tile(keys, STRIDE, key_value + key_place(j, t, t.first + key, j.size.key_column),
                      j.size.key_stride, TILE, there, j.size.width);
            load_tile(values, STRIDE, key_value + key_place(j, t, t.first + key, j.size.value_column),
                      j.size.key_stride, TILE, there, j.size.width);
            __syncthreads();
            float score[OF_WARP], d_weight[OF_WARP];
            scores_of<COLUMNS>(queries, keys, STRIDE, j.size.width, score);
            scores_of<COLUMNS>(d_ys, values, STRIDE, j.size.width, d_weight);
            for (int i = 0; i < OF_WARP; ++i) {
                const int64_t p = begin + warp * OF_WARP + i;
                float d = 0;
                if (key + lane < seen[i])
                    d = pair_of(j, t, p, key + lane, score[i], d_weight[i], sums[sum_place(j, t, p)],
                                product[i])
                            .d_score;
                score[i] = d;
            }
            add_weighted<COLUMNS>(score, keys, STRIDE, there, j.size.width, sum);
        }
        for (int i = 0; i < OF_WARP; ++i) {
            const int64_t p = begin + warp * OF_WARP + i;
            if (p >= j.size.queries) break;
            for (int c = 0; c < COLUMNS; ++c)
                if (c * WARP + lane < j.size.width)
                    d_query[query_place(j, t, p) + c * WARP + lane] = from_float<T>(sum[i][c] * j.scale);
        }
        __syncthreads();
    }
}

/* The gradients of keys and values: blocks take keys, and queries pass by. */
template <typename T, int COLUMNS>
__global__ void key_kernel(Job j, const T *query, const T *key_value, const T *dy, const float *sums,
                           const float *products, T *d_key_value, int64_t blocks)
{
    constexpr int OF_WARP = Rows<COLUMNS>::OF_WARP, OF_BLOCK = Rows<COLUMNS>::OF_BLOCK;
    constexpr int STRIDE = COLUMNS * WARP + 1;
    __shared__ float keys[OF_BLOCK * STRIDE];
    __shared__ float values[OF_BLOCK * STRIDE];
    __shared__ float queries[TILE * STRIDE];
    __shared__ float d_ys[TILE * STRIDE];
    __shared__ bool has_gradient[TILE];
    const int lane = static_cast<int>(threadIdx.x) % WARP, warp = static_cast<int>(threadIdx.x) / WARP;
    const int64_t tiles = (j.size.keys + OF_BLOCK - 1) / OF_BLOCK;
    for (int64_t index = blockIdx.x; index < blocks; index += gridDim.x) {
        const Task t = task_at(j, index / tiles);
        const int64_t begin = index % tiles * OF_BLOCK; /* a position; those before `first` nobody sees */
        float d_key[OF_WARP][COLUMNS], d_value[OF_WARP][COLUMNS];
        for (int i = 0; i < OF_WARP; ++i)
            for (int c = 0; c < COLUMNS; ++c)
                d_key[i][c] = d_value[i][c] = 0;
        /* Positions before `first` and behind the end are not read. */
        for (int i = static_cast<int>(threadIdx.x); i < OF_BLOCK * static_cast<int>(j.size.width);
             i += THREADS) {
            const int r = i / static_cast<int>(j.size.width), c = i % static_cast<int>(j.size.width);
            const int64_t p = begin + r;
            const bool there = p >= t.first && p < t.first + t.count;
            keys[r * STRIDE + c] =
                there ? to_float(key_value[key_place(j, t, p, j.size.key_column) + c]) : 0.0f;
            values[r * STRIDE + c] =
                there ? to_float(key_value[key_place(j, t, p, j.size.value_column) + c]) : 0.0f;
        }
        const int64_t start = j.causal ? begin / TILE * TILE : 0;
        const bool any = begin < t.first + t.count && begin + OF_BLOCK > t.first;
        for (int64_t first = start; any && first < j.size.queries; first += TILE) {
            const int64_t left = j.size.queries - first;
            const int there = left < TILE ? static_cast<int>(left) : TILE;
            __syncthreads();
            load_tile(queries, STRIDE, query + query_place(j, t, first), j.size.query_stride, TILE, there,
                      j.size.width);
            load_tile(d_ys, STRIDE, dy + y_place(j, t, first), j.size.heads * j.size.width, TILE, there,
                      j.size.width);
            __syncthreads();
            find_rows(d_ys, STRIDE, TILE, j.size.width, has_gradient);
            __syncthreads();
            /* What a query without a gradient holds goes nowhere. */
            for (int i = static_cast<int>(threadIdx.x); i < TILE * static_cast<int>(j.size.width);
                 i += THREADS) {
                const int r = i / static_cast<int>(j.size.width), c = i % static_cast<int>(j.size.width);
                if (!has_gradient[r] || seen_by(j, t, first + r) == 0) queries[r * STRIDE + c] = 0;
            }
            __syncthreads();
            float score[OF_WARP], d_weight[OF_WARP];
            scores_of<COLUMNS>(keys, queries, STRIDE, j.size.width, score);
            scores_of<COLUMNS>(values, d_ys, STRIDE, j.size.width, d_weight);
            const int64_t p = first + lane;
            const int64_t seen = lane < there && has_gradient[lane] ? seen_by(j, t, p) : 0;
            for (int i = 0; i < OF_WARP; ++i) {
                const int64_t key = begin + warp * OF_WARP + i - t.first;
                Pair pair{0, 0};
                if (key >= 0 && key < seen)
                    pair = pair_of(j, t, p, key, score[i], d_weight[i], sums[sum_place(j, t, p)],
                                   products[sum_place(j, t, p)]);
                score[i] = pair.d_score;
                d_weight[i] = pair.kept;
            }
            add_weighted<COLUMNS>(score, queries, STRIDE, there, j.size.width, d_key);
            add_weighted<COLUMNS>(d_weight, d_ys, STRIDE, there, j.size.width, d_value);
        }
        for (int i = 0; i < OF_WARP; ++i) {
            const int64_t p = begin + warp * OF_WARP + i;
            if (p >= j.size.keys) break;
            for (int c = 0; c < COLUMNS; ++c) {
                const int column = c * WARP + lane;
                if (column >= j.size.width) continue;
                d_key_value[key_place(j, t, p, j.size.key_column) + column] =
                    from_float<T>(d_key[i][c] * j.scale);
                d_key_value[key_place(j, t, p, j.size.value_column) + column] = from_float<T>(d_value[i][c]);
            }
        }
        __syncthreads();
    }
}

Job job_of(const Call *call, const Tensor in[ATTENTION_INPUTS])
{
    const auto *a = static_cast<const AttentionAttributes *>(call->attributes);
    Job j{};
    j.size = attention_sizes(a, in[ATTENTION_QUERY].shape, in[ATTENTION_KEY_VALUE].shape);
    j.causal = a->causal;
    j.drops = a->probability > 0;
    j.scale = static_cast<float>(1 / sqrt(static_cast<double>(a->head_width)));
    j.kept = dropout_scale(a->probability);
    j.threshold = dropout_threshold(a->probability);
    j.positions = attention_positions(j.size.queries, j.size.keys);
    j.name_key = a->name_key;
    j.first = static_cast<const int32_t *>(in[ATTENTION_FIRST].data);
    j.end = static_cast<const int32_t *>(in[ATTENTION_END].data);
    j.sequence = static_cast<const int32_t *>(in[ATTENTION_ROW].data);
    j.clock = static_cast<const int64_t *>(in[ATTENTION_CLOCK].data);
    return j;
}

const void *keys_of(const Job &j, const Tensor in[ATTENTION_INPUTS])
{
    return j.size.fused ? in[ATTENTION_QUERY].data : in[ATTENTION_KEY_VALUE].data;
}

Status check_width(const Call *call)
{
    const auto *a = static_cast<const AttentionAttributes *>(call->attributes);
    if (a->head_width <= MOST_WIDTH) return OK;
    return fail(STATUS_UNSUPPORTED, "heads of %lld numbers; on a GPU they can have %d",
                static_cast<long long>(a->head_width), MOST_WIDTH);
}

Status forward_prepare(Call *call, size_t *scratch_bytes)
{
    *scratch_bytes = 0;
    return check_width(call);
}

template <typename T, int COLUMNS> Status forward_typed(const Call *call)
{
    const Job j = job_of(call, call->in);
    constexpr int OF_BLOCK = Rows<COLUMNS>::OF_BLOCK;
    const int64_t blocks = j.size.samples * j.size.heads * ((j.size.queries + OF_BLOCK - 1) / OF_BLOCK);
    return launch("attention", forward_kernel<T, COLUMNS>, blocks_for(blocks, 1), THREADS, 0,
                  device_stream(call->device), j, static_cast<const T *>(call->in[ATTENTION_QUERY].data),
                  static_cast<const T *>(keys_of(j, call->in)), static_cast<T *>(call->out[ATTENTION_Y].data),
                  static_cast<float *>(call->out[ATTENTION_SUM].data), blocks);
}

template <typename T> Status forward_sized(const Call *call)
{
    const auto *a = static_cast<const AttentionAttributes *>(call->attributes);
    if (a->head_width <= WARP) return forward_typed<T, 1>(call);
    return a->head_width <= 2 * WARP ? forward_typed<T, 2>(call) : forward_typed<T, 4>(call);
}

Status forward_run(const Call *call)
{
    return call->out[ATTENTION_Y].shape.type == BFLOAT16 ? forward_sized<Bfloat16>(call)
                                                         : forward_sized<float>(call);
}

/* Scratch: dy . y of each query. */
Status backward_prepare(Call *call, size_t *scratch_bytes)
{
    *scratch_bytes = shape_bytes(call->in[ATTENTION_BACKWARD_SUM].shape);
    return check_width(call);
}

template <typename T, int COLUMNS> Status backward_typed(const Call *call)
{
    const Tensor *in = call->in + ATTENTION_BACKWARD_FORWARD;
    const Job j = job_of(call, in);
    constexpr int OF_BLOCK = Rows<COLUMNS>::OF_BLOCK;
    const int64_t heads = j.size.samples * j.size.heads;
    const int64_t query_blocks = heads * ((j.size.queries + OF_BLOCK - 1) / OF_BLOCK);
    const int64_t key_blocks = heads * ((j.size.keys + OF_BLOCK - 1) / OF_BLOCK);
    const Stream stream = device_stream(call->device);
    const auto *query = static_cast<const T *>(in[ATTENTION_QUERY].data);
    const auto *key_value = static_cast<const T *>(keys_of(j, in));
    const auto *dy = static_cast<const T *>(call->in[ATTENTION_BACKWARD_DY].data);
    const auto *y = static_cast<const T *>(call->in[ATTENTION_BACKWARD_Y].data);
    const auto *sums = static_cast<const float *>(call->in[ATTENTION_BACKWARD_SUM].data);
    auto *products = static_cast<float *>(call->scratch);
    auto *d_query = static_cast<T *>(call->out[ATTENTION_BACKWARD_DQUERY].data);
    auto *d_key_value =
        j.size.fused ? d_query : static_cast<T *>(call->out[ATTENTION_BACKWARD_DKEY_VALUE].data);
    TRY(launch("attention_backward", query_kernel<T, COLUMNS>, blocks_for(query_blocks, 1), THREADS, 0,
               stream, j, query, key_value, dy, y, sums, products, d_query, query_blocks));
    return launch("attention_backward", key_kernel<T, COLUMNS>, blocks_for(key_blocks, 1), THREADS, 0, stream,
                  j, query, key_value, dy, sums, products, d_key_value, key_blocks);
}

template <typename T> Status backward_sized(const Call *call)
{
    const auto *a = static_cast<const AttentionAttributes *>(call->attributes);
    if (a->head_width <= WARP) return backward_typed<T, 1>(call);
    return a->head_width <= 2 * WARP ? backward_typed<T, 2>(call) : backward_typed<T, 4>(call);
}

Status backward_run(const Call *call)
{
    return call->in[ATTENTION_BACKWARD_DY].shape.type == BFLOAT16 ? backward_sized<Bfloat16>(call)
                                                                  : backward_sized<float>(call);
}

/* ---- a step of decoding ---- */

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
    const auto *a = static_cast<const AttentionStepAttributes *>(call->attributes);
    *scratch_bytes = 0;
    if (a->head_width <= MOST_WIDTH) return OK;
    return fail(STATUS_UNSUPPORTED, "heads of %lld numbers; on a GPU they can have %d",
                static_cast<long long>(a->head_width), MOST_WIDTH);
}

template <typename T> Status step_typed(const Call *call)
{
    const auto *a = static_cast<const AttentionStepAttributes *>(call->attributes);
    const Shape cache = call->in[ATTENTION_STEP_CACHE].shape;
    const int64_t tasks = call->out[0].shape.extent[0] * a->heads;
    return launch("attention_step", step_kernel<T>, blocks_for(tasks, WARPS), THREADS, 0,
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
const Kernel attention_cuda = {forward_prepare, forward_run, nullptr, 0, 0, 0, nullptr};
const Kernel attention_backward_cuda = {backward_prepare, backward_run, nullptr, 0, 0, 0, nullptr};
const Kernel attention_step_cuda = {step_prepare, step_run, nullptr, 0, 0, 0, nullptr};
