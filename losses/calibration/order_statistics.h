/* Exact order statistics of numbers that are spread over ranks, without gathering or sorting them. */
#ifndef PLUMB_LOSSES_CALIBRATION_ORDER_STATISTICS_H
#define PLUMB_LOSSES_CALIBRATION_ORDER_STATISTICS_H

#include "engine/base/status.h"
#include "engine/device/collective.h"

#include <stdint.h>

enum { ORDER_STATISTICS_MAX = 512 };

/* out[i] = the magnitude at position[i] (from 0) of all ranks' numbers in ascending order of magnitude. Numbers are
 * not NaN. position: [positions], in any order, below the global count, the same on all ranks; at most
 * ORDER_STATISTICS_MAX. Eight sums over ranks of at most 256 counts a distinct position; memory does not grow
 * with the count. Collective. threads: 0 means as OpenMP says. */
CHECKED Status order_statistics(Collective *, const double *numbers, int64_t count, const int64_t *position,
                                int positions, int threads, double *out);

#endif
