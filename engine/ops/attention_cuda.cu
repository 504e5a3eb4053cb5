/* attention on CUDA: a block of threads takes a head of a sample and a few of its queries; what it needs of keys and values
 * is in shared memory, 32 keys at a time, and scores only ever in registers. Sentences are short, so one or two such
 * tiles are all. Backward has two kernels, each of which makes the scores anew: one sums over the keys of a query, the
 * other over the queries of a key, so that nothing is added by atomics and the same run gives the same bits.
 *
 * Long sequences have these kernels, too. cuDNN's fused attention computes in 16 bits only, knows of padding an end for each
 * sample but no first key, and drops by a generator of its own or by a mask of Lq x Lk numbers in memory, where our masks are
 * made from (seed, step, name of the layer, sample, element). */
#include "engine/ops/attention_cuda.cuh"

#include "engine/base/philox.h"
#include "engine/base/random.h"

namespace
{

constexpr int WARPS = 4, THREADS = WARPS * WARP, TILE = WARP;

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
struct HeadTask {
    int64_t sample, head, sequence, first, count;
};

__device__ inline HeadTask task_at(const Job &j, int64_t index)
{
    HeadTask t{index / j.size.heads, index % j.size.heads, 0, 0, 0};
    t.sequence = j.sequence != nullptr ? j.sequence[t.sample] : t.sample;
    if (t.sequence < 0 || t.sequence >= j.size.sequences) return t;
    int64_t end = j.end != nullptr ? j.end[t.sequence] : j.size.keys;
    end = end < j.size.keys ? end : j.size.keys;
    if (j.first != nullptr && j.first[t.sequence] > 0) t.first = j.first[t.sequence];
    t.count = end > t.first ? end - t.first : 0;
    return t;
}

__device__ inline int64_t query_place(const Job &j, const HeadTask &t, int64_t p)
{
    return (t.sample * j.size.queries + p) * j.size.query_stride + t.head * j.size.width;
}
__device__ inline int64_t y_place(const Job &j, const HeadTask &t, int64_t p)
{
    return ((t.sample * j.size.queries + p) * j.size.heads + t.head) * j.size.width;
}
__device__ inline int64_t key_place(const Job &j, const HeadTask &t, int64_t p, int64_t column)
{
    return (t.sequence * j.size.keys + p) * j.size.key_stride + column + t.head * j.size.width;
}
__device__ inline int64_t sum_place(const Job &j, const HeadTask &t, int64_t p)
{
    return (t.sample * j.size.heads + t.head) * j.size.queries + p;
}

/* Of how many keys, counted from the first that can be seen, query p sees some. */
__device__ inline int64_t seen_by(const Job &j, const HeadTask &t, int64_t p)
{
    if (p >= j.size.queries) return 0;
    if (!j.causal || p - t.first + 1 > t.count) return t.count;
    return p < t.first ? 0 : p - t.first + 1;
}

/* The most that one of `rows` queries from p on sees. */
__device__ inline int64_t seen_by_any(const Job &j, const HeadTask &t, int64_t p, int rows)
{
    return seen_by(j, t, p + rows < j.size.queries ? p + rows - 1 : j.size.queries - 1);
}

/* What dropout multiplies the weight of a query and a key by (p and k: positions). */
__device__ inline float mask_of(const Job &j, const HeadTask &t, int64_t p, int64_t k)
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

/* `rows` rows of a tile, `stride` floats apart in shared memory: row r of `from` + r * apart, zero and not read unless
 * begin <= r < end. */
template <typename T>
__device__ void load_tile(float *tile, int stride, const T *from, int64_t apart, int rows, int64_t begin,
                          int64_t end, int64_t width)
{
    for (int i = static_cast<int>(threadIdx.x); i < rows * static_cast<int>(width); i += THREADS) {
        const int r = i / static_cast<int>(width), c = i % static_cast<int>(width);
        tile[r * stride + c] = r >= begin && r < end ? to_float(from[r * apart + c]) : 0.0f;
    }
}

/* The queries from p on, and their dy: zeros behind the last. */
template <typename T>
__device__ void load_queries(float *tile, int stride, const Job &j, const HeadTask &t, const T *query,
                             int64_t p, int rows)
{
    load_tile(tile, stride, query + query_place(j, t, p), j.size.query_stride, rows, 0, j.size.queries - p,
              j.size.width);
}
template <typename T>
__device__ void load_d_ys(float *tile, int stride, const Job &j, const HeadTask &t, const T *dy, int64_t p,
                          int rows)
{
    load_tile(tile, stride, dy + y_place(j, t, p), j.size.heads * j.size.width, rows, 0, j.size.queries - p,
              j.size.width);
}

/* Keys and values from position p on: zeros before `first` and from `end` on, which are positions, too. */
template <typename T>
__device__ void load_keys(float *keys, float *values, int stride, const Job &j, const HeadTask &t,
                          const T *key_value, int64_t p, int rows, int64_t first, int64_t end)
{
    load_tile(keys, stride, key_value + key_place(j, t, p, j.size.key_column), j.size.key_stride, rows,
              first - p, end - p, j.size.width);
    load_tile(values, stride, key_value + key_place(j, t, p, j.size.value_column), j.size.key_stride, rows,
              first - p, end - p, j.size.width);
}

/* The next tile of keys and values, from the one that is number `key` of those that can be seen up to number `most`; of how
 * many keys. All threads of the block are done with the tile before, and find this one complete. */
template <typename T>
__device__ int next_keys(float *keys, float *values, int stride, const Job &j, const HeadTask &t,
                         const T *key_value, int64_t key, int64_t most)
{
    __syncthreads();
    load_keys(keys, values, stride, j, t, key_value, t.first + key, TILE, t.first, t.first + most);
    __syncthreads();
    return most - key < TILE ? static_cast<int>(most - key) : TILE;
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

/* This lane's columns of a sum, times a factor, into a row. */
template <typename T, int COLUMNS>
__device__ void store_columns(T *row, const float sum[COLUMNS], float factor, int64_t width)
{
    const int lane = static_cast<int>(threadIdx.x) % WARP;
    for (int c = 0; c < COLUMNS; ++c)
        if (c * WARP + lane < width) row[c * WARP + lane] = from_float<T>(sum[c] * factor);
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
        const HeadTask t = task_at(j, index / tiles);
        const int64_t begin = index % tiles * OF_BLOCK;
        load_queries(queries, STRIDE, j, t, query, begin, OF_BLOCK);
        float maximum[OF_WARP], total[OF_WARP], sum[OF_WARP][COLUMNS];
        for (int i = 0; i < OF_WARP; ++i) {
            maximum[i] = __uint_as_float(0xff800000u); /* minus infinity */
            total[i] = 0;
            for (int c = 0; c < COLUMNS; ++c)
                sum[i][c] = 0;
        }
        const int64_t most = seen_by_any(j, t, begin, OF_BLOCK);
        for (int64_t key = 0; key < most; key += TILE) {
            const int there = next_keys(keys, values, STRIDE, j, t, key_value, key, most);
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
            for (int c = 0; c < COLUMNS && !sees; ++c)
                sum[i][c] = 0; /* also of NaN that other queries see */
            store_columns<T, COLUMNS>(y + y_place(j, t, p), sum[i], sees ? 1 / total[i] : 0.0f, j.size.width);
            if (lane == 0) sums[sum_place(j, t, p)] = sees ? maximum[i] + logf(total[i]) : 0.0f;
        }
        __syncthreads();
    }
}

/* The weight of a pair, and the gradient of its score; product: dy . y of the query. */
struct Pair {
    float kept, d_score;
};
__device__ inline Pair pair_of(const Job &j, const HeadTask &t, int64_t p, int64_t key, float score,
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
        const HeadTask t = task_at(j, index / tiles);
        const int64_t begin = index % tiles * OF_BLOCK;
        load_queries(queries, STRIDE, j, t, query, begin, OF_BLOCK);
        load_d_ys(d_ys, STRIDE, j, t, dy, begin, OF_BLOCK);
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
        const int64_t most = seen_by_any(j, t, begin, OF_BLOCK);
        for (int64_t key = 0; key < most; key += TILE) {
            const int there = next_keys(keys, values, STRIDE, j, t, key_value, key, most);
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
            store_columns<T, COLUMNS>(d_query + query_place(j, t, p), sum[i], j.scale, j.size.width);
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
        const HeadTask t = task_at(j, index / tiles);
        const int64_t begin = index % tiles * OF_BLOCK; /* a position; those before `first` nobody sees */
        float d_key[OF_WARP][COLUMNS], d_value[OF_WARP][COLUMNS];
        for (int i = 0; i < OF_WARP; ++i)
            for (int c = 0; c < COLUMNS; ++c)
                d_key[i][c] = d_value[i][c] = 0;
        /* Positions before `first` and behind the end are not read. */
        load_keys(keys, values, STRIDE, j, t, key_value, begin, OF_BLOCK, t.first, t.first + t.count);
        const int64_t start = j.causal ? begin / TILE * TILE : 0;
        const bool any = begin < t.first + t.count && begin + OF_BLOCK > t.first;
        for (int64_t first = start; any && first < j.size.queries; first += TILE) {
            const int64_t left = j.size.queries - first;
            const int there = left < TILE ? static_cast<int>(left) : TILE;
            __syncthreads();
            load_queries(queries, STRIDE, j, t, query, first, TILE);
            load_d_ys(d_ys, STRIDE, j, t, dy, first, TILE);
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
            T *d_key_row = d_key_value + key_place(j, t, p, j.size.key_column);
            T *d_value_row = d_key_value + key_place(j, t, p, j.size.value_column);
            store_columns<T, COLUMNS>(d_key_row, d_key[i], j.scale, j.size.width);
            store_columns<T, COLUMNS>(d_value_row, d_value[i], 1, j.size.width);
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

/* Runs::run<T, COLUMNS> for the type of the activations and the width of the heads. */
template <typename Runs, typename T> Status run_sized(const Call *call)
{
    const int64_t width = static_cast<const AttentionAttributes *>(call->attributes)->head_width;
    if (width <= WARP) return Runs::template run<T, 1>(call);
    return width <= 2 * WARP ? Runs::template run<T, 2>(call) : Runs::template run<T, 4>(call);
}
template <typename Runs> Status run_typed(const Call *call)
{
    return call->in[0].shape.type == BFLOAT16 ? run_sized<Runs, Bfloat16>(call)
                                              : run_sized<Runs, float>(call);
}

/* How many blocks of rows: of `rows` positions of all heads. */
template <int COLUMNS> int64_t blocks_of(const Job &j, int64_t rows)
{
    constexpr int OF_BLOCK = Rows<COLUMNS>::OF_BLOCK;
    return j.size.samples * j.size.heads * ((rows + OF_BLOCK - 1) / OF_BLOCK);
}

Status forward_prepare(Call *call, size_t *scratch_bytes)
{
    *scratch_bytes = 0;
    return attention_check_width(static_cast<const AttentionAttributes *>(call->attributes)->head_width);
}

struct Forward {
    template <typename T, int COLUMNS> static Status run(const Call *call)
    {
        const Job j = job_of(call, call->in);
        const int64_t blocks = blocks_of<COLUMNS>(j, j.size.queries);
        return launch("attention", forward_kernel<T, COLUMNS>, blocks_for(blocks, 1), THREADS, 0,
                      device_stream(call->device), j, static_cast<const T *>(call->in[ATTENTION_QUERY].data),
                      static_cast<const T *>(keys_of(j, call->in)),
                      static_cast<T *>(call->out[ATTENTION_Y].data),
                      static_cast<float *>(call->out[ATTENTION_SUM].data), blocks);
    }
};

/* Scratch: dy . y of each query. */
Status backward_prepare(Call *call, size_t *scratch_bytes)
{
    *scratch_bytes = shape_bytes(call->in[ATTENTION_BACKWARD_SUM].shape);
    return attention_check_width(static_cast<const AttentionAttributes *>(call->attributes)->head_width);
}

struct Backward {
    template <typename T, int COLUMNS> static Status run(const Call *call)
    {
        const Tensor *in = call->in + ATTENTION_BACKWARD_FORWARD;
        const Job j = job_of(call, in);
        const int64_t query_blocks = blocks_of<COLUMNS>(j, j.size.queries);
        const int64_t key_blocks = blocks_of<COLUMNS>(j, j.size.keys);
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
        return launch("attention_backward", key_kernel<T, COLUMNS>, blocks_for(key_blocks, 1), THREADS, 0,
                      stream, j, query, key_value, dy, sums, products, d_key_value, key_blocks);
    }
};

} // namespace

/* prepare, run, release, in_place, strided_in, strided_out, pack: as on the CPU. */
const Kernel attention_cuda = {forward_prepare, run_typed<Forward>, nullptr, 0, 0, 0, nullptr};
const Kernel attention_backward_cuda = {backward_prepare, run_typed<Backward>, nullptr, 0, 0, 0, nullptr};
