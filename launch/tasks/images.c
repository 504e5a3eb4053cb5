/* Image classification: pixels out of a table of bytes, cropped, flipped and normalised by the augment op. */
#include "engine/base/file.h"
#include "engine/base/memory.h"
#include "engine/data/images/image_source.h"
#include "engine/data/images/outside.h"
#include "engine/data/images/pixels.h"
#include "engine/ops/ops.h"
#include "launch/tasks/task.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of a data set whose classes only its files tell: until they are read, any number will do. */
enum { ANY_CLASSES = 2 };

typedef struct {
    TaskData data; /* first */
    const DatasetKind *kind;
    DatasetOptions options;
    TaskBatches batches;
    int64_t crop_padding;
    bool flip;
    Dataset described; /* the data set's sizes, without samples */
    Dataset *dataset;  /* NULL until loaded */
    Pixels *pixels;    /* NULL until placed */
} Images;

static bool list_dataset(int index, TaskDataset *dataset)
{
    int count;
    const DatasetKind *kinds = dataset_kinds(&count);
    if (index >= count) return false;
    *dataset = (TaskDataset){kinds[index].name, kinds[index].help};
    return true;
}

/* ---- description ---- */

/* A number for each channel; none: ImageNet's, of which a grey channel has the mean. */
static Status read_channels(const Config *config, const char *setting, const double usual[3],
                            int64_t channels, double numbers[3])
{
    const double *given;
    const int count = config_reals(config, setting, &given);
    if (count != 0 && count != channels)
        return config_error(config, setting, "%d numbers, but images have %lld channels", count,
                            (long long)channels);
    for (int64_t c = 0; c < channels; ++c)
        numbers[c] = count != 0 ? given[c] : channels == 3 ? usual[c] : (usual[0] + usual[1] + usual[2]) / 3;
    return OK;
}

/* Of a data set that may have images of any size. */
static Status read_size(const Config *config, DatasetOptions *options)
{
    static const double mean[] = {0.485, 0.456, 0.406}, deviation[] = {0.229, 0.224, 0.225};
    const int64_t *size;
    const int count = config_integers(config, "dataset.image_size", &size);
    if (count != 2)
        return config_error(config, "dataset.image_size", "%d numbers; two are expected: height and width",
                            count);
    options->height = size[0];
    options->width = size[1];
    options->channels = config_integer(config, "dataset.channels");
    if (options->channels == 2) return config_error(config, "dataset.channels", "must be 1 or 3, not 2");
    TRY(read_channels(config, "dataset.mean", mean, options->channels, options->mean));
    return read_channels(config, "dataset.deviation", deviation, options->channels, options->deviation);
}

static Status read_options(const Config *config, const DatasetKind *kind, DatasetOptions *out)
{
    DatasetOptions options = {.folder = config_text(config, "dataset.folder"),
                              .validation = config_integer(config, "dataset.validation"),
                              .train_limit = config_integer(config, "dataset.train_limit"),
                              .validation_limit = config_integer(config, "dataset.validation_limit"),
                              .test_limit = config_integer(config, "dataset.test_limit")};
    /* Read only where they mean something, so that setting them elsewhere is found out. */
    if (kind->has_validation_is_test)
        options.validation_is_test = config_flag(config, "compat.validation_is_test");
    if (kind->has_published_test_normalisation)
        options.published_test_normalisation = config_flag(config, "compat.cifar100_test_normalisation");
    options.height = kind->height;
    options.width = kind->width;
    options.channels = kind->channels;
    *out = options;
    return kind->has_size ? read_size(config, out) : OK;
}

static Status describe(const Config *config, TaskShare share, const ModelOptions *model, TaskData **out)
{
    (void)model;
    Images *images;
    *out = NULL;
    TRY(memory_new(&images, 1, sizeof *images, "the data set"));
    images->data = (TaskData){.task = &images_task};
    Status status = dataset_find(config_text(config, "dataset.name"), &images->kind);
    if (status == OK) status = task_read_batches(config, share, &images->batches);
    if (status == OK) status = read_options(config, images->kind, &images->options);
    if (status != OK) {
        free(images);
        return status;
    }
    const DatasetKind *kind = images->kind;
    images->crop_padding = config_integer(config, "augment.crop_padding");
    images->flip = config_flag(config, "augment.flip");
    images->described = (Dataset){.name = kind->name,
                                  .height = images->options.height,
                                  .width = images->options.width,
                                  .channels = images->options.channels,
                                  .classes = kind->classes > 0 ? kind->classes : ANY_CLASSES};
    for (int split = 0; split < SPLIT_COUNT; ++split)
        for (int64_t c = 0; c < images->options.channels; ++c)
            images->described.split[split].deviation[c] = 1;
    images->data.dataset = kind->name;
    images->data.classes = images->described.classes;
    images->data.batch = images->batches.train.batch;
    *out = &images->data;
    return OK;
}

static Status identity(const TaskData *data, char **text)
{
    const Images *images = (const Images *)data;
    const DatasetOptions *options = &images->options;
    return text_format(
        text, "%s %lld %lld %lld %lld %d %d %lldx%lldx%lld %s", images->kind->name,
        (long long)options->validation, (long long)options->train_limit, (long long)options->validation_limit,
        (long long)options->test_limit, options->validation_is_test, options->published_test_normalisation,
        (long long)options->height, (long long)options->width, (long long)options->channels, options->folder);
}

/* ---- samples ---- */

static Status load(TaskData *data, const Config *config)
{
    Images *images = (Images *)data;
    const char *folder = images->options.folder, *name = images->kind->name;
    if (folder[0] != '\0' && !file_exists(folder)) {
        if (images->kind->has_size)
            return config_error(config, "dataset.folder", "there is no folder %s", folder);
        return config_error(config, "dataset.folder",
                            "there is no folder %s (launch/get_data.sh %s %s fetches the data set)", folder,
                            name, folder);
    }
    TRY(dataset_open(name, &images->options, &images->dataset));
    data->classes = images->dataset->classes;
    for (int split = 0; split < SPLIT_COUNT; ++split) {
        data->count[split] = images->dataset->split[split].count;
        data->label[split] = images->dataset->split[split].label;
    }
    return OK;
}

/* The names of classes, one a line in the order of their labels. */
static const char classes_file[] = "classes.txt";

static Status class_lines(const Dataset *dataset, char **text)
{
    size_t size;
    FILE *lines = open_memstream(text, &size);
    if (lines == NULL) return fail(STATUS_MEMORY, "no memory for the names of classes");
    for (int64_t k = 0; k < dataset->classes; ++k)
        (void)fprintf(lines, "%s\n", dataset->class_name[k]);
    const bool whole = ferror(lines) == 0;
    if (fclose(lines) == 0 && whole) return OK;
    free(*text);
    return fail(STATUS_MEMORY, "no memory for the names of classes");
}

static Status write_files(const TaskData *data, const char *folder)
{
    const Dataset *dataset = ((const Images *)data)->dataset;
    char path[PATH_MAX], *text;
    if (dataset->class_name == NULL) return OK;
    TRY(file_join(path, folder, classes_file));
    TRY(class_lines(dataset, &text));
    Status status = file_write(path, text, strlen(text));
    free(text);
    return status;
}

/* The first line in which the texts differ, without its end. */
static void first_difference(const char *before, const char *now, char was[128], char is[128])
{
    for (size_t start = 0, i = 0;; ++i) {
        if (before[i] == now[i] && before[i] == '\n') start = i + 1;
        if (before[i] == now[i] && before[i] != '\0') continue;
        (void)snprintf(was, 128, "%.*s", (int)strcspn(before + start, "\n"), before + start);
        (void)snprintf(is, 128, "%.*s", (int)strcspn(now + start, "\n"), now + start);
        return;
    }
}

/* A network knows classes by number: with other names it would be measured against labels that mean something else. */
static Status check_files(const TaskData *data, const char *folder)
{
    enum { MOST = 1 << 26 };
    const Dataset *dataset = ((const Images *)data)->dataset;
    char path[PATH_MAX], *before, *now = NULL, was[128], is[128];
    size_t size;
    if (dataset->class_name == NULL) return OK;
    TRY(file_join(path, folder, classes_file));
    if (!file_exists(path)) return OK; /* of a run from before there were such files */
    TRY(file_read(path, MOST, &before, &size));
    Status status = class_lines(dataset, &now);
    if (status == OK && strcmp(before, now) != 0) {
        first_difference(before, now, was, is);
        status = fail(
            STATUS_INPUT,
            "the data in %s have other classes than the run was trained on (%s): it has %s%s%s where they "
            "have %s%s%s",
            ((const Images *)data)->options.folder, path, was[0] != '\0' ? "\"" : "",
            was[0] != '\0' ? was : "none", was[0] != '\0' ? "\"" : "", is[0] != '\0' ? "\"" : "",
            is[0] != '\0' ? is : "none", is[0] != '\0' ? "\"" : "");
    }
    free(before);
    free(now);
    return status;
}

static Status place(TaskData *data, Device *device)
{
    Images *images = (Images *)data;
    return pixels_open(device, images->dataset, &images->pixels);
}

static void release(TaskData *data)
{
    Images *images = (Images *)data;
    pixels_close(images->pixels);
    dataset_close(images->dataset);
    free(images);
}

/* ---- samples from outside ---- */

static Status outside(TaskData *own, Device *device, const char *name, const char *from, TaskNote *note,
                      TaskData **out)
{
    _Static_assert(sizeof note->text >= OUTSIDE_NOTE, "room for the note");
    const Images *mine = (const Images *)own;
    Images *images;
    *out = NULL;
    TRY(memory_new(&images, 1, sizeof *images, "samples from outside"));
    *images = *mine;
    images->dataset = NULL;
    images->pixels = NULL;
    Status status = outside_open(mine->dataset, name, from, mine->batches.train.seed, &note->made, note->text,
                                 &images->dataset);
    if (status == OK) status = place(&images->data, device);
    if (status != OK) {
        release(&images->data);
        return status;
    }
    TaskData *data = &images->data;
    data->dataset = images->dataset->name;
    for (int split = 0; split < SPLIT_COUNT; ++split) {
        data->count[split] = images->dataset->split[split].count;
        data->label[split] = images->dataset->split[split].label;
    }
    *out = data;
    return OK;
}

/* ---- batches ---- */

static const Dataset *dataset_of(const Images *images)
{
    return images->dataset != NULL ? images->dataset : &images->described;
}

static ImageSourceOptions source_options(const Images *images, Split split, bool training)
{
    return (ImageSourceOptions){.batches = training ? images->batches.train : images->batches.evaluate,
                                .split = split,
                                .crop_padding = training ? images->crop_padding : 0,
                                .flip = training && images->flip,
                                .lazy = images->pixels != NULL && pixels_are_lazy(images->pixels),
                                .streamed = images->pixels != NULL && pixels_are_streamed(images->pixels)};
}

static int shapes(const TaskData *data, Split split, bool training, BatchShape shape[BATCH_MAX_SHAPES])
{
    const Images *images = (const Images *)data;
    const ImageSourceOptions options = source_options(images, split, training);
    image_batch_shape(dataset_of(images), &options, &shape[0]);
    return 1;
}

static Status source(TaskData *data, Split split, bool training, Source **out)
{
    const Images *images = (const Images *)data;
    const ImageSourceOptions options = source_options(images, split, training);
    return image_source_open(images->dataset, &options, out);
}

/* ---- the graph ---- */

/* The table is an input like the others where batches bring their rows along; else it stays where it is. */
static Value table_input(Graph *graph, const Images *images, Split split, const BatchShape *shape)
{
    const Dataset *dataset = dataset_of(images);
    const int field = batch_shape_find(shape, "table");
    if (field >= 0) return graph_input(graph, "table", shape->field[field].shape);
    /* Without the data any number of rows will do. */
    const int64_t rows = images->dataset != NULL ? dataset->split[split].rows : shape->rows;
    const int64_t extent[] = {rows, dataset->height, dataset->width, dataset->channels};
    return graph_external_input(graph, "table", shape_of(UINT8, 4, extent));
}

static Value build(Graph *graph, const TaskData *data, const ModelOptions *model, Split split,
                   const BatchShape *shape)
{
    const Images *images = (const Images *)data;
    const DataSplit *normalised = &dataset_of(images)->split[split];
    const bool training = graph_mode(graph) == GRAPH_TRAIN;
    Augment augmentation = {.padding = training ? images->crop_padding : 0, .flip = training && images->flip};
    memcpy(augmentation.mean, normalised->mean, sizeof augmentation.mean);
    memcpy(augmentation.deviation, normalised->deviation, sizeof augmentation.deviation);
    const Value table = table_input(graph, images, split, shape);
    const Value index = graph_input(graph, "index", shape->field[batch_shape_find(shape, "index")].shape);
    const Value crop = graph_input(graph, "crop", shape->field[batch_shape_find(shape, "crop")].shape);
    const Value input = augment(graph, table, index, crop, augmentation);
    return model_build(graph, model, &input, data->classes);
}

static void bind(const TaskData *data, Split split, const Graph *graph, Plan *plan)
{
    const Images *images = (const Images *)data;
    void *table = pixels_table(images->pixels, split);
    if (table != NULL) plan_bind(plan, graph_find(graph, "table"), table);
}

const Task images_task = {.name = "images",
                          .unit = "images",
                          .input = MODEL_OF_IMAGES,
                          .best = "error",
                          .dataset = list_dataset,
                          .describe = describe,
                          .identity = identity,
                          .load = load,
                          .place = place,
                          .write_files = write_files,
                          .check_files = check_files,
                          .free = release,
                          .shapes = shapes,
                          .source = source,
                          .build = build,
                          .outside = outside,
                          .outside_check = outside_check,
                          .bind = bind};
