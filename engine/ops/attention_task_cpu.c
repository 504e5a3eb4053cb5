/* A task of attention on the CPU: what forward and backward load, multiply and store of a head of a sample. */
#include "engine/ops/attention_cpu.h"

#include "engine/base/random.h"

#include <math.h>

enum { TILE_VECTORS = VECTOR_AVX512 ? 4 : 2 }; /* of a product's columns, in registers */

/* c = a b, or c += a b: so many rows (a multiple of ATTENTION_TILE_ROWS) and vectors of columns. Element [r,k] of a is at r a_row + k
 * a_depth; rows of b and c are b_row and c_row apart. */
typedef struct {
    const float *a, *b;
    float *c;
    int64_t a_row, a_depth, b_row, c_row, rows, depth, vectors;
    bool adds;
} Product;

VECTOR_INLINE void product_tile(const Product *p, int64_t row, int64_t vector, int rows, int vectors)
{
    Vector sum[2 * ATTENTION_TILE_ROWS][TILE_VECTORS];
    for (int r = 0; r < rows; ++r)
        for (int v = 0; v < vectors; ++v)
            sum[r][v] = p->adds ? vector_load(p->c + (row + r) * p->c_row, (vector + v) * LANES, LANES, false)
                                : vector_all(0);
    const float *a = p->a + row * p->a_row, *b = p->b + vector * LANES;
    for (int64_t k = 0; k < p->depth; ++k) {
        Vector right[TILE_VECTORS];
        for (int v = 0; v < vectors; ++v)
            right[v] = vector_load(b, k * p->b_row + v * LANES, LANES, false);
        for (int r = 0; r < rows; ++r) {
            const float left = a[r * p->a_row + k * p->a_depth];
            for (int v = 0; v < vectors; ++v)
                sum[r][v] += left * right[v];
        }
    }
    for (int r = 0; r < rows; ++r)
        for (int v = 0; v < vectors; ++v)
            vector_store(p->c + (row + r) * p->c_row, (vector + v) * LANES, LANES, false, sum[r][v]);
}

/* Tiles of one vector are twice as high, so that enough sums are under way at a time. */
static void product(Product p)
{
    int64_t v = 0;
    for (; v + TILE_VECTORS <= p.vectors; v += TILE_VECTORS)
        for (int64_t row = 0; row < p.rows; row += ATTENTION_TILE_ROWS)
            product_tile(&p, row, v, ATTENTION_TILE_ROWS, TILE_VECTORS);
    for (; v < p.vectors; ++v) {
        int64_t row = 0;
        for (; row + 2 * ATTENTION_TILE_ROWS <= p.rows; row += 2 * ATTENTION_TILE_ROWS)
            product_tile(&p, row, v, 2 * ATTENTION_TILE_ROWS, 1);
        if (row < p.rows) product_tile(&p, row, v, ATTENTION_TILE_ROWS, 1);
    }
}

AttentionJob attention_job(const Call *call, const Tensor in[ATTENTION_INPUTS])
{
    const AttentionAttributes *a = call->attributes;
    const Tensor *query = &in[ATTENTION_QUERY], *keys = &in[ATTENTION_KEY_VALUE];
    AttentionJob j = {.size = attention_sizes(a, query->shape, keys->shape),
                      .bf16 = query->shape.type == BFLOAT16,
                      .causal = a->causal,
                      .drops = a->probability > 0,
                      .scale = (float)(1 / sqrt((double)a->head_width)),
                      .row = round_up(a->head_width, LANES),
                      .query = query->data,
                      .key_value = keys->shape.rank < 0 ? query->data : keys->data,
                      .first = in[ATTENTION_FIRST].data,
                      .end = in[ATTENTION_END].data,
                      .sequence = in[ATTENTION_ROW].data};
    j.positions = attention_positions(j.size.queries, j.size.keys);
    if (j.drops) {
        const int64_t *clock = in[ATTENTION_CLOCK].data;
        j.seed = dropout_seed((uint64_t)clock[CLOCK_SEED], a->name_key);
        j.step = (uint64_t)clock[CLOCK_STEP];
        j.first_sample = (uint64_t)clock[CLOCK_FIRST_SAMPLE];
        j.threshold = dropout_threshold(a->probability);
        j.kept = dropout_scale(a->probability);
    }
    return j;
}

/* Points the task into a thread's scratch, or only counts its floats. */
int64_t attention_task_floats(const AttentionJob *j, bool backward, float *at, AttentionTask *t)
{
    const int64_t keys = round_up(j->size.keys, ATTENTION_KEYS), across = keys * j->size.width,
                  along = keys * j->row;
    const int64_t queries = ATTENTION_QUERIES * j->row, scores = (int64_t)ATTENTION_QUERIES * ATTENTION_KEYS;
    const struct {
        float **place;
        int64_t floats;
    } parts[] = {
        {&t->key, across},
        {&t->value, backward ? 0 : along},
        {&t->query, queries},
        {&t->y, backward ? 0 : queries},
        {&t->score, scores},
        {&t->mask, j->drops ? scores : 0},
        {&t->value_across, backward ? across : 0},
        {&t->key_along, backward ? along : 0},
        {&t->d_key, backward ? along : 0},
        {&t->d_value, backward ? along : 0},
        {&t->d_y, backward ? queries : 0},
        {&t->d_query, backward ? queries : 0},
        {&t->d_score, backward ? scores : 0},
    };
    int64_t floats = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; ++i) {
        if (at != NULL) *parts[i].place = at + floats;
        floats += round_up(parts[i].floats, VECTOR_BYTES / 4);
    }
    return floats;
}

/* Chooses task `index` of samples x heads. */
void attention_task_begin(const AttentionJob *j, int64_t index, AttentionTask *t)
{
    t->sample = index / j->size.heads;
    t->head = index % j->size.heads;
    t->sequence = j->sequence != NULL ? j->sequence[t->sample] : t->sample;
    t->first = t->count = 0;
    if (t->sequence < 0) return;
    int64_t end = j->end != NULL ? j->end[t->sequence] : j->size.keys;
    if (end > j->size.keys) end = j->size.keys;
    if (j->first != NULL && j->first[t->sequence] > 0) t->first = j->first[t->sequence];
    if (end > t->first) t->count = end - t->first;
}

/* A row of `width` elements as floats times `scale`, zero up to whole vectors. */
void attention_load_row(float *to, const void *from, int64_t place, int64_t width, bool bf16, float scale)
{
    for (int64_t c = 0; c < width; c += LANES) {
        const int lanes = width - c < LANES ? (int)(width - c) : LANES;
        const Vector x =
            bf16 ? vector_load(from, place + c, lanes, true) : vector_load(from, place + c, lanes, false);
        vector_store(to, c, LANES, false, x * scale);
    }
}

void attention_store_row(void *to, int64_t place, const float *from, int64_t width, bool bf16, float scale)
{
    for (int64_t c = 0; c < width; c += LANES) {
        const int lanes = width - c < LANES ? (int)(width - c) : LANES;
        const Vector x = vector_load(from, c, LANES, false) * scale;
        if (bf16)
            vector_store(to, place + c, lanes, true, x);
        else
            vector_store(to, place + c, lanes, false, x);
    }
}

void attention_load_rows(const AttentionJob *j, const AttentionTask *t, int64_t column, float *to)
{
    for (int64_t k = 0; k < t->count; ++k)
        attention_load_row(to + k * j->row, j->key_value, key_place(j, t, t->first + k, column),
                           j->size.width, j->bf16, 1);
}

/* Swaps rows and columns of LANES vectors: in each round, of lanes that are `half` apart in two vectors that are. */
VECTOR_INLINE void transpose(Vector row[LANES])
{
#ifdef __clang__
    float from[LANES][LANES], to[LANES][LANES];
    memcpy(from, row, sizeof from);
    for (int r = 0; r < LANES; ++r)
        for (int c = 0; c < LANES; ++c)
            to[c][r] = from[r][c];
    memcpy(row, to, sizeof to);
#else
#pragma GCC unroll 4
    for (int half = 1; half < LANES; half *= 2) {
        IntVector first = {0}, second = {0}; /* lanes of the second vector count from LANES on */
        for (int lane = 0; lane < LANES; ++lane) {
            first[lane] = (lane & half) == 0 ? lane : lane - half + LANES;
            second[lane] = (lane & half) == 0 ? lane + half : lane + LANES;
        }
#pragma GCC unroll 16
        for (int r = 0; r < LANES; ++r) {
            if ((r & half) != 0) continue;
            const Vector a = row[r], b = row[r + half];
            row[r] = __builtin_shuffle(a, b, first);
            row[r + half] = __builtin_shuffle(a, b, second);
        }
    }
#endif
}

/* The same keys or values with key beside key, in blocks of ATTENTION_KEYS; zero up to whole vectors. */
VECTOR_INLINE void load_across_typed(const AttentionJob *j, const AttentionTask *t, int64_t column, float *to,
                                     bool bf16)
{
    const int64_t width = j->size.width;
    for (int64_t begin = 0; begin < t->count; begin += LANES) {
        float *block = to + begin / ATTENTION_KEYS * ATTENTION_KEYS * width + begin % ATTENTION_KEYS;
        const int there = t->count - begin < LANES ? (int)(t->count - begin) : LANES;
        for (int64_t c = 0; c < width; c += LANES) {
            const int lanes = width - c < LANES ? (int)(width - c) : LANES;
            Vector row[LANES];
            for (int k = 0; k < LANES; ++k)
                row[k] = k < there
                             ? vector_load(j->key_value, key_place(j, t, t->first + begin + k, column) + c,
                                           lanes, bf16)
                             : vector_all(0);
            transpose(row);
            for (int i = 0; i < lanes; ++i)
                vector_store(block, (c + i) * ATTENTION_KEYS, LANES, false, row[i]);
        }
    }
}

void attention_load_across(const AttentionJob *j, const AttentionTask *t, int64_t column, float *to)
{
    if (j->bf16)
        load_across_typed(j, t, column, to, true);
    else
        load_across_typed(j, t, column, to, false);
}

static int64_t seen_by(const AttentionJob *j, const AttentionTask *t, int64_t query)
{
    if (!j->causal || query - t->first + 1 > t->count) return t->count;
    return query < t->first ? 0 : query - t->first + 1;
}

/* What dropout multiplies the weights of a block of queries and one of keys by. */
void attention_make_mask(const AttentionJob *j, AttentionTask *t, int64_t query, int64_t begin)
{
    for (int64_t q = 0; q < ATTENTION_QUERIES; ++q) {
        const int64_t key = t->first + begin, skip = key % DROPOUT_WORDS;
        const uint64_t block =
            attention_block(j->first_sample + (uint64_t)t->sample, t->head, query + q, j->positions) +
            (uint64_t)(key / DROPOUT_WORDS);
        enum { BLOCKS = ATTENTION_KEYS / DROPOUT_WORDS + 1 };
        RandomBlock random[BLOCKS];
        if (t->seen[q] <= begin) continue;
        random_blocks(j->seed, RANDOM_DROPOUT, j->step, block, BLOCKS, random);
        memcpy(t->word, random, sizeof random);
        for (int k = 0; k < ATTENTION_KEYS; k += LANES) {
            BitsVector bits;
            memcpy(&bits, t->word + skip + k, sizeof bits);
            const IntVector keep = (IntVector)(bits >> 8) >= (IntVector){0} + (int32_t)j->threshold;
            vector_store(t->mask + q * ATTENTION_KEYS, k, LANES, false,
                         (Vector)(keep & (IntVector)vector_all(j->kept)));
        }
    }
}

/* scores of a block: rows of `a` times keys or values that stand across. */
void attention_multiply_across(const AttentionJob *j, const AttentionTask *t, const float *a,
                               const float *across, int64_t begin, float *to)
{
    product((Product){.a = a,
                      .b = across + begin * j->size.width,
                      .c = to,
                      .a_row = j->row,
                      .a_depth = 1,
                      .b_row = ATTENTION_KEYS,
                      .c_row = ATTENTION_KEYS,
                      .rows = t->rows,
                      .depth = j->size.width,
                      .vectors = vectors_of(t, begin)});
}

/* to += scores of a block times rows of keys or values. */
void attention_multiply_along(const AttentionJob *j, const AttentionTask *t, const float *scores,
                              const float *along, int64_t begin, float *to)
{
    product((Product){.a = scores,
                      .b = along + begin * j->row,
                      .c = to,
                      .a_row = ATTENTION_KEYS,
                      .a_depth = 1,
                      .b_row = j->row,
                      .c_row = j->row,
                      .rows = t->rows,
                      .depth = t->count - begin < ATTENTION_KEYS ? t->count - begin : ATTENTION_KEYS,
                      .vectors = j->row / LANES,
                      .adds = true});
}

/* to, rows of keys, += transposed scores times rows of queries. */
void attention_multiply_back(const AttentionJob *j, const AttentionTask *t, const float *scores,
                             const float *rows, int64_t begin, float *to)
{
    const int64_t there = t->count - begin < ATTENTION_KEYS ? t->count - begin : ATTENTION_KEYS;
    product((Product){.a = scores,
                      .b = rows,
                      .c = to + begin * j->row,
                      .a_row = 1,
                      .a_depth = ATTENTION_KEYS,
                      .b_row = j->row,
                      .c_row = j->row,
                      .rows = round_up(there, ATTENTION_TILE_ROWS),
                      .depth = ATTENTION_QUERIES,
                      .vectors = j->row / LANES,
                      .adds = true});
}

/* The queries from `query` on into the block, scaled; and how many keys they see. `skip` says of a query that it has no part:
 * it is then zero, as are rows behind the last. */
void attention_load_queries(const AttentionJob *j, AttentionTask *t, int64_t query,
                            const bool skip[ATTENTION_QUERIES])
{
    for (int64_t q = 0; q < ATTENTION_QUERIES; ++q) {
        t->seen[q] = 0;
        if (query + q < j->size.queries && !(skip != NULL && skip[q])) t->seen[q] = seen_by(j, t, query + q);
        if (t->seen[q] > 0)
            attention_load_row(t->query + q * j->row, j->query, query_place(j, t, query + q), j->size.width,
                               j->bf16, j->scale);
        else if (q < t->rows)
            memset(t->query + q * j->row, 0, (size_t)j->row * sizeof(float));
    }
}

int64_t attention_most_seen(const AttentionTask *t)
{
    int64_t most = 0;
    for (int q = 0; q < ATTENTION_QUERIES; ++q)
        most = t->seen[q] > most ? t->seen[q] : most;
    return most;
}

/* Threads worth waking: a task does about four operations for a pair of numbers. */
int attention_threads(const Device *device, const AttentionJob *j)
{
    const int64_t work = j->size.samples * j->size.heads * j->size.width * (j->size.queries + j->size.keys);
    return threads_for(device, 4 * work);
}

size_t attention_scratch(const Call *call, const Tensor in[ATTENTION_INPUTS], bool backward)
{
    const AttentionAttributes *a = call->attributes;
    const AttentionJob j = {.size =
                                attention_sizes(a, in[ATTENTION_QUERY].shape, in[ATTENTION_KEY_VALUE].shape),
                            .drops = a->probability > 0,
                            .row = round_up(a->head_width, LANES)};
    AttentionTask t;
    return (size_t)attention_task_floats(&j, backward, NULL, &t) * sizeof(float) *
           (size_t)device_threads(call->device);
}
