/* augment on the CPU. Normalised pixels come out of a table of 256 values a channel, made once: exact, the
 * same on every machine, and no arithmetic a pixel. */
#include "engine/ops/augment.h"

#include "engine/base/memory.h"
#include "engine/ops/rows_cpu.h"

#include <stdlib.h>

typedef struct {
    float value[4][256];
    bfloat16 half[4][256];
} Normalised;

static Status prepare(Call *call, size_t *scratch_bytes)
{
    const AugmentAttributes *a = call->attributes;
    *scratch_bytes = 0;
    Normalised *normalised;
    TRY(memory_new(&normalised, 1, sizeof *normalised, "augmentation"));
    for (int64_t c = 0; c < shape_columns(call->out[0].shape); ++c)
        for (int byte = 0; byte < 256; ++byte) {
            normalised->value[c][byte] = (float)((byte / 255.0 - a->mean[c]) / a->deviation[c]);
            normalised->half[c][byte] = bfloat16_from_float(normalised->value[c][byte]);
        }
    call->state = normalised;
    return OK;
}

static void release(Call *call)
{
    free(call->state);
    call->state = NULL;
}

/* Before any pixel is read: the rows must be in the table and the crops in the padded image. */
static Status check(const Call *call)
{
    const AugmentAttributes *a = call->attributes;
    const int64_t samples = call->out[0].shape.extent[0], rows = call->in[AUGMENT_TABLE].shape.extent[0];
    const int64_t *index = call->in[AUGMENT_INDEX].data;
    const int32_t *crop = call->in[AUGMENT_CROP].data;
    for (int64_t n = 0; n < samples; ++n) {
        if (index[n] < 0 || index[n] >= rows)
            return fail(STATUS_INTERNAL, "augment: sample %lld is row %lld of a table of %lld", (long long)n,
                        (long long)index[n], (long long)rows);
        const int32_t *at = crop + n * CROP_COLUMNS;
        if (at[CROP_TOP] < 0 || at[CROP_TOP] > 2 * a->padding || at[CROP_LEFT] < 0 ||
            at[CROP_LEFT] > 2 * a->padding || at[CROP_FLIP] < 0 || at[CROP_FLIP] > 1)
            return fail(STATUS_INTERNAL,
                        "augment: sample %lld is cropped at (%d, %d) with flip %d, which padding %lld does "
                        "not allow",
                        (long long)n, at[CROP_TOP], at[CROP_LEFT], at[CROP_FLIP], (long long)a->padding);
    }
    return OK;
}

/* One row of an image: pixel x of the result is pixel left + x (or mirrored) of `from`, black outside.
 * from NULL: all black. */
static inline __attribute__((always_inline)) void augment_row(const Normalised *normalised,
                                                              const uint8_t *from, void *to, int64_t width,
                                                              int channels, int64_t left, bool mirror,
                                                              bool bf16)
{
    for (int64_t x = 0; x < width; ++x) {
        const int64_t source = left + (mirror ? width - 1 - x : x);
        const bool inside = from != NULL && source >= 0 && source < width;
        for (int c = 0; c < channels; ++c) {
            const uint8_t byte = inside ? from[source * channels + c] : 0;
            if (bf16)
                ((bfloat16 *)to)[x * channels + c] = normalised->half[c][byte];
            else
                ((float *)to)[x * channels + c] = normalised->value[c][byte];
        }
    }
}

static void augment_sample(const Call *call, int64_t n)
{
    const AugmentAttributes *a = call->attributes;
    const Shape shape = call->out[0].shape;
    const int64_t height = shape.extent[1], width = shape.extent[2];
    const int channels = (int)shape.extent[3];
    const int32_t *crop = (const int32_t *)call->in[AUGMENT_CROP].data + n * CROP_COLUMNS;
    const int64_t image = height * width * channels, row = width * channels;
    const uint8_t *from = (const uint8_t *)call->in[AUGMENT_TABLE].data +
                          ((const int64_t *)call->in[AUGMENT_INDEX].data)[n] * image;
    const bool mirror = a->flip && crop[CROP_FLIP] != 0, bf16 = shape.type == BFLOAT16;
    char *to = (char *)call->out[0].data + (size_t)(n * image) * dtype_size(shape.type);
    for (int64_t y = 0; y < height; ++y) {
        const int64_t source = crop[CROP_TOP] - a->padding + y, left = crop[CROP_LEFT] - a->padding;
        const uint8_t *line = source >= 0 && source < height ? from + source * row : NULL;
        void *out = to + (size_t)(y * row) * dtype_size(shape.type);
        if (bf16)
            augment_row(call->state, line, out, width, channels, left, mirror, true);
        else if (channels == 3)
            augment_row(call->state, line, out, width, 3, left, mirror, false);
        else
            augment_row(call->state, line, out, width, channels, left, mirror, false);
    }
}

static Status run(const Call *call)
{
    TRY(check(call));
    const int64_t samples = call->out[0].shape.extent[0];
#pragma omp parallel for num_threads(threads_for(call->device, shape_count(call->out[0].shape)))             \
    schedule(static)
    for (int64_t n = 0; n < samples; ++n)
        augment_sample(call, n);
    return OK;
}

const Kernel augment_cpu = {.prepare = prepare, .run = run, .release = release};
