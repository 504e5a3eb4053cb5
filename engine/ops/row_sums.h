/* Vectors that belong to the same row of a table, added up: the work behind an embedding's gradient, and behind the
 * sum of such gradients over ranks. */
#ifndef PLUMB_ENGINE_OPS_ROW_SUMS_H
#define PLUMB_ENGINE_OPS_ROW_SUMS_H

#include "engine/base/dtype.h"
#include "engine/device/device.h"

#include <stdbool.h>
#include <stdint.h>

/* A list of rows in one array: element 0 says how many, those from here on which. */
enum { ROW_LIST_HEAD = 16 };

/* All pointers are device memory. The vectors of a row are added in float64, in the order in which they stand, so that
 * the result depends neither on threads nor on which other rows there are. */
typedef struct {
    int64_t count; /* vectors */
    int64_t rows;  /* of the table */
    int64_t columns;
    int64_t
        skipped_row; /* its vectors are passed over, as are those of rows that the table lacks; -1: none */
    double scale;    /* of each sum */
    DType type;      /* of the vectors */
    /* The row of each vector: [count]; or if list_rows > 0 lists one after the other, each with room for so many rows
     * and followed, as vectors are, by the next after that many. */
    const int32_t *index;
    int64_t list_rows;
    const void *vector; /* [count, columns] */
    bool whole; /* sum is the whole table, as `start` where there is no vector; else [most, columns]: */
    const float *start; /* whole: what the sums are added to, which may be `sum` itself; NULL: zeros */
    float *sum;
    int32_t *row;   /* [most], most = min(count, rows): which rows, ascending, each once. Unless whole */
    int32_t *found; /* [1]: how many. Unless whole */
    void *scratch;  /* row_sums_scratch(count) bytes */
} RowSums;

size_t row_sums_scratch(int64_t count);
/* Enqueues it. */
CHECKED Status row_sums_cpu(Device *, const RowSums *);
CHECKED Status row_sums_cuda(Device *, const RowSums *) __attribute__((weak));

#endif
