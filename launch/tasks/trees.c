/* Sentence trees: the Stanford Sentiment Treebank, a label at every node, for a Tree-LSTM over word vectors. */
#include "engine/base/file.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "launch/tasks/texts.h"
#include "nlp/tree_source.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A neutral root is no answer of the binary task: its class is left out when roots are judged. */
static const uint8_t neutral_masked[] = {0, 1, 0};

typedef struct {
    TaskData data; /* first */
    TaskBatches batches;
    Texts texts;
    TreeTask task;

    Trees trees[SPLIT_COUNT];
    int32_t *id[SPLIT_COUNT];    /* of every leaf of the file */
    int64_t *kept[SPLIT_COUNT];  /* [count] the trees that the task has */
    int32_t *label[SPLIT_COUNT]; /* [count] class of each one's root */
} TreesTask;

static bool list_dataset(int index, TaskDataset *dataset)
{
    if (index > 0) return false;
    *dataset =
        (TaskDataset){"sst", "Stanford Sentiment Treebank: 8,544 + 1,101 + 2,210 sentences as binary trees"};
    return true;
}

/* ---- description ---- */

static TreeTask read_task(const Config *config)
{
    const char *name = config_text(config, "dataset.tree_labels");
    int task = 0;
    while (task < TREE_TASK_COUNT - 1 && strcmp(tree_task_name((TreeTask)task), name) != 0)
        ++task;
    return (TreeTask)task;
}

static Status describe(const Config *config, TaskShare share, const ModelOptions *model, TaskData **out)
{
    TreesTask *task;
    *out = NULL;
    TRY(memory_new(&task, 1, sizeof *task, "the data set"));
    *out = &task->data;
    task->data = (TaskData){.task = &trees_task, .dataset = "sst"};
    TRY(task_read_batches(config, share, &task->batches));
    task->data.batch = task->batches.train.batch;
    task->task = read_task(config);
    task->data.classes = tree_task_classes(task->task);
    if (task->task == TREE_BINARY3 && config_flag(config, "dataset.mask_neutral"))
        task->data.masked = neutral_masked;
    return texts_read(config, share, model, &task->texts);
}

static Status identity(const TaskData *data, char **text)
{
    const TreesTask *task = (const TreesTask *)data;
    return text_format(text, "sst %s %llu %lld %lld %lld %s %s", tree_task_name(task->task),
                       (unsigned long long)task->texts.split_seed, (long long)task->texts.limit[SPLIT_TRAIN],
                       (long long)task->texts.limit[SPLIT_VALIDATION],
                       (long long)task->texts.limit[SPLIT_TEST], task->texts.folder, task->texts.vectors);
}

/* ---- samples ---- */

/* The file of a split: as in the archive, unpacked or not, in the folder or its folder "trees". */
static Status find_file(const char *folder, Split split, char path[PATH_MAX])
{
    static const char *const names[] = {
        [SPLIT_TRAIN] = "train", [SPLIT_VALIDATION] = "dev", [SPLIT_TEST] = "test"};
    static const char *const forms[] = {"%s.txt", "%s.txt.gz", "trees/%s.txt", "trees/%s.txt.gz"};
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; ++i) {
        char name[64];
        (void)snprintf(name, sizeof name, forms[i], names[split]);
        TRY(file_join(path, folder, name));
        if (file_exists(path)) return OK;
    }
    return fail(STATUS_INPUT,
                "%s has no %s.txt, nor one in a folder trees (launch/get_data.sh sst fetches the data set)",
                folder, names[split]);
}

static Status take_split(TreesTask *task, Split split, const char *path)
{
    const Trees *trees = &task->trees[split];
    int64_t count;
    TRY(trees_of_task(trees, task->task, path, &task->kept[split], &count));
    TRY(texts_limit(&task->texts, split, task->kept[split], &count));
    TRY(memory_new(&task->label[split], (size_t)count, sizeof *task->label[split], "labels"));
    for (int64_t i = 0; i < count; ++i)
        task->label[split][i] = tree_task_class(task->task, trees_root_label(trees, task->kept[split][i]));
    task->data.count[split] = count;
    task->data.label[split] = task->label[split];
    return OK;
}

static Status load(TaskData *data, const Config *config)
{
    TreesTask *task = (TreesTask *)data;
    const char *folder = task->texts.folder[0] != '\0' ? task->texts.folder : "data/sst";
    const Trees *corpora[SPLIT_COUNT];
    TRY(texts_check_vectors(&task->texts, config, "glove_840b"));
    for (int split = 0; split < SPLIT_COUNT; ++split) {
        char path[PATH_MAX];
        TRY(find_file(folder, (Split)split, path));
        TRY(trees_read(path, (TreeOptions){.words = TREE_WORDS_WITHOUT_BACKSLASH}, &task->trees[split]));
        TRY(take_split(task, (Split)split, path));
        corpora[split] = &task->trees[split];
    }
    TRY(trees_vocabulary(corpora, SPLIT_COUNT, &task->texts.vocabulary));
    for (int split = 0; split < SPLIT_COUNT; ++split) {
        const Trees *trees = &task->trees[split];
        TRY(memory_new(&task->id[split], (size_t)trees->leaves, sizeof *task->id[split], "words"));
        trees_ids(trees, task->texts.vocabulary, task->id[split], NULL);
    }
    data->vocabulary_hash = vocabulary_hash(task->texts.vocabulary);
    log_info("sst, %s: train %" PRId64 ", validation %" PRId64 ", test %" PRId64 " trees; %" PRId64 " words",
             tree_task_name(task->task), data->count[SPLIT_TRAIN], data->count[SPLIT_VALIDATION],
             data->count[SPLIT_TEST],
             vocabulary_size(task->texts.vocabulary) - vocabulary_specials(task->texts.vocabulary));
    return OK;
}

static Status initialise(TaskData *data, Store *store)
{
    return texts_fill_vectors(&((TreesTask *)data)->texts, store, "start at random");
}

static Status write_files(const TaskData *data, const char *folder)
{
    return texts_write_files(&((const TreesTask *)data)->texts, folder);
}

static void release(TaskData *data)
{
    TreesTask *task = (TreesTask *)data;
    for (int split = 0; split < SPLIT_COUNT; ++split) {
        free(task->label[split]);
        free(task->kept[split]);
        free(task->id[split]);
        trees_free(&task->trees[split]);
    }
    texts_free(&task->texts);
    free(task);
}

/* ---- batches ---- */

/* Room for any part of the split; without the data, for trees of a usual size. */
static TreeBatchRoom room_of(const TreesTask *task, Split split, bool training)
{
    enum { USUAL_LEAVES = 32, USUAL_LEVELS = 32 };
    const int64_t trees = sample_batches_rows(training ? &task->batches.train : &task->batches.evaluate);
    if (task->texts.vocabulary != NULL)
        return tree_batch_room(&task->trees[split], task->kept[split], task->data.count[split], trees);
    return (TreeBatchRoom){.trees = trees,
                           .leaves = trees * USUAL_LEAVES,
                           .inner = trees * USUAL_LEAVES,
                           .levels = USUAL_LEVELS};
}

static int shapes(const TaskData *data, Split split, bool training, BatchShape shape[BATCH_MAX_SHAPES])
{
    tree_batch_shape(room_of((const TreesTask *)data, split, training), &shape[0]);
    return 1;
}

static Status source(TaskData *data, Split split, bool training, Source **out)
{
    const TreesTask *task = (const TreesTask *)data;
    const TreeSourceOptions options = {.batches = training ? task->batches.train : task->batches.evaluate,
                                       .split = split,
                                       .dataset = data->dataset,
                                       .trees = &task->trees[split],
                                       .id = task->id[split],
                                       .tree = task->kept[split],
                                       .count = data->count[split],
                                       .task = task->task,
                                       .room = room_of(task, split, training)};
    return tree_source_open(&options, out);
}

/* ---- the graph ---- */

static Value input(Graph *graph, const BatchShape *shape, const char *name)
{
    return graph_input(graph, name, shape->field[batch_shape_find(shape, name)].shape);
}

static Value build(Graph *graph, const TaskData *data, const ModelOptions *model, Split split,
                   const BatchShape *shape)
{
    const TreesTask *task = (const TreesTask *)data;
    enum { WITHOUT_DATA = 1000 };
    (void)split;
    ModelOptions options = *model;
    options.vocabulary =
        task->texts.vocabulary != NULL ? vocabulary_size(task->texts.vocabulary) : WITHOUT_DATA;
    const Value inputs[] = {[TREE_WORDS_INPUT] = input(graph, shape, "words"),
                            [TREE_CHILDREN_INPUT] = input(graph, shape, "children"),
                            [TREE_LEVELS_INPUT] = input(graph, shape, "levels"),
                            [TREE_KEY_INPUT] = graph_mode(graph) == GRAPH_TRAIN && options.dropout > 0
                                                   ? input(graph, shape, "key")
                                                   : NO_VALUE};
    return model_build(graph, &options, inputs, data->classes);
}

const Task trees_task = {.name = "trees",
                         .unit = "trees",
                         .input = MODEL_OF_TREES,
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
