/* Translation: sentence pairs as ids of subwords, for a Transformer. */
#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "launch/tasks/translation_data.h"
#include "nlp/translation_source.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* The padded lengths of training are many, so that little is padded; an evaluation takes seconds. */
enum { EVALUATE_SHAPES = 16 };
#define TRAIN_PADDING 0.03
#define EVALUATE_PADDING 0.08
/* Logits of a part in evaluation. */
#define EVALUATE_LOGITS (1 << 25)

typedef struct {
    TaskData data; /* first */
    TranslationData corpora;
    TokenShare share;
    int64_t tokens; /* of a batch */
    int shapes;     /* the most of training */
    TokenShapes train, evaluate[SPLIT_COUNT];
} TranslationTask;

static bool list_dataset(int index, TaskDataset *out)
{
    const TranslationDataset *dataset = translation_dataset(index);
    if (dataset == NULL) return false;
    *out = (TaskDataset){dataset->name, dataset->help};
    return true;
}

/* ---- description ---- */

static Status describe(const Config *config, TaskShare share, const ModelOptions *model, TaskData **out)
{
    TranslationTask *task;
    (void)model;
    *out = NULL;
    TRY(memory_new(&task, 1, sizeof *task, "the data set"));
    *out = &task->data;
    task->data.task = &translation_task;
    TRY(translation_data_read(config, share, &task->corpora));
    task->data.dataset = task->corpora.dataset->name;
    task->share = (TokenShare){.rank = share.rank,
                               .ranks = share.ranks,
                               .seed = (uint64_t)config_integer(config, "seed"),
                               .part_tokens = config_integer(config, "part_tokens")};
    task->tokens = config_integer(config, "batch_tokens");
    task->shapes = (int)config_integer(config, "batch_shapes");
    task->data.batch = task->tokens;
    task->data.classes = task->corpora.training.size; /* as far as is known before loading */
    if (task->data.classes < SUBWORD_SPECIALS + 1) task->data.classes = SUBWORD_SPECIALS + 1;
    return OK;
}

static Status identity(const TaskData *data, char **text)
{
    return translation_data_identity(&((const TranslationTask *)data)->corpora, text);
}

/* ---- samples ---- */

static Status choose_shapes(TranslationTask *task, const Config *config)
{
    const TranslationSplit *train = &task->corpora.split[SPLIT_TRAIN];
    if (train->count == 0) return OK; /* only evaluating */
    const TokenShapeOptions options = {
        .tokens = task->tokens, .most = task->shapes, .padding = TRAIN_PADDING};
    Status status = token_shapes_choose(train->length, train->count, &options, &task->train);
    if (status == OK) return OK;
    Status placed = config_error(config, "batch_tokens", "%s", status_message(status));
    status_free(status);
    return placed;
}

/* As many tokens as training's parts have, unless their logits would take too much memory. */
static Status choose_evaluation_shapes(TranslationTask *task, const TranslationSplit *split,
                                       TokenShapes *shapes)
{
    TokenShapeOptions options = {
        .tokens = EVALUATE_LOGITS / task->data.classes, .most = EVALUATE_SHAPES, .padding = EVALUATE_PADDING};
    if (options.tokens > task->share.part_tokens) options.tokens = task->share.part_tokens;
    if (options.tokens < split->longest) options.tokens = split->longest;
    return token_shapes_choose(split->length, split->count, &options, shapes);
}

static Status load(TaskData *data, const Config *config)
{
    TranslationTask *task = (TranslationTask *)data;
    TRY(translation_data_load(&task->corpora, config));
    data->classes = subwords_size(task->corpora.subwords);
    data->vocabulary_hash = subwords_hash(task->corpora.subwords);
    TRY(choose_shapes(task, config));
    for (int split = 0; split < SPLIT_COUNT; ++split) {
        const TranslationSplit *loaded = &task->corpora.split[split];
        data->count[split] = loaded->count;
        if (split != SPLIT_TRAIN && loaded->count > 0)
            TRY(choose_evaluation_shapes(task, loaded, &task->evaluate[split]));
    }
    if (task->train.count > 0)
        log_info("%" PRId64 " subwords; batches of %" PRId64 " tokens of either side, padded to %d lengths",
                 data->classes, task->tokens, task->train.count);
    return OK;
}

static Status write_files(const TaskData *data, const char *folder)
{
    return translation_data_write(&((const TranslationTask *)data)->corpora, folder);
}

static const char *run_file(const Config *config, const char **setting)
{
    *setting = "subwords.file";
    const bool words = strcmp(config_text(config, "subwords.type"), "none") == 0;
    return subwords_file_name(words ? SUBWORDS_WORDS : SUBWORDS_PIECES);
}

static void release(TaskData *data)
{
    TranslationTask *task = (TranslationTask *)data;
    translation_data_free(&task->corpora);
    free(task);
}

/* ---- batches ---- */

static TokenShare share_for(const TranslationTask *task, bool training)
{
    TokenShare share = task->share;
    share.training = training;
    return share;
}

static int shapes(const TaskData *data, Split split, bool training, BatchShape shape[BATCH_MAX_SHAPES])
{
    /* Without the data, for sentences of a usual length. */
    static const TokenShapes usual = {.count = 1,
                                      .shape = {{.source = 32, .target = 32, .pairs = 8, .parent = -1}}};
    const TranslationTask *task = (const TranslationTask *)data;
    const TokenShare share = share_for(task, training);
    const TokenShapes *chosen = training ? &task->train : &task->evaluate[split];
    return translation_batch_shapes(chosen->count > 0 ? chosen : &usual, &share, shape);
}

static Status source(TaskData *data, Split split, bool training, Source **out)
{
    const TranslationTask *task = (const TranslationTask *)data;
    const TranslationSplit *loaded = &task->corpora.split[split];
    const TranslationSourceOptions options = {.share = share_for(task, training),
                                              .shapes = training ? &task->train : &task->evaluate[split],
                                              .corpus = &loaded->corpus,
                                              .pair = loaded->pair,
                                              .count = loaded->count};
    return translation_source_open(&options, out);
}

/* ---- the graph ---- */

static Value input(Graph *graph, const BatchShape *shape, const char *name)
{
    return graph_input(graph, name, shape->field[batch_shape_find(shape, name)].shape);
}

static Value build(Graph *graph, const TaskData *data, const ModelOptions *model, Split split,
                   const BatchShape *shape)
{
    (void)split;
    const Value inputs[] = {
        [TRANSLATION_SOURCE_INPUT] = input(graph, shape, "source"),
        [TRANSLATION_SOURCE_LENGTH_INPUT] = input(graph, shape, "source_length"),
        [TRANSLATION_TARGET_INPUT] = input(graph, shape, "target_input"),
        [TRANSLATION_TARGET_LENGTH_INPUT] = input(graph, shape, "target_length"),
    };
    return model_build(graph, model, inputs, data->classes);
}

const Task translation_task = {.name = "translation",
                               .unit = "tokens",
                               .input = MODEL_OF_TRANSLATION,
                               .best = "nll",
                               .dataset = list_dataset,
                               .describe = describe,
                               .identity = identity,
                               .load = load,
                               .write_files = write_files,
                               .run_file = run_file,
                               .free = release,
                               .shapes = shapes,
                               .source = source,
                               .build = build};
