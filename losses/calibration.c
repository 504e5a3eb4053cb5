#include "losses/calibration.h"

#include "engine/base/memory.h"
#include "losses/bins.h"
#include "losses/exact_sum.h"
#include "losses/order_statistics.h"
#include "losses/softmax_row.h"
#include "losses/threads.h"

#include <stdbool.h>
#include <stdlib.h>

/* BLOCK: rows a thread takes at a time. Per-class sums are gathered in int64 with the unit 2^-CLASS_SHIFT,
 * and before they can overflow, after CLASS_ROWS rows, go into exact sums. */
enum { BLOCK = 512, CLASS_SHIFT = 50, CLASS_ROWS = 4096 };

/* What one pass over the samples adds up: integers, so that the order does not matter. */
typedef struct {
    ExactSum nll, nll_correct, brier, entropy, confidence;
    ExactSum bin_confidence[CALIBRATION_MAX_BINS];     /* bins of ece */
    ExactSum ceiling_confidence[CALIBRATION_MAX_BINS]; /* bins of mce */
} Sums;

typedef struct {
    int64_t correct, top5, s99, s99_correct;
    int64_t bin_count[CALIBRATION_MAX_BINS], bin_hits[CALIBRATION_MAX_BINS];
    int64_t ceiling_count[CALIBRATION_MAX_BINS], ceiling_hits[CALIBRATION_MAX_BINS];
} Counts;

/* The tallies are added up as plain arrays. */
enum { SUMS = sizeof(Sums) / sizeof(ExactSum), COUNTS = sizeof(Counts) / sizeof(int64_t) };

typedef struct {
    const Logits *logits;
    double temperature;
    int bins, threads;
    int64_t padded;                        /* classes, in whole vectors */
    double edge[CALIBRATION_MAX_BINS + 1]; /* of the bins of ece */
    double *workspace;                     /* [threads][2 * padded]: logits and probabilities of a row */
    int64_t *class_pending;                /* [threads][bins][padded], unit 2^-CLASS_SHIFT */
    ExactSum *class_sum;                   /* [bins][padded]: sums of (probability - is it the label) */
    CalibrationScores scores;
    Sums sums;
    Counts counts;
    int64_t largest_label;
} Pass;

void calibration_scores_free(CalibrationScores *scores)
{
    free(scores->confidence);
    free(scores->correct);
    *scores = (CalibrationScores){0};
}

static Status pass_prepare(Pass *pass, const Logits *logits, double temperature, int bins, int threads)
{
    *pass = (Pass){.logits = logits, .temperature = temperature, .bins = bins, .largest_label = -1};
    pass->threads = threads_for(threads, (logits->count + BLOCK - 1) / BLOCK);
    pass->padded = row_padded(logits->classes);
    bins_edges(bins, pass->edge);
    const size_t padded = (size_t)pass->padded,
                 cells = padded * (size_t)bins; /* bins is small: no overflow */
    TRY(memory_new(&pass->workspace, (size_t)pass->threads * 2 * padded, sizeof(double), "rows of logits"));
    TRY(memory_new(&pass->class_pending, (size_t)pass->threads * cells, sizeof(int64_t), "sums by class"));
    TRY(memory_new(&pass->class_sum, cells, sizeof(ExactSum), "sums by class"));
    TRY(memory_new(&pass->scores.confidence, (size_t)logits->count, sizeof(double), "confidences"));
    TRY(memory_new(&pass->scores.correct, (size_t)logits->count, sizeof(uint8_t), "hits"));
    return OK;
}

static void pass_release(Pass *pass)
{
    free(pass->workspace);
    free(pass->class_pending);
    free(pass->class_sum);
    calibration_scores_free(&pass->scores);
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
    VectorDouble squares = {0};
    for (int64_t k = 0; k < padded; k += LANES) {
        const VectorDouble p = vector_load(e + k) * scale;
        vector_store(e + k, p);
        squares += p * p;
        VectorInt total;
        memcpy(&total, lowest_bin + k, sizeof total);
        total += vector_fixed(p, 0x1p50);
        memcpy(lowest_bin + k, &total, sizeof total);
    }
    return vector_sum(squares);
}

/* The same rounding as vector_fixed. */
static int64_t class_units(double p)
{
    const double shifted = p * 0x1p50 + 0x1.8p52;
    int64_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    return bits - INT64_C(0x4338000000000000);
}

/* Most probabilities are in the lowest bin, where add_probabilities put all; the few others (their sum is at
 * most 1) are moved to theirs. A label counts in the bin of its probability. */
static void add_classwise(const Pass *pass, const double *p, int64_t label, int64_t *pending)
{
    for (int64_t first = 0; first < pass->padded; first += LANES) {
        unsigned lanes = vector_lanes_above(vector_load(p + first), pass->edge[1]);
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

static void add_row(Pass *pass, int64_t row, double *x, double *p, int64_t *pending, Sums *sums,
                    Counts *counts)
{
    const int64_t padded = pass->padded, label = logits_label(pass->logits, row);
    row_load(pass->logits, row, x, padded);
    const double maximum = row_maximum(x, padded);
    const bool correct = row_first(x, maximum) == label;
    double weighted;
    const double sum = row_exponentials(x, maximum, pass->temperature, padded, p, &weighted);
    const double log_sum = log(sum), confidence = 1.0 / sum; /* the largest term of the sum is 1 */
    const double squares = add_probabilities(p, sum, padded, pending);
    add_classwise(pass, p, label, pending);

    const double nll = log_sum + (maximum - x[label]) / pass->temperature;
    exact_sum_add(&sums->nll, nll);
    if (correct) exact_sum_add(&sums->nll_correct, nll);
    exact_sum_add(&sums->brier, squares - 2 * p[label] + 1);
    exact_sum_add(&sums->entropy, log_sum - weighted / sum);
    exact_sum_add(&sums->confidence, confidence);
    counts->correct += correct;
    counts->top5 += place_of_label(x, pass->logits->classes, label) < 5;
    counts->s99 += confidence >= 0.99;
    counts->s99_correct += correct && confidence >= 0.99;
    const int bin = bins_find(pass->edge, pass->bins, confidence);
    const int ceiling = bins_find_ceiling(pass->bins, confidence);
    exact_sum_add(&sums->bin_confidence[bin], confidence); /* never 0: at least 1 / classes */
    counts->bin_count[bin] += 1;
    counts->bin_hits[bin] += correct;
    exact_sum_add(&sums->ceiling_confidence[ceiling], confidence);
    counts->ceiling_count[ceiling] += 1;
    counts->ceiling_hits[ceiling] += correct;
    pass->scores.confidence[row] = confidence;
    pass->scores.correct[row] = correct;
}

static void flush_classes(Pass *pass, int64_t *pending)
{
    const int64_t cells = pass->padded * pass->bins;
#pragma omp critical(calibration_flush)
    for (int64_t i = 0; i < cells; ++i)
        pass->class_sum[i].units += (__int128)pending[i] * (1 << (EXACT_SUM_SHIFT - CLASS_SHIFT));
    memset(pending, 0, (size_t)cells * sizeof *pending);
}

static void pass_run(Pass *pass)
{
    const int64_t rows = pass->logits->count, blocks = (rows + BLOCK - 1) / BLOCK;
    int64_t largest_label = -1;
#pragma omp parallel num_threads(pass->threads) reduction(max : largest_label)
    {
        double *x = pass->workspace + omp_get_thread_num() * 2 * pass->padded;
        int64_t *pending = pass->class_pending + omp_get_thread_num() * pass->padded * pass->bins;
        Sums sums = {0};
        Counts counts = {0};
        int64_t unflushed = 0;
#pragma omp for schedule(static) nowait
        for (int64_t block = 0; block < blocks; ++block) {
            const int64_t end = (block + 1) * BLOCK < rows ? (block + 1) * BLOCK : rows;
            for (int64_t row = block * BLOCK; row < end; ++row) {
                add_row(pass, row, x, x + pass->padded, pending, &sums, &counts);
                const int64_t label = logits_label(pass->logits, row);
                if (label > largest_label) largest_label = label;
            }
            unflushed += end - block * BLOCK;
            if (unflushed > CLASS_ROWS - BLOCK) {
                flush_classes(pass, pending);
                unflushed = 0;
            }
        }
        flush_classes(pass, pending);
#pragma omp critical(calibration_merge)
        {
            const ExactSum *from = (const ExactSum *)&sums;
            ExactSum *to = (ExactSum *)&pass->sums;
            for (int i = 0; i < SUMS; ++i)
                to[i].units += from[i].units;
            for (int i = 0; i < COUNTS; ++i)
                ((int64_t *)&pass->counts)[i] += ((const int64_t *)&counts)[i];
        }
    }
    pass->largest_label = largest_label;
}

static Status pass_reduce(Pass *pass, Collective *collective)
{
    TRY(exact_sum_reduce(collective, (ExactSum *)&pass->sums, SUMS));
    TRY(exact_sum_reduce(collective, pass->class_sum, pass->padded * pass->bins));
    TRY(counts_reduce(collective, (int64_t *)&pass->counts, COUNTS));
    /* The maximum over ranks by a sum: every rank has its own place. */
    int64_t *largest;
    TRY(memory_new(&largest, (size_t)collective->size, sizeof *largest, "largest labels"));
    largest[collective->rank] = pass->largest_label;
    Status status = counts_reduce(collective, largest, collective->size);
    for (int rank = 0; rank < collective->size; ++rank)
        if (largest[rank] > pass->largest_label) pass->largest_label = largest[rank];
    free(largest);
    return status;
}

static double mean_of(ExactSum sum, int64_t count)
{
    return count > 0 ? exact_sum_value(sum) / (double)count : 0;
}

/* sum of (confidence - correct), exactly. */
static double gap_of(ExactSum confidence, int64_t hits)
{
    confidence.units -= (__int128)hits * ((__int128)1 << EXACT_SUM_SHIFT);
    return exact_sum_value(confidence);
}

/* E|X|, X normal with this mean and deviation. */
static double mean_of_folded_normal(double mean, double deviation)
{
    if (!(deviation > 0)) return fabs(mean);
    const double ratio = mean / (deviation * sqrt(2.0));
    return deviation * sqrt(2.0 / 3.14159265358979323846) * exp(-ratio * ratio) + mean * erf(ratio);
}

static void conclude_bins(const Pass *pass, Calibration *result)
{
    const Sums *sums = &pass->sums;
    const Counts *counts = &pass->counts;
    const double samples = (double)result->samples;
    double debiased_l2 = 0, l2 = 0;
    for (int b = 0; b < pass->bins; ++b) {
        CalibrationBin *bin = &result->bin[b];
        bin->lower = pass->edge[b];
        bin->upper = pass->edge[b + 1];
        bin->count = counts->bin_count[b];
        bin->confidence = mean_of(sums->bin_confidence[b], bin->count);
        bin->accuracy = bin->count > 0 ? (double)counts->bin_hits[b] / (double)bin->count : 0;
        if (bin->count > 0) {
            const double share = (double)bin->count / samples, variance = bin->accuracy * (1 - bin->accuracy);
            const double gap = gap_of(sums->bin_confidence[b], counts->bin_hits[b]);
            const double mean_gap = gap / (double)bin->count;
            result->ece += fabs(gap) / samples;
            result->ece_debiased +=
                share *
                (2 * fabs(mean_gap) - mean_of_folded_normal(mean_gap, sqrt(variance / (double)bin->count)));
        }
        const int64_t count = counts->ceiling_count[b];
        if (count > 0) {
            const double gap = gap_of(sums->ceiling_confidence[b], counts->ceiling_hits[b]) / (double)count;
            const double accuracy = (double)counts->ceiling_hits[b] / (double)count;
            const double share = (double)count / samples;
            if (fabs(gap) > result->mce) result->mce = fabs(gap);
            l2 += share * gap * gap;
            if (count > 1)
                debiased_l2 += share * (gap * gap - accuracy * (1 - accuracy) / (double)(count - 1));
        }
    }
    result->ece_l2 = sqrt(l2);
    result->ece_l2_debiased = sqrt(fmax(debiased_l2, 0));
}

static void conclude_classwise(const Pass *pass, Calibration *result)
{
    double sum = 0;
    for (int64_t k = 0; k < result->classes; ++k) {
        double ece = 0;
        for (int b = 0; b < pass->bins; ++b)
            ece += fabs(exact_sum_value(pass->class_sum[b * pass->padded + k])) / (double)result->samples;
        sum += ece;
        if (k == result->label_classes - 1) result->classwise_ece = sum / (double)result->label_classes;
    }
    result->classwise_ece_all = sum / (double)result->classes;
}

static void conclude(const Pass *pass, Calibration *result)
{
    const double samples = (double)pass->logits->total;
    const Counts *counts = &pass->counts;
    *result =
        (Calibration){.samples = pass->logits->total, .classes = pass->logits->classes, .bins = pass->bins};
    result->label_classes = pass->largest_label + 1;
    result->error = (samples - (double)counts->correct) / samples;
    result->top5_error = (samples - (double)counts->top5) / samples;
    result->nll = exact_sum_value(pass->sums.nll) / samples;
    const ExactSum wrong = {pass->sums.nll.units - pass->sums.nll_correct.units};
    const double misses = samples - (double)counts->correct;
    result->nll_correct =
        counts->correct > 0 ? exact_sum_value(pass->sums.nll_correct) / (double)counts->correct : NAN;
    result->nll_misclassified = misses > 0 ? exact_sum_value(wrong) / misses : NAN;
    result->brier = exact_sum_value(pass->sums.brier) / samples;
    result->mean_confidence = exact_sum_value(pass->sums.confidence) / samples;
    result->mean_entropy = exact_sum_value(pass->sums.entropy) / samples;
    result->s99_count = counts->s99;
    result->s99_fraction = (double)counts->s99 / samples;
    result->s99_accuracy = counts->s99 > 0 ? (double)counts->s99_correct / (double)counts->s99 : NAN;
    conclude_bins(pass, result);
    conclude_classwise(pass, result);
}

/* AdaECE: the edges need global order statistics, so it has its own pass over the confidences. */
static Status measure_adaptive(Collective *collective, const Pass *pass, Calibration *result)
{
    const int bins = pass->bins;
    int64_t position[2 * (CALIBRATION_MAX_BINS + 1)];
    double fraction[CALIBRATION_MAX_BINS + 1], value[2 * (CALIBRATION_MAX_BINS + 1)];
    double edge[CALIBRATION_MAX_BINS + 1];
    for (int b = 0; b <= bins; ++b) {
        bins_adaptive_position(pass->logits->total, bins, b, &position[2 * b], &fraction[b]);
        position[2 * b + 1] = position[2 * b] + (fraction[b] > 0);
    }
    TRY(order_statistics(collective, pass->scores.confidence, pass->logits->count, position, 2 * (bins + 1),
                         pass->threads, value));
    for (int b = 0; b <= bins; ++b)
        edge[b] = bins_adaptive_edge(value[2 * b], value[2 * b + 1], fraction[b]);

    ExactSum confidence[CALIBRATION_MAX_BINS] = {{0}};
    int64_t tally[2 * CALIBRATION_MAX_BINS] = {0};
#pragma omp parallel num_threads(pass->threads)
    {
        ExactSum my_confidence[CALIBRATION_MAX_BINS] = {{0}};
        int64_t my_tally[2 * CALIBRATION_MAX_BINS] = {0};
#pragma omp for schedule(static) nowait
        for (int64_t row = 0; row < pass->logits->count; ++row) {
            const int bin = bins_find_adaptive(edge, bins, pass->scores.confidence[row]);
            if (bin < 0) continue;
            exact_sum_add(&my_confidence[bin], pass->scores.confidence[row]);
            my_tally[2 * bin] += 1;
            my_tally[2 * bin + 1] += pass->scores.correct[row];
        }
#pragma omp critical(calibration_merge)
        for (int b = 0; b < bins; ++b) {
            confidence[b].units += my_confidence[b].units;
            tally[2 * b] += my_tally[2 * b];
            tally[2 * b + 1] += my_tally[2 * b + 1];
        }
    }
    TRY(exact_sum_reduce(collective, confidence, bins));
    TRY(counts_reduce(collective, tally, 2 * (int64_t)bins));
    for (int b = 0; b < bins; ++b) {
        CalibrationBin *bin = &result->adaptive_bin[b];
        bin->lower = edge[b];
        bin->upper = edge[b + 1];
        bin->count = tally[2 * b];
        bin->confidence = mean_of(confidence[b], bin->count);
        bin->accuracy = bin->count > 0 ? (double)tally[2 * b + 1] / (double)bin->count : 0;
        result->ada_ece += fabs(gap_of(confidence[b], tally[2 * b + 1])) / (double)result->samples;
    }
    return OK;
}

Status calibration_measure(Collective *collective, const Logits *logits, double temperature, int bins,
                           int threads, Calibration *result, CalibrationScores *scores)
{
    if (bins < 1 || bins > CALIBRATION_MAX_BINS)
        return fail(STATUS_USAGE, "%d bins: it must be 1 to %d", bins, CALIBRATION_MAX_BINS);
    Pass pass;
    Status status;
    TRY_ELSE(done, pass_prepare(&pass, logits, temperature, bins, threads));
    pass_run(&pass);
    TRY_ELSE(done, pass_reduce(&pass, collective));
    conclude(&pass, result);
    TRY_ELSE(done, measure_adaptive(collective, &pass, result));
    if (scores != NULL) {
        *scores = pass.scores;
        pass.scores = (CalibrationScores){0};
    }
done:
    pass_release(&pass);
    return status;
}

Status calibration_row_scores(const Logits *logits, double temperature, int threads, double *confidence,
                              double *entropy)
{
    const int64_t padded = row_padded(logits->classes);
    const int team = threads_for(threads, logits->count / BLOCK + 1);
    double *workspace;
    TRY(memory_new(&workspace, (size_t)team * 2 * (size_t)padded, sizeof *workspace, "rows of logits"));
#pragma omp parallel for schedule(static) num_threads(team)
    for (int64_t row = 0; row < logits->count; ++row) {
        double *x = workspace + omp_get_thread_num() * 2 * padded, weighted;
        row_load(logits, row, x, padded);
        const double sum =
            row_exponentials(x, row_maximum(x, padded), temperature, padded, x + padded, &weighted);
        confidence[row] = 1.0 / sum;
        entropy[row] = log(sum) - weighted / sum;
    }
    free(workspace);
    return OK;
}
