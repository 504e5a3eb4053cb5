/* A token drawn from a network's distribution. */
#ifndef PLUMB_NLP_SAMPLING_H
#define PLUMB_NLP_SAMPLING_H

#include "engine/base/status.h"

#include <stdint.h>

typedef struct {
    int64_t vocabulary;
    double temperature;
    int64_t top_k; /* from the best so many tokens; 0: from all */
    double top_p;  /* then from the fewest that have this share of what is left; 1: from all */
} SamplingOptions;

typedef struct Sampler Sampler;
CHECKED Status sampler_create(const SamplingOptions *, Sampler **);
void sampler_free(Sampler *); /* NULL is allowed */

/* Draws from softmax(logits / temperature) without the banned tokens, cut to top_k and top_p. uniform: in [0, 1). The logarithm
 * is that of the token's probability over the whole vocabulary, as in beam search. STATUS_NUMERIC for logits that are not
 * numbers; *token is -1 if every token is banned. */
CHECKED Status sampler_draw(Sampler *, const float logits[], const int32_t banned[], int banned_count,
                            double uniform, int32_t *token, double *log_probability);
/* The same for a token that is given. */
CHECKED Status sampler_take(Sampler *, const float logits[], int32_t token, double *log_probability);

#endif
