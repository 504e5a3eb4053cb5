/* Trees in brackets: what is let through is a tree, and is the same when it is written out and read again. */
#include "nlp/trees.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void require(bool holds)
{
    if (!holds) abort();
}

static void check_tree(const Trees *trees, int64_t tree)
{
    const int64_t first = trees->first_node[tree], nodes = trees->first_node[tree + 1] - first;
    const int64_t leaves = trees->first_leaf[tree + 1] - trees->first_leaf[tree];
    require(leaves >= 1 && nodes == 2 * leaves - 1);
    int64_t next_leaf = 0, children = 0;
    for (int64_t i = 0; i < nodes; ++i) {
        const int64_t n = first + i;
        require(trees->label[n] >= 0 && trees->label[n] < TREE_LABELS);
        if (trees->leaf[n] >= 0) {
            require(trees->leaf[n] == next_leaf++ && trees->left[n] == -1 && trees->right[n] == -1 &&
                    trees->height[n] == 0);
            require(trees_word(trees, trees->first_leaf[tree] + trees->leaf[n]).size > 0);
            continue;
        }
        const int32_t left = trees->left[n], right = trees->right[n];
        require(left >= 0 && left < right && right == i - 1);
        const int32_t low = trees->height[first + left], high = trees->height[first + right];
        require(trees->height[n] == (low > high ? low : high) + 1);
        children += 2;
    }
    require(next_leaf == leaves && children == nodes - 1);
}

/* The brackets of a node, from the last of its post-order; `out` has room. */
static char *write_node(const Trees *trees, int64_t tree, int64_t node, char *out)
{
    const int64_t n = trees->first_node[tree] + node;
    out += sprintf(out, "(%d ", trees->label[n]);
    if (trees->leaf[n] >= 0) {
        const TextSpan word = trees_word(trees, trees->first_leaf[tree] + trees->leaf[n]);
        memcpy(out, word.data, word.size);
        out += word.size;
    } else {
        out = write_node(trees, tree, trees->left[n], out);
        *out++ = ' ';
        out = write_node(trees, tree, trees->right[n], out);
    }
    *out++ = ')';
    return out;
}

static void check_again(const Trees *trees, TreeOptions options)
{
    for (int64_t tree = 0; tree < trees->count; ++tree)
        if (trees->height[trees->first_node[tree + 1] - 1] > 1000) return; /* write_node calls itself */
    char *text = malloc((size_t)trees->nodes * 5 + (size_t)trees->word_start[trees->leaves] +
                        (size_t)trees->count + 1);
    require(text != NULL);
    char *end = text;
    for (int64_t tree = 0; tree < trees->count; ++tree) {
        end = write_node(trees, tree, trees->first_node[tree + 1] - trees->first_node[tree] - 1, end);
        *end++ = '\n';
    }
    Trees again;
    Status status = trees_parse("again", text, (size_t)(end - text), options, &again);
    require(status == OK && again.nodes == trees->nodes && again.leaves == trees->leaves);
    require(memcmp(again.label, trees->label, (size_t)trees->nodes) == 0);
    require(memcmp(again.height, trees->height, (size_t)trees->nodes * sizeof *again.height) == 0);
    require(memcmp(again.text, trees->text, (size_t)trees->word_start[trees->leaves]) == 0);
    trees_free(&again);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    for (int form = 0; form <= TREE_WORDS_UNESCAPED; ++form) {
        const TreeOptions options = {.words = (TreeWords)form,
                                     .leaf_alone = form == TREE_WORDS_AS_WRITTEN,
                                     .any_label = form == TREE_WORDS_WITHOUT_BACKSLASH};
        Trees trees;
        Status status = trees_parse("input", (const char *)bytes, size, options, &trees);
        if (status != OK) {
            require(strncmp(status_message(status), "input", 5) == 0 && trees.text == NULL);
            status_free(status);
            continue;
        }
        for (int64_t tree = 0; tree < trees.count; ++tree)
            check_tree(&trees, tree);
        if (form == TREE_WORDS_AS_WRITTEN) check_again(&trees, options);
        trees_free(&trees);
    }
    return 0;
}
