/* Products of rows in register tiles: ROWS x 2 vectors of sums. They leave registers for the operands, and are large
 * enough that loads hide behind multiplications. */
#include "engine/ops/window_product_cpu.h"

#include "engine/ops/window_number_cpu.h"

#if VECTOR_AVX512
enum { ROWS = 14 };
#define UNROLL_ROWS _Pragma("GCC unroll 14")
#else
enum { ROWS = 6 };
#define UNROLL_ROWS _Pragma("GCC unroll 6")
#endif
enum { PANEL_VECTORS = 2, PANEL = PANEL_VECTORS * LANES };

bool window_has_bfloat16(void) { return WINDOW_HAS_PAIRS; }

/* ---- the matrix ---- */

static int64_t panels_of(int64_t columns) { return (columns + PANEL - 1) / PANEL; }

size_t window_matrix_bytes(DType type, int64_t depth, int64_t columns)
{
    return (size_t)(panels_of(columns) * PANEL * depth) * dtype_size(type);
}

/* Panels lie one behind the other; within one, PANEL columns of an element of the depth (in BFLOAT16: of a pair of
 * elements) lie together. Columns behind the last are zero. */
static void put(const WindowMatrix *matrix, int64_t d, int64_t c, float value)
{
    const int64_t panel = c / PANEL * PANEL * matrix->depth, column = c % PANEL;
    if (matrix->type == FLOAT32)
        ((float *)matrix->packed)[panel + d * PANEL + column] = value;
    else
        ((bfloat16 *)matrix->packed)[panel + (d / 2 * PANEL + column) * 2 + d % 2] =
            bfloat16_from_float(value);
}

void window_matrix_pack(const WindowMatrix *matrix, const float *from, int64_t depth_stride,
                        int64_t column_stride)
{
    const int64_t columns = panels_of(matrix->columns) * PANEL;
#pragma omp parallel for schedule(static) if (columns * matrix->depth > 1 << 14)
    for (int64_t c = 0; c < columns; ++c)
        for (int64_t d = 0; d < matrix->depth; ++d)
            put(matrix, d, c, c < matrix->columns ? from[d * depth_stride + c * column_stride] : 0.0F);
}

void window_matrix_pack_taps(const WindowMatrix *matrix, const float *from, int64_t inner, int64_t tap_stride,
                             int64_t inner_stride)
{
    const int64_t columns = panels_of(matrix->columns) * PANEL;
#pragma omp parallel for schedule(static) if (columns * matrix->depth > 1 << 14)
    for (int64_t d = 0; d < matrix->depth; ++d) {
        const float *row = from + d / inner * tap_stride + d % inner * inner_stride;
        for (int64_t c = 0; c < columns; ++c)
            put(matrix, d, c, c < matrix->columns ? row[c] : 0.0F);
    }
}

/* ---- rows of windows times the matrix ---- */

/* Where the rows of a tile come from and go to. */
typedef struct {
    const void *const *window;
    void *const *to;
    const float *bias;
} Tile;

/* `rows` (a constant, as the sums are in registers) of one panel. `depth`: of numbers, or of pairs; narrow: results in
 * BFLOAT16. */
VECTOR_INLINE void multiply_rows(const Tile *tile, int rows, const void *panel, int64_t depth, int64_t column,
                                 int lanes0, int lanes1, bool pairs, bool narrow)
{
    Vector sum[ROWS][PANEL_VECTORS];
    const float *bias = tile->bias;
    const Vector start0 = bias != NULL ? vector_load(bias, column, lanes0, false) : vector_all(0);
    const Vector start1 =
        bias != NULL && lanes1 > 0 ? vector_load(bias, column + LANES, lanes1, false) : vector_all(0);
    UNROLL_ROWS
    for (int r = 0; r < rows; ++r) {
        sum[r][0] = start0;
        sum[r][1] = start1;
    }
    for (int64_t d = 0; d < depth; ++d) {
        const Vector b0 = vector_load(panel, d * PANEL, LANES, false);
        const Vector b1 = vector_load(panel, d * PANEL + LANES, LANES, false);
        UNROLL_ROWS
        for (int r = 0; r < rows; ++r) {
            const Vector a = vector_all(number_at(tile->window[r], d));
            sum[r][0] = multiply_add(sum[r][0], a, b0, pairs);
            sum[r][1] = multiply_add(sum[r][1], a, b1, pairs);
        }
    }
    UNROLL_ROWS
    for (int r = 0; r < rows; ++r) {
        vector_store(tile->to[r], column, lanes0, narrow, sum[r][0]);
        if (lanes1 > 0) vector_store(tile->to[r], column + LANES, lanes1, narrow, sum[r][1]);
    }
}

VECTOR_INLINE void multiply_some(const Tile *tile, int rows, const WindowMatrix *matrix, int64_t column,
                                 bool pairs, bool narrow)
{
    const int64_t depth = pairs ? matrix->depth / 2 : matrix->depth, left = matrix->columns - column;
    const char *panel = (const char *)matrix->packed + (size_t)(column * matrix->depth) * (pairs ? 2 : 4);
    if (left >= PANEL)
        multiply_rows(tile, rows, panel, depth, column, LANES, LANES, pairs, narrow);
    else
        multiply_rows(tile, rows, panel, depth, column, left < LANES ? (int)left : LANES,
                      left > LANES ? (int)left - LANES : 0, pairs, narrow);
}

/* One tile of one panel. What is summed in which order depends on nothing but the depth. */
VECTOR_INLINE void multiply_tile(const Tile *tile, int rows, const WindowMatrix *matrix, int64_t column,
                                 bool pairs, bool narrow)
{
#define ROWS_CASE(count)                                                                                     \
    case count:                                                                                              \
        multiply_some(tile, count, matrix, column, pairs, narrow);                                           \
        break
    switch (rows) {
        ROWS_CASE(1);
        ROWS_CASE(2);
        ROWS_CASE(3);
        ROWS_CASE(4);
        ROWS_CASE(5);
        ROWS_CASE(6);
#if VECTOR_AVX512
        ROWS_CASE(7);
        ROWS_CASE(8);
        ROWS_CASE(9);
        ROWS_CASE(10);
        ROWS_CASE(11);
        ROWS_CASE(12);
        ROWS_CASE(13);
        ROWS_CASE(14);
#endif
    default:
        break;
    }
#undef ROWS_CASE
}

typedef void MultiplyTile(const Tile *, int rows, const WindowMatrix *, int64_t column);
static void tile_float(const Tile *tile, int rows, const WindowMatrix *matrix, int64_t column)
{
    multiply_tile(tile, rows, matrix, column, false, false);
}
static void tile_pairs(const Tile *tile, int rows, const WindowMatrix *matrix, int64_t column)
{
    multiply_tile(tile, rows, matrix, column, true, true);
}
static void tile_pairs_to_float(const Tile *tile, int rows, const WindowMatrix *matrix, int64_t column)
{
    multiply_tile(tile, rows, matrix, column, true, false);
}

static MultiplyTile *tile_of(DType type, DType results)
{
    if (type == FLOAT32) return tile_float;
    return results == FLOAT32 ? tile_pairs_to_float : tile_pairs;
}

/* Tile `index` of so many, all of nearly the same height; returns its rows. */
static int tile_begin(Tile *tile, const WindowRows *rows, int64_t index, int64_t tiles)
{
    const int64_t first = rows->count * index / tiles, end = rows->count * (index + 1) / tiles;
    tile->window = rows->window + first;
    tile->to = rows->to + first;
    tile->bias = rows->bias;
    return (int)(end - first);
}

static int64_t tiles_of(int64_t rows) { return (rows + ROWS - 1) / ROWS; }

void window_rows(const WindowMatrix *matrix, const WindowRows *rows)
{
    MultiplyTile *multiply = tile_of(matrix->type, rows->type);
    const int64_t tiles = tiles_of(rows->count);
    for (int64_t t = 0; t < tiles; ++t) {
        Tile tile;
        const int count = tile_begin(&tile, rows, t, tiles);
        for (int64_t column = 0; column < matrix->columns; column += PANEL)
            multiply(&tile, count, matrix, column);
    }
}

int64_t window_panels(const WindowMatrix *matrix) { return panels_of(matrix->columns); }

void window_panel_rows(const WindowMatrix *matrix, const WindowRows *rows, int64_t first, int64_t end)
{
    MultiplyTile *multiply = tile_of(matrix->type, rows->type);
    const int64_t tiles = tiles_of(rows->count);
    for (int64_t panel = first; panel < end; ++panel)
        for (int64_t t = 0; t < tiles; ++t) {
            Tile tile;
            const int count = tile_begin(&tile, rows, t, tiles);
            multiply(&tile, count, matrix, panel * PANEL);
        }
}

/* ---- rows of windows that are zero in most numbers ---- */

int64_t window_list_numbers(DType type, const void *row, int64_t elements, int64_t first, int32_t *list)
{
    const bool pairs = type == BFLOAT16;
    const int64_t numbers = pairs ? elements / 2 : elements;
    int64_t count = 0;
    for (int64_t i = 0; i < numbers; i += LANES) {
        const int lanes = numbers - i < LANES ? (int)(numbers - i) : LANES;
        const Mask mask = numbers_not_zero(vector_load(row, i, lanes, false), pairs);
#if VECTOR_AVX512
        const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        const __m512i number = _mm512_add_epi32(lane, _mm512_set1_epi32((int)(first + i)));
        _mm512_storeu_si512(list + count, _mm512_maskz_compress_epi32(mask, number));
        count += __builtin_popcount(mask);
#else
        for (int lane = 0; lane < lanes; ++lane) {
            list[count] = (int32_t)(first + i) + lane;
            count += mask[lane] != 0;
        }
#endif
    }
    return count;
}

/* The sums of several panels stand in registers, each number is loaded once for them. */
enum { SPARSE_PANELS = VECTOR_AVX512 ? 4 : 3 };

VECTOR_INLINE void multiply_listed(const WindowMatrix *matrix, const WindowList *list, int64_t column,
                                   int panels, void *to, bool pairs)
{
    const int64_t panel_numbers = (pairs ? matrix->depth / 2 : matrix->depth) * PANEL;
    const float *panel = (const float *)matrix->packed + column / PANEL * panel_numbers;
    Vector sum[SPARSE_PANELS][PANEL_VECTORS];
    for (int p = 0; p < panels; ++p)
        for (int v = 0; v < PANEL_VECTORS; ++v)
            sum[p][v] = vector_all(0);
    for (int64_t i = 0; i < list->count; ++i) {
        const Vector a = vector_all(number_at(list->rows, list->number[i]));
        const float *row = panel + (list->number[i] - list->begin) * PANEL;
        for (int p = 0; p < panels; ++p)
            for (int v = 0; v < PANEL_VECTORS; ++v)
                sum[p][v] = multiply_add(
                    sum[p][v], a, vector_load(row, p * panel_numbers + v * LANES, LANES, false), pairs);
    }
    for (int p = 0; p < panels; ++p)
        for (int v = 0; v < PANEL_VECTORS; ++v) {
            const int64_t at = column + p * PANEL + v * LANES, left = matrix->columns - at;
            if (left > 0) vector_store(to, at, left < LANES ? (int)left : LANES, pairs, sum[p][v]);
        }
}

VECTOR_INLINE void multiply_list(const WindowMatrix *matrix, const WindowList *list, void *to, bool pairs)
{
    int64_t column = 0;
    for (; column + (SPARSE_PANELS - 1) * PANEL < matrix->columns; column += SPARSE_PANELS * PANEL)
        multiply_listed(matrix, list, column, SPARSE_PANELS, to, pairs);
    for (; column < matrix->columns; column += PANEL)
        multiply_listed(matrix, list, column, 1, to, pairs);
}

void window_sparse_row(const WindowMatrix *matrix, const WindowList *list, void *to)
{
    if (matrix->type == FLOAT32)
        multiply_list(matrix, list, to, false);
    else
        multiply_list(matrix, list, to, true);
}
