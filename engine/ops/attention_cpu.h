/* What the files of attention on the CPU share: a task, and what is done with its blocks of queries and of keys. */
#ifndef PLUMB_ENGINE_OPS_ATTENTION_CPU_H
#define PLUMB_ENGINE_OPS_ATTENTION_CPU_H

#include "engine/ops/attention.h"
#include "engine/ops/rows_cpu.h"
#include "engine/ops/vector_cpu.h"

enum {
    ATTENTION_QUERIES = 16,                                      /* of a block */
    ATTENTION_KEYS = 64,                                         /* of a block: whole vectors */
    ATTENTION_TILE_ROWS = 4,                                     /* of a product, in registers */
    ATTENTION_WORDS = ATTENTION_KEYS + 2 * DROPOUT_WORDS + LANES /* random words of a block of keys */
};

static inline int64_t round_up(int64_t count, int64_t multiple)
{
    return (count + multiple - 1) / multiple * multiple;
}

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
} AttentionJob;

/* What a thread works on. `first` and `count`: the keys that can be seen. */
typedef struct {
    int64_t sample, head, sequence, first, count;
    float *key;          /* [blocks][width][ATTENTION_KEYS] */
    float *value;        /* [keys][row] */
    float *query, *y;    /* [ATTENTION_QUERIES][row] */
    float *score, *mask; /* [ATTENTION_QUERIES][ATTENTION_KEYS] */
    /* of backward: values as keys are, keys as values are, gradients of both, of y and of queries */
    float *value_across, *key_along, *d_key, *d_value, *d_y, *d_query;
    float *d_score;
    int64_t rows;                    /* of the block: its queries, up to a multiple of ATTENTION_TILE_ROWS */
    int64_t seen[ATTENTION_QUERIES]; /* how many keys a query of the block sees */
    uint32_t word[ATTENTION_WORDS];
} AttentionTask;

/* The place of position `p` of the task's head in queries, and in keys or values (column of the part). */
static inline int64_t query_place(const AttentionJob *j, const AttentionTask *t, int64_t p)
{
    return (t->sample * j->size.queries + p) * j->size.query_stride + t->head * j->size.width;
}
static inline int64_t key_place(const AttentionJob *j, const AttentionTask *t, int64_t p, int64_t column)
{
    return (t->sequence * j->size.keys + p) * j->size.key_stride + column + t->head * j->size.width;
}

static inline int64_t vectors_of(const AttentionTask *t, int64_t begin)
{
    const int64_t there = t->count - begin < ATTENTION_KEYS ? t->count - begin : ATTENTION_KEYS;
    return (there + LANES - 1) / LANES;
}

/* How many lanes of the vector of keys that begins at `begin` are seen. */
VECTOR_INLINE int lanes_seen(int64_t seen, int64_t begin)
{
    const int64_t left = seen - begin;
    return left < 0 ? 0 : left < LANES ? (int)left : LANES;
}

AttentionJob attention_job(const Call *, const Tensor in[ATTENTION_INPUTS]);
/* Bytes that a run of forward or of backward needs. */
size_t attention_scratch(const Call *, const Tensor in[ATTENTION_INPUTS], bool backward);
/* Threads worth waking. */
int attention_threads(const Device *, const AttentionJob *);

/* Points the task into a thread's scratch, or, without it, only counts its floats. */
int64_t attention_task_floats(const AttentionJob *, bool backward, float *at, AttentionTask *);
/* Chooses task `index` of samples x heads. */
void attention_task_begin(const AttentionJob *, int64_t index, AttentionTask *);

/* A row of `width` elements as floats times `scale`, zero up to whole vectors; and back. */
void attention_load_row(float *to, const void *from, int64_t place, int64_t width, bool bf16, float scale);
void attention_store_row(void *to, int64_t place, const float *from, int64_t width, bool bf16, float scale);
/* All keys or values (column: of the part) of the task that can be seen: row by row; with key beside key. */
void attention_load_rows(const AttentionJob *, const AttentionTask *, int64_t column, float *to);
void attention_load_across(const AttentionJob *, const AttentionTask *, int64_t column, float *to);
/* The queries from `query` on into the block, scaled; and how many keys they see. `skip` says of a query that it has no part:
 * it is then zero, as are rows behind the last. NULL: all have. */
void attention_load_queries(const AttentionJob *, AttentionTask *, int64_t query,
                            const bool skip[ATTENTION_QUERIES]);
/* The most keys that a query of the block sees. */
int64_t attention_most_seen(const AttentionTask *);
/* What dropout multiplies the weights of a block of queries and one of keys by. */
void attention_make_mask(const AttentionJob *, AttentionTask *, int64_t query, int64_t begin);

/* Scores of a block: rows of `a` times keys or values that stand across. */
void attention_multiply_across(const AttentionJob *, const AttentionTask *, const float *a,
                               const float *across, int64_t begin, float *to);
/* to += scores of a block times rows of keys or values. */
void attention_multiply_along(const AttentionJob *, const AttentionTask *, const float *scores,
                              const float *along, int64_t begin, float *to);
/* to, rows of keys, += transposed scores times rows of queries. */
void attention_multiply_back(const AttentionJob *, const AttentionTask *, const float *scores,
                             const float *rows, int64_t begin, float *to);

#endif
