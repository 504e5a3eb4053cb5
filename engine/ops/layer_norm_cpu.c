/* layer_norm on the CPU: a row stays in the first-level cache, so one pass over memory each way. */
#include "engine/ops/layer_norm.h"

#include "engine/base/random.h"
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

/* Of a layer fused with an addition: added to dx (may be NULL); where dx times the mask goes (may be NULL), and the mask's random
 * words. */
typedef struct {
    const void *d_sum;
    void *d_made;
    const uint32_t *word;
    uint32_t threshold;
    float scale;
} Residual;

/* An element is kept if its 24 bits are not below the threshold; others become 0. */
VECTOR_INLINE Vector drop(const Residual *r, int64_t c, Vector x)
{
    BitsVector bits; /* there are words for whole vectors */
    memcpy(&bits, r->word + c, sizeof bits);
    const IntVector keep = (IntVector)(bits >> 8) >= (IntVector){0} + (int32_t)r->threshold;
    return (Vector)((IntVector)(x * r->scale) & keep);
}

/* Adds to the block's sums of dy n and dy. */
VECTOR_INLINE void backward_row(const void *dy, const void *x, void *dx, int64_t columns, bool bf16,
                                const float *weight, float mean, float inverse, float *product, float *sum,
                                const Residual *residual)
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
        Vector d = (h - h_mean - n * hn_mean) * inverse;
        if (residual != NULL && residual->d_sum != NULL) d += vector_load(residual->d_sum, c, lanes, bf16);
        if (residual != NULL && residual->d_made != NULL)
            vector_store(residual->d_made, c, lanes, bf16, drop(residual, c, d));
        vector_store(dx, c, lanes, bf16, d);
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
            backward_row(dy, x, dx, columns, true, weight, mean[row], inverse[row], product, sum, NULL);
        else
            backward_row(dy, x, dx, columns, false, weight, mean[row], inverse[row], product, sum, NULL);
    }
}

/* The blocks' sums, added in their order: this thread's share of the columns. */
static void add_blocks(RowBlocks blocks, const float *partial, float *dweight, float *dbias)
{
    int64_t first, last;
    thread_share(blocks.columns, &first, &last);
    for (int64_t c = first; c < last; ++c) {
        double product = 0, sum = 0;
        for (int64_t b = 0; b < blocks.blocks; ++b) {
            product += (double)partial[b * 2 * blocks.columns + c];
            sum += (double)partial[(b * 2 + 1) * blocks.columns + c];
        }
        dweight[c] = (float)product;
        dbias[c] = (float)sum;
    }
}

static Status backward_run(const Call *call)
{
    const Shape shape = call->in[LAYER_NORM_BACKWARD_X].shape;
    const RowBlocks blocks = row_blocks(shape_rows(shape), shape_columns(shape));
#pragma omp parallel num_threads(threads_for(call->device, 2 * shape_count(shape)))
    {
        int64_t first, last;
        thread_share(blocks.blocks, &first, &last);
        for (int64_t b = first; b < last; ++b)
            backward_block(call, blocks, b);
#pragma omp barrier
        add_blocks(blocks, call->scratch, call->out[LAYER_NORM_BACKWARD_DWEIGHT].data,
                   call->out[LAYER_NORM_BACKWARD_DBIAS].data);
    }
    return OK;
}

const Kernel layer_norm_backward_cpu = {.prepare = backward_prepare,
                                        .run = backward_run,
                                        .in_place =
                                            1U << LAYER_NORM_BACKWARD_DY | 1U << LAYER_NORM_BACKWARD_X};

/* ---- fused with the addition before it ---- */

/* Random words of a row of so many columns: it may begin and end inside a block. */
static int64_t row_words(int64_t columns)
{
    return (columns + 2 * DROPOUT_WORDS + LANES + DROPOUT_WORDS - 1) / DROPOUT_WORDS * DROPOUT_WORDS;
}

/* Of all rows. */
typedef struct {
    bool drops;
    int64_t columns, rows_a_sample;
    uint64_t first_sample, seed, step;
    uint32_t threshold;
    float scale;
} RowMasks;

static RowMasks mask_of(const ResidualNormAttributes *a, const Tensor *clock, Shape shape)
{
    RowMasks m = {.drops = a->dropout.probability > 0,
                  .columns = shape_columns(shape),
                  .rows_a_sample = shape_rows(shape) / shape.extent[0]};
    if (!m.drops) return m;
    const int64_t *times = clock->data;
    m.first_sample = (uint64_t)times[CLOCK_FIRST_SAMPLE];
    m.seed = dropout_seed((uint64_t)times[CLOCK_SEED], a->dropout.name_key);
    m.step = (uint64_t)times[CLOCK_STEP];
    m.threshold = dropout_threshold(a->dropout.probability);
    m.scale = dropout_scale(a->dropout.probability);
    return m;
}

/* Makes the random words of a row, as dropout does of the sample's elements; words: room for row_words. */
static void fill_words(const RowMasks *m, int64_t row, RandomBlock *words, Residual *residual)
{
    if (!m->drops) return;
    const uint64_t sample = m->first_sample + (uint64_t)(row / m->rows_a_sample);
    const int64_t element = row % m->rows_a_sample * m->columns, skip = element % DROPOUT_WORDS;
    random_blocks(m->seed, RANDOM_DROPOUT, m->step,
                  (sample << DROPOUT_ROW_BITS) + (uint64_t)(element / DROPOUT_WORDS),
                  (int)((skip + m->columns + DROPOUT_WORDS - 1) / DROPOUT_WORDS), words);
    residual->word = words->word + skip;
    residual->threshold = m->threshold;
    residual->scale = m->scale;
}

VECTOR_INLINE void add_row(const void *x, const void *made, void *sum, int64_t columns, bool bf16, bool drops,
                           const Residual *residual)
{
    for (int64_t c = 0; c < columns; c += LANES) {
        const int lanes = lanes_at(c, columns);
        Vector added = vector_load(made, c, lanes, bf16);
        if (drops) added = drop(residual, c, added);
        vector_store(sum, c, lanes, bf16, vector_load(x, c, lanes, bf16) + added);
    }
}

/* Scratch: random words of a row a thread. */
static Status residual_prepare(Call *call, size_t *scratch_bytes)
{
    *scratch_bytes = (size_t)row_words(shape_columns(call->in[RESIDUAL_NORM_X].shape)) * sizeof(uint32_t) *
                     (size_t)device_threads(call->device);
    return OK;
}

static Status residual_run(const Call *call)
{
    const ResidualNormAttributes *a = call->attributes;
    const Shape shape = call->in[RESIDUAL_NORM_X].shape;
    const int64_t rows = shape_rows(shape), columns = shape_columns(shape);
    const bool bf16 = shape.type == BFLOAT16;
    const int64_t bytes = columns * (bf16 ? 2 : 4);
    const float *weight = call->in[RESIDUAL_NORM_WEIGHT].data, *bias = call->in[RESIDUAL_NORM_BIAS].data;
    float *mean = call->out[RESIDUAL_NORM_MEAN].data,
          *inverse = call->out[RESIDUAL_NORM_INVERSE_DEVIATION].data;
    if (shape_count(shape) == 0) return OK;
    const RowMasks mask = mask_of(a, &call->in[RESIDUAL_NORM_CLOCK], shape);
#pragma omp parallel num_threads(threads_for(call->device, (mask.drops ? 10 : 1) * rows * columns))
    {
        int64_t first, last;
        Residual residual = {.d_sum = NULL};
        RandomBlock *words =
            (RandomBlock *)call->scratch + omp_get_thread_num() * row_words(columns) / DROPOUT_WORDS;
        thread_share(rows, &first, &last);
        for (int64_t row = first; row < last; ++row) {
            const char *x = (const char *)call->in[RESIDUAL_NORM_X].data + row * bytes;
            const char *made = (const char *)call->in[RESIDUAL_NORM_MADE].data + row * bytes;
            char *sum = (char *)call->out[RESIDUAL_NORM_SUM].data + row * bytes;
            char *y = (char *)call->out[RESIDUAL_NORM_Y].data + row * bytes;
            fill_words(&mask, row, words, &residual);
            if (bf16) {
                add_row(x, made, sum, columns, true, mask.drops, &residual);
                forward_row(sum, y, columns, true, weight, bias, a->epsilon, mean + row, inverse + row);
            } else {
                add_row(x, made, sum, columns, false, mask.drops, &residual);
                forward_row(sum, y, columns, false, weight, bias, a->epsilon, mean + row, inverse + row);
            }
        }
    }
    return OK;
}

const Kernel residual_norm_cpu = {.prepare = residual_prepare,
                                  .run = residual_run,
                                  .in_place = 1U << RESIDUAL_NORM_X | 1U << RESIDUAL_NORM_MADE};

/* Scratch: [blocks][2][C], the sums of blocks of rows; then random words of a row a thread. */
static Status residual_backward_prepare(Call *call, size_t *scratch_bytes)
{
    const Shape x = call->in[RESIDUAL_NORM_BACKWARD_SUM].shape;
    const RowBlocks blocks = row_blocks(shape_rows(x), shape_columns(x));
    *scratch_bytes = (size_t)(blocks.blocks * 2 * blocks.columns +
                              row_words(blocks.columns) * (int64_t)device_threads(call->device)) *
                     sizeof(float);
    return OK;
}

static void residual_block(const Call *call, RowBlocks blocks, int64_t b, const RowMasks *mask,
                           RandomBlock *words)
{
    const int64_t columns = blocks.columns, first = b * blocks.block_rows;
    const int64_t last = first + blocks.block_rows < blocks.rows ? first + blocks.block_rows : blocks.rows;
    const bool bf16 = call->in[RESIDUAL_NORM_BACKWARD_SUM].shape.type == BFLOAT16;
    const int64_t bytes = columns * (bf16 ? 2 : 4);
    const float *weight = call->in[RESIDUAL_NORM_BACKWARD_WEIGHT].data;
    const float *mean = call->in[RESIDUAL_NORM_BACKWARD_MEAN].data;
    const float *inverse = call->in[RESIDUAL_NORM_BACKWARD_INVERSE_DEVIATION].data;
    const char *d_sum = call->in[RESIDUAL_NORM_BACKWARD_DSUM].data;
    float *product = (float *)call->scratch + b * 2 * columns, *sum = product + columns;
    memset(product, 0, (size_t)columns * 2 * sizeof(float));
    for (int64_t row = first; row < last; ++row) {
        const char *dy = (const char *)call->in[RESIDUAL_NORM_BACKWARD_DY].data + row * bytes;
        const char *x = (const char *)call->in[RESIDUAL_NORM_BACKWARD_SUM].data + row * bytes;
        char *dx = (char *)call->out[RESIDUAL_NORM_BACKWARD_DX].data + row * bytes;
        Residual residual = {.d_sum = d_sum != NULL ? d_sum + row * bytes : NULL};
        if (mask->drops) residual.d_made = (char *)call->out[RESIDUAL_NORM_BACKWARD_DMADE].data + row * bytes;
        fill_words(mask, row, words, &residual);
        if (bf16)
            backward_row(dy, x, dx, columns, true, weight, mean[row], inverse[row], product, sum, &residual);
        else
            backward_row(dy, x, dx, columns, false, weight, mean[row], inverse[row], product, sum, &residual);
    }
}

static Status residual_backward_run(const Call *call)
{
    const Shape shape = call->in[RESIDUAL_NORM_BACKWARD_SUM].shape;
    const RowBlocks blocks = row_blocks(shape_rows(shape), shape_columns(shape));
    const RowMasks mask = mask_of(call->attributes, &call->in[RESIDUAL_NORM_BACKWARD_CLOCK], shape);
    float *partial = call->scratch;
#pragma omp parallel num_threads(threads_for(call->device, (mask.drops ? 10 : 2) * shape_count(shape)))
    {
        int64_t first, last;
        RandomBlock *words = (RandomBlock *)(void *)(partial + blocks.blocks * 2 * blocks.columns) +
                             omp_get_thread_num() * row_words(blocks.columns) / DROPOUT_WORDS;
        thread_share(blocks.blocks, &first, &last);
        for (int64_t b = first; b < last; ++b)
            residual_block(call, blocks, b, &mask, words);
#pragma omp barrier
        add_blocks(blocks, partial, call->out[RESIDUAL_NORM_BACKWARD_DWEIGHT].data,
                   call->out[RESIDUAL_NORM_BACKWARD_DBIAS].data);
    }
    return OK;
}

const Kernel residual_norm_backward_cpu = {.prepare = residual_backward_prepare,
                                           .run = residual_backward_run,
                                           .in_place = 1U << RESIDUAL_NORM_BACKWARD_DY |
                                                       1U << RESIDUAL_NORM_BACKWARD_DSUM |
                                                       1U << RESIDUAL_NORM_BACKWARD_SUM};
