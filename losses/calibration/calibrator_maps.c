/* Calibrators of one class against the rest, as functions of the class' probability. */
#include "losses/calibration/calibrator_fit.h"

#include "engine/base/memory.h"
#include "losses/calibration/bins.h"
#include "losses/calibration/threads.h"

#include <stdlib.h>
#include <string.h>

/* A class' probability of a row, and whether the row is of the class. */
typedef struct {
    double p;
    int64_t count, hits; /* of equal p */
} Point;

static int compare_points(const void *a, const void *b)
{
    const double left = ((const Point *)a)->p, right = ((const Point *)b)->p;
    return (left > right) - (left < right);
}

/* point [count]: ascending in p. */
static void sort_class(const FitRows *rows, int64_t k, Point *point)
{
    for (int64_t row = 0; row < rows->count; ++row)
        point[row] = (Point){rows->x[row * rows->classes + k], 1, logits_label(rows->set, row) == k};
    qsort(point, (size_t)rows->count, sizeof *point, compare_points);
}

static Status map_new(int64_t count, CalibratorMap *map)
{
    map->count = count;
    TRY(memory_new(&map->x, (size_t)count, sizeof *map->x, "a map of probabilities"));
    return memory_new(&map->y, (size_t)count, sizeof *map->y, "a map of probabilities");
}

typedef Status MapFit(const FitRows *, const CalibratorSettings *, int64_t k, Point *, CalibratorMap *);

static Status fit_classes(const FitRows *rows, Calibrator *calibrator, MapFit *fit)
{
    Point *point;
    Status status = OK;
    TRY(memory_new(&point, (size_t)rows->count, sizeof *point, "sorted probabilities"));
    for (int64_t k = 0; k < rows->classes && status == OK; ++k) {
        sort_class(rows, k, point);
        status = fit(rows, &calibrator->settings, k, point, &calibrator->map[k]);
    }
    free(point);
    calibrator->objective = NAN;
    calibrator->finished = true;
    return status;
}

/* ---- isotonic ---- */

/* A run of points with one value, hits / count: shares are compared as fractions of integers, exactly. */
typedef struct {
    double low, high;
    int64_t count, hits;
} Block;

static bool is_above(const Block *block, const Block *next)
{
    return (__int128)block->hits * next->count > (__int128)next->hits * block->count;
}

/* Points become blocks of ascending value, in place of nothing else. Returns how many. */
static int64_t pool(const Point *point, int64_t count, Block *block)
{
    int64_t blocks = 0;
    for (int64_t i = 0; i < count; ++i) {
        if (blocks > 0 && i > 0 && point[i].p == point[i - 1].p) { /* equal p first */
            block[blocks - 1].count += 1;
            block[blocks - 1].hits += point[i].hits;
        } else {
            block[blocks++] = (Block){point[i].p, point[i].p, 1, point[i].hits};
        }
    }
    int64_t kept = 0;
    for (int64_t i = 0; i < blocks; ++i) {
        block[kept++] = block[i];
        while (kept > 1 && is_above(&block[kept - 2], &block[kept - 1])) {
            block[kept - 2].high = block[kept - 1].high;
            block[kept - 2].count += block[kept - 1].count;
            block[kept - 2].hits += block[kept - 1].hits;
            --kept;
        }
    }
    return kept;
}

static Status fit_isotonic(const FitRows *rows, const CalibratorSettings *settings, int64_t k, Point *point,
                           CalibratorMap *map)
{
    (void)settings;
    (void)k;
    Block *block;
    TRY(memory_new(&block, (size_t)rows->count, sizeof *block, "blocks"));
    const int64_t blocks = pool(point, rows->count, block);
    int64_t ends = 0;
    for (int64_t i = 0; i < blocks; ++i)
        ends += 1 + (block[i].high > block[i].low);
    Status status = map_new(ends, map);
    for (int64_t i = 0, at = 0; i < blocks && status == OK; ++i) {
        const double value = (double)block[i].hits / (double)block[i].count;
        map->x[at] = block[i].low;
        map->y[at++] = value;
        if (!(block[i].high > block[i].low)) continue;
        map->x[at] = block[i].high;
        map->y[at++] = value;
    }
    free(block);
    return status;
}

Status calibrator_fit_isotonic(const FitRows *rows, Calibrator *calibrator)
{
    return fit_classes(rows, calibrator, fit_isotonic);
}

static int64_t map_place(const CalibratorMap *map, double p)
{
    return bins_find_upper(map->x, map->count, p);
}

static double map_interpolated(const CalibratorMap *map, double p)
{
    const int64_t place = map_place(map, p);
    if (place == 0) return map->y[0];
    if (place == map->count) return map->y[map->count - 1];
    if (map->x[place] == p) return map->y[place];
    const double low = map->x[place - 1], share = (p - low) / (map->x[place] - low);
    return map->y[place - 1] + share * (map->y[place] - map->y[place - 1]);
}

void calibrator_apply_isotonic(const Calibrator *calibrator, const double *x, double *p)
{
    for (int64_t k = 0; k < calibrator->classes; ++k)
        p[k] = map_interpolated(&calibrator->map[k], x[k]);
}

/* ---- histograms ---- */

static Status fit_histogram(const FitRows *rows, const CalibratorSettings *settings, int64_t k, Point *point,
                            CalibratorMap *map)
{
    (void)k;
    const int most = settings->bins;
    int64_t *tally; /* rows of the bins, then those of the class */
    TRY(map_new(most, map));
    TRY(memory_new(&tally, (size_t)most, 2 * sizeof *tally, "bins"));
    if (settings->equal_mass)
        map->count = bins_equal_mass(&point->p, sizeof *point / sizeof(double), rows->count, most, map->x);
    else
        for (int b = 0; b < most; ++b)
            map->x[b] = (double)(b + 1) / most;
    for (int64_t row = 0; row < rows->count; ++row) {
        int64_t bin =
            settings->equal_mass ? map_place(map, point[row].p) : bins_find_ceiling(most, point[row].p);
        if (bin >= map->count) bin = map->count - 1;
        tally[bin] += 1;
        tally[most + bin] += point[row].hits;
    }
    for (int64_t b = 0; b < map->count; ++b)
        map->y[b] = tally[b] > 0 ? (double)tally[most + b] / (double)tally[b]
                                 : ((b > 0 ? map->x[b - 1] : 0) + map->x[b]) / 2;
    free(tally);
    return OK;
}

Status calibrator_fit_histogram(const FitRows *rows, Calibrator *calibrator)
{
    return fit_classes(rows, calibrator, fit_histogram);
}

void calibrator_apply_histogram(const Calibrator *calibrator, const double *x, double *p)
{
    for (int64_t k = 0; k < calibrator->classes; ++k) {
        const CalibratorMap *map = &calibrator->map[k];
        int64_t bin =
            calibrator->settings.equal_mass ? map_place(map, x[k]) : bins_find_ceiling((int)map->count, x[k]);
        if (bin >= map->count) bin = map->count - 1;
        p[k] = map->y[bin];
    }
}
