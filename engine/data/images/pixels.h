/* The pixels of a data set, where the device reads them.
 *
 * On a CPU that is the data set's own table. On a GPU it is a copy of the whole table, made once; or, where the tables
 * would take more than a quarter of the GPU's memory, nothing stays there: batches bring their rows along (the field
 * "table" of an image source). */
#ifndef PLUMB_ENGINE_DATA_IMAGES_PIXELS_H
#define PLUMB_ENGINE_DATA_IMAGES_PIXELS_H

#include "engine/data/images/dataset.h"
#include "engine/device/device.h"

typedef struct Pixels Pixels;
/* The data set and the device must outlive it. Copying has all images decoded first. */
CHECKED Status pixels_open(Device *, Dataset *, Pixels **);
void pixels_close(Pixels *); /* NULL is allowed */

/* Do batches bring their rows along? */
bool pixels_are_streamed(const Pixels *);
/* Must samples be made ready (Dataset.prepare) before a batch of them is used? Not if all are in a copy. */
bool pixels_are_lazy(const Pixels *);
/* The split's table in the device's memory, UINT8 [rows, H, W, C]; NULL where they are streamed. */
void *pixels_table(const Pixels *, Split);

#endif
