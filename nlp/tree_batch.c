#include "nlp/tree_batch.h"

#include "engine/base/memory.h"
#include "engine/ops/ops.h"

#include <stdlib.h>
#include <string.h>

static int64_t node_count(const Trees *trees, int64_t tree)
{
    return trees->first_node[tree + 1] - trees->first_node[tree];
}

/* A strictly binary tree of n nodes has (n + 1) / 2 leaves, so the trees with most leaves have most inner nodes, too. */
TreeBatchRoom tree_batch_room(const Trees *trees, const int64_t tree[], int64_t count, int64_t batch)
{
    TreeBatchRoom room = {.trees = batch};
    int64_t above = INT64_MAX; /* all trees of so many nodes or more have been added */
    for (int64_t left = batch, size = 1; left > 0 && size > 0; above = size) {
        int64_t trees_of_size = 0;
        size = 0;
        for (int64_t i = 0; i < count; ++i) {
            const int64_t nodes = node_count(trees, tree[i]);
            if (nodes >= above || nodes < size) continue;
            trees_of_size = nodes > size ? 1 : trees_of_size + 1;
            size = nodes;
        }
        const int64_t added = trees_of_size < left ? trees_of_size : left;
        room.leaves += added * ((size + 1) / 2);
        room.inner += added * (size / 2);
        left -= added;
    }
    for (int64_t i = 0; i < count; ++i) {
        const int64_t height = trees->height[trees->first_node[tree[i] + 1] - 1];
        if (height > room.levels) room.levels = height;
    }
    if (room.inner < 1) room.inner = 1; /* arrays are not empty, even of trees that are leaves alone */
    if (room.levels < 1) room.levels = 1;
    return room;
}

static Status check_room(const Trees *trees, const int64_t tree[], int64_t count, TreeBatchRoom room)
{
    int64_t nodes = 0, leaves = 0, levels = 0;
    for (int64_t t = 0; t < count; ++t) {
        const int64_t height = trees->height[trees->first_node[tree[t] + 1] - 1];
        nodes += node_count(trees, tree[t]);
        leaves += trees->first_leaf[tree[t] + 1] - trees->first_leaf[tree[t]];
        if (height > levels) levels = height;
    }
    if (count <= room.trees && leaves <= room.leaves && nodes - leaves <= room.inner && levels <= room.levels)
        return OK;
    return fail(STATUS_INPUT,
                "a batch of %lld trees with %lld leaves, %lld inner nodes and %lld levels, but there is room "
                "for %lld trees, "
                "%lld leaves, %lld inner nodes and %lld levels",
                (long long)count, (long long)leaves, (long long)(nodes - leaves), (long long)levels,
                (long long)room.trees, (long long)room.leaves, (long long)room.inner, (long long)room.levels);
}

/* A counting sort by height, which keeps the order of trees and nodes: levels[h] becomes where the next node of height h goes,
 * and at the end where the level ends. */
static void find_levels(const Trees *trees, const int64_t tree[], int64_t count, TreeBatchRoom room,
                        int32_t *levels)
{
    memset(levels, 0, (size_t)(1 + room.levels) * sizeof *levels);
    for (int64_t t = 0; t < count; ++t)
        for (int64_t n = trees->first_node[tree[t]]; n < trees->first_node[tree[t] + 1]; ++n)
            ++levels[trees->height[n]];
    int32_t first = 0;
    for (int64_t h = 0; h <= room.levels; ++h) {
        const int32_t size = levels[h];
        levels[h] = first;
        first += size;
    }
}

static int64_t most_nodes(const Trees *trees, const int64_t tree[], int64_t count)
{
    int64_t most = 0;
    for (int64_t t = 0; t < count; ++t)
        if (node_count(trees, tree[t]) > most) most = node_count(trees, tree[t]);
    return most;
}

/* at: the tree's place in the global batch. place: of its nodes in this batch, in post-order. */
static void put_tree(const Trees *trees, const int32_t id[], TreeTask task, int64_t tree, int64_t at,
                     int32_t leaves, int32_t *place, TreeBatch *batch)
{
    const int64_t first = trees->first_node[tree];
    for (int64_t n = first; n < trees->first_node[tree + 1]; ++n) {
        const int32_t node = batch->levels[trees->height[n]]++;
        place[n - first] = node;
        batch->target[node] = tree_task_class(task, trees->label[n]);
        batch->weight[node] = tree_task_weight(task, trees->label[n]);
        if (batch->key != NULL) batch->key[node] = dropout_key(at, n - first);
        if (trees->leaf[n] >= 0) {
            batch->word[node] = id[trees->first_leaf[tree] + trees->leaf[n]];
        } else { /* children come before their parent */
            int32_t *child = batch->children + (ptrdiff_t)2 * (node - leaves);
            child[0] = place[trees->left[n]];
            child[1] = place[trees->right[n]];
        }
    }
}

Status tree_batch_fill(const Trees *trees, const int32_t id[], TreeTask task, const int64_t tree[],
                       int64_t count, TreeBatchRoom room, TreeBatch *batch)
{
    TRY(check_room(trees, tree, count, room));
    int32_t *place;
    TRY(memory_new(&place, (size_t)most_nodes(trees, tree, count) + 1, sizeof *place, "a batch of trees"));
    memset(batch->word, 0, (size_t)room.leaves * sizeof *batch->word);
    memset(batch->children, 0, (size_t)(2 * room.inner) * sizeof *batch->children);
    memset(batch->target, 0, (size_t)(room.leaves + room.inner) * sizeof *batch->target);
    memset(batch->weight, 0, (size_t)(room.leaves + room.inner) * sizeof *batch->weight);
    memset(batch->root, 0, (size_t)room.trees * sizeof *batch->root);
    if (batch->key != NULL) memset(batch->key, 0, (size_t)(room.leaves + room.inner) * sizeof *batch->key);
    find_levels(trees, tree, count, room, batch->levels);
    const int32_t leaves = room.levels > 0 ? batch->levels[1] : 0; /* where the next level begins */
    for (int64_t t = 0; t < count; ++t) {
        put_tree(trees, id, task, tree[t], batch->place + t, leaves, place, batch);
        batch->root[t] = place[node_count(trees, tree[t]) - 1];
    }
    free(place);
    return OK;
}
