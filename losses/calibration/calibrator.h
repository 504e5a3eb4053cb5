/* Recalibration beyond the grid of temperatures: maps from a network's outputs to probabilities, fitted on a validation set.
 * x is a row of K logits (of probabilities their logarithms), p = softmax(x), y the label; means are over the samples.
 *
 *   temperature_scaling  softmax(w x), w = 1/T > 0 without a grid.
 *   vector_scaling       softmax(w * x + b), K weights and K biases: the least mean NLL, no penalty. On logits and on ln p
 *                        these are two models (`on`): a row's common term is multiplied by each class' own weight.
 *   matrix_scaling       softmax(W x + b), W free, K x K, with ODIR: mean NLL + lambda / (K (K - 1)) sum_{i != j} W_ij^2
 *                        + mu / K sum_i b_i^2.
 *   dirichlet            the same on ln p, which is the Dirichlet map; lambda = mu = 0 unless told.
 *   beta                 of two classes: logit = a ln p_1 - b ln p_0 + c, a >= 0, b >= 0, the least mean NLL under these bounds.
 *   isotonic             class by class against the rest: equal p pooled, adjacent violators pooled, linear between the ends of
 *                        the blocks and constant outside them.
 *   histogram_binning    class by class: the share of the class among the validation rows in the bin of p. Bins are (low, high],
 *                        p = 0 is in the first, an empty bin has its centre. equal_width: edges b/B. equal_mass: the sorted p
 *                        in parts as even as can be, the first ones longer by one; an edge lies half-way between
 *                        neighbours, equal edges are one, the last is 1.
 *
 * Rows of the last two are divided by their sum; a row of zeros becomes 1/K. A probability may become exactly 0, and the NLL
 * infinite. Where a class is masked, or has probability 0, ln p is that of the smallest normal number of the type in the file
 * (float32: -87.3, float64: -708.4), and a logit as much below the row's largest.
 *
 * A class that the validation set lacks, or a set that a map separates, leaves some fits without a minimiser: they end close to the
 * infimum, with finite parameters (`missing`, `gap`). */
#ifndef PLUMB_LOSSES_CALIBRATION_CALIBRATOR_H
#define PLUMB_LOSSES_CALIBRATION_CALIBRATOR_H

#include "engine/base/status.h"
#include "engine/device/collective.h"
#include "losses/calibration/logits.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum {
    CALIBRATOR_TEMPERATURE,
    CALIBRATOR_VECTOR,
    CALIBRATOR_MATRIX,
    CALIBRATOR_DIRICHLET,
    CALIBRATOR_BETA,
    CALIBRATOR_ISOTONIC,
    CALIBRATOR_HISTOGRAM,
    CALIBRATOR_METHODS
} CalibratorMethod;

typedef struct {
    CalibratorMethod method;
    bool on_log_probabilities; /* x is ln p, also of logits; given for vector_scaling and matrix_scaling */
    double lambda, mu;         /* of ODIR */
    int bins;                  /* of histogram_binning */
    bool equal_mass;
} CalibratorSettings;

/* "NAME[:KEY=VALUE...]", as in "matrix_scaling:lambda=10:mu=1", "vector_scaling:on=log_probabilities" or
 * "histogram_binning:bins=20:scheme=equal_mass". STATUS_USAGE says what is known. */
CHECKED Status calibrator_settings_parse(const char *text, CalibratorSettings *);
const char *calibrator_name(CalibratorMethod); /* "vector_scaling" */

/* A function of p: of isotonic maps the points (x, y) with lines between them, of histograms the upper edges x of the bins and
 * their values y. x ascends. */
typedef struct {
    int64_t count;
    double *x, *y;
} CalibratorMap;

typedef struct {
    CalibratorSettings settings;
    int64_t classes;
    double *weight;     /* w: [1], [K], [K,K], or a and b; NULL for maps */
    double *bias;       /* b: [K], or c; NULL where there is none */
    CalibratorMap *map; /* [classes]; NULL: there are none */
    /* Of the fit: */
    int64_t samples;
    double objective; /* NaN for maps */
    double gap;       /* an estimate of how far that is above the least value */
    bool finished;    /* the gap is below 1e-7 */
    int64_t missing,
        first_missing; /* classes without a validation sample, and the first of them; -1 without any */
} Calibrator;

/* Fits to this rank's rows as if they were all there is: a set shared among ranks is gathered first. Checked logits only.
 * Deterministic at any number of threads. Not collective. Release with calibrator_free, also after an error. */
CHECKED Status calibrator_fit(const CalibratorSettings *, const Logits *, int threads, Calibrator *);
void calibrator_free(Calibrator *);

/* Rank 0 fits to the rows of all ranks, which are gathered (8 bytes a logit on each rank), and every rank gets the same.
 * Collective. */
CHECKED Status calibrator_fit_shared(Collective *, const CalibratorSettings *, const Logits *, int threads,
                                     Calibrator *);

/* STATUS_INPUT unless it is for so many classes: those of `what`. path: the calibrator's file. */
CHECKED Status calibrator_check_classes(const Calibrator *, const char *path, int64_t classes,
                                        const char *what);

/* probability [count, classes] of this rank's rows. STATUS_INPUT if the set has another number of classes, or has probabilities
 * where the calibrator wants logits. */
CHECKED Status calibrator_apply(const Calibrator *, const Logits *, int threads, double *probability);

/* The probabilities themselves, at a temperature, as calibration_measure has them. Not collective. */
CHECKED Status logits_probabilities(const Logits *, double temperature, int threads, double *probability);

/* A JSON file, with a version; `name` for messages. A reader checks all it reads. */
CHECKED Status calibrator_write(const Calibrator *, char **text); /* released with free() */
CHECKED Status calibrator_parse(const char *name, const char *text, Calibrator *);
CHECKED Status calibrator_read(const char *path, Calibrator *);

#endif
