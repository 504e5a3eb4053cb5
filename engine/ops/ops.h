/* The engine's ops as functions that append nodes. Layers (with parameters) take a name, which becomes a
 * scope: conv2d(graph, "conv1", ...) makes the parameter "conv1.weight".
 *
 * Types: activations have the graph's compute type unless said otherwise; parameters and statistics are
 * FLOAT32. Shapes in brackets; N samples, H height, W width, C channels. */
#ifndef PLUMB_ENGINE_OPS_OPS_H
#define PLUMB_ENGINE_OPS_OPS_H

#include "engine/graph/graph.h"

/* ---- layers ---- */

typedef enum {
    INIT_PYTORCH,       /* torch's default: uniform in +-1/sqrt(fan_in), weights and biases */
    INIT_HE_FAN_OUT,    /* normal with variance 2 / (kernel * kernel * out_channels); biases 0 */
    INIT_GLOROT_UNIFORM /* Keras' default: uniform in +-sqrt(6 / (fan_in + fan_out)); biases 0 */
} WeightInit;

typedef struct {
    int64_t channels; /* out */
    int64_t kernel;   /* square; or set kernel_height and kernel_width */
    int64_t kernel_height, kernel_width;
    int64_t stride;  /* 0: 1 */
    int64_t padding; /* square; or set padding_height and padding_width */
    int64_t padding_height, padding_width;
    bool bias;
    bool one_dimensional; /* files hold the weight as PyTorch's Conv1d: [channels,C,kw]; kernel_height is 1 */
    WeightInit init;
} Conv2d;
/* [N,H,W,C] -> [N,H',W',channels]; parameters weight [channels,kh,kw,C] (in files [channels,C,kh,kw]), bias
 * [channels]. */
Value conv2d(Graph *, const char *name, Value x, Conv2d);

typedef struct {
    int64_t channels; /* out */
    int64_t kernel;
    bool bias;
    WeightInit init;
} Conv1d;
/* [N,L,C] -> [N,L-kernel+1,channels]: stride 1, no padding. Parameters weight [channels,1,kernel,C] (in files
 * PyTorch's [channels,C,kernel]), bias [channels]. */
Value conv1d(Graph *, const char *name, Value x, Conv1d);

typedef struct {
    double epsilon;   /* 0: 1e-5 */
    double momentum;  /* 0: 0.1: running = (1 - momentum) * running + momentum * batch */
    bool synchronize; /* batch statistics over all ranks */
} BatchNorm;
/* Over all but the last dimension, any rank >= 2. Parameters weight, bias; states running_mean,
 * running_var (unbiased), num_batches_tracked (INT64, rank 0). In GRAPH_EVALUATE the running statistics are
 * used. Samples that the clock calls padding (CLOCK_PADDING) have no part in the statistics. */
Value batch_norm(Graph *, const char *name, Value x, BatchNorm);

/* Over the last dimension. Parameters weight, bias. epsilon 0: 1e-5. */
Value layer_norm(Graph *, const char *name, Value x, double epsilon);

typedef struct {
    int64_t features; /* out */
    bool no_bias;
    WeightInit init;
    int64_t fan_out; /* outputs as initialisation counts them; 0: features */
    DType type;      /* of the output: FLOAT32 (0) or the compute type; logits are FLOAT32 */
    /* In files several layers of these names instead, equal shares of the features. */
    const char *parts[FILE_NAMES_MAX];
} Linear;
/* [..., C] -> [..., features]; parameters weight [features,C], bias [features]. */
Value linear(Graph *, const char *name, Value x, Linear);
/* The same of x [N, ..., C], of whose sequences length INT32 [N] says how many rows there are (NO_VALUE: all). Those behind have
 * no meaning in y and in the gradient of x: a kernel may leave them out, and then they are 0. The gradient of y must be 0 there. */
Value linear_sequences(Graph *, const char *name, Value x, Value length, Linear);
/* `linear` with parameters that others use too: weight FLOAT32 [features,C], bias FLOAT32 [features] or NO_VALUE. */
Value linear_with(Graph *, Value x, Value weight, Value bias, DType type);

typedef struct {
    int64_t rows, width;
    bool
        padded; /* padding_row starts at zero and has no gradient; what it holds is read like any other row */
    int64_t padding_row;
    double scale; /* of the output; 0: 1 */
    Init init;
    TrainingKind
        training; /* TRAINED_BY_ROWS: only the rows that a batch reads have gradients; FROZEN: none has */
} Embedding;
/* Rows of a table: INT32 [...] -> [..., width] of the compute type; parameter weight [rows,width]. An index that is no
 * row is an error on the CPU; on a GPU the output is NaN there, so that training stops and says so. Its gradient is
 * summed in float64 in the order of the index. */
Value embedding(Graph *, const char *name, Value index, Embedding);

/* ---- elementwise, shape ---- */

Value relu(Graph *, Value x);
Value add(Graph *, Value a, Value b);                  /* equal shapes */
Value concat(Graph *, const Value parts[], int count); /* along the last dimension */
Value slice(Graph *, Value x, int64_t first,
            int64_t columns); /* columns first .. first+columns-1 of the last dimension */
Value reshape(Graph *, Value x, int rank, const int64_t extent[]); /* same count; one extent may be -1 */
Value flatten(Graph *, Value x);     /* [N, ...] -> [N, rest] in PyTorch's order: [N,H,W,C] as C,H,W */
Value cast(Graph *, Value x, DType); /* FLOAT32 <-> BFLOAT16; x itself if it has the type */
Value softmax(Graph *, Value x);     /* over the last dimension */
Value log_softmax(Graph *, Value x);
Value dot(Graph *, Value x, Value weight); /* FLOAT64 [1]: sum of x * weight; equal shapes. Can end a graph */
Value row_norms(Graph *, Value x); /* [..., C] -> FLOAT64 [rows]: Euclidean norms. Without a gradient */

/* ---- dropout ---- */

/* Inverted dropout, nothing in GRAPH_EVALUATE. x [samples, ...]. The mask is a function of the clock's seed and step, the full
 * name, the sample's place in the global batch and the element of the sample. A name may occur once in a graph. */
Value dropout(Graph *, const char *name, Value x, double probability);
/* The same for x [rows..., columns] whose rows are not samples in the global batch's order: key INT64 [rows] says of each
 * row which it is. */
Value dropout_by_key(Graph *, const char *name, Value x, Value key, double probability);
/* The key of row `row` of the sample at `place` of the global batch. */
static inline int64_t dropout_key(int64_t place, int64_t row)
{
    return (int64_t)((uint64_t)place << 32) + row;
}

/* ---- pooling ---- */

typedef struct {
    int64_t kernel;                      /* square; or set kernel_height and kernel_width */
    int64_t kernel_height, kernel_width; /* both, then also the paddings below */
    int64_t stride;                      /* 0: the kernel's width */
    int64_t padding;
    int64_t padding_height, padding_width;
} Pool2d;
Value max_pool2d(Graph *, Value x, Pool2d);     /* padding never wins; ties: the first in row order */
Value average_pool2d(Graph *, Value x, Pool2d); /* padding counts as zero, divided by kernel * kernel */
Value adaptive_average_pool2d(Graph *, Value x, int64_t height, int64_t width); /* torch's uneven windows */

typedef struct {
    int64_t kernel;
    int64_t stride; /* 0: kernel */
    int64_t padding;
} Pool1d;
Value max_pool1d(Graph *, Value x, Pool1d); /* [N,L,C] -> [N,L',C]; as max_pool2d */
/* [N,L,C] -> [N,C]: the largest of all positions; its gradient goes to the first that has it. */
Value global_max_pool1d(Graph *, Value x);

/* ---- trees ---- */

typedef struct {
    int64_t memory;   /* units */
    bool leaf_gate;   /* a leaf's h is s(ox x) tanh(c), not tanh(c) */
    bool output_gate; /* an inner node's h is s(olh h_l + orh h_r) tanh(c), not tanh(c) */
    bool nary;        /* the equations as printed: parameters W_i, W_o, W_u, the bias of W_f, U_i_l, ... */
} TreeLstm;
/* Binary Tree-LSTM over a batch of trees: x [leaf capacity, width] of the compute type, children INT32 [inner capacity, 2]
 * and levels INT32 [1 + most levels] as tree_lstm.h says (nlp/tree_batch.h fills them) -> h [leaf capacity + inner capacity,
 * memory], 0 in rows of no node. Parameters have the names of the code that the calibration paper cites:
 * leaf_module.cx, leaf_module.ox; composer.ilh, composer.irh, ..., each with weight [memory, in] and bias. */
Value tree_lstm(Graph *, const char *name, Value x, Value children, Value levels, TreeLstm);

/* ---- decoders ---- (decode.h; not differentiable) */

typedef struct {
    int64_t count;      /* 1 to 128 */
    Value temperature;  /* FLOAT32 [1] */
    Value forced;       /* INT32 [R]: the only token of a row; -1: any */
    Value banned_start; /* INT32 [R+1]: row r may not give banned[banned_start[r] .. banned_start[r+1]-1] */
    Value banned;       /* INT32 [any], each token once in a row */
    /* Results: */
    Value
        token; /* INT32 [R,count] by falling logit, the lower token first on a tie; -1 where a row has fewer */
    Value logit; /* FLOAT32 [R,count] */
    Value
        scale; /* FLOAT32 [R,2]: the greatest logit g, and the sum s of e^((logit - g) / temperature) over all tokens, so
                    that log p = (logit - g) / temperature - log s */
} BestTokens;
/* The best next tokens of each row of logits FLOAT32 [R,V]. */
BestTokens best_tokens(Graph *, Value logits, BestTokens);

/* Copies sequence n of x [N,L,C] to the first L positions of row[n] of a state [M,T,C]; row INT32 [N], -1: nowhere. Returns
 * a copy of row, which a program keeps to say that it wants this. */
Value place_sequences(Graph *, Value x, Value state, Value row);

/* ---- sequences ---- */

/* Whose keys and values the queries see. NO_VALUE where there is none; ATTENTION_SELF: none at all. */
typedef struct {
    Value
        key_value; /* [M,Lk,2 width]: keys and values side by side; NO_VALUE: the queries have them at their side */
    Value first; /* INT32 [M]: the first key that can be seen; NO_VALUE: 0 */
    Value end;   /* INT32 [M]: how many keys there are, with those before `first`; NO_VALUE: Lk */
    Value
        row; /* INT32 [N]: of which of the M the queries of a sample see the keys, -1: of none; NO_VALUE: M is N. Not
                  differentiable */
} AttentionKeys;
#define ATTENTION_SELF ((AttentionKeys){NO_VALUE, NO_VALUE, NO_VALUE, NO_VALUE})
typedef struct {
    int64_t heads;  /* a divisor of the width */
    bool causal;    /* query i sees no key behind key i */
    double dropout; /* of the weights; nothing in GRAPH_EVALUATE. Uses the clock */
} Attention;
/* Multi-head attention without its projections (attention.h has the equations): query [N,Lq,width], or [N,L,3 width] with the
 * queries, keys and values of a sequence side by side -> [N,Lq,width]. A query that sees no key gives 0; what padding
 * holds goes nowhere. */
Value attention(Graph *, Value query, AttentionKeys, Attention);
/* The attention of one new position of each of R sequences to all before it, in a program that decodes: [R,3 width] ->
 * [R,width]. cache, a state [slots,T,2 width] of the compute type, takes the new keys and values; table INT32 [R,T] says
 * in which slot a sequence has position s, for the new position too; position INT32 [R] says which is the new
 * one, -1 where a row is not used. No two rows may write one place. Not differentiable. */
Value attention_step(Graph *, Value query_key_value, Value cache, Value table, Value position, int64_t heads);

typedef enum {
    POSITIONS_INTERLEAVED, /* Vaswani et al. 2017: sin(p f) and cos(p f) alternate, f = 10000^(-2i/width) */
    POSITIONS_HALVES_PAPER_FREQUENCIES, /* the same numbers, all sines first */
    POSITIONS_HALVES_TENSOR2TENSOR, /* all sines first; f = 10000^(-i/(width/2-1)), as the published code has it */
    POSITIONS_LEARNED               /* rows of a parameter, weight [most,width] */
} PositionKind;
typedef struct {
    PositionKind kind;
    int64_t most; /* positions that there can be; not learned: 0 for as many as x has */
} Positions;
/* Adds to each row the vector of its position, from 0 on: x [N,L,width] or, with position INT32 [R], x [R,width]. A
 * position that there cannot be is an error on the CPU and NaN on a GPU; -1 adds nothing. With `position` not
 * differentiable. */
Value positions(Graph *, const char *name, Value x, Value position, Positions);

/* ---- data ---- */

typedef struct {
    int64_t padding;             /* of the random crop; 0: none */
    bool flip;                   /* the crop array's third column says which samples */
    float mean[4], deviation[4]; /* per channel, of pixel / 255 */
} Augment;
/* Images out of a table of bytes: gather, crop, flip, normalise in one pass.
 * table UINT8 [M,H,W,C]; index INT64 [N] rows of the table; crop INT32 [N,3]: top and left corner in the
 * padded image (0 .. 2*padding), flip 0 or 1. -> [N,H,W,C] of the compute type. Padding is black (byte 0),
 * then normalised. M may be anything: the caller binds the whole set, or one batch. Not differentiable. */
Value augment(Graph *, Value table, Value index, Value crop, Augment);

/* The table of all ops of the engine, for listings and tests. */
const Op *const *ops_table(int *count);

#endif
