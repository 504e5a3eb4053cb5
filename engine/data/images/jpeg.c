#include "engine/data/images/jpeg.h"

#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>

#include <jpeglib.h>

#include <jerror.h>

/* libjpeg reports errors by a function that must not return: ours keeps the message and jumps out. */
typedef struct {
    struct jpeg_error_mgr manager; /* first: libjpeg's pointer to it is a pointer to this */
    jmp_buf escape;
    char message[JMSG_LENGTH_MAX];
} Errors;

static void keep_and_escape(j_common_ptr codec)
{
    Errors *errors = (Errors *)codec->err;
    codec->err->format_message(codec, errors->message);
    longjmp(errors->escape, 1);
}

/* libjpeg fills in what is missing and only warns. A picture that is half invented is no sample; warnings
 * about stray bytes and old markers lose nothing. */
static void refuse_damage(j_common_ptr codec, int level)
{
    if (level >= 0) return; /* traces */
    const int code = codec->err->msg_code;
    if (code == JWRN_JPEG_EOF || code == JWRN_HIT_MARKER || code == JWRN_HUFF_BAD_CODE ||
        code == JWRN_MUST_RESYNC)
        keep_and_escape(codec);
}

/* What libjpeg would print. */
static void stay_silent(j_common_ptr codec) { (void)codec; }

/* a * b / 255, rounded. */
static int product(int a, int b)
{
    const int scaled = a * b + 128;
    return ((scaled >> 8) + scaled) >> 8;
}

/* Cyan, magenta, yellow and black to red, green and blue, as Pillow does, which PyTorch's data sets use: the inks are
 * stored as what is left of white, which is how Adobe's programs write them. */
static void mix_inks(const uint8_t *inks, int64_t width, uint8_t *pixels)
{
    for (int64_t i = 0; i < width; ++i) {
        const int black = inks[4 * i + 3];
        for (int64_t c = 0; c < 3; ++c)
            pixels[3 * i + c] = (uint8_t)(black - product(UINT8_MAX - inks[4 * i + c], black));
    }
}

/* The parts between setting the trap and leaving it are functions, so that no local variable is clobbered by a jump. */
static void read_header(struct jpeg_decompress_struct *codec, const uint8_t *bytes, size_t size,
                        ImageHeader *header)
{
    jpeg_mem_src(codec, bytes, size);
    (void)jpeg_read_header(codec, TRUE);
    header->height = codec->image_height;
    header->width = codec->image_width;
    header->grey = codec->jpeg_color_space == JCS_GRAYSCALE;
}

static void read_pixels(struct jpeg_decompress_struct *codec, int64_t channels, uint8_t *pixels)
{
    const size_t row_bytes = (size_t)codec->image_width * (size_t)channels;
    /* libjpeg makes red, green and blue of everything but the four inks of a printer. */
    const bool inks = codec->jpeg_color_space == JCS_CMYK || codec->jpeg_color_space == JCS_YCCK;
    codec->out_color_space = inks ? JCS_CMYK : channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    (void)jpeg_start_decompress(codec);
    JSAMPROW line = NULL; /* released with the codec */
    if (inks)
        line = codec->mem->alloc_large((j_common_ptr)codec, JPOOL_IMAGE, 4 * (size_t)codec->output_width);
    while (codec->output_scanline < codec->output_height) {
        uint8_t *row = pixels + (size_t)codec->output_scanline * row_bytes;
        JSAMPROW read = inks ? line : row;
        (void)jpeg_read_scanlines(codec, &read, 1);
        if (inks) mix_inks(line, codec->output_width, row);
    }
    (void)jpeg_finish_decompress(codec);
}

/* pixels: NULL for the header alone. */
static Status read_jpeg(const char *name, const uint8_t *bytes, size_t size, int64_t height, int64_t width,
                        int64_t channels, uint8_t *pixels, ImageHeader *header)
{
    struct jpeg_decompress_struct codec;
    Errors errors;
    codec.err = jpeg_std_error(&errors.manager);
    errors.manager.error_exit = keep_and_escape;
    errors.manager.emit_message = refuse_damage;
    errors.manager.output_message = stay_silent;
    if (setjmp(errors.escape) != 0) {
        jpeg_destroy_decompress(&codec);
        return fail(STATUS_INPUT, "%s: not a JPEG image, or a damaged one: %s", name, errors.message);
    }
    jpeg_create_decompress(&codec);
    read_header(&codec, bytes, size, header);
    Status status = OK;
    if (pixels != NULL) {
        status = image_file_check(name, header, height, width, channels);
        if (status == OK) read_pixels(&codec, channels, pixels);
    }
    jpeg_destroy_decompress(&codec);
    return status;
}

Status jpeg_header(const char *name, const uint8_t *bytes, size_t size, ImageHeader *header)
{
    return read_jpeg(name, bytes, size, 0, 0, 0, NULL, header);
}

Status jpeg_decode(const char *name, const uint8_t *bytes, size_t size, int64_t height, int64_t width,
                   int64_t channels, uint8_t *pixels)
{
    ImageHeader header;
    return read_jpeg(name, bytes, size, height, width, channels, pixels, &header);
}
