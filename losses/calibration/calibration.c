#include "losses/calibration/calibration_pass.h"

#include "engine/base/memory.h"
#include "losses/calibration/order_statistics.h"
#include "losses/calibration/threads.h"

#include <stdlib.h>

void calibration_scores_free(CalibrationScores *scores)
{
    free(scores->confidence);
    free(scores->correct);
    *scores = (CalibrationScores){0};
}

static void pass_release(CalibrationPass *pass)
{
    if (pass->kernel != NULL) pass->kernel->close(pass);
    free(pass->class_sum);
    calibration_scores_free(&pass->scores);
}

/* On an error the caller still releases. */
static Status pass_prepare(CalibrationPass *pass, const CalibrationKernel *kernel, const Logits *set,
                           int bins)
{
    if (bins < 1 || bins > CALIBRATION_MAX_BINS)
        return fail(STATUS_USAGE, "%d bins: it must be 1 to %d", bins, CALIBRATION_MAX_BINS);
    pass->set = *set;
    pass->set.values = NULL;
    pass->bins = bins;
    pass->padded = row_padded(set->classes);
    bins_edges(bins, pass->edge);
    pass->largest_label = -1;
    for (int64_t row = 0; row < set->count; ++row)
        if (logits_label(set, row) > pass->largest_label) pass->largest_label = logits_label(set, row);
    TRY(memory_new(&pass->class_sum, (size_t)pass->padded * (size_t)bins, sizeof *pass->class_sum,
                   "sums by class")); /* bins is small: no overflow */
    TRY(memory_new(&pass->scores.confidence, (size_t)set->count, sizeof(double), "confidences"));
    TRY(memory_new(&pass->scores.correct, (size_t)set->count, sizeof(uint8_t), "hits"));
    pass->kernel = kernel;
    return kernel->open(pass);
}

static Status pass_reduce(CalibrationPass *pass, Collective *collective)
{
    TRY(exact_sum_reduce(collective, pass->sum, SUMS));
    TRY(exact_sum_reduce(collective, pass->class_sum, pass->padded * pass->bins));
    TRY(counts_reduce(collective, pass->count, COUNTS));
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

static void conclude_bins(const CalibrationPass *pass, Calibration *result)
{
    const ExactSum *sum = pass->sum;
    const int64_t *tally = pass->count;
    const double samples = (double)result->samples;
    double debiased_l2 = 0, l2 = 0;
    for (int b = 0; b < pass->bins; ++b) {
        CalibrationBin *bin = &result->bin[b];
        bin->lower = pass->edge[b];
        bin->upper = pass->edge[b + 1];
        bin->count = tally[COUNT_BIN + b];
        bin->confidence = mean_of(sum[SUM_BIN + b], bin->count);
        bin->accuracy = bin->count > 0 ? (double)tally[COUNT_BIN_CORRECT + b] / (double)bin->count : 0;
        if (bin->count > 0) {
            const double share = (double)bin->count / samples, variance = bin->accuracy * (1 - bin->accuracy);
            const double gap = gap_of(sum[SUM_BIN + b], tally[COUNT_BIN_CORRECT + b]);
            const double mean_gap = gap / (double)bin->count;
            result->ece += fabs(gap) / samples;
            result->ece_debiased +=
                share *
                (2 * fabs(mean_gap) - mean_of_folded_normal(mean_gap, sqrt(variance / (double)bin->count)));
        }
        const int64_t count = tally[COUNT_CEILING + b];
        if (count > 0) {
            const double gap = gap_of(sum[SUM_CEILING + b], tally[COUNT_CEILING_CORRECT + b]) / (double)count;
            const double accuracy = (double)tally[COUNT_CEILING_CORRECT + b] / (double)count;
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

static void conclude_classwise(const CalibrationPass *pass, Calibration *result)
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

static void conclude(const CalibrationPass *pass, Calibration *result)
{
    const double samples = (double)pass->set.total;
    const int64_t *count = pass->count;
    *result = (Calibration){.samples = pass->set.total, .classes = pass->set.classes, .bins = pass->bins};
    result->label_classes = pass->largest_label + 1;
    result->error = (samples - (double)count[COUNT_CORRECT]) / samples;
    result->top5_error = (samples - (double)count[COUNT_TOP5]) / samples;
    result->nll = exact_sum_value(pass->sum[SUM_NLL]) / samples;
    const ExactSum wrong = {pass->sum[SUM_NLL].units - pass->sum[SUM_NLL_CORRECT].units};
    const double misses = samples - (double)count[COUNT_CORRECT];
    result->nll_correct = count[COUNT_CORRECT] > 0
                              ? exact_sum_value(pass->sum[SUM_NLL_CORRECT]) / (double)count[COUNT_CORRECT]
                              : NAN;
    result->nll_misclassified = misses > 0 ? exact_sum_value(wrong) / misses : NAN;
    result->brier = exact_sum_value(pass->sum[SUM_BRIER]) / samples;
    result->mean_confidence = exact_sum_value(pass->sum[SUM_CONFIDENCE]) / samples;
    result->mean_entropy = exact_sum_value(pass->sum[SUM_ENTROPY]) / samples;
    result->s99_count = count[COUNT_S99];
    result->s99_fraction = (double)count[COUNT_S99] / samples;
    result->s99_accuracy =
        count[COUNT_S99] > 0 ? (double)count[COUNT_S99_CORRECT] / (double)count[COUNT_S99] : NAN;
    conclude_bins(pass, result);
    conclude_classwise(pass, result);
}

/* AdaECE: the edges need global order statistics, so it has its own pass over the confidences. */
static Status measure_adaptive(Collective *collective, const CalibrationPass *pass, Calibration *result)
{
    const int bins = pass->bins;
    int64_t position[2 * (CALIBRATION_MAX_BINS + 1)] = {0};
    double fraction[CALIBRATION_MAX_BINS + 1], value[2 * (CALIBRATION_MAX_BINS + 1)];
    double edge[CALIBRATION_MAX_BINS + 1];
    for (int b = 0; b <= bins; ++b) {
        bins_adaptive_position(pass->set.total, bins, b, &position[2 * b], &fraction[b]);
        position[2 * b + 1] = position[2 * b] + (fraction[b] > 0);
    }
    TRY(order_statistics(collective, pass->scores.confidence, pass->set.count, position, 2 * (bins + 1),
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
        for (int64_t row = 0; row < pass->set.count; ++row) {
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

/* All rows were added: the sums over all ranks, and what follows from them. */
static Status pass_conclude(CalibrationPass *pass, Collective *collective, Calibration *result)
{
    TRY(pass_reduce(pass, collective));
    conclude(pass, result);
    return measure_adaptive(collective, pass, result);
}

Status calibration_measure(Collective *collective, const Logits *logits, double temperature, int bins,
                           int threads, Calibration *result, CalibrationScores *scores)
{
    CalibrationPass pass = {.temperature = temperature, .threads = threads};
    Status status;
    TRY_ELSE(done, pass_prepare(&pass, &calibration_cpu, logits, bins));
    TRY_ELSE(done, pass.kernel->add(&pass, logits));
    TRY_ELSE(done, pass_conclude(&pass, collective, result));
    if (scores != NULL) {
        *scores = pass.scores;
        pass.scores = (CalibrationScores){0};
    }
done:
    pass_release(&pass);
    return status;
}

Status calibration_pass_open(Device *device, const Logits *set, int bins, CalibrationPass **out)
{
    static const CalibrationKernel *const kernels[DEVICE_KINDS] = {
        [DEVICE_CPU] = &calibration_cpu, [DEVICE_CUDA] = &calibration_cuda};
    CalibrationPass *pass;
    Status status;
    Logits labels = *set;
    labels.values = NULL;
    TRY(logits_check(&labels, device_threads(device)));
    TRY(memory_new(&pass, 1, sizeof *pass, "calibration"));
    pass->device = device;
    pass->temperature = 1;
    pass->threads = device_threads(device);
    TRY_ELSE(failed, pass_prepare(pass, kernels[device_kind(device)], set, bins));
    *out = pass;
    return OK;
failed:
    calibration_pass_close(pass);
    return status;
}

void calibration_pass_close(CalibrationPass *pass)
{
    if (pass == NULL) return;
    pass_release(pass);
    free(pass);
}

Status calibration_pass_begin(CalibrationPass *pass)
{
    pass->done = 0;
    memset(pass->sum, 0, sizeof pass->sum);
    memset(pass->count, 0, sizeof pass->count);
    memset(pass->class_sum, 0, (size_t)pass->padded * (size_t)pass->bins * sizeof *pass->class_sum);
    return pass->kernel->begin(pass);
}

Status calibration_pass_add(CalibrationPass *pass, const float *logits, int64_t rows)
{
    if (rows > pass->set.count - pass->done)
        return fail(STATUS_INTERNAL, "%s: %lld rows after row %lld; there are %lld in all", pass->set.name,
                    (long long)rows, (long long)pass->done, (long long)pass->set.count);
    Logits part = pass->set;
    part.type = FLOAT32;
    part.values = logits;
    part.labels = (const char *)part.labels + (size_t)pass->done * dtype_size(part.label_type);
    part.first += pass->done;
    part.count = rows;
    if (device_kind(pass->device) == DEVICE_CPU) TRY(logits_check(&part, pass->threads));
    TRY(pass->kernel->add(pass, &part));
    pass->done += rows;
    return OK;
}

Status calibration_pass_collect(CalibrationPass *pass)
{
    if (pass->done != pass->set.count)
        return fail(STATUS_INTERNAL, "%s: %lld rows of %lld were added", pass->set.name,
                    (long long)pass->done, (long long)pass->set.count);
    return pass->kernel->collect(pass);
}

Status calibration_pass_measure(CalibrationPass *pass, Collective *collective, Calibration *result)
{
    return pass_conclude(pass, collective, result);
}
