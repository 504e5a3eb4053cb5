/* How kernels share a tensor's rows among threads. Sums over rows are made block by block, and the blocks'
 * sums are added in order: the cut depends on the shape alone, so no result depends on the thread count. */
#ifndef PLUMB_ENGINE_OPS_ROWS_CPU_H
#define PLUMB_ENGINE_OPS_ROWS_CPU_H

#include "engine/graph/op.h"

#include <omp.h>
#include <stdbool.h>
#include <stdint.h>

/* Kernels walk a block in tiles of rows, so that what belongs to a column is loaded once for them, and a tile
 * in strips of vectors, so that memory is read a few whole cache lines at a time. Rows of few columns come in
 * higher tiles: they are one stream all the same. */
enum { ROW_TILE = 4, STRIP = 4, NARROW_TILE = 16, NARROW_COLUMNS = 32 };

typedef struct {
    int64_t rows, columns;
    int64_t block_rows; /* a multiple of NARROW_TILE */
    int64_t blocks;
} RowBlocks;

/* A block is at most 256 KiB of float32 (it stays in a second-level cache) and at most 512 rows (float sums
 * over it are good to 1e-6). */
static inline RowBlocks row_blocks(int64_t rows, int64_t columns)
{
    int64_t block_rows = 65536 / (columns > 0 ? columns : 1) / NARROW_TILE * NARROW_TILE;
    if (block_rows < 2 * NARROW_TILE) block_rows = 2 * NARROW_TILE;
    if (block_rows > 512) block_rows = 512;
    return (RowBlocks){.rows = rows,
                       .columns = columns,
                       .block_rows = block_rows,
                       .blocks = (rows + block_rows - 1) / block_rows};
}

/* How many rows ahead a kernel asks for memory: far enough to hide its latency. */
static inline int64_t rows_ahead(const Tensor *x)
{
    enum { BYTES = 16384 };
    const int64_t rows = BYTES / (shape_columns(x->shape) * (int64_t)dtype_size(x->shape.type));
    return rows < ROW_TILE ? ROW_TILE : rows;
}

/* [*first, *last) is the calling thread's share of `count`. */
static inline void thread_share(int64_t count, int64_t *first, int64_t *last)
{
    const int64_t threads = omp_get_num_threads(), thread = omp_get_thread_num();
    *first = count * thread / threads;
    *last = count * (thread + 1) / threads;
}

/* Threads worth waking for that many elements. */
static inline int threads_for(const Device *device, int64_t elements)
{
    const int64_t useful = elements / 16384 + 1;
    const int threads = device_threads(device);
    return useful < threads ? (int)useful : threads;
}

/* Is a result better written past the caches (vector_stream)? If it is so large that little of it would still
 * be there when read, and all whole vectors of it are aligned. */
static inline bool is_streamed(const Tensor *tensor)
{
    enum { LARGE = 12 << 20, ALIGNMENT = 64 };
    const size_t size = dtype_size(tensor->shape.type);
    return shape_bytes(tensor->shape) >= LARGE && (uintptr_t)tensor->data % ALIGNMENT == 0 &&
           (size_t)tensor->stride * size % ALIGNMENT == 0;
}

#endif
