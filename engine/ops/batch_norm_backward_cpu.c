/* batch_norm_backward on the CPU: one pass for the two sums a channel needs, one for dx; in GRAPH_EVALUATE,
 * where dx needs no sums, one pass for all. The ReLU's mask is computed anew from x as forward computed it,
 * or read as bits where there was a residual; y is never read. */
#include "engine/ops/batch_norm.h"

#include "engine/device/collective.h"
#include "engine/ops/rows_cpu.h"
#include "engine/ops/vector_cpu.h"

typedef enum { GATE_NONE, GATE_FROM_X, GATE_FROM_MASK } Gate;

typedef struct {
    double *total;            /* [2C + 1]: sums of g, sums of g (x - mean); room for a count */
    float *sum, *product;     /* [blocks][C] each */
    float *scale;             /* [C] weight * inverse deviation */
    float *constant, *factor; /* [C]: dx = g * scale + (x - mean) * factor + constant */
    size_t bytes;
} Scratch;

static Scratch scratch_at(void *memory, RowBlocks blocks)
{
    const size_t columns = (size_t)blocks.columns, partial = (size_t)blocks.blocks * columns;
    Scratch s = {.total = memory,
                 .bytes = (2 * columns + 1) * sizeof(double) + (2 * partial + 3 * columns) * sizeof(float)};
    if (memory == NULL) return s;
    s.sum = (void *)(s.total + 2 * columns + 1);
    s.product = s.sum + partial;
    s.scale = s.product + partial;
    s.constant = s.scale + columns;
    s.factor = s.constant + columns;
    return s;
}

static Status prepare(Call *call, size_t *scratch_bytes)
{
    const Shape x = call->in[BATCH_NORM_BACKWARD_X].shape;
    *scratch_bytes = scratch_at(NULL, row_blocks(shape_rows(x), shape_columns(x))).bytes;
    return OK;
}

typedef struct {
    Tensor dy, x, addend, dx, dresidual;
    const uint8_t *mask;
    int64_t mask_stride, columns, ahead;
    const float *mean, *bias, *scale, *constant, *factor;
    float *sum, *product; /* of the block at hand; NULL: not asked for */
    bool stream_dx, stream_dresidual;
} Pass;

/* What both passes begin with: the gradient that came through the ReLU. */
VECTOR_INLINE Vector load_gradient(const Pass *p, int64_t row, int64_t c, int lanes, Vector xm, Vector scale,
                                   Vector bias, bool bf16, Gate gate)
{
    Vector g = vector_load(p->dy.data, row * p->dy.stride + c, lanes, bf16);
    if (gate == GATE_FROM_X) g = vector_gate(vector_passes(xm * scale + bias), g);
    if (gate == GATE_FROM_MASK) g = vector_gate(mask_load(p->mask + row * p->mask_stride, c, lanes), g);
    return g;
}

VECTOR_INLINE void store_result(const Tensor *tensor, int64_t row, int64_t c, int lanes, bool bf16,
                                bool stream, Vector vector)
{
    if (stream && lanes == LANES)
        vector_stream(tensor->data, row * tensor->stride + c, bf16, vector);
    else
        vector_store(tensor->data, row * tensor->stride + c, lanes, bf16, vector);
}

VECTOR_INLINE void prefetch_row(const Pass *p, int64_t row, int64_t c, int vectors, bool bf16, bool result)
{
    vector_prefetch(p->x.data, row * p->x.stride + c, vectors, bf16);
    vector_prefetch(p->dy.data, row * p->dy.stride + c, vectors, bf16);
    if (result && p->addend.data != NULL)
        vector_prefetch(p->addend.data, row * p->addend.stride + c, vectors, bf16);
}

/* sums: add to p->sum and p->product. result: write dx and dresidual. `vectors` neighbouring columns'
 * vectors, of which the last has `lanes` lanes. */
VECTOR_INLINE void pass_strip(const Pass *p, int64_t row, int rows, int64_t c, int vectors, int lanes,
                              bool bf16, Gate gate, bool sums, bool result)
{
    Vector mean[STRIP], scale[STRIP], bias[STRIP], constant[STRIP], factor[STRIP], sum[STRIP], product[STRIP];
    for (int i = 0; i < vectors; ++i) {
        const int64_t at = c + i * LANES;
        mean[i] = vector_load(p->mean, at, lanes, false);
        scale[i] = vector_load(p->scale, at, lanes, false);
        bias[i] = vector_load(p->bias, at, lanes, false);
        constant[i] = result ? vector_load(p->constant, at, lanes, false) : (Vector){0};
        factor[i] = result ? vector_load(p->factor, at, lanes, false) : (Vector){0};
        sum[i] = sums ? vector_load(p->sum, at, lanes, false) : (Vector){0};
        product[i] = sums ? vector_load(p->product, at, lanes, false) : (Vector){0};
    }
    for (int r = 0; r < rows; ++r) {
        prefetch_row(p, row + r + p->ahead, c, vectors, bf16, result);
        for (int i = 0; i < vectors; ++i) {
            const int64_t at = c + i * LANES;
            const Vector xm = vector_load(p->x.data, (row + r) * p->x.stride + at, lanes, bf16) - mean[i];
            const Vector g = load_gradient(p, row + r, at, lanes, xm, scale[i], bias[i], bf16, gate);
            if (sums) {
                sum[i] += g;
                product[i] += g * xm;
            }
            if (!result) continue;
            if (gate == GATE_FROM_MASK && p->dresidual.data != NULL)
                store_result(&p->dresidual, row + r, at, lanes, bf16, p->stream_dresidual, g);
            if (p->dx.data != NULL) {
                Vector dx = g * scale[i] + (xm * factor[i] + constant[i]);
                if (p->addend.data != NULL)
                    dx += vector_load(p->addend.data, (row + r) * p->addend.stride + at, lanes, bf16);
                store_result(&p->dx, row + r, at, lanes, bf16, p->stream_dx, dx);
            }
        }
    }
    for (int i = 0; i < vectors && sums; ++i) {
        vector_store(p->sum, c + i * LANES, lanes, false, sum[i]);
        vector_store(p->product, c + i * LANES, lanes, false, product[i]);
    }
}

VECTOR_INLINE void pass_tile(const Pass *p, int64_t row, int rows, bool bf16, Gate gate, bool sums,
                             bool result)
{
    int64_t c = 0;
    for (; c + STRIP * LANES <= p->columns; c += STRIP * LANES)
        pass_strip(p, row, rows, c, STRIP, LANES, bf16, gate, sums, result);
    for (; c + LANES <= p->columns; c += LANES)
        pass_strip(p, row, rows, c, 1, LANES, bf16, gate, sums, result);
    if (c < p->columns) pass_strip(p, row, rows, c, 1, (int)(p->columns - c), bf16, gate, sums, result);
}

VECTOR_INLINE void pass_rows(const Pass *pass, int64_t first, int64_t last, bool bf16, Gate gate, bool sums,
                             bool result)
{
    const Pass copy = *pass, *p = &copy; /* that no store can change, so that registers hold it */
    int64_t row = first;
    for (; p->columns <= NARROW_COLUMNS && row + NARROW_TILE <= last; row += NARROW_TILE)
        pass_tile(p, row, NARROW_TILE, bf16, gate, sums, result);
    for (; row + ROW_TILE <= last; row += ROW_TILE)
        pass_tile(p, row, ROW_TILE, bf16, gate, sums, result);
    for (; row < last; ++row)
        pass_tile(p, row, 1, bf16, gate, sums, result);
}

/* The loops with each gate as a constant. */
VECTOR_INLINE void pass_block(const Pass *p, int64_t first, int64_t last, bool bf16, Gate gate, bool sums,
                              bool result)
{
    if (gate == GATE_NONE)
        pass_rows(p, first, last, bf16, GATE_NONE, sums, result);
    else if (gate == GATE_FROM_X)
        pass_rows(p, first, last, bf16, GATE_FROM_X, sums, result);
    else
        pass_rows(p, first, last, bf16, GATE_FROM_MASK, sums, result);
}

static void pass_float(const Pass *p, int64_t first, int64_t last, Gate gate, bool sums, bool result)
{
    if (sums && result)
        pass_block(p, first, last, false, gate, true, true);
    else if (sums)
        pass_block(p, first, last, false, gate, true, false);
    else
        pass_block(p, first, last, false, gate, false, true);
}

static void pass_bfloat16(const Pass *p, int64_t first, int64_t last, Gate gate, bool sums, bool result)
{
    if (sums && result)
        pass_block(p, first, last, true, gate, true, true);
    else if (sums)
        pass_block(p, first, last, true, gate, true, false);
    else
        pass_block(p, first, last, true, gate, false, true);
}

/* All blocks, this thread's share. The first pass goes backwards: what the producer of dy wrote last, and
 * what this pass reads last, is then still in the cache when it is needed. */
static void pass_share(const Pass *pass, RowBlocks blocks, const Scratch *s, bool bf16, Gate gate, bool sums,
                       bool result)
{
    int64_t first, last;
    thread_share(blocks.blocks, &first, &last);
    for (int64_t i = first; i < last; ++i) {
        const int64_t b = sums ? last - 1 - (i - first) : i;
        const int64_t row = b * blocks.block_rows;
        const int64_t end = row + blocks.block_rows < blocks.rows ? row + blocks.block_rows : blocks.rows;
        Pass p = *pass;
        if (sums) {
            p.sum = s->sum + b * blocks.columns;
            p.product = s->product + b * blocks.columns;
            memset(p.sum, 0, (size_t)blocks.columns * sizeof(float));
            memset(p.product, 0, (size_t)blocks.columns * sizeof(float));
        }
        (bf16 ? pass_bfloat16 : pass_float)(&p, row, end, gate, sums, result);
    }
    vector_fence();
}

static void combine(RowBlocks blocks, const Scratch *s, int64_t first, int64_t last)
{
    const int64_t columns = blocks.columns;
    for (int64_t c = first; c < last; ++c)
        s->total[c] = s->total[columns + c] = 0;
    for (int64_t b = 0; b < blocks.blocks; ++b) {
        const float *sum = s->sum + b * columns, *product = s->product + b * columns;
        for (int64_t c = first; c < last; ++c) {
            s->total[c] += (double)sum[c];
            s->total[columns + c] += (double)product[c];
        }
    }
}

static void write_parameter_gradients(const Call *call, const double *total, int64_t columns)
{
    const float *inverse = call->in[BATCH_NORM_BACKWARD_INVERSE_DEVIATION].data;
    float *dweight = call->out[BATCH_NORM_BACKWARD_DWEIGHT].data;
    float *dbias = call->out[BATCH_NORM_BACKWARD_DBIAS].data;
    for (int64_t c = 0; c < columns; ++c) {
        dbias[c] = (float)total[c];
        dweight[c] = (float)(total[columns + c] * (double)inverse[c]);
    }
}

/* Gradients through the statistics, which are those of all ranks' rows if synchronised. */
static Status set_channels(const Call *call, const Scratch *s, RowBlocks blocks)
{
    const BatchNormAttributes *attributes = call->attributes;
    const int64_t columns = blocks.columns;
    const float *inverse = call->in[BATCH_NORM_BACKWARD_INVERSE_DEVIATION].data;
    double rows = (double)blocks.rows;
    if (attributes->synchronize && call->collective->size > 1) {
        Collective *collective = call->collective;
        const Stream stream = device_stream(call->device);
        s->total[2 * columns] = rows;
        TRY(collective_sum(collective, (Span){.data = s->total, .count = 2 * columns + 1, .type = FLOAT64},
                           stream));
        TRY(collective_join(collective, stream));
        rows = s->total[2 * columns];
    }
    for (int64_t c = 0; c < columns && rows > 0; ++c) {
        const double scale = (double)s->scale[c], i = (double)inverse[c];
        s->constant[c] = (float)(-scale * s->total[c] / rows);
        s->factor[c] = (float)(-scale * i * i * s->total[columns + c] / rows);
    }
    return OK;
}

/* Padding behind the rows that count. */
static void clear_rows(const Tensor *tensor, int64_t first)
{
    const size_t size = dtype_size(tensor->shape.type);
    for (int64_t row = first; tensor->data != NULL && row < shape_rows(tensor->shape); ++row)
        memset((char *)tensor->data + (size_t)(row * tensor->stride) * size, 0,
               (size_t)shape_columns(tensor->shape) * size);
}

static Status run(const Call *call)
{
    const BatchNormAttributes *attributes = call->attributes;
    const Tensor *x = &call->in[BATCH_NORM_BACKWARD_X], *mask = &call->in[BATCH_NORM_BACKWARD_MASK];
    /* No more blocks than there is scratch memory for: it was measured without padding. */
    const RowBlocks blocks =
        row_blocks(batch_norm_counted_rows(x, &call->in[BATCH_NORM_BACKWARD_CLOCK]), shape_columns(x->shape));
    const Scratch s = scratch_at(call->scratch, blocks);
    const bool bf16 = x->shape.type == BFLOAT16, train = attributes->train;
    const int threads = threads_for(call->device, 2 * blocks.rows * blocks.columns);
    const Gate gate = !attributes->relu ? GATE_NONE : mask->data != NULL ? GATE_FROM_MASK : GATE_FROM_X;
    const float *weight = call->in[BATCH_NORM_BACKWARD_WEIGHT].data;
    const float *inverse = call->in[BATCH_NORM_BACKWARD_INVERSE_DEVIATION].data;
    for (int64_t c = 0; c < blocks.columns; ++c) {
        s.scale[c] = (float)((double)weight[c] * (double)inverse[c]);
        s.constant[c] = s.factor[c] = 0;
    }
    Pass pass = {.dy = call->in[BATCH_NORM_BACKWARD_DY],
                 .x = *x,
                 .addend = call->in[BATCH_NORM_BACKWARD_ADDEND],
                 .mask = mask->data,
                 .mask_stride = shape_columns(mask->shape),
                 .columns = blocks.columns,
                 .ahead = rows_ahead(x),
                 .mean = call->in[BATCH_NORM_BACKWARD_MEAN].data,
                 .bias = call->in[BATCH_NORM_BACKWARD_BIAS].data,
                 .scale = s.scale,
                 .constant = s.constant,
                 .factor = s.factor};
    if (call->wanted[BATCH_NORM_BACKWARD_DX]) pass.dx = call->out[BATCH_NORM_BACKWARD_DX];
    if (call->wanted[BATCH_NORM_BACKWARD_DRESIDUAL])
        pass.dresidual = call->out[BATCH_NORM_BACKWARD_DRESIDUAL];
    /* In place the line was just read. */
    pass.stream_dx = pass.dx.data != NULL && pass.dx.data != pass.dy.data && is_streamed(&pass.dx);
    pass.stream_dresidual = pass.dresidual.data != NULL && is_streamed(&pass.dresidual);
    const bool result = pass.dx.data != NULL || pass.dresidual.data != NULL;
#pragma omp parallel num_threads(threads)
    {
        pass_share(&pass, blocks, &s, bf16, gate, true, result && !train);
#pragma omp barrier
        int64_t first, last;
        thread_share(blocks.columns, &first, &last);
        combine(blocks, &s, first, last);
    }
    write_parameter_gradients(call, s.total, blocks.columns);
    if (result) {
        clear_rows(&pass.dx, blocks.rows);
        clear_rows(&pass.dresidual, blocks.rows);
    }
    if (!train) return OK;
    /* Every rank must take part in the exchange, whatever it wants itself. */
    TRY(set_channels(call, &s, blocks));
    if (!result) return OK;
#pragma omp parallel num_threads(threads)
    pass_share(&pass, blocks, &s, bf16, gate, false, true);
    return OK;
}

enum {
    STRIDED_IN =
        1U << BATCH_NORM_BACKWARD_DY | 1U << BATCH_NORM_BACKWARD_X | 1U << BATCH_NORM_BACKWARD_ADDEND,
    STRIDED_OUT = 1U << BATCH_NORM_BACKWARD_DX | 1U << BATCH_NORM_BACKWARD_DRESIDUAL
};

const Kernel batch_norm_backward_cpu = {
    .prepare = prepare,
    .run = run,
    .in_place = 1U << BATCH_NORM_BACKWARD_DY | 1U << BATCH_NORM_BACKWARD_ADDEND | 1U << BATCH_NORM_BACKWARD_X,
    .strided_in = STRIDED_IN,
    .strided_out = STRIDED_OUT};
