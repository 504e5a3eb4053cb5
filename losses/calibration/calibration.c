#include "losses/calibration/calibration_pass.h"

#include "engine/base/memory.h"
#include "losses/calibration/order_statistics.h"
#include "losses/calibration/threads.h"

#include <stdlib.h>

enum { CHUNK = 1 << 16 }; /* samples of the first chunk of scores */

void calibration_scores_free(CalibrationScores *scores)
{
    free(scores->signed_confidence);
    *scores = (CalibrationScores){0};
}

static void pass_release(CalibrationPass *pass)
{
    if (pass->kernel != NULL) pass->kernel->close(pass);
    free(pass->class_sum);
    free(pass->masked);
    calibration_scores_free(&pass->scores);
    for (ScoreChunk *chunk = pass->chunks, *next; chunk != NULL; chunk = next) {
        next = chunk->next;
        free(chunk);
    }
}

static Status copy_masked(CalibrationPass *pass, const uint8_t *masked)
{
    int64_t left = pass->classes;
    if (masked == NULL) return OK;
    TRY(memory_new(&pass->masked, (size_t)pass->classes, sizeof *pass->masked, "masked classes"));
    memcpy(pass->masked, masked, (size_t)pass->classes);
    for (int64_t k = 0; k < pass->classes; ++k)
        left -= masked[k] != 0;
    if (left < 1) return fail(STATUS_INPUT, "%s: all classes are masked", pass->name);
    return OK;
}

/* On an error the caller still releases. */
static Status pass_prepare(CalibrationPass *pass, const CalibrationKernel *kernel,
                           const CalibrationSetup *setup)
{
    const int bins = setup->bins;
    if (bins < 1 || bins > CALIBRATION_MAX_BINS)
        return fail(STATUS_USAGE, "%d bins: it must be 1 to %d", bins, CALIBRATION_MAX_BINS);
    if (setup->classes < 2)
        return fail(STATUS_INPUT, "%s: %lld class; at least 2 are needed", setup->name,
                    (long long)setup->classes);
    if (!(setup->temperature > 0))
        return fail(STATUS_USAGE, "%s: the temperature is %g; it must be positive", setup->name,
                    setup->temperature);
    pass->name = setup->name;
    pass->classes = setup->classes;
    pass->temperature = setup->temperature;
    pass->most_rows = setup->most_rows;
    pass->bins = bins;
    pass->padded = row_padded(setup->classes);
    bins_edges(bins, pass->edge);
    TRY(copy_masked(pass, setup->masked));
    TRY(memory_new(&pass->class_sum, (size_t)pass->padded * (size_t)bins, sizeof *pass->class_sum,
                   "sums by class")); /* bins is small: no overflow */
    pass->kernel = kernel;
    return kernel->open(pass);
}

/* ---- scores as they come ---- */

/* Room for `rows` scores more, side by side. Chunks grow with the number of samples, so there are few. */
static Status room_for(CalibrationPass *pass, int64_t rows, double **room)
{
    ScoreChunk **at = &pass->chunk;
    int64_t capacity = CHUNK;
    while (*at != NULL && (*at)->capacity - (*at)->used < rows) {
        capacity = 2 * (*at)->capacity;
        at = &(*at)->next;
    }
    if (*at == NULL) {
        if (capacity < rows) capacity = rows;
        TRY(memory_new(at, 1, sizeof **at + (size_t)capacity * sizeof(double), "confidences"));
        (*at)->capacity = capacity;
        if (pass->chunks == NULL) pass->chunks = *at;
    }
    pass->chunk = *at;
    *room = pass->chunk->signed_confidence + pass->chunk->used;
    return OK;
}

/* Those of the rows that count, in one array. */
static Status gather_scores(CalibrationPass *pass)
{
    calibration_scores_free(&pass->scores);
    TRY(memory_new(&pass->scores.signed_confidence, (size_t)pass->count[COUNT_SAMPLES], sizeof(double),
                   "confidences"));
    for (const ScoreChunk *chunk = pass->chunks; chunk != NULL; chunk = chunk->next)
        for (int64_t i = 0; i < chunk->used; ++i)
            if (chunk->signed_confidence[i] != 0)
                pass->scores.signed_confidence[pass->scores.count++] = chunk->signed_confidence[i];
    return OK;
}

/* ---- what follows from the sums ---- */

static Status pass_reduce(CalibrationPass *pass, Collective *collective)
{
    TRY(exact_sum_reduce(collective, pass->sum, SUMS));
    TRY(exact_sum_reduce(collective, pass->class_sum, pass->padded * pass->bins));
    TRY(large_sum_reduce(collective, &pass->large, 1));
    TRY(counts_reduce(collective, pass->count, COUNTS));
    TRY(largest_reduce(collective, &pass->largest_label));
    return smallest_reduce(collective, &pass->large_row);
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
    const int64_t *count = pass->count;
    const double samples = (double)count[COUNT_SAMPLES];
    *result = (Calibration){.samples = count[COUNT_SAMPLES], .classes = pass->classes, .bins = pass->bins};
    result->label_classes = pass->largest_label + 1;
    result->error = (samples - (double)count[COUNT_CORRECT]) / samples;
    result->top5_error = (samples - (double)count[COUNT_TOP5]) / samples;
    result->nll = large_sum_mean(pass->sum[SUM_NLL], &pass->large, samples);
    const ExactSum wrong = {pass->sum[SUM_NLL].units - pass->sum[SUM_NLL_CORRECT].units};
    const double misses = samples - (double)count[COUNT_CORRECT];
    result->nll_correct = count[COUNT_CORRECT] > 0
                              ? exact_sum_value(pass->sum[SUM_NLL_CORRECT]) / (double)count[COUNT_CORRECT]
                              : NAN;
    result->nll_misclassified = misses > 0 ? large_sum_mean(wrong, &pass->large, misses) : NAN;
    result->large_nll_count = pass->large.terms;
    result->infinite_nll_count = pass->large.infinite;
    result->large_nll_row = pass->large.terms > 0 ? pass->large_row : -1;
    result->brier = exact_sum_value(pass->sum[SUM_BRIER]) / samples;
    result->mean_confidence = exact_sum_value(pass->sum[SUM_CONFIDENCE]) / samples;
    result->mean_entropy = exact_sum_value(pass->sum[SUM_ENTROPY]) / samples;
    const ExactSum wrong_entropy = {pass->sum[SUM_ENTROPY].units - pass->sum[SUM_ENTROPY_CORRECT].units};
    result->entropy_correct = count[COUNT_CORRECT] > 0 ? exact_sum_value(pass->sum[SUM_ENTROPY_CORRECT]) /
                                                             (double)count[COUNT_CORRECT]
                                                       : NAN;
    result->entropy_misclassified = misses > 0 ? exact_sum_value(wrong_entropy) / misses : NAN;
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
        bins_adaptive_position(result->samples, bins, b, &position[2 * b], &fraction[b]);
        position[2 * b + 1] = position[2 * b] + (fraction[b] > 0);
    }
    TRY(order_statistics(collective, pass->scores.signed_confidence, pass->scores.count, position,
                         2 * (bins + 1), pass->threads, value));
    for (int b = 0; b <= bins; ++b)
        edge[b] = bins_adaptive_edge(value[2 * b], value[2 * b + 1], fraction[b]);

    ExactSum confidence[CALIBRATION_MAX_BINS] = {{0}};
    int64_t tally[2 * CALIBRATION_MAX_BINS] = {0};
#pragma omp parallel num_threads(pass->threads)
    {
        ExactSum my_confidence[CALIBRATION_MAX_BINS] = {{0}};
        int64_t my_tally[2 * CALIBRATION_MAX_BINS] = {0};
#pragma omp for schedule(static) nowait
        for (int64_t row = 0; row < pass->scores.count; ++row) {
            const double score = pass->scores.signed_confidence[row];
            const int bin = bins_find_adaptive(edge, bins, fabs(score));
            if (bin < 0) continue;
            exact_sum_add(&my_confidence[bin], fabs(score));
            my_tally[2 * bin] += 1;
            my_tally[2 * bin + 1] += score > 0;
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
    result->ada_ece_left_out = result->samples;
    for (int b = 0; b < bins; ++b) {
        CalibrationBin *bin = &result->adaptive_bin[b];
        bin->lower = edge[b];
        bin->upper = edge[b + 1];
        bin->count = tally[2 * b];
        result->ada_ece_left_out -= bin->count;
        bin->confidence = mean_of(confidence[b], bin->count);
        bin->accuracy = bin->count > 0 ? (double)tally[2 * b + 1] / (double)bin->count : 0;
        result->ada_ece += fabs(gap_of(confidence[b], tally[2 * b + 1])) / (double)result->samples;
    }
    return OK;
}

bool calibration_has_ada_ece(const Calibration *measured)
{
    return measured->ada_ece_left_out <= measured->samples / 2;
}

/* ---- a pass ---- */

Status calibration_pass_begin(CalibrationPass *pass)
{
    memset(pass->sum, 0, sizeof pass->sum);
    memset(pass->count, 0, sizeof pass->count);
    memset(pass->class_sum, 0, (size_t)pass->padded * (size_t)pass->bins * sizeof *pass->class_sum);
    pass->large = (LargeSum){0};
    pass->largest_label = -1;
    pass->large_row = INT64_MAX;
    for (ScoreChunk *chunk = pass->chunks; chunk != NULL; chunk = chunk->next)
        chunk->used = 0;
    pass->chunk = pass->chunks;
    return pass->kernel->begin(pass);
}

Status calibration_pass_add(CalibrationPass *pass, const LogitRows *rows)
{
    double *score;
    if (rows->rows > pass->most_rows)
        return fail(STATUS_INTERNAL, "%s: a batch of %lld rows; at most %lld were announced", pass->name,
                    (long long)rows->rows, (long long)pass->most_rows);
    if (rows->rows == 0) return OK;
    TRY(room_for(pass, rows->rows, &score));
    TRY(pass->kernel->add(pass, rows, score));
    pass->chunk->used += rows->rows;
    return OK;
}

Status calibration_pass_collect(CalibrationPass *pass)
{
    TRY(pass->kernel->collect(pass));
    return gather_scores(pass);
}

Status calibration_pass_measure(CalibrationPass *pass, Collective *collective, Calibration *result)
{
    TRY(pass_reduce(pass, collective));
    if (pass->count[COUNT_SAMPLES] == 0) return fail(STATUS_INPUT, "%s: there are no samples", pass->name);
    conclude(pass, result);
    return measure_adaptive(collective, pass, result);
}

const CalibrationScores *calibration_pass_scores(const CalibrationPass *pass) { return &pass->scores; }

Status calibration_measure(Collective *collective, const Logits *logits, double temperature, int bins,
                           int threads, Calibration *result, CalibrationScores *scores)
{
    CalibrationPass pass = {.threads = threads};
    const CalibrationSetup setup = {.name = logits->name,
                                    .classes = logits->classes,
                                    .temperature = temperature,
                                    .bins = bins,
                                    .most_rows = logits->count};
    double *score;
    Status status;
    TRY_ELSE(done, pass_prepare(&pass, &calibration_cpu, &setup));
    TRY_ELSE(done, calibration_pass_begin(&pass));
    TRY_ELSE(done, memory_new(&score, (size_t)logits->count, sizeof *score, "confidences"));
    pass.scores = (CalibrationScores){.count = logits->count, .signed_confidence = score};
    TRY_ELSE(done, calibration_cpu_add_logits(&pass, logits, score));
    TRY_ELSE(done, pass.kernel->collect(&pass));
    TRY_ELSE(done, calibration_pass_measure(&pass, collective, result));
    if (scores != NULL) {
        *scores = pass.scores;
        pass.scores = (CalibrationScores){0};
    }
done:
    pass_release(&pass);
    return status;
}

Status calibration_measure_confidences(Collective *collective, const ConfidenceSet *set, int bins,
                                       int threads, Calibration *result, CalibrationScores *scores)
{
    CalibrationPass pass = {.threads = threads};
    const CalibrationSetup setup = {
        .name = set->name, .classes = 2, .temperature = 1, .bins = bins, .most_rows = set->count};
    double *score;
    Status status;
    TRY_ELSE(done, pass_prepare(&pass, &calibration_cpu, &setup));
    TRY_ELSE(done, calibration_pass_begin(&pass));
    TRY_ELSE(done, memory_new(&score, (size_t)set->count, sizeof *score, "confidences"));
    pass.scores = (CalibrationScores){.count = set->count, .signed_confidence = score};
    TRY_ELSE(done, calibration_cpu_add_confidences(&pass, set, score));
    TRY_ELSE(done, calibration_pass_measure(&pass, collective, result));
    result->classes = result->label_classes = 0;
    result->entropy_correct = result->entropy_misclassified = NAN;
    result->top5_error = result->nll = result->nll_correct = result->nll_misclassified = NAN;
    result->brier = result->mean_entropy = result->classwise_ece = result->classwise_ece_all = NAN;
    if (scores != NULL) {
        *scores = pass.scores;
        pass.scores = (CalibrationScores){0};
    }
done:
    pass_release(&pass);
    return status;
}

Status calibration_pass_open(Device *device, const CalibrationSetup *setup, CalibrationPass **out)
{
    static const CalibrationKernel *const kernels[DEVICE_KINDS] = {
        [DEVICE_CPU] = &calibration_cpu, [DEVICE_CUDA] = &calibration_cuda};
    CalibrationPass *pass;
    TRY(memory_new(&pass, 1, sizeof *pass, "calibration"));
    pass->device = device;
    pass->threads = device_threads(device);
    Status status = pass_prepare(pass, kernels[device_kind(device)], setup);
    if (status == OK)
        *out = pass;
    else
        calibration_pass_close(pass);
    return status;
}

void calibration_pass_close(CalibrationPass *pass)
{
    if (pass == NULL) return;
    pass_release(pass);
    free(pass);
}
