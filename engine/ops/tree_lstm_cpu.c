/* tree_lstm on the CPU: what both passes share, and forward. */
#include "engine/ops/tree_lstm_cpu.h"

#include <string.h>

/* ---- the batch ---- */

Forest forest_of(const Call *call, const Tensor in[])
{
    const TreeLstmAttributes *a = call->attributes;
    Forest f = {.attributes = a,
                .capacity = {in[TREE_LSTM_X].shape.extent[0], in[TREE_LSTM_CHILDREN].shape.extent[0]},
                .width = in[TREE_LSTM_X].shape.extent[1],
                .memory = in[TREE_LSTM_LEAF_WEIGHT].shape.extent[0],
                .gates = tree_lstm_gates(a),
                .bf16 = in[TREE_LSTM_X].shape.type == BFLOAT16,
                .levels = (int)in[TREE_LSTM_LEVELS].shape.extent[0] - 1};
    f.rows = f.capacity[0] + f.capacity[1];
    f.x_blocks = (f.width + LANES - 1) / LANES;
    f.blocks = (f.memory + LANES - 1) / LANES;
    for (int i = 0; i < TREE_LEAF_PARTS; ++i)
        if (a->leaf_part[i]) f.part[f.parts++] = i;
    return f;
}

Status forest_read(Forest *f, const Tensor in[])
{
    f->end = in[TREE_LSTM_LEVELS].data;
    f->children = in[TREE_LSTM_CHILDREN].data;
    f->leaves = f->end[0];
    f->nodes = f->end[f->levels];
    if (f->leaves < 0 || f->leaves > f->capacity[0] || f->nodes - f->leaves > f->capacity[1])
        return fail(STATUS_INTERNAL,
                    "a batch of %lld leaves and %lld nodes in arrays for %lld leaves and %lld inner nodes",
                    (long long)f->leaves, (long long)f->nodes, (long long)f->capacity[0],
                    (long long)f->capacity[1]);
    for (int level = 1; level <= f->levels; ++level) {
        if (f->end[level] < f->end[level - 1])
            return fail(STATUS_INTERNAL, "level %d of a batch of trees ends before it begins", level);
        for (int64_t i = f->end[level - 1] - f->leaves; i < f->end[level] - f->leaves; ++i)
            for (int side = 0; side < 2; ++side)
                if (f->children[2 * i + side] < 0 || f->children[2 * i + side] >= f->end[level - 1])
                    return fail(STATUS_INTERNAL,
                                "node %lld of level %d has child %d, but children are nodes of lower levels",
                                (long long)(f->leaves + i), level, f->children[2 * i + side]);
    }
    return OK;
}

int forest_threads(const Forest *f, const Device *device)
{
    const int threads = threads_for(device, f->nodes * (f->width + f->memory));
    return threads < f->blocks ? threads : (int)f->blocks;
}

void block_rows(const void *from, bool bf16, int64_t columns, int64_t first, int64_t last, int64_t rows,
                float *to)
{
    for (int64_t row = first; row < last; ++row)
        for (int64_t c = 0; c < columns; c += LANES)
            vector_store(to, (c / LANES * rows + row) * LANES, LANES, false,
                         vector_load(from, row * columns + c, lanes_from(c, columns), bf16));
}

void round_weights(const Forest *f, float *weights, int64_t count)
{
    if (!f->bf16) return;
    for (int64_t i = 0; i < count; i += LANES) {
        bfloat16 half[LANES];
        vector_store(half, 0, LANES, true, vector_load(weights, i, LANES, false));
        vector_store(weights, i, LANES, false, vector_load(half, 0, LANES, true));
    }
}

/* ---- products ---- */

int tile_rows(int vectors)
{
#if VECTOR_AVX512
    static const int most[TILE_VECTORS + 1] = {0, 8, 8, 6, 6, 5}; /* of 32 registers */
#else
    static const int most[TILE_VECTORS + 1] = {0, 8, 5, 3, 2, 2}; /* of 16 */
#endif
    return most[vectors];
}

VECTOR_INLINE void multiply(float *tile, const float *const row[], int64_t stride, int64_t columns, int runs,
                            const float *weight, const int rows, const int vectors)
{
    Vector sum[TILE_ROWS][TILE_VECTORS];
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 5
        for (int v = 0; v < vectors; ++v)
            sum[r][v] = vector_load(tile, (r * vectors + v) * LANES, LANES, false);
    for (int64_t first = 0; first < columns; first += LANES) {
        const int lanes = lanes_from(first, columns);
        for (int run = 0; run < runs; ++run) {
            int64_t at = first / LANES * stride + run * LANES;
            for (int lane = 0; lane < lanes; ++lane, ++at, weight += vectors * LANES) {
                Vector w[TILE_VECTORS];
#pragma GCC unroll 5
                for (int v = 0; v < vectors; ++v)
                    w[v] = vector_load(weight, v * LANES, LANES, false);
#pragma GCC unroll 8
                for (int r = 0; r < rows; ++r) {
                    const Vector factor = vector_all(row[r][at]);
#pragma GCC unroll 5
                    for (int v = 0; v < vectors; ++v)
                        sum[r][v] += factor * w[v];
                }
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 5
        for (int v = 0; v < vectors; ++v)
            vector_store(tile, (r * vectors + v) * LANES, LANES, false, sum[r][v]);
}

/* One loop for each number of rows, so that sums stay in registers. */
VECTOR_INLINE void multiply_rows(float *tile, const float *const row[], int64_t stride, int64_t columns,
                                 int runs, const float *weight, int rows, const int vectors, const int most)
{
    if (rows == 1) multiply(tile, row, stride, columns, runs, weight, 1, vectors);
    if (most >= 2 && rows == 2) multiply(tile, row, stride, columns, runs, weight, 2, vectors);
    if (most >= 3 && rows == 3) multiply(tile, row, stride, columns, runs, weight, 3, vectors);
    if (most >= 4 && rows == 4) multiply(tile, row, stride, columns, runs, weight, 4, vectors);
    if (most >= 5 && rows == 5) multiply(tile, row, stride, columns, runs, weight, 5, vectors);
    if (most >= 6 && rows == 6) multiply(tile, row, stride, columns, runs, weight, 6, vectors);
    if (most >= 7 && rows == 7) multiply(tile, row, stride, columns, runs, weight, 7, vectors);
    if (most >= 8 && rows == 8) multiply(tile, row, stride, columns, runs, weight, 8, vectors);
}

void tile_multiply(float *tile, const float *const row[], int64_t stride, int64_t columns, int runs,
                   const float *weight, int rows, int vectors)
{
    switch (vectors) {
    case 1:
        multiply_rows(tile, row, stride, columns, runs, weight, rows, 1, 8);
        break;
    case 2:
        multiply_rows(tile, row, stride, columns, runs, weight, rows, 2, 8);
        break;
    case 3:
        multiply_rows(tile, row, stride, columns, runs, weight, rows, 3, 6);
        break;
    case 4:
        multiply_rows(tile, row, stride, columns, runs, weight, rows, 4, 6);
        break;
    default:
        multiply_rows(tile, row, stride, columns, runs, weight, rows, 5, 5);
        break;
    }
}

/* ---- forward ---- */

/* What forward needs beside its tensors, in scratch memory. */
typedef struct {
    float *x, *hidden;           /* blocked: of leaves; of all nodes */
    float *leaf_weight, *weight; /* [block][k][part or gate][LANES]; k of the left child, then of the right */
    float *leaf_bias, *bias;     /* [block][part or gate][LANES] */
    int64_t leaf_weights, weights; /* a block */
} Forward;

static float *take(float **at, int64_t count)
{
    float *piece = *at;
    *at += (count + LANES - 1) / LANES * LANES;
    return piece;
}

/* From base (NULL: to count) on; *end is behind the last piece. */
static Forward forward_pieces(const Forest *f, float *base, float **end)
{
    Forward w = {.leaf_weights = f->width * f->parts * LANES, .weights = 2 * f->memory * f->gates * LANES};
    float *at = base;
    w.x = take(&at, f->x_blocks * f->capacity[0] * LANES);
    w.hidden = take(&at, f->blocks * f->rows * LANES);
    w.leaf_weight = take(&at, f->blocks * w.leaf_weights);
    w.weight = take(&at, f->blocks * w.weights);
    w.leaf_bias = take(&at, f->blocks * f->parts * LANES);
    w.bias = take(&at, f->blocks * f->gates * LANES);
    *end = at;
    return w;
}

static Status forward_prepare(Call *call, size_t *scratch_bytes)
{
    const Forest f = forest_of(call, call->in);
    static float base[1];
    float *end;
    (void)forward_pieces(&f, base, &end);
    *scratch_bytes = (size_t)((char *)end - (char *)base);
    return OK;
}

/* to[k][slot][LANES] = weight[first + lane][k]; `slots` apart. */
static void pack_weight(const Forest *f, const Tensor *weight, int64_t first, int slot, int slots, float *to)
{
    const int64_t columns = weight->shape.extent[1];
    const int lanes = lanes_from(first, f->memory);
    const float *from = (const float *)weight->data + first * columns;
    to += slot * LANES;
    for (int64_t k = 0; k < columns; ++k, to += slots * LANES)
        for (int lane = 0; lane < LANES; ++lane)
            to[lane] = lane < lanes ? from[lane * columns + k] : 0;
}

static void add_bias(const Forest *f, const Tensor *bias, int64_t first, float *to)
{
    if (bias->shape.rank < 0) return;
    for (int lane = 0; lane < lanes_from(first, f->memory); ++lane)
        to[lane] += ((const float *)bias->data)[first + lane];
}

/* Of one block of units. */
static void pack_block(const Forest *f, const Tensor in[], const Forward *w, int64_t block)
{
    const int64_t first = block * LANES;
    float *leaf_weight = w->leaf_weight + block * w->leaf_weights, *weight = w->weight + block * w->weights;
    float *leaf_bias = w->leaf_bias + block * f->parts * LANES, *bias = w->bias + block * f->gates * LANES;
    memset(leaf_bias, 0, (size_t)f->parts * LANES * sizeof *leaf_bias);
    memset(bias, 0, (size_t)f->gates * LANES * sizeof *bias);
    for (int i = 0; i < f->parts; ++i) {
        pack_weight(f, &in[TREE_LSTM_LEAF_WEIGHT + f->part[i]], first, i, f->parts, leaf_weight);
        add_bias(f, &in[TREE_LSTM_LEAF_BIAS + f->part[i]], first, leaf_bias + i * LANES);
    }
    for (int g = 0; g < f->gates; ++g) {
        pack_weight(f, &in[TREE_LSTM_LEFT_WEIGHT + g], first, g, f->gates, weight);
        pack_weight(f, &in[TREE_LSTM_RIGHT_WEIGHT + g], first, g, f->gates, weight + w->weights / 2);
        add_bias(f, &in[TREE_LSTM_LEFT_BIAS + g], first, bias + g * LANES);
        add_bias(f, &in[TREE_LSTM_RIGHT_BIAS + g], first, bias + g * LANES);
    }
    round_weights(f, leaf_weight, w->leaf_weights);
    round_weights(f, weight, w->weights);
}

/* Where a node's results of one block go. */
typedef struct {
    const Forest *f;
    float *hidden, *cells, *gates; /* of the block; gates NULL: not wanted */
    void *h;
    int64_t first; /* unit */
} Results;

VECTOR_INLINE void put_gate(const Results *to, int64_t node, int slot, Vector value)
{
    if (to->gates != NULL) vector_store(to->gates, (node * to->f->gates + slot) * LANES, LANES, false, value);
}

VECTOR_INLINE void put_state(const Results *to, int64_t node, Vector cell, Vector h)
{
    const Forest *f = to->f;
    vector_store(to->cells, node * LANES, LANES, false, cell);
    vector_store(to->h, node * f->memory + to->first, lanes_from(to->first, f->memory), f->bf16, h);
    if (f->bf16) { /* parents see what backward will find */
        bfloat16 half[LANES];
        vector_store(half, 0, LANES, true, h);
        h = vector_load(half, 0, LANES, true);
    }
    vector_store(to->hidden, node * LANES, LANES, false, h);
}

static void finish_leaf(const Results *to, int64_t node, const float *sum)
{
    const Forest *f = to->f;
    Vector part[TREE_LEAF_PARTS] = {0};
    for (int i = 0; i < f->parts; ++i)
        part[f->part[i]] = vector_load(sum, i * LANES, LANES, false);
    if (f->attributes->leaf_part[TREE_LEAF_INPUT]) {
        part[TREE_LEAF_CELL] = vector_tanh(part[TREE_LEAF_CELL]);
        part[TREE_LEAF_INPUT] = vector_logistic(part[TREE_LEAF_INPUT]);
    }
    if (f->attributes->leaf_part[TREE_LEAF_OUTPUT])
        part[TREE_LEAF_OUTPUT] = vector_logistic(part[TREE_LEAF_OUTPUT]);
    for (int i = 0; i < f->parts; ++i)
        put_gate(to, node, i, part[f->part[i]]);
    Vector cell = part[TREE_LEAF_CELL];
    if (f->attributes->leaf_part[TREE_LEAF_INPUT]) cell *= part[TREE_LEAF_INPUT];
    Vector h = vector_tanh(cell);
    if (f->attributes->leaf_part[TREE_LEAF_OUTPUT]) h *= part[TREE_LEAF_OUTPUT];
    put_state(to, node, cell, h);
}

static void finish_inner(const Results *to, int64_t node, const int32_t child[2], const float *sum)
{
    const Forest *f = to->f;
    Vector gate[TREE_GATES] = {0};
    for (int g = 0; g < f->gates; ++g) {
        const Vector value = vector_load(sum, g * LANES, LANES, false);
        gate[g] = g == TREE_GATE_UPDATE ? vector_tanh(value) : vector_logistic(value);
        put_gate(to, node, g, gate[g]);
    }
    const Vector cell =
        gate[TREE_GATE_INPUT] * gate[TREE_GATE_UPDATE] +
        gate[TREE_GATE_LEFT_FORGET] * vector_load(to->cells, child[0] * (int64_t)LANES, LANES, false) +
        gate[TREE_GATE_RIGHT_FORGET] * vector_load(to->cells, child[1] * (int64_t)LANES, LANES, false);
    Vector h = vector_tanh(cell);
    if (f->attributes->output_gate) h *= gate[TREE_GATE_OUTPUT];
    put_state(to, node, cell, h);
}

static void begin_tile(float *tile, const float *bias, int rows, int slots)
{
    for (int r = 0; r < rows; ++r)
        memcpy(tile + r * slots * LANES, bias, (size_t)slots * LANES * sizeof *tile);
}

static void leaves_block(const Forest *f, const Forward *w, const Results *to, int64_t block)
{
    float tile[TILE_ROWS * TILE_VECTORS * LANES] __attribute__((aligned(64)));
    const int64_t most = tile_rows(f->parts), tiles = (f->leaves + most - 1) / most;
    for (int64_t t = 0; t < tiles; ++t) {
        const int64_t begin = f->leaves * t / tiles;
        const int rows = (int)(f->leaves * (t + 1) / tiles - begin);
        const float *row[TILE_ROWS];
        for (int r = 0; r < rows; ++r)
            row[r] = w->x + (begin + r) * LANES;
        begin_tile(tile, w->leaf_bias + block * f->parts * LANES, rows, f->parts);
        tile_multiply(tile, row, f->capacity[0] * LANES, f->width, 1,
                      w->leaf_weight + block * w->leaf_weights, rows, f->parts);
        for (int r = 0; r < rows; ++r)
            finish_leaf(to, begin + r, tile + r * f->parts * LANES);
    }
}

/* Nodes first .. last-1. */
static void level_block(const Forest *f, const Forward *w, const Results *to, int64_t block, int64_t first,
                        int64_t last)
{
    float tile[TILE_ROWS * TILE_VECTORS * LANES] __attribute__((aligned(64)));
    const int64_t most = tile_rows(f->gates), count = last - first, tiles = (count + most - 1) / most;
    for (int64_t t = 0; t < tiles; ++t) {
        const int64_t begin = first + count * t / tiles;
        const int rows = (int)(first + count * (t + 1) / tiles - begin);
        const int32_t *child = f->children + 2 * (begin - f->leaves);
        begin_tile(tile, w->bias + block * f->gates * LANES, rows, f->gates);
        for (int side = 0; side < 2; ++side) {
            const float *row[TILE_ROWS];
            for (int r = 0; r < rows; ++r)
                row[r] = w->hidden + child[2 * r + side] * (int64_t)LANES;
            tile_multiply(tile, row, f->rows * LANES, f->memory, 1,
                          w->weight + block * w->weights + side * w->weights / 2, rows, f->gates);
        }
        for (int r = 0; r < rows; ++r)
            finish_inner(to, begin + r, child + (ptrdiff_t)(2 * r), tile + r * f->gates * LANES);
    }
}

static Results results_of(const Forest *f, const Call *call, const Forward *w, int64_t block)
{
    float *gates = call->wanted[TREE_LSTM_GATES] ? call->out[TREE_LSTM_GATES].data : NULL;
    return (Results){.f = f,
                     .hidden = w->hidden + block * f->rows * LANES,
                     .cells = (float *)call->out[TREE_LSTM_CELLS].data + block * f->rows * LANES,
                     .gates = gates != NULL ? gates + block * f->rows * f->gates * LANES : NULL,
                     .h = call->out[TREE_LSTM_H].data,
                     .first = block * LANES};
}

/* One thread's part. */
static void forward_part(const Forest *f, const Call *call, const Forward *w)
{
    int64_t first, last;
    thread_share(f->leaves, &first, &last);
    block_rows(call->in[TREE_LSTM_X].data, f->bf16, f->width, first, last, f->capacity[0], w->x);
    thread_share(f->blocks, &first, &last);
    for (int64_t block = first; block < last; ++block)
        pack_block(f, call->in, w, block);
#pragma omp barrier
    for (int64_t block = first; block < last; ++block) {
        const Results to = results_of(f, call, w, block);
        leaves_block(f, w, &to, block);
    }
    for (int level = 1; level <= f->levels; ++level) {
        if (f->end[level] == f->end[level - 1]) continue;
#pragma omp barrier
        for (int64_t block = first; block < last; ++block) {
            const Results to = results_of(f, call, w, block);
            level_block(f, w, &to, block, f->end[level - 1], f->end[level]);
        }
    }
}

static Status forward_run(const Call *call)
{
    Forest f = forest_of(call, call->in);
    TRY(forest_read(&f, call->in));
    float *end;
    const Forward w = forward_pieces(&f, call->scratch, &end);
    const size_t row_bytes = (size_t)f.memory * dtype_size(call->out[TREE_LSTM_H].shape.type);
    memset((char *)call->out[TREE_LSTM_H].data + (size_t)f.nodes * row_bytes, 0,
           (size_t)(f.rows - f.nodes) * row_bytes);
#pragma omp parallel num_threads(forest_threads(&f, call->device))
    forward_part(&f, call, &w);
    return OK;
}

const Kernel tree_lstm_cpu = {.prepare = forward_prepare, .run = forward_run};
