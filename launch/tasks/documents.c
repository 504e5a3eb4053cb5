/* Document classification: the 20 Newsgroups as ids of words, padded in front, for a network over their vectors. */
#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "engine/ops/ops.h"
#include "launch/tasks/class_names.h"
#include "launch/tasks/texts.h"
#include "nlp/document_source.h"
#include "nlp/newsgroups.h"
#include "nlp/utf8.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CLASSES = 20, USUAL_VALIDATION = 900 };
static const char usual_folder[] = "data/newsgroups";

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

    InputOptions inputs;   /* of documents that a user gives */
    ClassNames class_name; /* of the run, then */
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
    if (task->keras && task->words == 1)
        return config_error(config, "vocabulary.size",
                            "a limit of 1 leaves no word, as the padding counts too (vocabulary.keras); the "
                            "smallest that makes sense is 2");
    if (task->validation == 0)
        return config_error(
            config, "dataset.validation",
            "at least 1 document is needed, by which the best model and the temperature are chosen");
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

/* " (the first: NAME)" of documents that are all padding, or "". */
static void name_empty(const DocumentsTask *task, char text[PATH_MAX])
{
    text[0] = '\0';
    for (int64_t i = task->ids.count - 1; i >= 0; --i)
        if (document_ids_length(&task->ids, i) == 0)
            (void)snprintf(text, PATH_MAX, " (the first: %s)", documents_name(&task->documents, i));
}

static void tell_of_documents(const DocumentsTask *task)
{
    const DocumentsRead *read = &task->documents.read;
    char empty[PATH_MAX];
    int64_t shared = 0;
    name_empty(task, empty);
    status_free(documents_shared(&task->documents, task->split.test, task->data.count[SPLIT_TEST],
                                 task->split.train, task->data.count[SPLIT_TRAIN], &shared));
    log_info("%s: %" PRId64 " documents; train %" PRId64 ", validation %" PRId64 ", test %" PRId64
             " (%" PRId64 " of which are also among the training documents)",
             task->data.dataset, task->documents.count, task->data.count[SPLIT_TRAIN],
             task->data.count[SPLIT_VALIDATION], task->data.count[SPLIT_TEST], shared);
    log_info("%" PRId64 " words in the vocabulary (%" PRId64
             " rarer ones are left out); documents without any of them: %" PRId64
             "%s, cut to their last %" PRId64 " words: %" PRId64 "; other files, skipped: %" PRId64,
             vocabulary_size(task->texts.vocabulary) - vocabulary_specials(task->texts.vocabulary),
             vocabulary_left_out(task->texts.vocabulary), task->ids.empty, empty, task->longest,
             task->ids.cut, read->debris + read->unnamed);
}

static Status load(TaskData *data, const Config *config)
{
    DocumentsTask *task = (DocumentsTask *)data;
    const char *folder = task->texts.folder[0] != '\0' ? task->texts.folder : usual_folder;
    TRY(texts_check_vectors(&task->texts, config, "glove_6b"));
    Status status = newsgroups_read(folder, task->layout, &task->documents);
    if (status != OK)
        return status_context(status, "dataset.folder (launch/get_data.sh newsgroups fetches the data set)");
    if (task->documents.classes != CLASSES)
        return config_error(config, "dataset.folder", "%s holds %" PRId64 " classes of documents, not %d",
                            folder, task->documents.classes, (int)CLASSES);
    const DocumentsSplitOptions options = split_options(task);
    const bool parts = task->documents.given_train >= 0;
    TRY(config_error_of(config,
                        options.rule == DOCUMENTS_BY_DATE && !parts ? "dataset.split" : "dataset.validation",
                        documents_split(&task->documents, &options, &task->split)));
    status = make_vocabulary(task);
    if (status != OK) return status_context(status, "the training documents of %s", folder);
    TRY(document_ids(&task->documents, task->texts.vocabulary, task->longest, &task->ids));
    TRY(take_split(task, SPLIT_TRAIN, task->split.train_count));
    TRY(take_split(task, SPLIT_VALIDATION, task->split.validation_count));
    TRY(take_split(task, SPLIT_TEST, task->split.test_count));
    data->vocabulary_hash = vocabulary_hash(task->texts.vocabulary);
    data->class_name = (const char *const *)task->documents.class_name;
    tell_of_documents(task);
    return OK;
}

static Status initialise(TaskData *data, Store *store)
{
    return texts_fill_vectors(&((DocumentsTask *)data)->texts, store, "start at zero");
}

static Status write_files(const TaskData *data, const char *folder)
{
    TRY(class_names_write(folder, data->class_name, data->classes));
    return texts_write_files(&((const DocumentsTask *)data)->texts, folder);
}

static Status check_files(const TaskData *data, const char *folder)
{
    const char *from = ((const DocumentsTask *)data)->texts.folder;
    return class_names_check(folder, data->class_name, data->classes, from[0] != '\0' ? from : usual_folder);
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
    class_names_free(&task->class_name);
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

/* ---- documents that a user gives ---- */

static Status open_inputs(TaskData *data, const Config *config, const char *run, const InputOptions *options)
{
    DocumentsTask *task = (DocumentsTask *)data;
    (void)config;
    task->inputs = *options;
    TRY(texts_read_files(&task->texts, run, "<pad>"));
    data->vocabulary_hash = vocabulary_hash(task->texts.vocabulary);
    TRY(class_names_of_run(run, &task->class_name));
    if (task->class_name.count == 0) return OK; /* of a run from before there was such a file */
    data->class_name = task->class_name.name;
    if (task->class_name.count == data->classes) return OK;
    return fail(STATUS_INPUT, "%s/classes.txt has %" PRId64 " names, but the run has %" PRId64 " classes",
                run, task->class_name.count, data->classes);
}

/* For the same bits all documents have the greatest length. */
static int input_shapes(const TaskData *data, BatchShape shape[BATCH_MAX_SHAPES])
{
    const DocumentsTask *task = (const DocumentsTask *)data;
    int64_t rows[INPUT_ROW_COUNTS];
    const int row_counts = input_rows(&task->inputs, rows);
    BatchLengths lengths = lengths_of(task);
    if (task->inputs.deterministic)
        lengths = (BatchLengths){.count = 1, .length = {lengths.length[lengths.count - 1]}};
    int count = 0;
    for (int i = 0; i < row_counts; ++i) {
        const SampleBatches batches = {.batch = rows[i], .parts = 1, .ranks = 1};
        count += document_batch_shapes(&batches, &lengths, &shape[count]);
    }
    return count;
}

/* The text as training read it: of a message what is behind its header. What has no such header is taken whole, and what is
 * valid UTF-8 for that, as no message of the data set is that has other bytes than ASCII. Release with free(). */
static Status text_of_file(const char *bytes, size_t size, char **text, size_t *text_size)
{
    static const char no_header[] = "\n\n"; /* a message that begins so has none */
    const size_t mark = text_mark_bytes(bytes, size);
    const bool message = mark == 0 && newsgroups_has_header(bytes, size);
    const bool utf8 = !message && utf8_invalid(bytes + mark, size - mark) == size - mark;
    const size_t before = message ? 0 : strlen(no_header);
    char *whole;
    bool header;
    TRY(memory_new(text, 2 * (size + before) + 1, 1, "a document"));
    if (utf8) {
        *text_size = size - mark;
        memcpy(*text, bytes + mark, *text_size);
        for (size_t i = 0; i < *text_size; ++i)
            if ((*text)[i] == '\r') (*text)[i] = '\n';
        return OK;
    }
    Status status = memory_new(&whole, size + before + 1, 1, "a document");
    if (status == OK) {
        memcpy(whole, no_header, before);
        memcpy(whole + before, bytes, size);
        *text_size = newsgroups_message(whole, size + before, *text, &header);
        free(whole);
    } else {
        free(*text);
    }
    return status;
}

static Status read_input(const TaskData *data, InputPlace place, const char *bytes, size_t size,
                         InputSample *sample)
{
    const DocumentsTask *task = (const DocumentsTask *)data;
    char *text = NULL, name[INPUT_PLACE_TEXT];
    int32_t *id;
    *sample = (InputSample){.size = 0};
    if (place.line == 0) TRY(text_of_file(bytes, size, &text, &size));
    const TextSpan span = {.data = text != NULL ? text : bytes, .size = size};
    Status status = document_ids_of_text(span, task->texts.vocabulary, task->longest, &id, &sample->size);
    free(text);
    TRY(status);
    sample->content = id;
    if (sample->size > 0) return OK;
    free(id);
    sample->content = NULL;
    return fail(STATUS_INPUT, "%s: none of the document's words is in the run's vocabulary",
                input_place_text(place, name));
}

static int64_t positions_of(const BatchShape *shape)
{
    return shape->field[batch_shape_find(shape, "tokens")].shape.extent[1];
}

/* The longest comes first: the shortest shape that holds it, of those of the fewest rows. */
static Status fill_inputs(const TaskData *data, const BatchShape shapes[], int shape_count,
                          const InputSample *const sample[], int64_t count, BatchPart *part, int64_t *taken)
{
    const DocumentsTask *task = (const DocumentsTask *)data;
    const int64_t needed = sample[0]->size + task->margin, longest = positions_of(&shapes[0]);
    *taken = count < shapes[0].rows ? count : shapes[0].rows;
    part->shape = shape_count - 1;
    while (part->shape > 0 && (shapes[part->shape].rows < *taken ||
                               positions_of(&shapes[part->shape]) < (needed < longest ? needed : longest)))
        --part->shape;
    const BatchShape *shape = &shapes[part->shape];
    const int64_t length = positions_of(shape);
    int32_t *tokens = part->field[batch_shape_find(shape, "tokens")];
    for (int64_t i = 0; i < shape->rows; ++i, tokens += length) {
        const InputSample *mine = sample[i < *taken ? i : 0];
        const int64_t kept = mine->size < length ? mine->size : length;
        for (int64_t p = 0; p < length - kept; ++p)
            tokens[p] = DOCUMENT_PADDING;
        memcpy(tokens + length - kept, (const int32_t *)mine->content + mine->size - kept,
               (size_t)kept * sizeof *tokens);
    }
    input_mark_rows(shape, *taken, part);
    return OK;
}

static bool is_visible(const char *name) { return name[0] != '.'; }

static const TaskInputs inputs = {.one = "document",
                                  .many = "documents",
                                  .most_bytes = 1 << 26,
                                  .ahead = 8,
                                  .has_name = is_visible,
                                  .open = open_inputs,
                                  .shapes = input_shapes,
                                  .read = read_input,
                                  .fill = fill_inputs};

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
                             .check_files = check_files,
                             .free = release,
                             .shapes = shapes,
                             .source = source,
                             .build = build,
                             .inputs = &inputs};
