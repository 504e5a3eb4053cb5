/* Matrix products whose left matrix are windows of a sequence: what a convolution over [length, channels] needs.
 *
 * In memory the window of output t is one run of kernel * channels elements that begins at row t, so windows overlap
 * and nothing is copied. FLOAT32; or BFLOAT16 where the processor multiplies pairs of it (window_has_bfloat16), with
 * sums in FLOAT32. Every row of a result is summed in one order, whatever its neighbours are. */
#ifndef PLUMB_ENGINE_OPS_WINDOW_PRODUCT_CPU_H
#define PLUMB_ENGINE_OPS_WINDOW_PRODUCT_CPU_H

#include "engine/base/dtype.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Does the program multiply BFLOAT16 itself? Not on processors with tiles (AMX), of which the library makes more. */
bool window_has_bfloat16(void);

/* ---- rows of windows times a matrix ---- */

/* [depth, columns], depth the elements of a window (even in BFLOAT16), in panels of some columns. */
typedef struct {
    DType type; /* of windows */
    int64_t depth, columns;
    void *packed; /* 64-byte aligned, window_matrix_bytes */
} WindowMatrix;
size_t window_matrix_bytes(DType, int64_t depth, int64_t columns);

/* The matrix's element [d, c] is from[d * depth_stride + c * column_stride]. Threads: those of OpenMP. */
void window_matrix_pack(const WindowMatrix *, const float *from, int64_t depth_stride, int64_t column_stride);
/* The same, of depth = taps * inner: [tap * inner + i, c] is from[tap * tap_stride + i * inner_stride + c]. */
void window_matrix_pack_taps(const WindowMatrix *, const float *from, int64_t inner, int64_t tap_stride,
                             int64_t inner_stride);

/* Rows of a product: to[i] [columns] = bias + window[i] times the matrix. */
typedef struct {
    const void *const *window; /* [count] of the matrix's type */
    void *const *to;           /* [count] */
    int64_t count;
    const float *bias; /* [columns]; NULL: 0 */
    DType type;        /* of the results; of a FLOAT32 matrix FLOAT32 */
} WindowRows;
/* A few rows after the other: the whole matrix should stay in a cache. One thread. */
void window_rows(const WindowMatrix *, const WindowRows *);
/* The same bits, but panel after panel, of `first` .. `end` - 1 of window_panels alone: a matrix of any size is read once, and
 * threads can share its panels. */
int64_t window_panels(const WindowMatrix *);
void window_panel_rows(const WindowMatrix *, const WindowRows *, int64_t first, int64_t end);

/* ---- rows of windows that are zero in most numbers ---- */

/* Windows are read as numbers of four bytes: elements in FLOAT32, pairs of them in BFLOAT16. */

/* Appends the places (first + its place in the row) of a row's numbers that are not zero; returns how many there are.
 * `list` has room for them all and WINDOW_LIST_ROOM more. `elements` is even in BFLOAT16. */
enum { WINDOW_LIST_ROOM = 16 };
int64_t window_list_numbers(DType, const void *row, int64_t elements, int64_t first, int32_t *list);

/* The window whose numbers are those at rows + begin and on, and which of them are not zero. */
typedef struct {
    const void *rows;
    int64_t begin;
    const int32_t *number; /* [count], rising, counted from `rows` */
    int64_t count;
} WindowList;
/* The same bits as window_rows without a bias, for one window and results of the matrix's type. Of `rows` only the
 * listed numbers are read. */
void window_sparse_row(const WindowMatrix *, const WindowList *, void *to);

/* ---- sums of outer products ---- */

/* sum [outs, depth] += for each of the `count` rows: left row [outs] times its window [depth]. In BFLOAT16 rows
 * come in pairs: see window_outer_pairs. Rows that are zero in most elements cost in proportion to the others; the
 * bits are the same. `step`: the elements of a row of the sequence that windows are of; depth is a multiple. */
enum { WINDOW_OUTER_ROWS = 128 };                                            /* at a time, at most */
size_t window_outer_bytes(DType, int64_t outs, int64_t depth, int64_t step); /* of scratch, 64-byte aligned */

/* left[i], window[i]: of row i, in the order of a sequence. FLOAT32. */
void window_outer(float *sum, int64_t outs, int64_t depth, int64_t step, const float *const left[],
                  const float *const window[], int64_t count, void *scratch);

/* BFLOAT16: `rows` consecutive rows of `left` [rows, outs] and their windows, which begin at x and are `step` elements
 * apart; x holds `x_elements` elements from there. Pairs of rows that are zero in `left` are left out. */
void window_outer_pairs(float *sum, int64_t outs, int64_t depth, const bfloat16 *left, const bfloat16 *x,
                        int64_t step, int64_t x_elements, int64_t rows, void *scratch);

#endif
