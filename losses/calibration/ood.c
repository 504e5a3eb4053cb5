#include "losses/calibration/ood.h"

#include "engine/base/memory.h"
#include "losses/calibration/calibration.h"
#include "losses/calibration/exact_sum.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static int compare_scores(const void *a, const void *b)
{
    const double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static void sort_scores(double *score, int64_t count)
{
    qsort(score, (size_t)count, sizeof *score, compare_scores);
}

double auroc_of_scores(double *positive, int64_t positives, double *negative, int64_t negatives)
{
    sort_scores(positive, positives);
    sort_scores(negative, negatives);
    /* Twice the number of pairs in the right order, ties once. */
    __int128 pairs = 0;
    int64_t below = 0, not_above = 0; /* negatives < score, and <= score */
    for (int64_t i = 0; i < positives; ++i) {
        while (below < negatives && negative[below] < positive[i])
            ++below;
        while (not_above < negatives && negative[not_above] <= positive[i])
            ++not_above;
        pairs += below + not_above;
    }
    return (double)pairs / (2.0 * (double)positives * (double)negatives);
}

/* ---- the interval ---- */

/* The variance over the samples of one side of the share of the other side that they beat (ties by half); both sorted. */
static double placement_variance(const double *score, int64_t count, const double *other, int64_t others)
{
    int64_t below = 0, not_above = 0;
    double sum = 0, squares = 0;
    /* About the middle, so that little is lost when most shares are near one value. */
    const double middle = count > 0 && others > 0 ? 0.5 : 0;
    for (int64_t i = 0; i < count; ++i) {
        while (below < others && other[below] < score[i])
            ++below;
        while (not_above < others && other[not_above] <= score[i])
            ++not_above;
        const double share = (double)(below + not_above) / (2.0 * (double)others) - middle;
        sum += share;
        squares += share * share;
    }
    const double variance = (squares - sum * sum / (double)count) / (double)(count - 1);
    return variance > 0 ? variance : 0;
}

Auroc auroc_with_interval(double *positive, int64_t positives, double *negative, int64_t negatives)
{
    static const double quantile = 1.6448536269514722; /* of the normal distribution, 0.95 */
    const double area = auroc_of_scores(positive, positives, negative, negatives);
    Auroc auroc = {area, NAN, NAN};
    if (positives < 2 || negatives < 2) return auroc;
    const double variance = placement_variance(positive, positives, negative, negatives) / (double)positives +
                            placement_variance(negative, negatives, positive, positives) / (double)negatives;
    auroc.lower = auroc.upper = area;
    if (area <= 0 || area >= 1) return auroc;
    const double centre = log(area / (1 - area)), width = quantile * sqrt(variance) / (area * (1 - area));
    auroc.lower = 1 / (1 + exp(width - centre));
    auroc.upper = 1 / (1 + exp(-width - centre));
    return auroc;
}

/* ---- the curve ---- */

static void add_point(RocCurve *curve, double false_positive, double true_positive)
{
    curve->false_positive[curve->count] = false_positive;
    curve->true_positive[curve->count++] = true_positive;
}

/* Walks down the thresholds: how many thresholds there are if `step` is 0; else keeps a point for each `step` of the length, which is
 * 2 in all (to the right and up). */
static int64_t walk_thresholds(const double *positive, int64_t positives, const double *negative,
                               int64_t negatives, double step, RocCurve *curve)
{
    int64_t p = positives, n = negatives, thresholds = 0;
    double kept = 0;
    while (p > 0 || n > 0) {
        double threshold = p > 0 ? positive[p - 1] : negative[n - 1];
        if (n > 0 && negative[n - 1] > threshold) threshold = negative[n - 1];
        while (p > 0 && positive[p - 1] >= threshold)
            --p;
        while (n > 0 && negative[n - 1] >= threshold)
            --n;
        ++thresholds;
        const double right = (double)(negatives - n) / (double)negatives,
                     up = (double)(positives - p) / (double)positives;
        if (curve == NULL || (right + up < kept + step && (p > 0 || n > 0))) continue;
        add_point(curve, right, up);
        kept = right + up;
    }
    return thresholds;
}

void roc_curve(double *positive, int64_t positives, double *negative, int64_t negatives, RocCurve *curve)
{
    enum { STEPS = ROC_MOST_POINTS - 2 }; /* beside the first point and the last */
    sort_scores(positive, positives);
    sort_scores(negative, negatives);
    curve->count = 0;
    add_point(curve, 0, 0);
    curve->whole = walk_thresholds(positive, positives, negative, negatives, 0, NULL) < ROC_MOST_POINTS;
    (void)walk_thresholds(positive, positives, negative, negatives, curve->whole ? 0 : 2.0 / STEPS, curve);
}

/* ---- sets ---- */

/* All ranks' scores of one set, [2][total]: confidences, then entropies. A rank fills its own places; the sum
 * with the zeros of the others is exact. */
static Status gather_scores(Collective *collective, const Logits *logits, double temperature, int threads,
                            double **scores)
{
    double *all;
    TRY(memory_new(&all, (size_t)logits->total * 2, sizeof *all, "scores"));
    Status status;
    TRY_ELSE(failed, calibration_row_scores(logits, temperature, threads, all + logits->first,
                                            all + logits->total + logits->first));
    TRY_ELSE(failed, collective_sum(collective, (Span){all, logits->total * 2, FLOAT64}, NULL));
    TRY_ELSE(failed, collective_join(collective, NULL));
    *scores = all;
    return OK;
failed:
    free(all);
    return status;
}

Status ood_auroc(Collective *collective, const Logits *in, const Logits *out, double temperature, int threads,
                 OodScores *result)
{
    double *inside = NULL, *outside = NULL;
    Status status;
    TRY_ELSE(done, gather_scores(collective, in, temperature, threads, &inside));
    TRY_ELSE(done, gather_scores(collective, out, temperature, threads, &outside));
    result->auroc_confidence = auroc_of_scores(inside, in->total, outside, out->total);
    result->auroc_entropy = auroc_of_scores(outside + out->total, out->total, inside + in->total, in->total);
done:
    free(inside);
    free(outside);
    return status;
}

/* Whose scores are higher is the positive class. */
static void measure_scores(double *positive, int64_t positives, double *negative, int64_t negatives,
                           Auroc *auroc, RocCurve *curve)
{
    *auroc = auroc_with_interval(positive, positives, negative, negatives);
    roc_curve(positive, positives, negative, negatives, curve);
}

Status ood_measure(Collective *collective, const Logits *in, const Logits *out, double temperature,
                   int threads, OodMeasure *measure)
{
    double *inside = NULL, *outside = NULL;
    Status status;
    TRY_ELSE(done, gather_scores(collective, in, temperature, threads, &inside));
    TRY_ELSE(done, gather_scores(collective, out, temperature, threads, &outside));
    measure_scores(inside, in->total, outside, out->total, &measure->confidence, &measure->confidence_curve);
    measure_scores(outside + out->total, out->total, inside + in->total, in->total, &measure->entropy,
                   &measure->entropy_curve);
done:
    free(inside);
    free(outside);
    return status;
}
