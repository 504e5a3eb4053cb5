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

    InputOptions inputs; /* of trees that a user gives */
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
    task->data.class_name = tree_task_class_names(task->task);
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

/* ---- trees that a user gives ---- */

/* A tree as its sample keeps it: one block, whose arrays follow each other as in Trees. */
typedef struct {
    int32_t nodes, leaves, height;
    int32_t number[]; /* left, right, leaf, height [nodes] each, then the words' ids [leaves] */
} TreeInput;
enum { TREE_ARRAYS = 4 };

static Status open_inputs(TaskData *data, const Config *config, const char *run, const InputOptions *options)
{
    TreesTask *task = (TreesTask *)data;
    (void)config;
    task->inputs = *options;
    TRY(texts_read_files(&task->texts, run, "<unk>"));
    data->vocabulary_hash = vocabulary_hash(task->texts.vocabulary);
    return OK;
}

enum {
    INPUT_LEAVES = 4096, /* of a tree at most: a longer line is no sentence */
    INPUT_LEVELS = 512,
    USUAL_INPUT_LEVELS = 40, /* SST's highest tree has 29 */
    FEW_INPUT_LEAVES = 64
};

/* Room for trees of any form, for usual ones, and for one sentence. */
static int input_rooms(const TreesTask *task, TreeBatchRoom room[3])
{
    const int64_t trees = task->inputs.rows, many = trees * 32 > INPUT_LEAVES ? trees * 32 : INPUT_LEAVES;
    room[0] = (TreeBatchRoom){.trees = trees, .leaves = many, .inner = many, .levels = INPUT_LEVELS};
    room[1] = (TreeBatchRoom){.trees = trees, .leaves = many, .inner = many, .levels = USUAL_INPUT_LEVELS};
    room[2] = (TreeBatchRoom){
        .trees = trees, .leaves = FEW_INPUT_LEAVES, .inner = FEW_INPUT_LEAVES, .levels = USUAL_INPUT_LEVELS};
    return 3;
}

static int input_shapes(const TaskData *data, BatchShape shape[BATCH_MAX_SHAPES])
{
    TreeBatchRoom room[3];
    const int count = input_rooms((const TreesTask *)data, room);
    for (int i = 0; i < count; ++i)
        tree_batch_shape(room[i], &shape[i]);
    return count;
}

static Status pack_tree(const Trees *trees, const Vocabulary *vocabulary, TreeInput **out)
{
    const size_t nodes = (size_t)trees->nodes, leaves = (size_t)trees->leaves;
    const int32_t *const arrays[TREE_ARRAYS] = {trees->left, trees->right, trees->leaf, trees->height};
    TRY(memory_new(out, sizeof **out + (TREE_ARRAYS * nodes + leaves) * sizeof(int32_t), 1, "a tree"));
    **out =
        (TreeInput){.nodes = (int32_t)nodes, .leaves = (int32_t)leaves, .height = trees->height[nodes - 1]};
    for (size_t a = 0; a < TREE_ARRAYS; ++a)
        memcpy((*out)->number + a * nodes, arrays[a], nodes * sizeof(int32_t));
    trees_ids(trees, vocabulary, (*out)->number + TREE_ARRAYS * nodes, NULL);
    return OK;
}

/* Labels are what is asked for, so that any will do. */
static Status read_input(const TaskData *data, InputPlace place, const char *bytes, size_t size,
                         InputSample *sample)
{
    const TreesTask *task = (const TreesTask *)data;
    const TreeOptions options = {.words = TREE_WORDS_WITHOUT_BACKSLASH,
                                 .leaf_alone = true,
                                 .any_label = true,
                                 .first_line = place.line};
    const char *start = bytes;
    char name[INPUT_PLACE_TEXT];
    Trees trees;
    TreeInput *tree;
    *sample = (InputSample){.size = 0};
    while (start < bytes + size && *start == ' ')
        ++start;
    if (start == bytes + size)
        return fail(STATUS_INPUT, "%s: an empty line; each holds one tree", input_place_text(place, name));
    if (*start != '(')
        return fail(STATUS_INPUT,
                    "%s: a plain sentence: the network composes words along a parse tree and takes none "
                    "without; give a binary tree in brackets, such as (X (X It) (X works))",
                    input_place_text(place, name));
    TRY(trees_parse(place.file, bytes, size, options, &trees));
    const int64_t height = trees.height[trees.nodes - 1];
    Status status =
        trees.leaves > INPUT_LEAVES || height > INPUT_LEVELS
            ? fail(STATUS_INPUT,
                   "%s: a tree of %" PRId64 " words and %" PRId64 " levels; %d and %d are the most",
                   input_place_text(place, name), trees.leaves, height, INPUT_LEAVES, INPUT_LEVELS)
            : pack_tree(&trees, task->texts.vocabulary, &tree);
    if (status == OK) *sample = (InputSample){.size = trees.nodes, .content = tree};
    trees_free(&trees);
    return status;
}

static bool has_room(const TreeBatchRoom *room, const TreeBatchRoom *needed)
{
    return needed->leaves <= room->leaves && needed->inner <= room->inner && needed->levels <= room->levels;
}

/* How many of the trees go together, and what they need. */
static int64_t take_trees(const TreesTask *task, const TreeBatchRoom *most, const InputSample *const sample[],
                          int64_t count, TreeBatchRoom *needed)
{
    int64_t taken = 0;
    *needed = (TreeBatchRoom){.trees = most->trees};
    for (; taken < count && taken < (task->inputs.deterministic ? 1 : most->trees); ++taken) {
        const TreeInput *tree = sample[taken]->content;
        TreeBatchRoom with = *needed;
        with.leaves += tree->leaves;
        with.inner += tree->nodes - tree->leaves;
        if (tree->height > with.levels) with.levels = tree->height;
        if (!has_room(most, &with)) break;
        *needed = with;
    }
    return taken;
}

/* The trees as a corpus of their own, and their words' ids. */
static Status collect_trees(const InputSample *const sample[], int64_t count, Trees *trees, int32_t **id)
{
    *trees = (Trees){.count = count};
    *id = NULL;
    for (int64_t t = 0; t < count; ++t) {
        trees->nodes += ((const TreeInput *)sample[t]->content)->nodes;
        trees->leaves += ((const TreeInput *)sample[t]->content)->leaves;
    }
    const size_t nodes = (size_t)trees->nodes;
    int32_t **const arrays[TREE_ARRAYS] = {&trees->left, &trees->right, &trees->leaf, &trees->height};
    TRY(memory_new(&trees->first_node, (size_t)count + 1, sizeof *trees->first_node, "trees"));
    TRY(memory_new(&trees->first_leaf, (size_t)count + 1, sizeof *trees->first_leaf, "trees"));
    TRY(memory_new(&trees->label, nodes, sizeof *trees->label, "trees"));
    for (int a = 0; a < TREE_ARRAYS; ++a)
        TRY(memory_new(arrays[a], nodes, sizeof **arrays[a], "trees"));
    TRY(memory_new(id, (size_t)trees->leaves, sizeof **id, "trees"));
    for (int64_t t = 0; t < count; ++t) {
        const TreeInput *tree = sample[t]->content;
        const int64_t node = trees->first_node[t], leaf = trees->first_leaf[t];
        for (int a = 0; a < TREE_ARRAYS; ++a)
            memcpy(*arrays[a] + node, tree->number + (ptrdiff_t)a * tree->nodes,
                   (size_t)tree->nodes * sizeof(int32_t));
        memcpy(*id + leaf, tree->number + (ptrdiff_t)TREE_ARRAYS * tree->nodes,
               (size_t)tree->leaves * sizeof(int32_t));
        trees->first_node[t + 1] = node + tree->nodes;
        trees->first_leaf[t + 1] = leaf + tree->leaves;
    }
    return OK;
}

static Status fill_trees(const TreesTask *task, const Trees *trees, const int32_t id[], TreeBatchRoom room,
                         const BatchShape *shape, BatchPart *part)
{
    int64_t *tree = NULL, *at = part->field[batch_shape_find(shape, "sample")];
    int32_t *root = NULL;
    float *weight = part->field[batch_shape_find(shape, "weight")];
    Status status;
    TRY_ELSE(done, memory_new(&tree, (size_t)trees->count, sizeof *tree, "a batch of trees"));
    TRY_ELSE(done, memory_new(&root, (size_t)room.trees, sizeof *root, "a batch of trees"));
    for (int64_t t = 0; t < trees->count; ++t)
        tree[t] = t;
    TreeBatch batch = {.word = part->field[batch_shape_find(shape, "words")],
                       .children = part->field[batch_shape_find(shape, "children")],
                       .levels = part->field[batch_shape_find(shape, "levels")],
                       .target = part->field[batch_shape_find(shape, "target")],
                       .weight = weight,
                       .root = root};
    TRY_ELSE(done, tree_batch_fill(trees, id, task->task, tree, trees->count, room, &batch));
    memset(weight, 0, (size_t)shape->rows * sizeof *weight);
    memset(at, 0, (size_t)shape->rows * sizeof *at);
    for (int64_t t = 0; t < trees->count; ++t) {
        weight[root[t]] = 1;
        at[root[t]] = t;
    }
done:
    free(tree);
    free(root);
    return status;
}

static Status fill_inputs(const TaskData *data, const BatchShape shapes[], int shape_count,
                          const InputSample *const sample[], int64_t count, BatchPart *part, int64_t *taken)
{
    const TreesTask *task = (const TreesTask *)data;
    TreeBatchRoom room[3], needed;
    Trees trees;
    int32_t *id;
    (void)input_rooms(task, room);
    *taken = take_trees(task, &room[0], sample, count, &needed);
    part->shape = shape_count - 1;
    while (part->shape > 0 && !has_room(&room[part->shape], &needed))
        --part->shape;
    part->first = part->padding = 0;
    Status status = collect_trees(sample, *taken, &trees, &id);
    if (status == OK) status = fill_trees(task, &trees, id, room[part->shape], &shapes[part->shape], part);
    trees_free(&trees);
    free(id);
    return status;
}

static bool is_visible(const char *name) { return name[0] != '.'; }

static const TaskInputs inputs = {.one = "tree",
                                  .many = "trees",
                                  .lines = true,
                                  .most_bytes = 1 << 26,
                                  .ahead = 8,
                                  .has_name = is_visible,
                                  .open = open_inputs,
                                  .shapes = input_shapes,
                                  .read = read_input,
                                  .fill = fill_inputs};

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
                         .build = build,
                         .inputs = &inputs};
