/* The order of documents in an epoch, for batches that are cropped to the length that they need.
 *
 * Three of four positions of a padded batch are padding. Padding's vector is zero, so a network that takes the maximum
 * over time sees the same windows again and again in it: `margin` positions more than the longest document (the
 * receptive field of a position) give the same maximum, and the same gradient, as any greater length. */
#ifndef PLUMB_NLP_DOCUMENT_BATCHES_H
#define PLUMB_NLP_DOCUMENT_BATCHES_H

#include "engine/base/status.h"

#include <stdbool.h>
#include <stdint.h>

enum { DOCUMENT_MOST_LENGTHS = 10 };

/* The lengths that batches may have, rising; the last is the longest. At most DOCUMENT_MOST_LENGTHS, so that each can
 * have its program. */
typedef struct {
    int count;
    int64_t length[DOCUMENT_MOST_LENGTHS];
} BatchLengths;
/* The lengths for documents of up to `longest` positions; crop false: that alone. STATUS_INPUT for a longest below 1. */
CHECKED Status batch_lengths(int64_t longest, bool crop, BatchLengths *);
/* The smallest of them that holds needed + margin positions, or the last: documents are never longer than that. */
int64_t batch_length_for(const BatchLengths *, int64_t needed, int64_t margin);

typedef struct {
    int64_t batch;  /* documents of a global batch */
    int64_t margin; /* see above; 21 for three convolutions of width 5 with pools of width 5 between */
    int64_t
        window; /* batches whose documents are sorted by length together; 0: all of the split; 32 is a good number */
    bool shuffle; /* else by length alone: for evaluation */
    uint64_t seed;
} DocumentBatchOptions;

typedef struct {
    int64_t count, batches;
    int64_t *order; /* [count] documents of batch b: order[b * batch] and on; the last batch may be shorter */
    int64_t *length; /* [batches] positions of batch b, of the BatchLengths */
} DocumentEpoch;

/* An order of the `count` documents, needed[i] positions each: shuffled, sorted by length within a window, cut into
 * batches, the batches shuffled. Documents of the ragged last batch are drawn at random and stay last. A function of
 * its arguments alone: every rank gets the same. STATUS_INPUT for no document or a batch below 1. */
CHECKED Status document_batches(const int64_t needed[], int64_t count, const BatchLengths *,
                                const DocumentBatchOptions *, int64_t epoch, DocumentEpoch *);
void document_epoch_free(DocumentEpoch *);

#endif
