/* The pixels of a data set, where the device reads them.
 *
 * On a CPU that is the data set's own table. On a GPU it is a copy of the whole table, made once; or, of a
 * table that would take more than a quarter of the GPU's memory, the rows of the batch at hand, copied before
 * each run. */
#ifndef PLUMB_LAUNCH_TRAIN_PIXELS_H
#define PLUMB_LAUNCH_TRAIN_PIXELS_H

#include "engine/data/images/dataset.h"
#include "engine/device/device.h"

typedef struct Pixels Pixels;
/* The data set and the device must outlive it. most: samples of the largest batch. */
CHECKED Status pixels_open(Device *, Dataset *, int64_t most, Pixels **);
void pixels_close(Pixels *); /* NULL is allowed */

/* Rows of the table that a plan for batches of `batch` samples reads. */
int64_t pixels_rows(const Pixels *, Split, int64_t batch);

/* Makes samples ready whose rows are row[0 .. count), and enqueues their indices in the plan's table to
 * `index` (device memory, INT64 [count]). *table: what to bind to the plan's table, UINT8 [pixels_rows, H, W,
 * C]; it is the same for the same split in every call. sample: their numbers in the split; NULL: they are
 * prepared already. */
CHECKED Status pixels_batch(Pixels *, Split, const int64_t row[], const int64_t sample[], int64_t count,
                            int64_t *index, const void **table);

#endif
