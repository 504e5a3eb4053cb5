/* The idx format of MNIST: big-endian header, then bytes. */
#ifndef PLUMB_ENGINE_DATA_IMAGES_IDX_H
#define PLUMB_ENGINE_DATA_IMAGES_IDX_H

#include "engine/base/status.h"

#include <stdint.h>

enum { IDX_MAX_RANK = 3 };

typedef struct {
    int64_t extent[IDX_MAX_RANK]; /* of the first `rank` dimensions; each at least 1 */
    const uint8_t *data;          /* inside the bytes that were parsed */
} Idx;

/* An array of unsigned bytes with `rank` dimensions that fills `bytes` exactly. STATUS_INPUT names `name` and
 * what is wrong. */
CHECKED Status idx_parse(const char *name, const uint8_t *bytes, size_t size, int rank, Idx *);

#endif
