/* Any folder of images by class: files in train/CLASS/, test/CLASS/ and, if there is one, validation/CLASS/ (or val/CLASS/).
 * A class is its folder's place among the sorted names of train/, as torchvision's ImageFolder counts. Opening reads only lists;
 * an image is decoded when a batch first asks for it, and then stays in the table. */
#include "engine/base/file.h"
#include "engine/base/memory.h"
#include "engine/data/images/image_file.h"
#include "engine/data/images/lazy_rows.h"
#include "engine/data/images/reader.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_IMAGE_BYTES = 1 << 26, MOST_CLASSES = 1 << 16 };

static const char name[] = "image_folder";

typedef struct {
    const char *folder; /* inside; NULL: there is none */
    int64_t first, count;
} Part;

typedef struct {
    char folder[PATH_MAX];
    NameList classes;
    NameList files;
    int32_t *label; /* of each file */
    size_t label_capacity;
    Part part[SPLIT_COUNT];
    LazyRows *lazy;
} Reader;

static void reader_free(void *pointer)
{
    Reader *reader = pointer;
    name_list_free(&reader->classes);
    name_list_free(&reader->files);
    free(reader->label);
    lazy_rows_free(reader->lazy);
    free(reader);
}

/* ---- Lists ---- */

static bool has_folder(const Reader *reader, const char *inside)
{
    char path[PATH_MAX];
    Status status = file_join(path, reader->folder, inside);
    const bool found = status == OK && file_exists(path);
    status_free(status);
    return found;
}

/* Names stand one a line in the run's classes.txt. */
static Status check_class_name(const Reader *reader, const char *class_name)
{
    for (const char *at = class_name; *at != '\0'; ++at)
        if ((unsigned char)*at < ' ')
            return fail(STATUS_INPUT,
                        "%s: the name of a class in %s/train has a control character: rename the folder",
                        name, reader->folder);
    return OK;
}

static Status list_classes(Reader *reader)
{
    NameList folders = {.name = NULL};
    Status status = home_list_folders(reader->folder, "train", &folders);
    for (int64_t i = 0; i < folders.count && status == OK; ++i) {
        const char *class_name = folders.name[i] + strlen("train/");
        status = check_class_name(reader, class_name);
        if (status == OK) status = name_list_append(&reader->classes, class_name, strlen(class_name));
    }
    name_list_free(&folders);
    TRY(status);
    if (reader->classes.count < 2 || reader->classes.count > MOST_CLASSES)
        return fail(STATUS_INPUT, "%s: %s/train has %lld folders of classes; 2 to %d are expected", name,
                    reader->folder, (long long)reader->classes.count, MOST_CLASSES);
    return OK;
}

static int compare_name(const void *key, const void *item) { return strcmp(key, *(char *const *)item); }

static Status class_of(const Reader *reader, const char *folder, int32_t *label)
{
    const char *class_name = strchr(folder, '/') + 1;
    char **found = bsearch(class_name, reader->classes.name, (size_t)reader->classes.count,
                           sizeof *reader->classes.name, compare_name);
    if (found == NULL)
        return fail(STATUS_INPUT, "%s: %s/%s is of a class that %s/train does not have", name, reader->folder,
                    folder, reader->folder);
    *label = (int32_t)(found - reader->classes.name);
    return OK;
}

/* The images of a class in a part; every class of train/ must have some. */
static Status list_class(Reader *reader, const char *folder, bool training)
{
    int32_t label;
    const int64_t before = reader->files.count;
    TRY(class_of(reader, folder, &label));
    TRY(home_list_images(reader->folder, folder, &reader->files));
    if (training && reader->files.count == before)
        return fail(STATUS_INPUT, "%s: there are no JPEG or PNG files in %s/%s", name, reader->folder,
                    folder);
    TRY(memory_grow(&reader->label, &reader->label_capacity, (size_t)reader->files.count + 1,
                    sizeof *reader->label, "labels"));
    for (int64_t i = before; i < reader->files.count; ++i)
        reader->label[i] = label;
    return OK;
}

static Status list_part(Reader *reader, Split split, const char *inside)
{
    NameList folders = {.name = NULL};
    Part *part = &reader->part[split];
    *part = (Part){inside, reader->files.count, 0};
    Status status = home_list_folders(reader->folder, inside, &folders);
    for (int64_t i = 0; i < folders.count && status == OK; ++i)
        status = list_class(reader, folders.name[i], split == SPLIT_TRAIN);
    name_list_free(&folders);
    TRY(status);
    part->count = reader->files.count - part->first;
    if (part->count == 0)
        return fail(STATUS_INPUT, "%s: there are no JPEG or PNG files in the folders of %s/%s", name,
                    reader->folder, inside);
    return OK;
}

static Status read_lists(Reader *reader)
{
    static const char *const needed[] = {"train", "test"};
    for (int i = 0; i < 2; ++i)
        if (!has_folder(reader, needed[i]))
            return fail(
                STATUS_INPUT,
                "%s: there is no folder %s in %s: images lie in train/CLASS/ and test/CLASS/, and may in "
                "validation/CLASS/",
                name, needed[i], reader->folder);
    TRY(list_classes(reader));
    TRY(list_part(reader, SPLIT_TRAIN, "train"));
    TRY(list_part(reader, SPLIT_TEST, "test"));
    if (has_folder(reader, "validation")) return list_part(reader, SPLIT_VALIDATION, "validation");
    if (has_folder(reader, "val")) return list_part(reader, SPLIT_VALIDATION, "val");
    return OK;
}

/* ---- Decoding ---- */

static Status decode_row(const ImageTable *table, int64_t row)
{
    const Reader *reader = table->reader;
    const Dataset *dataset = &table->dataset;
    char path[PATH_MAX];
    char *bytes;
    size_t size;
    TRY(file_join(path, reader->folder, reader->files.name[row]));
    TRY(file_read(path, MOST_IMAGE_BYTES, &bytes, &size));
    Status status = image_file_decode(path, (const uint8_t *)bytes, size, dataset->height, dataset->width,
                                      dataset->channels, table->pixels + row * image_table_row_bytes(table));
    free(bytes);
    return status;
}

static Status prepare(Dataset *dataset, Split split, const int64_t sample[], int64_t count)
{
    const ImageTable *table = dataset->implementation;
    const Reader *reader = table->reader;
    return lazy_rows_prepare(reader->lazy, table, split, sample, count, decode_row);
}

/* ---- Opening ---- */

/* The whole of the part, in its order. */
static Status set_part(ImageTable *table, const Part *part, Split split, int64_t limit)
{
    int64_t *rows;
    TRY(memory_new(&rows, (size_t)part->count, sizeof *rows, "rows of a split"));
    for (int64_t i = 0; i < part->count; ++i)
        rows[i] = part->first + i;
    Status status = image_table_set_split(table, split, rows, part->count, limit);
    free(rows);
    return status;
}

static Status set_splits(const Reader *reader, const DatasetOptions *options, ImageTable *table)
{
    const Part *validation = &reader->part[SPLIT_VALIDATION];
    if (validation->folder == NULL)
        return image_table_split(table, options, (HoldOut){.usual = reader->part[SPLIT_TRAIN].count / 10});
    if (options->validation >= 0)
        return fail(STATUS_INPUT,
                    "%s: %s has a folder %s, so none is held out of training: dataset.validation must stay "
                    "-1, but is "
                    "%lld",
                    name, reader->folder, validation->folder, (long long)options->validation);
    TRY(set_part(table, &reader->part[SPLIT_TRAIN], SPLIT_TRAIN, options->train_limit));
    TRY(set_part(table, validation, SPLIT_VALIDATION, options->validation_limit));
    return set_part(table, &reader->part[SPLIT_TEST], SPLIT_TEST, options->test_limit);
}

static Status fill_table(ImageTable *table, const DatasetOptions *options)
{
    const Reader *reader = table->reader;
    Normalisation normalisation;
    for (int c = 0; c < 3; ++c) {
        normalisation.mean[c] = (float)options->mean[c];
        normalisation.deviation[c] = (float)options->deviation[c];
    }
    for (int split = 0; split < SPLIT_COUNT; ++split)
        image_table_normalise(table, (Split)split, &normalisation);
    memcpy(table->label, reader->label, (size_t)reader->files.count * sizeof *table->label);
    table->class_after_class = true;
    table->dataset.prepare = prepare;
    table->dataset.class_name = (const char *const *)reader->classes.name;
    return set_splits(reader, options, table);
}

static Status reader_new(const DatasetOptions *options, Reader **out)
{
    Reader *reader;
    if (options->folder == NULL || options->folder[0] == '\0')
        return fail(STATUS_INPUT,
                    "%s: set dataset.folder to the folder that has train/CLASS/ and test/CLASS/", name);
    TRY(memory_new(&reader, 1, sizeof *reader, "reader of a folder of images"));
    Status status = file_join(reader->folder, "", options->folder);
    if (status == OK) status = read_lists(reader);
    if (status == OK) status = lazy_rows_new(reader->files.count, &reader->lazy);
    if (status != OK) {
        reader_free(reader);
        return status;
    }
    *out = reader;
    return OK;
}

Status image_folder_open(const DatasetOptions *options, Dataset **dataset)
{
    Reader *reader;
    TRY(reader_new(options, &reader));
    const ImageTableSize size = {.name = name,
                                 .train_rows = reader->part[SPLIT_TRAIN].count,
                                 .test_rows = reader->files.count - reader->part[SPLIT_TRAIN].count,
                                 .height = options->height,
                                 .width = options->width,
                                 .channels = options->channels,
                                 .classes = reader->classes.count};
    return image_table_open(size, (LazyReader){reader, reader_free, fill_table}, options, dataset);
}
