/* Pooling on the CPU: threads over rows of pixels, vectors over channels. Backward gathers: each pixel of d_x
 * adds up the windows that cover it, always in the same order, so the result does not depend on threads. */
#include "engine/ops/pool.h"

#include "engine/base/memory.h"

#include <math.h>
#include <stdlib.h>

enum { BLOCK = 64 }; /* channels at a time: four registers of sixteen floats */

/* Waking threads takes longer than a pool of fewer elements. */
enum { WORTH_THREADS = 1 << 14 };

static bool worth_threads(const PoolAttributes *a)
{
    return a->samples * a->height * a->width * a->channels > WORTH_THREADS;
}

/* The windows along one axis. */
typedef struct {
    int64_t *begin, *end;  /* [windows]: pixels that a window covers, begin .. end - 1, inside the image */
    int64_t *origin;       /* [windows]: its first pixel, padding included */
    int64_t *divisor;      /* [windows] */
    int64_t *first, *last; /* [pixels]: windows that cover a pixel, first .. last - 1 */
} Axis;

typedef struct {
    Axis row, column;
} Windows;

static Status axis_make(Axis *axis, int64_t pixels, int64_t windows, int64_t kernel, int64_t stride,
                        int64_t padding)
{
    TRY(memory_new(&axis->begin, (size_t)windows, sizeof(int64_t), "pooling windows"));
    TRY(memory_new(&axis->end, (size_t)windows, sizeof(int64_t), "pooling windows"));
    TRY(memory_new(&axis->origin, (size_t)windows, sizeof(int64_t), "pooling windows"));
    TRY(memory_new(&axis->divisor, (size_t)windows, sizeof(int64_t), "pooling windows"));
    TRY(memory_new(&axis->first, (size_t)pixels, sizeof(int64_t), "pooling windows"));
    TRY(memory_new(&axis->last, (size_t)pixels, sizeof(int64_t), "pooling windows"));
    for (int64_t i = 0; i < windows; ++i) {
        if (kernel == 0) { /* adaptive */
            axis->origin[i] = axis->begin[i] = i * pixels / windows;
            axis->end[i] = ((i + 1) * pixels + windows - 1) / windows;
            axis->divisor[i] = axis->end[i] - axis->begin[i];
        } else {
            axis->origin[i] = i * stride - padding;
            axis->begin[i] = axis->origin[i] < 0 ? 0 : axis->origin[i];
            axis->end[i] = axis->origin[i] + kernel < pixels ? axis->origin[i] + kernel : pixels;
            axis->divisor[i] = kernel;
        }
    }
    /* Begins and ends both grow, so the windows over a pixel are neighbours. */
    int64_t first = 0, last = 0;
    for (int64_t pixel = 0; pixel < pixels; ++pixel) {
        while (first < windows && axis->end[first] <= pixel)
            ++first;
        while (last < windows && axis->begin[last] <= pixel)
            ++last;
        axis->first[pixel] = first;
        axis->last[pixel] = last;
    }
    return OK;
}

static void axis_free(Axis *axis)
{
    free(axis->last);
    free(axis->first);
    free(axis->divisor);
    free(axis->origin);
    free(axis->end);
    free(axis->begin);
}

static void release(Call *call)
{
    Windows *windows = call->state;
    if (windows == NULL) return;
    axis_free(&windows->column);
    axis_free(&windows->row);
    free(windows);
    call->state = NULL;
}

static Status prepare(Call *call, size_t *scratch_bytes)
{
    const PoolAttributes *a = call->attributes;
    Windows *windows = NULL;
    *scratch_bytes = 0;
    TRY(memory_new(&windows, 1, sizeof *windows, "pooling windows"));
    call->state = windows; /* release frees what is there, also after an error */
    Status status = OK;
    TRY_ELSE(failed, axis_make(&windows->row, a->height, a->out_height, a->kernel_height, a->stride,
                               a->padding_height));
    TRY_ELSE(failed, axis_make(&windows->column, a->width, a->out_width, a->kernel_width, a->stride,
                               a->padding_width));
    return OK;
failed:
    release(call);
    return status;
}

/* ---- blocks of channels ---- */

static inline int block_size(int64_t channels, int64_t first)
{
    return channels - first < BLOCK ? (int)(channels - first) : BLOCK;
}

static inline void block_load(float block[BLOCK], const Tensor *tensor, int64_t row, int64_t channel,
                              int count)
{
    const int64_t offset = row * tensor->stride + channel;
    if (tensor->shape.type == FLOAT32) {
        const float *from = (const float *)tensor->data + offset;
        for (int c = 0; c < count; ++c)
            block[c] = from[c];
    } else {
        const bfloat16 *from = (const bfloat16 *)tensor->data + offset;
        for (int c = 0; c < count; ++c)
            block[c] = bfloat16_to_float(from[c]);
    }
}

static inline void block_store(const float block[BLOCK], const Tensor *tensor, int64_t row, int64_t channel,
                               int count)
{
    const int64_t offset = row * tensor->stride + channel;
    if (tensor->shape.type == FLOAT32) {
        float *to = (float *)tensor->data + offset;
        for (int c = 0; c < count; ++c)
            to[c] = block[c];
    } else {
        bfloat16 *to = (bfloat16 *)tensor->data + offset;
        for (int c = 0; c < count; ++c)
            to[c] = bfloat16_from_float(block[c]);
    }
}

static inline void index_load(int32_t block[BLOCK], const Tensor *index, int64_t row, int64_t channel,
                              int count)
{
    const int64_t offset = row * index->stride + channel;
    if (index->shape.type == UINT8) {
        for (int c = 0; c < count; ++c)
            block[c] = ((const uint8_t *)index->data)[offset + c];
    } else {
        for (int c = 0; c < count; ++c)
            block[c] = ((const int32_t *)index->data)[offset + c];
    }
}

static inline void index_store(const int32_t block[BLOCK], const Tensor *index, int64_t row, int64_t channel,
                               int count)
{
    const int64_t offset = row * index->stride + channel;
    if (index->shape.type == UINT8) {
        for (int c = 0; c < count; ++c)
            ((uint8_t *)index->data)[offset + c] = (uint8_t)block[c];
    } else {
        for (int c = 0; c < count; ++c)
            ((int32_t *)index->data)[offset + c] = block[c];
    }
}

/* ---- average ---- */

static Status average_run(const Call *call)
{
    const PoolAttributes *a = call->attributes;
    const Windows *windows = call->state;
    const Tensor x = call->in[0], y = call->out[0];
#pragma omp parallel for collapse(2) schedule(static) if (worth_threads(a))
    for (int64_t n = 0; n < a->samples; ++n) {
        for (int64_t i = 0; i < a->out_height; ++i) {
            for (int64_t j = 0; j < a->out_width; ++j) {
                const float share = 1.0F / (float)(windows->row.divisor[i] * windows->column.divisor[j]);
                for (int64_t channel = 0; channel < a->channels; channel += BLOCK) {
                    const int count = block_size(a->channels, channel);
                    float sum[BLOCK] = {0}, pixel[BLOCK];
                    for (int64_t h = windows->row.begin[i]; h < windows->row.end[i]; ++h) {
                        for (int64_t w = windows->column.begin[j]; w < windows->column.end[j]; ++w) {
                            block_load(pixel, &x, (n * a->height + h) * a->width + w, channel, count);
                            for (int c = 0; c < count; ++c)
                                sum[c] += pixel[c];
                        }
                    }
                    for (int c = 0; c < count; ++c)
                        sum[c] *= share;
                    block_store(sum, &y, (n * a->out_height + i) * a->out_width + j, channel, count);
                }
            }
        }
    }
    return OK;
}

static Status average_backward_run(const Call *call)
{
    const PoolAttributes *a = call->attributes;
    const Windows *windows = call->state;
    const Tensor d_y = call->in[0], d_x = call->out[0];
#pragma omp parallel for collapse(2) schedule(static) if (worth_threads(a))
    for (int64_t n = 0; n < a->samples; ++n) {
        for (int64_t h = 0; h < a->height; ++h) {
            for (int64_t w = 0; w < a->width; ++w) {
                for (int64_t channel = 0; channel < a->channels; channel += BLOCK) {
                    const int count = block_size(a->channels, channel);
                    float sum[BLOCK] = {0}, pixel[BLOCK];
                    for (int64_t i = windows->row.first[h]; i < windows->row.last[h]; ++i) {
                        for (int64_t j = windows->column.first[w]; j < windows->column.last[w]; ++j) {
                            const float share =
                                1.0F / (float)(windows->row.divisor[i] * windows->column.divisor[j]);
                            block_load(pixel, &d_y, (n * a->out_height + i) * a->out_width + j, channel,
                                       count);
                            for (int c = 0; c < count; ++c)
                                sum[c] += pixel[c] * share;
                        }
                    }
                    block_store(sum, &d_x, (n * a->height + h) * a->width + w, channel, count);
                }
            }
        }
    }
    return OK;
}

/* ---- max ---- */

static Status max_run(const Call *call)
{
    const PoolAttributes *a = call->attributes;
    if (pool_is_sequence(a)) return max_sequence_run(call);
    const Windows *windows = call->state;
    const Tensor x = call->in[0], y = call->out[0], index = call->out[1];
    const bool wanted = call->wanted[1] && index.data != NULL;
#pragma omp parallel for collapse(2) schedule(static) if (worth_threads(a))
    for (int64_t n = 0; n < a->samples; ++n) {
        for (int64_t i = 0; i < a->out_height; ++i) {
            for (int64_t j = 0; j < a->out_width; ++j) {
                const int64_t h0 = windows->row.begin[i], w0 = windows->column.begin[j];
                const int64_t row0 = windows->row.origin[i], column0 = windows->column.origin[j];
                const int64_t out_row = (n * a->out_height + i) * a->out_width + j;
                for (int64_t channel = 0; channel < a->channels; channel += BLOCK) {
                    const int count = block_size(a->channels, channel);
                    float best[BLOCK], pixel[BLOCK];
                    int32_t where[BLOCK];
                    block_load(best, &x, (n * a->height + h0) * a->width + w0, channel, count);
                    for (int c = 0; c < count; ++c)
                        where[c] = (int32_t)((h0 - row0) * a->kernel_width + (w0 - column0));
                    for (int64_t h = h0; h < windows->row.end[i]; ++h) {
                        for (int64_t w = w0; w < windows->column.end[j]; ++w) {
                            const int32_t here = (int32_t)((h - row0) * a->kernel_width + (w - column0));
                            block_load(pixel, &x, (n * a->height + h) * a->width + w, channel, count);
                            for (int c = 0; c < count; ++c) {
                                const bool better = (pixel[c] > best[c]) | (pixel[c] != pixel[c]);
                                best[c] = better ? pixel[c] : best[c];
                                where[c] = better ? here : where[c];
                            }
                        }
                    }
                    if (a->relu) {
                        for (int c = 0; c < count; ++c) {
                            const bool passes = !(best[c] <= 0);
                            best[c] = passes ? best[c] : 0.0F;
                            where[c] = passes ? where[c] : -1;
                        }
                    }
                    block_store(best, &y, out_row, channel, count);
                    if (wanted) index_store(where, &index, out_row, channel, count);
                }
            }
        }
    }
    return OK;
}

static Status max_backward_run(const Call *call)
{
    const PoolAttributes *a = call->attributes;
    if (pool_is_sequence(a)) return max_sequence_backward_run(call);
    const Windows *windows = call->state;
    const Tensor d_y = call->in[0], index = call->in[1], d_x = call->out[0];
#pragma omp parallel for collapse(2) schedule(static) if (worth_threads(a))
    for (int64_t n = 0; n < a->samples; ++n) {
        for (int64_t h = 0; h < a->height; ++h) {
            for (int64_t w = 0; w < a->width; ++w) {
                for (int64_t channel = 0; channel < a->channels; channel += BLOCK) {
                    const int count = block_size(a->channels, channel);
                    float sum[BLOCK] = {0}, pixel[BLOCK];
                    int32_t where[BLOCK];
                    for (int64_t i = windows->row.first[h]; i < windows->row.last[h]; ++i) {
                        for (int64_t j = windows->column.first[w]; j < windows->column.last[w]; ++j) {
                            const int64_t row = (n * a->out_height + i) * a->out_width + j;
                            const int32_t here = (int32_t)((h - windows->row.origin[i]) * a->kernel_width +
                                                           (w - windows->column.origin[j]));
                            block_load(pixel, &d_y, row, channel, count);
                            index_load(where, &index, row, channel, count);
                            for (int c = 0; c < count; ++c)
                                sum[c] += where[c] == here ? pixel[c] : 0.0F;
                        }
                    }
                    block_store(sum, &d_x, (n * a->height + h) * a->width + w, channel, count);
                }
            }
        }
    }
    return OK;
}

const Kernel average_pool_cpu = {
    .prepare = prepare, .run = average_run, .release = release, .strided_in = 1, .strided_out = 1};

const Kernel average_pool_backward_cpu = {
    .prepare = prepare, .run = average_backward_run, .release = release, .strided_in = 1, .strided_out = 1};

const Kernel max_pool2d_cpu = {
    .prepare = prepare, .run = max_run, .release = release, .strided_in = 1, .strided_out = 1};

const Kernel max_pool2d_backward_cpu = {
    .prepare = prepare, .run = max_backward_run, .release = release, .strided_in = 1, .strided_out = 1};
