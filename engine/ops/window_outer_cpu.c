/* Sums of outer products in register tiles, OUTS x 3 vectors; or, where most of the left rows is zero, of the other
 * numbers alone. */
#include "engine/ops/window_number_cpu.h"
#include "engine/ops/window_product_cpu.h"

enum { OUTS = VECTOR_AVX512 ? 8 : 4, OUTER_VECTORS = 3, OUTER = OUTER_VECTORS * LANES };
#define UNROLL_OUTS _Pragma("GCC unroll 8")

static int64_t outer_tiles(int64_t outs) { return (outs + OUTS - 1) / OUTS; }
static size_t whole_lines(size_t bytes) { return (bytes + 63) / 64 * 64; }

/* Of sparse rows: some columns of the windows' rows at a time, so many rows that they stay in a first-level cache. */
enum { COLUMN_VECTORS = 2, COLUMNS = COLUMN_VECTORS * LANES, MOST_PLACES = 5 * WINDOW_OUTER_ROWS };
enum { SPARSE_VECTORS = 10, WORDS = WINDOW_OUTER_ROWS / 64 };

/* Scratch: the left rows in tiles, for each of OUTS outputs its rows (or pairs of them), OUTS numbers each; for each
 * output the rows in which it is not zero; some columns of the windows' rows; in BFLOAT16 the windows' elements, each
 * beside the one a step behind. */
typedef struct {
    size_t rows_at, columns_at, pairs_at, bytes;
} Layout;

static Layout layout_of(DType type, int64_t outs, int64_t depth, int64_t step)
{
    const size_t tiled = (size_t)(outer_tiles(outs) * OUTS);
    const size_t pairs = (size_t)(WINDOW_OUTER_ROWS * step + depth) * 2 * sizeof(bfloat16);
    Layout layout = {.rows_at = whole_lines(tiled * WINDOW_OUTER_ROWS * sizeof(float))};
    layout.columns_at = layout.rows_at + whole_lines(tiled * WORDS * sizeof(uint64_t));
    layout.pairs_at = layout.columns_at + whole_lines((MOST_PLACES * COLUMNS + LANES) * sizeof(float));
    layout.bytes = layout.pairs_at + (type == BFLOAT16 ? whole_lines(pairs) : 0);
    return layout;
}

size_t window_outer_bytes(DType type, int64_t outs, int64_t depth, int64_t step)
{
    return layout_of(type, outs, depth, step).bytes;
}

/* ---- rows with many elements ---- */

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

/* ---- rows that are zero in most elements ---- */

/* Bit j of byte i becomes bit i of byte j. */
static uint64_t transpose_bits(uint64_t bits)
{
    uint64_t swap = (bits ^ (bits >> 7)) & 0x00aa00aa00aa00aaU;
    bits ^= swap ^ (swap << 7);
    swap = (bits ^ (bits >> 14)) & 0x0000cccc0000ccccU;
    bits ^= swap ^ (swap << 14);
    swap = (bits ^ (bits >> 28)) & 0x00000000f0f0f0f0U;
    return bits ^ swap ^ (swap << 28);
}

/* In which of the `count` rows of a tile the outputs are not zero, a bit each; returns how many bits are set. */
static int64_t find_rows(const float *tile, int64_t count, bool pairs, uint64_t rows[OUTS * WORDS])
{
    uint8_t found[WINDOW_OUTER_ROWS * OUTS / 8 + 1];
    int64_t set = 0;
    for (int64_t i = 0; i < count * OUTS; i += LANES) {
        const int lanes = count * OUTS - i < LANES ? (int)(count * OUTS - i) : LANES;
        mask_store(found, i, lanes, numbers_not_zero(vector_load(tile, i, lanes, false), pairs));
    }
    memset(rows, 0, OUTS * WORDS * sizeof *rows);
    for (int64_t row = 0; row < count; row += 8) {
        uint64_t bits = 0;
        for (int64_t i = 0; i < 8 && row + i < count; ++i) {
            const int64_t bit = (row + i) * OUTS;
            bits |= (uint64_t)((found[bit / 8] >> bit % 8) & ((1 << OUTS) - 1)) << 8 * i;
        }
        set += __builtin_popcountll(bits);
        bits = transpose_bits(bits);
        for (int o = 0; o < OUTS; ++o)
            rows[o * WORDS + row / 64] |= (bits >> 8 * o & 0xff) << row % 64;
    }
    return set;
}

typedef struct {
    int64_t outs, depth, step, count;
    const float *left;                /* tiles */
    const uint64_t *rows;             /* [outs, WORDS] */
    const float *const *window;       /* [count] */
    int32_t place[WINDOW_OUTER_ROWS]; /* which row of the sequence, of those needed, a window begins at */
    int64_t places;
    float *columns; /* [places, width] of the rows needed */
    bool pairs;
} Sparse;

/* Windows that overlap share rows. false: there are too many of them. */
static bool find_places(Sparse *sparse)
{
    const int64_t taps = sparse->depth / sparse->step;
    int64_t end = 0;
    for (int64_t i = 0; i < sparse->count; ++i) {
        int64_t beyond = taps;
        if (i > 0) {
            const int64_t rows = (sparse->window[i] - sparse->window[i - 1]) / sparse->step;
            if (rows > 0 && rows < taps) beyond = rows;
        }
        end += beyond;
        if (end > MOST_PLACES) return false;
        sparse->place[i] = (int32_t)(end - taps);
    }
    sparse->places = end;
    return true;
}

static void copy_columns(const Sparse *sparse, int64_t first, int64_t width)
{
    const int64_t taps = sparse->depth / sparse->step;
    int64_t done = 0;
    for (int64_t i = 0; i < sparse->count; ++i)
        for (; done < sparse->place[i] + taps; ++done) {
            const float *from = sparse->window[i] + (done - sparse->place[i]) * sparse->step + first;
            float *to = sparse->columns + done * width;
            if (width == COLUMNS)
                memcpy(to, from, COLUMNS * sizeof *to);
            else
                memcpy(to, from, (size_t)width * sizeof *to);
        }
    memset(sparse->columns + done * width, 0, LANES * sizeof *sparse->columns);
}

/* Of one output and `vectors` vectors of its windows' part in these columns, of which the first is number `at`. */
VECTOR_INLINE void add_sparse_tile(float *sum, const Sparse *sparse, int64_t out, int64_t width, int64_t at,
                                   int vectors, bool whole, bool pairs)
{
    const float *left = sparse->left + out / OUTS * OUTS * sparse->count + out % OUTS;
    Vector tile[SPARSE_VECTORS];
    for (int v = 0; v < vectors; ++v)
        tile[v] = vector_all(0);
    for (int word = 0; word < WORDS; ++word)
        for (uint64_t rows = sparse->rows[out * WORDS + word]; rows != 0; rows &= rows - 1) {
            const int row = 64 * word + __builtin_ctzll(rows);
            const float *x = sparse->columns + sparse->place[row] * width + at;
            const Vector a = vector_all(number_at(left, (int64_t)row * OUTS));
            for (int v = 0; v < vectors; ++v)
                tile[v] = multiply_add(tile[v], a, vector_load(x, v * LANES, LANES, false), pairs);
        }
    if (whole) { /* vectors of whole COLUMNS */
        for (int v = 0; v < vectors; ++v) {
            const int64_t index =
                (at / COLUMNS + v / COLUMN_VECTORS) * sparse->step + v % COLUMN_VECTORS * LANES;
            vector_store(sum, index, LANES, false, vector_load(sum, index, LANES, false) + tile[v]);
        }
        return;
    }
    float part[SPARSE_VECTORS * LANES] = {0};
    const int64_t numbers = sparse->depth / sparse->step * width;
    for (int v = 0; v < vectors; ++v)
        vector_store(part, v * LANES, LANES, false, tile[v]);
    for (int64_t i = at; i < at + vectors * LANES && i < numbers; ++i)
        sum[i / width * sparse->step + i % width] += part[i - at];
}

VECTOR_INLINE void add_sparse_tiles(float *sum, const Sparse *sparse, int64_t width, int64_t at, int vectors,
                                    bool whole)
{
    for (int64_t out = 0; out < sparse->outs; ++out) {
        const uint64_t *rows = sparse->rows + out * WORDS;
        if ((rows[0] | rows[1]) == 0) continue;
        if (sparse->pairs)
            add_sparse_tile(sum + out * sparse->depth, sparse, out, width, at, vectors, whole, true);
        else
            add_sparse_tile(sum + out * sparse->depth, sparse, out, width, at, vectors, whole, false);
    }
}

static void add_sparse(float *sum, const Sparse *sparse)
{
    for (int64_t first = 0; first < sparse->step; first += COLUMNS) {
        const int64_t width = sparse->step - first < COLUMNS ? sparse->step - first : COLUMNS;
        const int64_t numbers = sparse->depth / sparse->step * width;
        copy_columns(sparse, first, width);
        for (int64_t at = 0; at < numbers;) {
            const int64_t vectors = (numbers - at + LANES - 1) / LANES;
            if (vectors >= SPARSE_VECTORS && width == COLUMNS) {
                add_sparse_tiles(sum + first, sparse, width, at, SPARSE_VECTORS, true);
                at += SPARSE_VECTORS * LANES;
            } else if (vectors >= COLUMN_VECTORS) {
                add_sparse_tiles(sum + first, sparse, width, at, COLUMN_VECTORS, width == COLUMNS);
                at += COLUMN_VECTORS * LANES;
            } else {
                add_sparse_tiles(sum + first, sparse, width, at, 1, false);
                at += LANES;
            }
        }
    }
}

/* ---- both ---- */

/* left: the tiles, which lie at the beginning of scratch. */
static void add_rows(float *sum, int64_t outs, int64_t depth, int64_t step, const float *const window[],
                     int64_t count, void *scratch, bool pairs)
{
    const Layout layout = layout_of(pairs ? BFLOAT16 : FLOAT32, outs, depth, step);
    uint64_t *rows = (uint64_t *)(void *)((char *)scratch + layout.rows_at);
    Sparse sparse = {.outs = outs,
                     .depth = depth,
                     .step = step,
                     .count = count,
                     .left = scratch,
                     .rows = rows,
                     .window = window,
                     .columns = (float *)(void *)((char *)scratch + layout.columns_at),
                     .pairs = pairs};
    int64_t elements = 0;
    for (int64_t out = 0; out < outs; out += OUTS)
        elements += find_rows(sparse.left + out * count, count, pairs, rows + out * WORDS);
    /* A single product costs a little more than it does in a tile, and each output is added to the sum. */
    if (5 * elements + 24 * outs < 4 * count * outs && find_places(&sparse))
        add_sparse(sum, &sparse);
    else if (pairs)
        add_outer(sum, outs, depth, sparse.left, window, count, true);
    else
        add_outer(sum, outs, depth, sparse.left, window, count, false);
}

void window_outer(float *sum, int64_t outs, int64_t depth, int64_t step, const float *const left[],
                  const float *const window[], int64_t count, void *scratch)
{
    float *tiles = scratch;
    for (int64_t out = 0; out < outs; out += OUTS)
        for (int64_t row = 0; row < count; ++row) {
            float *to = tiles + out * count + row * OUTS;
            if (out + OUTS <= outs)
                memcpy(to, left[row] + out, OUTS * sizeof *to);
            else
                for (int o = 0; o < OUTS; ++o)
                    to[o] = out + o < outs ? left[row][out + o] : 0.0F;
        }
    add_rows(sum, outs, depth, step, window, count, scratch, false);
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
    uint16_t *beside =
        (uint16_t *)(void *)((char *)scratch + layout_of(BFLOAT16, outs, depth, step).pairs_at);
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
    add_rows(sum, outs, depth, step, window, pairs, scratch, true);
}
