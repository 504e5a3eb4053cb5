/* Images of any of the formats that are read, JPEG and PNG, from memory. Which it is, the first bytes say. */
#ifndef PLUMB_ENGINE_DATA_IMAGES_IMAGE_FILE_H
#define PLUMB_ENGINE_DATA_IMAGES_IMAGE_FILE_H

#include "engine/base/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    int64_t height, width; /* at least 1 */
    bool grey;             /* one channel, beside transparency */
} ImageHeader;

/* Size and channels, without the pixels. STATUS_INPUT names `name`. Thread-safe. */
CHECKED Status image_file_header(const char *name, const uint8_t *bytes, size_t size, ImageHeader *);

/* Decodes to pixels [height,width,channels]: 3 channels are red, green and blue, three equal ones of a grey image; 1 channel
 * takes grey images only. STATUS_INPUT names `name` for another size, colours where grey is wanted, other formats, and
 * damage that loses pixels. Turning by EXIF and colour profiles are not applied. Thread-safe. */
CHECKED Status image_file_decode(const char *name, const uint8_t *bytes, size_t size, int64_t height,
                                 int64_t width, int64_t channels, uint8_t *pixels);

/* Does the name end as those of such files do (.jpg, .jpeg, .png, in any case), and not begin with a dot? */
bool image_file_name(const char *name);

/* What formats share: the error for an image that is not as wanted. */
CHECKED Status image_file_check(const char *name, const ImageHeader *, int64_t height, int64_t width,
                                int64_t channels);

#endif
