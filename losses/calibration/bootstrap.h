/* Confidence intervals by the bootstrap: N samples are drawn N times with replacement, the metric is computed
 * of each such resample, and the interval is between percentiles of the replicates (Efron). */
#ifndef PLUMB_LOSSES_CALIBRATION_BOOTSTRAP_H
#define PLUMB_LOSSES_CALIBRATION_BOOTSTRAP_H

#include "engine/base/status.h"
#include "engine/device/collective.h"
#include "losses/calibration/calibration.h"

#include <stdint.h>

typedef struct {
    double lower, upper;
} Interval;

typedef struct {
    Interval ece, ada_ece, classwise_ece;
} BootstrapIntervals;

typedef struct {
    int64_t replicates; /* at least 1 */
    uint64_t seed;      /* draw d of replicate r is a function of (seed, r, d) alone */
    double level;       /* 0.9: from the 5th to the 95th percentile, linearly interpolated */
    int bins;
} BootstrapOptions;

/* measured and scores: what calibration_measure gave for the same logits and temperature. Classwise-ECE is
 * over the classes of the whole set (measured->label_classes). Replicates are spread over ranks and threads;
 * every rank gets the samples' confidences, hits and probabilities (9 + 5 classes bytes a sample) and the
 * same intervals, whose bits do not depend on the number of ranks. Collective. */
CHECKED Status bootstrap_intervals(Collective *, const Logits *, double temperature,
                                   const Calibration *measured, const CalibrationScores *scores,
                                   const BootstrapOptions *, int threads, BootstrapIntervals *);

#endif
