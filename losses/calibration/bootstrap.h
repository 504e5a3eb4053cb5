/* Confidence intervals by the bootstrap: N samples are drawn N times with replacement, the metric is computed
 * of each such resample, and the interval is between percentiles of the replicates (Efron).
 *
 * Where that is too much work (BOOTSTRAP_MOST_WORK) or too much memory, groups of samples are drawn instead:
 * BOOTSTRAP_GROUPS groups of equal size, to which samples belong at random. What a metric is made of are sums over
 * samples; a sum over resampled groups has the same mean as over resampled samples, and a variance whose own relative
 * error is sqrt(2 / groups), 2.2 %, so an interval's width is good to about 1 %: less than what 1000 resamples leave open
 * (about 5 %). Each metric is computed of such a resample as of any other, AdaECE with the resample's own edges. The work
 * is one pass over the logits, whatever the number of resamples, and a product of matrices.
 *
 * Memory of every rank: 16 bytes a sample of all ranks; by samples 1 more and, for Classwise-ECE, 5 a sample and class,
 * and 32 a sample with each thread; by groups 12 more and 32 MiB, and 16 a sample of this rank. */
#ifndef PLUMB_LOSSES_CALIBRATION_BOOTSTRAP_H
#define PLUMB_LOSSES_CALIBRATION_BOOTSTRAP_H

#include "engine/base/status.h"
#include "engine/device/collective.h"
#include "losses/calibration/calibration.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    BOOTSTRAP_GROUPS = 4096,
    BOOTSTRAP_MOST_CLASSES = 2000 /* up to which Classwise-ECE gets an interval unless told otherwise */
};
#define BOOTSTRAP_MOST_WORK 1e10     /* samples x resamples x (classes + 32) by samples */
#define BOOTSTRAP_MOST_MEMORY 0x1p30 /* bytes of probabilities by samples */

typedef struct {
    double lower, upper;
} Interval;

typedef struct {
    Interval ece, ada_ece, classwise_ece;
    bool has_classwise;
    int64_t groups; /* that were drawn; 0: samples were */
    double bytes;   /* of every rank, but for what threads and its own samples need */
} BootstrapIntervals;

typedef enum { BOOTSTRAP_AS_FITS, BOOTSTRAP_NO, BOOTSTRAP_YES } BootstrapChoice;

typedef struct {
    int64_t replicates; /* at least 1 */
    uint64_t seed;      /* draw d of replicate r is a function of (seed, r, d) alone */
    double level;       /* 0.9: from the 5th to the 95th percentile, linearly interpolated */
    int bins;
    BootstrapChoice classwise; /* an interval of Classwise-ECE: as it fits is up to BOOTSTRAP_MOST_CLASSES */
    BootstrapChoice by_groups;
    /* Samples that belong together, such as the tokens of a sentence, are drawn together: cluster[i] (0 .. clusters - 1
     * over all ranks) of this rank's sample i. NULL: each sample for itself. Up to BOOTSTRAP_GROUPS clusters each are
     * drawn; of more, groups of them. */
    const int32_t *cluster;
    int64_t clusters;
    /* Called now and then with the share that is done, by one thread at a time; NULL: not. */
    void (*progress)(void *context, double done);
    void *context;
} BootstrapOptions;

/* measured and scores: what calibration_measure gave for the same logits and temperature. Classwise-ECE is
 * over the classes of the whole set (measured->label_classes). Replicates are spread over ranks and threads;
 * every rank gets the same intervals, whose bits do not depend on the number of ranks. Collective.
 * logits: NULL where they were not kept (calibration_pass_scores): no interval of Classwise-ECE, and samples are numbered
 * by their confidence. */
CHECKED Status bootstrap_intervals(Collective *, const Logits *logits, double temperature,
                                   const Calibration *measured, const CalibrationScores *scores,
                                   const BootstrapOptions *, int threads, BootstrapIntervals *);

#endif
