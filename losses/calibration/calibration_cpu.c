#include "losses/calibration/calibration_pass.h"

#include "engine/base/memory.h"
#include "losses/calibration/threads.h"

#include <stdlib.h>

/* Rows a thread takes at a time: fewer of many classes, so that a batch of a language model occupies all threads. */
enum { BLOCK = 512, BLOCK_LOGITS = 1 << 17 };

/* Of one thread. */
typedef struct {
    double *logits, *probabilities; /* [padded]: of a row */
    int64_t *pending;               /* [bins, padded]: class sums, unit 2^-CLASS_SHIFT */
    ExactSum sum[SUMS];
    LargeSum large;
    int64_t count[COUNTS];
    int64_t largest_label, large_row, bad_row;
} Worker;

typedef struct {
    double *rows;       /* [threads, 2, padded] */
    int64_t *pending;   /* [threads, bins, padded] */
    int64_t *unflushed; /* [threads]: rows in pending */
} Workspace;

/* Rows, and what goes with them. */
typedef struct {
    const Logits *logits;
    const float *weights; /* NULL: all 1 */
    double *score;
} Part;

static void close_cpu(CalibrationPass *pass)
{
    Workspace *workspace = pass->state;
    if (workspace != NULL) {
        free(workspace->rows);
        free(workspace->pending);
        free(workspace->unflushed);
    }
    free(workspace);
    pass->state = NULL;
}

static int64_t block_rows(const CalibrationPass *pass)
{
    const int64_t rows = BLOCK_LOGITS / pass->padded;
    return rows < 1 ? 1 : rows < BLOCK ? rows : BLOCK;
}

static int64_t blocks_of(const CalibrationPass *pass, int64_t rows)
{
    return (rows + block_rows(pass) - 1) / block_rows(pass);
}

static Status open_cpu(CalibrationPass *pass)
{
    Workspace *workspace;
    TRY(memory_new(&workspace, 1, sizeof *workspace, "calibration"));
    pass->state = workspace;
    pass->threads = team_size(pass->threads, blocks_of(pass, pass->most_rows));
    const size_t threads = (size_t)pass->threads, padded = (size_t)pass->padded;
    TRY(memory_new(&workspace->rows, threads * 2 * padded, sizeof *workspace->rows, "rows of logits"));
    TRY(memory_new(&workspace->unflushed, threads, sizeof *workspace->unflushed, "sums by class"));
    return memory_new(&workspace->pending, threads * padded * (size_t)pass->bins, sizeof *workspace->pending,
                      "sums by class");
}

static Status begin_cpu(CalibrationPass *pass)
{
    const Workspace *workspace = pass->state;
    const size_t threads = (size_t)pass->threads, cells = (size_t)(pass->padded * pass->bins);
    memset(workspace->pending, 0, threads * cells * sizeof *workspace->pending);
    memset(workspace->unflushed, 0, threads * sizeof *workspace->unflushed);
    return OK;
}

/* How many classes come before `label` when sorted by logit, equal ones by index. */
static int64_t place_of_label(const double *x, int64_t classes, int64_t label)
{
    const double own = x[label];
    int64_t before = 0;
    for (int64_t k = 0; k < classes; ++k)
        before += x[k] > own;
    for (int64_t k = 0; k < label; ++k)
        before += x[k] == own;
    return before;
}

/* p = e / sum; the class sums of bin 0 grow by p. Returns sum_k p_k^2. */
static double add_probabilities(double *restrict e, double sum, int64_t padded, int64_t *restrict lowest_bin)
{
    const double scale = 1.0 / sum;
    DoublesUnsigned squares[ROW_VECTORS] = {0};
    for (int64_t k = 0; k < padded; k += ROW_LANES) {
        for (int part = 0; part < ROW_VECTORS; ++part) {
            const int64_t at = k + part * (int64_t)DOUBLES_LANES;
            const Doubles p = doubles_load(e + at) * scale;
            doubles_store(e + at, p);
            squares[part] += doubles_shifted(p * p);
            DoublesBits total;
            memcpy(&total, lowest_bin + at, sizeof total);
            total += doubles_fixed(p, CLASS_UNIT);
            memcpy(lowest_bin + at, &total, sizeof total);
        }
    }
    return row_value(row_units_of(squares, padded / ROW_LANES));
}

/* The same rounding as doubles_fixed. */
static int64_t class_units(double p)
{
    const double shifted = p * CLASS_UNIT + 0x1.8p52;
    int64_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    return bits - INT64_C(0x4338000000000000);
}

/* Most probabilities are in the lowest bin, where add_probabilities put all; the few others (their sum is at
 * most 1) are moved to theirs. A label counts in the bin of its probability. */
static void add_classwise(const CalibrationPass *pass, const double *p, int64_t label, int64_t *pending)
{
    for (int64_t first = 0; first < pass->padded; first += DOUBLES_LANES) {
        unsigned lanes = doubles_lanes_above(doubles_load(p + first), pass->edge[1]);
        for (; lanes != 0; lanes &= lanes - 1) {
            const int64_t k = first + __builtin_ctz(lanes), units = class_units(p[k]);
            const int bin = bins_find(pass->edge, pass->bins, p[k]);
            pending[k] -= units;
            pending[bin * pass->padded + k] += units;
        }
    }
    const int bin = bins_find(pass->edge, pass->bins, p[label]);
    if (bin >= 0) pending[bin * pass->padded + label] -= INT64_C(1) << CLASS_SHIFT;
}

static void add_row(const CalibrationPass *pass, const Part *part, int64_t row, Worker *worker)
{
    const Logits *rows = part->logits;
    const int64_t padded = pass->padded, label = logits_label(rows, row);
    const int64_t number = logits_row_number(rows, row);
    const bool as_they_are = rows->probabilities && pass->temperature == 1;
    double *x = worker->logits, *p = worker->probabilities;
    CalibrationRow of;
    if (as_they_are)
        row_load_values(rows, row, x, padded);
    else
        row_load(rows, row, x, padded);
    for (int64_t k = 0; pass->masked != NULL && k < pass->classes; ++k)
        if (pass->masked[k]) x[k] = -INFINITY;
    const double maximum = row_maximum(x, padded);
    if (maximum == -INFINITY && number < worker->bad_row) worker->bad_row = number;
    if (maximum == -INFINITY) return;
    const int64_t prediction = row_first(x, maximum);
    of.correct = prediction == label;
    of.before_label = place_of_label(x, rows->classes, label);
    if (as_they_are) { /* a probability of a file keeps its bits, and so its side of a bin's edge */
        of.weighted = row_probabilities(x, rows->classes, padded, p);
        of.sum = 1;
        of.confidence = p[prediction];
        of.label_z = log(p[label]);
    } else {
        of.sum = row_exponentials(x, maximum, pass->temperature, padded, p, &of.weighted);
        of.confidence = 1.0 / of.sum; /* the largest term of the sum is 1 */
        of.label_z = (x[label] - maximum) * (1.0 / pass->temperature);
    }
    of.squares = add_probabilities(p, of.sum, padded, worker->pending);
    of.label_probability = p[label];
    add_classwise(pass, p, label, worker->pending);

    const CalibrationSample sample = calibration_sample(&of, pass->edge, pass->bins);
    for (int i = 0; i < sample.sums; ++i)
        exact_sum_add(&worker->sum[sample.sum[i]], sample.term[i]);
    for (int i = 0; i < sample.counts; ++i)
        worker->count[sample.count[i]] += 1;
    if (large_sum_takes(sample.nll)) {
        large_sum_add(&worker->large, sample.nll);
        if (number < worker->large_row) worker->large_row = number;
    }
    if (label > worker->largest_label) worker->largest_label = label;
    part->score[row] = of.correct ? sample.confidence : -sample.confidence;
}

static void flush_classes(CalibrationPass *pass, int64_t *pending, int64_t *unflushed)
{
    if (*unflushed == 0) return;
    const int64_t cells = pass->padded * pass->bins;
#pragma omp critical(calibration_flush)
    for (int64_t i = 0; i < cells; ++i)
        pass->class_sum[i].units += (__int128)pending[i] * CLASS_FACTOR;
    memset(pending, 0, (size_t)cells * sizeof *pending);
    *unflushed = 0;
}

static void merge(CalibrationPass *pass, const Worker *worker)
{
    for (int i = 0; i < SUMS; ++i)
        pass->sum[i].units += worker->sum[i].units;
    for (int i = 0; i < COUNTS; ++i)
        pass->count[i] += worker->count[i];
    large_sum_merge(&pass->large, &worker->large);
    if (worker->largest_label > pass->largest_label) pass->largest_label = worker->largest_label;
    if (worker->large_row < pass->large_row) pass->large_row = worker->large_row;
}

static Status add_part(CalibrationPass *pass, const Part *part)
{
    const Workspace *workspace = pass->state;
    const int64_t rows = part->logits->count, block_size = block_rows(pass), blocks = blocks_of(pass, rows);
    int64_t bad_row = INT64_MAX;
#pragma omp parallel num_threads(team_size(pass->threads, blocks))
    {
        const int64_t thread = omp_get_thread_num();
        Worker worker = {.logits = workspace->rows + thread * 2 * pass->padded,
                         .probabilities = workspace->rows + (thread * 2 + 1) * pass->padded,
                         .pending = workspace->pending + thread * pass->padded * pass->bins,
                         .largest_label = -1,
                         .large_row = INT64_MAX,
                         .bad_row = INT64_MAX};
#pragma omp for schedule(static) nowait
        for (int64_t block = 0; block < blocks; ++block) {
            const int64_t begin = block * block_size;
            const int64_t end = begin + block_size < rows ? begin + block_size : rows;
            for (int64_t row = begin; row < end; ++row) {
                if (part->weights == NULL || part->weights[row] != 0)
                    add_row(pass, part, row, &worker);
                else
                    part->score[row] = 0;
            }
            workspace->unflushed[thread] += end - begin;
            if (workspace->unflushed[thread] > CLASS_ROWS - BLOCK)
                flush_classes(pass, worker.pending, &workspace->unflushed[thread]);
        }
#pragma omp critical(calibration_merge)
        {
            merge(pass, &worker);
            if (worker.bad_row < bad_row) bad_row = worker.bad_row;
        }
    }
    if (bad_row != INT64_MAX) return row_fail(pass->name, pass->classes, ROW_NOT_FINITE, bad_row, 0, 0);
    return OK;
}

Status calibration_cpu_add_confidences(CalibrationPass *pass, const ConfidenceSet *set, double *score)
{
    Worker *worker;
    TRY(memory_new(&worker, 1, sizeof *worker, "sums of confidences"));
    worker->largest_label = -1;
    worker->large_row = INT64_MAX;
    for (int64_t row = 0; row < set->count; ++row) {
        CalibrationSample sample = {.sums = 0};
        calibration_sample_confidence(&sample, set->confidence[row], set->correct[row] != 0, pass->edge,
                                      pass->bins);
        for (int i = 0; i < sample.sums; ++i)
            exact_sum_add(&worker->sum[sample.sum[i]], sample.term[i]);
        for (int i = 0; i < sample.counts; ++i)
            worker->count[sample.count[i]] += 1;
        score[row] = set->correct[row] != 0 ? sample.confidence : -sample.confidence;
    }
    merge(pass, worker);
    free(worker);
    return OK;
}

Status calibration_cpu_add_logits(CalibrationPass *pass, const Logits *logits, double *score)
{
    return add_part(pass, &(Part){.logits = logits, .score = score});
}

static Status add_cpu(CalibrationPass *pass, const LogitRows *rows, double *score)
{
    TRY(logit_rows_check(pass->name, pass->classes, rows, pass->threads));
    const Logits logits = {.name = pass->name,
                           .type = FLOAT32,
                           .values = rows->logits,
                           .label_type = INT32,
                           .labels = rows->labels,
                           .count = rows->rows,
                           .first = rows->first,
                           .number = rows->number,
                           .classes = pass->classes};
    return add_part(pass, &(Part){.logits = &logits, .weights = rows->weights, .score = score});
}

static Status collect_cpu(CalibrationPass *pass)
{
    const Workspace *workspace = pass->state;
    for (int64_t thread = 0; thread < pass->threads; ++thread)
        flush_classes(pass, workspace->pending + thread * pass->padded * pass->bins,
                      &workspace->unflushed[thread]);
    return OK;
}

const CalibrationKernel calibration_cpu = {
    .open = open_cpu, .begin = begin_cpu, .add = add_cpu, .collect = collect_cpu, .close = close_cpu};

Status calibration_row_scores(const Logits *logits, double temperature, int threads, double *confidence,
                              double *entropy)
{
    const int64_t padded = row_padded(logits->classes);
    const int team = team_size(threads, logits->count / BLOCK + 1);
    double *workspace;
    TRY(memory_new(&workspace, (size_t)team * 2 * (size_t)padded, sizeof *workspace, "rows of logits"));
#pragma omp parallel for schedule(static) num_threads(team)
    for (int64_t row = 0; row < logits->count; ++row) {
        double *x = workspace + omp_get_thread_num() * 2 * padded, weighted;
        row_load(logits, row, x, padded);
        const double sum =
            row_exponentials(x, row_maximum(x, padded), temperature, padded, x + padded, &weighted);
        confidence[row] = 1.0 / sum;
        entropy[row] = number_log(sum) - weighted / sum;
    }
    free(workspace);
    return OK;
}
