#include "losses/calibration/ood.h"

#include "engine/base/memory.h"
#include "losses/calibration/calibration.h"
#include "losses/calibration/exact_sum.h"

#include <stdlib.h>
#include <string.h>

static int compare_scores(const void *a, const void *b)
{
    const double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

double auroc_of_scores(double *positive, int64_t positives, double *negative, int64_t negatives)
{
    qsort(positive, (size_t)positives, sizeof *positive, compare_scores);
    qsort(negative, (size_t)negatives, sizeof *negative, compare_scores);
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
