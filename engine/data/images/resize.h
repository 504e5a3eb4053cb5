/* Images scaled to another size. */
#ifndef PLUMB_ENGINE_DATA_IMAGES_RESIZE_H
#define PLUMB_ENGINE_DATA_IMAGES_RESIZE_H

#include "engine/base/status.h"

#include <stdint.h>

typedef struct {
    int64_t height, width;
} ImageSize;

/* to[size.height, size.width, channels] = from[old.height, old.width, channels], the whole image whatever its proportions,
 * by bilinear interpolation with a filter as wide as the reduction, as Pillow's BILINEAR and torchvision's Resize have it:
 * a new pixel at x is the mean of the old ones around (x + 1/2) s, s = old / new, with weights max(0, 1 - |d| / max(s, 1)),
 * d the distance of centres; first along rows, then along columns, each rounded to bytes. An image that has the size is
 * copied. Thread-safe. */
CHECKED Status image_resize(const uint8_t *from, ImageSize old, int64_t channels, uint8_t *to,
                            ImageSize size);

#endif
