/* Batches of sentence pairs by tokens: which padded lengths there are, and which pairs a step takes.
 *
 * A batch has pairs of about the same lengths, padded to one of a few shapes (source and target length), which are chosen
 * for the corpus: as few as leave little padding. It takes as many pairs as fit into so many source and so many target
 * positions over all ranks. Which pairs those are is a function of (seed, epoch) alone: no number of ranks, parts or threads
 * changes it. */
#ifndef PLUMB_NLP_TOKEN_BATCHES_H
#define PLUMB_NLP_TOKEN_BATCHES_H

#include "engine/base/status.h"
#include "engine/data/source.h"

#include <stdbool.h>
#include <stdint.h>

/* Tokens of a pair, the end token of each side included. */
typedef struct {
    int32_t source, target;
} PairLength;

typedef struct {
    int64_t source, target; /* positions */
    int64_t pairs;          /* the most of a batch, over all ranks */
    int parent; /* the shape whose batches take the pairs that are left over here; -1: none, so the last batch is ragged */
} TokenShape;

typedef struct {
    int count;
    TokenShape shape
        [BATCH_MAX_SHAPES]; /* the longest, which holds every pair (but those set apart: theirs come before), first */
} TokenShapes;

typedef struct {
    int64_t tokens; /* source positions, and target positions, of a batch */
    int most;       /* shapes; at most BATCH_MAX_SHAPES */
    double padding; /* share of positions: no more shapes are made where they leave no more than this */
    int64_t
        longest; /* in evaluation: pairs with a longer side have shapes of their own, of a pair or few; 0: none have */
} TokenShapeOptions;

/* STATUS_INPUT without pairs, and for a pair that is longer than a batch and not of those that `longest` sets apart. */
CHECKED Status token_shapes_choose(const PairLength length[], int64_t count, const TokenShapeOptions *,
                                   TokenShapes *);
/* The smallest shape that takes the pair; -1: none does. */
int token_shape_for(const TokenShapes *, PairLength);

/* An epoch's batches. */
typedef struct {
    int64_t batches;
    int64_t *order; /* [count] pairs */
    int64_t *first; /* [batches + 1] where a batch's pairs begin in the order */
    int *shape;     /* [batches] */
} TokenEpoch;

/* How many batches any epoch has. pairs [shapes->count]: of each shape. */
int64_t token_epoch_batches(const TokenShapes *, const int64_t pairs[]);
/* number: of the epoch; shape_index [count]: of each pair. Pairs are drawn within their shape, and batches come in random order. */
CHECKED Status token_epoch_make(const TokenShapes *, const int shape_index[], int64_t count, uint64_t seed,
                                int64_t number, TokenEpoch *);
void token_epoch_free(TokenEpoch *);

#endif
