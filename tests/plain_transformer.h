/* A Transformer in double precision, written out plainly: what tests compare programs and searches with. */
#ifndef PLUMB_TESTS_PLAIN_TRANSFORMER_H
#define PLUMB_TESTS_PLAIN_TRANSFORMER_H

#include "tests/golden.h"

typedef struct PlainTransformer PlainTransformer;

/* The network of a golden case: inputs/weights and inputs/index, params/norm, heads, ffn; positions `interleaved`. */
PlainTransformer *plain_transformer_open(const GoldenCase *);
void plain_transformer_close(PlainTransformer *);
int plain_transformer_vocabulary(const PlainTransformer *);

/* A sentence and the beginnings of translations that were asked for; beginnings are numbered. */
typedef struct PlainSentence PlainSentence;
PlainSentence *plain_sentence_open(const PlainTransformer *, const int32_t source[], int length);
void plain_sentence_close(PlainSentence *);
/* Beginning `before` (-1: none) with `token` behind it. */
int plain_sentence_extend(PlainSentence *, int before, int32_t token);
/* The logits of the token that follows; valid until the sentence is closed. */
const double *plain_sentence_logits(const PlainSentence *, int beginning);

#endif
