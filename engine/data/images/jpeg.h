/* JPEG images from memory. */
#ifndef PLUMB_ENGINE_DATA_IMAGES_JPEG_H
#define PLUMB_ENGINE_DATA_IMAGES_JPEG_H

#include "engine/base/status.h"

#include <stdint.h>

/* Decodes to pixels [height,width,3], red, green, blue; grey images get three equal channels, and images in
 * printers' inks (CMYK) the colours that Pillow gives them. STATUS_INPUT
 * names `name` for another size, another format and damage that loses pixels. Thread-safe. */
CHECKED Status jpeg_decode(const char *name, const uint8_t *bytes, size_t size, int64_t height, int64_t width,
                           uint8_t *pixels);

#endif
