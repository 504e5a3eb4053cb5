/* A tile of the result stays in registers over the whole inner dimension: TILE_ROWS x TILE_COLUMNS sums. b is packed into
 * panels of TILE_COLUMNS columns, which lie as the tile reads them; a is read where it is, or, turned, packed likewise.
 * A thread takes a block of rows that stays in its second-level cache, and for each panel of b all of the block's tiles.
 *
 * In bfloat16 an instruction multiplies pairs of neighbours along the inner dimension: a unit below is such a pair, 32 bits;
 * in float32 it is one number. */
#include "engine/ops/large_product_cpu.h"

#include "engine/ops/rows_cpu.h"
#include "engine/ops/vector_cpu.h"

#if VECTOR_AVX512 && defined(__AVX512BF16__) && !defined(__AMX_TILE__)
#define LARGE_PRODUCTS 1
#else
#define LARGE_PRODUCTS 0
#endif

enum {
    TILE_ROWS = 8,
    TILE_VECTORS = 2,
    TILE_COLUMNS = TILE_VECTORS * LANES,
    BLOCK_BYTES = 256 << 10, /* of rows of a */
    LARGE_B = 8 << 20,       /* A packed b that a third-level cache may not hold is gone through in parts */
    MOST_UNITS = 1024,       /* of such a part, if sums can be kept in the result */
    /* Multiplications that pay for packing. Output layers of images, documents and trees stay below. */
    WORTH_IT = 1 << 26
};

bool large_product_possible(const LargeProduct *p)
{
    /* Pairs must be neighbours in memory. */
    return LARGE_PRODUCTS && (p->type == FLOAT32 || p->a_turned || p->inner % 2 == 0);
}

bool large_product_pays(const LargeProduct *p)
{
    return large_product_possible(p) && p->rows * p->inner * p->columns >= WORTH_IT;
}

#if LARGE_PRODUCTS

/* How the product lies in scratch memory. */
typedef struct {
    int64_t units;   /* along the inner dimension */
    int64_t b_bytes; /* of the packed b */
    int64_t a_bytes; /* of the packed a; 0: it is read where it is */
} Layout;

static int64_t up(int64_t count, int64_t multiple) { return (count + multiple - 1) / multiple * multiple; }

static Layout lay_out(const LargeProduct *p)
{
    Layout l = {.units = p->type == BFLOAT16 ? (p->inner + 1) / 2 : p->inner};
    l.b_bytes = up(p->columns, TILE_COLUMNS) * l.units * 4;
    if (p->a_turned) l.a_bytes = up(up(p->rows, LANES) * l.units * 4, VECTOR_BYTES);
    return l;
}

size_t large_product_scratch(const LargeProduct *p)
{
    const Layout l = lay_out(p);
    return (size_t)(l.b_bytes + l.a_bytes);
}

/* ---- packing ---- */

/* Vectors of units: LANES columns of it, `width` columns a panel. */
typedef struct {
    uint32_t *to;
    int64_t units, width;
} Panels;

VECTOR_INLINE void put(const Panels *panels, int64_t unit, int64_t column, __m512i vector)
{
    uint32_t *to = panels->to;
    if (panels->width == TILE_COLUMNS) {
        _mm512_storeu_si512(to + column / TILE_COLUMNS * panels->units * TILE_COLUMNS + unit * TILE_COLUMNS +
                                column % TILE_COLUMNS,
                            vector);
        return;
    }
    const int64_t panel = panels->units * TILE_ROWS;
    to += column / TILE_ROWS * panel + unit * TILE_ROWS;
    _mm256_storeu_si256((__m256i *)(void *)to, _mm512_castsi512_si256(vector));
    _mm256_storeu_si256((__m256i *)(void *)(to + panel), _mm512_extracti64x4_epi64(vector, 1));
}

/* LANES numbers as bfloat16 in the low half of each lane. */
VECTOR_INLINE __m512i halves(const void *matrix, DType type, int64_t at, int lanes)
{
    if (type == FLOAT32)
        return _mm512_cvtepu16_epi32((__m256i)vector_to_half(vector_load(matrix, at, lanes, false)));
    const void *from = vector_at(matrix, at, true);
    return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16((__mmask16)((1U << lanes) - 1), from));
}

/* LANES units that begin in one row of a matrix and, in bfloat16, end in the next, which may not exist. */
VECTOR_INLINE __m512i unit_of_rows(const void *matrix, DType type, int64_t at, int64_t next, bool has_next,
                                   int lanes, bool bf16)
{
    if (!bf16) return (__m512i)vector_load(matrix, at, lanes, false);
    const __m512i low = halves(matrix, type, at, lanes);
    if (!has_next) return low;
    return _mm512_or_si512(low, _mm512_slli_epi32(halves(matrix, type, next, lanes), 16));
}

/* Where in memory a row of the result is, and of an a that is not turned; and one along the inner dimension. */
static int64_t outer_row(const LargeProduct *p, int64_t index)
{
    return p->row != NULL && !p->a_turned ? p->row[index] : index;
}
static int64_t inner_row(const LargeProduct *p, int64_t index)
{
    return p->row != NULL && p->a_turned ? p->row[index] : index;
}

/* Of a matrix [inner,columns]: units [first,last). */
VECTOR_INLINE void pack_rows(const LargeProduct *p, const Panels *panels, const void *matrix, DType type,
                             int64_t columns, int64_t first, int64_t last, bool bf16)
{
    for (int64_t unit = first; unit < last; ++unit) {
        const int64_t index = bf16 ? 2 * unit : unit;
        const bool has_next = index + 1 < p->inner;
        const int64_t row = inner_row(p, index), next = has_next ? inner_row(p, index + 1) : row;
        for (int64_t column = 0; column < up(columns, panels->width == TILE_COLUMNS ? TILE_COLUMNS : LANES);
             column += LANES) {
            const int64_t left = columns - column;
            __m512i vector = _mm512_setzero_si512();
            if (left > 0)
                vector = unit_of_rows(matrix, type, row * columns + column, next * columns + column, has_next,
                                      left < LANES ? (int)left : LANES, bf16);
            put(panels, unit, column, vector);
        }
    }
}

/* Swaps rows and columns: in each round, of lanes that are `half` apart in two vectors that are. */
VECTOR_INLINE void transpose(__m512i row[LANES])
{
    for (int half = 1; half < LANES; half *= 2) {
        uint32_t first[LANES], second[LANES]; /* lanes of the second vector count from LANES on */
        for (int lane = 0; lane < LANES; ++lane) {
            first[lane] = (uint32_t)((lane & half) == 0 ? lane : lane - half + LANES);
            second[lane] = (uint32_t)((lane & half) == 0 ? lane + half : lane + LANES);
        }
        const __m512i from_first = _mm512_loadu_si512(first), from_second = _mm512_loadu_si512(second);
#pragma GCC unroll 16
        for (int r = 0; r < LANES; ++r) {
            if ((r & half) != 0) continue;
            const __m512i a = row[r], b = row[r + half];
            row[r] = _mm512_permutex2var_epi32(a, from_first, b);
            row[r + half] = _mm512_permutex2var_epi32(a, from_second, b);
        }
    }
}

/* LANES units of a row, from element `at` on, of which `left` elements exist. */
VECTOR_INLINE __m512i units_of_row(const void *matrix, DType type, int64_t at, int64_t left, bool bf16)
{
    const int lanes = left < LANES ? (int)left : LANES;
    if (!bf16) return (__m512i)vector_load(matrix, at, lanes, false);
    if (type == BFLOAT16) {
        const __mmask32 there = left < 2 * LANES ? (__mmask32)((1ULL << left) - 1) : ~(__mmask32)0;
        return _mm512_maskz_loadu_epi16(there, vector_at(matrix, at, true));
    }
    const int more = left < LANES ? 0 : left < 2 * LANES ? (int)(left - LANES) : LANES;
    const Vector low = vector_load(matrix, at, lanes, false);
    const Vector high = more > 0 ? vector_load(matrix, at + LANES, more, false) : vector_all(0);
    return (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
}

/* Of a matrix [columns,inner]: columns [first,last), multiples of LANES. */
VECTOR_INLINE void pack_columns(const Panels *panels, const void *matrix, DType type, int64_t inner,
                                int64_t columns, int64_t first, int64_t last, bool bf16)
{
    for (int64_t column = first; column < last; column += LANES)
        for (int64_t unit = 0; unit < panels->units; unit += LANES) {
            __m512i row[LANES];
            const int64_t element = bf16 ? 2 * unit : unit;
            for (int i = 0; i < LANES; ++i)
                row[i] = column + i < columns ? units_of_row(matrix, type, (column + i) * inner + element,
                                                             inner - element, bf16)
                                              : _mm512_setzero_si512();
            transpose(row);
            for (int i = 0; i < LANES && unit + i < panels->units; ++i)
                put(panels, unit + i, column, row[i]);
        }
}

/* This thread's share of packing. */
VECTOR_INLINE void pack(const LargeProduct *p, const Layout *l, const void *a, const void *b, char *scratch,
                        bool bf16)
{
    int64_t first, last;
    const Panels b_panels = {(uint32_t *)(void *)scratch, l->units, TILE_COLUMNS};
    if (p->b_turned) {
        thread_share(up(p->columns, TILE_COLUMNS) / LANES, &first, &last);
        pack_columns(&b_panels, b, p->b_type, p->inner, p->columns, first * LANES, last * LANES, bf16);
    } else {
        thread_share(l->units, &first, &last);
        pack_rows(p, &b_panels, b, p->b_type, p->columns, first, last, bf16);
    }
    const Panels a_panels = {(uint32_t *)(void *)(scratch + l->b_bytes), l->units, TILE_ROWS};
    if (p->a_turned) {
        thread_share(l->units, &first, &last);
        pack_rows(p, &a_panels, a, p->type, p->rows, first, last, bf16);
    }
}

/* ---- multiplying ---- */

/* What a tile is made of and where it goes. */
typedef struct {
    /* a: of its rows; of an a that is packed only the first, in which they lie side by side. */
    const uint32_t *a[TILE_ROWS];
    const uint32_t *b; /* a panel */
    int64_t units;
    int64_t row, column; /* its first */
    const float *bias;
    bool adds; /* to what is there, FLOAT32 */
} Tile;

/* Part of a tile: `lanes` columns of row `row`. */
VECTOR_INLINE void store_part(const LargeProduct *p, const Tile *t, int64_t row, int64_t column, int lanes,
                              Vector x, void *out)
{
    const int64_t to = outer_row(p, row) * p->columns + column;
    if (t->bias != NULL) x += vector_load(t->bias, column, lanes, false);
    if (t->adds) x += vector_load(out, to, lanes, false);
    if (p->out_type == BFLOAT16)
        vector_store(out, to, lanes, true, x);
    else
        vector_store(out, to, lanes, false, x);
}

VECTOR_INLINE void store_tile(const LargeProduct *p, const Tile *t, __m512 sum[TILE_ROWS][TILE_VECTORS],
                              void *out)
{
    const int64_t rows = p->rows - t->row, left = p->columns - t->column;
    if (rows >= TILE_ROWS && left >= TILE_COLUMNS) {
#pragma GCC unroll 8
        for (int r = 0; r < TILE_ROWS; ++r)
            for (int v = 0; v < TILE_VECTORS; ++v)
                store_part(p, t, t->row + r, t->column + v * LANES, LANES, (Vector)sum[r][v], out);
        return;
    }
    float tile[TILE_ROWS][TILE_COLUMNS];
    for (int r = 0; r < TILE_ROWS; ++r)
        for (int v = 0; v < TILE_VECTORS; ++v)
            _mm512_storeu_ps(tile[r] + v * LANES, sum[r][v]);
    for (int64_t column = 0; column < TILE_COLUMNS && column < left; column += LANES) {
        const int lanes = left - column < LANES ? (int)(left - column) : LANES;
        for (int64_t r = 0; r < TILE_ROWS && r < rows; ++r)
            store_part(p, t, t->row + r, t->column + column, lanes,
                       vector_load(tile[r], column, LANES, false), out);
    }
}

VECTOR_INLINE void multiply_tile(const LargeProduct *p, const Tile *t, void *out, bool packed, bool bf16)
{
    __m512 sum[TILE_ROWS][TILE_VECTORS];
    for (int r = 0; r < TILE_ROWS; ++r)
        for (int v = 0; v < TILE_VECTORS; ++v)
            sum[r][v] = _mm512_setzero_ps();
    for (int64_t unit = 0; unit < t->units; ++unit) {
        __m512i right[TILE_VECTORS];
        for (int v = 0; v < TILE_VECTORS; ++v)
            right[v] = _mm512_loadu_si512(t->b + unit * TILE_COLUMNS + v * LANES);
#pragma GCC unroll 8
        for (int r = 0; r < TILE_ROWS; ++r) {
            uint32_t element; /* a may begin at any multiple of its type's size */
            memcpy(&element, packed ? t->a[0] + unit * TILE_ROWS + r : t->a[r] + unit, sizeof element);
            const __m512i left = _mm512_set1_epi32((int)element);
            for (int v = 0; v < TILE_VECTORS; ++v)
                sum[r][v] = bf16 ? _mm512_dpbf16_ps(sum[r][v], (__m512bh)left, (__m512bh)right[v])
                                 : _mm512_fmadd_ps((__m512)left, (__m512)right[v], sum[r][v]);
        }
    }
    store_tile(p, t, sum, out);
}

/* A block: rows [row,last) times units [unit,end) of all columns. */
typedef struct {
    int64_t row, last, unit, end;
} Block;

VECTOR_INLINE void multiply_block(const LargeProduct *p, const Layout *l, const void *a, const char *scratch,
                                  const float *bias, void *out, Block block, bool bf16)
{
    const uint32_t *packed = (const uint32_t *)(const void *)(scratch + l->b_bytes) + block.unit * TILE_ROWS;
    Tile tile = {.b = (const uint32_t *)(const void *)scratch + block.unit * TILE_COLUMNS,
                 .units = block.end - block.unit,
                 .bias = block.unit == 0 ? bias : NULL,
                 .adds = block.unit > 0};
    for (tile.column = 0; tile.column < p->columns; tile.column += TILE_COLUMNS) {
        for (tile.row = block.row; tile.row < block.last; tile.row += TILE_ROWS) {
            if (p->a_turned) {
                tile.a[0] = packed + tile.row * l->units;
                multiply_tile(p, &tile, out, true, bf16);
                continue;
            }
            for (int64_t r = 0; r < TILE_ROWS;
                 ++r) { /* behind the last row it again: nothing is stored of that */
                const int64_t row = tile.row + r < p->rows ? tile.row + r : p->rows - 1;
                tile.a[r] = (const uint32_t *)a + outer_row(p, row) * l->units + block.unit;
            }
            multiply_tile(p, &tile, out, false, bf16);
        }
        tile.b += l->units * TILE_COLUMNS;
    }
}

static void run_typed(const Device *device, const LargeProduct *p, const void *a, const void *b,
                      const float *bias, void *out, char *scratch)
{
    const Layout l = lay_out(p);
    const bool in_parts = p->out_type == FLOAT32 && l.b_bytes > LARGE_B;
    const int64_t parts = in_parts ? (l.units + MOST_UNITS - 1) / MOST_UNITS : 1;
    const int64_t units = (l.units + parts - 1) / parts;
    int64_t rows = BLOCK_BYTES / (units * 4) / TILE_ROWS * TILE_ROWS;
    if (rows < TILE_ROWS) rows = TILE_ROWS;
#pragma omp parallel num_threads(threads_for(device, p->rows * p->columns))
    {
        if (p->type == BFLOAT16)
            pack(p, &l, a, b, scratch, true);
        else
            pack(p, &l, a, b, scratch, false);
#pragma omp barrier
#pragma omp for schedule(dynamic)
        for (int64_t row = 0; row < p->rows; row += rows)
            for (int64_t unit = 0; unit < l.units; unit += units) {
                const Block block = {row, row + rows < p->rows ? row + rows : p->rows, unit,
                                     unit + units < l.units ? unit + units : l.units};
                if (p->type == BFLOAT16)
                    multiply_block(p, &l, a, scratch, bias, out, block, true);
                else
                    multiply_block(p, &l, a, scratch, bias, out, block, false);
            }
    }
}

void large_product_run(const Device *device, const LargeProduct *p, const void *a, const void *b,
                       const float *bias, void *out, void *scratch)
{
    run_typed(device, p, a, b, bias, out, scratch);
}

#else

size_t large_product_scratch(const LargeProduct *p)
{
    (void)p;
    return 0;
}

void large_product_run(const Device *device, const LargeProduct *p, const void *a, const void *b,
                       const float *bias, void *out, void *scratch)
{
    (void)device, (void)p, (void)a, (void)b, (void)bias, (void)out, (void)scratch;
}

#endif
