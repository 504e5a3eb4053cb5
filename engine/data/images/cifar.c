#include "engine/data/images/cifar.h"

#include "engine/base/file.h"
#include "engine/data/images/reader.h"

#include <stdlib.h>

enum { TRAIN_RECORDS = 50000, TEST_RECORDS = 10000, MOST_FILES = 6 };

const CifarFormat cifar10_format = {1, {10, 0}, {"labels", NULL}};
const CifarFormat cifar100_format = {2, {20, 100}, {"coarse_labels", "fine_labels"}};

static size_t record_bytes(const CifarFormat *format)
{
    return (size_t)format->label_bytes + CIFAR_PIXEL_BYTES;
}

Status cifar_count(const char *name, size_t size, const CifarFormat *format, int64_t *count)
{
    const size_t record = record_bytes(format);
    *count = 0;
    if (size == 0 || size % record != 0)
        return fail(
            STATUS_INPUT,
            "%s: %zu bytes are not a whole number of records of %zu bytes: the file is cut short, or of "
            "another format",
            name, size, record);
    *count = (int64_t)(size / record);
    return OK;
}

/* Red, green and blue planes to red, green, blue of each pixel. */
static void interleave(const uint8_t *restrict planes, uint8_t *restrict pixels)
{
    enum { PLANE = CIFAR_SIDE * CIFAR_SIDE };
    for (int i = 0; i < PLANE; ++i) {
        pixels[3 * i] = planes[i];
        pixels[3 * i + 1] = planes[PLANE + i];
        pixels[3 * i + 2] = planes[2 * PLANE + i];
    }
}

Status cifar_decode(const char *name, const uint8_t *bytes, int64_t count, const CifarFormat *format,
                    uint8_t *pixels, int32_t *labels)
{
    for (int64_t i = 0; i < count; ++i) {
        const uint8_t *record = bytes + (size_t)i * record_bytes(format);
        for (int k = 0; k < format->label_bytes; ++k)
            if (record[k] >= format->classes[k])
                return fail(STATUS_INPUT, "%s: record %lld: label %d is outside 0..%d", name, (long long)i,
                            record[k], format->classes[k] - 1);
        labels[i] = record[format->label_bytes - 1];
        interleave(record + format->label_bytes, pixels + i * CIFAR_PIXEL_BYTES);
    }
    return OK;
}

/* One of the two data sets: the test file is the last. */
typedef struct {
    Home home;
    const CifarFormat *format;
    int classes, file_count;
    const char *file[MOST_FILES];        /* of the binary version */
    const char *python_file[MOST_FILES]; /* the same of the Python version */
    int most_records[MOST_FILES];        /* of each file, in the original */
} Cifar;

typedef struct {
    char path[PATH_MAX];
    char *bytes;
    int64_t count;
} Records;

/* A file cut at the end of a record has the right shape; only beside the others it is seen to be short. Sets
 * smaller than the original are read too, in the same proportions. */
static Status check_proportions(const Cifar *cifar, const Records file[])
{
    const int last = cifar->file_count - 1;
    for (int i = 0; i < last; ++i) {
        const int64_t ratio = cifar->most_records[i] / cifar->most_records[last];
        if (file[i].count != file[last].count * ratio)
            return fail(STATUS_INPUT,
                        "%s holds %lld records and %s %lld, but it should be %lld times as many: one is cut "
                        "short, or not of this set",
                        file[i].path, (long long)file[i].count, file[last].path, (long long)file[last].count,
                        (long long)ratio);
    }
    return OK;
}

/* Reads one file of either version as binary records. */
static Status read_records(const Cifar *cifar, const char *folder, bool python, int i, Records *file,
                           size_t *size)
{
    enum {
        PYTHON_MORE = 256,
        PYTHON_HEAD = 1 << 16
    }; /* a name and numbers for each image; keys and the like */
    const size_t more = python ? PYTHON_MORE : 0;
    const size_t most =
        (size_t)cifar->most_records[i] * (record_bytes(cifar->format) + more) + (python ? PYTHON_HEAD : 0);
    const char *name = python ? cifar->python_file[i] : cifar->file[i];
    TRY(home_read(&cifar->home, folder, name, most, file->path, &file->bytes, size));
    if (!python) return OK;
    char *pickle = file->bytes;
    Status status = cifar_records_of_pickle(file->path, (const uint8_t *)pickle, *size, cifar->format,
                                            &file->bytes, size);
    free(pickle);
    return status;
}

/* The binary version where a folder has both. */
static Status is_python(const Cifar *cifar, const char *folder, bool *python)
{
    char path[PATH_MAX];
    TRY(file_join(path, folder, cifar->file[0]));
    *python = !file_exists(path);
    return OK;
}

static Status open_files(const Cifar *cifar, const DatasetOptions *options, Records file[], ImageTable **out)
{
    const int last = cifar->file_count - 1;
    char folder[PATH_MAX];
    TRY(home_find(&cifar->home, options->folder, folder));
    bool python;
    TRY(is_python(cifar, folder, &python));
    int64_t rows = 0;
    for (int i = 0; i <= last; ++i) {
        size_t size;
        TRY(read_records(cifar, folder, python, i, &file[i], &size));
        TRY(cifar_count(file[i].path, size, cifar->format, &file[i].count));
        rows += file[i].count;
    }
    TRY(check_proportions(cifar, file));
    const ImageTableSize size = {.name = cifar->home.name,
                                 .train_rows = rows - file[last].count,
                                 .test_rows = file[last].count,
                                 .height = CIFAR_SIDE,
                                 .width = CIFAR_SIDE,
                                 .channels = 3,
                                 .classes = cifar->classes};
    TRY(image_table_new(size, out));
    ImageTable *table = *out;
    int64_t row = 0;
    for (int i = 0; i <= last; ++i) {
        TRY(cifar_decode(file[i].path, (const uint8_t *)file[i].bytes, file[i].count, cifar->format,
                         table->pixels + row * CIFAR_PIXEL_BYTES, table->label + row));
        row += file[i].count;
    }
    return image_table_split(table, options, (HoldOut){.usual = size.train_rows / 10});
}

static Status cifar_open(const Cifar *cifar, const DatasetOptions *options, ImageTable **table)
{
    *table = NULL;
    Records *file = calloc(MOST_FILES, sizeof *file);
    Status status = file == NULL ? fail(STATUS_MEMORY, "%s: no memory", cifar->home.name)
                                 : open_files(cifar, options, file, table);
    for (int i = 0; file != NULL && i < cifar->file_count; ++i)
        free(file[i].bytes);
    free(file);
    if (status != OK) {
        image_table_free(*table);
        *table = NULL;
        return status;
    }
    for (int split = 0; split < SPLIT_COUNT; ++split)
        image_table_normalise(*table, (Split)split, &cifar_normalisation);
    return OK;
}

static const char *const no_folders[] = {NULL};

Status cifar10_open(const DatasetOptions *options, Dataset **dataset)
{
    static const char *const inside[] = {"cifar-10-batches-bin", "cifar-10-batches-py", NULL};
    static const char *const mark[] = {"data_batch_1.bin", "data_batch_1", NULL};
    enum { PER_FILE = TRAIN_RECORDS / 5 };
    static const Cifar cifar = {
        .home = {"cifar10", no_folders, inside, mark, NULL},
        .format = &cifar10_format,
        .classes = 10,
        .file_count = 6,
        .file = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin",
                 "data_batch_5.bin", "test_batch.bin"},
        .python_file = {"data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5",
                        "test_batch"},
        .most_records = {PER_FILE, PER_FILE, PER_FILE, PER_FILE, PER_FILE, TEST_RECORDS}};
    ImageTable *table;
    TRY(cifar_open(&cifar, options, &table));
    *dataset = &table->dataset;
    return OK;
}

Status cifar100_open(const DatasetOptions *options, Dataset **dataset)
{
    static const char *const inside[] = {"cifar-100-binary", "cifar-100-python", NULL};
    static const char *const mark[] = {"train.bin", "train", NULL};
    static const Cifar cifar = {.home = {"cifar100", no_folders, inside, mark, NULL},
                                .format = &cifar100_format,
                                .classes = 100,
                                .file_count = 2,
                                .file = {"train.bin", "test.bin"},
                                .python_file = {"train", "test"},
                                .most_records = {TRAIN_RECORDS, TEST_RECORDS}};
    ImageTable *table;
    TRY(cifar_open(&cifar, options, &table));
    if (options->published_test_normalisation)
        image_table_normalise(table, SPLIT_TEST, &imagenet_normalisation);
    *dataset = &table->dataset;
    return OK;
}
