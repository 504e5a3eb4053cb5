/* Networks: each a function that builds a graph, under the parameter names of the published code.
 *
 * A network's settings are read from the config once, into a ModelOptions; builders take that. */
#ifndef PLUMB_MODELS_MODEL_H
#define PLUMB_MODELS_MODEL_H

#include "engine/base/config.h"
#include "engine/graph/graph.h"
#include "models/transformer.h"

/* What a network reads, and so which tasks it fits: the inputs of `build`, in this order. */
typedef enum {
    MODEL_OF_IMAGES,     /* [N,H,W,C] of the compute type */
    MODEL_OF_DOCUMENTS,  /* INT32 [N,L]: ids of words, 0 for padding, in front */
    MODEL_OF_TREES,      /* the four below, as tree_lstm and dropout_by_key (engine/ops/ops.h) take them */
    MODEL_OF_TRANSLATION /* the four after them */
} ModelInput;
enum { TREE_WORDS_INPUT, TREE_CHILDREN_INPUT, TREE_LEVELS_INPUT, TREE_KEY_INPUT };
enum {
    TRANSLATION_SOURCE_INPUT,        /* INT32 [N,Ls]: ids of N sentences, padding behind them */
    TRANSLATION_SOURCE_LENGTH_INPUT, /* INT32 [N]: ids of each that are no padding; 0: no sentence */
    TRANSLATION_TARGET_INPUT,        /* INT32 [N,Lt]: the start token, then the target without its last id */
    TRANSLATION_TARGET_LENGTH_INPUT  /* INT32 [N] */
};

enum { MODEL_MAX_STAGES = 4 };

typedef struct Model Model;

/* The settings `model.*` of one network. Those that a network does not use are 0. */
typedef struct {
    const Model *model;
    int64_t width;                    /* channels of the first stage; DenseNet: growth rate */
    int64_t blocks[MODEL_MAX_STAGES]; /* of each stage */
    int64_t widen;                    /* wide_resnet */
    double dropout;
    bool synchronize;        /* batch statistics over all ranks */
    int64_t vocabulary;      /* ids of words; set by the task */
    bool has_vectors;        /* the table of word vectors is filled before training; set by the task */
    int64_t embedding_width; /* numbers of a word vector */
    bool freeze_embedding;
    int64_t model_width;         /* Transformers: d_model, which the schedule inverse_square_root uses */
    int64_t memory;              /* trees: numbers of a node's state */
    bool leaf_gate, output_gate; /* trees: of leaves, of inner nodes */
    Transformer transformer;     /* translation; but for its vocabulary, which is the number of classes */
    int64_t receptive_field;     /* documents: positions that one output of the last convolution sees */
} ModelOptions;

struct Model {
    const char *name; /* "resnet50" */
    const char *help;
    ModelInput input;
    const void *published; /* what `read` and `build` of a family share: the sizes of this network */
    /* Fills the options, which are zero but for `model`, from those settings that the network uses. An error names file
     * and line of the setting. NULL: the network has no settings. */
    Status (*read)(const Config *, ModelOptions *);
    /* -> logits FLOAT32 [N,classes], of translation [N * Lt,classes]. An input that the network cannot take is an error that says which it can. */
    Value (*build)(Graph *, const ModelOptions *, const Value input[], int64_t classes);
};

const Model *models_table(int *count);
/* The network that model.name names, with its settings. STATUS_INPUT names file and line, and for a name that the table
 * lacks the nearest known name. */
CHECKED Status model_read(const Config *, ModelOptions *);
Value model_build(Graph *, const ModelOptions *, const Value input[], int64_t classes);

#endif
