/* Data sets of images: samples as bytes in one table, with labels, in three splits. */
#ifndef PLUMB_ENGINE_DATA_IMAGES_DATASET_H
#define PLUMB_ENGINE_DATA_IMAGES_DATASET_H

#include "engine/base/status.h"
#include "engine/data/source.h"

#include <stdbool.h>
#include <stdint.h>

/* One split: which rows of the table, which all splits share, and how its pixels are normalised. */
typedef struct {
    const uint8_t *table; /* [rows, height, width, channels] */
    int64_t rows;
    int64_t count;               /* samples */
    const int64_t *row;          /* [count] row of the table of sample i */
    const int32_t *label;        /* [count] */
    float mean[4], deviation[4]; /* of pixel / 255 */
} DataSplit;

typedef struct Dataset {
    const char *name;
    int64_t height, width, channels, classes;
    const char *const *class_name; /* [classes], where the files name them; else NULL */
    DataSplit split[SPLIT_COUNT];
    /* Makes rows ready to be read (decodes images on first use); NULL: always ready. Thread-safe. */
    Status (*prepare)(struct Dataset *, Split, const int64_t sample[], int64_t count);
    void (*free)(struct Dataset *);
    void *implementation;
} Dataset;

typedef struct {
    const char *folder; /* where its files are */
    int64_t validation; /* samples held out of training; -1: the data set's usual number: a tenth, and 50 of
                           each class of Tiny-ImageNet. Chosen as the published code does for CIFAR: the first
                           of numpy's shuffle with seed 1; of Tiny-ImageNet the first of each class */
    int64_t train_limit, validation_limit, test_limit; /* only the first so many of each split, and
                           of image_folder, which lies class after class, so many at random; 0: all */
    bool validation_is_test; /* Tiny-ImageNet as in the published code: both are its "val" images */
    bool
        published_test_normalisation; /* CIFAR-100 as in the published code: test with ImageNet's constants */
    int64_t height, width, channels;  /* of the images of a data set that may have any */
    double mean[3], deviation[3];     /* [channels] by which such a data set is normalised, of pixel / 255 */
} DatasetOptions;

/* How pixels are normalised, per channel, of pixel / 255. */
typedef struct {
    float mean[3], deviation[3];
} Normalisation;

typedef struct {
    const char *name; /* "cifar10" */
    const char *help;
    int64_t height, width, channels,
        classes; /* as published; what its files hold may have fewer classes. 0: any */
    Status (*open)(const DatasetOptions *, Dataset **);
    bool has_validation_is_test, has_published_test_normalisation,
        has_size;                       /* do these options mean anything here? */
    const Normalisation *normalisation; /* NULL: the options have it */
    const char *const *class_name;      /* [classes] as published; NULL: the files name them */
} DatasetKind;

/* The table of data sets. */
const DatasetKind *dataset_kinds(int *count);
/* STATUS_INPUT names the nearest known name. */
CHECKED Status dataset_find(const char *name, const DatasetKind **);
/* How dataset_open would normalise the split: known without the files. */
Normalisation dataset_normalisation(const DatasetKind *, const DatasetOptions *, Split);
/* STATUS_INPUT names the nearest known name, the file that is missing or wrong, and where to get it. */
CHECKED Status dataset_open(const char *name, const DatasetOptions *, Dataset **);
void dataset_close(Dataset *); /* NULL is allowed */

#endif
