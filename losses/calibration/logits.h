/* A rank's share of a set of logits and labels, as evaluation takes it: rows as they lie in a file or a
 * buffer, never copied as a whole. */
#ifndef PLUMB_LOSSES_CALIBRATION_LOGITS_H
#define PLUMB_LOSSES_CALIBRATION_LOGITS_H

#include "engine/base/dtype.h"
#include "engine/base/status.h"

#include <stdint.h>

typedef struct {
    const char *name;       /* for messages: the file, or "test" */
    const char *label_name; /* likewise of the labels; NULL: the same */
    DType type;             /* FLOAT32 or FLOAT64 */
    const void *values;     /* [count, classes]; NULL where only the labels are meant */
    DType label_type;       /* UINT8, INT32 or INT64 */
    const void *labels;     /* [count]; NULL for a set without labels (out of distribution) */
    int64_t count;          /* rows of this rank; may be 0 */
    int64_t first;          /* index of its first row in the whole set */
    int64_t total;          /* rows of the whole set, over all ranks */
    int64_t classes;        /* at least 2 */
} Logits;

static inline int64_t logits_label(const Logits *logits, int64_t row)
{
    switch (logits->label_type) {
    case UINT8:
        return ((const uint8_t *)logits->labels)[row];
    case INT32:
        return ((const int32_t *)logits->labels)[row];
    default:
        return ((const int64_t *)logits->labels)[row];
    }
}

/* STATUS_NUMERIC names row and column of the first NaN or infinity of this rank's rows, STATUS_INPUT the row
 * of the first label outside [0, classes); rows are counted in the whole set. Also shapes and types. Not
 * collective: the caller makes the ranks agree. threads: 0 means as OpenMP says. */
CHECKED Status logits_check(const Logits *, int threads);

/* The error of a logit that is NaN or infinite; row counts in this rank's rows. */
CHECKED Status logits_fail(const Logits *, int64_t row, int64_t column, double value);

/* Rows [*first, *first + *count) of `total` belong to `rank` of `size`: contiguous, in the order of ranks. */
void logits_share(int64_t total, int rank, int size, int64_t *first, int64_t *count);

#endif
