/* What the files of the ops of decoders share: the best next tokens of a hypothesis, and a sentence's keys and values put where
 * steps find them. No gradients. */
#ifndef PLUMB_ENGINE_OPS_DECODE_H
#define PLUMB_ENGINE_OPS_DECODE_H

#include "engine/graph/op.h"

/* Of each row of logits the `count` greatest, by falling logit, the lower token first on a tie, and what makes
 * log-probabilities of them:
 *     log p[token] = (logit[token] - greatest) / temperature - log(sum over all tokens of e^((logit - greatest) / temperature))
 * so that the order does not depend on the temperature. Banned tokens are not given, but are in the sum. */
enum { BEST_TOKENS_MOST = 128 };
typedef struct {
    int64_t count; /* 1 to BEST_TOKENS_MOST */
} BestTokensAttributes;
enum {
    BEST_TOKENS_LOGITS,      /* FLOAT32 [R,V] */
    BEST_TOKENS_TEMPERATURE, /* FLOAT32 [1] */
    BEST_TOKENS_FORCED,      /* INT32 [R]: the only token of a row; -1: any */
    BEST_TOKENS_BANNED_START, /* INT32 [R+1]: row r may not give BANNED[BANNED_START[r] .. BANNED_START[r+1]-1] */
    BEST_TOKENS_BANNED,       /* INT32 [any]: tokens below V, each once in a row */
    BEST_TOKENS_INPUTS
};
enum {
    BEST_TOKENS_TOKEN, /* INT32 [R,count]; -1 where a row has fewer */
    BEST_TOKENS_LOGIT, /* FLOAT32 [R,count]; there minus infinity */
    BEST_TOKENS_SCALE, /* FLOAT32 [R,2]: the greatest logit, and the sum; NaN if a logit is NaN or plus infinity */
    BEST_TOKENS_OUTPUTS
};
extern const Kernel best_tokens_cpu;
extern const Kernel best_tokens_cuda OPTIONAL_KERNEL;

enum {
    PLACE_SEQUENCES_X, /* [N,L,C] */
    PLACE_SEQUENCES_STATE, /* [M,T,C] of the same type, T >= L: sequence row[n] becomes x[n] in its first L positions */
    PLACE_SEQUENCES_ROW, /* INT32 [N]: below M; -1: x[n] goes nowhere */
    PLACE_SEQUENCES_INPUTS
};
extern const Kernel place_sequences_cpu; /* -> INT32 [N]: a copy of ROW, which says that it is done */
extern const Kernel place_sequences_cuda OPTIONAL_KERNEL;

#endif
