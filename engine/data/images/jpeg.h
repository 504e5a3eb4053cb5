/* JPEG images from memory. */
#ifndef PLUMB_ENGINE_DATA_IMAGES_JPEG_H
#define PLUMB_ENGINE_DATA_IMAGES_JPEG_H

#include "engine/data/images/image_file.h"

/* As image_file_header and image_file_decode. Images in printers' inks (CMYK) get the colours that Pillow gives them. */
CHECKED Status jpeg_header(const char *name, const uint8_t *bytes, size_t size, ImageHeader *);
CHECKED Status jpeg_decode(const char *name, const uint8_t *bytes, size_t size, int64_t height, int64_t width,
                           int64_t channels, uint8_t *pixels);

#endif
