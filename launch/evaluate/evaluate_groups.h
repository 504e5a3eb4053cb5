/* Measures of parts of a set whose logits were not kept: tokens by kind, place or frequency. */
#ifndef PLUMB_LAUNCH_EVALUATE_EVALUATE_GROUPS_H
#define PLUMB_LAUNCH_EVALUATE_EVALUATE_GROUPS_H

#include "comm/comm.h"
#include "engine/device/collective.h"
#include "launch/tasks/task.h"

#include <stdint.h>
#include <stdio.h>

enum { GROUP_KINDS_MOST = 4 };

typedef struct {
    int64_t samples;
    /* Of the group alone; the bins of ece are those of the whole set's, and nll may be infinite. */
    double error, mean_confidence, ece, nll;
} GroupMeasures;

/* This rank's samples, [count] each. */
typedef struct {
    int64_t count;
    const double *signed_confidence; /* negative where the prediction is wrong */
    const double *nll;
    const uint8_t *group; /* 0 .. groups - 1 */
} GroupedSamples;

/* measures [groups]. All ranks get the same bits, however they share the samples. Collective. */
CHECKED Status groups_measure(World *, Collective *, const GroupedSamples *, int groups, int bins,
                              GroupMeasures measures[]);

#endif
