/* What the kernels of tree_lstm on the CPU share: how numbers lie in memory, and products of a few rows.
 *
 * All that belongs to nodes is cut into blocks of LANES columns: [block][node][slot][LANES] ("blocked"; slots are a node's
 * gates, else there is one). So a vector is one aligned cache line, what a thread owns (some blocks) is one piece, and a
 * child's row is one line a block. Weights are packed in the order in which a product reads them. Absent lanes of the last
 * block are 0 everywhere. */
#ifndef PLUMB_ENGINE_OPS_TREE_LSTM_CPU_H
#define PLUMB_ENGINE_OPS_TREE_LSTM_CPU_H

#include "engine/ops/rows_cpu.h"
#include "engine/ops/tree_lstm.h"
#include "engine/ops/vector_exp_cpu.h"

/* The batch of a call. */
typedef struct {
    const TreeLstmAttributes *attributes;
    int64_t capacity[2]; /* of leaves, of inner nodes */
    int64_t rows;        /* of both */
    int64_t width, memory;
    int64_t x_blocks, blocks; /* of width, of memory */
    int parts, gates, part[TREE_LEAF_PARTS];
    bool bf16;
    int levels; /* [1, levels] above the leaves */
    const int32_t *end, *children;
    int64_t leaves, nodes; /* that there are */
} Forest;

/* in: x, children, levels and the leaf's first weight stand at its beginning, as in forward. */
Forest forest_of(const Call *, const Tensor in[]);
/* Reads levels and children, which prepare has not got, and checks them. */
CHECKED Status forest_read(Forest *, const Tensor in[]);
int forest_threads(const Forest *, const Device *);

static inline int64_t forest_inner(const Forest *f) { return f->nodes - f->leaves; }

/* Lanes that exist in the block that begins at this column. */
static inline int lanes_from(int64_t first, int64_t columns)
{
    return columns - first < LANES ? (int)(columns - first) : LANES;
}

/* Rows first .. last-1 of a dense matrix become blocked. */
void block_rows(const void *from, bool bf16, int64_t columns, int64_t first, int64_t last, int64_t rows,
                float *to);
/* Packed weights are what the compute type can hold. */
void round_weights(const Forest *, float *weights, int64_t count);

/* ---- products ---- */

enum { TILE_ROWS = 8, TILE_VECTORS = 5 };
/* Rows that a tile of so many vectors should have, at most: sums fill the registers. */
int tile_rows(int vectors);

/* tile[row][vector][LANES] += sum over k of row[r][k] * weight[k][vector][LANES]: k runs over blocks of LANES of `columns`
 * columns, `stride` floats apart, and within each over `runs` slots and their lanes that exist. */
void tile_multiply(float *tile, const float *const row[], int64_t stride, int64_t columns, int runs,
                   const float *weight, int rows, int vectors);

#endif
