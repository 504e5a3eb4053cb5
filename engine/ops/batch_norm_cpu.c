/* batch_norm on the CPU. Two passes over x: per-channel sums of blocks of rows, then the result. Both are
 * bound by memory, so the first goes through a thread's blocks backwards: what the producer of x wrote last
 * and what this pass read last is then still in the cache when it is needed.
 *
 * Sums of a block are taken of x - s in float32, where s is the mean of the block's first rows: squares then
 * do not cancel however large the mean is, and the blocks are combined in double (Chan, Golub and LeVeque,
 * "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances", 1979). */
#include "engine/ops/batch_norm.h"

#include "engine/device/collective.h"
#include "engine/ops/rows_cpu.h"
#include "engine/ops/vector_cpu.h"

#include <math.h>

/* ---- scratch ---- */

typedef struct {
    double *total; /* [2C + 1]: the batch's means, then sums of squared differences; room for a count */
    float *shift, *sum, *square;  /* [blocks][C] each */
    float *mean, *scale, *offset; /* [C] each: y = (x - mean) * scale + offset */
    size_t bytes;
} Scratch;

static Scratch scratch_at(void *memory, RowBlocks blocks, bool train)
{
    const size_t columns = (size_t)blocks.columns;
    const size_t partial = train ? (size_t)blocks.blocks * columns : 0;
    Scratch s = {.total = memory,
                 .bytes = (2 * columns + 1) * sizeof(double) + 3 * (partial + columns) * sizeof(float)};
    if (memory == NULL) return s;
    s.shift = (void *)(s.total + 2 * columns + 1);
    s.sum = s.shift + partial;
    s.square = s.sum + partial;
    s.mean = s.square + partial;
    s.scale = s.mean + columns;
    s.offset = s.scale + columns;
    return s;
}

static Status prepare(Call *call, size_t *scratch_bytes)
{
    const BatchNormAttributes *attributes = call->attributes;
    const Shape x = call->in[BATCH_NORM_X].shape;
    *scratch_bytes = scratch_at(NULL, row_blocks(shape_rows(x), shape_columns(x)), attributes->train).bytes;
    return OK;
}

/* ---- statistics ---- */

/* The mean of the first rows of a block, to be subtracted from all. */
VECTOR_INLINE void find_shift(const Tensor *x, int64_t row, int64_t rows, float *shift, bool bf16)
{
    const int64_t columns = shape_columns(x->shape);
    const int64_t first = rows < ROW_TILE ? rows : ROW_TILE;
    const float share = 1.0F / (float)first;
    for (int64_t c = 0; c < columns; c += LANES) {
        const int lanes = columns - c < LANES ? (int)(columns - c) : LANES;
        Vector sum = {0};
        for (int64_t r = 0; r < first; ++r)
            sum += vector_load(x->data, (row + r) * x->stride + c, lanes, bf16) * share;
        vector_store(shift, c, lanes, false, sum);
    }
}

/* `vectors` neighbouring columns' vectors, of which the last has `lanes` lanes. */
VECTOR_INLINE void add_strip(const Tensor *x, int64_t row, int rows, int64_t c, int vectors, int lanes,
                             const float *shift, float *sum, float *square, bool bf16, int64_t ahead)
{
    Vector shifts[STRIP], sums[STRIP], squares[STRIP];
    for (int i = 0; i < vectors; ++i) {
        shifts[i] = vector_load(shift, c + i * LANES, lanes, false);
        sums[i] = vector_load(sum, c + i * LANES, lanes, false);
        squares[i] = vector_load(square, c + i * LANES, lanes, false);
    }
    for (int r = 0; r < rows; ++r) {
        const int64_t at = (row + r) * x->stride + c;
        vector_prefetch(x->data, at + ahead * x->stride, vectors, bf16);
        for (int i = 0; i < vectors; ++i) {
            const Vector v = vector_load(x->data, at + i * LANES, lanes, bf16) - shifts[i];
            sums[i] += v;
            squares[i] += v * v;
        }
    }
    for (int i = 0; i < vectors; ++i) {
        vector_store(sum, c + i * LANES, lanes, false, sums[i]);
        vector_store(square, c + i * LANES, lanes, false, squares[i]);
    }
}

VECTOR_INLINE void add_tile(const Tensor *x, int64_t row, int rows, const float *shift, float *sum,
                            float *square, bool bf16, int64_t ahead)
{
    const int64_t columns = shape_columns(x->shape);
    int64_t c = 0;
    for (; c + STRIP * LANES <= columns; c += STRIP * LANES)
        add_strip(x, row, rows, c, STRIP, LANES, shift, sum, square, bf16, ahead);
    for (; c + LANES <= columns; c += LANES)
        add_strip(x, row, rows, c, 1, LANES, shift, sum, square, bf16, ahead);
    if (c < columns) add_strip(x, row, rows, c, 1, (int)(columns - c), shift, sum, square, bf16, ahead);
}

VECTOR_INLINE void sum_block(const Tensor *tensor, int64_t first, int64_t last, float *shift, float *sum,
                             float *square, bool bf16)
{
    const Tensor copy = *tensor, *x = &copy; /* that no store can change */
    const size_t bytes = (size_t)shape_columns(x->shape) * sizeof(float);
    memset(sum, 0, bytes);
    memset(square, 0, bytes);
    find_shift(x, first, last - first, shift, bf16);
    const int64_t ahead = rows_ahead(x);
    int64_t row = first;
    for (; shape_columns(x->shape) <= NARROW_COLUMNS && row + NARROW_TILE <= last; row += NARROW_TILE)
        add_tile(x, row, NARROW_TILE, shift, sum, square, bf16, ahead);
    for (; row + ROW_TILE <= last; row += ROW_TILE)
        add_tile(x, row, ROW_TILE, shift, sum, square, bf16, ahead);
    for (; row < last; ++row)
        add_tile(x, row, 1, shift, sum, square, bf16, ahead);
}

static void sum_block_float(const Tensor *x, int64_t first, int64_t last, float *shift, float *sum,
                            float *square)
{
    sum_block(x, first, last, shift, sum, square, false);
}

static void sum_block_bfloat16(const Tensor *x, int64_t first, int64_t last, float *shift, float *sum,
                               float *square)
{
    sum_block(x, first, last, shift, sum, square, true);
}

/* Means and summed squared differences of columns [first, last) over all blocks; 0 without any. */
static void combine(RowBlocks blocks, const Scratch *s, int64_t first, int64_t last)
{
    enum { CHUNK = 64 };
    const int64_t columns = blocks.columns;
    for (int64_t from = first; from < last; from += CHUNK) {
        const int count = last - from < CHUNK ? (int)(last - from) : CHUNK;
        double mean[CHUNK] = {0}, square[CHUNK] = {0};
        for (int64_t b = 0; b < blocks.blocks; ++b) {
            const int64_t left = blocks.rows - b * blocks.block_rows;
            const double rows = (double)(left < blocks.block_rows ? left : blocks.block_rows);
            const float *shift = s->shift + b * columns + from, *sum = s->sum + b * columns + from;
            for (int c = 0; c < count; ++c)
                mean[c] += rows * (double)shift[c] + (double)sum[c];
        }
        for (int c = 0; c < count && blocks.rows > 0; ++c)
            mean[c] /= (double)blocks.rows;
        for (int64_t b = 0; b < blocks.blocks; ++b) {
            const int64_t left = blocks.rows - b * blocks.block_rows;
            const double rows = (double)(left < blocks.block_rows ? left : blocks.block_rows);
            const double share = 1 / rows;
            const float *shift = s->shift + b * columns + from, *sum = s->sum + b * columns + from;
            const float *squares = s->square + b * columns + from;
            for (int c = 0; c < count; ++c) {
                /* sum (x - mean)^2 = sum (x - s)^2 - rows d^2 + rows (s + d - mean)^2, d = sum (x - s) / rows
                 */
                const double d = (double)sum[c] * share, apart = (double)shift[c] + d - mean[c];
                square[c] += (double)squares[c] + rows * (apart * apart - d * d);
            }
        }
        for (int c = 0; c < count; ++c) {
            s->total[from + c] = mean[c];
            s->total[columns + from + c] = square[c] > 0 ? square[c] : 0;
        }
    }
}

/* Sums over ranks; *rows becomes the number of rows of all of them. */
static Status combine_ranks(Collective *collective, Stream stream, double *total, int64_t columns,
                            double *rows)
{
    for (int64_t c = 0; c < columns; ++c) {
        total[columns + c] += *rows * total[c] * total[c];
        total[c] *= *rows;
    }
    total[2 * columns] = *rows;
    TRY(collective_sum(collective, (Span){.data = total, .count = 2 * columns + 1, .type = FLOAT64}, stream));
    TRY(collective_join(collective, stream));
    *rows = total[2 * columns];
    for (int64_t c = 0; c<columns && * rows> 0; ++c) {
        total[c] /= *rows;
        const double square = total[columns + c] - *rows * total[c] * total[c];
        total[columns + c] = square > 0 ? square : 0;
    }
    return OK;
}

static void update_running(const Call *call, const double *total, double rows)
{
    const BatchNormAttributes *attributes = call->attributes;
    const int64_t columns = shape_columns(call->in[BATCH_NORM_X].shape);
    float *running_mean = call->in[BATCH_NORM_RUNNING_MEAN].data;
    float *running_var = call->in[BATCH_NORM_RUNNING_VAR].data;
    const double fresh = attributes->momentum, unbiased = rows > 1 ? rows - 1 : 1;
    for (int64_t c = 0; c < columns; ++c) {
        running_mean[c] = (float)((1 - fresh) * (double)running_mean[c] + fresh * total[c]);
        running_var[c] =
            (float)((1 - fresh) * (double)running_var[c] + fresh * total[columns + c] / unbiased);
    }
    ++*(int64_t *)call->in[BATCH_NORM_BATCHES_TRACKED].data;
}

/* ---- normalisation ---- */

static void set_channels(const Call *call, const Scratch *s, double rows)
{
    const BatchNormAttributes *attributes = call->attributes;
    const int64_t columns = shape_columns(call->in[BATCH_NORM_X].shape);
    const float *weight = call->in[BATCH_NORM_WEIGHT].data, *bias = call->in[BATCH_NORM_BIAS].data;
    const float *running_mean = call->in[BATCH_NORM_RUNNING_MEAN].data;
    const float *running_var = call->in[BATCH_NORM_RUNNING_VAR].data;
    float *saved_mean = call->out[BATCH_NORM_MEAN].data;
    float *saved_inverse = call->out[BATCH_NORM_INVERSE_DEVIATION].data;
    for (int64_t c = 0; c < columns; ++c) {
        const double mean = attributes->train ? s->total[c] : (double)running_mean[c];
        const double of_batch = rows > 0 ? s->total[columns + c] / rows : 1;
        const double variance = attributes->train ? of_batch : (double)running_var[c];
        const double scale = (double)weight[c] / sqrt(variance + attributes->epsilon);
        s->mean[c] = (float)mean;
        s->scale[c] = (float)scale;
        /* What rounding the mean to float32 lost is made good here. */
        s->offset[c] = (float)((double)bias[c] - (mean - (double)s->mean[c]) * scale);
        saved_mean[c] = s->mean[c];
        saved_inverse[c] = (float)(1 / sqrt(variance + attributes->epsilon));
    }
}

typedef struct {
    Tensor x, y, residual;
    uint8_t *mask; /* NULL: nobody asks */
    int64_t mask_stride, columns, ahead;
    const float *mean, *scale, *offset;
    bool stream;
} Apply;

VECTOR_INLINE void apply_strip(const Apply *a, int64_t row, int rows, int64_t c, int vectors, int lanes,
                               bool bf16, bool with_relu, bool with_residual)
{
    Vector mean[STRIP], scale[STRIP], offset[STRIP];
    for (int i = 0; i < vectors; ++i) {
        mean[i] = vector_load(a->mean, c + i * LANES, lanes, false);
        scale[i] = vector_load(a->scale, c + i * LANES, lanes, false);
        offset[i] = vector_load(a->offset, c + i * LANES, lanes, false);
    }
    for (int r = 0; r < rows; ++r) {
        const int64_t at = (row + r) * a->x.stride + c, to = (row + r) * a->y.stride + c;
        const int64_t beside = (row + r) * a->residual.stride + c;
        vector_prefetch(a->x.data, at + a->ahead * a->x.stride, vectors, bf16);
        if (with_residual)
            vector_prefetch(a->residual.data, beside + a->ahead * a->residual.stride, vectors, bf16);
        for (int i = 0; i < vectors; ++i) {
            Vector y = (vector_load(a->x.data, at + i * LANES, lanes, bf16) - mean[i]) * scale[i] + offset[i];
            if (with_residual) y += vector_load(a->residual.data, beside + i * LANES, lanes, bf16);
            if (with_relu) {
                const Mask passes = vector_passes(y);
                if (with_residual && a->mask != NULL)
                    mask_store(a->mask + (row + r) * a->mask_stride, c + i * LANES, lanes, passes);
                y = vector_gate(passes, y);
            }
            if (a->stream && lanes == LANES)
                vector_stream(a->y.data, to + i * LANES, bf16, y);
            else
                vector_store(a->y.data, to + i * LANES, lanes, bf16, y);
        }
    }
}

VECTOR_INLINE void apply_tile(const Apply *a, int64_t row, int rows, bool bf16, bool with_relu,
                              bool with_residual)
{
    int64_t c = 0;
    for (; c + STRIP * LANES <= a->columns; c += STRIP * LANES)
        apply_strip(a, row, rows, c, STRIP, LANES, bf16, with_relu, with_residual);
    for (; c + LANES <= a->columns; c += LANES)
        apply_strip(a, row, rows, c, 1, LANES, bf16, with_relu, with_residual);
    if (c < a->columns)
        apply_strip(a, row, rows, c, 1, (int)(a->columns - c), bf16, with_relu, with_residual);
}

VECTOR_INLINE void apply_rows(const Apply *apply, int64_t first, int64_t last, bool bf16, bool with_relu,
                              bool with_residual)
{
    const Apply copy = *apply, *a = &copy; /* that no store can change, so that registers hold it */
    int64_t row = first;
    for (; a->columns <= NARROW_COLUMNS && row + NARROW_TILE <= last; row += NARROW_TILE)
        apply_tile(a, row, NARROW_TILE, bf16, with_relu, with_residual);
    for (; row + ROW_TILE <= last; row += ROW_TILE)
        apply_tile(a, row, ROW_TILE, bf16, with_relu, with_residual);
    for (; row < last; ++row)
        apply_tile(a, row, 1, bf16, with_relu, with_residual);
}

/* The loops with each combination as constants. */
static void apply_float(const Apply *a, int64_t first, int64_t last, bool with_relu, bool with_residual)
{
    if (with_relu && with_residual)
        apply_rows(a, first, last, false, true, true);
    else if (with_relu)
        apply_rows(a, first, last, false, true, false);
    else
        apply_rows(a, first, last, false, false, with_residual);
}

static void apply_bfloat16(const Apply *a, int64_t first, int64_t last, bool with_relu, bool with_residual)
{
    if (with_relu && with_residual)
        apply_rows(a, first, last, true, true, true);
    else if (with_relu)
        apply_rows(a, first, last, true, true, false);
    else
        apply_rows(a, first, last, true, false, with_residual);
}

/* ---- the kernel ---- */

static Status run(const Call *call)
{
    const BatchNormAttributes *attributes = call->attributes;
    const Tensor *x = &call->in[BATCH_NORM_X], *residual = &call->in[BATCH_NORM_RESIDUAL];
    const RowBlocks blocks = row_blocks(shape_rows(x->shape), shape_columns(x->shape));
    const Scratch s = scratch_at(call->scratch, blocks, attributes->train);
    const bool bf16 = x->shape.type == BFLOAT16;
    const int threads = threads_for(call->device, blocks.rows * blocks.columns);
    const RowBlocks counted =
        row_blocks(batch_norm_counted_rows(x, &call->in[BATCH_NORM_CLOCK]), blocks.columns);
    double rows = (double)counted.rows;
    if (attributes->train) {
#pragma omp parallel num_threads(threads)
        {
            int64_t first, last;
            thread_share(counted.blocks, &first, &last);
            for (int64_t b = last - 1; b >= first; --b) {
                const int64_t row = b * counted.block_rows, at = b * counted.columns;
                const int64_t end =
                    row + counted.block_rows < counted.rows ? row + counted.block_rows : counted.rows;
                (bf16 ? sum_block_bfloat16 : sum_block_float)(x, row, end, s.shift + at, s.sum + at,
                                                              s.square + at);
            }
#pragma omp barrier
            thread_share(blocks.columns, &first, &last);
            combine(counted, &s, first, last);
        }
        if (attributes->synchronize && call->collective->size > 1)
            TRY(combine_ranks(call->collective, device_stream(call->device), s.total, blocks.columns, &rows));
        if (rows > 0) update_running(call, s.total, rows);
    }
    set_channels(call, &s, rows);
    const Tensor *y = &call->out[BATCH_NORM_Y];
    const Apply apply = {.x = *x,
                         .y = *y,
                         .residual = *residual,
                         .mask = call->wanted[BATCH_NORM_MASK] ? call->out[BATCH_NORM_MASK].data : NULL,
                         .mask_stride = shape_columns(call->out[BATCH_NORM_MASK].shape),
                         .columns = blocks.columns,
                         .ahead = rows_ahead(x),
                         .stream = y->data != x->data && y->data != residual->data && is_streamed(y),
                         .mean = s.mean,
                         .scale = s.scale,
                         .offset = s.offset};
#pragma omp parallel num_threads(threads)
    {
        int64_t first, last;
        thread_share(blocks.blocks, &first, &last);
        for (int64_t b = first; b < last; ++b) {
            const int64_t row = b * blocks.block_rows;
            const int64_t end = row + blocks.block_rows < blocks.rows ? row + blocks.block_rows : blocks.rows;
            (bf16 ? apply_bfloat16 : apply_float)(&apply, row, end, attributes->relu, residual->data != NULL);
        }
        vector_fence();
    }
    return OK;
}

const Kernel batch_norm_cpu = {.prepare = prepare,
                               .run = run,
                               .in_place = 1U << BATCH_NORM_X | 1U << BATCH_NORM_RESIDUAL,
                               .strided_in = 1U << BATCH_NORM_X | 1U << BATCH_NORM_RESIDUAL,
                               .strided_out = 1U << BATCH_NORM_Y};
