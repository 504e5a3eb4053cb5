/* PNG images from memory. */
#ifndef PLUMB_ENGINE_DATA_IMAGES_PNG_H
#define PLUMB_ENGINE_DATA_IMAGES_PNG_H

#include "engine/data/images/image_file.h"

/* As image_file_header and image_file_decode. Palettes become colours, 1, 2 and 4 bits 8, of 16 bits the higher 8 are taken
 * (as Pillow does), and transparency is dropped: the colours that are stored count. */
CHECKED Status png_header(const char *name, const uint8_t *bytes, size_t size, ImageHeader *);
CHECKED Status png_decode(const char *name, const uint8_t *bytes, size_t size, int64_t height, int64_t width,
                          int64_t channels, uint8_t *pixels);

/* pixels [height, width, channels], of 1 or 3 channels, as the bytes of a PNG file, released with free(). */
CHECKED Status png_encode(const uint8_t *pixels, int64_t height, int64_t width, int64_t channels,
                          uint8_t **bytes, size_t *size);

#endif
