#include "losses/calibration/weighted_ece.h"

#include "engine/base/memory.h"
#include "losses/calibration/bins.h"
#include "losses/calibration/exact_sum.h"
#include "losses/calibration/host_rows.h"
#include "losses/calibration/softmax_row.h"
#include "losses/calibration/threads.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A thread's place to work. */
typedef struct {
    double *row;   /* [2 * padded]: a row's logits, their exponentials */
    ExactSum *gap; /* [temperatures, bins] */
    int64_t rows;
} Workspace;

struct WeightedEcePass {
    WeightedEceSetup setup;
    HostRows rows;
    int64_t padded;
    double edge[CALIBRATION_MAX_BINS + 1];
    int team;
    Workspace *work; /* [team] */
};

/* ---- opening ---- */

static Status open_workspaces(WeightedEcePass *pass, int threads)
{
    const int team = team_size(threads, pass->setup.most_rows);
    const size_t sums = (size_t)(pass->setup.temperatures * pass->setup.bins);
    TRY(memory_new(&pass->work, (size_t)team, sizeof *pass->work, "weighted sums"));
    pass->team = team;
    for (int i = 0; i < team; ++i) {
        TRY(memory_new(&pass->work[i].row, (size_t)pass->padded, 2 * sizeof(double), "a row of logits"));
        TRY(memory_new(&pass->work[i].gap, sums, sizeof *pass->work[i].gap, "weighted sums"));
    }
    return OK;
}

static Status prepare(WeightedEcePass *pass, Device *device)
{
    const WeightedEceSetup *setup = &pass->setup;
    if (setup->bins < 1 || setup->bins > CALIBRATION_MAX_BINS)
        return fail(STATUS_USAGE, "%d bins: it must be 1 to %d", setup->bins, CALIBRATION_MAX_BINS);
    if (setup->temperatures < 1 || setup->temperatures > WEIGHTED_ECE_MOST)
        return fail(STATUS_INTERNAL, "%d temperatures of the weighted ECE", setup->temperatures);
    pass->padded = row_padded(setup->classes);
    bins_edges(setup->bins, pass->edge);
    TRY(open_workspaces(pass, device_threads(device)));
    return host_rows_open(device, setup->name, setup->classes, setup->most_rows, &pass->rows);
}

Status weighted_ece_open(Device *device, const WeightedEceSetup *setup, WeightedEcePass **out)
{
    WeightedEcePass *pass;
    *out = NULL;
    TRY(memory_new(&pass, 1, sizeof *pass, "the weighted ECE"));
    pass->setup = *setup;
    const Status status = prepare(pass, device);
    if (status != OK) {
        weighted_ece_close(pass);
        return status;
    }
    *out = pass;
    return OK;
}

void weighted_ece_close(WeightedEcePass *pass)
{
    if (pass == NULL) return;
    for (int i = 0; i < pass->team; ++i) {
        free(pass->work[i].row);
        free(pass->work[i].gap);
    }
    free(pass->work);
    host_rows_close(&pass->rows);
    free(pass);
}

/* ---- rows ---- */

/* Most tokens are in the first bin, whose sum is therefore that of all but the others. e: exponentials, which sum to `sum`. */
static void add_distribution(const WeightedEcePass *pass, const double *e, double sum, int64_t label,
                             ExactSum gap[])
{
    const double limit = pass->edge[1] * sum;
    double squares = 0, first = 0;
    for (int64_t k = 0; k < pass->setup.classes; ++k) {
        if (e[k] <= limit) {
            squares += e[k] * e[k];
            continue;
        }
        const double p = e[k] / sum;
        const int bin = bins_find(pass->edge, pass->setup.bins, p);
        exact_sum_add(&gap[bin], p * ((k == label) - p));
    }
    if (e[label] <= limit) first = e[label] / sum;
    exact_sum_add(&gap[0], first - squares / sum / sum);
}

static void add_row(const WeightedEcePass *pass, const Logits *logits, int64_t row, Workspace *work,
                    double nll[])
{
    double *x = work->row, *e = x + pass->padded, weighted;
    const int64_t label = logits_label(logits, row);
    row_load(logits, row, x, pass->padded);
    for (int64_t k = 0; pass->setup.masked != NULL && k < pass->setup.classes; ++k)
        if (pass->setup.masked[k]) x[k] = -INFINITY;
    const double maximum = row_maximum(x, pass->padded);
    if (maximum == -INFINITY) { /* other passes over these rows report it */
        for (int t = 0; nll != NULL && t < pass->setup.temperatures; ++t)
            nll[t * logits->count + row] = NAN;
        return;
    }
    work->rows += 1;
    for (int t = 0; t < pass->setup.temperatures; ++t) {
        const double sum =
            row_exponentials(x, maximum, pass->setup.temperature[t], pass->padded, e, &weighted);
        add_distribution(pass, e, sum, label, work->gap + (size_t)t * (size_t)pass->setup.bins);
        if (nll != NULL)
            nll[t * logits->count + row] = log(sum) + (maximum - x[label]) / pass->setup.temperature[t];
    }
}

Status weighted_ece_add(WeightedEcePass *pass, const LogitRows *rows, double nll[])
{
    Logits logits;
    const float *weights;
    TRY(host_rows_take(&pass->rows, rows, pass->team, &logits, &weights));
#pragma omp parallel for schedule(static) num_threads(pass->team)
    for (int64_t row = 0; row < logits.count; ++row)
        if (weights == NULL || weights[row] != 0)
            add_row(pass, &logits, row, &pass->work[omp_get_thread_num()], nll);
    return OK;
}

Status weighted_ece_measure(WeightedEcePass *pass, Collective *collective, double value[])
{
    const int bins = pass->setup.bins, temperatures = pass->setup.temperatures;
    ExactSum *gap = pass->work[0].gap;
    int64_t rows = 0;
    for (int i = 0; i < pass->team; ++i) {
        rows += pass->work[i].rows;
        for (int k = 0; k < temperatures * bins && i > 0; ++k)
            gap[k].units += pass->work[i].gap[k].units;
    }
    TRY(exact_sum_reduce(collective, gap, (int64_t)temperatures * bins));
    TRY(counts_reduce(collective, &rows, 1));
    if (rows == 0) return fail(STATUS_INPUT, "%s: there are no samples", pass->setup.name);
    for (int t = 0; t < temperatures; ++t) {
        value[t] = 0;
        for (int b = 0; b < bins; ++b)
            value[t] += fabs(exact_sum_value(gap[t * bins + b])) / (double)rows;
    }
    return OK;
}
