/* Translation: sentence pairs as ids of subwords, for a Transformer. */
#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "launch/tasks/corpus_record.h"
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
    uint8_t *tenth[SPLIT_COUNT]; /* [classes] of evaluated splits: the group of frequency that an id is in */
} TranslationTask;

enum { BY_TOKEN, BY_POSITION, BY_FREQUENCY };
static const GroupKind kinds[] = {
    [BY_TOKEN] = {"token", 2, {"end of sentence", "all others"}},
    [BY_POSITION] = {"position in the sentence",
                     7,
                     {"1", "2-3", "4-7", "8-15", "16-31", "32-63", "64 and more"}},
    [BY_FREQUENCY] = {"tenth by frequency",
                      10,
                      {"1, most frequent", "2", "3", "4", "5", "6", "7", "8", "9", "10, rarest"}},
};

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
    *out = NULL;
    TRY(memory_new(&task, 1, sizeof *task, "the data set"));
    *out = &task->data;
    task->data.task = &translation_task;
    TRY(translation_data_read(config, share, &task->corpora));
    if (model->transformer.positions.kind == POSITIONS_LEARNED)
        task->corpora.positions = model->transformer.positions.most;
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

const TranslationData *translation_data_of(const TaskData *data)
{
    return data->task == &translation_task ? &((const TranslationTask *)data)->corpora : NULL;
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
    return config_error_of(config, "batch_tokens",
                           token_shapes_choose(train->length, train->count, &options, &task->train));
}

/* As many tokens as training's parts have, unless their logits would take too much memory. Sentences that training would leave out
 * do not lengthen all others. */
static Status choose_evaluation_shapes(TranslationTask *task, const TranslationSplit *split,
                                       TokenShapes *shapes)
{
    TokenShapeOptions options = {.tokens = EVALUATE_LOGITS / task->data.classes,
                                 .most = EVALUATE_SHAPES,
                                 .padding = EVALUATE_PADDING,
                                 .longest = task->corpora.longest};
    if (options.tokens > task->share.part_tokens) options.tokens = task->share.part_tokens;
    for (int64_t i = 0; i < split->count; ++i) {
        const int64_t longer = translation_longer_side(split->length[i]);
        if (longer > options.tokens && longer <= options.longest) options.tokens = longer;
    }
    return token_shapes_choose(split->length, split->count, &options, shapes);
}

typedef struct {
    int64_t count;
    int32_t id;
} IdCount;

static int frequent_first(const void *a, const void *b)
{
    const IdCount *left = a, *right = b;
    if (left->count != right->count) return left->count > right->count ? -1 : 1;
    return left->id < right->id ? -1 : left->id > right->id;
}

/* How often each id is among the split's target tokens, the end token included. */
static Status count_targets(const TranslationSplit *split, IdCount count[])
{
    int32_t *id;
    TRY(memory_new(&id, (size_t)split->longest + 1, sizeof *id, "a sentence"));
    for (int64_t i = 0; i < split->count; ++i) {
        const int64_t length = encoded_length(&split->corpus, TARGET_SIDE, split->pair[i]);
        encoded_ids(&split->corpus, TARGET_SIDE, split->pair[i], id);
        for (int64_t t = 0; t < length; ++t)
            ++count[id[t]].count;
        ++count[SUBWORD_END].count;
    }
    free(id);
    return OK;
}

/* Ids by their frequency among the split's targets, in groups of about as many tokens; an id is in one group. */
static Status find_tenths(const TranslationSplit *split, int64_t classes, uint8_t **tenth)
{
    enum { TENTHS = 10 };
    IdCount *count;
    TRY(memory_new(tenth, (size_t)classes, 1, "frequencies of subwords"));
    TRY(memory_new(&count, (size_t)classes, sizeof *count, "frequencies of subwords"));
    for (int32_t id = 0; id < classes; ++id)
        count[id].id = id;
    Status status = count_targets(split, count);
    int64_t all = 0, before = 0;
    for (int64_t k = 0; k < classes; ++k)
        all += count[k].count;
    qsort(count, (size_t)classes, sizeof *count, frequent_first);
    for (int64_t k = 0; k < classes; ++k) {
        (*tenth)[count[k].id] = (uint8_t)(before < all ? before * TENTHS / all : TENTHS - 1);
        before += count[k].count;
    }
    free(count);
    return status;
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
        if (loaded->count == 0 || (split == SPLIT_TRAIN && !config_flag(config, "evaluate.train"))) continue;
        TRY(choose_evaluation_shapes(task, loaded, &task->evaluate[split]));
        if (split != SPLIT_TRAIN) TRY(find_tenths(loaded, data->classes, &task->tenth[split]));
    }
    if (task->train.count > 0)
        log_info("%" PRId64 " subwords; batches of %" PRId64 " tokens of either side, padded to %d length%s",
                 data->classes, task->tokens, task->train.count, task->train.count == 1 ? "" : "s");
    return OK;
}

static Status write_files(const TaskData *data, const char *folder)
{
    const TranslationData *corpora = &((const TranslationTask *)data)->corpora;
    TRY(translation_data_write(corpora, folder));
    return corpus_record_write(corpora, folder);
}

static Status check_resumed(const TaskData *data, const char *folder)
{
    return corpus_record_check(&((const TranslationTask *)data)->corpora, folder);
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
    for (int split = 0; split < SPLIT_COUNT; ++split)
        free(task->tenth[split]);
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
    enum { USUAL = 32 };
    const TranslationTask *task = (const TranslationTask *)data;
    int64_t length = task->corpora.longest < USUAL ? task->corpora.longest : USUAL;
    if (task->corpora.positions > 0 && task->corpora.positions < length) length = task->corpora.positions;
    const TokenShapes usual = {.count = 1,
                               .shape = {{.source = length, .target = length, .pairs = 8, .parent = -1}}};
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

/* ---- groups of tokens ---- */

static int group_kinds(const GroupKind **out)
{
    *out = kinds;
    return sizeof kinds / sizeof *kinds;
}

/* 1, 2-3, 4-7, ... */
static int group_of_position(int64_t position)
{
    int group = 0;
    while (group < kinds[BY_POSITION].groups - 1 && position + 1 >= (int64_t)2 << group)
        ++group;
    return group;
}

static int group(const TaskData *data, Split split, int kind, const BatchShape *shape, const BatchPart *part,
                 int64_t row)
{
    const TranslationTask *task = (const TranslationTask *)data;
    const int32_t id = ((const int32_t *)part->field[batch_shape_find(shape, "target")])[row];
    if (kind == BY_TOKEN) return id == SUBWORD_END ? 0 : 1;
    if (kind == BY_FREQUENCY) return task->tenth[split][id];
    return group_of_position(row % shape->field[batch_shape_find(shape, "target_input")].shape.extent[1]);
}

const Task translation_task = {.name = "translation",
                               .unit = "tokens",
                               .streams = true,
                               .translates = true,
                               .rate = "tokens_per_second",
                               .input = MODEL_OF_TRANSLATION,
                               .best = "nll",
                               .dataset = list_dataset,
                               .describe = describe,
                               .identity = identity,
                               .load = load,
                               .write_files = write_files,
                               .check_resumed = check_resumed,
                               .run_file = run_file,
                               .free = release,
                               .shapes = shapes,
                               .source = source,
                               .build = build,
                               .group_kinds = group_kinds,
                               .group = group,
                               .instead = "plumb translate"};
