/* What the readers of data sets share: finding files, one table of pixels, and the splits. Internal to
 * engine/data. */
#ifndef PLUMB_ENGINE_DATA_IMAGES_READER_H
#define PLUMB_ENGINE_DATA_IMAGES_READER_H

#include "engine/data/images/dataset.h"
#include "engine/data/images/name_list.h"

#include <limits.h>

/* The readers: one row of the table in dataset.c each. */
CHECKED Status mnist_open(const DatasetOptions *, Dataset **);
CHECKED Status fashion_mnist_open(const DatasetOptions *, Dataset **);
CHECKED Status cifar10_open(const DatasetOptions *, Dataset **);
CHECKED Status cifar100_open(const DatasetOptions *, Dataset **);
CHECKED Status tiny_imagenet_open(const DatasetOptions *, Dataset **);
CHECKED Status image_folder_open(const DatasetOptions *, Dataset **);

/* ---- Files ---- */

/* Where the files of a data set may be. The lists end with NULL. */
typedef struct {
    const char *name;                /* of the data set */
    const char *const *distribution; /* folders of the distribution's packages, tried after data/NAME */
    const char *const *inside;       /* sub-folders that its archive makes */
    const char *const *mark;         /* a folder that holds one of these files is the one */
    const char *package;             /* of the distribution, for the message; or NULL */
} Home;

/* The folder that holds the files: `folder`, or the usual places when that is empty; or a sub-folder. The
 * error says where it looked and what fetches the files. */
CHECKED Status home_find(const Home *, const char *folder, char found[PATH_MAX]);

/* The whole of folder/file, which may not be empty; release with free(). `path` becomes its name. */
CHECKED Status home_read(const Home *, const char *folder, const char *file, size_t limit,
                         char path[PATH_MAX], char **data, size_t *size);

/* The image files in a folder and its sub-folders, by their paths in `folder` that begin with `inside` ("" or "train/cat"), sorted
 * by bytes, so that the order does not depend on the machine. Other files, and names that begin with a dot, are passed over.
 * Appends. */
CHECKED Status home_list_images(const char *folder, const char *inside, NameList *);
/* The sub-folders of folder/inside, sorted, but for those that begin with a dot. Appends. */
CHECKED Status home_list_folders(const char *folder, const char *inside, NameList *);

/* The error for a file that is not there. */
CHECKED Status home_missing(const Home *, const char *folder, const char *file);

/* ---- Names of classes, in the order of the labels ---- */

extern const char *const digit_names[], *const fashion_names[], *const cifar10_names[],
                                                                    *const cifar100_names[];

/* ---- The table of pixels ---- */

typedef struct ImageTable {
    Dataset dataset; /* dataset.implementation points back here */
    uint8_t
        *pixels; /* [rows,H,W,C]: training rows first, then test rows; pages never written take no memory */
    int32_t *label; /* [rows], filled in by the reader */
    int64_t rows, train_rows;
    bool class_after_class; /* so lie the rows: the first ones would be of few classes */
    int64_t *split_row[SPLIT_COUNT];
    int32_t *split_label[SPLIT_COUNT];
    void *reader; /* what a lazy reader keeps, and its release */
    void (*reader_free)(void *);
} ImageTable;

typedef struct {
    const char *name;
    int64_t train_rows, test_rows, height, width, channels, classes;
} ImageTableSize;

CHECKED Status image_table_new(ImageTableSize, ImageTable **);
/* The same for a reader that stays, to decode images when they are asked for. `fill` sets labels, normalisation, splits and
 * dataset.prepare. The reader belongs to the table from then on, and is released when this fails. */
typedef struct {
    void *reader;
    void (*free)(void *reader);
    Status (*fill)(ImageTable *, const DatasetOptions *); /* finds the reader in table->reader */
} LazyReader;
CHECKED Status image_table_open(ImageTableSize, LazyReader, const DatasetOptions *, Dataset **);
void image_table_free(ImageTable *);               /* NULL is allowed */
int64_t image_table_row_bytes(const ImageTable *); /* H * W * C */

/* CIFAR's constants are the published code's: those of CIFAR-10, for both sets. */
extern const Normalisation imagenet_normalisation, cifar_normalisation, mnist_normalisation,
    fashion_mnist_normalisation;
void image_table_normalise(ImageTable *, Split, const Normalisation *);

/* How many samples are held out of training when the options leave it open. */
typedef struct {
    int64_t usual;                 /* samples; of each class if by class */
    const char *const *class_name; /* [classes]: hold out the same number of each class; NULL: of all */
} HoldOut;

/* Gives the split the first `limit` (0: all) of `count` rows; where these lie class after class, as many at random, in their
 * order, the same in every run. */
CHECKED Status image_table_set_split(ImageTable *, Split, const int64_t rows[], int64_t count, int64_t limit);

/* Fills dataset.split from the labels, the options and the rule. */
CHECKED Status image_table_split(ImageTable *, const DatasetOptions *, HoldOut);

/* 0..count-1 as the published code shuffles it: numpy.random.RandomState(seed).shuffle, which is MT19937
 * with masked rejection. count < 2^32. */
void numpy_shuffle(uint32_t seed, int64_t items[], int64_t count);

#endif
