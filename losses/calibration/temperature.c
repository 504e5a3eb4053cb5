#include "losses/calibration/temperature.h"

#include "engine/base/memory.h"
#include "losses/calibration/bins.h"
#include "losses/calibration/exact_sum.h"
#include "losses/calibration/temperature_row.h"
#include "losses/calibration/threads.h"
#include "losses/softmax_row.h"

#include <stdbool.h>
#include <stdlib.h>

/* With s(T) of a row (temperature_row.h) the confidence is 1 / s and the NLL is log s - d_label / T. Sums go
 * into int64 with fixed units, and every BLOCK rows from there into exact sums. */
enum {
    BLOCK = 512,
    GAP_SHIFT = 50,     /* unit of (confidence - correct): 512 rows fit */
    LOG_SHIFT = 46,     /* unit of log s, which is below 44 = log(2^63): 512 rows fit */
    LARGE_SET = 1 << 24 /* logits from which on single precision comes first */
};
/* Two temperatures whose curves in single precision differ by less are too close to call; of ECE also by less
 * than what the rows may make of it whose confidence is so close to an edge that they may be in another bin. */
static const double margin = 1e-5, close_to_edge = 5e-7;

typedef struct {
    ExactSum log_sum[TEMPERATURE_COUNT];
    ExactSum gap[TEMPERATURE_COUNT][CALIBRATION_MAX_BINS];
    ExactSum label_distance;           /* sum of (max - label's logit) */
    ExactSum close[TEMPERATURE_COUNT]; /* units: rows whose confidence is close to an edge */
} Sums;
enum { SUMS = sizeof(Sums) / sizeof(ExactSum) };

/* A thread's place to work. */
typedef struct {
    double *row;   /* [4 * padded]: a row's logits, their distances from the maximum, these repeated */
    float *single; /* [3 * padded]: distances and repeated ones for single precision */
    double s[GRID_PADDED];
    double confidence[GRID_PADDED];
    int64_t row_gap[GRID_PADDED];
    int64_t log_sum[GRID_PADDED];
    int64_t close[GRID_PADDED];
    int64_t gap[TEMPERATURE_COUNT * CALIBRATION_MAX_BINS];
    Sums total;
    LargeSum large_distance; /* what label_distance has no room for */
} Workspace;

typedef struct {
    const Logits *logits;
    int bins;
    DType precision;
    int64_t padded;
    Grid grid;
    double edge[CALIBRATION_MAX_BINS + 1];
} Search;

/* Adds log s and, in the confidence's bin, (confidence - correct), for all temperatures. */
static void add_sums(const Search *search, Workspace *work, bool correct)
{
    const double bins = search->bins;
    const VectorInt hit = (VectorInt){0} + (correct ? INT64_C(1) << GAP_SHIFT : 0);
    for (int i = 0; i < GRID_PADDED; i += LANES) {
        const VectorDouble s = vector_load(work->s + i), confidence = 1.0 / s;
        VectorInt total;
        memcpy(&total, work->log_sum + i, sizeof total);
        total += vector_fixed(vector_log(s), 0x1p46);
        memcpy(work->log_sum + i, &total, sizeof total);
        const VectorInt gap = vector_fixed(confidence, 0x1p50) - hit;
        memcpy(work->row_gap + i, &gap, sizeof gap);
        vector_store(work->confidence + i, confidence);
        /* The nearest edge but for the last, 1, which nothing is above. Edges are b / bins. */
        const VectorDouble place = confidence * bins, shifter = vector_all(0x1.8p52);
        const VectorDouble nearest = (place + shifter) - shifter, apart = place - nearest;
        const VectorInt is_close =
            vector_above(vector_all(close_to_edge * bins), vector_maximum(apart, -apart)) &
            vector_above(vector_all(bins - 0.5), nearest);
        memcpy(&total, work->close + i, sizeof total);
        total -= is_close;
        memcpy(work->close + i, &total, sizeof total);
    }
    for (int t = 0; t < TEMPERATURE_COUNT; ++t) {
        const int bin = bins_find(search->edge, search->bins, work->confidence[t]);
        work->gap[t * search->bins + bin] += work->row_gap[t];
    }
}

static void sum_row_double(const Search *search, double maximum, const double *x, Workspace *work)
{
    const int64_t padded = search->padded;
    double *d = work->row + padded, *repeated = d + padded;
    for (int64_t k = 0; k < padded; k += LANES)
        vector_store(d + k, vector_maximum(vector_load(x + k) - maximum, vector_all(-1700.0)));
    for (int64_t k = 0; k < padded; ++k)
        for (int i = 0; i < DOUBLE_REST; ++i)
            repeated[k * DOUBLE_REST + i] = d[k];
    row_sums(&search->grid, d, repeated, search->logits->classes, work->s);
}

static void sum_row_float(const Search *search, double maximum, const double *x, Workspace *work)
{
    const int64_t padded = search->padded;
    double *limited = work->row + padded;
    float *d = work->single, *repeated = d + padded;
    for (int64_t k = 0; k < padded; k += LANES)
        vector_store(limited + k, vector_maximum(vector_load(x + k) - maximum, vector_all(-250.0)));
    for (int64_t k = 0; k < padded; ++k)
        d[k] = (float)limited[k];
    for (int64_t k = 0; k < padded; ++k)
        for (int i = 0; i < FLOAT_REST; ++i)
            repeated[k * FLOAT_REST + i] = d[k];
    row_sums_float(&search->grid, d, repeated, search->logits->classes, work->s);
}

static void flush(const Search *search, Workspace *work)
{
    for (int t = 0; t < TEMPERATURE_COUNT; ++t) {
        work->total.close[t].units += work->close[t];
        work->total.log_sum[t].units += (__int128)work->log_sum[t] * (1 << (EXACT_SUM_SHIFT - LOG_SHIFT));
        for (int b = 0; b < search->bins; ++b)
            work->total.gap[t][b].units +=
                (__int128)work->gap[t * search->bins + b] * (1 << (EXACT_SUM_SHIFT - GAP_SHIFT));
    }
    memset(work->log_sum, 0, sizeof work->log_sum);
    memset(work->close, 0, sizeof work->close);
    memset(work->gap, 0, sizeof work->gap);
}

static void add_block(const Search *search, int64_t begin, int64_t end, Workspace *work)
{
    const Logits *logits = search->logits;
    double *x = work->row;
    for (int64_t row = begin; row < end; ++row) {
        row_load(logits, row, x, search->padded);
        const double maximum = row_maximum(x, search->padded);
        const int64_t label = logits_label(logits, row);
        if (large_sum_takes(maximum - x[label]))
            large_sum_add(&work->large_distance, maximum - x[label]);
        else
            exact_sum_add(&work->total.label_distance, maximum - x[label]);
        if (search->precision == FLOAT32)
            sum_row_float(search, maximum, x, work);
        else
            sum_row_double(search, maximum, x, work);
        add_sums(search, work, row_first(x, maximum) == label);
    }
    flush(search, work);
}

/* A row whose NLL is infinite at every temperature has no say in which is best. */
static void conclude(const Sums *sums, const LargeSum *large, const Logits *logits, int bins,
                     TemperatureSearch *result)
{
    const double samples = (double)logits->total;
    LargeSum finite = *large;
    finite.infinite = 0;
    const double distance = large_sum_mean(sums->label_distance, &finite, samples);
    result->infinite_nll_count = large->infinite;
    for (int t = 0; t < TEMPERATURE_COUNT; ++t) {
        result->close[t] = (double)sums->close[t].units / samples;
        result->ece[t] = 0;
        for (int b = 0; b < bins; ++b)
            result->ece[t] += fabs(exact_sum_value(sums->gap[t][b])) / samples;
        result->nll[t] = exact_sum_value(sums->log_sum[t]) / samples + distance / result->temperature[t];
        if (result->ece[t] < result->ece[result->best_ece]) result->best_ece = t;
        if (result->nll[t] < result->nll[result->best_nll]) result->best_nll = t;
    }
    for (int t = 0; t < TEMPERATURE_COUNT && large->infinite > 0; ++t)
        result->nll[t] = INFINITY;
}

Status temperature_curves(Collective *collective, const Logits *logits, int bins, int threads,
                          DType precision, TemperatureSearch *result)
{
    if (bins < 1 || bins > CALIBRATION_MAX_BINS)
        return fail(STATUS_USAGE, "%d bins: it must be 1 to %d", bins, CALIBRATION_MAX_BINS);
    *result = (TemperatureSearch){0};
    double temperature = 0.1;
    for (int t = 0; t < TEMPERATURE_COUNT; ++t, temperature += 0.1)
        result->temperature[t] = temperature;

    Search search = {.logits = logits, .bins = bins, .precision = precision};
    bins_edges(bins, search.edge);
    grid_prepare(&search.grid, precision == FLOAT32 ? FLOAT_LANES : LANES, result->temperature);
    /* Whole vectors of either precision. */
    search.padded = (logits->classes + FLOAT_LANES - 1) / FLOAT_LANES * FLOAT_LANES;
    const int64_t rows = logits->count, blocks = (rows + BLOCK - 1) / BLOCK;
    const int team = threads_for(threads, blocks);
    Workspace *work;
    TRY(memory_new(&work, (size_t)team, sizeof *work, "temperature sums"));
    Status status;
    for (int i = 0; i < team; ++i) {
        TRY_ELSE(done,
                 memory_new(&work[i].row, (size_t)search.padded, 4 * sizeof(double), "a row of logits"));
        TRY_ELSE(done,
                 memory_new(&work[i].single, (size_t)search.padded, 3 * sizeof(float), "a row of logits"));
        for (int slot = TEMPERATURE_COUNT; slot < GRID_PADDED; ++slot)
            work[i].s[slot] = 1;
    }
#pragma omp parallel for schedule(static) num_threads(team)
    for (int64_t block = 0; block < blocks; ++block) {
        const int64_t end = (block + 1) * BLOCK < rows ? (block + 1) * BLOCK : rows;
        add_block(&search, block * BLOCK, end, &work[omp_get_thread_num()]);
    }
    ExactSum *total = (ExactSum *)&work[0].total;
    for (int thread = 1; thread < team; ++thread)
        for (int i = 0; i < SUMS; ++i)
            total[i].units += ((const ExactSum *)&work[thread].total)[i].units;
    for (int thread = 1; thread < team; ++thread)
        large_sum_merge(&work[0].large_distance, &work[thread].large_distance);
    TRY_ELSE(done, exact_sum_reduce(collective, total, SUMS));
    TRY_ELSE(done, large_sum_reduce(collective, &work[0].large_distance, 1));
    conclude(&work[0].total, &work[0].large_distance, logits, bins, result);
done:
    for (int i = 0; i < team; ++i) {
        free(work[i].row);
        free(work[i].single);
    }
    free(work);
    return status;
}

/* doubt: how much each value may be wrong beside the margin; NULL: not at all. */
static bool is_clear(const double *curve, const double *doubt, int best)
{
    for (int t = 0; t < TEMPERATURE_COUNT; ++t) {
        const double both = doubt != NULL ? 2 * (doubt[t] + doubt[best]) : 0; /* a row: by 2 / N at most */
        if (t != best && curve[t] < curve[best] + margin + both) return false;
    }
    return true;
}

Status temperature_search(Collective *collective, const Logits *logits, int bins, int threads,
                          TemperatureSearch *search)
{
    if (logits->total > LARGE_SET / logits->classes) {
        TRY(temperature_curves(collective, logits, bins, threads, FLOAT32, search));
        if (is_clear(search->ece, search->close, search->best_ece) &&
            is_clear(search->nll, NULL, search->best_nll))
            return OK;
    }
    return temperature_curves(collective, logits, bins, threads, FLOAT64, search);
}
