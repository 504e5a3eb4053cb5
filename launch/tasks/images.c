/* Image classification: pixels out of a table of bytes, cropped, flipped and normalised by the augment op. */
#include "engine/base/file.h"
#include "engine/base/memory.h"
#include "engine/data/images/image_file.h"
#include "engine/data/images/image_source.h"
#include "engine/data/images/outside.h"
#include "engine/data/images/pixels.h"
#include "engine/data/images/resize.h"
#include "engine/ops/ops.h"
#include "launch/tasks/class_names.h"
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
    Dataset described;     /* the data set's sizes, without samples */
    Dataset *dataset;      /* NULL until loaded */
    Pixels *pixels;        /* NULL until placed */
    InputOptions inputs;   /* of images that a user gives */
    ClassNames class_name; /* of the run, then */
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
    data->class_name =
        images->dataset->class_name != NULL ? images->dataset->class_name : images->kind->class_name;
    for (int split = 0; split < SPLIT_COUNT; ++split) {
        data->count[split] = images->dataset->split[split].count;
        data->label[split] = images->dataset->split[split].label;
    }
    return OK;
}

static Status write_files(const TaskData *data, const char *folder)
{
    const Dataset *dataset = ((const Images *)data)->dataset;
    return dataset->class_name != NULL ? class_names_write(folder, dataset->class_name, dataset->classes)
                                       : OK;
}

static Status check_files(const TaskData *data, const char *folder)
{
    const Images *images = (const Images *)data;
    const Dataset *dataset = images->dataset;
    if (dataset->class_name == NULL) return OK;
    return class_names_check(folder, dataset->class_name, dataset->classes, images->options.folder);
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
    class_names_free(&images->class_name);
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
    void *table = images->pixels != NULL ? pixels_table(images->pixels, split) : NULL;
    if (table != NULL) plan_bind(plan, graph_find(graph, "table"), table);
}

/* ---- images that a user gives ---- */

/* Their pixels come with the batches, as those of a data set that is too large for the device. */
static Status open_inputs(TaskData *data, const Config *config, const char *run, const InputOptions *options)
{
    Images *images = (Images *)data;
    const Normalisation normalisation = dataset_normalisation(images->kind, &images->options, SPLIT_TEST);
    DataSplit *split = &images->described.split[SPLIT_TEST];
    (void)config;
    memcpy(split->mean, normalisation.mean, sizeof normalisation.mean);
    memcpy(split->deviation, normalisation.deviation, sizeof normalisation.deviation);
    images->inputs = *options;
    data->class_name = images->kind->class_name;
    TRY(class_names_of_run(run, &images->class_name));
    if (images->class_name.count > 0) {
        data->classes = images->class_name.count;
        data->class_name = images->class_name.name;
    } else if (images->kind->classes == 0) {
        return fail(STATUS_INPUT, "%s has no classes.txt, which says the classes of a run on %s", run,
                    images->kind->name);
    }
    return OK;
}

static int input_shapes(const TaskData *data, BatchShape shape[BATCH_MAX_SHAPES])
{
    const Images *images = (const Images *)data;
    int64_t rows[INPUT_ROW_COUNTS];
    const int count = input_rows(&images->inputs, rows);
    for (int i = 0; i < count; ++i) {
        const ImageSourceOptions options = {
            .batches = {.batch = rows[i], .parts = 1, .ranks = 1}, .split = SPLIT_TEST, .streamed = true};
        image_batch_shape(&images->described, &options, &shape[i]);
    }
    return count;
}

static Status decode_scaled(const Images *images, const char *name, const uint8_t *bytes, size_t size,
                            const ImageHeader *header, uint8_t *pixels)
{
    const Dataset *wanted = &images->described;
    uint8_t *whole;
    TRY(memory_new(&whole, (size_t)(header->height * header->width), (size_t)wanted->channels, "an image"));
    Status status =
        image_file_decode(name, bytes, size, header->height, header->width, wanted->channels, whole);
    if (status == OK)
        status = image_resize(whole, (ImageSize){header->height, header->width}, wanted->channels, pixels,
                              (ImageSize){wanted->height, wanted->width});
    free(whole);
    return status;
}

static Status read_input(const TaskData *data, InputPlace place, const char *bytes, size_t size,
                         InputSample *sample)
{
    enum { MOST_PIXELS = 1 << 28 };
    const Images *images = (const Images *)data;
    const Dataset *wanted = &images->described;
    char name[INPUT_PLACE_TEXT];
    ImageHeader header;
    *sample = (InputSample){.size = 1};
    TRY(image_file_header(input_place_text(place, name), (const uint8_t *)bytes, size, &header));
    const bool fits = header.height == wanted->height && header.width == wanted->width;
    if (!fits && !images->inputs.resize)
        return fail(STATUS_INPUT,
                    "%s: %lldx%lld pixels; the network takes %lldx%lld (--resize scales images)", name,
                    (long long)header.width, (long long)header.height, (long long)wanted->width,
                    (long long)wanted->height);
    if (header.height > MOST_PIXELS / header.width)
        return fail(STATUS_INPUT, "%s: %lldx%lld pixels; %d are the most", name, (long long)header.width,
                    (long long)header.height, MOST_PIXELS);
    uint8_t *pixels;
    TRY(memory_new(&pixels, (size_t)(wanted->height * wanted->width * wanted->channels), 1, "an image"));
    Status status = fits ? image_file_decode(name, (const uint8_t *)bytes, size, wanted->height,
                                             wanted->width, wanted->channels, pixels)
                         : decode_scaled(images, name, (const uint8_t *)bytes, size, &header, pixels);
    if (status == OK)
        sample->content = pixels;
    else
        free(pixels);
    return status;
}

/* What lies in the table behind the images is of weight 0: the first image again. */
static Status fill_inputs(const TaskData *data, const BatchShape shapes[], int shape_count,
                          const InputSample *const sample[], int64_t count, BatchPart *part, int64_t *taken)
{
    const Dataset *wanted = &((const Images *)data)->described;
    const size_t bytes = (size_t)(wanted->height * wanted->width * wanted->channels);
    *taken = count < shapes[0].rows ? count : shapes[0].rows;
    part->shape = shape_count - 1;
    while (shapes[part->shape].rows < *taken)
        --part->shape;
    const BatchShape *shape = &shapes[part->shape];
    int64_t *index = part->field[batch_shape_find(shape, "index")];
    uint8_t *table = part->field[batch_shape_find(shape, "table")];
    memset(part->field[batch_shape_find(shape, "crop")], 0, (size_t)shape->rows * 3 * sizeof(int32_t));
    for (int64_t i = 0; i < shape->rows; ++i) {
        index[i] = i < *taken ? i : 0;
        if (i < *taken) memcpy(table + (size_t)i * bytes, sample[i]->content, bytes);
    }
    input_mark_rows(shape, *taken, part);
    return OK;
}

static const TaskInputs inputs = {.one = "image",
                                  .many = "images",
                                  .line_is_path = true,
                                  .resizes = true,
                                  .most_bytes = 1 << 28,
                                  .ahead = 1,
                                  .has_name = image_file_name,
                                  .open = open_inputs,
                                  .shapes = input_shapes,
                                  .read = read_input,
                                  .fill = fill_inputs};

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
                          .bind = bind,
                          .inputs = &inputs};
