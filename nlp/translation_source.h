/* Batches of sentence pairs as a translation network takes them. */
#ifndef PLUMB_NLP_TRANSLATION_SOURCE_H
#define PLUMB_NLP_TRANSLATION_SOURCE_H

#include "engine/data/source.h"
#include "nlp/encode_cache.h"
#include "nlp/token_batches.h"

/* Fields of a part of N pairs, padded to Ls and Lt positions; ids are those of nlp/subwords.h:
 *
 *     source         INT32 [N,Ls]     the source's ids and its end token, then padding
 *     source_length  INT32 [N]        positions that are not padding; 0: the row has no pair
 *     target_input   INT32 [N,Lt]     the start token and the target's ids, then padding
 *     target_length  INT32 [N]
 *     target         INT32 [N*Lt]     the target's ids and its end token, then padding
 *     weight         FLOAT32 [N*Lt]   1 where there is a token, else 0
 *     sample         INT64 [N]        the pair's place in the split
 *
 * A part's rows are N*Lt, pair by pair; what is counted are the target's tokens. */
typedef struct {
    int rank, ranks;
    uint64_t seed;
    bool training;
    int64_t part_tokens; /* the most source positions, and target positions, of a part */
} TokenShare;

/* The shapes of a rank's parts, as many as token shapes. */
int translation_batch_shapes(const TokenShapes *, const TokenShare *, BatchShape shape[BATCH_MAX_SHAPES]);

typedef struct {
    TokenShare share;
    const TokenShapes *shapes;
    const EncodedCorpus *corpus;
    const int64_t *pair; /* [count] pairs of the corpus that the split has */
    int64_t count;
} TranslationSourceOptions;

/* Training: a batch's pairs are shared among ranks in contiguous rows, and those of a rank among parts. Evaluation: ranks
 * take equal shares of the split sorted by length. What the options point to must outlive the source. */
CHECKED Status translation_source_open(const TranslationSourceOptions *, Source **);

#endif
