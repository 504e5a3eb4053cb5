/* Calibration errors over bins of several kinds, with and without the bias of few samples; the parts of the Brier score; and what a
 * calibrated network would show in a reliability diagram. All take a whole set and are not collective.
 *
 * Bins are (low, high], a probability of 0 in the first. equal_width: ceil(B p) - 1 in double precision. equal_mass: the sorted
 * p in parts as even as can be, the first ones longer by one; an edge half-way between neighbours, equal edges once, the last
 * one 1. discrete: one bin for each value. Empty bins are left out. */
#ifndef PLUMB_LOSSES_CALIBRATION_BINNED_ERRORS_H
#define PLUMB_LOSSES_CALIBRATION_BINNED_ERRORS_H

#include "engine/base/status.h"
#include "losses/calibration/calibration.h"

typedef enum { BINS_EQUAL_WIDTH, BINS_EQUAL_MASS, BINS_DISCRETE, BINS_SCHEMES } BinScheme;
extern const char *const bin_scheme_names[BINS_SCHEMES];

/* Probabilities of all classes, and labels. */
typedef struct {
    const double *p;      /* [count, classes] */
    const int64_t *label; /* [count] */
    int64_t count, classes;
} ProbabilitySet;

/* Of a bin with n_b samples, w = n_b / n, mean probability f and share of hits a (Kumar, Liang and Ma 2019):
 *   plug_in[p]      (sum of w |f - a|^p)^(1/p)
 *   debiased[1]     2 plug_in[1] - sum of w E|N(a, a (1 - a) / n_b) - f|, in closed form
 *   debiased[2]     sqrt(max(0, square)), square = sum of w ((f - a)^2 - a (1 - a) / (n_b - 1)), a bin of one sample counting 0
 * debiased[1] is NaN if some bin has a single sample, as its spread is not known. */
typedef struct {
    double plug_in[3], debiased[3], square; /* index: p, 1 or 2 */
} BinnedError;
/* Of the predictions: f is confidence, hits are right predictions. */
CHECKED Status binned_error_top(const ConfidenceSet *, BinScheme, int bins, BinnedError *);
/* Of each class against the rest: the mean over the classes of the p-th powers, each square clipped at 0 before, then the root.
 * `square` is the mean of the clipped ones. */
CHECKED Status binned_error_classes(const ProbabilitySet *, BinScheme, int bins, BinnedError *);

/* The total variation distance between outcomes and predictions over bins of the whole vector of probabilities, `bins` of equal
 * width in each dimension: sum over occupied bins of 1/2 |sum of (p - onehot)|_1 / n (Widmann, Lindsten and Zachariah 2019). */
CHECKED Status binned_error_joint(const ProbabilitySet *, int bins, double *error);

/* Stephenson, Coelho and Jolliffe (2008), over bins of equal width:
 *   brier = reliability - resolution + uncertainty + within_variance - within_covariance
 * exactly, and generalised_resolution = resolution - within_variance + within_covariance. */
typedef struct {
    double brier, reliability, resolution, uncertainty, within_variance, within_covariance,
        generalised_resolution;
} BrierParts;
CHECKED Status brier_parts_top(const ConfidenceSet *, int bins, BrierParts *);
/* Vectors of p and one-hot labels in bins of the top confidence, squares summed over the classes. */
CHECKED Status brier_parts_by_confidence(const ProbabilitySet *, int bins, BrierParts *);
/* Each class in bins of its own p, summed over the classes. */
CHECKED Status brier_parts_by_class(const ProbabilitySet *, int bins, BrierParts *);

/* Broecker and Smith (2007): forecasts are drawn again with replacement, and outcomes from them; quantile[i] is the share of
 * hits in a bin, at level[i], that a calibrated network would show. The exact law, without drawing: the count is
 * Binomial(total, count / total), and the hits are Binomial(that count, mean confidence of the bin); resamples without a sample
 * in the bin are left out. NaN of an empty bin. */
CHECKED Status consistency_quantiles(int64_t total, int64_t count, double confidence, int levels,
                                     const double *level, double *quantile);

#endif
