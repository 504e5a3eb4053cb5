/* Trees of the Stanford Sentiment Treebank. */
#include "tests/golden.h"
#include "tests/scratch.h"

#include "nlp/trees.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const TreeOptions as_written = {.words = TREE_WORDS_AS_WRITTEN};

static Status parse(const char *text, TreeOptions options, Trees *trees)
{
    return trees_parse("some.txt", text, strlen(text), options, trees);
}

static void assert_leaf(const Trees *trees, int64_t leaf, const char *word)
{
    const TextSpan got = trees_word(trees, leaf);
    if (!text_span_equal(got, text_span(word))) {
        print_error("leaf %lld is \"%.*s\", expected \"%s\"\n", (long long)leaf, (int)got.size, got.data,
                    word);
        _fail(__FILE__, __LINE__);
    }
}

static void a_tree_is_its_nodes_in_post_order(void **state)
{
    (void)state;
    Trees trees;
    assert_ok(
        parse("(3 (2 It) (4 (1 's) (3 fine)))\r\n(0 (2  not ) (4   (2 so)(2 good))  )", as_written, &trees));
    static const int8_t label[] = {2, 1, 3, 4, 3, 2, 2, 2, 4, 0};
    static const int32_t left[] = {-1, -1, -1, 1, 0, -1, -1, -1, 1, 0};
    static const int32_t right[] = {-1, -1, -1, 2, 3, -1, -1, -1, 2, 3};
    static const int32_t leaf[] = {0, 1, 2, -1, -1, 0, 1, 2, -1, -1};
    static const int32_t height[] = {0, 0, 0, 1, 2, 0, 0, 0, 1, 2};
    assert_int_equal(trees.count, 2);
    assert_int_equal(trees.nodes, 10);
    assert_int_equal(trees.leaves, 6);
    assert_memory_equal(trees.label, label, sizeof label);
    assert_memory_equal(trees.left, left, sizeof left);
    assert_memory_equal(trees.right, right, sizeof right);
    assert_memory_equal(trees.leaf, leaf, sizeof leaf);
    assert_memory_equal(trees.height, height, sizeof height);
    for (int t = 0; t <= 2; ++t) {
        assert_int_equal(trees.first_node[t], 5 * t);
        assert_int_equal(trees.first_leaf[t], 3 * t);
    }
    assert_int_equal(trees.line[0], 1);
    assert_int_equal(trees.line[1], 2);
    static const char *const words[] = {"It", "'s", "fine", "not", "so", "good"};
    for (int i = 0; i < 6; ++i)
        assert_leaf(&trees, i, words[i]);
    assert_int_equal(trees_root_label(&trees, 0), 3);
    assert_int_equal(trees_root_label(&trees, 1), 0);
    trees_free(&trees);
}

static void escapes_stay_or_go(void **state)
{
    (void)state;
    const char *text = "\xEF\xBB\xBF(2 (2 -LRB-) (2 (2 8\xC2\xA0"
                       "1\\/2) (2 (2 a\\*b\\c) (2 x-RRB-))))\n";
    static const struct {
        TreeWords form;
        const char *words[4];
    } cases[] = {
        {TREE_WORDS_AS_WRITTEN,
         {"-LRB-",
          "8\xC2\xA0"
          "1\\/2",
          "a\\*b\\c", "x-RRB-"}},
        {TREE_WORDS_WITHOUT_BACKSLASH,
         {"-LRB-",
          "8\xC2\xA0"
          "1/2",
          "a*bc", "x-RRB-"}},
        {TREE_WORDS_UNESCAPED,
         {"(",
          "8\xC2\xA0"
          "1/2",
          "a*b\\c", "x-RRB-"}},
    };
    for (int i = 0; i < 3; ++i) {
        Trees trees;
        assert_ok(parse(text, (TreeOptions){.words = cases[i].form}, &trees));
        assert_int_equal(trees.leaves, 4);
        for (int w = 0; w < 4; ++w)
            assert_leaf(&trees, w, cases[i].words[w]);
        trees_free(&trees);
    }
}

static void bad_trees_are_errors_with_a_place(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "some.txt: there is no tree in this file"},
        {"\n", "some.txt:1:1: an empty line"},
        {"(2 (2 a) (2 b))\n\n(2 (2 a) (2 b))\n", "some.txt:2:1: an empty line"},
        {"(2 (2 a) (2 b))\n   \n", "some.txt:2:1: an empty line"},
        {"()", "some.txt:1:1: an empty node"},
        {"(2 (2 a) ())", "some.txt:1:10: an empty node"},
        {"(2)", "some.txt:1:1: a node without a word or children"},
        {"(2 (2 a) (2 ))", "some.txt:1:10: a node without a word or children"},
        {"(2 (2 a) (2 b)", "some.txt:1:1: this bracket is not closed"},
        {"(2 (2 a) (2 b", "some.txt:1:10: this bracket is not closed"},
        {"(2 (2 a) (2 ", "some.txt:1:10: this bracket is not closed"},
        {"(2 (2 a) (2", "some.txt:1:10: this bracket is not closed"},
        {"(", "some.txt:1:2: no label after \"(\""},
        {"(2 (2 a)\n(2 b))", "some.txt:1:1: this bracket is not closed"},
        {"(2 (2 a) (2 b)))", "some.txt:1:16: a bracket is closed that was not opened"},
        {"(2 (2 a) (2 b)) (2 c)", "some.txt:1:17: text after the tree"},
        {"(2 (2 a) (2 b)) x", "some.txt:1:17: text after the tree"},
        {"(2 (2 a) (2 b))\t", "some.txt:1:16: text after the tree"},
        {"(5 (2 a) (2 b))", "some.txt:1:2: the label \"5\" is none of 0 to 4"},
        {"(2 (2 a) (-1 b))", "some.txt:1:11: the label \"-1\" is none of 0 to 4"},
        {"(2 (2 a) (22 b))", "the label \"22\""},
        {"(2 (2 a) (x b))", "the label \"x\""},
        {"(2 ((2 a) (2 b)) (2 c))", "some.txt:1:5: no label after \"(\""},
        {"(2 ( a) (2 b))", "some.txt:1:5: no label after \"(\""},
        {"(2 (2 (2 a)) (2 b))", "some.txt:1:4: a node with one child"},
        {"(2 (2 a))", "some.txt:1:1: a node with one child"},
        {"(2 (2 a) (2 b) (2 c))", "some.txt:1:1: a node with more than two children"},
        {"(2 (2 a b) (2 c))", "some.txt:1:9: a second word in one leaf"},
        {"(2 (2 a (2 b)) (2 c))", "some.txt:1:9: a node that has a word can have no children"},
        {"(2 (2 a) b (2 c))", "some.txt:1:10: a word in a node that has children"},
        {"(2 (2 a) (2 b) c)", "some.txt:1:16: a word in a node that has children"},
        {"2 good", "some.txt:1:1: a tree begins with \"(\""},
        {"good", "some.txt:1:1: a tree begins with \"(\""},
        {"(3 good)", "some.txt:1:1: a leaf alone"},
        {"(2 (2 a) (2 \xC3))", "some.txt:1:13: the byte 0xC3 is not valid UTF-8"},
        {"(2 (2 \xC3\xA9\xC3\xA9) (2 \xFF))", "some.txt:1:14: the byte 0xFF is not valid UTF-8"},
        {"(2 (2 \xC3\xA9\xC3\xA9) (7 b))", "some.txt:1:12: the label \"7\""},
        {"(2 (2 a) (2 b))\n(2 (2 c) (6 d))\n", "some.txt:2:11: the label \"6\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        Trees trees;
        assert_fails(parse(cases[i].text, as_written, &trees), STATUS_INPUT, cases[i].message);
        assert_null(trees.text);
        assert_int_equal(trees.count, 0);
    }
    Trees trees;
    assert_fails(parse("(2 (2 a) (2 \\))", (TreeOptions){.words = TREE_WORDS_WITHOUT_BACKSLASH}, &trees),
                 STATUS_INPUT, "some.txt:1:13: nothing is left");
    assert_fails(trees_read(in_scratch("absent.txt"), as_written, &trees), STATUS_IO, "absent.txt");
}

static void a_leaf_alone_is_taken_if_told_so(void **state)
{
    (void)state;
    Trees trees;
    assert_ok(parse("(3 good)\n(2 (2 a) (2 b))\n", (TreeOptions){.leaf_alone = true}, &trees));
    assert_int_equal(trees.count, 2);
    assert_int_equal(trees.nodes, 4);
    assert_int_equal(trees.height[0], 0);
    assert_int_equal(trees.leaf[0], 0);
    assert_int_equal(trees_root_label(&trees, 0), 3);
    trees_free(&trees);
}

static void labels_may_be_any_if_told_so(void **state)
{
    (void)state;
    Trees trees;
    const TreeOptions options = {.any_label = true, .first_line = 7};
    assert_ok(parse("(NP (-NONE- the) (7 film))\n", options, &trees));
    assert_int_equal(trees.nodes, 3);
    assert_leaf(&trees, 1, "film");
    assert_int_equal(trees.line[0], 7);
    for (int n = 0; n < 3; ++n)
        assert_int_equal(trees.label[n], 0);
    trees_free(&trees);
    assert_fails(parse("(NP (D the) (N film))\n(( a) (N b))\n", options, &trees), STATUS_INPUT,
                 "some.txt:8:2: no label");
    assert_fails(parse("(NP (N film))\n", options, &trees), STATUS_INPUT,
                 "some.txt:7:1: a node with one child");
}

/* No stack of ours or of the machine limits the nesting. */
static void deep_trees_are_read(void **state)
{
    (void)state;
    enum { DEPTH = 100000 };
    static const char open[] = "(2 (2 a) ", last[] = "(2 b)";
    const size_t size = DEPTH * (sizeof open - 1) + sizeof last - 1 + DEPTH;
    char *text = malloc(size);
    assert_non_null(text);
    char *at = text;
    for (int i = 0; i < DEPTH; ++i, at += sizeof open - 1)
        memcpy(at, open, sizeof open - 1);
    memcpy(at, last, sizeof last - 1);
    memset(at + sizeof last - 1, ')', DEPTH);
    Trees trees;
    assert_ok(trees_parse("deep.txt", text, size, as_written, &trees));
    assert_int_equal(trees.leaves, DEPTH + 1);
    assert_int_equal(trees.height[trees.nodes - 1], DEPTH);
    trees_free(&trees);
    free(text);
}

static void words_of_several_corpora_get_ids(void **state)
{
    (void)state;
    Trees train, test;
    assert_ok(parse("(2 (2 The) (2 (2 the) (2 cat)))\n", as_written, &train));
    assert_ok(parse("(2 (2 cat) (2 dog))\n", as_written, &test));
    const Trees *const both[] = {&train, &test};
    Vocabulary *vocabulary;
    assert_ok(trees_vocabulary(both, 2, &vocabulary));
    assert_int_equal(vocabulary_size(vocabulary), 5);
    int32_t ids[3];
    int64_t unknown;
    trees_ids(&train, vocabulary, ids, &unknown);
    assert_memory_equal(ids, ((const int32_t[]){2, 3, 1}), sizeof ids); /* cat is met twice; The is not the */
    assert_int_equal(unknown, 0);
    vocabulary_free(vocabulary);
    assert_ok(trees_vocabulary(both, 1, &vocabulary));
    trees_ids(&test, vocabulary, ids, &unknown);
    assert_int_equal(ids[0], 3);
    assert_int_equal(ids[1], TREE_UNKNOWN);
    assert_int_equal(unknown, 1);
    vocabulary_free(vocabulary);
    trees_free(&train);
    trees_free(&test);
}

static void tasks_map_labels_to_classes(void **state)
{
    (void)state;
    static const struct {
        TreeTask task;
        const char *name;
        int classes;
        int32_t class_of[5];
        float weight[5];
        bool keeps[5];
    } cases[] = {
        {TREE_BINARY3, "binary3", 3, {0, 0, 1, 2, 2}, {1, 1, 1, 1, 1}, {true, true, false, true, true}},
        {TREE_BINARY2, "binary2", 2, {0, 0, 0, 1, 1}, {1, 1, 0, 1, 1}, {true, true, false, true, true}},
        {TREE_FINE5, "fine5", 5, {0, 1, 2, 3, 4}, {1, 1, 1, 1, 1}, {true, true, true, true, true}},
    };
    assert_int_equal(sizeof cases / sizeof *cases, TREE_TASK_COUNT);
    for (int i = 0; i < TREE_TASK_COUNT; ++i) {
        const TreeTask task = cases[i].task;
        assert_string_equal(tree_task_name(task), cases[i].name);
        assert_int_equal(tree_task_classes(task), cases[i].classes);
        for (int label = 0; label < TREE_LABELS; ++label) {
            assert_int_equal(tree_task_class(task, label), cases[i].class_of[label]);
            assert_true(tree_task_weight(task, label) == cases[i].weight[label]);
            assert_int_equal(tree_task_keeps(task, label), cases[i].keeps[label]);
        }
    }
    Trees trees;
    assert_ok(
        parse("(2 (2 a) (2 b))\n(3 (2 a) (2 b))\n(2 (2 a) (2 b))\n(0 (2 a) (2 b))\n", as_written, &trees));
    int64_t *kept, count;
    assert_ok(trees_of_task(&trees, TREE_BINARY3, "some.txt", &kept, &count));
    assert_int_equal(count, 2);
    assert_int_equal(kept[0], 1);
    assert_int_equal(kept[1], 3);
    free(kept);
    assert_ok(trees_of_task(&trees, TREE_FINE5, "some.txt", &kept, &count));
    assert_int_equal(count, 4);
    free(kept);
    trees_free(&trees);
    assert_ok(parse("(2 (1 a) (3 b))\n", as_written, &trees));
    assert_fails(trees_of_task(&trees, TREE_BINARY2, "some.txt", &kept, &count), STATUS_INPUT,
                 "some.txt: none of its 1 trees is left for the task binary2");
    assert_null(kept);
    trees_free(&trees);
}

/* ---- Golden trees ---- */

static int int_of(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    assert_true(cJSON_IsNumber(item));
    return item->valueint;
}

static void assert_numbers(const cJSON *tree, const char *key, int64_t count, const int32_t *wide,
                           const int8_t *narrow)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(tree, key);
    assert_int_equal(cJSON_GetArraySize(list), count);
    int64_t i = 0;
    for (const cJSON *item = list->child; item != NULL; item = item->next, ++i)
        assert_int_equal(wide != NULL ? wide[i] : narrow[i], item->valueint);
}

static void assert_golden_words(const cJSON *tree, const char *key, TreeWords form)
{
    Trees trees;
    assert_ok(parse(cJSON_GetObjectItemCaseSensitive(tree, "tree")->valuestring, (TreeOptions){.words = form},
                    &trees));
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(tree, key);
    assert_int_equal(cJSON_GetArraySize(list), trees.leaves);
    int64_t leaf = 0;
    for (const cJSON *word = list->child; word != NULL; word = word->next)
        assert_leaf(&trees, leaf++, word->valuestring);
    trees_free(&trees);
}

static void assert_golden_tree(const cJSON *tree)
{
    Trees trees;
    assert_ok(parse(cJSON_GetObjectItemCaseSensitive(tree, "tree")->valuestring, as_written, &trees));
    assert_int_equal(trees.nodes, int_of(tree, "nodes"));
    assert_numbers(tree, "labels_post_order", trees.nodes, NULL, trees.label);
    assert_numbers(tree, "left", trees.nodes, trees.left, NULL);
    assert_numbers(tree, "right", trees.nodes, trees.right, NULL);
    assert_numbers(tree, "heights", trees.nodes, trees.height, NULL);
    assert_int_equal(trees_root_label(&trees, 0), int_of(tree, "root_label"));
    assert_int_equal(trees.height[trees.nodes - 1], int_of(tree, "height"));
    const cJSON *binary = cJSON_GetObjectItemCaseSensitive(tree, "binary");
    assert_int_equal(tree_task_keeps(TREE_BINARY2, trees_root_label(&trees, 0)), !cJSON_IsNull(binary));
    if (!cJSON_IsNull(binary))
        assert_int_equal(tree_task_class(TREE_BINARY2, trees_root_label(&trees, 0)), binary->valueint);
    trees_free(&trees);
    assert_golden_words(tree, "tokens", TREE_WORDS_AS_WRITTEN);
    assert_golden_words(tree, "unescaped", TREE_WORDS_UNESCAPED);
}

static void golden_trees(void **state)
{
    (void)state;
    int cases = 0;
    for (const GoldenCase *golden = NULL; (golden = golden_next("sst_text", NULL, golden)) != NULL; ++cases) {
        cJSON *list = golden_document(golden, "expected_files/trees");
        assert_true(cJSON_GetArraySize(list) > 0);
        for (const cJSON *tree = list->child; tree != NULL; tree = tree->next)
            assert_golden_tree(tree);
        cJSON_Delete(list);
    }
    if (cases == 0) skip();
}

/* ---- The treebank ---- */

static int64_t tokens_with(const Trees *trees, const char *part)
{
    int64_t found = 0;
    for (int64_t i = 0; i < trees->leaves; ++i) {
        const TextSpan word = trees_word(trees, i);
        found += memmem(word.data, word.size, part, strlen(part)) != NULL;
    }
    return found;
}

/* Compares what is in the file with the case's "expected/SPLIT". */
static void assert_expected(const GoldenCase *golden, const char *split, const Trees *trees)
{
    char path[128];
#define EXPECT(value, key)                                                                                   \
    ((void)snprintf(path, sizeof path, "expected/%s/" key, split),                                           \
     assert_int_equal((value), (int64_t)golden_number(golden, path)))
    EXPECT(trees->count, "trees");
    EXPECT(trees->nodes, "nodes");
    EXPECT(trees->leaves, "leaves");
    int64_t most = 0, fewest = trees->leaves, highest = 0, nodes[5] = {0}, roots[5] = {0};
    int64_t binary_nodes = 0, not_neutral = 0, negative = 0;
    for (int64_t t = 0; t < trees->count; ++t) {
        const int64_t leaves = trees->first_leaf[t + 1] - trees->first_leaf[t],
                      end = trees->first_node[t + 1];
        if (leaves > most) most = leaves;
        if (leaves < fewest) fewest = leaves;
        if (trees->height[end - 1] > highest) highest = trees->height[end - 1];
        const int root = trees_root_label(trees, t);
        ++roots[root];
        const bool binary = tree_task_keeps(TREE_BINARY3, root);
        negative += binary && tree_task_class(TREE_BINARY3, root) == 0;
        for (int64_t n = trees->first_node[t]; n < end; ++n) {
            ++nodes[trees->label[n]];
            binary_nodes += binary;
            not_neutral += binary && tree_task_weight(TREE_BINARY2, trees->label[n]) > 0;
        }
    }
    EXPECT(most, "most_leaves");
    EXPECT(fewest, "fewest_leaves");
    EXPECT(highest, "greatest_height");
    for (int label = 0; label < TREE_LABELS; ++label) {
        (void)snprintf(path, sizeof path, "expected/%s/node_labels", split);
        assert_int_equal(nodes[label], (int64_t)golden_number_at(golden, path, label));
        (void)snprintf(path, sizeof path, "expected/%s/root_labels", split);
        assert_int_equal(roots[label], (int64_t)golden_number_at(golden, path, label));
    }
    int64_t *kept, count;
    assert_ok(trees_of_task(trees, TREE_BINARY3, split, &kept, &count));
    free(kept);
    EXPECT(count, "binary_trees");
    EXPECT(negative, "binary_negative");
    EXPECT(count - negative, "binary_positive");
    EXPECT(binary_nodes, "nodes_of_binary_trees");
    EXPECT(not_neutral, "non_neutral_nodes_of_binary_trees");
    EXPECT(tokens_with(trees, "-LRB-"), "tokens_with/-LRB-");
    EXPECT(tokens_with(trees, "-RRB-"), "tokens_with/-RRB-");
    EXPECT(tokens_with(trees, "\xC2\xA0"), "tokens_with/no-break space");
    Vocabulary *vocabulary;
    assert_ok(trees_vocabulary(&trees, 1, &vocabulary));
    EXPECT(vocabulary_size(vocabulary) - 1, "distinct_tokens");
    vocabulary_free(vocabulary);
}

static void the_treebank_is_as_published(void **state)
{
    (void)state;
    static const char *const splits[] = {"train", "dev", "test"};
    const GoldenCase *golden = golden_need("text", "sst/trees");
    Trees trees[3];
    for (int s = 0; s < 3; ++s) {
        char name[64];
        (void)snprintf(name, sizeof name, "sst/%s.txt.gz", splits[s]);
        assert_ok(trees_read(test_data_or_skip(name), as_written, &trees[s]));
        assert_expected(golden, splits[s], &trees[s]);
    }
    const Trees *const all[] = {&trees[0], &trees[1], &trees[2]};
    Vocabulary *vocabulary;
    assert_ok(trees_vocabulary(all, 3, &vocabulary));
    assert_int_equal(vocabulary_size(vocabulary) - 1,
                     (int64_t)golden_number(golden, "expected/all/distinct_tokens"));
    vocabulary_free(vocabulary);
    assert_ok(trees_vocabulary(all, 1, &vocabulary));
    static const char *const unseen[] = {"expected/all/dev_tokens_unseen_in_train",
                                         "expected/all/test_tokens_unseen_in_train"};
    for (int s = 1; s < 3; ++s) {
        int32_t *ids = calloc((size_t)trees[s].leaves, sizeof *ids);
        assert_non_null(ids);
        int64_t unknown;
        trees_ids(&trees[s], vocabulary, ids, &unknown);
        print_message("%s: %lld leaves unknown\n", splits[s], (long long)unknown);
        assert_true(unknown >= (int64_t)golden_number(golden, unseen[s - 1]));
        free(ids);
    }
    vocabulary_free(vocabulary);
    for (int s = 0; s < 3; ++s)
        trees_free(&trees[s]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tree_is_its_nodes_in_post_order),
        cmocka_unit_test(escapes_stay_or_go),
        SCRATCH(bad_trees_are_errors_with_a_place),
        cmocka_unit_test(a_leaf_alone_is_taken_if_told_so),
        cmocka_unit_test(labels_may_be_any_if_told_so),
        cmocka_unit_test(deep_trees_are_read),
        cmocka_unit_test(words_of_several_corpora_get_ids),
        cmocka_unit_test(tasks_map_labels_to_classes),
        cmocka_unit_test(golden_trees),
        cmocka_unit_test(the_treebank_is_as_published),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
