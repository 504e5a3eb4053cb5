#include "engine/data/images/png.h"

#include "engine/base/memory.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>

/* What libpng reads from, and where its errors go: they come by a function that must not return. */
typedef struct {
    const uint8_t *at;
    size_t left;
    char message[128];
} Reading;

static void keep_and_escape(png_structp codec, png_const_charp message)
{
    Reading *reading = png_get_error_ptr(codec);
    (void)snprintf(reading->message, sizeof reading->message, "%s", message);
    png_longjmp(codec, 1);
}

/* libpng warns of odd chunks beside the pixels; none of that loses pixels. */
static void stay_silent(png_structp codec, png_const_charp message)
{
    (void)codec;
    (void)message;
}

static void read_bytes(png_structp codec, png_bytep to, size_t count)
{
    Reading *reading = png_get_io_ptr(codec);
    if (count > reading->left) png_error(codec, "the file is cut short");
    memcpy(to, reading->at, count);
    reading->at += count;
    reading->left -= count;
}

/* The parts between setting the trap and leaving it are functions, so that no local variable is clobbered by a jump. */
static void read_header(png_structp codec, png_infop info, Reading *reading, ImageHeader *header)
{
    /* No chunk of text, time or profiles is needed; they may be made to take much memory. */
    png_set_keep_unknown_chunks(codec, PNG_HANDLE_CHUNK_NEVER, NULL, 0);
    png_set_chunk_malloc_max(codec, 1 << 20);
    png_set_read_fn(codec, reading, read_bytes);
    png_read_info(codec, info);
    header->height = png_get_image_height(codec, info);
    header->width = png_get_image_width(codec, info);
    header->grey = (png_get_color_type(codec, info) & PNG_COLOR_MASK_COLOR) == 0;
}

/* rows: [height] into pixels. The caller has checked size and channels. */
static void read_pixels(png_structp codec, png_infop info, int64_t channels, png_bytep rows[])
{
    const int type = png_get_color_type(codec, info);
    if (type == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(codec);
    if (type == PNG_COLOR_TYPE_GRAY && png_get_bit_depth(codec, info) < 8)
        png_set_expand_gray_1_2_4_to_8(codec);
    if (channels == 3 && (type & PNG_COLOR_MASK_COLOR) == 0) png_set_gray_to_rgb(codec);
    png_set_strip_16(codec);
    png_set_strip_alpha(codec);
    (void)png_set_interlace_handling(codec);
    png_read_update_info(codec, info);
    const size_t row_bytes = (size_t)png_get_image_width(codec, info) * (size_t)channels;
    if (png_get_rowbytes(codec, info) != row_bytes) png_error(codec, "an unknown kind of pixels");
    png_read_image(codec, rows);
}

/* pixels: NULL for the header alone. */
static Status read_png(const char *name, const uint8_t *bytes, size_t size, int64_t height, int64_t width,
                       int64_t channels, uint8_t *pixels, ImageHeader *header)
{
    Reading reading = {.at = bytes, .left = size};
    png_structp codec = png_create_read_struct(PNG_LIBPNG_VER_STRING, &reading, keep_and_escape, stay_silent);
    png_infop info = codec != NULL ? png_create_info_struct(codec) : NULL;
    png_bytep *volatile rows = NULL; /* read after a jump */
    volatile Status status = info != NULL ? OK : fail(STATUS_MEMORY, "%s: no memory to read it", name);
    if (status == OK && setjmp(png_jmpbuf(codec)) != 0) {
        status = fail(STATUS_INPUT, "%s: not a PNG image, or a damaged one: %s", name, reading.message);
    } else if (status == OK) {
        read_header(codec, info, &reading, header);
        if (pixels != NULL) status = image_file_check(name, header, height, width, channels);
        if (pixels != NULL && status == OK) {
            rows = calloc((size_t)height, sizeof *rows);
            if (rows == NULL) status = fail(STATUS_MEMORY, "%s: no memory to read it", name);
        }
        if (rows != NULL) {
            for (int64_t y = 0; y < height; ++y)
                rows[y] = pixels + (size_t)(y * width * channels);
            read_pixels(codec, info, channels, rows);
        }
    }
    free(rows);
    png_destroy_read_struct(&codec, &info, NULL);
    return status;
}

Status png_header(const char *name, const uint8_t *bytes, size_t size, ImageHeader *header)
{
    return read_png(name, bytes, size, 0, 0, 0, NULL, header);
}

Status png_decode(const char *name, const uint8_t *bytes, size_t size, int64_t height, int64_t width,
                  int64_t channels, uint8_t *pixels)
{
    ImageHeader header;
    return read_png(name, bytes, size, height, width, channels, pixels, &header);
}

Status png_encode(const uint8_t *pixels, int64_t height, int64_t width, int64_t channels, uint8_t **bytes,
                  size_t *size)
{
    png_image image = {.version = PNG_IMAGE_VERSION,
                       .width = (png_uint_32)width,
                       .height = (png_uint_32)height,
                       .format = channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB};
    png_alloc_size_t room = PNG_IMAGE_PNG_SIZE_MAX(image);
    TRY(memory_new(bytes, room, 1, "a PNG image"));
    if (png_image_write_to_memory(&image, *bytes, &room, 0, pixels, 0, NULL) != 0) {
        *size = room;
        return OK;
    }
    free(*bytes);
    *bytes = NULL;
    return fail(STATUS_INTERNAL, "a PNG image of %lld x %lld: %s", (long long)height, (long long)width,
                image.message);
}
