#include "nlp/trees.h"

#include "engine/base/file.h"
#include "engine/base/memory.h"
#include "nlp/utf8.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BYTES = INT32_MAX }; /* of a file: places within a tree are 32 bits wide */

void trees_free(Trees *trees)
{
    free(trees->first_node);
    free(trees->first_leaf);
    free(trees->label);
    free(trees->left);
    free(trees->right);
    free(trees->leaf);
    free(trees->height);
    free(trees->text);
    free(trees->word_start);
    free(trees->line);
    *trees = (Trees){.text = NULL};
}

TextSpan trees_word(const Trees *trees, int64_t leaf)
{
    return (TextSpan){.data = trees->text + trees->word_start[leaf],
                      .size = (size_t)(trees->word_start[leaf + 1] - trees->word_start[leaf])};
}

int trees_root_label(const Trees *trees, int64_t tree)
{
    return trees->label[trees->first_node[tree + 1] - 1];
}

/* ---- Words ---- */

/* A bracket by its PTB name, or 0. */
static char bracket(TextSpan word)
{
    static const char *const names[] = {"-LRB-", "-RRB-", "-LSB-", "-RSB-", "-LCB-", "-RCB-"};
    for (int i = 0; i < 6; ++i)
        if (text_span_equal(word, text_span(names[i]))) return "()[]{}"[i];
    return 0;
}

/* The word as the option wants it, into out (never longer); returns its bytes. */
static size_t copy_word(TextSpan word, TreeWords form, char *out)
{
    if (form == TREE_WORDS_AS_WRITTEN) {
        memcpy(out, word.data, word.size);
        return word.size;
    }
    if (form == TREE_WORDS_UNESCAPED && (*out = bracket(word)) != 0) return 1;
    size_t size = 0;
    for (size_t i = 0; i < word.size; ++i) {
        const char next = i + 1 < word.size ? word.data[i + 1] : '\0';
        const bool drop = form == TREE_WORDS_WITHOUT_BACKSLASH || next == '/' || next == '*';
        if (word.data[i] != '\\' || !drop) out[size++] = word.data[i];
    }
    return size;
}

/* ---- Parsing ---- */

/* A node whose bracket is open. */
typedef struct {
    const char *at; /* its bracket */
    int32_t child[2];
    int children;
    int8_t label;
} Open;

typedef struct {
    const char *name; /* of the file */
    TreeOptions options;
    const char *line, *at, *end; /* of the line in work, without its end */
    int64_t number;              /* of that line */
    Trees *trees;
    size_t node_room[5], word_room, line_room[3]; /* capacities of arrays in Trees */
    Open *open;
    size_t depth, open_room;
} Parser;

/* The error of this place in the line. */
#define FAIL_AT(parser, place, format, ...)                                                                  \
    fail(STATUS_INPUT, "%s:%lld:%zu: " format, (parser)->name, (long long)(parser)->number,                  \
         utf8_characters((parser)->line, (size_t)((place) - (parser)->line)) + 1, ##__VA_ARGS__)

static void skip_spaces(Parser *parser)
{
    while (parser->at < parser->end && *parser->at == ' ')
        ++parser->at;
}

/* A new node at the end of the tree's post-order. */
static Status add_node(Parser *parser, int8_t label, int32_t left, int32_t right, int32_t leaf,
                       int32_t height)
{
    Trees *trees = parser->trees;
    const size_t needed = (size_t)trees->nodes + 1;
    TRY(memory_grow(&trees->label, &parser->node_room[0], needed, sizeof *trees->label, "nodes of trees"));
    TRY(memory_grow(&trees->left, &parser->node_room[1], needed, sizeof *trees->left, "nodes of trees"));
    TRY(memory_grow(&trees->right, &parser->node_room[2], needed, sizeof *trees->right, "nodes of trees"));
    TRY(memory_grow(&trees->leaf, &parser->node_room[3], needed, sizeof *trees->leaf, "nodes of trees"));
    TRY(memory_grow(&trees->height, &parser->node_room[4], needed, sizeof *trees->height, "nodes of trees"));
    trees->label[trees->nodes] = label;
    trees->left[trees->nodes] = left;
    trees->right[trees->nodes] = right;
    trees->leaf[trees->nodes] = leaf;
    trees->height[trees->nodes] = height;
    ++trees->nodes;
    return OK;
}

/* "(label " at the parser's place. */
static Status open_node(Parser *parser)
{
    const char *at = parser->at;
    TRY(memory_grow(&parser->open, &parser->open_room, parser->depth + 1, sizeof *parser->open,
                    "nested nodes"));
    const char *label = at + 1;
    const char *stop = label;
    while (stop < parser->end && strchr(" ()", *stop) == NULL)
        ++stop;
    if (stop == label) {
        if (stop < parser->end && *stop == ')') return FAIL_AT(parser, at, "an empty node");
        return FAIL_AT(parser, label, "no label after \"(\"; one of 0 to %d is expected", TREE_LABELS - 1);
    }
    if (parser->options.any_label) {
        parser->open[parser->depth++] = (Open){.at = at};
        parser->at = stop;
        return OK;
    }
    if (stop - label != 1 || *label < '0' || *label >= '0' + TREE_LABELS)
        return FAIL_AT(parser, label, "the label \"%.*s\" is none of 0 to %d",
                       (int)(stop - label < 40 ? stop - label : 40), label, TREE_LABELS - 1);
    parser->open[parser->depth++] = (Open){.at = at, .label = (int8_t)(*label - '0')};
    parser->at = stop;
    return OK;
}

/* The word of the innermost node, and its ")". */
static Status add_leaf(Parser *parser, int64_t first_leaf)
{
    Trees *trees = parser->trees;
    const char *word = parser->at;
    while (parser->at < parser->end && strchr(" ()", *parser->at) == NULL)
        ++parser->at;
    const TextSpan span = {.data = word, .size = (size_t)(parser->at - word)};
    skip_spaces(parser);
    if (parser->at < parser->end && *parser->at == '(')
        return FAIL_AT(parser, parser->at, "a node that has a word can have no children");
    if (parser->at < parser->end && *parser->at != ')')
        return FAIL_AT(parser, parser->at, "a second word in one leaf");
    TRY(memory_grow(&trees->word_start, &parser->word_room, (size_t)trees->leaves + 2,
                    sizeof *trees->word_start, "words of trees"));
    const int64_t start = trees->word_start[trees->leaves]; /* trees->text has room for the whole file */
    const size_t size = copy_word(span, parser->options.words, trees->text + start);
    if (size == 0) return FAIL_AT(parser, word, "nothing is left of a word without its backslashes");
    trees->word_start[trees->leaves + 1] = start + (int64_t)size;
    TRY(add_node(parser, parser->open[parser->depth - 1].label, -1, -1, (int32_t)(trees->leaves - first_leaf),
                 0));
    ++trees->leaves;
    return OK;
}

/* ")" of the innermost node: what it holds becomes a node and a child of the next. */
static Status close_node(Parser *parser, int64_t first_node)
{
    Trees *trees = parser->trees;
    const Open node = parser->open[--parser->depth];
    if (node.children > 0) {
        if (node.children == 1)
            return FAIL_AT(parser, node.at, "a node with one child; trees must be strictly binary");
        const int32_t left = trees->height[first_node + node.child[0]];
        const int32_t right = trees->height[first_node + node.child[1]];
        TRY(add_node(parser, node.label, node.child[0], node.child[1], -1,
                     (left > right ? left : right) + 1));
    }
    ++parser->at;
    if (parser->depth == 0) return OK;
    Open *parent = &parser->open[parser->depth - 1];
    if (parent->children == 2)
        return FAIL_AT(parser, parent->at,
                       "a node with more than two children; trees must be strictly binary");
    parent->child[parent->children++] = (int32_t)(trees->nodes - 1 - first_node);
    return OK;
}

/* What stands inside the innermost node at the parser's place. */
static Status parse_inside(Parser *parser, int64_t first_node, int64_t first_leaf)
{
    skip_spaces(parser);
    const Open *node = &parser->open[parser->depth - 1];
    if (parser->at == parser->end) return FAIL_AT(parser, node->at, "this bracket is not closed in its line");
    if (*parser->at == '(') return open_node(parser);
    if (*parser->at == ')') {
        if (node->children == 0) return FAIL_AT(parser, node->at, "a node without a word or children");
        return close_node(parser, first_node);
    }
    if (node->children > 0) return FAIL_AT(parser, parser->at, "a word in a node that has children");
    TRY(add_leaf(parser, first_leaf));
    node = &parser->open[parser->depth - 1];
    if (parser->at == parser->end) return FAIL_AT(parser, node->at, "this bracket is not closed in its line");
    return close_node(parser, first_node);
}

static Status parse_line(Parser *parser)
{
    Trees *trees = parser->trees;
    const size_t size = (size_t)(parser->end - parser->line);
    const size_t invalid = utf8_invalid(parser->line, size);
    if (invalid < size)
        return FAIL_AT(parser, parser->line + invalid, "the byte 0x%02X is not valid UTF-8",
                       (unsigned char)parser->line[invalid]);
    skip_spaces(parser);
    if (parser->at == parser->end) return FAIL_AT(parser, parser->line, "an empty line; each holds one tree");
    if (*parser->at != '(') return FAIL_AT(parser, parser->at, "a tree begins with \"(\"");
    const int64_t first_node = trees->nodes, first_leaf = trees->leaves;
    parser->depth = 0;
    TRY(open_node(parser));
    while (parser->depth > 0)
        TRY(parse_inside(parser, first_node, first_leaf));
    skip_spaces(parser);
    if (parser->at < parser->end)
        return FAIL_AT(parser, parser->at, "%s",
                       *parser->at == ')' ? "a bracket is closed that was not opened"
                                          : "text after the tree");
    if (trees->nodes - first_node == 1 && !parser->options.leaf_alone)
        return FAIL_AT(parser, parser->line, "a leaf alone: a tree of one word has nothing to compose");
    const size_t needed = (size_t)trees->count + 2;
    TRY(memory_grow(&trees->first_node, &parser->line_room[0], needed, sizeof *trees->first_node, "trees"));
    TRY(memory_grow(&trees->first_leaf, &parser->line_room[1], needed, sizeof *trees->first_leaf, "trees"));
    TRY(memory_grow(&trees->line, &parser->line_room[2], needed, sizeof *trees->line, "trees"));
    trees->line[trees->count++] = parser->number;
    trees->first_node[trees->count] = trees->nodes;
    trees->first_leaf[trees->count] = trees->leaves;
    return OK;
}

static Status parse(Parser *parser, const char *text, size_t size)
{
    const char *const end = text + size;
    if (size >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) text += 3; /* a byte order mark */
    TRY(memory_new(&parser->trees->text, size, 1, "words of trees"));
    TRY(memory_grow(&parser->trees->word_start, &parser->word_room, 1, sizeof(int64_t), "words of trees"));
    while (text < end) {
        const char *stop = memchr(text, '\n', (size_t)(end - text));
        if (stop == NULL) stop = end;
        parser->line = parser->at = text;
        parser->end = stop > text && stop[-1] == '\r' ? stop - 1 : stop;
        ++parser->number;
        TRY(parse_line(parser));
        text = stop + 1;
    }
    if (parser->trees->count == 0)
        return fail(STATUS_INPUT, "%s: there is no tree in this file", parser->name);
    return OK;
}

Status trees_parse(const char *name, const char *text, size_t size, TreeOptions options, Trees *trees)
{
    *trees = (Trees){.text = NULL};
    if (size > MOST_BYTES)
        return fail(STATUS_UNSUPPORTED, "%s: %zu bytes; %d are the most", name, size, MOST_BYTES);
    Parser parser = {.name = name,
                     .options = options,
                     .trees = trees,
                     .number = options.first_line > 0 ? options.first_line - 1 : 0};
    Status status = parse(&parser, text, size);
    free(parser.open);
    if (status != OK) trees_free(trees);
    return status;
}

Status trees_read(const char *path, TreeOptions options, Trees *trees)
{
    *trees = (Trees){.text = NULL};
    char *text;
    size_t size;
    TRY(file_read(path, MOST_BYTES, &text, &size));
    Status status = trees_parse(path, text, size, options, trees);
    free(text);
    return status;
}

/* ---- Vocabulary ---- */

Status trees_vocabulary(const Trees *const corpora[], int count, Vocabulary **vocabulary)
{
    static const char *const special[] = {[TREE_UNKNOWN] = "<unk>"};
    *vocabulary = NULL;
    WordCounts *counts;
    TRY(word_counts_new(&counts));
    Status status = OK;
    for (int c = 0; c < count; ++c)
        for (int64_t i = 0; i < corpora[c]->leaves; ++i)
            TRY_ELSE(done, word_counts_add(counts, trees_word(corpora[c], i)));
    const VocabularyOptions options = {.special = special, .specials = 1};
    TRY_ELSE(done, vocabulary_create(counts, &options, vocabulary));
done:
    word_counts_free(counts);
    return status;
}

void trees_ids(const Trees *trees, const Vocabulary *vocabulary, int32_t id[], int64_t *unknown)
{
    int64_t missed = 0;
    for (int64_t i = 0; i < trees->leaves; ++i) {
        const int32_t found = vocabulary_find(vocabulary, trees_word(trees, i));
        missed += found < 0;
        id[i] = found < 0 ? TREE_UNKNOWN : found;
    }
    if (unknown != NULL) *unknown = missed;
}
