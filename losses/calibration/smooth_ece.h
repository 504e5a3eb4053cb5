/* SmoothECE (Blasiok and Nakkiran 2023): the calibration error of the top label without bins, and the curve that goes with it.
 *
 * r_i = confidence - correct, K(t, f) the Gaussian kernel of bandwidth s reflected at 0 and 1 (the sum over all mirror images):
 *
 *     smECE(s) = integral over t in [0, 1] of |1/n sum_i r_i K(t, f_i)|, and SmoothECE = smECE(s) at the s where smECE(s) = s.
 *
 * The kernel is evaluated as its cosine series, in which mirror images need no care; the integral has an error below 1e-6.
 *
 * The package relplot (1.0.3) makes this discrete: samples are shared between the two nearest of G = max(2000, round(20 / s)) / 2
 * + 1 points, the kernel is cut at +-1/2, s is a multiple of 1/1024, and what lies on 0 and 1 counts by half, which matters
 * where many confidences are close to 1. smooth_ece_relplot is that, for figures made with the package. */
#ifndef PLUMB_LOSSES_CALIBRATION_SMOOTH_ECE_H
#define PLUMB_LOSSES_CALIBRATION_SMOOTH_ECE_H

#include "engine/base/status.h"
#include "losses/calibration/calibration.h"

/* All of these take a whole set, and are not collective. The same bits at any number of threads (0: as OpenMP says). */

typedef struct {
    double value, bandwidth;
} SmoothEce;

/* A bandwidth below SMOOTH_ECE_LEAST is not searched for: an error as small as that is one. */
#define SMOOTH_ECE_LEAST 0x1p-13
CHECKED Status smooth_ece(const ConfidenceSet *, int threads, SmoothEce *);
CHECKED Status smooth_ece_at(const ConfidenceSet *, double bandwidth, int threads, double *value);
CHECKED Status smooth_ece_relplot(const ConfidenceSet *, SmoothEce *);
CHECKED Status smooth_ece_relplot_at(const ConfidenceSet *, double bandwidth, double *value);

/* accuracy[p] = sum_i y_i K(at[p], f_i) / sum_i K(at[p], f_i), NaN where no sample is near; density[p] = 1/n sum_i K. */
CHECKED Status smooth_curve(const ConfidenceSet *, double bandwidth, int points, const double *at,
                            double *accuracy, double *density);
/* The same as relplot draws it without bands. */
CHECKED Status smooth_curve_relplot(const ConfidenceSet *, double bandwidth, int points, const double *at,
                                    double *accuracy, double *density);

/* Between which values the curve of a resample of the samples lies, pointwise: from (1 - level) / 2 to (1 + level) / 2, the
 * bandwidth held fixed. lower and upper [points]; NaN where most resamples have no sample near. */
enum { SMOOTH_MOST_POINTS = 512 };
typedef struct {
    int64_t replicates;
    uint64_t seed;
    double level;
    bool relplot; /* what lies on 0 and 1 counts by half */
    int threads;
} SmoothBandOptions;
CHECKED Status smooth_band(const ConfidenceSet *, double bandwidth, int points, const double *at,
                           const SmoothBandOptions *, double *lower, double *upper);

#endif
