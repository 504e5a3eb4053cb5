/* Trees as a batch of tree_lstm (engine/ops/tree_lstm.h): the nodes of all trees sorted by height. A pure function of its
 * arguments. */
#ifndef PLUMB_NLP_TREE_BATCH_H
#define PLUMB_NLP_TREE_BATCH_H

#include "engine/base/status.h"
#include "nlp/trees.h"

#include <stdint.h>

/* What the arrays of a batch have room for; it is their shape. */
typedef struct {
    int64_t trees, leaves, inner, levels; /* levels above the leaves */
} TreeBatchRoom;

/* Room for any `batch` of the `count` trees that `tree` names, in whatever order they come: the sums of the largest ones. */
TreeBatchRoom tree_batch_room(const Trees *, const int64_t tree[], int64_t count, int64_t batch);

/* Arrays of the caller's. Leaves come first, tree after tree, each in the order of its sentence; then the nodes of height 1,
 * tree after tree and within a tree in post-order, and so on. What no node fills is 0, but for `levels`. */
typedef struct {
    int32_t *word;     /* [leaves] ids */
    int32_t *children; /* [inner][2] left and right, as nodes */
    int32_t *
        levels; /* [1 + levels] where each level ends: [0] is the number of leaves; absent levels end with the last */
    int32_t *target; /* [leaves + inner] class of a node */
    float *weight;   /* [leaves + inner] of a node in the loss */
    int32_t *root;   /* [trees] node of each tree's root */
    int64_t *
        key; /* [leaves + inner] of dropout_by_key: place of the tree, number of the node in post-order; or NULL */
    int64_t place; /* of tree[0] in the global batch */
} TreeBatch;

/* Fills all of them with the trees tree[0 .. count-1], whose words have the ids id[leaf of the corpus]. count may be less
 * than room.trees: an epoch's last batch. STATUS_INPUT if the trees have no room. */
CHECKED Status tree_batch_fill(const Trees *, const int32_t id[], TreeTask, const int64_t tree[],
                               int64_t count, TreeBatchRoom room, TreeBatch *);

#endif
