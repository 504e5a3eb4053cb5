/* Sentence trees: the Stanford Sentiment Treebank, a label at every node, for a Tree-LSTM over word vectors. */
#include "engine/base/file.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "launch/tasks/task.h"
#include "nlp/tree_source.h"
#include "nlp/word_vectors.h"

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
    bool training;
    const char *folder, *vectors; /* vectors: ""; none */
    TreeTask task;
    int64_t limit[SPLIT_COUNT];
    uint64_t split_seed; /* which samples a limit takes */

    Trees trees[SPLIT_COUNT];
    Vocabulary *vocabulary;
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
    task->folder = config_text(config, "dataset.folder");
    task->limit[SPLIT_TRAIN] = config_integer(config, "dataset.train_limit");
    task->limit[SPLIT_VALIDATION] = config_integer(config, "dataset.validation_limit");
    task->limit[SPLIT_TEST] = config_integer(config, "dataset.test_limit");
    task->split_seed = (uint64_t)config_integer(config, "dataset.split_seed");
    task->vectors = config_text(config, "vectors.file");
    task->training = share.training;
    task->task = read_task(config);
    task->data.classes = tree_task_classes(task->task);
    if (task->task == TREE_BINARY3 && config_flag(config, "dataset.mask_neutral"))
        task->data.masked = neutral_masked;
    if (task->vectors[0] == '\0' && model->freeze_embedding)
        return config_error(config, "model.freeze_embedding",
                            "there are no word vectors to keep as they are: set vectors.file, or "
                            "model.freeze_embedding: false");
    return OK;
}

static Status identity(const TaskData *data, char **text)
{
    const TreesTask *task = (const TreesTask *)data;
    return text_format(text, "sst %s %llu %lld %lld %lld %s %s", tree_task_name(task->task),
                       (unsigned long long)task->split_seed, (long long)task->limit[SPLIT_TRAIN],
                       (long long)task->limit[SPLIT_VALIDATION], (long long)task->limit[SPLIT_TEST],
                       task->folder, task->vectors);
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
    if (task->limit[split] > 0 && task->limit[split] < count) {
        TRY(task_draw(task->split_seed, split, task->kept[split], count, task->limit[split]));
        count = task->limit[split];
    }
    TRY(memory_new(&task->label[split], (size_t)count, sizeof *task->label[split], "labels"));
    for (int64_t i = 0; i < count; ++i)
        task->label[split][i] = tree_task_class(task->task, trees_root_label(trees, task->kept[split][i]));
    task->data.count[split] = count;
    task->data.label[split] = task->label[split];
    return OK;
}

/* Before the long work, and by a sweep before its first run. */
static Status check_vectors(const TreesTask *task, const Config *config)
{
    if (!task->training || task->vectors[0] == '\0' || file_exists(task->vectors)) return OK;
    return config_error(config, "vectors.file",
                        "there is no file %s (launch/get_data.sh glove_840b fetches GloVe's)", task->vectors);
}

static Status load(TaskData *data, const Config *config)
{
    TreesTask *task = (TreesTask *)data;
    const char *folder = task->folder[0] != '\0' ? task->folder : "data/sst";
    const Trees *corpora[SPLIT_COUNT];
    TRY(check_vectors(task, config));
    for (int split = 0; split < SPLIT_COUNT; ++split) {
        char path[PATH_MAX];
        TRY(find_file(folder, (Split)split, path));
        TRY(trees_read(path, (TreeOptions){.words = TREE_WORDS_WITHOUT_BACKSLASH}, &task->trees[split]));
        TRY(take_split(task, (Split)split, path));
        corpora[split] = &task->trees[split];
    }
    TRY(trees_vocabulary(corpora, SPLIT_COUNT, &task->vocabulary));
    for (int split = 0; split < SPLIT_COUNT; ++split) {
        const Trees *trees = &task->trees[split];
        TRY(memory_new(&task->id[split], (size_t)trees->leaves, sizeof *task->id[split], "words"));
        trees_ids(trees, task->vocabulary, task->id[split], NULL);
    }
    data->vocabulary_hash = vocabulary_hash(task->vocabulary);
    log_info("sst, %s: train %" PRId64 ", validation %" PRId64 ", test %" PRId64 " trees; %" PRId64 " words",
             tree_task_name(task->task), data->count[SPLIT_TRAIN], data->count[SPLIT_VALIDATION],
             data->count[SPLIT_TEST],
             vocabulary_size(task->vocabulary) - vocabulary_specials(task->vocabulary));
    return OK;
}

/* The vectors of the words that the file has; others keep what they were drawn as. */
static Status fill_known(Store *store, const StoreEntry *table, const WordVectors *vectors)
{
    const int64_t width = table->shape.extent[1];
    float *values;
    Device *device = store_device(store);
    TRY(memory_new(&values, (size_t)(vectors->size * width), sizeof *values, "word vectors"));
    Status status = device_download(device, values, table->data, shape_bytes(table->shape));
    if (status == OK) status = device_synchronize(device);
    for (int64_t i = 0; i < vectors->size && status == OK; ++i)
        if (vectors->known[i])
            memcpy(values + i * width, vectors->vector + i * width, (size_t)width * sizeof *values);
    if (status == OK) status = device_upload(device, table->data, values, shape_bytes(table->shape));
    if (status == OK) status = device_synchronize(device);
    free(values);
    return status;
}

static Status initialise(TaskData *data, Store *store)
{
    const TreesTask *task = (const TreesTask *)data;
    if (task->vectors[0] == '\0') return OK;
    const StoreEntry *table = store_find(store, "embedding.weight");
    if (table == NULL)
        return fail(STATUS_INPUT,
                    "vectors.file: the network has no table of word vectors (embedding.weight)");
    WordVectors vectors;
    const int64_t width = table->shape.extent[1];
    Status read = word_vectors_read(task->vectors, task->vocabulary, width, &vectors);
    if (read != OK)
        return status_context(read, "vectors.file, of vectors as wide as model.embedding_width, %" PRId64,
                              width);
    log_info("%s: %" PRId64 " vectors; %" PRId64 " words have one, %" PRId64 " have none and start at random",
             task->vectors, vectors.lines, vectors.found, vectors.missing);
    if (vectors.found == 0) {
        word_vectors_free(&vectors);
        return fail(STATUS_INPUT, "vectors.file: %s has no vector for any word of the vocabulary",
                    task->vectors);
    }
    Status status = fill_known(store, table, &vectors);
    word_vectors_free(&vectors);
    return status;
}

static Status write_files(const TaskData *data, const char *folder)
{
    const TreesTask *task = (const TreesTask *)data;
    char path[PATH_MAX];
    TRY(file_join(path, folder, "vocabulary.txt"));
    return vocabulary_write(task->vocabulary, path);
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
    vocabulary_free(task->vocabulary);
    free(task);
}

/* ---- batches ---- */

/* Room for any part of the split; without the data, for trees of a usual size. */
static TreeBatchRoom room_of(const TreesTask *task, Split split, bool training)
{
    enum { USUAL_LEAVES = 32, USUAL_LEVELS = 32 };
    const int64_t trees = sample_batches_rows(training ? &task->batches.train : &task->batches.evaluate);
    if (task->vocabulary != NULL)
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
    options.vocabulary = task->vocabulary != NULL ? vocabulary_size(task->vocabulary) : WITHOUT_DATA;
    const Value inputs[] = {[TREE_WORDS_INPUT] = input(graph, shape, "words"),
                            [TREE_CHILDREN_INPUT] = input(graph, shape, "children"),
                            [TREE_LEVELS_INPUT] = input(graph, shape, "levels")};
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
