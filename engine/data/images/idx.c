#include "engine/data/images/idx.h"

#include "engine/base/file.h"
#include "engine/data/images/reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    UNSIGNED_BYTE = 8, /* idx's code of the element type */
    SIDE = 28,
    CLASSES = 10,
    MOST_BYTES = 64 << 20 /* of a file, decompressed; the largest original has 47,040,016 */
};

static uint32_t big_endian(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

Status idx_parse(const char *name, const uint8_t *bytes, size_t size, int rank, Idx *idx)
{
    *idx = (Idx){.data = NULL};
    if (rank < 1 || rank > IDX_MAX_RANK) return fail(STATUS_INTERNAL, "idx: rank %d", rank);
    const size_t header = 4 + 4 * (size_t)rank;
    if (size < header)
        return fail(STATUS_INPUT, "%s: %zu bytes, but the header alone takes %zu: the file is cut short",
                    name, size, header);
    if (bytes[0] != 0 || bytes[1] != 0 || bytes[2] != UNSIGNED_BYTE || bytes[3] != rank)
        return fail(STATUS_INPUT,
                    "%s: wrong magic number 0x%08x, 0x%08x expected: not an idx file of bytes with "
                    "%d dimensions",
                    name, (unsigned)big_endian(bytes), (unsigned)(UNSIGNED_BYTE << 8 | rank), rank);
    uint64_t total = 1;
    for (int i = 0; i < rank; ++i) {
        const uint32_t extent = big_endian(bytes + 4 + 4 * i);
        if (extent == 0) return fail(STATUS_INPUT, "%s: the header says that dimension %d is 0", name, i);
        if (__builtin_mul_overflow(total, (uint64_t)extent, &total))
            return fail(STATUS_INPUT, "%s: the header's dimensions are more than any memory holds", name);
        idx->extent[i] = extent;
    }
    const uint64_t held = size - header;
    if (held != total)
        return fail(STATUS_INPUT, "%s: %llu bytes of data, but the header says %llu: the file %s", name,
                    (unsigned long long)held, (unsigned long long)total,
                    held < total ? "is cut short" : "has more than belongs to it");
    idx->data = bytes + header;
    return OK;
}

/* One of the four files, with what it was read into. */
typedef struct {
    char path[PATH_MAX];
    char *bytes;
    Idx idx;
} IdxFile;

static Status file_load(const Home *home, const char *folder, const char *name, int rank, IdxFile *file)
{
    char zipped[64], plain_path[PATH_MAX];
    (void)snprintf(zipped, sizeof zipped, "%s.gz", name);
    TRY(file_join(plain_path, folder, name));
    TRY(file_join(file->path, folder, zipped));
    if (file_exists(plain_path) || !file_exists(file->path)) zipped[strlen(name)] = '\0';
    size_t size;
    TRY(home_read(home, folder, zipped, MOST_BYTES, file->path, &file->bytes, &size));
    return idx_parse(file->path, (const uint8_t *)file->bytes, size, rank, &file->idx);
}

/* The images and labels of the training or the test part, which must belong together. */
typedef struct {
    IdxFile images, labels;
} Part;

static Status part_load(const Home *home, const char *folder, const char *images, const char *labels,
                        Part *part)
{
    TRY(file_load(home, folder, images, 3, &part->images));
    TRY(file_load(home, folder, labels, 1, &part->labels));
    const int64_t *extent = part->images.idx.extent;
    if (extent[1] != SIDE || extent[2] != SIDE)
        return fail(STATUS_INPUT, "%s: images of %lldx%lld pixels, %dx%d expected", part->images.path,
                    (long long)extent[1], (long long)extent[2], SIDE, SIDE);
    if (extent[0] != part->labels.idx.extent[0])
        return fail(STATUS_INPUT, "%s holds %lld images, but %s holds %lld labels", part->images.path,
                    (long long)extent[0], part->labels.path, (long long)part->labels.idx.extent[0]);
    for (int64_t i = 0; i < extent[0]; ++i)
        if (part->labels.idx.data[i] >= CLASSES)
            return fail(STATUS_INPUT, "%s: label %d of sample %lld is outside 0..%d", part->labels.path,
                        part->labels.idx.data[i], (long long)i, CLASSES - 1);
    return OK;
}

static void part_free(Part *part)
{
    free(part->images.bytes);
    free(part->labels.bytes);
    free(part);
}

static void copy_part(const Part *part, ImageTable *table, int64_t first_row)
{
    const int64_t count = part->images.idx.extent[0];
    memcpy(table->pixels + first_row * SIDE * SIDE, part->images.idx.data, (size_t)(count * SIDE * SIDE));
    for (int64_t i = 0; i < count; ++i)
        table->label[first_row + i] = part->labels.idx.data[i];
}

static Status open_parts(const Home *home, const DatasetOptions *options, const Normalisation *normalisation,
                         Part *train, Part *test, ImageTable **table)
{
    char folder[PATH_MAX];
    TRY(home_find(home, options->folder, folder));
    TRY(part_load(home, folder, "train-images-idx3-ubyte", "train-labels-idx1-ubyte", train));
    TRY(part_load(home, folder, "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", test));
    const ImageTableSize size = {.name = home->name,
                                 .train_rows = train->images.idx.extent[0],
                                 .test_rows = test->images.idx.extent[0],
                                 .height = SIDE,
                                 .width = SIDE,
                                 .channels = 1,
                                 .classes = CLASSES};
    TRY(image_table_new(size, table));
    copy_part(train, *table, 0);
    copy_part(test, *table, size.train_rows);
    for (int split = 0; split < SPLIT_COUNT; ++split)
        image_table_normalise(*table, (Split)split, normalisation);
    /* A tenth, as the published code holds out of CIFAR. */
    return image_table_split(*table, options, (HoldOut){.usual = size.train_rows / 10});
}

static Status idx_open(const Home *home, const DatasetOptions *options, const Normalisation *normalisation,
                       Dataset **dataset)
{
    Part *train = calloc(1, sizeof *train), *test = calloc(1, sizeof *test);
    ImageTable *table = NULL;
    Status status = train == NULL || test == NULL
                        ? fail(STATUS_MEMORY, "%s: no memory", home->name)
                        : open_parts(home, options, normalisation, train, test, &table);
    if (train != NULL) part_free(train);
    if (test != NULL) part_free(test);
    if (status == OK)
        *dataset = &table->dataset;
    else
        image_table_free(table);
    return status;
}

static const char *const no_folders[] = {NULL};
static const char *const marks[] = {"train-images-idx3-ubyte.gz", "train-images-idx3-ubyte", NULL};

Status mnist_open(const DatasetOptions *options, Dataset **dataset)
{
    static const Home home = {"mnist", no_folders, no_folders, marks, NULL};
    return idx_open(&home, options, &mnist_normalisation, dataset);
}

Status fashion_mnist_open(const DatasetOptions *options, Dataset **dataset)
{
    static const char *const distribution[] = {"/usr/share/datasets/fashion-mnist", NULL};
    static const Home home = {"fashion_mnist", distribution, no_folders, marks, "dataset-fashion-mnist"};
    return idx_open(&home, options, &fashion_mnist_normalisation, dataset);
}
