/* attention on the CPU. A task is a head of a sample: keys and values are packed as float32 once, the keys with key beside
 * key, so that scores are made of whole vectors; queries come in blocks, and for each of them the keys do. All that a task
 * needs stays in the second-level cache. No result depends on threads, on other samples or on padding. */
#include "engine/ops/attention.h"

#include "engine/base/random.h"
#include "engine/ops/rows_cpu.h"
#include "engine/ops/vector_cpu.h"
#include "engine/ops/vector_exp_cpu.h"

#include <math.h>

enum {
    QUERIES = 16,                            /* of a block */
    KEYS = 64,                               /* of a block: whole vectors */
    TILE_ROWS = 4,                           /* of a product, in registers */
    TILE_VECTORS = VECTOR_AVX512 ? 4 : 2,    /* of its columns */
    WORDS = KEYS + 2 * DROPOUT_WORDS + LANES /* random words of a block of keys */
};

static int64_t round_up(int64_t count, int64_t multiple)
{
    return (count + multiple - 1) / multiple * multiple;
}

/* c = a b, or c += a b: so many rows (a multiple of TILE_ROWS) and vectors of columns. Element [r,k] of a is at r a_row + k
 * a_depth; rows of b and c are b_row and c_row apart. */
typedef struct {
    const float *a, *b;
    float *c;
    int64_t a_row, a_depth, b_row, c_row, rows, depth, vectors;
    bool adds;
} Product;

VECTOR_INLINE void product_tile(const Product *p, int64_t row, int64_t vector, int rows, int vectors)
{
    Vector sum[2 * TILE_ROWS][TILE_VECTORS];
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
        for (int64_t row = 0; row < p.rows; row += TILE_ROWS)
            product_tile(&p, row, v, TILE_ROWS, TILE_VECTORS);
    for (; v < p.vectors; ++v) {
        int64_t row = 0;
        for (; row + 2 * TILE_ROWS <= p.rows; row += 2 * TILE_ROWS)
            product_tile(&p, row, v, 2 * TILE_ROWS, 1);
        if (row < p.rows) product_tile(&p, row, v, TILE_ROWS, 1);
    }
}

/* ---- one task ---- */

typedef struct {
    AttentionSizes size;
    bool bf16, causal, drops;
    float scale;
    int64_t row;       /* of packed keys, values and queries: the width in whole vectors */
    int64_t positions; /* attention_positions */
    uint64_t seed, step, first_sample;
    uint32_t threshold; /* a weight falls out if its 24 bits are below */
    float kept;         /* what the others are multiplied by */
    const void *query, *key_value;
    const int32_t *first, *end, *sequence;
} Job;

static Job job_of(const Call *call, const Tensor in[ATTENTION_INPUTS])
{
    const AttentionAttributes *a = call->attributes;
    const Tensor *query = &in[ATTENTION_QUERY], *keys = &in[ATTENTION_KEY_VALUE];
    Job j = {.size = attention_sizes(a, query->shape, keys->shape),
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

static Status check_sequences(const Job *j)
{
    for (int64_t n = 0; j->sequence != NULL && n < j->size.samples; ++n)
        if (j->sequence[n] < -1 || j->sequence[n] >= j->size.sequences)
            return fail(STATUS_INPUT, "sample %lld attends to sequence %d; there are %lld", (long long)n,
                        (int)j->sequence[n], (long long)j->size.sequences);
    return OK;
}

/* What a thread works on. `first` and `count`: the keys that can be seen. */
typedef struct {
    int64_t sample, head, sequence, first, count;
    float *key;          /* [blocks][width][KEYS] */
    float *value;        /* [keys][row] */
    float *query, *y;    /* [QUERIES][row] */
    float *score, *mask; /* [QUERIES][KEYS] */
    /* of backward: values as keys are, keys as values are, gradients of both, of y and of queries */
    float *value_across, *key_along, *d_key, *d_value, *d_y, *d_query;
    float *d_score;
    int64_t rows;          /* of the block: its queries, up to a multiple of TILE_ROWS */
    int64_t seen[QUERIES]; /* how many keys a query of the block sees */
    uint32_t word[WORDS];
} Task;

/* Points the task into a thread's scratch, or only counts its floats. */
static int64_t task_floats(const Job *j, bool backward, float *at, Task *t)
{
    const int64_t keys = round_up(j->size.keys, KEYS), across = keys * j->size.width, along = keys * j->row;
    const int64_t queries = QUERIES * j->row, scores = (int64_t)QUERIES * KEYS;
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
static void task_begin(const Job *j, int64_t index, Task *t)
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

/* The place of position `p` of the task's head in queries, and in keys or values (column of the part). */
static int64_t query_place(const Job *j, const Task *t, int64_t p)
{
    return (t->sample * j->size.queries + p) * j->size.query_stride + t->head * j->size.width;
}
static int64_t key_place(const Job *j, const Task *t, int64_t p, int64_t column)
{
    return (t->sequence * j->size.keys + p) * j->size.key_stride + column + t->head * j->size.width;
}

/* A row of `width` elements as floats times `scale`, zero up to whole vectors. */
static void load_row(float *to, const void *from, int64_t place, int64_t width, bool bf16, float scale)
{
    for (int64_t c = 0; c < width; c += LANES) {
        const int lanes = width - c < LANES ? (int)(width - c) : LANES;
        const Vector x =
            bf16 ? vector_load(from, place + c, lanes, true) : vector_load(from, place + c, lanes, false);
        vector_store(to, c, LANES, false, x * scale);
    }
}

static void store_row(void *to, int64_t place, const float *from, int64_t width, bool bf16, float scale)
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

static void load_rows(const Job *j, const Task *t, int64_t column, float *to)
{
    for (int64_t k = 0; k < t->count; ++k)
        load_row(to + k * j->row, j->key_value, key_place(j, t, t->first + k, column), j->size.width, j->bf16,
                 1);
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

/* The same keys or values with key beside key, in blocks of KEYS; zero up to whole vectors. */
VECTOR_INLINE void load_across_typed(const Job *j, const Task *t, int64_t column, float *to, bool bf16)
{
    const int64_t width = j->size.width;
    for (int64_t begin = 0; begin < t->count; begin += LANES) {
        float *block = to + begin / KEYS * KEYS * width + begin % KEYS;
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
                vector_store(block, (c + i) * KEYS, LANES, false, row[i]);
        }
    }
}

static void load_across(const Job *j, const Task *t, int64_t column, float *to)
{
    if (j->bf16)
        load_across_typed(j, t, column, to, true);
    else
        load_across_typed(j, t, column, to, false);
}

/* Asks for the keys and values of task `index`: a search's are spread over more than the second-level cache. */
static void ask_for(const Job *j, int64_t index, int64_t end)
{
    enum { LINE = 64, MOST_KEYS = 64 };
    if (index >= end) return;
    Task t = {0};
    task_begin(j, index, &t);
    const int64_t size = j->bf16 ? 2 : 4, keys = t.count < MOST_KEYS ? t.count : MOST_KEYS;
    for (int64_t k = 0; k < keys; ++k) {
        const char *row = (const char *)j->key_value + key_place(j, &t, t.first + k, 0) * size;
        for (int64_t byte = 0; byte < j->size.width * size; byte += LINE) {
            __builtin_prefetch(row + j->size.key_column * size + byte, 0, 2);
            __builtin_prefetch(row + j->size.value_column * size + byte, 0, 2);
        }
    }
}

static int64_t seen_by(const Job *j, const Task *t, int64_t query)
{
    if (!j->causal || query - t->first + 1 > t->count) return t->count;
    return query < t->first ? 0 : query - t->first + 1;
}

/* What dropout multiplies the weights of a block of queries and one of keys by. */
static void make_mask(const Job *j, Task *t, int64_t query, int64_t begin)
{
    for (int64_t q = 0; q < QUERIES; ++q) {
        const int64_t key = t->first + begin, skip = key % DROPOUT_WORDS;
        const uint64_t block =
            attention_block(j->first_sample + (uint64_t)t->sample, t->head, query + q, j->positions) +
            (uint64_t)(key / DROPOUT_WORDS);
        enum { BLOCKS = KEYS / DROPOUT_WORDS + 1 };
        RandomBlock random[BLOCKS];
        if (t->seen[q] <= begin) continue;
        random_blocks(j->seed, RANDOM_DROPOUT, j->step, block, BLOCKS, random);
        memcpy(t->word, random, sizeof random);
        for (int k = 0; k < KEYS; k += LANES) {
            BitsVector bits;
            memcpy(&bits, t->word + skip + k, sizeof bits);
            const IntVector keep = (IntVector)(bits >> 8) >= (IntVector){0} + (int32_t)j->threshold;
            vector_store(t->mask + q * KEYS, k, LANES, false,
                         (Vector)(keep & (IntVector)vector_all(j->kept)));
        }
    }
}

static int64_t vectors_of(const Task *t, int64_t begin)
{
    const int64_t there = t->count - begin < KEYS ? t->count - begin : KEYS;
    return (there + LANES - 1) / LANES;
}

/* scores of a block: rows of `a` times keys or values that stand across. */
static void multiply_across(const Job *j, const Task *t, const float *a, const float *across, int64_t begin,
                            float *to)
{
    product((Product){.a = a,
                      .b = across + begin * j->size.width,
                      .c = to,
                      .a_row = j->row,
                      .a_depth = 1,
                      .b_row = KEYS,
                      .c_row = KEYS,
                      .rows = t->rows,
                      .depth = j->size.width,
                      .vectors = vectors_of(t, begin)});
}

/* to += scores of a block times rows of keys or values. */
static void multiply_along(const Job *j, const Task *t, const float *scores, const float *along,
                           int64_t begin, float *to)
{
    product((Product){.a = scores,
                      .b = along + begin * j->row,
                      .c = to,
                      .a_row = KEYS,
                      .a_depth = 1,
                      .b_row = j->row,
                      .c_row = j->row,
                      .rows = t->rows,
                      .depth = t->count - begin < KEYS ? t->count - begin : KEYS,
                      .vectors = j->row / LANES,
                      .adds = true});
}

/* to, rows of keys, += transposed scores times rows of queries. */
static void multiply_back(const Job *j, const Task *t, const float *scores, const float *rows, int64_t begin,
                          float *to)
{
    const int64_t there = t->count - begin < KEYS ? t->count - begin : KEYS;
    product((Product){.a = scores,
                      .b = rows,
                      .c = to + begin * j->row,
                      .a_row = 1,
                      .a_depth = KEYS,
                      .b_row = j->row,
                      .c_row = j->row,
                      .rows = round_up(there, TILE_ROWS),
                      .depth = QUERIES,
                      .vectors = j->row / LANES,
                      .adds = true});
}

/* ---- forward ---- */

VECTOR_INLINE int lanes_seen(int64_t seen, int64_t begin)
{
    const int64_t left = seen - begin;
    return left < 0 ? 0 : left < LANES ? (int)left : LANES;
}

static float vector_maximum(Vector x)
{
    float lane[LANES], most = -INFINITY;
    memcpy(lane, &x, sizeof lane);
    for (int i = 0; i < LANES; ++i)
        most = lane[i] > most ? lane[i] : most;
    return most;
}

/* The scores of query `q` of a block become e^(score - maximum), 0 where no key is seen; what was summed before under a smaller
 * maximum is made smaller. */
static void soften(Task *t, int64_t q, int64_t begin, int64_t vectors, int64_t row, float *maximum,
                   float *sum)
{
    float *score = t->score + q * KEYS;
    Vector most = vector_all(-INFINITY);
    for (int64_t v = 0; v < vectors; ++v) {
        const IntVector there = vector_present(lanes_seen(t->seen[q], begin + v * LANES));
        const Vector s = vector_load(score, v * LANES, LANES, false);
        most = vector_select(there & (s > most), s, most);
    }
    const float block_most = vector_maximum(most), next = block_most > *maximum ? block_most : *maximum;
    const float shrink = *maximum == next ? 1 : expf(*maximum - next);
    Vector added = vector_all(0);
    for (int64_t v = 0; v < vectors; ++v) {
        const IntVector there = vector_present(lanes_seen(t->seen[q], begin + v * LANES));
        const Vector e = vector_exp(vector_load(score, v * LANES, LANES, false) - next);
        const Vector p = (Vector)(there & (IntVector)e);
        vector_store(score, v * LANES, LANES, false, p);
        added += p;
    }
    *sum = *sum * shrink + vector_sum(added);
    *maximum = next;
    if (shrink == 1) return;
    for (int64_t c = 0; c < row; c += LANES)
        vector_store(t->y + q * row, c, LANES, false, vector_load(t->y + q * row, c, LANES, false) * shrink);
}

static void apply_mask(const Task *t, float *scores, int64_t vectors)
{
    for (int64_t q = 0; q < t->rows; ++q)
        for (int64_t v = 0; v < vectors; ++v)
            vector_store(scores + q * KEYS, v * LANES, LANES, false,
                         vector_load(scores + q * KEYS, v * LANES, LANES, false) *
                             vector_load(t->mask + q * KEYS, v * LANES, LANES, false));
}

/* The queries from `query` on into the block, scaled; and how many keys they see. `skip` says of a query that it has no part:
 * it is then zero, as are rows behind the last. */
static void load_queries(const Job *j, Task *t, int64_t query, const bool skip[QUERIES])
{
    for (int64_t q = 0; q < QUERIES; ++q) {
        t->seen[q] = 0;
        if (query + q < j->size.queries && !(skip != NULL && skip[q])) t->seen[q] = seen_by(j, t, query + q);
        if (t->seen[q] > 0)
            load_row(t->query + q * j->row, j->query, query_place(j, t, query + q), j->size.width, j->bf16,
                     j->scale);
        else if (q < t->rows)
            memset(t->query + q * j->row, 0, (size_t)j->row * sizeof(float));
    }
}

static int64_t most_seen(const Task *t)
{
    int64_t most = 0;
    for (int q = 0; q < QUERIES; ++q)
        most = t->seen[q] > most ? t->seen[q] : most;
    return most;
}

static void forward_block(const Job *j, Task *t, int64_t query, void *y, float *sums)
{
    float maximum[QUERIES], sum[QUERIES] = {0};
    for (int q = 0; q < QUERIES; ++q)
        maximum[q] = -INFINITY;
    const int64_t left = j->size.queries - query;
    t->rows = left < QUERIES ? round_up(left, TILE_ROWS) : QUERIES; /* a step of a search has few */
    load_queries(j, t, query, NULL);
    memset(t->y, 0, (size_t)(t->rows * j->row) * sizeof(float));
    const int64_t most = most_seen(t);
    for (int64_t begin = 0; begin < most; begin += KEYS) {
        const int64_t vectors = vectors_of(t, begin);
        multiply_across(j, t, t->query, t->key, begin, t->score);
        for (int64_t q = 0; q < t->rows; ++q) {
            if (t->seen[q] > begin)
                soften(t, q, begin, vectors, j->row, &maximum[q], &sum[q]);
            else
                memset(t->score + q * KEYS, 0, KEYS * sizeof(float));
        }
        if (j->drops) {
            make_mask(j, t, query, begin);
            for (int64_t q = 0; q < QUERIES; ++q)
                if (t->seen[q] <= begin) memset(t->mask + q * KEYS, 0, KEYS * sizeof(float));
            apply_mask(t, t->score, vectors);
        }
        multiply_along(j, t, t->score, t->value, begin, t->y);
    }
    const int64_t all = j->size.heads * j->size.width;
    for (int64_t q = 0; q < QUERIES && query + q < j->size.queries; ++q) {
        const bool sees = t->seen[q] > 0;
        store_row(y, (t->sample * j->size.queries + query + q) * all + t->head * j->size.width,
                  t->y + q * j->row, j->size.width, j->bf16, sees ? 1 / sum[q] : 1);
        sums[(t->sample * j->size.heads + t->head) * j->size.queries + query + q] =
            sees ? maximum[q] + logf(sum[q]) : 0;
    }
}

/* Threads worth waking: a task does about four operations for a pair of numbers. */
static int threads_of(const Device *device, const Job *j)
{
    const int64_t work = j->size.samples * j->size.heads * j->size.width * (j->size.queries + j->size.keys);
    return threads_for(device, 4 * work);
}

static Status forward_prepare(Call *call, size_t *scratch_bytes)
{
    const AttentionAttributes *a = call->attributes;
    const Job j = {
        .size = attention_sizes(a, call->in[ATTENTION_QUERY].shape, call->in[ATTENTION_KEY_VALUE].shape),
        .drops = a->probability > 0,
        .row = round_up(a->head_width, LANES)};
    Task t;
    *scratch_bytes =
        (size_t)task_floats(&j, false, NULL, &t) * sizeof(float) * (size_t)device_threads(call->device);
    return OK;
}

static Status forward_run(const Call *call)
{
    const Job j = job_of(call, call->in);
    TRY(check_sequences(&j));
    Task none;
    const int64_t floats = task_floats(&j, false, NULL, &none);
#pragma omp parallel num_threads(threads_of(call->device, &j))
    {
        int64_t first, last;
        Task t = {0};
        (void)task_floats(&j, false, (float *)call->scratch + omp_get_thread_num() * floats, &t);
        thread_share(j.size.samples * j.size.heads, &first, &last);
        for (int64_t index = first; index < last; ++index) {
            task_begin(&j, index, &t);
            ask_for(&j, index + 1, last);
            load_across(&j, &t, j.size.key_column, t.key);
            load_rows(&j, &t, j.size.value_column, t.value);
            for (int64_t query = 0; query < j.size.queries; query += QUERIES)
                forward_block(&j, &t, query, call->out[ATTENTION_Y].data, call->out[ATTENTION_SUM].data);
        }
    }
    return OK;
}

const Kernel attention_cpu = {.prepare = forward_prepare, .run = forward_run};

/* ---- backward ---- */

/* Of a block of queries and one of keys: scores become the weights after dropout, d_score (the gradient of the weights) the
 * gradient of the scores. */
static void backward_scores(const Job *j, Task *t, int64_t begin, const float sum[QUERIES],
                            const float product_of_y[QUERIES])
{
    const int64_t vectors = vectors_of(t, begin);
    for (int64_t q = 0; q < QUERIES; ++q) {
        float *score = t->score + q * KEYS, *d_score = t->d_score + q * KEYS;
        for (int64_t v = 0; v < vectors; ++v) {
            const IntVector there = vector_present(lanes_seen(t->seen[q], begin + v * LANES));
            const Vector e = vector_exp(vector_load(score, v * LANES, LANES, false) - sum[q]);
            Vector kept = e, d = vector_load(d_score, v * LANES, LANES, false);
            if (j->drops) {
                const Vector mask = vector_load(t->mask + q * KEYS, v * LANES, LANES, false);
                kept *= mask;
                d *= mask;
            }
            vector_store(score, v * LANES, LANES, false, (Vector)(there & (IntVector)kept));
            vector_store(d_score, v * LANES, LANES, false,
                         (Vector)(there & (IntVector)(e * (d - product_of_y[q]))));
        }
        for (int64_t k = vectors * LANES; k < KEYS;
             k += LANES) { /* read by products of whole tiles of keys */
            vector_store(score, k, LANES, false, vector_all(0));
            vector_store(d_score, k, LANES, false, vector_all(0));
        }
    }
}

/* dy of a block; returns in `skip` which queries have none, in product_of_y dy . y of the others. */
static void load_dy(const Job *j, Task *t, int64_t query, const void *dy, const void *y, bool skip[QUERIES],
                    float product_of_y[QUERIES])
{
    const int64_t all = j->size.heads * j->size.width;
    for (int64_t q = 0; q < QUERIES; ++q) {
        float *to = t->d_y + q * j->row;
        skip[q] = true;
        product_of_y[q] = 0;
        if (query + q >= j->size.queries) {
            memset(to, 0, (size_t)j->row * sizeof *to);
            continue;
        }
        const int64_t place = (t->sample * j->size.queries + query + q) * all + t->head * j->size.width;
        load_row(to, dy, place, j->size.width, j->bf16, 1);
        Vector sum = vector_all(0);
        IntVector differs = {0};
        for (int64_t c = 0; c < j->size.width; c += LANES) {
            const int lanes = j->size.width - c < LANES ? (int)(j->size.width - c) : LANES;
            const Vector d = vector_load(to, c, LANES, false);
            sum += d * (j->bf16 ? vector_load(y, place + c, lanes, true)
                                : vector_load(y, place + c, lanes, false));
            differs |= d != vector_all(0);
        }
        for (int i = 0; i < LANES; ++i)
            if (differs[i]) skip[q] = false;
        if (!skip[q]) product_of_y[q] = vector_sum(sum);
    }
}

typedef struct {
    const void *dy, *y;
    const float *sums;
    void *d_query, *d_key_value;
} Gradients;

static void backward_block(const Job *j, Task *t, int64_t query, const Gradients *g)
{
    bool skip[QUERIES];
    float product_of_y[QUERIES], sum[QUERIES] = {0};
    t->rows = QUERIES; /* products back have them for their depth */
    load_dy(j, t, query, g->dy, g->y, skip, product_of_y);
    load_queries(j, t, query, skip);
    for (int64_t q = 0; q < QUERIES; ++q)
        if (t->seen[q] > 0)
            sum[q] = g->sums[(t->sample * j->size.heads + t->head) * j->size.queries + query + q];
    memset(t->d_query, 0, (size_t)(QUERIES * j->row) * sizeof(float));
    const int64_t most = most_seen(t);
    for (int64_t begin = 0; begin < most; begin += KEYS) {
        multiply_across(j, t, t->query, t->key, begin, t->score);
        multiply_across(j, t, t->d_y, t->value_across, begin, t->d_score);
        if (j->drops) make_mask(j, t, query, begin);
        backward_scores(j, t, begin, sum, product_of_y);
        multiply_along(j, t, t->d_score, t->key_along, begin, t->d_query);
        multiply_back(j, t, t->score, t->d_y, begin, t->d_value);
        multiply_back(j, t, t->d_score, t->query, begin, t->d_key);
    }
    for (int64_t q = 0; q < QUERIES && query + q < j->size.queries; ++q)
        store_row(g->d_query, query_place(j, t, query + q), t->d_query + q * j->row, j->size.width, j->bf16,
                  j->scale);
}

static void backward_task(const Job *j, Task *t, int64_t index, const Gradients *g)
{
    task_begin(j, index, t);
    load_across(j, t, j->size.key_column, t->key);
    load_across(j, t, j->size.value_column, t->value_across);
    load_rows(j, t, j->size.key_column, t->key_along);
    const size_t bytes = (size_t)(round_up(t->count, TILE_ROWS) * j->row) * sizeof(float);
    memset(t->d_key, 0, bytes);
    memset(t->d_value, 0, bytes);
    for (int64_t query = 0; query < j->size.queries; query += QUERIES)
        backward_block(j, t, query, g);
    static const float nothing[LANES];
    for (int64_t p = 0; p < j->size.keys; ++p) {
        const bool seen = p >= t->first && p < t->first + t->count;
        const int64_t key = key_place(j, t, p, j->size.key_column),
                      value = key_place(j, t, p, j->size.value_column);
        if (seen) {
            store_row(g->d_key_value, key, t->d_key + (p - t->first) * j->row, j->size.width, j->bf16, 1);
            store_row(g->d_key_value, value, t->d_value + (p - t->first) * j->row, j->size.width, j->bf16, 1);
            continue;
        }
        for (int64_t c = 0; c < j->size.width; c += LANES) {
            const int64_t width = j->size.width - c < LANES ? j->size.width - c : LANES;
            store_row(g->d_key_value, key + c, nothing, width, j->bf16, 1);
            store_row(g->d_key_value, value + c, nothing, width, j->bf16, 1);
        }
    }
}

static Status backward_prepare(Call *call, size_t *scratch_bytes)
{
    const AttentionAttributes *a = call->attributes;
    const Tensor *in = call->in + ATTENTION_BACKWARD_FORWARD;
    const Job j = {.size = attention_sizes(a, in[ATTENTION_QUERY].shape, in[ATTENTION_KEY_VALUE].shape),
                   .drops = a->probability > 0,
                   .row = round_up(a->head_width, LANES)};
    Task t;
    *scratch_bytes =
        (size_t)task_floats(&j, true, NULL, &t) * sizeof(float) * (size_t)device_threads(call->device);
    return OK;
}

static Status backward_run(const Call *call)
{
    const Job j = job_of(call, call->in + ATTENTION_BACKWARD_FORWARD);
    const Gradients g = {.dy = call->in[ATTENTION_BACKWARD_DY].data,
                         .y = call->in[ATTENTION_BACKWARD_Y].data,
                         .sums = call->in[ATTENTION_BACKWARD_SUM].data,
                         .d_query = call->out[ATTENTION_BACKWARD_DQUERY].data,
                         .d_key_value = j.size.fused ? call->out[ATTENTION_BACKWARD_DQUERY].data
                                                     : call->out[ATTENTION_BACKWARD_DKEY_VALUE].data};
    Task none;
    const int64_t floats = task_floats(&j, true, NULL, &none);
#pragma omp parallel num_threads(threads_of(call->device, &j))
    {
        int64_t first, last;
        Task t = {0};
        (void)task_floats(&j, true, (float *)call->scratch + omp_get_thread_num() * floats, &t);
        thread_share(j.size.samples * j.size.heads, &first, &last);
        for (int64_t index = first; index < last; ++index)
            backward_task(&j, &t, index, &g);
    }
    return OK;
}

const Kernel attention_backward_cpu = {.prepare = backward_prepare, .run = backward_run};
