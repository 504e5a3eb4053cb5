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

Status groups_measure(World *world, Collective *collective, const double signed_confidence[],
                      const uint8_t group[], int64_t count, int groups, int bins, GroupMeasures measures[])
{
    double edge[CALIBRATION_MAX_BINS + 1];
    int64_t *sums;
    const int64_t cells = (int64_t)groups * bins * GROUP_SUMS;
    Status status = comm_agree(world, memory_new(&sums, (size_t)cells, sizeof *sums, "sums of groups"));
    if (status != OK) {
        free(sums);
        return status;
    }
    bins_edges(bins, edge);
    for (int64_t i = 0; i < count; ++i) {
        const double confidence = fabs(signed_confidence[i]);
        int64_t *bin = sums + ((int64_t)group[i] * bins + bins_find(edge, bins, confidence)) * GROUP_SUMS;
        bin[SUM_COUNT] += 1;
        bin[SUM_RIGHT] += signed_confidence[i] > 0;
        bin[SUM_CONFIDENCE_UNITS] += llrint(confidence * CONFIDENCE_UNIT);
    }
    status = counts_reduce(collective, sums, cells);
    for (int g = 0; g < groups && status == OK; ++g)
        measures[g] = measures_of(sums + (int64_t)g * bins * GROUP_SUMS, bins);
    free(sums);
    return status;
}
