#include "engine/data/images/image_file.h"

#include "engine/data/images/jpeg.h"
#include "engine/data/images/png.h"

#include <string.h>
#include <strings.h>

typedef struct {
    const char *first; /* bytes of every such file */
    size_t first_bytes;
    Status (*header)(const char *, const uint8_t *, size_t, ImageHeader *);
    Status (*decode)(const char *, const uint8_t *, size_t, int64_t, int64_t, int64_t, uint8_t *);
} Format;

static const Format formats[] = {
    {"\xFF\xD8", 2, jpeg_header, jpeg_decode},
    {"\x89PNG\r\n\x1A\n", 8, png_header, png_decode},
};

static Status find_format(const char *name, const uint8_t *bytes, size_t size, const Format **format)
{
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; ++i) {
        if (size < formats[i].first_bytes || memcmp(bytes, formats[i].first, formats[i].first_bytes) != 0)
            continue;
        *format = &formats[i];
        return OK;
    }
    if (size == 0) return fail(STATUS_INPUT, "%s: the file is empty", name);
    return fail(STATUS_INPUT, "%s: neither a JPEG nor a PNG image", name);
}

Status image_file_header(const char *name, const uint8_t *bytes, size_t size, ImageHeader *header)
{
    const Format *format;
    TRY(find_format(name, bytes, size, &format));
    return format->header(name, bytes, size, header);
}

Status image_file_decode(const char *name, const uint8_t *bytes, size_t size, int64_t height, int64_t width,
                         int64_t channels, uint8_t *pixels)
{
    const Format *format;
    TRY(find_format(name, bytes, size, &format));
    return format->decode(name, bytes, size, height, width, channels, pixels);
}

bool image_file_name(const char *name)
{
    const char *dot = strrchr(name, '.');
    return name[0] != '.' && dot != NULL &&
           (strcasecmp(dot, ".jpeg") == 0 || strcasecmp(dot, ".jpg") == 0 || strcasecmp(dot, ".png") == 0);
}

Status image_file_check(const char *name, const ImageHeader *header, int64_t height, int64_t width,
                        int64_t channels)
{
    if (header->height != height || header->width != width)
        return fail(STATUS_INPUT, "%s: %lldx%lld pixels, %lldx%lld expected", name, (long long)header->width,
                    (long long)header->height, (long long)width, (long long)height);
    if (channels == 1 && !header->grey)
        return fail(STATUS_INPUT, "%s: an image in colour, a grey one is expected", name);
    return OK;
}
