#include "engine/data/images/dataset.h"

#include "engine/base/config.h"
#include "engine/data/images/reader.h"

#include <string.h>

static const DatasetKind kinds[] = {
    {.name = "mnist",
     .help = "handwritten digits, 28x28 grey, 10 classes, 60,000 + 10,000",
     .height = 28,
     .width = 28,
     .channels = 1,
     .classes = 10,
     .normalisation = &mnist_normalisation,
     .class_name = digit_names,
     .open = mnist_open},
    {.name = "fashion_mnist",
     .help = "articles of clothing, 28x28 grey, 10 classes, 60,000 + 10,000",
     .height = 28,
     .width = 28,
     .channels = 1,
     .classes = 10,
     .normalisation = &fashion_mnist_normalisation,
     .class_name = fashion_names,
     .open = fashion_mnist_open},
    {.name = "cifar10",
     .help = "photographs, 32x32 colour, 10 classes, 50,000 + 10,000",
     .height = 32,
     .width = 32,
     .channels = 3,
     .classes = 10,
     .normalisation = &cifar_normalisation,
     .class_name = cifar10_names,
     .open = cifar10_open},
    {.name = "cifar100",
     .help = "photographs, 32x32 colour, 100 classes, 50,000 + 10,000",
     .height = 32,
     .width = 32,
     .channels = 3,
     .classes = 100,
     .normalisation = &cifar_normalisation,
     .class_name = cifar100_names,
     .open = cifar100_open,
     .has_published_test_normalisation = true},
    {.name = "tiny_imagenet",
     .help = "photographs, 64x64 colour, 200 classes, 100,000 + 10,000 JPEG files",
     .height = 64,
     .width = 64,
     .channels = 3,
     .classes = 200,
     .normalisation = &imagenet_normalisation,
     .open = tiny_imagenet_open,
     .has_validation_is_test = true},
    {.name = "image_folder",
     .help = "any JPEG and PNG files: train/CLASS/*, test/CLASS/*, all of the size dataset.image_size",
     .open = image_folder_open,
     .has_size = true},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

const DatasetKind *dataset_kinds(int *count)
{
    *count = KINDS;
    return kinds;
}

Normalisation dataset_normalisation(const DatasetKind *kind, const DatasetOptions *options, Split split)
{
    Normalisation made;
    if (kind->normalisation == NULL) {
        for (int c = 0; c < 3; ++c) {
            made.mean[c] = (float)options->mean[c];
            made.deviation[c] = (float)options->deviation[c];
        }
        return made;
    }
    const bool published = kind->has_published_test_normalisation && options->published_test_normalisation;
    return published && split == SPLIT_TEST ? imagenet_normalisation : *kind->normalisation;
}

static Status unknown(const char *name)
{
    const char *known[KINDS];
    for (int i = 0; i < KINDS; ++i)
        known[i] = kinds[i].name;
    const char *nearest = config_nearest(name, known, KINDS);
    if (nearest != NULL)
        return fail(STATUS_INPUT, "there is no data set %s; did you mean %s?", name, nearest);
    return fail(STATUS_INPUT, "there is no data set %s (plumb list datasets shows all)", name);
}

Status dataset_find(const char *name, const DatasetKind **kind)
{
    *kind = NULL;
    for (int i = 0; i < KINDS && *kind == NULL; ++i)
        if (strcmp(kinds[i].name, name) == 0) *kind = &kinds[i];
    return *kind != NULL ? OK : unknown(name);
}

Status dataset_open(const char *name, const DatasetOptions *options, Dataset **dataset)
{
    const DatasetKind *kind;
    *dataset = NULL;
    const int64_t limits[] = {options->train_limit, options->validation_limit, options->test_limit};
    for (int split = 0; split < SPLIT_COUNT; ++split)
        if (limits[split] < 0)
            return fail(STATUS_INPUT, "%s: a limit of %lld %s samples is negative", name,
                        (long long)limits[split], split_name((Split)split));
    TRY(dataset_find(name, &kind));
    return kind->open(options, dataset);
}

void dataset_close(Dataset *dataset)
{
    if (dataset != NULL) dataset->free(dataset);
}
