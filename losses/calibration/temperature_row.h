/* s(T) = sum_k exp(d_k / T) of one row for the whole grid of temperatures. Internal to losses/.
 *
 * Temperatures lie in the lanes of vectors, so no sum crosses lanes, and a row of any length is one loop over
 * its classes. T is n / 10, n = 1..100 (up to roundings of 1e-13, far below what matters here), and
 * exp(d / (T / 2)) is the square of exp(d / T): only the 50 temperatures with n > 50, the bases, need an
 * exponential, all others are reached from them by squaring: 96 gives 48, 24, 12, 6 and 3. Bases are sorted
 * by how often they can be halved, so that the lanes of one vector are squared equally often. The few bases
 * that do not fill a vector (all with odd n) share one with several classes.
 *
 * d is limited to -1700 (double) or -250 (float): exp(d / T) is then at least 2^-500 or 2^-73 for the bases.
 * A term of that size is added after squaring, to keep products out of the subnormal numbers, which are slow.
 * Beside a sum that is at least 1 both are nothing. */
#ifndef PLUMB_LOSSES_CALIBRATION_TEMPERATURE_ROW_H
#define PLUMB_LOSSES_CALIBRATION_TEMPERATURE_ROW_H

#include "losses/calibration/temperature.h"
#include "losses/vector_math.h"

enum {
    GRID_BASES = TEMPERATURE_COUNT / 2,
    GRID_SQUARINGS = 6,
    FLOAT_LANES = DOUBLES_BYTES / 4,
    MAX_GROUPS = GRID_BASES / DOUBLES_LANES,
    /* Lanes of sums a row: the groups' squarings are at most 6 for the first, 5 for the next, ... */
    GRID_SLOTS = GRID_BASES + (1 + 2 + 3 + 4 + 5 + 6) * FLOAT_LANES + GRID_BASES * 2,
    FLOAT_CHUNK = 256 /* classes after which float sums go into double ones */
};
/* What does not fill a vector; both are 0 or 2 for vectors of 16, 32 and 64 bytes. */
enum { DOUBLE_REST = GRID_BASES % DOUBLES_LANES, FLOAT_REST = GRID_BASES % FLOAT_LANES };

typedef float VectorFloat __attribute__((vector_size(DOUBLES_BYTES)));
typedef int32_t VectorInt32 __attribute__((vector_size(DOUBLES_BYTES)));

typedef struct {
    int lanes, groups, rest;
    int squarings[MAX_GROUPS];
    int base[GRID_BASES];        /* n of each lane of the groups, then of the rest */
    int slot[TEMPERATURE_COUNT]; /* where among the sums of a row that of n - 1 is */
    double factor[GRID_BASES];
    float float_factor[GRID_BASES];
    /* Of the vector that the rest shares with several classes. */
    double rest_factor[DOUBLES_LANES];
    float rest_float_factor[FLOAT_LANES];
} Grid;

static inline int grid_halvings(int n)
{
    int count = 0;
    for (; n % 2 == 0; n /= 2)
        ++count;
    return count;
}

static inline void grid_prepare(Grid *grid, int lanes, const double *temperature)
{
    *grid = (Grid){.lanes = lanes, .groups = GRID_BASES / lanes, .rest = GRID_BASES % lanes};
    int bases = 0;
    for (int times = GRID_SQUARINGS; times >= 0; --times)
        for (int n = GRID_BASES + 1; n <= TEMPERATURE_COUNT; ++n)
            if (grid_halvings(n) == times) grid->base[bases++] = n;
    for (int i = 0; i < GRID_BASES; ++i) {
        grid->factor[i] = 0x1.71547652b82fep0 / temperature[grid->base[i] - 1]; /* log2(e) / T */
        grid->float_factor[i] = (float)grid->factor[i];
    }
    int slots = 0;
    for (int g = 0; g < grid->groups; ++g) {
        grid->squarings[g] = grid_halvings(grid->base[g * lanes]);
        for (int lane = 0; lane < lanes; ++lane) {
            const int n = grid->base[g * lanes + lane];
            for (int times = 0; times <= grid_halvings(n); ++times)
                grid->slot[(n >> times) - 1] = slots + times * lanes + lane;
        }
        slots += (1 + grid->squarings[g]) * lanes;
    }
    for (int i = 0; i < grid->rest; ++i)
        grid->slot[grid->base[grid->groups * lanes + i] - 1] = slots++;
    for (int lane = 0; lane < lanes && grid->rest > 0; ++lane) {
        const int base = grid->groups * lanes + lane % grid->rest;
        if (lanes == DOUBLES_LANES) grid->rest_factor[lane] = grid->factor[base];
        if (lanes == FLOAT_LANES) grid->rest_float_factor[lane] = grid->float_factor[base];
    }
}

/* 2^y for y in [-125, 127], relative error about 1e-7. */
DOUBLES_INLINE VectorFloat doubles_exp2_float(VectorFloat y)
{
    const VectorFloat zero = {0}, shifter = zero + 0x1.8p23F;
    const VectorFloat shifted = y + shifter;
    const VectorFloat f = y - (shifted - shifter);
    VectorFloat p = zero + 0x1.4440p-13F;
    p = p * f + 0x1.5f48c0p-10F;
    p = p * f + 0x1.3b2a1cp-7F;
    p = p * f + 0x1.c6aeccp-5F;
    p = p * f + 0x1.ebfbe0p-3F;
    p = p * f + 0x1.62e430p-1F;
    p = p * f + 1.0F;
    return (VectorFloat)((VectorInt32)p + ((VectorInt32)shifted << 23));
}

/* One group: the bases' sums, then those after one squaring, and so on; d in double, and its twin in float.
 */
DOUBLES_INLINE void group_sums(const double *d, int64_t classes, const double *factor, int squarings,
                               double *sums)
{
    const Doubles scale = doubles_load(factor);
    Doubles sum[GRID_SQUARINGS + 1] = {{0}};
    for (int64_t k = 0; k < classes; ++k) {
        Doubles e = doubles_exp2(scale * d[k]);
        sum[0] += e;
        for (int times = 1; times <= squarings; ++times) {
            e = e * e + 0x1p-500;
            sum[times] += e;
        }
    }
    for (int times = 0; times <= squarings; ++times)
        doubles_store(sums + times * DOUBLES_LANES, sum[times]);
}

DOUBLES_INLINE void group_sums_float(const float *d, int64_t classes, const float *factor, int squarings,
                                     float *sums)
{
    VectorFloat scale, sum[GRID_SQUARINGS + 1] = {{0}};
    memcpy(&scale, factor, sizeof scale);
    for (int64_t k = 0; k < classes; ++k) {
        VectorFloat e = doubles_exp2_float(scale * d[k]);
        sum[0] += e;
        for (int times = 1; times <= squarings; ++times) {
            e = e * e + 0x1p-62F;
            sum[times] += e;
        }
    }
    for (int times = 0; times <= squarings; ++times)
        memcpy(sums + times * FLOAT_LANES, &sum[times], sizeof scale);
}

/* The number of squarings as a constant lets the compiler keep all sums in registers. */
#define WITH_CONSTANT_SQUARINGS(function, squarings, d, classes, factor, sums)                               \
    switch (squarings) {                                                                                     \
    case 0:                                                                                                  \
        function(d, classes, factor, 0, sums);                                                               \
        break;                                                                                               \
    case 1:                                                                                                  \
        function(d, classes, factor, 1, sums);                                                               \
        break;                                                                                               \
    case 2:                                                                                                  \
        function(d, classes, factor, 2, sums);                                                               \
        break;                                                                                               \
    case 3:                                                                                                  \
        function(d, classes, factor, 3, sums);                                                               \
        break;                                                                                               \
    case 4:                                                                                                  \
        function(d, classes, factor, 4, sums);                                                               \
        break;                                                                                               \
    case 5:                                                                                                  \
        function(d, classes, factor, 5, sums);                                                               \
        break;                                                                                               \
    default:                                                                                                 \
        function(d, classes, factor, 6, sums);                                                               \
        break;                                                                                               \
    }

/* s[n - 1] for T = n / 10. d: [classes], 0 at the maximum; `repeated`: each d DOUBLE_REST times, filled up to
 * a whole vector with numbers whose terms vanish. */
static inline void row_sums(const Grid *grid, const double *d, const double *repeated, int64_t classes,
                            double *s)
{
    double sums[GRID_SLOTS], *to = sums;
    for (int g = 0; g < grid->groups; ++g) {
        const double *factor = grid->factor + g * DOUBLES_LANES;
        WITH_CONSTANT_SQUARINGS(group_sums, grid->squarings[g], d, classes, factor, to)
        to += (1 + grid->squarings[g]) * DOUBLES_LANES;
    }
    if (DOUBLE_REST > 0) {
        const Doubles scale = doubles_load(grid->rest_factor);
        Doubles sum = {0};
        for (int64_t i = 0; i < classes * DOUBLE_REST; i += DOUBLES_LANES)
            sum += doubles_exp2(scale * doubles_load(repeated + i));
        for (int i = 0; i < DOUBLE_REST; ++i) {
            to[i] = 0;
            for (int lane = i; lane < DOUBLES_LANES; lane += DOUBLE_REST)
                to[i] += sum[lane];
        }
    }
    for (int t = 0; t < TEMPERATURE_COUNT; ++t)
        s[t] = sums[grid->slot[t]];
}

/* The same in float; s in double, because sums over many classes go there in chunks. */
static inline void row_sums_float(const Grid *grid, const float *d, const float *repeated, int64_t classes,
                                  double *s)
{
    float sums[GRID_SLOTS];
    memset(s, 0, TEMPERATURE_COUNT * sizeof *s);
    for (int64_t begin = 0; begin < classes; begin += FLOAT_CHUNK) {
        const int64_t count = classes - begin < FLOAT_CHUNK ? classes - begin : FLOAT_CHUNK;
        const float *chunk = d + begin;
        float *to = sums;
        for (int g = 0; g < grid->groups; ++g) {
            const float *factor = grid->float_factor + g * FLOAT_LANES;
            WITH_CONSTANT_SQUARINGS(group_sums_float, grid->squarings[g], chunk, count, factor, to)
            to += (1 + grid->squarings[g]) * FLOAT_LANES;
        }
        if (FLOAT_REST > 0) {
            VectorFloat scale, sum = {0};
            memcpy(&scale, grid->rest_float_factor, sizeof scale);
            for (int64_t i = begin * FLOAT_REST; i < (begin + count) * FLOAT_REST; i += FLOAT_LANES) {
                VectorFloat v;
                memcpy(&v, repeated + i, sizeof v);
                sum += doubles_exp2_float(scale * v);
            }
            for (int i = 0; i < FLOAT_REST; ++i) {
                to[i] = 0;
                for (int lane = i; lane < FLOAT_LANES; lane += FLOAT_REST)
                    to[i] += sum[lane];
            }
        }
        for (int t = 0; t < TEMPERATURE_COUNT; ++t)
            s[t] += (double)sums[grid->slot[t]];
    }
}

#endif
