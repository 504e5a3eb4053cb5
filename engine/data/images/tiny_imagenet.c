/* Tiny-ImageNet as its archive unpacks: a folder of small JPEG files. Opening reads only lists; an image is
 * decoded when a batch first asks for it, by whichever loader thread that is, and then stays in the table. */
#include "engine/data/images/tiny_imagenet.h"

#include "engine/base/file.h"
#include "engine/base/memory.h"
#include "engine/data/images/jpeg.h"
#include "engine/data/images/lazy_rows.h"
#include "engine/data/images/reader.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    SIDE = 64,
    HELD_OUT_PER_CLASS = 50,
    MOST_TEXT_BYTES = 64 << 20,
    MOST_IMAGE_BYTES = 1 << 20,
    MOST_CLASSES = 1 << 16
};

typedef struct {
    char folder[PATH_MAX];
    NameList classes;
    NameList train, test; /* files, training ones class after class */
    int32_t *train_label, *test_label;
    size_t train_label_capacity;
    LazyRows *lazy;
} Reader;

static const char *const no_folders[] = {NULL};
static const char *const inside[] = {"tiny-imagenet-200", NULL};
static const char *const mark[] = {"wnids.txt", NULL};
static const Home home = {"tiny_imagenet", no_folders, inside, mark, NULL};

static void reader_free(void *pointer)
{
    Reader *reader = pointer;
    name_list_free(&reader->classes);
    name_list_free(&reader->train);
    name_list_free(&reader->test);
    free(reader->train_label);
    free(reader->test_label);
    lazy_rows_free(reader->lazy);
    free(reader);
}

/* ---- Lists ---- */

static int is_image(const struct dirent *entry)
{
    const char *dot = strrchr(entry->d_name, '.');
    return entry->d_name[0] != '.' && dot != NULL &&
           (strcasecmp(dot, ".jpeg") == 0 || strcasecmp(dot, ".jpg") == 0);
}

/* By bytes, whatever the locale: the order of samples must not depend on the machine. */
static int compare_entries(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static Status append_image(Reader *reader, const char *file, int32_t label)
{
    NameList *list = &reader->train;
    const size_t needed = (size_t)list->count + 1;
    TRY(memory_grow(&reader->train_label, &reader->train_label_capacity, needed, sizeof *reader->train_label,
                    "labels"));
    TRY(memory_grow(&list->name, &list->capacity, needed, sizeof *list->name, "names of images"));
    TRY(text_copy(file, &list->name[list->count]));
    reader->train_label[list->count++] = label;
    return OK;
}

static Status class_folder(const Reader *reader, int32_t label, char folder[PATH_MAX])
{
    char train[PATH_MAX], class_path[PATH_MAX];
    TRY(file_join(train, reader->folder, "train"));
    TRY(file_join(class_path, train, reader->classes.name[label]));
    return file_join(folder, class_path, "images");
}

static Status list_class(Reader *reader, int32_t label)
{
    char folder[PATH_MAX];
    TRY(class_folder(reader, label, folder));
    struct dirent **entry = NULL;
    const int count = scandir(folder, &entry, is_image, compare_entries);
    if (count < 0)
        return fail(STATUS_INPUT, "%s: cannot list %s: %s\nlaunch/get_data.sh %s fetches the whole set",
                    home.name, folder, strerror(errno), home.name);
    Status status = OK;
    if (count == 0) status = fail(STATUS_INPUT, "%s: no JPEG files in %s", home.name, folder);
    for (int i = 0; i < count; ++i) {
        if (status == OK) status = append_image(reader, entry[i]->d_name, label);
        free(entry[i]);
    }
    free(entry);
    return status;
}

static Status test_path(const Reader *reader, int64_t index, char path[PATH_MAX])
{
    char images[PATH_MAX];
    TRY(file_join(images, reader->folder, "val/images"));
    return file_join(path, images, reader->test.name[index]);
}

/* Better now than after the first epoch. */
static Status check_test_files(const Reader *reader)
{
    for (int64_t i = 0; i < reader->test.count; ++i) {
        char path[PATH_MAX];
        TRY(test_path(reader, i, path));
        if (!file_exists(path))
            return fail(STATUS_INPUT, "%s: %s is listed in val_annotations.txt but missing", home.name, path);
    }
    return OK;
}

static Status read_lists(Reader *reader)
{
    char path[PATH_MAX];
    char *text;
    size_t size;
    TRY(home_read(&home, reader->folder, "wnids.txt", MOST_TEXT_BYTES, path, &text, &size));
    Status status = tiny_imagenet_parse_classes(path, text, size, &reader->classes);
    free(text);
    TRY(status);
    if (reader->classes.count > MOST_CLASSES)
        return fail(STATUS_INPUT, "%s: %lld classes are more than %d", path, (long long)reader->classes.count,
                    MOST_CLASSES);
    for (int32_t label = 0; label < reader->classes.count; ++label)
        TRY(list_class(reader, label));
    TRY(home_read(&home, reader->folder, "val/val_annotations.txt", MOST_TEXT_BYTES, path, &text, &size));
    status = tiny_imagenet_parse_annotations(path, text, size, &reader->classes, &reader->test,
                                             &reader->test_label);
    free(text);
    TRY(status);
    return check_test_files(reader);
}

/* ---- Decoding ---- */

static Status decode_row(const ImageTable *table, int64_t row)
{
    const Reader *reader = table->reader;
    char path[PATH_MAX];
    if (row < table->train_rows) {
        char folder[PATH_MAX];
        TRY(class_folder(reader, table->label[row], folder));
        TRY(file_join(path, folder, reader->train.name[row]));
    } else {
        TRY(test_path(reader, row - table->train_rows, path));
    }
    char *bytes;
    size_t size;
    TRY(file_read(path, MOST_IMAGE_BYTES, &bytes, &size));
    Status status = jpeg_decode(path, (const uint8_t *)bytes, size, SIDE, SIDE, 3,
                                table->pixels + row * image_table_row_bytes(table));
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

static Status reader_new(const DatasetOptions *options, Reader **out)
{
    Reader *reader;
    TRY(memory_new(&reader, 1, sizeof *reader, "reader of Tiny-ImageNet"));
    Status status = home_find(&home, options->folder, reader->folder);
    if (status == OK) status = read_lists(reader);
    if (status == OK) status = lazy_rows_new(reader->train.count + reader->test.count, &reader->lazy);
    if (status != OK) {
        reader_free(reader);
        return status;
    }
    *out = reader;
    return OK;
}

static Status fill_table(ImageTable *table, const DatasetOptions *options)
{
    const Reader *reader = table->reader;
    memcpy(table->label, reader->train_label, (size_t)reader->train.count * sizeof *table->label);
    memcpy(table->label + table->train_rows, reader->test_label,
           (size_t)reader->test.count * sizeof *table->label);
    for (int split = 0; split < SPLIT_COUNT; ++split)
        image_table_normalise(table, (Split)split, &imagenet_normalisation);
    table->dataset.prepare = prepare;
    table->dataset.class_name = (const char *const *)reader->classes.name;
    return image_table_split(
        table, options,
        (HoldOut){.usual = HELD_OUT_PER_CLASS, .class_name = (const char *const *)reader->classes.name});
}

Status tiny_imagenet_open(const DatasetOptions *options, Dataset **dataset)
{
    Reader *reader;
    TRY(reader_new(options, &reader));
    const ImageTableSize size = {.name = home.name,
                                 .train_rows = reader->train.count,
                                 .test_rows = reader->test.count,
                                 .height = SIDE,
                                 .width = SIDE,
                                 .channels = 3,
                                 .classes = reader->classes.count};
    return image_table_open(size, (LazyReader){reader, reader_free, fill_table}, options, dataset);
}
