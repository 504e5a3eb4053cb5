/* layer_norm on the CPU: a row stays in the first-level cache, so one pass over memory each way. */
#include "engine/ops/layer_norm.h"

#include "engine/ops/rows_cpu.h"
#include "engine/ops/vector_cpu.h"

#include <math.h>

VECTOR_INLINE int lanes_at(int64_t c, int64_t columns)
{
    return columns - c < LANES ? (int)(columns - c) : LANES;
}

/* x - value, with absent lanes 0. */
VECTOR_INLINE Vector load_less(const void *x, int64_t c, int64_t columns, bool bf16, float value)
{
    const int lanes = lanes_at(c, columns);
    const Vector difference = vector_load(x, c, lanes, bf16) - value;
    if (lanes == LANES) return difference;
    return (Vector)((IntVector)difference & vector_present(lanes));
}

/* The differences from the row's first element are summed first, then those from the mean so found; what its
 * rounding left over corrects the variance. */
VECTOR_INLINE void forward_row(const void *x, void *y, int64_t columns, bool bf16, const float *weight,
                               const float *bias, double epsilon, float *saved_mean, float *saved_inverse)
{
    const float origin = bf16 ? bfloat16_to_float(*(const bfloat16 *)x) : *(const float *)x;
    Vector sum = {0};
    for (int64_t c = 0; c < columns; c += LANES)
        sum += load_less(x, c, columns, bf16, origin);
    const double count = (double)columns;
    const float mean = (float)((double)origin + (double)vector_sum(sum) / count);
    Vector left = {0}, square = {0};
    for (int64_t c = 0; c < columns; c += LANES) {
        const Vector d = load_less(x, c, columns, bf16, mean);
        left += d;
        square += d * d;
    }
    const double rest = (double)vector_sum(left) / count;
    const double variance = (double)vector_sum(square) / count - rest * rest;
    const float inverse = (float)(1 / sqrt((variance > 0 ? variance : 0) + epsilon));
    const float shift = (float)(-rest * (double)inverse);
    *saved_mean = mean;
    *saved_inverse = inverse;
    for (int64_t c = 0; c < columns; c += LANES) {
        const int lanes = lanes_at(c, columns);
        const Vector n = (vector_load(x, c, lanes, bf16) - mean) * inverse + shift;
        vector_store(y, c, lanes, bf16,
                     n * vector_load(weight, c, lanes, false) + vector_load(bias, c, lanes, false));
    }
}

static Status forward_run(const Call *call)
{
    const LayerNormAttributes *attributes = call->attributes;
    const Shape shape = call->in[LAYER_NORM_X].shape;
    const int64_t rows = shape_rows(shape), columns = shape_columns(shape);
    const bool bf16 = shape.type == BFLOAT16;
    const int64_t bytes = columns * (bf16 ? 2 : 4);
    const float *weight = call->in[LAYER_NORM_WEIGHT].data, *bias = call->in[LAYER_NORM_BIAS].data;
    float *mean = call->out[LAYER_NORM_MEAN].data, *inverse = call->out[LAYER_NORM_INVERSE_DEVIATION].data;
#pragma omp parallel num_threads(threads_for(call->device, rows *columns))
    {
        int64_t first, last;
        thread_share(rows, &first, &last);
        for (int64_t row = first; row < last; ++row) {
            const char *x = (const char *)call->in[LAYER_NORM_X].data + row * bytes;
            char *y = (char *)call->out[LAYER_NORM_Y].data + row * bytes;
            if (bf16)
                forward_row(x, y, columns, true, weight, bias, attributes->epsilon, mean + row,
                            inverse + row);
            else
                forward_row(x, y, columns, false, weight, bias, attributes->epsilon, mean + row,
                            inverse + row);
        }
    }
    return OK;
}

const Kernel layer_norm_cpu = {.run = forward_run, .in_place = 1U << LAYER_NORM_X};

/* Adds to the block's sums of dy n and dy. */
VECTOR_INLINE void backward_row(const void *dy, const void *x, void *dx, int64_t columns, bool bf16,
                                const float *weight, float mean, float inverse, float *product, float *sum)
{
    Vector h_sum = {0}, hn_sum = {0};
    for (int64_t c = 0; c < columns; c += LANES) {
        const int lanes = lanes_at(c, columns);
        const Vector g = vector_load(dy, c, lanes, bf16);
        const Vector n = (vector_load(x, c, lanes, bf16) - mean) * inverse;
        const Vector h = g * vector_load(weight, c, lanes, false);
        h_sum += h;
        hn_sum += h * n;
        vector_store(product, c, lanes, false, vector_load(product, c, lanes, false) + g * n);
        vector_store(sum, c, lanes, false, vector_load(sum, c, lanes, false) + g);
    }
    const float h_mean = vector_sum(h_sum) / (float)columns, hn_mean = vector_sum(hn_sum) / (float)columns;
    for (int64_t c = 0; c < columns; c += LANES) {
        const int lanes = lanes_at(c, columns);
        const Vector n = (vector_load(x, c, lanes, bf16) - mean) * inverse;
        const Vector h = vector_load(dy, c, lanes, bf16) * vector_load(weight, c, lanes, false);
        vector_store(dx, c, lanes, bf16, (h - h_mean - n * hn_mean) * inverse);
    }
}

/* Scratch: [blocks][2][C], the sums of blocks of rows. */
static Status backward_prepare(Call *call, size_t *scratch_bytes)
{
    const Shape x = call->in[LAYER_NORM_BACKWARD_X].shape;
    const RowBlocks blocks = row_blocks(shape_rows(x), shape_columns(x));
    *scratch_bytes = (size_t)blocks.blocks * 2 * (size_t)blocks.columns * sizeof(float);
    return OK;
}

static void backward_block(const Call *call, RowBlocks blocks, int64_t b)
{
    const int64_t columns = blocks.columns, first = b * blocks.block_rows;
    const int64_t last = first + blocks.block_rows < blocks.rows ? first + blocks.block_rows : blocks.rows;
    const bool bf16 = call->in[LAYER_NORM_BACKWARD_X].shape.type == BFLOAT16;
    const int64_t bytes = columns * (bf16 ? 2 : 4);
    const float *weight = call->in[LAYER_NORM_BACKWARD_WEIGHT].data;
    const float *mean = call->in[LAYER_NORM_BACKWARD_MEAN].data;
    const float *inverse = call->in[LAYER_NORM_BACKWARD_INVERSE_DEVIATION].data;
    float *product = (float *)call->scratch + b * 2 * columns, *sum = product + columns;
    memset(product, 0, (size_t)columns * 2 * sizeof(float));
    for (int64_t row = first; row < last; ++row) {
        const char *dy = (const char *)call->in[LAYER_NORM_BACKWARD_DY].data + row * bytes;
        const char *x = (const char *)call->in[LAYER_NORM_BACKWARD_X].data + row * bytes;
        char *dx = (char *)call->out[LAYER_NORM_BACKWARD_DX].data + row * bytes;
        if (bf16)
            backward_row(dy, x, dx, columns, true, weight, mean[row], inverse[row], product, sum);
        else
            backward_row(dy, x, dx, columns, false, weight, mean[row], inverse[row], product, sum);
    }
}

static Status backward_run(const Call *call)
{
    const Shape shape = call->in[LAYER_NORM_BACKWARD_X].shape;
    const RowBlocks blocks = row_blocks(shape_rows(shape), shape_columns(shape));
    float *dweight = call->out[LAYER_NORM_BACKWARD_DWEIGHT].data;
    float *dbias = call->out[LAYER_NORM_BACKWARD_DBIAS].data;
#pragma omp parallel num_threads(threads_for(call->device, 2 * shape_count(shape)))
    {
        int64_t first, last;
        thread_share(blocks.blocks, &first, &last);
        for (int64_t b = first; b < last; ++b)
            backward_block(call, blocks, b);
#pragma omp barrier
        thread_share(blocks.columns, &first, &last);
        for (int64_t c = first; c < last; ++c) {
            double product = 0, sum = 0;
            for (int64_t b = 0; b < blocks.blocks; ++b) {
                const float *partial = (const float *)call->scratch + b * 2 * blocks.columns;
                product += (double)partial[c];
                sum += (double)partial[blocks.columns + c];
            }
            dweight[c] = (float)product;
            dbias[c] = (float)sum;
        }
    }
    return OK;
}

const Kernel layer_norm_backward_cpu = {.prepare = backward_prepare,
                                        .run = backward_run,
                                        .in_place =
                                            1U << LAYER_NORM_BACKWARD_DY | 1U << LAYER_NORM_BACKWARD_X};
