/* Rows of a table of images that are decoded when a batch first asks for them, by whichever thread that is. */
#ifndef PLUMB_ENGINE_DATA_IMAGES_LAZY_ROWS_H
#define PLUMB_ENGINE_DATA_IMAGES_LAZY_ROWS_H

#include "engine/data/images/reader.h"

typedef struct LazyRows LazyRows;
CHECKED Status lazy_rows_new(int64_t rows, LazyRows **);
void lazy_rows_free(LazyRows *); /* NULL is allowed */

/* What Dataset.prepare does: `decode` fills in each row that no thread has filled in yet. Returns when all are there. After an
 * error the row is as it was before. Thread-safe. */
CHECKED Status lazy_rows_prepare(LazyRows *, const ImageTable *, Split, const int64_t sample[], int64_t count,
                                 Status (*decode)(const ImageTable *, int64_t row));

#endif
