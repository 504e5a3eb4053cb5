#include "engine/data/images/resize.h"

#include "engine/base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Which old pixels make a new one along an axis, and with which weights. */
typedef struct {
    int64_t most;   /* weights of a pixel */
    int64_t *first; /* [new] */
    int64_t *count; /* [new] at most `most` */
    double *weight; /* [new, most] */
} Filter;

static void filter_free(Filter *filter)
{
    free(filter->first);
    free(filter->count);
    free(filter->weight);
}

static Status filter_new(int64_t old, int64_t size, Filter *filter)
{
    const double scale = (double)old / (double)size, support = scale > 1 ? scale : 1;
    *filter = (Filter){.most = 2 * (int64_t)ceil(support) + 1};
    TRY(memory_new(&filter->first, (size_t)size, sizeof *filter->first, "scaling an image"));
    TRY(memory_new(&filter->count, (size_t)size, sizeof *filter->count, "scaling an image"));
    TRY(memory_new(&filter->weight, (size_t)(size * filter->most), sizeof *filter->weight,
                   "scaling an image"));
    for (int64_t i = 0; i < size; ++i) {
        const double centre = ((double)i + 0.5) * scale;
        double *weight = filter->weight + i * filter->most, sum = 0;
        int64_t first = (int64_t)(centre - support + 0.5), end = (int64_t)(centre + support + 0.5);
        if (centre - support + 0.5 < 0) first = 0;
        if (end > old) end = old;
        filter->first[i] = first;
        filter->count[i] = end - first;
        for (int64_t k = 0; k < end - first; ++k) {
            weight[k] = fmax(0, 1 - fabs((double)(first + k) + 0.5 - centre) / support);
            sum += weight[k];
        }
        for (int64_t k = 0; k < end - first; ++k)
            weight[k] /= sum;
    }
    return OK;
}

static uint8_t to_byte(double value) { return (uint8_t)(value + 0.5); } /* of a mean of bytes */

/* A row's pixels become `size` ones. */
static void scale_row(const uint8_t *from, const Filter *filter, int64_t size, int64_t channels, uint8_t *to)
{
    for (int64_t i = 0; i < size; ++i) {
        const double *weight = filter->weight + i * filter->most;
        for (int64_t c = 0; c < channels; ++c) {
            double sum = 0;
            for (int64_t k = 0; k < filter->count[i]; ++k)
                sum += weight[k] * from[(filter->first[i] + k) * channels + c];
            to[i * channels + c] = to_byte(sum);
        }
    }
}

/* Rows become one. */
static void mix_rows(const uint8_t *from, const double weight[], int64_t count, int64_t row_bytes,
                     uint8_t *to)
{
    for (int64_t i = 0; i < row_bytes; ++i) {
        double sum = 0;
        for (int64_t k = 0; k < count; ++k)
            sum += weight[k] * from[k * row_bytes + i];
        to[i] = to_byte(sum);
    }
}

Status image_resize(const uint8_t *from, ImageSize old, int64_t channels, uint8_t *to, ImageSize size)
{
    const int64_t row_bytes = size.width * channels;
    Filter across = {.most = 0}, down = {.most = 0};
    uint8_t *rows = NULL;
    Status status;
    if (old.width == size.width && old.height == size.height) {
        memcpy(to, from, (size_t)(old.height * row_bytes));
        return OK;
    }
    TRY_ELSE(done, filter_new(old.width, size.width, &across));
    TRY_ELSE(done, filter_new(old.height, size.height, &down));
    TRY_ELSE(done, memory_new(&rows, (size_t)old.height, (size_t)row_bytes, "scaling an image"));
    for (int64_t y = 0; y < old.height; ++y)
        scale_row(from + y * old.width * channels, &across, size.width, channels, rows + y * row_bytes);
    for (int64_t y = 0; y < size.height; ++y)
        mix_rows(rows + down.first[y] * row_bytes, down.weight + y * down.most, down.count[y], row_bytes,
                 to + y * row_bytes);
done:
    filter_free(&across);
    filter_free(&down);
    free(rows);
    return status;
}
