#include "losses/calibration/smooth_ece.h"

#include "engine/base/memory.h"
#include "engine/base/random.h"
#include "losses/calibration/threads.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double pi = 3.14159265358979323846;

static double residual(const ConfidenceSet *set, int64_t i)
{
    return set->confidence[i] - (set->correct[i] != 0);
}

/* ---- the continuous definition ---- */

/* 1/n sum_i r_i K(t, f_i) = c_0 + 2 sum_k exp(-(pi k s)^2 / 2) c_k cos(pi k t), c_k = 1/n sum_i r_i cos(pi k f_i). */
typedef struct {
    const ConfidenceSet *set;
    int threads;
    double *term; /* [terms]: c_k */
    int64_t terms;
} Series;

/* exp(-(pi k s)^2 / 2) is nothing from here on. */
static int64_t terms_for(double bandwidth) { return (int64_t)ceil(9 / (pi * bandwidth)) + 1; }

/* cos(k angle) for ascending k by the recurrence cos((k + 1) a) = 2 cos a cos(k a) - cos((k - 1) a), begun anew now and then. */
enum { RESTART = 256, SERIES_BLOCKS = 16 };

static void add_cosines(double angle, double weight, int64_t terms, double *to)
{
    const double twice = 2 * cos(angle);
    for (int64_t begin = 0; begin < terms; begin += RESTART) {
        const int64_t end = begin + RESTART < terms ? begin + RESTART : terms;
        double before = cos((double)(begin - 1) * angle), now = cos((double)begin * angle);
        for (int64_t k = begin; k < end; ++k) {
            to[k] += weight * now;
            const double next = twice * now - before;
            before = now;
            now = next;
        }
    }
}

static Status series_extend(Series *series, double bandwidth)
{
    const ConfidenceSet *set = series->set;
    const int64_t terms = terms_for(bandwidth), share = (set->count + SERIES_BLOCKS - 1) / SERIES_BLOCKS;
    double *part;
    if (terms <= series->terms) return OK;
    free(series->term);
    series->term = NULL;
    series->terms = 0;
    TRY(memory_new(&series->term, (size_t)terms, sizeof *series->term, "a cosine series"));
    TRY(memory_new(&part, SERIES_BLOCKS * (size_t)terms, sizeof *part, "a cosine series"));
#pragma omp parallel for schedule(dynamic) num_threads(team_size(series->threads, SERIES_BLOCKS))
    for (int64_t block = 0; block < SERIES_BLOCKS; ++block)
        for (int64_t i = block * share; i < (block + 1) * share && i < set->count; ++i)
            add_cosines(pi * set->confidence[i], residual(set, i), terms, part + block * terms);
    for (int64_t block = 0; block < SERIES_BLOCKS; ++block)
        for (int64_t k = 0; k < terms; ++k)
            series->term[k] += part[block * terms + k] / (double)set->count;
    free(part);
    series->terms = terms;
    return OK;
}

enum { POINTS = 32 }; /* whose sums are made side by side */

/* value[i] = |sum_k term_k cos(k angle)| at the points from `first` on, by Clenshaw's recurrence. */
static void sum_cosines(const double *term, int64_t terms, int64_t first, int64_t intervals, double *value)
{
    double cosine[POINTS], now[POINTS] = {0}, before[POINTS] = {0};
    for (int64_t i = 0; i < POINTS; ++i)
        cosine[i] = cos(pi * (double)(first + i) / (double)intervals);
    for (int64_t k = terms - 1; k > 0; --k) {
        const double of_k = term[k];
#pragma omp simd
        for (int i = 0; i < POINTS; ++i) {
            const double next = of_k + 2 * cosine[i] * now[i] - before[i];
            before[i] = now[i];
            now[i] = next;
        }
    }
    for (int i = 0; i < POINTS; ++i)
        value[i] = fabs(term[0] + cosine[i] * now[i] - before[i]);
}

/* By the trapezoidal rule, on a grid that is fine to the kernel. */
static Status series_integral(Series *series, double bandwidth, double *integral)
{
    TRY(series_extend(series, bandwidth));
    const int64_t terms = terms_for(bandwidth);
    const int64_t wanted = (int64_t)ceil(16 / bandwidth), intervals = wanted > 8000 ? wanted : 8000;
    double *damped, *value;
    TRY(memory_new(&damped, (size_t)(terms + intervals + 2 * POINTS), sizeof *damped, "a cosine series"));
    value = damped + terms;
    for (int64_t k = 0; k < terms; ++k) {
        const double exponent = pi * (double)k * bandwidth;
        damped[k] = (k == 0 ? 1 : 2) * exp(-exponent * exponent / 2) * series->term[k];
    }
    const int64_t batches = (intervals + POINTS) / POINTS; /* intervals + 1 points, in whole batches */
#pragma omp parallel for schedule(static) num_threads(team_size(series->threads, batches))
    for (int64_t batch = 0; batch < batches; ++batch)
        sum_cosines(damped, terms, batch * POINTS, intervals, value + batch * POINTS);
    *integral = 0;
    for (int64_t point = 0; point <= intervals; ++point)
        *integral += value[point] * (point == 0 || point == intervals ? 0.5 : 1) / (double)intervals;
    free(damped);
    return OK;
}

Status smooth_ece_at(const ConfidenceSet *set, double bandwidth, int threads, double *value)
{
    Series series = {.set = set, .threads = threads};
    const Status status = series_integral(&series, bandwidth, value);
    free(series.term);
    return status;
}

/* smECE(s) does not grow with s, so there is one s where they meet: halve s until smECE is above, then halve the interval. */
static Status find_bandwidth(Series *series, SmoothEce *result)
{
    double high = 1, low = 1, value;
    do {
        high = low;
        low = high / 2;
        TRY(series_integral(series, low, &value));
    } while (value < low && low > SMOOTH_ECE_LEAST);
    for (int i = 0; i < 40 && high - low > 1e-9 && value >= low; ++i) {
        const double middle = (low + high) / 2;
        double of_middle;
        TRY(series_integral(series, middle, &of_middle));
        if (of_middle >= middle) {
            low = middle;
            value = of_middle;
        } else {
            high = middle;
        }
    }
    *result = (SmoothEce){.value = value, .bandwidth = low};
    return OK;
}

Status smooth_ece(const ConfidenceSet *set, int threads, SmoothEce *result)
{
    Series series = {.set = set, .threads = threads};
    const Status status = find_bandwidth(&series, result);
    free(series.term);
    return status;
}

/* ---- the curve ---- */

/* K(t, f), the sum over the mirror images that are near enough to count. */
static double reflected(double t, double f, double bandwidth)
{
    const double scale = 1 / bandwidth, reach = 9 * bandwidth;
    const int64_t periods = (int64_t)(reach / 2) + 1;
    double sum = 0;
    for (int64_t m = -periods; m <= periods; ++m) {
        const double same = (t - f - 2 * (double)m) * scale, mirrored = (t + f - 2 * (double)m) * scale;
        if (fabs(same) < 9) sum += exp(-same * same / 2);
        if (fabs(mirrored) < 9) sum += exp(-mirrored * mirrored / 2);
    }
    return sum * scale / sqrt(2 * pi);
}

/* Of a kernel's weight at its centre: where all samples are further than about five bandwidths. */
static double no_weight(double bandwidth) { return 1e-6 / (sqrt(2 * pi) * bandwidth); }

Status smooth_curve(const ConfidenceSet *set, double bandwidth, int points, const double *at,
                    double *accuracy, double *density)
{
    for (int point = 0; point < points; ++point) {
        double weight = 0, hits = 0;
        for (int64_t i = 0; i < set->count; ++i) {
            const double kernel = reflected(at[point], set->confidence[i], bandwidth);
            weight += kernel;
            hits += set->correct[i] != 0 ? kernel : 0;
        }
        density[point] = weight / (double)set->count;
        accuracy[point] = weight > no_weight(bandwidth) ? hits / weight : NAN;
    }
    return OK;
}

/* ---- the band ---- */

enum { CELLS = 8001 }; /* samples are rounded to these: resamples become counts of cells */

typedef struct {
    double *kernel; /* [CELLS, points] */
    int32_t *cell;  /* [count]: twice the cell, and 1 more where it is right */
    double *drawn;  /* [replicates, points] */
    double *low, *high;
} Band;

static void band_resample(const ConfidenceSet *set, const Band *band, int points, double bandwidth,
                          uint64_t seed, int64_t replicate, int64_t *tally)
{
    RandomStream stream =
        random_stream(seed ^ random_name_key("band"), RANDOM_BOOTSTRAP, (uint64_t)replicate);
    double weight[SMOOTH_MOST_POINTS] = {0}, hits[SMOOTH_MOST_POINTS] = {0};
    memset(tally, 0, 2 * CELLS * sizeof *tally);
    for (int64_t i = 0; i < set->count; ++i)
        tally[band->cell[random_below(&stream, (uint64_t)set->count)]] += 1;
    for (int64_t cell = 0; cell < CELLS; ++cell) {
        const double right = (double)tally[2 * cell + 1], all = right + (double)tally[2 * cell];
        if (!(all > 0)) continue;
        for (int point = 0; point < points; ++point) {
            weight[point] += all * band->kernel[cell * points + point];
            hits[point] += right * band->kernel[cell * points + point];
        }
    }
    for (int point = 0; point < points; ++point)
        band->drawn[replicate * points + point] =
            weight[point] > no_weight(bandwidth) ? hits[point] / weight[point] : NAN;
}

static int compare_numbers(const void *a, const void *b)
{
    const double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

/* Linearly interpolated, as NumPy does. */
static double quantile(const double *sorted, int64_t count, double level)
{
    const double at = level * (double)(count - 1);
    const int64_t below = (int64_t)at, above = below + 1 < count ? below + 1 : below;
    return sorted[below] + (at - (double)below) * (sorted[above] - sorted[below]);
}

static void band_quantiles(const Band *band, int points, int64_t replicates, double level, double *column,
                           double *lower, double *upper)
{
    for (int point = 0; point < points; ++point) {
        int64_t count = 0;
        for (int64_t r = 0; r < replicates; ++r) {
            const double value = band->drawn[r * points + point];
            if (!isnan(value)) column[count++] = value;
        }
        lower[point] = upper[point] = NAN;
        if (2 * count < replicates) continue;
        qsort(column, (size_t)count, sizeof *column, compare_numbers);
        lower[point] = quantile(column, count, (1 - level) / 2);
        upper[point] = quantile(column, count, (1 + level) / 2);
    }
}

/* How much of a sample counts: where relplot shares it with the grid's last points, half of that share. */
static double relplot_share(double f, double bandwidth)
{
    const double fine = round(20 / bandwidth),
                 from_end = fmin(f, 1 - f) * floor((fine > 2000 ? fine : 2000) / 2);
    return from_end < 1 ? 1 - (1 - from_end) / 2 : 1;
}

Status smooth_band(const ConfidenceSet *set, double bandwidth, int points, const double *at,
                   const SmoothBandOptions *options, double *lower, double *upper)
{
    Band band = {.kernel = NULL};
    const int64_t replicates = options->replicates;
    const int team = team_size(options->threads, replicates);
    int64_t *tally = NULL;
    double *column = NULL;
    Status status;
    if (points > SMOOTH_MOST_POINTS)
        return fail(STATUS_INTERNAL, "a band of %d points; at most %d", points, SMOOTH_MOST_POINTS);
    TRY_ELSE(done, memory_new(&band.kernel, CELLS, (size_t)points * sizeof(double), "a band"));
    TRY_ELSE(done, memory_new(&band.cell, (size_t)set->count, sizeof *band.cell, "a band"));
    TRY_ELSE(done, memory_new(&band.drawn, (size_t)replicates, (size_t)points * sizeof(double), "a band"));
    TRY_ELSE(done, memory_new(&tally, (size_t)team * 2 * CELLS, sizeof *tally, "a band"));
    TRY_ELSE(done, memory_new(&column, (size_t)replicates, sizeof *column, "a band"));
    for (int64_t cell = 0; cell < CELLS; ++cell) {
        const double f = (double)cell / (CELLS - 1),
                     share = options->relplot ? relplot_share(f, bandwidth) : 1;
        for (int point = 0; point < points; ++point)
            band.kernel[cell * points + point] = share * reflected(at[point], f, bandwidth);
    }
    for (int64_t i = 0; i < set->count; ++i)
        band.cell[i] = (int32_t)(2 * lrint(set->confidence[i] * (CELLS - 1)) + (set->correct[i] != 0));
#pragma omp parallel for schedule(static) num_threads(team)
    for (int64_t r = 0; r < replicates; ++r)
        band_resample(set, &band, points, bandwidth, options->seed, r,
                      tally + (int64_t)omp_get_thread_num() * 2 * CELLS);
    band_quantiles(&band, points, replicates, options->level, column, lower, upper);
done:
    free(band.kernel);
    free(band.cell);
    free(band.drawn);
    free(tally);
    free(column);
    return status;
}

/* ---- as relplot has it ---- */

static const double relplot_least = 0.001, relplot_small = 1e-4;
enum { RELPLOT_HALVINGS = 10, RELPLOT_MESH = 200 };

/* The kernel's sums with `weight` on a grid, at points `at` in [0, 1]. weight [count], by sample. */
static Status relplot_smooth(const ConfidenceSet *set, const double *weight, double bandwidth, int points,
                             const double *at, double *smoothed)
{
    const double fine = round(20 / bandwidth);
    const int64_t grid = (fine > 2000 ? (int64_t)fine : 2000) / 2 + 1, longer = 3 * grid - 2;
    double *values, *kernel, *result;
    TRY(memory_new(&values, (size_t)(longer + 2 * grid), sizeof *values, "a grid"));
    kernel = values + longer;
    result = kernel + grid;
    double *middle = values + grid - 1;
    for (int64_t i = 0; i < set->count; ++i) {
        const double place = set->confidence[i] * (double)(grid - 1);
        int64_t cell = (int64_t)place;
        cell = cell > grid - 2 ? grid - 2 : cell;
        middle[cell] += (1 - (place - (double)cell)) * weight[i];
        middle[cell + 1] += (place - (double)cell) * weight[i];
    }
    for (int64_t i = 1; i < grid; ++i) {
        middle[-i] = middle[i];
        middle[grid - 1 + i] = middle[grid - 1 - i];
    }
    for (int64_t i = 0; i < grid; ++i) {
        const double t = (double)i / (double)(grid - 1) - 0.5;
        kernel[i] = exp(-t * t / (2 * bandwidth * bandwidth)) / (sqrt(2 * pi) * bandwidth);
    }
    for (int64_t i = 0; i < grid; ++i) {
        const double *from = values + i + grid / 2;
        double sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < grid; ++j) /* the kernel is symmetric */
            sum += from[j] * kernel[j];
        result[i] = sum;
    }
    for (int point = 0; point < points; ++point) {
        const double place = at[point] * (double)(grid - 1);
        int64_t cell = (int64_t)place;
        cell = cell > grid - 2 ? grid - 2 : cell;
        const double share = place - (double)cell;
        smoothed[point] = result[cell] * (1 - share) + result[cell + 1] * share;
    }
    free(values);
    return OK;
}

/* What is smoothed of each sample. */
typedef enum { RELPLOT_COUNT, RELPLOT_HITS, RELPLOT_RESIDUALS } RelplotWeight;

static Status relplot_weights(const ConfidenceSet *set, RelplotWeight what, double bandwidth, int points,
                              const double *at, double *smoothed)
{
    double *weight;
    TRY(memory_new(&weight, (size_t)set->count, sizeof *weight, "weights"));
    for (int64_t i = 0; i < set->count; ++i)
        weight[i] = what == RELPLOT_COUNT  ? 1
                    : what == RELPLOT_HITS ? (set->correct[i] != 0 ? 1.0 : 0.0)
                                           : residual(set, i);
    const Status status = relplot_smooth(set, weight, bandwidth, points, at, smoothed);
    free(weight);
    return status;
}

Status smooth_ece_relplot_at(const ConfidenceSet *set, double bandwidth, double *value)
{
    const double fine = round(10 / bandwidth);
    const int points = fine > RELPLOT_MESH ? (int)fine : RELPLOT_MESH;
    double *at, sum = 0, all = 0;
    Status status;
    TRY(memory_new(&at, 3 * (size_t)points, sizeof *at, "a mesh"));
    double *count = at + points, *gap = count + points;
    for (int point = 0; point < points; ++point)
        at[point] = (double)point / (points - 1);
    TRY_ELSE(done, relplot_weights(set, RELPLOT_COUNT, bandwidth, points, at, count));
    TRY_ELSE(done, relplot_weights(set, RELPLOT_RESIDUALS, bandwidth, points, at, gap));
    for (int point = 0; point < points; ++point) {
        sum += fabs(gap[point]);
        all += count[point] + relplot_small;
    }
    *value = sum / all;
done:
    free(at);
    return status;
}

Status smooth_ece_relplot(const ConfidenceSet *set, SmoothEce *result)
{
    double low = 0, high = 1, value;
    TRY(smooth_ece_relplot_at(set, high, &value));
    for (int i = 0; i < RELPLOT_HALVINGS && !(high < value); ++i) {
        const double middle = (low + high) / 2;
        bool above = middle < relplot_least;
        if (!above) {
            TRY(smooth_ece_relplot_at(set, middle, &value));
            above = middle < value;
        }
        if (above)
            low = middle;
        else
            high = middle;
    }
    result->bandwidth = high;
    return smooth_ece_relplot_at(set, high, &result->value);
}

Status smooth_curve_relplot(const ConfidenceSet *set, double bandwidth, int points, const double *at,
                            double *accuracy, double *density)
{
    TRY(relplot_weights(set, RELPLOT_HITS, bandwidth, points, at, accuracy));
    TRY(relplot_weights(set, RELPLOT_COUNT, bandwidth, points, at, density));
    for (int point = 0; point < points; ++point) {
        accuracy[point] /= density[point] + relplot_small;
        density[point] /= (double)set->count;
    }
    return OK;
}
