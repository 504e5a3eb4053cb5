#include "engine/data/images/outside.h"

#include "engine/base/file.h"
#include "engine/base/memory.h"
#include "engine/base/npy.h"
#include "engine/data/images/image_file.h"
#include "engine/data/images/matlab.h"
#include "engine/data/images/name_list.h"
#include "engine/data/images/noise.h"
#include "engine/data/images/reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MOST_IMAGE_BYTES = 1 << 26, MOST_NAME = 64 };

typedef struct {
    Dataset dataset; /* first; implementation points back here */
    char name[MOST_NAME];
    uint8_t *pixels;
    int64_t *row;
    int32_t *label;
} Outside;

/* What a kind of images is opened with. */
typedef struct {
    Dataset *own;
    const char *name, *from;
    uint64_t seed;
    bool *made;
    char *note; /* [OUTSIDE_NOTE] */
} Wish;

static void release(Dataset *dataset)
{
    Outside *outside = dataset->implementation;
    free(outside->pixels);
    free(outside->row);
    free(outside->label);
    free(outside);
}

static size_t image_bytes(const Dataset *dataset)
{
    return (size_t)(dataset->height * dataset->width * dataset->channels);
}

static Status allocate(const Wish *wish, int64_t count, Outside *outside)
{
    TRY(memory_new(&outside->pixels, (size_t)count, image_bytes(wish->own), "images from outside"));
    TRY(memory_new(&outside->row, (size_t)count, sizeof *outside->row, "images from outside"));
    return memory_new(&outside->label, (size_t)count, sizeof *outside->label, "images from outside");
}

/* Room for `count` images in the form of the own ones. */
static Status make_room(const Wish *wish, int64_t count, Outside **out)
{
    Outside *outside;
    const DataSplit *own = &wish->own->split[SPLIT_TEST];
    *out = NULL;
    TRY(memory_new(&outside, 1, sizeof *outside, "images from outside"));
    outside->dataset = (Dataset){.height = wish->own->height,
                                 .width = wish->own->width,
                                 .channels = wish->own->channels,
                                 .classes = wish->own->classes,
                                 .free = release,
                                 .implementation = outside};
    Status status = allocate(wish, count, outside);
    if (status != OK) {
        release(&outside->dataset);
        return status;
    }
    (void)snprintf(outside->name, sizeof outside->name, "%s", wish->name);
    outside->dataset.name = outside->name;
    for (int64_t i = 0; i < count; ++i)
        outside->row[i] = i;
    DataSplit *split = &outside->dataset.split[SPLIT_TEST];
    *split = (DataSplit){.table = outside->pixels,
                         .rows = count,
                         .count = count,
                         .row = outside->row,
                         .label = outside->label};
    memcpy(split->mean, own->mean, sizeof split->mean);
    memcpy(split->deviation, own->deviation, sizeof split->deviation);
    *out = outside;
    return OK;
}

/* What the arrays of known sets hold must be what the network takes. */
static Status check_form(const Wish *wish, const char *path, int64_t height, int64_t width, int64_t channels)
{
    const Dataset *own = wish->own;
    if (height == own->height && width == own->width && channels == own->channels) return OK;
    return fail(STATUS_INPUT,
                "%s: images of %lldx%lld pixels and %lld channel%s, but those of %s have %lldx%lld and %lld",
                path, (long long)width, (long long)height, (long long)channels, channels == 1 ? "" : "s",
                own->name, (long long)own->width, (long long)own->height, (long long)own->channels);
}

static bool is_folder(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

/* The file itself, or `inside` of a folder. */
static Status find_file(const Wish *wish, const char *from, const char *inside, char path[PATH_MAX])
{
    if (from[0] == '\0')
        return fail(STATUS_USAGE, "--ood %s=FILE: say where the file %s is", wish->name, inside);
    TRY(is_folder(from) ? file_join(path, from, inside) : file_join(path, "", from));
    return file_exists(path) ? OK : fail(STATUS_INPUT, "%s: there is no file %s", wish->name, path);
}

/* ---- SVHN ---- */

/* [height,width,channels,N], the height running fastest. */
static void take_svhn(const MatlabArray *array, uint8_t *pixels)
{
    const int64_t height = array->extent[0], width = array->extent[1], channels = array->extent[2];
    const int64_t bytes = height * width * channels, count = array->extent[3];
#pragma omp parallel for
    for (int64_t n = 0; n < count; ++n)
        for (int64_t c = 0; c < channels; ++c)
            for (int64_t x = 0; x < width; ++x)
                for (int64_t y = 0; y < height; ++y)
                    pixels[n * bytes + (y * width + x) * channels + c] =
                        array->data[y + height * (x + width * (c + channels * n))];
}

static Status find_svhn(const Wish *wish, char path[PATH_MAX])
{
    return find_file(wish, wish->from, "test_32x32.mat", path);
}

static Status open_svhn(const Wish *wish, Outside **outside)
{
    char path[PATH_MAX];
    MatlabArray array;
    TRY(find_svhn(wish, path));
    TRY(matlab_read(path, "X", &array));
    Status status =
        array.rank == 4 || array.rank == 3
            ? OK
            : fail(STATUS_INPUT, "%s: X has %d dimensions; SVHN's are height, width, channels and images",
                   path, array.rank);
    if (array.rank == 3) array.extent[3] = 1; /* MATLAB drops a last extent of 1 */
    if (status == OK) status = check_form(wish, path, array.extent[0], array.extent[1], array.extent[2]);
    if (status == OK) status = make_room(wish, array.extent[3], outside);
    if (status == OK) take_svhn(&array, (*outside)->pixels);
    free(array.data);
    TRY(status);
    (void)snprintf(wish->note, OUTSIDE_NOTE, "SVHN's cropped digits");
    return OK;
}

/* ---- CIFAR-10-C ---- */

static Status read_severity(const Wish *wish, const char *text, int *severity)
{
    if (strlen(text) == 1 && text[0] >= '1' && text[0] <= '0' + NOISE_SEVERITIES) {
        *severity = text[0] - '0';
        return OK;
    }
    return fail(STATUS_USAGE, "--ood %s: the severity is a number from 1 to %d, not \"%s\"", wish->name,
                NOISE_SEVERITIES, text);
}

/* Which rows are of the severity: blocks of 10,000, as published; a smaller file has all five, of equal size. */
static Status find_block(const char *path, int64_t rows, int severity, int64_t *first, int64_t *count)
{
    enum { PUBLISHED = 10000 };
    *count = rows % PUBLISHED == 0 ? PUBLISHED : rows / NOISE_SEVERITIES;
    *first = (severity - 1) * *count;
    if (rows % PUBLISHED != 0 && rows % NOISE_SEVERITIES != 0)
        return fail(STATUS_INPUT,
                    "%s: %lld images are neither blocks of %d, one a severity, nor five of equal size", path,
                    (long long)rows, PUBLISHED);
    if (*first + *count > rows)
        return fail(STATUS_INPUT, "%s: severity %d is not there: %lld images are severities 1 to %lld", path,
                    severity, (long long)rows, (long long)(rows / *count));
    return OK;
}

static Status take_block(const Wish *wish, const char *path, const Npy *array, int severity,
                         Outside **outside)
{
    int64_t first, count;
    if (array->type != UINT8 || strcmp(array->stored, "uint8") != 0 || array->rank != 4)
        return fail(STATUS_INPUT,
                    "%s: an array of type %s with %d dimensions; CIFAR-10-C's are uint8 [N,32,32,3]", path,
                    array->stored, array->rank);
    if (array->extent[0] < 1) return fail(STATUS_INPUT, "%s: there are no images", path);
    TRY(check_form(wish, path, array->extent[1], array->extent[2], array->extent[3]));
    TRY(find_block(path, array->extent[0], severity, &first, &count));
    TRY(make_room(wish, count, outside));
    const size_t bytes = image_bytes(wish->own);
    memcpy((*outside)->pixels, (const uint8_t *)array->data + (size_t)first * bytes, (size_t)count * bytes);
    return OK;
}

static Status find_cifar10_c(const Wish *wish, char path[PATH_MAX], int *severity)
{
    char from[PATH_MAX];
    *severity = NOISE_SEVERITIES;
    TRY(file_join(from, "", wish->from));
    char *colon = strrchr(from, ':');
    if (colon != NULL && strchr(colon, '/') == NULL && !file_exists(from)) {
        TRY(read_severity(wish, colon + 1, severity));
        *colon = '\0';
    }
    return find_file(wish, from, "gaussian_noise.npy", path);
}

static Status open_cifar10_c(const Wish *wish, Outside **outside)
{
    char path[PATH_MAX];
    int severity;
    Npy array;
    TRY(find_cifar10_c(wish, path, &severity));
    TRY(npy_open(path, &array));
    Status status = take_block(wish, path, &array, severity, outside);
    npy_close(&array);
    TRY(status);
    const char *slash = strrchr(path, '/');
    (void)snprintf(wish->note, OUTSIDE_NOTE, "CIFAR-10-C, %.150s, severity %d",
                   slash != NULL ? slash + 1 : path, severity);
    return OK;
}

/* ---- noise that is made ---- */

static Status find_noise(const Wish *wish, int *severity)
{
    *severity = NOISE_SEVERITIES;
    return wish->from[0] != '\0' ? read_severity(wish, wish->from, severity) : OK;
}

static Status prepare_own(Dataset *own)
{
    Status status = OK;
    for (int64_t i = 0; i < own->split[SPLIT_TEST].count && own->prepare != NULL && status == OK; ++i) {
        const int64_t sample[] = {i};
        status = own->prepare(own, SPLIT_TEST, sample, 1);
    }
    return status;
}

static Status open_noise(const Wish *wish, Outside **outside)
{
    Dataset *own = wish->own;
    const DataSplit *test = &own->split[SPLIT_TEST];
    const size_t bytes = image_bytes(own);
    int severity;
    TRY(find_noise(wish, &severity));
    TRY(make_room(wish, test->count, outside));
    Status status = prepare_own(own);
    if (status != OK) {
        release(&(*outside)->dataset);
        return status;
    }
    uint8_t *pixels = (*outside)->pixels;
#pragma omp parallel for
    for (int64_t i = 0; i < test->count; ++i) {
        memcpy(pixels + (size_t)i * bytes, test->table + (size_t)test->row[i] * bytes, bytes);
        noise_add(pixels + (size_t)i * bytes, (int64_t)bytes, severity, wish->seed, i);
    }
    *wish->made = true;
    (void)snprintf(
        wish->note, OUTSIDE_NOTE,
        "made here: the run's own test images with Gaussian noise of CIFAR-10-C's severity %d (s = %.2f)",
        severity, noise_deviation(severity));
    return OK;
}

/* ---- a folder ---- */

static Status read_image(const Wish *wish, const char *file, uint8_t *pixels)
{
    const Dataset *own = wish->own;
    char path[PATH_MAX];
    char *bytes;
    size_t size;
    TRY(file_join(path, wish->from, file));
    TRY(file_read(path, MOST_IMAGE_BYTES, &bytes, &size));
    Status status =
        image_file_decode(path, (const uint8_t *)bytes, size, own->height, own->width, own->channels, pixels);
    free(bytes);
    return status;
}

static Status read_files(const Wish *wish, const NameList *files, Outside **outside)
{
    if (files->count == 0)
        return fail(STATUS_INPUT, "%s: there are no JPEG or PNG files in %s", wish->name, wish->from);
    TRY(make_room(wish, files->count, outside));
    for (int64_t i = 0; i < files->count; ++i) {
        Status status =
            read_image(wish, files->name[i], (*outside)->pixels + (size_t)i * image_bytes(wish->own));
        if (status == OK) continue;
        release(&(*outside)->dataset);
        return status;
    }
    return OK;
}

static Status find_folder(const Wish *wish)
{
    if (wish->from[0] == '\0')
        return fail(
            STATUS_USAGE,
            "--ood %s=FOLDER: say which folder of images (or svhn=FOLDER, cifar10_c=FILE, gaussian_noise)",
            wish->name);
    return is_folder(wish->from) ? OK
                                 : fail(STATUS_INPUT, "%s: there is no folder %s", wish->name, wish->from);
}

static Status open_folder(const Wish *wish, Outside **outside)
{
    NameList files = {.name = NULL};
    TRY(find_folder(wish));
    Status status = home_list_images(wish->from, "", &files);
    if (status == OK) status = read_files(wish, &files, outside);
    name_list_free(&files);
    TRY(status);
    (void)snprintf(wish->note, OUTSIDE_NOTE, "the images in %.200s", wish->from);
    return OK;
}

/* ---- all kinds ---- */

static Status check_svhn(const Wish *wish)
{
    char path[PATH_MAX];
    return find_svhn(wish, path);
}

static Status check_cifar10_c(const Wish *wish)
{
    char path[PATH_MAX];
    int severity;
    return find_cifar10_c(wish, path, &severity);
}

static Status check_noise(const Wish *wish)
{
    int severity;
    return find_noise(wish, &severity);
}

/* The last row is that of all other names. */
static const struct Kind {
    const char *name;
    Status (*check)(const Wish *);
    Status (*open)(const Wish *, Outside **);
} kinds[] = {{"svhn", check_svhn, open_svhn},
             {"cifar10_c", check_cifar10_c, open_cifar10_c},
             {"gaussian_noise", check_noise, open_noise},
             {NULL, find_folder, open_folder}};

static const struct Kind *kind_of(const char *name)
{
    const struct Kind *kind = kinds;
    while (kind->name != NULL && strcmp(kind->name, name) != 0)
        ++kind;
    return kind;
}

Status outside_check(const char *name, const char *from)
{
    const Wish wish = {.name = name, .from = from};
    return kind_of(name)->check(&wish);
}

Status outside_open(Dataset *own, const char *name, const char *from, uint64_t seed, bool *made,
                    char note[OUTSIDE_NOTE], Dataset **dataset)
{
    const Wish wish = {own, name, from, seed, made, note};
    Outside *outside = NULL;
    *made = false;
    *dataset = NULL;
    if (strlen(name) >= MOST_NAME) return fail(STATUS_USAGE, "--ood: the name %.40s... is too long", name);
    TRY(kind_of(name)->open(&wish, &outside));
    *dataset = &outside->dataset;
    return OK;
}
