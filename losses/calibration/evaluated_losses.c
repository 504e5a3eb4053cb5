#include "losses/calibration/evaluated_losses.h"

#include "engine/base/memory.h"
#include "losses/calibration/exact_sum.h"
#include "losses/calibration/shares.h"
#include "losses/calibration/threads.h"
#include "losses/gamma.h"
#include "losses/mmce.h"
#include "losses/sample_loss.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>

enum { MEANS = EVALUATED_LOSSES - 2, MMCE = MEANS, MMCE_WEIGHTED };

const char *const evaluated_loss_names[EVALUATED_LOSSES] = {
    "cross_entropy", "label_smoothing_0.05", "brier", "focal_1", "focal_2", "focal_3", "flsd_53", "flsd_532",
    "mmce",          "mmce_weighted"};

static const double label_share = 0.05, kernel_width = 0.4;
static const GammaPolicy flsd_53 = {.gamma = {5, 3}, .limit = {0.2}, .limits = 1};
static const GammaPolicy flsd_532 = {.gamma = {5, 3, 2}, .limit = {0.2, 0.5}, .limits = 2};

static double by_policy(const Sample *sample, const GammaPolicy *policy)
{
    return sample_focal(sample, gamma_choose(policy, sample->probability, 0)).value;
}

typedef struct {
    ExactSum sum[MEANS];
    LargeSum large[MEANS]; /* what does not fit the sums */
    int64_t large_count, large_row;
} Sums;

/* The sum over classes has an infinite term where the label's class or another one is masked. */
static double smoothed(const Sample *sample)
{
    if (isinf(sample->negative_log)) return INFINITY;
    return sample_label_smoothing(sample, smoothing_paper(label_share, sample->classes)).value;
}

/* In the order of the names. */
static void add_sample(const Sample *sample, int64_t row, Sums *sums)
{
    const double values[MEANS] = {
        sample_cross_entropy(sample).value, smoothed(sample),
        sample_brier(sample).value,         sample_focal(sample, 1).value,
        sample_focal(sample, 2).value,      sample_focal(sample, 3).value,
        by_policy(sample, &flsd_53),        by_policy(sample, &flsd_532),
    };
    bool large = false;
    for (int i = 0; i < MEANS; ++i) {
        if (large_sum_takes(values[i]))
            large_sum_add(&sums->large[i], values[i]);
        else
            exact_sum_add(&sums->sum[i], values[i]);
        large = large || large_sum_takes(values[i]);
    }
    if (!large) return;
    sums->large_count += 1;
    if (row < sums->large_row) sums->large_row = row;
}

static void merge(Sums *sums, const Sums *more)
{
    for (int i = 0; i < MEANS; ++i) {
        sums->sum[i].units += more->sum[i].units;
        large_sum_merge(&sums->large[i], &more->large[i]);
    }
    sums->large_count += more->large_count;
    if (more->large_row < sums->large_row) sums->large_row = more->large_row;
}

static Status reduce(Collective *collective, Sums *sums)
{
    TRY(exact_sum_reduce(collective, sums->sum, MEANS));
    TRY(large_sum_reduce(collective, sums->large, MEANS));
    TRY(counts_reduce(collective, &sums->large_count, 1));
    return smallest_reduce(collective, &sums->large_row);
}

static void load_row(const Logits *logits, int64_t n, double row[])
{
    for (int64_t k = 0; k < logits->classes; ++k)
        row[k] = logits_value(logits, n, k);
}

/* Sums over this rank's samples, and for each its confidence, negative if it is wrong: all that MMCE needs.
 */
static Status measure(const Logits *logits, int threads, Sums *sums, double signed_confidence[])
{
    const int team = team_size(threads, logits->count);
    enum { DOUBLES_LANES = 8 }; /* so that no two threads share a cache line */
    const size_t padded = ((size_t)logits->classes + DOUBLES_LANES - 1) / DOUBLES_LANES * DOUBLES_LANES;
    double *rows;
    TRY(memory_new(&rows, (size_t)team * padded, sizeof *rows, "rows of logits"));
#pragma omp parallel num_threads(team)
    {
        double *row = rows + (size_t)omp_get_thread_num() * padded;
        Sums mine = {.large_row = INT64_MAX};
#pragma omp for schedule(static)
        for (int64_t n = 0; n < logits->count; ++n) {
            load_row(logits, n, row);
            const Sample sample = sample_softmax(row, logits->classes, logits_label(logits, n));
            add_sample(&sample, logits_row_number(logits, n), &mine);
            signed_confidence[n] = sample.correct ? sample.confidence : -sample.confidence;
        }
#pragma omp critical(evaluated_losses)
        merge(sums, &mine);
    }
    free(rows);
    return OK;
}

static Status gather_confidences(Collective *collective, double *part, double *all, int64_t share)
{
    TRY(collective_gather(collective, (Span){part, share, FLOAT64},
                          (Span){all, share * collective->size, FLOAT64}, NULL));
    return collective_join(collective, NULL);
}

/* all [count]: signed confidences, 0 for what pads a rank's part. */
static Status couple(const double all[], int64_t count, double value[EVALUATED_LOSSES])
{
    Judged *judged = NULL;
    void *workspace = NULL;
    Status status;
    TRY_ELSE(done, memory_new(&judged, (size_t)count, sizeof *judged, "confidences"));
    TRY_ELSE(done, memory_new(&workspace, mmce_workspace(count), 1, "sorting confidences"));
    for (int64_t i = 0; i < count; ++i)
        judged[i] = (Judged){
            .confidence = fabs(all[i]), .correct = all[i] > 0 ? 1 : 0, .weight = all[i] != 0 ? 1 : 0};
    mmce_both(judged, count, kernel_width, workspace, &value[MMCE], &value[MMCE_WEIGHTED]);
done:
    free(workspace);
    free(judged);
    return status;
}

Status losses_evaluate(Collective *collective, const Logits *logits, int threads, EvaluatedLosses *result)
{
    Sums sums = {.large_row = INT64_MAX};
    double *part = NULL, *all = NULL;
    Shares shares;
    Status status;
    TRY_ELSE(done, shares_find(collective, logits->count, &shares));
    const int64_t share = shares.largest; /* the size of a gather's parts */
    TRY_ELSE(done, memory_new(&part, (size_t)share, sizeof *part, "confidences"));
    TRY_ELSE(done, memory_new(&all, (size_t)share * (size_t)collective->size, sizeof *all, "confidences"));
    TRY_ELSE(done, measure(logits, threads, &sums, part));
    TRY_ELSE(done, reduce(collective, &sums));
    for (int i = 0; i < MEANS; ++i)
        result->value[i] = large_sum_mean(sums.sum[i], &sums.large[i], (double)logits->total);
    result->large_count = sums.large_count;
    result->large_row = sums.large_count > 0 ? sums.large_row : -1;
    TRY_ELSE(done, gather_confidences(collective, part, all, share));
    TRY_ELSE(done, couple(all, share * collective->size, result->value));
done:
    free(all);
    free(part);
    return status;
}
