#include "losses/calibration/temperature.h"

#include "engine/base/memory.h"
#include "losses/calibration/bins.h"
#include "losses/calibration/exact_sum.h"
#include "losses/calibration/host_rows.h"
#include "losses/calibration/softmax_row.h"
#include "losses/calibration/temperature_row.h"
#include "losses/calibration/threads.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* With s(T) = sum_k exp((x_k - max) / T) of a row the confidence is 1 / s and the NLL is log s - d_label / T. Sums go
 * into int64 with fixed units, and every block of rows from there into exact sums. */
enum {
    BLOCK = 512, /* rows; of many classes fewer, so that a batch of a language model occupies all threads */
    BLOCK_LOGITS = 1 << 16,
    GAP_SHIFT = 50,       /* unit of (confidence - correct): 512 rows fit */
    LOG_SHIFT = 46,       /* unit of log s, which is below 44 = log(2^63): 512 rows fit */
    LARGE_SET = 1 << 24,  /* logits from which on single precision comes first */
    TEMPERATURE_LANES = 8 /* temperatures are padded to whole vectors of doubles, whatever their width */
};
/* Two temperatures whose curves in single precision differ by less are too close to call; of ECE also by less
 * than what the rows may make of it whose confidence is so close to an edge that they may be in another bin. */
static const double margin = 1e-5, close_to_edge = 5e-7;

const TemperatureGrid temperature_published = {.first = 0.1, .last = 10, .step = 0.1};

/* ---- grids ---- */

static int64_t count_of(TemperatureGrid grid)
{
    const double steps = (grid.last - grid.first) / grid.step;
    return steps < TEMPERATURE_MOST ? (int64_t)floor(steps + 1e-6) + 1 : TEMPERATURE_MOST + 1;
}

Status temperature_grid_check(TemperatureGrid grid)
{
    const bool numbers = isfinite(grid.first) && isfinite(grid.last) && isfinite(grid.step);
    if (!numbers || grid.first < 1e-3 || grid.last > 1e6 || grid.last < grid.first || grid.step <= 0)
        return fail(STATUS_USAGE,
                    "temperatures from %g to %g in steps of %g: the first must be at least 0.001, the last "
                    "not below it "
                    "and at most 1000000, and the step positive",
                    grid.first, grid.last, grid.step);
    if (count_of(grid) > TEMPERATURE_MOST)
        return fail(STATUS_USAGE, "temperatures from %g to %g in steps of %g are more than %d", grid.first,
                    grid.last, grid.step, TEMPERATURE_MOST);
    return OK;
}

Status temperature_grid_parse(const char *text, TemperatureGrid *grid)
{
    double *const parts[] = {&grid->first, &grid->last, &grid->step};
    const char *at = text;
    for (int i = 0; i < 3; ++i) {
        char *end;
        *parts[i] = strtod(at, &end);
        if (end == at || *end != (i < 2 ? ':' : '\0'))
            return fail(STATUS_USAGE, "a grid of temperatures is FIRST:LAST:STEP, as in 0.1:10:0.1, not %s",
                        text);
        at = end + 1;
    }
    return temperature_grid_check(*grid);
}

static bool is_published(TemperatureGrid grid)
{
    return grid.first == temperature_published.first && grid.last == temperature_published.last &&
           grid.step == temperature_published.step;
}

/* ---- a pass ---- */

/* A thread's place to work. */
typedef struct {
    double *row;   /* [4 * padded]: a row's logits, their distances from the maximum, these repeated */
    float *single; /* [3 * padded]: distances and repeated ones for single precision */
    double s[TEMPERATURE_MOST];
    double confidence[TEMPERATURE_MOST];
    int64_t row_gap[TEMPERATURE_MOST];
    int64_t log_sum[TEMPERATURE_MOST];
    int64_t close[TEMPERATURE_MOST];
    int64_t *gap;    /* [count, bins] */
    ExactSum *total; /* as of the pass */
    LargeSum large;
    int64_t samples, correct, bad_row;
} Workspace;

struct TemperaturePass {
    const char *name;
    int64_t classes, padded, most_rows;
    uint8_t *masked;
    DType precision;
    bool published;
    int bins, count, lanes; /* lanes: count in whole vectors */
    double temperature[TEMPERATURE_MOST];
    double edge[CALIBRATION_MAX_BINS + 1];
    Grid grid;
    int team;
    Workspace *work; /* [team] */
    /* Sums: log s and rows close to an edge of each temperature; (max - label's logit); gaps of each bin. */
    ExactSum *total;
    int64_t totals;
    LargeSum large; /* what the label's distances have no room for */
    int64_t samples, correct;
    HostRows rows; /* that stream; else unused */
};

static ExactSum *close_sums(const TemperaturePass *pass, ExactSum *total) { return total + pass->count; }
static ExactSum *distance_sum(const TemperaturePass *pass, ExactSum *total)
{
    return total + 2 * pass->count;
}
static ExactSum *gap_sums(const TemperaturePass *pass, ExactSum *total)
{
    return total + 2 * pass->count + 1;
}

static int64_t block_rows(const TemperaturePass *pass)
{
    const int64_t rows = BLOCK_LOGITS / pass->padded;
    return rows < 1 ? 1 : rows < BLOCK ? rows : BLOCK;
}

static int64_t blocks_of(const TemperaturePass *pass, int64_t rows)
{
    return (rows + block_rows(pass) - 1) / block_rows(pass);
}

static void pass_release(TemperaturePass *pass)
{
    for (int i = 0; pass->work != NULL && i < pass->team; ++i) {
        free(pass->work[i].row);
        free(pass->work[i].single);
        free(pass->work[i].gap);
        free(pass->work[i].total);
    }
    free(pass->work);
    free(pass->total);
    free(pass->masked);
    host_rows_close(&pass->rows);
}

static Status open_workspace(const TemperaturePass *pass, Workspace *work)
{
    const size_t padded = (size_t)pass->padded;
    TRY(memory_new(&work->row, padded, 4 * sizeof(double), "a row of logits"));
    TRY(memory_new(&work->single, padded, 3 * sizeof(float), "a row of logits"));
    TRY(memory_new(&work->gap, (size_t)(pass->count * pass->bins), sizeof *work->gap, "temperature sums"));
    TRY(memory_new(&work->total, (size_t)pass->totals, sizeof *work->total, "temperature sums"));
    for (int slot = pass->count; slot < pass->lanes; ++slot)
        work->s[slot] = 1;
    return OK;
}

/* On an error the caller still releases. */
static Status pass_prepare(TemperaturePass *pass, const TemperatureSetup *setup, DType precision, int threads)
{
    const int bins = setup->bins;
    if (bins < 1 || bins > CALIBRATION_MAX_BINS)
        return fail(STATUS_USAGE, "%d bins: it must be 1 to %d", bins, CALIBRATION_MAX_BINS);
    TRY(temperature_grid_check(setup->grid));
    pass->published = is_published(setup->grid);
    if (precision == FLOAT32 && !pass->published)
        return fail(STATUS_INTERNAL, "single precision is for the published temperatures");
    pass->name = setup->name;
    pass->classes = setup->classes;
    pass->most_rows = setup->most_rows;
    pass->bins = bins;
    pass->precision = precision;
    pass->count = (int)count_of(setup->grid);
    pass->lanes = (pass->count + TEMPERATURE_LANES - 1) / TEMPERATURE_LANES * TEMPERATURE_LANES;
    double temperature = setup->grid.first;
    for (int t = 0; t < pass->count; ++t, temperature += setup->grid.step)
        pass->temperature[t] = temperature;
    bins_edges(bins, pass->edge);
    if (pass->published)
        grid_prepare(&pass->grid, precision == FLOAT32 ? FLOAT_LANES : DOUBLES_LANES, pass->temperature);
    /* Whole vectors of either precision, and whole rounds of a row's lanes. */
    const int64_t widest = (int)FLOAT_LANES > (int)ROW_LANES ? (int)FLOAT_LANES : (int)ROW_LANES;
    pass->padded = (pass->classes + widest - 1) / widest * widest;
    pass->totals = 2 * (int64_t)pass->count + 1 + (int64_t)pass->count * bins;
    if (setup->masked != NULL) {
        TRY(memory_new(&pass->masked, (size_t)pass->classes, sizeof *pass->masked, "masked classes"));
        memcpy(pass->masked, setup->masked, (size_t)pass->classes);
    }
    TRY(memory_new(&pass->total, (size_t)pass->totals, sizeof *pass->total, "temperature sums"));
    const int team = team_size(threads, blocks_of(pass, pass->most_rows));
    TRY(memory_new(&pass->work, (size_t)team, sizeof *pass->work, "temperature sums"));
    pass->team = team;
    for (int i = 0; i < team; ++i)
        TRY(open_workspace(pass, &pass->work[i]));
    return OK;
}

/* ---- rows ---- */

/* Adds log s and, in the confidence's bin, (confidence - correct), for all temperatures. */
static void add_sums(const TemperaturePass *pass, Workspace *work, bool correct)
{
    const double bins = pass->bins;
    const DoublesBits hit = (DoublesBits){0} + (correct ? INT64_C(1) << GAP_SHIFT : 0);
    for (int i = 0; i < pass->lanes; i += DOUBLES_LANES) {
        const Doubles s = doubles_load(work->s + i), confidence = 1.0 / s;
        DoublesBits total;
        memcpy(&total, work->log_sum + i, sizeof total);
        total += doubles_fixed(doubles_log(s), 0x1p46);
        memcpy(work->log_sum + i, &total, sizeof total);
        const DoublesBits gap = doubles_fixed(confidence, 0x1p50) - hit;
        memcpy(work->row_gap + i, &gap, sizeof gap);
        doubles_store(work->confidence + i, confidence);
        /* The nearest edge but for the last, 1, which nothing is above. Edges are b / bins. */
        const Doubles place = confidence * bins, shifter = doubles_all(0x1.8p52);
        const Doubles nearest = (place + shifter) - shifter, apart = place - nearest;
        const DoublesBits is_close =
            doubles_above(doubles_all(close_to_edge * bins), doubles_maximum(apart, -apart)) &
            doubles_above(doubles_all(bins - 0.5), nearest);
        memcpy(&total, work->close + i, sizeof total);
        total -= is_close;
        memcpy(work->close + i, &total, sizeof total);
    }
    for (int t = 0; t < pass->count; ++t) {
        const int bin = bins_find(pass->edge, pass->bins, work->confidence[t]);
        work->gap[t * pass->bins + bin] += work->row_gap[t];
    }
}

/* The published temperatures: by the exponentials of half of them (temperature_row.h). */
static void sum_row_double(const TemperaturePass *pass, double maximum, const double *x, Workspace *work)
{
    const int64_t padded = pass->padded;
    double *d = work->row + padded, *repeated = d + padded;
    for (int64_t k = 0; k < padded; k += DOUBLES_LANES)
        doubles_store(d + k, doubles_maximum(doubles_load(x + k) - maximum, doubles_all(-1700.0)));
    for (int64_t k = 0; k < padded; ++k)
        for (int i = 0; i < DOUBLE_REST; ++i)
            repeated[k * DOUBLE_REST + i] = d[k];
    row_sums(&pass->grid, d, repeated, pass->classes, work->s);
}

static void sum_row_float(const TemperaturePass *pass, double maximum, const double *x, Workspace *work)
{
    const int64_t padded = pass->padded;
    double *limited = work->row + padded;
    float *d = work->single, *repeated = d + padded;
    for (int64_t k = 0; k < padded; k += DOUBLES_LANES)
        doubles_store(limited + k, doubles_maximum(doubles_load(x + k) - maximum, doubles_all(-250.0)));
    for (int64_t k = 0; k < padded; ++k)
        d[k] = (float)limited[k];
    for (int64_t k = 0; k < padded; ++k)
        for (int i = 0; i < FLOAT_REST; ++i)
            repeated[k * FLOAT_REST + i] = d[k];
    row_sums_float(&pass->grid, d, repeated, pass->classes, work->s);
}

/* Any temperatures, one after the other. */
static void sum_row_plainly(const TemperaturePass *pass, double maximum, const double *x, Workspace *work)
{
    for (int t = 0; t < pass->count; ++t)
        work->s[t] = row_denominator(x, maximum, pass->temperature[t], pass->padded);
}

static void flush(const TemperaturePass *pass, Workspace *work)
{
    ExactSum *close = close_sums(pass, work->total), *gap = gap_sums(pass, work->total);
    for (int t = 0; t < pass->count; ++t) {
        work->total[t].units += (__int128)work->log_sum[t] * (1 << (EXACT_SUM_SHIFT - LOG_SHIFT));
        close[t].units += work->close[t];
    }
    for (int64_t i = 0; i < (int64_t)pass->count * pass->bins; ++i)
        gap[i].units += (__int128)work->gap[i] * (1 << (EXACT_SUM_SHIFT - GAP_SHIFT));
    memset(work->log_sum, 0, sizeof work->log_sum);
    memset(work->close, 0, sizeof work->close);
    memset(work->gap, 0, (size_t)(pass->count * pass->bins) * sizeof *work->gap);
}

static void add_row(const TemperaturePass *pass, const Logits *logits, int64_t row, Workspace *work)
{
    double *x = work->row;
    row_load(logits, row, x, pass->padded);
    for (int64_t k = 0; pass->masked != NULL && k < pass->classes; ++k)
        if (pass->masked[k]) x[k] = -INFINITY;
    const double maximum = row_maximum(x, pass->padded);
    if (maximum == -INFINITY) {
        const int64_t number = logits_row_number(logits, row);
        if (number < work->bad_row) work->bad_row = number;
        return;
    }
    const int64_t label = logits_label(logits, row);
    const double distance = maximum - x[label];
    work->samples += 1;
    if (large_sum_takes(distance))
        large_sum_add(&work->large, distance);
    else
        exact_sum_add(distance_sum(pass, work->total), distance);
    if (!pass->published)
        sum_row_plainly(pass, maximum, x, work);
    else if (pass->precision == FLOAT32)
        sum_row_float(pass, maximum, x, work);
    else
        sum_row_double(pass, maximum, x, work);
    const bool correct = row_first(x, maximum) == label;
    work->correct += correct;
    add_sums(pass, work, correct);
}

/* weights: NULL, or [count]. */
static Status add_logits(TemperaturePass *pass, const Logits *logits, const float *weights)
{
    const int64_t rows = logits->count, size = block_rows(pass), blocks = blocks_of(pass, rows);
    const int team = pass->team;
    for (int i = 0; i < team; ++i)
        pass->work[i].bad_row = INT64_MAX;
#pragma omp parallel for schedule(static) num_threads(team)
    for (int64_t block = 0; block < blocks; ++block) {
        Workspace *work = &pass->work[omp_get_thread_num()];
        const int64_t end = (block + 1) * size < rows ? (block + 1) * size : rows;
        for (int64_t row = block * size; row < end; ++row)
            if (weights == NULL || weights[row] != 0) add_row(pass, logits, row, work);
        flush(pass, work);
    }
    int64_t bad_row = INT64_MAX;
    for (int i = 0; i < team; ++i)
        if (pass->work[i].bad_row < bad_row) bad_row = pass->work[i].bad_row;
    if (bad_row != INT64_MAX) return row_fail(pass->name, pass->classes, ROW_NOT_FINITE, bad_row, 0, 0);
    return OK;
}

/* ---- what follows from the sums ---- */

static void merge(TemperaturePass *pass)
{
    for (int thread = 0; thread < pass->team; ++thread) {
        const Workspace *work = &pass->work[thread];
        for (int64_t i = 0; i < pass->totals; ++i)
            pass->total[i].units += work->total[i].units;
        large_sum_merge(&pass->large, &work->large);
        pass->samples += work->samples;
        pass->correct += work->correct;
    }
}

/* A row whose NLL is infinite at every temperature has no say in which is best. */
static void conclude(const TemperaturePass *pass, TemperatureSearch *result)
{
    const double samples = (double)pass->samples;
    const ExactSum *close = close_sums(pass, pass->total), *gap = gap_sums(pass, pass->total);
    LargeSum finite = pass->large;
    finite.infinite = 0;
    const double distance = large_sum_mean(*distance_sum(pass, pass->total), &finite, samples);
    *result = (TemperatureSearch){.count = pass->count,
                                  .accuracy = (double)pass->correct / samples,
                                  .infinite_nll_count = pass->large.infinite};
    for (int t = 0; t < pass->count; ++t) {
        result->temperature[t] = pass->temperature[t];
        result->close[t] = (double)close[t].units / samples;
        for (int b = 0; b < pass->bins; ++b)
            result->ece[t] += fabs(exact_sum_value(gap[t * pass->bins + b])) / samples;
        result->nll[t] = exact_sum_value(pass->total[t]) / samples + distance / result->temperature[t];
        if (result->ece[t] < result->ece[result->best_ece]) result->best_ece = t;
        if (result->nll[t] < result->nll[result->best_nll]) result->best_nll = t;
    }
    for (int t = 0; t < pass->count && pass->large.infinite > 0; ++t)
        result->nll[t] = INFINITY;
}

Status temperature_pass_search(TemperaturePass *pass, Collective *collective, TemperatureSearch *result)
{
    merge(pass);
    TRY(exact_sum_reduce(collective, pass->total, pass->totals));
    TRY(large_sum_reduce(collective, &pass->large, 1));
    TRY(counts_reduce(collective, &pass->samples, 1));
    TRY(counts_reduce(collective, &pass->correct, 1));
    if (pass->samples == 0) return fail(STATUS_INPUT, "%s: there are no samples", pass->name);
    conclude(pass, result);
    return OK;
}

/* ---- a stored set ---- */

Status temperature_curves(Collective *collective, const Logits *logits, TemperatureGrid grid, int bins,
                          int threads, DType precision, TemperatureSearch *result)
{
    const TemperatureSetup setup = {.name = logits->name,
                                    .classes = logits->classes,
                                    .grid = grid,
                                    .bins = bins,
                                    .most_rows = logits->count};
    TemperaturePass *pass;
    TRY(memory_new(&pass, 1, sizeof *pass, "temperature search"));
    Status status = pass_prepare(pass, &setup, precision, threads);
    if (status == OK) status = add_logits(pass, logits, NULL);
    if (status == OK) status = temperature_pass_search(pass, collective, result);
    temperature_pass_close(pass);
    return status;
}

/* doubt: how much each value may be wrong beside the margin; NULL: not at all. */
static bool is_clear(const double *curve, const double *doubt, int count, int best)
{
    for (int t = 0; t < count; ++t) {
        const double both = doubt != NULL ? 2 * (doubt[t] + doubt[best]) : 0; /* a row: by 2 / N at most */
        if (t != best && !(curve[t] >= curve[best] + margin + both)) return false;
    }
    return true;
}

Status temperature_search(Collective *collective, const Logits *logits, TemperatureGrid grid, int bins,
                          int threads, TemperatureSearch *search)
{
    if (is_published(grid) && logits->total > LARGE_SET / logits->classes) {
        TRY(temperature_curves(collective, logits, grid, bins, threads, FLOAT32, search));
        if (search->infinite_nll_count == 0 &&
            is_clear(search->ece, search->close, search->count, search->best_ece) &&
            is_clear(search->nll, NULL, search->count, search->best_nll))
            return OK;
    }
    return temperature_curves(collective, logits, grid, bins, threads, FLOAT64, search);
}

/* ---- rows that stream ---- */

Status temperature_pass_open(Device *device, const TemperatureSetup *setup, TemperaturePass **out)
{
    TemperaturePass *pass;
    TRY(memory_new(&pass, 1, sizeof *pass, "temperature search"));
    Status status = pass_prepare(pass, setup, FLOAT64, device_threads(device));
    if (status == OK)
        status = host_rows_open(device, setup->name, setup->classes, setup->most_rows, &pass->rows);
    if (status != OK) {
        temperature_pass_close(pass);
        return status;
    }
    *out = pass;
    return OK;
}

void temperature_pass_close(TemperaturePass *pass)
{
    if (pass == NULL) return;
    pass_release(pass);
    free(pass);
}

void temperature_pass_begin(TemperaturePass *pass)
{
    const size_t totals = (size_t)pass->totals * sizeof *pass->total;
    memset(pass->total, 0, totals);
    pass->large = (LargeSum){0};
    pass->samples = pass->correct = 0;
    for (int i = 0; i < pass->team; ++i) {
        memset(pass->work[i].total, 0, totals);
        pass->work[i].large = (LargeSum){0};
        pass->work[i].samples = pass->work[i].correct = 0;
    }
}

Status temperature_pass_add(TemperaturePass *pass, const LogitRows *rows)
{
    Logits logits;
    const float *weights;
    TRY(host_rows_take(&pass->rows, rows, pass->team, &logits, &weights));
    return add_logits(pass, &logits, weights);
}
