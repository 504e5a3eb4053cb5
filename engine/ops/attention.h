/* What the files of attention share: scaled dot-product attention of Vaswani et al., "Attention Is All You Need", 2017, over
 * batches of sequences that have different lengths.
 *
 * With H heads of D numbers, head h is the columns h D .. h D + D - 1 of a query, a key and a value:
 *     s[q,k] = query[q] . key[k] / sqrt(D)                  of the keys k that query q sees
 *     p[q,.] = softmax of s[q,.],   y[q] = sum over k of m[q,k] p[q,k] value[k],   m: the mask of dropout / (1 - probability)
 * A query that sees no key has y = 0 and no gradient. Keys that nobody sees are not read, so what padding holds (NaN, say)
 * goes nowhere; backward passes over queries whose dy is all zeros, for the same reason.
 *
 * Nothing of the size Lq x Lk is in memory: forward keeps the logarithm of each softmax's sum, and backward makes p anew. */
#ifndef PLUMB_ENGINE_OPS_ATTENTION_H
#define PLUMB_ENGINE_OPS_ATTENTION_H

#include "engine/base/shared_function.h"
#include "engine/graph/op.h"
#include "engine/ops/dropout.h"

typedef struct {
    int64_t heads, head_width;
    bool causal;        /* query q sees no key behind q */
    double probability; /* of dropout */
    uint64_t name_key;  /* of the node's full name: tells the dropouts of a network apart */
} AttentionAttributes;

enum {
    ATTENTION_QUERY, /* [N,Lq,H D]; without KEY_VALUE [N,L,3 H D]: queries, keys and values side by side */
    ATTENTION_KEY_VALUE, /* [M,Lk,2 H D]: keys and values side by side. May be absent */
    ATTENTION_FIRST,     /* INT32 [M]: the first key that can be seen; absent: 0 */
    ATTENTION_END,       /* INT32 [M]: the end of the keys that can be seen; absent: Lk */
    ATTENTION_ROW,       /* INT32 [N]: whose keys the queries see, -1: nobody's; absent: N = M, their own */
    ATTENTION_CLOCK,     /* only with dropout */
    ATTENTION_INPUTS
};
enum {
    ATTENTION_Y,   /* [N,Lq,H D] */
    ATTENTION_SUM, /* FLOAT32 [N,H,Lq]: the logarithm of the sum of e^s; without meaning where no key is seen */
    ATTENTION_OUTPUTS
};

/* ds = p (m dp - dy . y) with dp[q,k] = dy[q] . value[k] */
enum {
    ATTENTION_BACKWARD_DY,
    ATTENTION_BACKWARD_Y,
    ATTENTION_BACKWARD_SUM,
    ATTENTION_BACKWARD_FORWARD, /* then those of forward; ROW is absent */
    ATTENTION_BACKWARD_INPUTS = ATTENTION_BACKWARD_FORWARD + ATTENTION_INPUTS
};
enum {
    ATTENTION_BACKWARD_DQUERY,
    ATTENTION_BACKWARD_DKEY_VALUE, /* FLOAT32 [] and not written if there is no KEY_VALUE */
    ATTENTION_BACKWARD_OUTPUTS
};

/* Where the parts of a node's inputs are: the same of the gradients. All in elements. */
typedef struct {
    int64_t samples, heads, width, queries, keys, sequences; /* width: of a head; sequences: M */
    int64_t query_stride, key_stride;                        /* from position to position */
    int64_t key_column, value_column;                        /* inside a position of the keys and values */
    bool fused;                                              /* there is no KEY_VALUE */
} AttentionSizes;

SHARED_FUNCTION AttentionSizes attention_sizes(const AttentionAttributes *a, Shape query, Shape key_value)
{
    const int64_t all = a->heads * a->head_width;
    const bool fused = key_value.rank < 0;
    return (AttentionSizes){.samples = query.extent[0],
                            .heads = a->heads,
                            .width = a->head_width,
                            .queries = query.extent[1],
                            .keys = fused ? query.extent[1] : key_value.extent[1],
                            .sequences = fused ? query.extent[0] : key_value.extent[0],
                            .query_stride = fused ? 3 * all : all,
                            .key_stride = fused ? 3 * all : 2 * all,
                            .key_column = fused ? all : 0,
                            .value_column = fused ? 2 * all : all,
                            .fused = fused};
}

/* Dropout: whether a pair of query and key falls out is a function of (seed, step, full name, sample of the global batch,
 * head, query, key), whatever the padded lengths are: they only must fit into ATTENTION_POSITIONS, or into a greater power of
 * two. A block of random words (dropout.h) serves four keys. */
enum { ATTENTION_POSITIONS = 2048 };

/* The index of the block of random words of key 0; the others follow. */
SHARED_FUNCTION uint64_t attention_block(uint64_t sample, int64_t head, int64_t query, int64_t positions)
{
    const uint64_t row = (uint64_t)head * (uint64_t)positions + (uint64_t)query;
    return (sample << DROPOUT_ROW_BITS) + row * ((uint64_t)positions / DROPOUT_WORDS);
}

SHARED_FUNCTION int64_t attention_positions(int64_t queries, int64_t keys)
{
    int64_t positions = ATTENTION_POSITIONS;
    while (positions < queries || positions < keys)
        positions *= 2;
    return positions;
}

extern const Kernel attention_cpu;
extern const Kernel attention_cuda OPTIONAL_KERNEL;
extern const Kernel attention_backward_cpu;
extern const Kernel attention_backward_cuda OPTIONAL_KERNEL;

/* One new position of each of R sequences, whose earlier keys and values are in a cache; no gradient. With p = POSITION[r]
 * and t = TABLE[r,.]: the new key and value are written to CACHE[t[p], p], then y is the attention of the new query to
 * CACHE[t[s], s] for s = 0 .. p. So a search reorders, shares and drops sequences by writing the table; keys and values
 * stay where they are. */
typedef struct {
    int64_t heads, head_width;
} AttentionStepAttributes;
enum {
    ATTENTION_STEP_QUERY_KEY_VALUE, /* [R,3 H D] */
    ATTENTION_STEP_CACHE,           /* [slots,T,2 H D] of the same type: a state */
    ATTENTION_STEP_TABLE,           /* INT32 [R,T] */
    ATTENTION_STEP_POSITION,        /* INT32 [R]; -1: a row that is not used, whose y is 0 */
    ATTENTION_STEP_INPUTS
};
extern const Kernel attention_step_cpu; /* -> y [R,H D] */
extern const Kernel attention_step_cuda OPTIONAL_KERNEL;

#endif
