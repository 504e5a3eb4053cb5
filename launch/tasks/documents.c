/* Document classification: the 20 Newsgroups as ids of words, padded in front, for a network over their vectors. */
#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "engine/ops/ops.h"
#include "launch/tasks/texts.h"
#include "nlp/document_source.h"
#include "nlp/newsgroups.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CLASSES = 20, USUAL_VALIDATION = 900 };

/* The layouts and rules, in the order of the settings' choices. */
static const struct {
    const char *name;
    NewsgroupsLayout layout;
} layouts[] = {{"any", NEWSGROUPS_ANY}, {"by_date", NEWSGROUPS_BY_DATE}, {"single", NEWSGROUPS_SINGLE}};

typedef struct {
    TaskData data; /* first */
    TaskBatches batches;
    Texts texts;
    NewsgroupsLayout layout;
    const char *split_rule;
    int64_t validation;
    int64_t words, longest, margin;
    bool keras, of_all_splits, crop;

    Documents documents;
    DocumentsSplit split;
    DocumentIds ids;
    int32_t *label[SPLIT_COUNT]; /* in the split's order */
} DocumentsTask;

static bool list_dataset(int index, TaskDataset *dataset)
{
    if (index > 0) return false;
    *dataset = (TaskDataset){"newsgroups", "20 Newsgroups: messages of 20 groups, 18,846 by date or 19,997"};
    return true;
}

/* ---- description ---- */

static NewsgroupsLayout read_layout(const Config *config)
{
    const char *name = config_text(config, "dataset.layout");
    for (size_t i = 0; i < sizeof layouts / sizeof layouts[0]; ++i)
        if (strcmp(layouts[i].name, name) == 0) return layouts[i].layout;
    return NEWSGROUPS_ANY;
}

static Status describe(const Config *config, TaskShare share, const ModelOptions *model, TaskData **out)
{
    DocumentsTask *task;
    *out = NULL;
    TRY(memory_new(&task, 1, sizeof *task, "the data set"));
    task->data = (TaskData){.task = &documents_task, .dataset = "newsgroups", .classes = CLASSES};
    Status status = task_read_batches(config, share, &task->batches);
    if (status != OK) {
        free(task);
        return status;
    }
    if (config_integer(config, "dataset.length") < model->receptive_field) {
        free(task);
        return config_error(config, "dataset.length",
                            "the network %s needs documents of at least %" PRId64 " words",
                            model->model->name, model->receptive_field);
    }
    task->data.batch = task->batches.train.batch;
    task->margin = model->receptive_field;
    task->layout = read_layout(config);
    task->split_rule = config_text(config, "dataset.split");
    task->validation = config_integer(config, "dataset.validation");
    if (task->validation < 0) task->validation = USUAL_VALIDATION;
    task->longest = config_integer(config, "dataset.length");
    task->crop = config_flag(config, "dataset.crop");
    task->words = config_integer(config, "vocabulary.size");
    task->keras = config_flag(config, "vocabulary.keras");
    task->of_all_splits = config_flag(config, "compat.vocabulary_of_all_splits");
    *out = &task->data;
    return texts_read(config, share, model, &task->texts);
}

static Status identity(const TaskData *data, char **text)
{
    const DocumentsTask *task = (const DocumentsTask *)data;
    return text_format(text, "newsgroups %d %s %llu %lld %lld %lld %lld %lld %d %d %s %s", task->layout,
                       task->split_rule, (unsigned long long)task->texts.split_seed,
                       (long long)task->validation, (long long)task->texts.limit[SPLIT_TRAIN],
                       (long long)task->texts.limit[SPLIT_VALIDATION],
                       (long long)task->texts.limit[SPLIT_TEST], (long long)task->words, task->keras,
                       task->of_all_splits, task->texts.folder, task->texts.vectors);
}

/* ---- samples ---- */

static int64_t *documents_of(const DocumentsTask *task, Split split)
{
    return split == SPLIT_TRAIN        ? task->split.train
           : split == SPLIT_VALIDATION ? task->split.validation
                                       : task->split.test;
}

/* Which rule parts them: by date where the parts are given, unless the config says. */
static DocumentsSplitOptions split_options(const DocumentsTask *task)
{
    const bool given = task->documents.given_train >= 0;
    const bool at_random =
        strcmp(task->split_rule, "random") == 0 || (strcmp(task->split_rule, "auto") == 0 && !given);
    return (DocumentsSplitOptions){.rule = at_random ? DOCUMENTS_AT_RANDOM : DOCUMENTS_BY_DATE,
                                   .validation = task->validation,
                                   .seed = task->texts.split_seed};
}

static Status make_vocabulary(DocumentsTask *task)
{
    const DocumentsSplit *split = &task->split;
    if (!task->of_all_splits)
        return document_vocabulary(&task->documents, split->train, split->train_count, task->words,
                                   task->keras, &task->texts.vocabulary);
    int64_t *all;
    TRY(memory_new(&all, (size_t)task->documents.count + 1, sizeof *all, "documents"));
    for (int64_t i = 0; i < task->documents.count; ++i)
        all[i] = i;
    Status status = document_vocabulary(&task->documents, all, task->documents.count, task->words,
                                        task->keras, &task->texts.vocabulary);
    free(all);
    return status;
}

static Status take_split(DocumentsTask *task, Split split, int64_t count)
{
    int64_t *document = documents_of(task, split);
    TRY(texts_limit(&task->texts, split, document, &count));
    TRY(memory_new(&task->label[split], (size_t)count + 1, sizeof *task->label[split], "labels"));
    for (int64_t i = 0; i < count; ++i)
        task->label[split][i] = task->documents.label[document[i]];
    task->data.count[split] = count;
    task->data.label[split] = task->label[split];
    return OK;
}

static void tell_of_documents(const DocumentsTask *task)
{
    const DocumentsRead *read = &task->documents.read;
    int64_t shared = 0;
    status_free(documents_shared(&task->documents, task->split.test, task->data.count[SPLIT_TEST],
                                 task->split.train, task->data.count[SPLIT_TRAIN], &shared));
    log_info("%s: %" PRId64 " documents; train %" PRId64 ", validation %" PRId64 ", test %" PRId64
             " (%" PRId64 " of which are also among the training documents)",
             task->data.dataset, task->documents.count, task->data.count[SPLIT_TRAIN],
             task->data.count[SPLIT_VALIDATION], task->data.count[SPLIT_TEST], shared);
    log_info("%" PRId64 " words in the vocabulary (%" PRId64 " rarer ones are left out); %" PRId64
             " documents have none of them, %" PRId64 " are cut to their last %" PRId64 " words; %" PRId64
             " other files skipped",
             vocabulary_size(task->texts.vocabulary) - vocabulary_specials(task->texts.vocabulary),
             vocabulary_left_out(task->texts.vocabulary), task->ids.empty, task->ids.cut, task->longest,
             read->debris + read->unnamed);
}

static Status load(TaskData *data, const Config *config)
{
    DocumentsTask *task = (DocumentsTask *)data;
    const char *folder = task->texts.folder[0] != '\0' ? task->texts.folder : "data/newsgroups";
    TRY(texts_check_vectors(&task->texts, config, "glove_6b"));
    Status status = newsgroups_read(folder, task->layout, &task->documents);
    if (status != OK)
        return status_context(status, "dataset.folder (launch/get_data.sh newsgroups fetches the data set)");
    if (task->documents.classes != CLASSES)
        return config_error(config, "dataset.folder", "%s holds %" PRId64 " classes of documents, not %d",
                            folder, task->documents.classes, (int)CLASSES);
    const DocumentsSplitOptions options = split_options(task);
    TRY(documents_split(&task->documents, &options, &task->split));
    TRY(make_vocabulary(task));
    TRY(document_ids(&task->documents, task->texts.vocabulary, task->longest, &task->ids));
    TRY(take_split(task, SPLIT_TRAIN, task->split.train_count));
    TRY(take_split(task, SPLIT_VALIDATION, task->split.validation_count));
    TRY(take_split(task, SPLIT_TEST, task->split.test_count));
    data->vocabulary_hash = vocabulary_hash(task->texts.vocabulary);
    tell_of_documents(task);
    return OK;
}

static Status initialise(TaskData *data, Store *store)
{
    return texts_fill_vectors(&((DocumentsTask *)data)->texts, store, "start at zero");
}

static Status write_files(const TaskData *data, const char *folder)
{
    return texts_write_files(&((const DocumentsTask *)data)->texts, folder);
}

static void release(TaskData *data)
{
    DocumentsTask *task = (DocumentsTask *)data;
    for (int split = 0; split < SPLIT_COUNT; ++split)
        free(task->label[split]);
    document_ids_free(&task->ids);
    texts_free(&task->texts);
    documents_split_free(&task->split);
    documents_free(&task->documents);
    free(task);
}

/* ---- batches ---- */

/* No batch is shorter than what one output of the network sees. */
static BatchLengths lengths_of(const DocumentsTask *task)
{
    BatchLengths all, lengths = {.count = 0};
    status_free(batch_lengths(task->longest, task->crop, &all)); /* the setting is checked: at least 1 */
    for (int i = 0; i < all.count; ++i)
        if (all.length[i] >= task->margin || i == all.count - 1)
            lengths.length[lengths.count++] = all.length[i];
    return lengths;
}

static int shapes(const TaskData *data, Split split, bool training, BatchShape shape[BATCH_MAX_SHAPES])
{
    const DocumentsTask *task = (const DocumentsTask *)data;
    const BatchLengths lengths = lengths_of(task);
    (void)split;
    return document_batch_shapes(training ? &task->batches.train : &task->batches.evaluate, &lengths, shape);
}

static Status source(TaskData *data, Split split, bool training, Source **out)
{
    const DocumentsTask *task = (const DocumentsTask *)data;
    const DocumentSourceOptions options = {.batches = training ? task->batches.train : task->batches.evaluate,
                                           .split = split,
                                           .dataset = data->dataset,
                                           .ids = &task->ids,
                                           .document = documents_of(task, split),
                                           .label = data->label[split],
                                           .count = data->count[split],
                                           .lengths = lengths_of(task),
                                           .margin = task->margin};
    return document_source_open(&options, out);
}

/* ---- the graph ---- */

static Value build(Graph *graph, const TaskData *data, const ModelOptions *model, Split split,
                   const BatchShape *shape)
{
    const DocumentsTask *task = (const DocumentsTask *)data;
    (void)split;
    ModelOptions options = *model;
    /* Without the data: as many words as there may be. */
    options.has_vectors = task->texts.vectors[0] != '\0';
    options.vocabulary =
        task->texts.vocabulary != NULL ? vocabulary_size(task->texts.vocabulary) : 1 + task->words;
    const Value tokens = graph_input(graph, "tokens", shape->field[batch_shape_find(shape, "tokens")].shape);
    return model_build(graph, &options, &tokens, data->classes);
}

const Task documents_task = {.name = "documents",
                             .unit = "documents",
                             .input = MODEL_OF_DOCUMENTS,
                             .best = "error",
                             .dataset = list_dataset,
                             .describe = describe,
                             .identity = identity,
                             .load = load,
                             .initialise = initialise,
                             .write_files = write_files,
                             .free = release,
                             .shapes = shapes,
                             .source = source,
                             .build = build};
