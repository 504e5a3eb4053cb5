/* Batches of trees: their order, their arrays, and all of the treebank. */
#include "tests/support.h"

#include "engine/ops/ops.h"
#include "nlp/tree_batch.h"

#include <stdlib.h>
#include <string.h>

static Trees parse(const char *text)
{
    Trees trees;
    assert_ok(trees_parse("some.txt", text, strlen(text), (TreeOptions){.leaf_alone = true}, &trees));
    return trees;
}

static TreeBatch new_batch(TreeBatchRoom room)
{
    const size_t nodes = (size_t)(room.leaves + room.inner);
    TreeBatch b = {.word = malloc((size_t)room.leaves * sizeof *b.word),
                   .children = malloc((size_t)(2 * room.inner) * sizeof *b.children),
                   .levels = malloc((size_t)(1 + room.levels) * sizeof *b.levels),
                   .target = malloc(nodes * sizeof *b.target),
                   .weight = malloc(nodes * sizeof *b.weight),
                   .root = malloc((size_t)room.trees * sizeof *b.root),
                   .key = malloc(nodes * sizeof *b.key),
                   .place = 40};
    assert_true(b.word != NULL && b.children != NULL && b.levels != NULL && b.target != NULL &&
                b.weight != NULL && b.root != NULL && b.key != NULL);
    return b;
}

static void free_batch(TreeBatch *b)
{
    free(b->word);
    free(b->children);
    free(b->levels);
    free(b->target);
    free(b->weight);
    free(b->root);
    free(b->key);
}

static void nodes_stand_by_height(void **state)
{
    (void)state;
    Trees trees = parse("(3 (2 a) (4 (1 b) (3 c)))\n(0 d)\n(1 (0 (2 e) (3 f)) (2 (4 g) (2 h)))\n");
    const int32_t id[] = {10, 11, 12, 13, 14, 15, 16, 17};
    const int64_t all[] = {0, 1, 2};
    const TreeBatchRoom room = tree_batch_room(&trees, all, 3, 3);
    assert_int_equal(room.leaves, 8);
    assert_int_equal(room.inner, 5);
    assert_int_equal(room.levels, 2);
    /* Two trees of any: the largest are those of 7 and 5 nodes. */
    const TreeBatchRoom two = tree_batch_room(&trees, all, 3, 2);
    assert_int_equal(two.leaves, 7);
    assert_int_equal(two.inner, 5);
    const TreeBatchRoom ample = {.trees = 4, .leaves = 9, .inner = 7, .levels = 4};
    TreeBatch b = new_batch(ample);
    const int64_t order[] = {2, 0, 1};
    assert_ok(tree_batch_fill(&trees, id, TREE_BINARY3, order, 3, ample, &b));
    assert_memory_equal(b.word, ((int32_t[]){14, 15, 16, 17, 10, 11, 12, 13, 0}), 9 * sizeof(int32_t));
    assert_memory_equal(b.levels, ((int32_t[]){8, 11, 13, 13, 13}), 5 * sizeof(int32_t));
    assert_memory_equal(b.children, ((int32_t[]){0, 1, 2, 3, 5, 6, 8, 9, 4, 10, 0, 0, 0, 0}),
                        14 * sizeof(int32_t));
    assert_memory_equal(b.root, ((int32_t[]){11, 12, 7, 0}), 4 * sizeof(int32_t));
    for (int i = 0; i < 16; ++i) { /* trees of 7, 5 and 1 nodes, in post-order */
        static const struct {
            int tree, node;
        } of[13] = {{0, 0}, {0, 1}, {0, 3}, {0, 4}, {1, 0}, {1, 1}, {1, 2},
                    {2, 0}, {0, 2}, {0, 5}, {1, 3}, {0, 6}, {1, 4}};
        assert_true(b.key[i] == (i < 13 ? dropout_key(40 + of[i].tree, of[i].node) : 0));
    }
    const int32_t target[] = {1, 2, 2, 1, 1, 0, 2, 0, 0, 1, 2, 0, 2, 0, 0, 0};
    assert_memory_equal(b.target, target, sizeof target);
    for (int i = 0; i < 16; ++i)
        assert_true(b.weight[i] == (i < 13 ? 1.0F : 0.0F));
    assert_ok(tree_batch_fill(&trees, id, TREE_BINARY2, order, 1, ample, &b));
    assert_memory_equal(b.levels, ((int32_t[]){4, 6, 7, 7, 7}), 5 * sizeof(int32_t));
    const float weight[16] = {0, 1, 1, 0, 1, 0, 1};
    assert_memory_equal(b.weight, weight, sizeof weight);
    free_batch(&b);
    trees_free(&trees);
}

static void trees_without_room_are_refused(void **state)
{
    (void)state;
    Trees trees = parse("(3 (2 a) (4 (1 b) (3 c)))\n(0 d)\n");
    const int32_t id[] = {1, 2, 3, 4};
    const int64_t order[] = {0, 1};
    const TreeBatchRoom exact = {.trees = 2, .leaves = 4, .inner = 2, .levels = 2};
    TreeBatch b = new_batch(exact);
    assert_ok(tree_batch_fill(&trees, id, TREE_FINE5, order, 2, exact, &b));
    TreeBatchRoom small[] = {exact, exact, exact, exact};
    --small[0].trees;
    --small[1].leaves;
    --small[2].inner;
    --small[3].levels;
    for (int i = 0; i < 4; ++i)
        assert_fails(tree_batch_fill(&trees, id, TREE_FINE5, order, 2, small[i], &b), STATUS_INPUT,
                     "a batch of 2 trees with 4 leaves, 2 inner nodes and 2 levels, but there is room for");
    free_batch(&b);
    trees_free(&trees);
}

/* Every batch of the treebank fits the room, and each tree comes out of it as it went in. */
static void compare_node(const Trees *trees, const TreeBatch *b, const int32_t id[], int64_t tree,
                         int64_t post, int32_t node)
{
    const int64_t n = trees->first_node[tree] + post;
    assert_int_equal(b->target[node], trees->label[n]);
    if (trees->leaf[n] >= 0) {
        assert_true(node < b->levels[0]);
        assert_int_equal(b->word[node], id[trees->first_leaf[tree] + trees->leaf[n]]);
        return;
    }
    assert_true(node >= b->levels[trees->height[n] - 1] && node < b->levels[trees->height[n]]);
    const int32_t *child = b->children + (ptrdiff_t)2 * (node - b->levels[0]);
    compare_node(trees, b, id, tree, trees->left[n], child[0]);
    compare_node(trees, b, id, tree, trees->right[n], child[1]);
}

static void the_treebank_fits(void **state)
{
    (void)state;
    enum { BATCH = 25 };
    Trees trees;
    assert_ok(trees_read(test_data_or_skip("sst/train.txt.gz"), (TreeOptions){0}, &trees));
    int64_t *all = malloc((size_t)trees.count * sizeof *all);
    int32_t *id = malloc((size_t)trees.leaves * sizeof *id);
    assert_true(all != NULL && id != NULL);
    for (int64_t i = 0; i < trees.count; ++i)
        all[i] = (i * 4211) % trees.count; /* in another order than the file's; 4211 is prime */
    for (int64_t i = 0; i < trees.leaves; ++i)
        id[i] = (int32_t)i;
    const TreeBatchRoom room = tree_batch_room(&trees, all, trees.count, BATCH);
    assert_int_equal(room.levels, 29);
    TreeBatch b = new_batch(room);
    for (int64_t first = 0; first < trees.count; first += BATCH) {
        const int64_t count = trees.count - first < BATCH ? trees.count - first : BATCH;
        assert_ok(tree_batch_fill(&trees, id, TREE_FINE5, all + first, count, room, &b));
        for (int64_t t = 0; t < count; ++t) {
            const int64_t tree = all[first + t];
            compare_node(&trees, &b, id, tree, trees.first_node[tree + 1] - trees.first_node[tree] - 1,
                         b.root[t]);
        }
    }
    free_batch(&b);
    free(all);
    free(id);
    trees_free(&trees);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_stand_by_height),
        cmocka_unit_test(trees_without_room_are_refused),
        cmocka_unit_test(the_treebank_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
