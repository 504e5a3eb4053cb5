/* Register tiles: ROWS x 2 vectors of sums for products of rows, OUTS x 3 for outer products. They leave registers
 * for the operands, and are large enough that loads hide behind multiplications. */
#include "engine/ops/window_product_cpu.h"

#include "engine/ops/vector_cpu.h"

#if VECTOR_AVX512
enum { ROWS = 14 };
#define UNROLL_ROWS _Pragma("GCC unroll 14")
#else
enum { ROWS = 6 };
#define UNROLL_ROWS _Pragma("GCC unroll 6")
#endif
enum { PANEL_VECTORS = 2, PANEL = PANEL_VECTORS * LANES };

#if VECTOR_AVX512 && defined(__AVX512BF16__) && !defined(__AMX_BF16__)
#define HAS_PAIRS 1
#else
#define HAS_PAIRS 0
#endif

bool window_has_bfloat16(void) { return HAS_PAIRS; }

/* A vector of sums += products of two pairs of BFLOAT16 in each lane. */
VECTOR_INLINE Vector multiply_pairs(Vector sum, Vector a, Vector b)
{
#if HAS_PAIRS
    return (Vector)_mm512_dpbf16_ps((__m512)sum, (__m512bh)(__m512)a, (__m512bh)(__m512)b);
#else
    (void)a;
    (void)b;
    return sum; /* not reached: window_has_bfloat16 */
#endif
}

VECTOR_INLINE Vector multiply_add(Vector sum, Vector a, Vector b, bool pairs)
{
    return pairs ? multiply_pairs(sum, a, b) : sum + a * b;
}

/* ---- rows of windows times a matrix ---- */

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

VECTOR_INLINE float number_at(const void *data, int64_t index)
{
    float value;
    memcpy(&value, (const char *)data + index * 4, sizeof value);
    return value;
}

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

/* ---- sums of outer products ---- */

enum { OUTS = VECTOR_AVX512 ? 8 : 4, OUTER_VECTORS = 3, OUTER = OUTER_VECTORS * LANES };
#define UNROLL_OUTS _Pragma("GCC unroll 8")

static int64_t outer_tiles(int64_t outs) { return (outs + OUTS - 1) / OUTS; }
static size_t whole_lines(size_t bytes) { return (bytes + 63) / 64 * 64; }

/* The left rows in tiles: for each of OUTS outputs its rows (or pairs of them), OUTS numbers each; in BFLOAT16 then
 * the windows' elements, each beside the one a step behind. */
static size_t left_bytes(int64_t outs)
{
    return whole_lines((size_t)(outer_tiles(outs) * OUTS * WINDOW_OUTER_ROWS) * sizeof(float));
}

size_t window_outer_bytes(DType type, int64_t outs, int64_t depth, int64_t step)
{
    const size_t windows = (size_t)(WINDOW_OUTER_ROWS * step + depth) * 2 * sizeof(bfloat16);
    return left_bytes(outs) + (type == BFLOAT16 ? whole_lines(windows) : 0);
}

/* Of OUTS outputs and `vectors` vectors of the depth, of which the last has `lanes`. left: [rows, OUTS]. */
VECTOR_INLINE void add_outer_tile(float *sum, int64_t depth, const float *left, const float *const window[],
                                  int64_t rows, int64_t at, int vectors, int lanes, int outs, bool pairs)
{
    Vector tile[OUTS][OUTER_VECTORS];
    UNROLL_OUTS
    for (int o = 0; o < OUTS; ++o)
        for (int v = 0; v < OUTER_VECTORS; ++v)
            tile[o][v] = vector_all(0);
    for (int64_t row = 0; row < rows; ++row) {
        Vector x[OUTER_VECTORS];
        for (int v = 0; v < OUTER_VECTORS; ++v)
            x[v] = v < vectors
                       ? vector_load(window[row], at + v * LANES, v == vectors - 1 ? lanes : LANES, false)
                       : vector_all(0);
        UNROLL_OUTS
        for (int o = 0; o < OUTS; ++o) {
            const Vector a = vector_all(number_at(left, row * OUTS + o));
            for (int v = 0; v < OUTER_VECTORS; ++v)
                if (v < vectors) tile[o][v] = multiply_add(tile[o][v], a, x[v], pairs);
        }
    }
    UNROLL_OUTS
    for (int o = 0; o < OUTS; ++o) {
        if (o >= outs) break;
        for (int v = 0; v < OUTER_VECTORS; ++v) {
            if (v >= vectors) continue;
            const int here = v == vectors - 1 ? lanes : LANES;
            const int64_t index = o * depth + at + v * LANES;
            vector_store(sum, index, here, false, vector_load(sum, index, here, false) + tile[o][v]);
        }
    }
}

VECTOR_INLINE void add_outer(float *sum, int64_t outs, int64_t depth, const float *left,
                             const float *const window[], int64_t rows, bool pairs)
{
    for (int64_t at = 0; at < depth; at += OUTER) {
        const int64_t rest = depth - at;
        const int vectors = rest >= OUTER ? OUTER_VECTORS : (int)((rest + LANES - 1) / LANES);
        const int lanes = rest >= OUTER ? LANES : (int)(rest - (int64_t)(vectors - 1) * LANES);
        for (int64_t out = 0; out < outs; out += OUTS) {
            const int count = outs - out < OUTS ? (int)(outs - out) : OUTS;
            const float *part = left + out * rows;
            float *to = sum + out * depth;
            if (vectors == 3 && lanes == LANES)
                add_outer_tile(to, depth, part, window, rows, at, 3, LANES, count, pairs);
            else if (vectors == 3)
                add_outer_tile(to, depth, part, window, rows, at, 3, lanes, count, pairs);
            else if (vectors == 2)
                add_outer_tile(to, depth, part, window, rows, at, 2, lanes, count, pairs);
            else
                add_outer_tile(to, depth, part, window, rows, at, 1, lanes, count, pairs);
        }
    }
}

void window_outer(float *sum, int64_t outs, int64_t depth, const float *const left[],
                  const float *const window[], int64_t count, void *scratch)
{
    float *tiles = scratch;
    for (int64_t out = 0; out < outs; out += OUTS)
        for (int64_t row = 0; row < count; ++row)
            for (int o = 0; o < OUTS; ++o)
                tiles[out * count + row * OUTS + o] = out + o < outs ? left[row][out + o] : 0.0F;
    add_outer(sum, outs, depth, tiles, window, count, false);
}

static bool is_zero(const bfloat16 *row, int64_t count)
{
    uint16_t any = 0;
    for (int64_t i = 0; i < count; ++i)
        any |= (uint16_t)(row[i] << 1);
    return any == 0;
}

void window_outer_pairs(float *sum, int64_t outs, int64_t depth, const bfloat16 *left, const bfloat16 *x,
                        int64_t step, int64_t x_elements, int64_t rows, void *scratch)
{
    /* An odd last row is paired with zeros, and its windows with whatever is there: zero times a number; but what
     * lies behind the sequence is not read. */
    uint16_t *tiles = scratch;
    uint16_t *beside = (uint16_t *)((char *)scratch + left_bytes(outs));
    int64_t first[WINDOW_OUTER_ROWS / 2], pairs = 0;
    for (int64_t row = 0; row < rows; row += 2)
        if (!is_zero(left + row * outs, (rows - row < 2 ? 1 : 2) * outs)) first[pairs++] = row;
    if (pairs == 0) return;
    for (int64_t out = 0; out < outs; out += OUTS)
        for (int64_t pair = 0; pair < pairs; ++pair)
            for (int o = 0; o < OUTS; ++o) {
                const bfloat16 *row = left + first[pair] * outs + out + o;
                uint16_t *to = tiles + ((out * pairs) + pair * OUTS + o) * 2;
                to[0] = out + o < outs ? row[0] : 0;
                to[1] = out + o < outs && first[pair] + 1 < rows ? row[outs] : 0;
            }
    const int64_t elements = first[pairs - 1] * step + depth;
    for (int64_t i = first[0] * step; i < elements; ++i) {
        beside[2 * i] = x[i];
        beside[2 * i + 1] = i + step < x_elements ? x[i + step] : 0;
    }
    const float *window[WINDOW_OUTER_ROWS / 2];
    for (int64_t pair = 0; pair < pairs; ++pair)
        window[pair] = (const float *)(const void *)beside + first[pair] * step;
    add_outer(sum, outs, depth, (const float *)(const void *)tiles, window, pairs, true);
}
