/* tree_lstm's backward on the CPU. From the roots down, a level at a time: the gradients of a level's gates, then one product
 * that gives those of the children's h. The gradients of all gates are kept, so that those of a weight are one product over
 * all nodes at the end. */
#include "engine/ops/tree_lstm_cpu.h"

#include <string.h>

enum {
    X_VECTORS = 4,     /* blocks of x that a product makes at once */
    UNITS = 4,         /* a weight's gradient is made in tiles of so many units ... */
    COLUMNS = 5,       /* ... by so many vectors of columns */
    NODES_AT_ONCE = 96 /* whose rows of COLUMNS vectors stay in the first-level cache */
};

/* Scratch memory; blocked but for weights. */
typedef struct {
    float *x, *h, *dh, *dc, *gates; /* gates: gradients of what s and tanh were given */
    float *leaf_weight;             /* [group of X_VECTORS blocks][part's unit][vector][LANES] */
    float *weight;                  /* [block of a child's units][gate's unit][left or right][LANES] */
    int64_t leaf_weights, weights;  /* a group, a block; of a group of X_VECTORS */
    int64_t groups;
} Backward;

static float *take(float **at, int64_t count)
{
    float *piece = *at;
    *at += (count + LANES - 1) / LANES * LANES;
    return piece;
}

static Backward pieces(const Forest *f, float *base, float **end)
{
    Backward w = {.groups = (f->x_blocks + X_VECTORS - 1) / X_VECTORS,
                  .leaf_weights = f->parts * f->memory * X_VECTORS * LANES,
                  .weights = f->gates * f->memory * 2 * LANES};
    float *at = base;
    w.x = take(&at, f->x_blocks * f->capacity[0] * LANES);
    w.h = take(&at, f->blocks * f->rows * LANES);
    w.dh = take(&at, f->blocks * f->rows * LANES);
    w.dc = take(&at, f->blocks * f->rows * LANES);
    w.gates = take(&at, f->blocks * f->rows * f->gates * LANES);
    w.leaf_weight = take(&at, w.groups * w.leaf_weights);
    w.weight = take(&at, f->blocks * w.weights);
    *end = at;
    return w;
}

static Status prepare(Call *call, size_t *scratch_bytes)
{
    const Forest f = forest_of(call, call->in + TREE_LSTM_BACKWARD_FORWARD);
    static float base[1];
    float *end;
    (void)pieces(&f, base, &end);
    *scratch_bytes = (size_t)((char *)end - (char *)base);
    return OK;
}

/* ---- weights ---- */

/* In the order of a blocked row of gate gradients: blocks of units, in each the slots, in each the lanes that exist; `vectors`
 * blocks of columns from `first` on, of each of `matrices`. */
static void pack_weights(const Forest *f, const Tensor *const matrix[], int slots, int sides, int64_t first,
                         int vectors, float *to)
{
    for (int64_t unit = 0; unit < f->memory; unit += LANES)
        for (int slot = 0; slot < slots; ++slot)
            for (int64_t row = unit; row < unit + lanes_from(unit, f->memory); ++row)
                for (int side = 0; side < sides; ++side) {
                    const Tensor *weight = matrix[slot * sides + side];
                    const int64_t columns = weight->shape.extent[1];
                    for (int v = 0; v < vectors; ++v, to += LANES)
                        vector_store(to, 0, LANES, false,
                                     vector_load(weight->data, row * columns + first + v * LANES,
                                                 lanes_from(first + v * LANES, columns), false));
                }
}

static int group_vectors(const Forest *f, int64_t group)
{
    const int64_t left = f->x_blocks - group * X_VECTORS;
    return left < X_VECTORS ? (int)left : X_VECTORS;
}

static void pack_leaf_group(const Forest *f, const Tensor in[], const Backward *w, int64_t group)
{
    const Tensor *matrix[TREE_LEAF_PARTS];
    for (int i = 0; i < f->parts; ++i)
        matrix[i] = &in[TREE_LSTM_LEAF_WEIGHT + f->part[i]];
    float *to = w->leaf_weight + group * w->leaf_weights;
    pack_weights(f, matrix, f->parts, 1, group * X_VECTORS * LANES, group_vectors(f, group), to);
    round_weights(f, to, w->leaf_weights / X_VECTORS * group_vectors(f, group));
}

static void pack_block(const Forest *f, const Tensor in[], const Backward *w, int64_t block)
{
    const Tensor *matrix[2 * TREE_GATES];
    for (int g = 0; g < f->gates; ++g) {
        matrix[2 * g] = &in[TREE_LSTM_LEFT_WEIGHT + g];
        matrix[2 * g + 1] = &in[TREE_LSTM_RIGHT_WEIGHT + g];
    }
    float *to = w->weight + block * w->weights;
    pack_weights(f, matrix, f->gates, 2, block * LANES, 1, to);
    round_weights(f, to, w->weights);
}

/* ---- down the levels ---- */

/* One block of units. */
typedef struct {
    const Forest *f;
    const float *cells, *saved; /* saved: what s and tanh gave */
    float *dh, *dc, *gates;
} Block;

static Block block_of(const Forest *f, const Call *call, const Backward *w, int64_t block)
{
    const int64_t at = block * f->rows * LANES;
    return (Block){.f = f,
                   .cells = (const float *)call->in[TREE_LSTM_BACKWARD_CELLS].data + at,
                   .saved = (const float *)call->in[TREE_LSTM_BACKWARD_GATES].data + at * f->gates,
                   .dh = w->dh + at,
                   .dc = w->dc + at,
                   .gates = w->gates + at * f->gates};
}

VECTOR_INLINE Vector saved_of(const Block *b, int64_t node, int slot)
{
    return vector_load(b->saved, (node * b->f->gates + slot) * LANES, LANES, false);
}

VECTOR_INLINE void put_gate(const Block *b, int64_t node, int slot, Vector gradient)
{
    vector_store(b->gates, (node * b->f->gates + slot) * LANES, LANES, false, gradient);
}

VECTOR_INLINE Vector node_vector(const float *of_block, int64_t node)
{
    return vector_load(of_block, node * LANES, LANES, false);
}

/* The gradient of a node's cell: what its parent gave, and through h = o tanh(c), o being 1 without a gate. That of the
 * gate's sum is *d_output. */
VECTOR_INLINE Vector cell_gradient(const Block *b, int64_t node, bool gated, Vector o, Vector *d_output)
{
    const Vector dh = node_vector(b->dh, node), t = vector_tanh(node_vector(b->cells, node));
    *d_output = dh * t * o * (1.0F - o);
    return node_vector(b->dc, node) + (gated ? dh * o : dh) * (1.0F - t * t);
}

static void inner_gates(const Block *b, int64_t first, int64_t last)
{
    const Forest *f = b->f;
    const bool gated = f->attributes->output_gate;
    for (int64_t node = first; node < last; ++node) {
        const int32_t *child = f->children + 2 * (node - f->leaves);
        const Vector input = saved_of(b, node, TREE_GATE_INPUT), update = saved_of(b, node, TREE_GATE_UPDATE);
        const Vector left = saved_of(b, node, TREE_GATE_LEFT_FORGET),
                     right = saved_of(b, node, TREE_GATE_RIGHT_FORGET);
        const Vector output = gated ? saved_of(b, node, TREE_GATE_OUTPUT) : vector_all(1);
        Vector d_output;
        const Vector dc = cell_gradient(b, node, gated, output, &d_output);
        put_gate(b, node, TREE_GATE_INPUT, dc * update * input * (1.0F - input));
        put_gate(b, node, TREE_GATE_LEFT_FORGET, dc * node_vector(b->cells, child[0]) * left * (1.0F - left));
        put_gate(b, node, TREE_GATE_RIGHT_FORGET,
                 dc * node_vector(b->cells, child[1]) * right * (1.0F - right));
        put_gate(b, node, TREE_GATE_UPDATE, dc * input * (1.0F - update * update));
        if (gated) put_gate(b, node, TREE_GATE_OUTPUT, d_output);
        vector_store(b->dc, child[0] * (int64_t)LANES, LANES, false, dc * left);
        vector_store(b->dc, child[1] * (int64_t)LANES, LANES, false, dc * right);
    }
}

static void leaf_gates(const Block *b)
{
    const Forest *f = b->f;
    const bool *there = f->attributes->leaf_part;
    for (int64_t node = 0; node < f->leaves; ++node) {
        Vector part[TREE_LEAF_PARTS] = {0}, gradient[TREE_LEAF_PARTS] = {0};
        for (int i = 0; i < f->parts; ++i)
            part[f->part[i]] = saved_of(b, node, i);
        const Vector dc = cell_gradient(b, node, there[TREE_LEAF_OUTPUT], part[TREE_LEAF_OUTPUT],
                                        &gradient[TREE_LEAF_OUTPUT]);
        gradient[TREE_LEAF_CELL] = dc;
        if (there[TREE_LEAF_INPUT]) {
            const Vector input = part[TREE_LEAF_INPUT], update = part[TREE_LEAF_CELL];
            gradient[TREE_LEAF_INPUT] = dc * update * input * (1.0F - input);
            gradient[TREE_LEAF_CELL] = dc * input * (1.0F - update * update);
        }
        for (int i = 0; i < f->parts; ++i)
            put_gate(b, node, i, gradient[f->part[i]]);
    }
}

/* Adds to dh of the children of nodes first .. last-1, in the units of this block. */
static void children_block(const Forest *f, const Backward *w, int64_t block, int64_t first, int64_t last)
{
    float tile[TILE_ROWS * TILE_VECTORS * LANES] __attribute__((aligned(64)));
    float *dh = w->dh + block * f->rows * LANES;
    const int64_t most = tile_rows(2), count = last - first, tiles = (count + most - 1) / most;
    for (int64_t t = 0; t < tiles; ++t) {
        const int64_t begin = first + count * t / tiles;
        const int rows = (int)(first + count * (t + 1) / tiles - begin);
        const int32_t *child = f->children + 2 * (begin - f->leaves);
        const float *row[TILE_ROWS];
        for (int r = 0; r < rows; ++r)
            row[r] = w->gates + (begin + r) * f->gates * LANES;
        memset(tile, 0, (size_t)(rows * 2 * LANES) * sizeof *tile);
        tile_multiply(tile, row, f->rows * f->gates * LANES, f->memory, f->gates,
                      w->weight + block * w->weights, rows, 2);
        for (int r = 0; r < 2 * rows; ++r)
            vector_store(dh, child[r] * (int64_t)LANES, LANES, false,
                         node_vector(dh, child[r]) + vector_load(tile, r * LANES, LANES, false));
    }
}

/* ---- the leaves' vectors ---- */

enum { LEAVES_AT_ONCE = 48 };

static void x_gradient(const Forest *f, const Backward *w, const Tensor *dx, int64_t group, int64_t first,
                       int64_t last)
{
    float tile[TILE_ROWS * TILE_VECTORS * LANES] __attribute__((aligned(64)));
    const int vectors = group_vectors(f, group);
    const int64_t most = tile_rows(vectors), count = last - first, tiles = (count + most - 1) / most;
    for (int64_t t = 0; t < tiles; ++t) {
        const int64_t begin = first + count * t / tiles;
        const int rows = (int)(first + count * (t + 1) / tiles - begin);
        const float *row[TILE_ROWS];
        for (int r = 0; r < rows; ++r)
            row[r] = w->gates + (begin + r) * f->gates * LANES;
        memset(tile, 0, (size_t)(rows * vectors * LANES) * sizeof *tile);
        tile_multiply(tile, row, f->rows * f->gates * LANES, f->memory, f->parts,
                      w->leaf_weight + group * w->leaf_weights, rows, vectors);
        for (int r = 0; r < rows; ++r)
            for (int v = 0; v < vectors; ++v) {
                const int64_t column = (group * X_VECTORS + v) * LANES;
                vector_store(dx->data, (begin + r) * f->width + column, lanes_from(column, f->width), f->bf16,
                             vector_load(tile, (r * vectors + v) * LANES, LANES, false));
            }
    }
}

/* ---- parameters ---- */

/* d_weight[unit][column] = sum over nodes of gates[node][unit] * source[index of node][column]. */
typedef struct {
    const float *gates, *source; /* gates: of the block and slot; source: blocked */
    const int32_t
        *index; /* of the first node, every second of them; NULL: the source's rows in their order */
    int64_t nodes, source_stride, columns;
    int gate_stride; /* from node to node */
    float *to;       /* row of the block's first unit */
} WeightGradient;

VECTOR_INLINE void gradient_tile(const WeightGradient *g, int64_t begin, int64_t end, int unit,
                                 int64_t column, const int units, const int vectors)
{
    Vector sum[UNITS][COLUMNS];
#pragma GCC unroll 4
    for (int u = 0; u < units; ++u)
#pragma GCC unroll 5
        for (int v = 0; v < vectors; ++v)
            sum[u][v] = begin == 0 ? vector_all(0)
                                   : vector_load(g->to, (unit + u) * g->columns + column + v * LANES,
                                                 lanes_from(column + v * LANES, g->columns), false);
    const float *source = g->source + column / LANES * g->source_stride, *gates = g->gates + unit;
    for (int64_t node = begin; node < end; ++node) {
        const int64_t at = (g->index != NULL ? g->index[2 * node] : node) * LANES;
        Vector row[COLUMNS];
#pragma GCC unroll 5
        for (int v = 0; v < vectors; ++v)
            row[v] = vector_load(source, v * g->source_stride + at, LANES, false);
#pragma GCC unroll 4
        for (int u = 0; u < units; ++u) {
            const Vector factor = vector_all(gates[node * g->gate_stride + u]);
#pragma GCC unroll 5
            for (int v = 0; v < vectors; ++v)
                sum[u][v] += factor * row[v];
        }
    }
#pragma GCC unroll 4
    for (int u = 0; u < units; ++u)
#pragma GCC unroll 5
        for (int v = 0; v < vectors; ++v)
            vector_store(g->to, (unit + u) * g->columns + column + v * LANES,
                         lanes_from(column + v * LANES, g->columns), false, sum[u][v]);
}

VECTOR_INLINE void gradient_tiles(const WeightGradient *g, int64_t begin, int64_t end, int units,
                                  int64_t column, const int vectors)
{
    int unit = 0;
    for (; unit + UNITS <= units; unit += UNITS)
        gradient_tile(g, begin, end, unit, column, UNITS, vectors);
    if (unit + 2 <= units) {
        gradient_tile(g, begin, end, unit, column, 2, vectors);
        unit += 2;
    }
    if (unit < units) gradient_tile(g, begin, end, unit, column, 1, vectors);
}

static void weight_gradient(const WeightGradient *g, int units)
{
    int64_t begin = 0;
    do {
        const int64_t end = g->nodes - begin < NODES_AT_ONCE ? g->nodes : begin + NODES_AT_ONCE;
        for (int64_t column = 0; column < g->columns; column += COLUMNS * LANES) {
            const int64_t left = (g->columns - column + LANES - 1) / LANES;
            if (left >= COLUMNS)
                gradient_tiles(g, begin, end, units, column, COLUMNS);
            else if (left == 4)
                gradient_tiles(g, begin, end, units, column, 4);
            else if (left == 3)
                gradient_tiles(g, begin, end, units, column, 3);
            else if (left == 2)
                gradient_tiles(g, begin, end, units, column, 2);
            else
                gradient_tiles(g, begin, end, units, column, 1);
        }
        begin = end;
    } while (begin < g->nodes);
}

/* A parameter's place among the outputs. */
static int output_of(int input) { return TREE_LSTM_BACKWARD_PARAMETERS + input - TREE_LSTM_FIRST_PARAMETER; }

static bool has_gradient(const Call *call, int input)
{
    return call->wanted[output_of(input)] && call->out[output_of(input)].shape.rank > 0;
}

/* The weights of all leaf parts, then the left and right ones of all gates. */
static void weight_block(const Forest *f, const Call *call, const Backward *w, int matrix, int64_t block)
{
    const int side = matrix < f->parts ? 0 : (matrix - f->parts) / f->gates;
    const int slot = matrix < f->parts ? matrix : (matrix - f->parts) % f->gates;
    const int input = matrix < f->parts ? TREE_LSTM_LEAF_WEIGHT + f->part[slot]
                      : side == 0       ? TREE_LSTM_LEFT_WEIGHT + slot
                                        : TREE_LSTM_RIGHT_WEIGHT + slot;
    if (!has_gradient(call, input)) return;
    WeightGradient g = {.gates = w->gates + (block * f->rows * f->gates + slot) * LANES,
                        .gate_stride = f->gates * LANES};
    if (matrix < f->parts) {
        g.nodes = f->leaves;
        g.source = w->x;
        g.source_stride = f->capacity[0] * LANES;
        g.columns = f->width;
    } else {
        g.nodes = forest_inner(f);
        g.gates += f->leaves * g.gate_stride;
        g.source = w->h;
        g.source_stride = f->rows * LANES;
        g.index = f->children + side;
        g.columns = f->memory;
    }
    g.to = (float *)call->out[output_of(input)].data + block * LANES * g.columns;
    weight_gradient(&g, lanes_from(block * LANES, f->memory));
}

static void bias_block(const Forest *f, const Call *call, const Backward *w, int64_t block)
{
    for (int inner = 0; inner < 2; ++inner)
        for (int slot = 0; slot < (inner ? f->gates : f->parts); ++slot) {
            Vector sum = vector_all(0);
            const float *gates = w->gates + (block * f->rows * f->gates + slot) * LANES;
            for (int64_t node = inner ? f->leaves : 0; node < (inner ? f->nodes : f->leaves); ++node)
                sum += vector_load(gates, node * f->gates * LANES, LANES, false);
            const int bias[] = {inner ? TREE_LSTM_LEFT_BIAS + slot : TREE_LSTM_LEAF_BIAS + f->part[slot],
                                TREE_LSTM_RIGHT_BIAS + slot};
            for (int i = 0; i < (inner ? 2 : 1); ++i)
                if (has_gradient(call, bias[i]))
                    vector_store(call->out[output_of(bias[i])].data, block * LANES,
                                 lanes_from(block * LANES, f->memory), false, sum);
        }
}

/* ---- all of it ---- */

static void backward_part(const Forest *f, const Call *call, const Backward *w)
{
    const Tensor *in = call->in + TREE_LSTM_BACKWARD_FORWARD;
    int64_t first, last;
    thread_share(f->leaves, &first, &last);
    block_rows(in[TREE_LSTM_X].data, f->bf16, f->width, first, last, f->capacity[0], w->x);
    thread_share(f->nodes, &first, &last);
    block_rows(call->in[TREE_LSTM_BACKWARD_H].data, f->bf16, f->memory, first, last, f->rows, w->h);
    block_rows(call->in[TREE_LSTM_BACKWARD_DH].data, f->bf16, f->memory, first, last, f->rows, w->dh);
    const bool dx_wanted = call->wanted[TREE_LSTM_BACKWARD_DX];
    if (dx_wanted) {
        thread_share(w->groups, &first, &last);
        for (int64_t group = first; group < last; ++group)
            pack_leaf_group(f, in, w, group);
    }
    thread_share(f->blocks, &first, &last);
    for (int64_t block = first; block < last; ++block) {
        pack_block(f, in, w, block);
        memset(w->dc + block * f->rows * LANES, 0, (size_t)(f->nodes * LANES) * sizeof *w->dc);
    }
#pragma omp barrier
    for (int level = f->levels; level > 0; --level) {
        const int64_t begin = f->end[level - 1], end = f->end[level];
        if (begin == end) continue;
        for (int64_t block = first; block < last; ++block) {
            const Block b = block_of(f, call, w, block);
            inner_gates(&b, begin, end);
        }
#pragma omp barrier
        for (int64_t block = first; block < last; ++block)
            children_block(f, w, block, begin, end);
    }
    for (int64_t block = first; block < last; ++block) {
        const Block b = block_of(f, call, w, block);
        leaf_gates(&b);
        bias_block(f, call, w, block);
    }
#pragma omp barrier
    /* A number is the work of one thread, so it does not matter which. */
    const int64_t pieces_of_leaves = (f->leaves + LEAVES_AT_ONCE - 1) / LEAVES_AT_ONCE;
    if (dx_wanted) {
#pragma omp for schedule(dynamic) nowait
        for (int64_t i = 0; i < w->groups * pieces_of_leaves; ++i) {
            const int64_t piece = i % pieces_of_leaves;
            x_gradient(f, w, &call->out[TREE_LSTM_BACKWARD_DX], i / pieces_of_leaves,
                       f->leaves * piece / pieces_of_leaves, f->leaves * (piece + 1) / pieces_of_leaves);
        }
    }
    const int64_t matrices = f->parts + 2 * f->gates;
#pragma omp for schedule(dynamic) nowait
    for (int64_t i = 0; i < matrices * f->blocks; ++i)
        weight_block(f, call, w, (int)(i / f->blocks), i % f->blocks);
}

static Status run(const Call *call)
{
    const Tensor *in = call->in + TREE_LSTM_BACKWARD_FORWARD;
    Forest f = forest_of(call, in);
    TRY(forest_read(&f, in));
    float *end;
    const Backward w = pieces(&f, call->scratch, &end);
    if (call->wanted[TREE_LSTM_BACKWARD_DX]) {
        const size_t row_bytes = (size_t)f.width * dtype_size(in[TREE_LSTM_X].shape.type);
        memset((char *)call->out[TREE_LSTM_BACKWARD_DX].data + (size_t)f.leaves * row_bytes, 0,
               (size_t)(f.capacity[0] - f.leaves) * row_bytes);
    }
#pragma omp parallel num_threads(forest_threads(&f, call->device))
    backward_part(&f, call, &w);
    return OK;
}

const Kernel tree_lstm_backward_cpu = {.prepare = prepare, .run = run};
