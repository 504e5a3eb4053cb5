/* Batches of trees, as tree_lstm takes them (tree_batch.h).
 *
 * Fields of a part with room for so many leaves, inner nodes and levels, and nodes = leaves + inner:
 *     words     INT32 [leaves]      ids
 *     children  INT32 [inner,2]
 *     levels    INT32 [1+levels]
 *     key       INT64 [nodes]       of dropout, by the place of the tree in the global batch: masks are the same at any number
 *                                   of ranks and parts
 *     target    INT32 [nodes]       class
 *     weight    FLOAT32 [nodes]     training: of a node in the loss; evaluation: 1 at roots alone
 *     sample    INT64 [nodes]       number in the split of the tree, at its root; for the host
 *
 * What a mean divides by (Batch.total) is the number of trees, as in the published codes. */
#ifndef PLUMB_NLP_TREE_SOURCE_H
#define PLUMB_NLP_TREE_SOURCE_H

#include "engine/data/source.h"
#include "nlp/tree_batch.h"

typedef struct {
    SampleBatches batches;
    Split split;
    const char *dataset; /* its name, for messages */
    const Trees *trees;  /* these three outlive the source */
    const int32_t *id;   /* of every leaf of the corpus */
    const int64_t *tree; /* [count] which trees the split has */
    int64_t count;
    TreeTask task;
    TreeBatchRoom room; /* of a part */
} TreeSourceOptions;

/* The one shape of its parts. */
void tree_batch_shape(TreeBatchRoom, BatchShape *);

/* STATUS_INPUT for an empty split, and for a batch that the ranks cannot share equally. Not collective. */
CHECKED Status tree_source_open(const TreeSourceOptions *, Source **);

#endif
