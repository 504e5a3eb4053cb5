#include "launch/evaluate/evaluate_groups.h"

#include "engine/base/memory.h"
#include "losses/calibration/bins.h"
#include "losses/calibration/calibration.h"
#include "losses/calibration/exact_sum.h"

#include <math.h>
#include <stdlib.h>

/* Confidences are summed in units of 2^-32: exact, so that no order of the samples matters. */
#define CONFIDENCE_UNIT 0x1p32

/* Of a group and bin. */
enum { SUM_COUNT, SUM_RIGHT, SUM_CONFIDENCE_UNITS, GROUP_SUMS };

static GroupMeasures measures_of(const int64_t *sums, int bins)
{
    int64_t samples = 0, right = 0, confidence = 0;
    double gaps = 0;
    for (int b = 0; b < bins; ++b) {
        const int64_t *bin = sums + (int64_t)b * GROUP_SUMS;
        samples += bin[SUM_COUNT];
        right += bin[SUM_RIGHT];
        confidence += bin[SUM_CONFIDENCE_UNITS];
        gaps += fabs((double)bin[SUM_CONFIDENCE_UNITS] / CONFIDENCE_UNIT - (double)bin[SUM_RIGHT]);
    }
    if (samples == 0) return (GroupMeasures){.error = NAN, .mean_confidence = NAN, .ece = NAN};
    const double n = (double)samples;
    return (GroupMeasures){.samples = samples,
                           .error = 1 - (double)right / n,
                           .mean_confidence = (double)confidence / CONFIDENCE_UNIT / n,
                           .ece = gaps / n};
}

typedef struct {
    int64_t *count;  /* [groups, bins, GROUP_SUMS] */
    ExactSum *nll;   /* [groups] */
    int64_t *beyond; /* [groups] samples whose nll is no number for such a sum, infinite for one */
} Sums;

static void add_sample(const GroupedSamples *samples, int64_t i, const double edge[], int bins, Sums *sums)
{
    const double confidence = fabs(samples->signed_confidence[i]), nll = samples->nll[i];
    const int64_t group = samples->group[i];
    int64_t *bin = sums->count + (group * bins + bins_find(edge, bins, confidence)) * GROUP_SUMS;
    bin[SUM_COUNT] += 1;
    bin[SUM_RIGHT] += samples->signed_confidence[i] > 0;
    bin[SUM_CONFIDENCE_UNITS] += llrint(confidence * CONFIDENCE_UNIT);
    if (fabs(nll) <= EXACT_SUM_LARGEST)
        exact_sum_add(&sums->nll[group], nll);
    else
        sums->beyond[group] += 1;
}

static Status make_sums(int groups, int bins, Sums *sums)
{
    const size_t cells = (size_t)groups * (size_t)bins * GROUP_SUMS;
    TRY(memory_new(&sums->count, cells, sizeof *sums->count, "sums of groups"));
    TRY(memory_new(&sums->nll, (size_t)groups, sizeof *sums->nll, "sums of groups"));
    return memory_new(&sums->beyond, (size_t)groups, sizeof *sums->beyond, "sums of groups");
}

Status groups_measure(World *world, Collective *collective, const GroupedSamples *samples, int groups,
                      int bins, GroupMeasures measures[])
{
    double edge[CALIBRATION_MAX_BINS + 1];
    Sums sums = {.count = NULL};
    Status status;
    TRY_ELSE(done, comm_agree(world, make_sums(groups, bins, &sums)));
    bins_edges(bins, edge);
    for (int64_t i = 0; i < samples->count; ++i)
        add_sample(samples, i, edge, bins, &sums);
    TRY_ELSE(done, counts_reduce(collective, sums.count, (int64_t)groups * bins * GROUP_SUMS));
    TRY_ELSE(done, counts_reduce(collective, sums.beyond, groups));
    TRY_ELSE(done, exact_sum_reduce(collective, sums.nll, groups));
    for (int g = 0; g < groups; ++g) {
        measures[g] = measures_of(sums.count + (int64_t)g * bins * GROUP_SUMS, bins);
        measures[g].nll =
            sums.beyond[g] > 0 ? INFINITY : exact_sum_value(sums.nll[g]) / (double)measures[g].samples;
    }
done:
    free(sums.count);
    free(sums.nll);
    free(sums.beyond);
    return status;
}
