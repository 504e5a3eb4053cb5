/* Batches of images: which rows of the table, how each is cropped and flipped, its label and weight.
 *
 * Fields, for n samples of a part:
 *     index   INT64 [n]       row of the table
 *     crop    INT32 [n,3]     top, left, flip (the augment op's); 0 in evaluation
 *     target  INT32 [n]       label
 *     weight  FLOAT32 [n]     1, or 0 for padding
 *     sample  INT64 [n]       number in the split; for the host
 *     table   UINT8 [n,H,W,C] only where pixels are streamed: the rows themselves, which `index` then counts from 0
 */
#ifndef PLUMB_ENGINE_DATA_IMAGES_IMAGE_SOURCE_H
#define PLUMB_ENGINE_DATA_IMAGES_IMAGE_SOURCE_H

#include "engine/data/images/dataset.h"

typedef struct {
    SampleBatches batches;
    Split split;
    int64_t crop_padding; /* training: 0: no random crop */
    bool flip;            /* training */
    bool lazy;            /* samples must be made ready (pixels_are_lazy) */
    bool streamed;        /* pixels_are_streamed */
} ImageSourceOptions;

/* The one shape of its parts; the data set needs no samples for that. */
void image_batch_shape(const Dataset *, const ImageSourceOptions *, BatchShape *);

/* The data set must outlive the source. STATUS_INPUT for an empty split, and for a batch that the ranks cannot share
 * equally. Not collective. */
CHECKED Status image_source_open(Dataset *, const ImageSourceOptions *, Source **);

#endif
