/* CIFAR's two original formats: binary records of label bytes and three planes of pixels, and the Python version, whose
 * files are pickles of the same labels and planes. */
#ifndef PLUMB_ENGINE_DATA_IMAGES_CIFAR_H
#define PLUMB_ENGINE_DATA_IMAGES_CIFAR_H

#include "engine/base/status.h"

#include <stdint.h>

enum { CIFAR_SIDE = 32, CIFAR_PIXEL_BYTES = 3 * CIFAR_SIDE * CIFAR_SIDE };

/* The label bytes before the pixels: one, or coarse then fine. The last is the one to learn. */
typedef struct {
    int label_bytes;
    int classes[2];            /* of each label byte */
    const char *python_key[2]; /* under which the Python version has these labels */
} CifarFormat;

extern const CifarFormat cifar10_format, cifar100_format;

/* How many records `size` bytes are: at least 1, and no part of one. */
CHECKED Status cifar_count(const char *name, size_t size, const CifarFormat *, int64_t *count);

/* Reads `count` records: labels [count], and pixels [count,32,32,3] interleaved. STATUS_INPUT names the
 * record whose label is out of range. */
CHECKED Status cifar_decode(const char *name, const uint8_t *bytes, int64_t count, const CifarFormat *,
                            uint8_t *pixels, int32_t *labels);

/* A file of the Python version as the binary records of the same images; released with free(). STATUS_INPUT says what
 * such a file does not hold. */
CHECKED Status cifar_records_of_pickle(const char *name, const uint8_t *bytes, size_t size,
                                       const CifarFormat *, char **records, size_t *records_size);

#endif
