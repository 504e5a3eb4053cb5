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
    double error, mean_confidence, ece; /* of the group alone; its bins are those of the whole set's ece */
} GroupMeasures;

/* signed_confidence [count]: of this rank's samples, negative where the prediction is wrong; group [count]: 0 .. groups - 1.
 * measures [groups]. All ranks get the same bits, however they share the samples. Collective. */
CHECKED Status groups_measure(World *, Collective *, const double signed_confidence[], const uint8_t group[],
                              int64_t count, int groups, int bins, GroupMeasures measures[]);

#endif
