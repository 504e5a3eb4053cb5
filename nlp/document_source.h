/* Batches of documents as ids, cropped to the positions that their longest document needs.
 *
 * Fields, for n documents of a part and L positions, one of the lengths:
 *     tokens  INT32 [n,L]    ids, padding in front
 *     target  INT32 [n]      class
 *     weight  FLOAT32 [n]    1, or 0 for padding
 *     sample  INT64 [n]      number in the split; for the host
 *
 * Training: an epoch's order is that of document_batches (document_batches.h), shared among ranks and parts as
 * SampleBatches has it. Evaluation: a rank's share of the split, by length. */
#ifndef PLUMB_NLP_DOCUMENT_SOURCE_H
#define PLUMB_NLP_DOCUMENT_SOURCE_H

#include "engine/data/source.h"
#include "nlp/document_batches.h"
#include "nlp/document_ids.h"

typedef struct {
    SampleBatches batches;
    Split split;
    const char *dataset;     /* its name, for messages */
    const DocumentIds *ids;  /* these three outlive the source */
    const int64_t *document; /* [count] which documents the split has */
    const int32_t *label;    /* [count] */
    int64_t count;
    BatchLengths lengths;
    int64_t margin; /* positions beyond the longest document */
} DocumentSourceOptions;

/* The shapes of its parts, the longest first; how many. */
int document_batch_shapes(const SampleBatches *, const BatchLengths *, BatchShape shape[BATCH_MAX_SHAPES]);

/* STATUS_INPUT for an empty split, and for a batch that the ranks cannot share equally. Not collective. */
CHECKED Status document_source_open(const DocumentSourceOptions *, Source **);

#endif
