/* A rank's share of a set of logits and labels, as evaluation takes it: rows as they lie in a file or a
 * buffer, never copied as a whole. */
#ifndef PLUMB_LOSSES_CALIBRATION_LOGITS_H
#define PLUMB_LOSSES_CALIBRATION_LOGITS_H

#include "engine/base/dtype.h"
#include "engine/base/shared_function.h"
#include "engine/base/status.h"
#include "engine/data/source.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

/* A row of probabilities sums to 1 within this: float16 leaves as much. Rows are divided by their sum. */
#define PROBABILITY_TOLERANCE 1e-3

typedef struct {
    const char *name;       /* for messages: the file, or "test" */
    const char *label_name; /* likewise of the labels; NULL: the same */
    DType type;             /* FLOAT32 or FLOAT64 */
    const void *values;     /* [count, classes]; NULL where only the labels are meant */
    bool probabilities;     /* values are probabilities, whose logarithms are the logits */
    DType label_type;       /* UINT8, INT32 or INT64 */
    const void *labels;     /* [count]; NULL for a set without labels (out of distribution) */
    int64_t count;          /* rows of this rank; may be 0 */
    int64_t first;          /* index of its first row in the whole set */
    int64_t total;          /* rows of the whole set, over all ranks */
    int64_t classes;        /* at least 2 */
    const int64_t *number;  /* [count]: what messages call the rows; NULL: first, first + 1, ... */
} Logits;

static inline int64_t logits_row_number(const Logits *logits, int64_t row)
{
    return logits->number != NULL ? logits->number[row] : logits->first + row;
}

/* A logit in double precision; of probabilities the logarithm, -infinity where the probability is 0. */
static inline double logits_value(const Logits *logits, int64_t row, int64_t column)
{
    const int64_t at = row * logits->classes + column;
    const double value = logits->type == FLOAT32 ? (double)((const float *)logits->values)[at]
                                                 : ((const double *)logits->values)[at];
    return logits->probabilities ? log(value) : value;
}

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

/* Rows as a network makes them, batch by batch: labels and weights lie where the logits do, in the memory of one
 * device. */
typedef struct {
    const float *logits;   /* [rows, classes] */
    const int32_t *labels; /* [rows] */
    const float
        *weights; /* [rows] of 1, which counts a row, and 0, which leaves it out whatever it holds (padding, a
                              node without a label); NULL: all 1 */
    int64_t rows;
    int64_t first;         /* what messages call the first row */
    const int64_t *number; /* [rows] what they call each, with the labels; NULL: first, first + 1, ... */
} LogitRows;

SHARED_FUNCTION int64_t logit_rows_number(const LogitRows *rows, int64_t row)
{
    return rows->number != NULL ? rows->number[row] : rows->first + row;
}

/* A logit of -infinity masks its class: the probability is exactly 0. STATUS_NUMERIC names row and column of the first
 * NaN or +infinity of this rank's rows, or the first row without a finite logit; STATUS_INPUT the row of the first
 * label outside [0, classes). Rows are counted in the whole set. Of probabilities STATUS_INPUT names the first row with a
 * number that is none or with a sum other than 1. Also shapes and types. Not collective: the caller
 * makes the ranks agree. threads: 0 means as OpenMP says. */
CHECKED Status logits_check(const Logits *, int threads);
/* The same of rows in host memory, but for those of weight 0. A weight other than 0 and 1 is a STATUS_INPUT. */
CHECKED Status logit_rows_check(const char *name, int64_t classes, const LogitRows *, int threads);

/* What is wrong with a row: the two checks above, and a GPU, report it by these numbers. */
typedef enum { ROW_NAN, ROW_INFINITE, ROW_NOT_FINITE, ROW_LABEL, ROW_WEIGHT, ROW_FAULTS } RowFault;
/* row: in the whole set. column: of a NaN or an infinity. value: the label or weight. */
CHECKED Status row_fail(const char *name, int64_t classes, RowFault, int64_t row, int64_t column,
                        double value);

#endif
