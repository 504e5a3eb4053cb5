/* The Transformer of Vaswani et al., "Attention Is All You Need", 2017: encoder and decoder over ids of one vocabulary, whose one
 * matrix embeds source and target (times the square root of the width) and is the output layer (as it is, without a bias).
 *
 * Post-norm is as published: x = norm(x + f(x)), and no norm after the last layer. Pre-norm is x = x + f(norm(x)), and one norm
 * after the last layer of each stack. In files, parameters have fairseq's names (encoder.layers.0.self_attn.q_proj.weight, fc1,
 * final_layer_norm), under which other programs, too, hold such networks; in memory queries, keys and values are one matrix.
 *
 * Initial values: the embedding normal with variance 1 / width; matrices of the feed-forward part and of attention's output
 * uniform in +-sqrt(6 / (in + out)) (Glorot and Bengio); those of queries, keys and values uniform in +-sqrt(6 / (4 width)),
 * which is Glorot's range for the three as one matrix [3 width,width]; biases 0, norms 1 and 0.
 *
 * Two uses. Training and scoring build encoder, decoder and logits in one graph, over whole sentences. Search takes the parts
 * in programs of their own, which share one store:
 *   - encode: transformer_encoder, then transformer_memory for each layer: what cross-attention reads, once a sentence;
 *   - step: transformer_step for one new position of each hypothesis, then transformer_logits. */
#ifndef PLUMB_MODELS_TRANSFORMER_H
#define PLUMB_MODELS_TRANSFORMER_H

#include "engine/ops/ops.h"

typedef struct {
    int64_t vocabulary;
    int64_t width, feed_forward_width, heads; /* heads: a divisor of the width */
    int64_t layers;                           /* of the encoder, and of the decoder */
    bool pre_norm;
    bool
        attention_bias; /* the projections of attention have biases. Those of the keys change nothing that the network
                            says: their gradient is rounding alone */
    Positions positions;
    double dropout;           /* of the sum of embedding and position, and of what each part adds */
    double attention_dropout; /* of attention's weights */
    double relu_dropout;      /* between the two layers of the feed-forward part */
} Transformer;

/* source INT32 [N,Ls], length INT32 [N] (0: no sentence) -> memory [N,Ls,width] of the compute type. What it holds behind a
 * sentence's length has no meaning, and nothing below reads it. */
Value transformer_encoder(Graph *, const Transformer *, Value source, Value length);
/* The decoder over whole sentences: target INT32 [N,Lt], which begins with the start token -> hidden [N,Lt,width]. No
 * position sees one behind it, so that padding at the end needs no length. */
Value transformer_decoder(Graph *, const Transformer *, Value memory, Value source_length, Value target);
/* One layer of each, with the names of the scope that the caller has entered: x [N,L,width] -> the same. Of the encoder's what x
 * and the result hold behind a sentence's length has no meaning, and the result's gradient must be 0 there. */
Value transformer_encoder_layer(Graph *, const Transformer *, Value x, Value length);
Value transformer_decoder_layer(Graph *, const Transformer *, Value x, Value memory, Value source_length);
/* hidden [...,width] -> logits FLOAT32 [rows of hidden, vocabulary]. */
Value transformer_logits(Graph *, const Transformer *, Value hidden);

/* The keys and values that the cross-attention of decoder layer `layer` makes of the memory: [N,Ls,2 width]. What they are behind
 * a sentence's length has no meaning. */
Value transformer_memory(Graph *, const Transformer *, int64_t layer, Value memory, Value source_length);

/* One step of decoding, of R hypotheses, R / S of each of S sentences side by side (S = R: the first step, unexpanded, or a
 * greedy search). */
typedef struct {
    Value token;    /* INT32 [R]: the last token of each hypothesis */
    Value position; /* INT32 [R]: its place, 0 for the start token; -1: a row that is not used */
    Value
        table; /* INT32 [R,T], T the positions that a cache has room for: in which slot of the caches a hypothesis has
                    its position s, for s = 0 .. position, the new one too. Reordering, sharing and dropping hypotheses
                    is writing this table (attention_step in engine/ops/ops.h) */
    Value
        sentence; /* INT32 [S]: which row of the memories a sentence has, -1: a sentence that is not used. NO_VALUE: its
                            own, and M is S */
    Value source_length; /* INT32 [M]: of each row of the memories */
    const Value *memory; /* of each layer [M,Ls,2 width]: what transformer_memory made, as inputs or states */
    const Value *
        cache; /* of each layer a state [slots,T,2 width] of the compute type: keys and values of self-attention */
} TransformerStep;
/* -> hidden [R,width] after the new position. */
Value transformer_step(Graph *, const Transformer *, const TransformerStep *);

#endif
