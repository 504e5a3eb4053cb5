/* A reader of the few pickles that CIFAR's Python version consists of: dictionaries of texts, lists of whole numbers and
 * arrays of bytes, as Python 2 wrote them in protocol 2. Nothing is run: a pickle may name three things of numpy, which
 * stand for an array and its type, and everything else is refused by name. */
#ifndef PLUMB_ENGINE_DATA_IMAGES_PICKLE_H
#define PLUMB_ENGINE_DATA_IMAGES_PICKLE_H

#include "engine/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Pickle Pickle;

/* `bytes` must outlive the pickle. STATUS_INPUT names the file, the byte and the opcode. */
CHECKED Status pickle_parse(const char *name, const uint8_t *bytes, size_t size, Pickle **);
void pickle_free(Pickle *); /* NULL is allowed */

/* The list of whole numbers under `key` of the dictionary that the pickle is: [*count], released with free().
 * STATUS_INPUT: the pickle is no dictionary, or holds no such list. */
CHECKED Status pickle_integers(const Pickle *, const char *key, int64_t **values, int64_t *count);

/* The two-dimensional array of bytes (numpy's uint8) under `key`; data points into the pickle's bytes. */
typedef struct {
    const uint8_t *data; /* rows * columns bytes */
    int64_t rows, columns;
    bool columns_first; /* Fortran order */
} PickleArray;
CHECKED Status pickle_array(const Pickle *, const char *key, PickleArray *);

#endif
