/* Sentences as binary trees with a label at every node: PTB brackets, one tree a line, as the Stanford Sentiment
 * Treebank has them:
 *
 *     (3 (2 It) (4 (4 (2 's) (4 (3 (2 a) (4 (3 lovely) (2 film))) (3 ...))) (2 .)))
 *
 * U+0020 and brackets alone separate: three leaves of SST hold a no-break space. */
#ifndef PLUMB_NLP_TREES_H
#define PLUMB_NLP_TREES_H

#include "engine/base/status.h"
#include "nlp/vocabulary.h"

#include <stdbool.h>
#include <stdint.h>

enum { TREE_LABELS = 5 }; /* 0 very negative, 1, 2 neutral, 3, 4 very positive */

/* Trees of one file in arrays. The nodes of a tree are in post-order: children before their parent, the left
 * subtree before the right one, the root last; so its leaves are in the order of the sentence. */
typedef struct {
    int64_t count, nodes, leaves;
    int64_t *first_node; /* [count+1] tree t has the nodes first_node[t] .. first_node[t+1]-1 */
    int64_t *first_leaf; /* [count+1] and so many leaves: (nodes + 1) / 2 of a tree */
    int8_t *label;       /* [nodes] 0..TREE_LABELS-1 */
    int32_t *left;       /* [nodes] left child, as a place in this tree's post-order; -1 at a leaf */
    int32_t *right;      /* [nodes] */
    int32_t *leaf;       /* [nodes] which word of the sentence, from 0; -1 at an inner node */
    int32_t *height;     /* [nodes] 0 at a leaf, else one more than the higher child's */
    char *text;          /* the words, one after the other, in UTF-8 */
    int64_t *word_start; /* [leaves+1] word i is text[word_start[i]] .. text[word_start[i+1]-1] */
    int64_t *line;       /* [count] in the file, from 1 */
} Trees;

/* What becomes of the escapes in words. */
typedef enum {
    TREE_WORDS_AS_WRITTEN,        /* -LRB-, 3\/4: the vocabulary of the published PyTorch code */
    TREE_WORDS_WITHOUT_BACKSLASH, /* -LRB-, 3/4: what the published Lua code looks up */
    TREE_WORDS_UNESCAPED          /* (, 3/4; -LRB- -RRB- -LSB- -RSB- -LCB- -RCB- are whole words only */
} TreeWords;

typedef struct {
    TreeWords words;
    bool
        leaf_alone; /* take a tree of one word, such as (3 Good); SST has none, so they are errors otherwise */
    bool any_label; /* labels mean nothing and may be any text, as in (NP (D a) (N film)); each becomes 0 */
    int64_t first_line; /* what the first line's number is, for messages; 0 means 1 */
} TreeOptions;

/* Reads `path` (also .gz). Lines end with LF or CR LF; the last end may be missing. STATUS_INPUT names file, line
 * and column (counted in characters, from 1) of what is not such a tree: unbalanced brackets, a label that is none
 * of 0 to 4, a node with one child or more than two, an empty tree or line, a word that is missing or holds a space,
 * anything after the tree, invalid UTF-8; and a file without a tree. */
CHECKED Status trees_read(const char *path, TreeOptions, Trees *);
/* The same from memory; `name` for messages. */
CHECKED Status trees_parse(const char *name, const char *text, size_t size, TreeOptions, Trees *);
void trees_free(Trees *);

TextSpan trees_word(const Trees *, int64_t leaf); /* 0 <= leaf < leaves; points into text */

/* ---- Vocabulary ---- */

enum { TREE_UNKNOWN = 0 }; /* the id of words that the vocabulary lacks; named "<unk>" */

/* The words of these corpora, as they are (no change of case): ids 1, 2, ... by falling count, ties by first
 * appearance. The published codes count train, dev and test; to leave the test part unseen give only train. */
CHECKED Status trees_vocabulary(const Trees *const corpora[], int count, Vocabulary **);
/* id[leaves] of every leaf; *unknown (may be NULL) is how many leaves got TREE_UNKNOWN. */
void trees_ids(const Trees *, const Vocabulary *, int32_t id[], int64_t *unknown);

/* ---- Tasks ---- */

typedef enum {
    TREE_BINARY3, /* as the published code trains "binary": negative, neutral, positive at every node; only trees
                     with a neutral root are left out. Class 1 is masked when roots are judged */
    TREE_BINARY2, /* negative and positive; neutral nodes weigh 0, trees with a neutral root are left out */
    TREE_FINE5,   /* the five labels, all trees */
    TREE_TASK_COUNT
} TreeTask;

const char *tree_task_name(TreeTask); /* "binary3" */
int tree_task_classes(TreeTask);
const char *const *tree_task_class_names(TreeTask); /* [classes] "negative", ... */
bool tree_task_keeps(TreeTask, int root_label);     /* does a tree with this root belong to the task? */
int32_t tree_task_class(TreeTask, int label);       /* class of a node; 0 where its weight is 0 */
float tree_task_weight(TreeTask, int label);        /* 1, or 0 */
int trees_root_label(const Trees *, int64_t tree);
/* The trees that the task keeps, in the order of the file; release *kept with free(). STATUS_INPUT if there is
 * none; `name` is the file's, for the message. */
CHECKED Status trees_of_task(const Trees *, TreeTask, const char *name, int64_t **kept, int64_t *count);

#endif
