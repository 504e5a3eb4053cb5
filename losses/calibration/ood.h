/* Telling out-of-distribution inputs by confidence and by entropy. */
#ifndef PLUMB_LOSSES_CALIBRATION_OOD_H
#define PLUMB_LOSSES_CALIBRATION_OOD_H

#include "engine/base/status.h"
#include "engine/device/collective.h"
#include "losses/calibration/logits.h"

#include <stdbool.h>

typedef struct {
    double auroc_entropy;    /* out of distribution is the positive class */
    double auroc_confidence; /* in distribution is the positive class */
} OodScores;

/* Area under the ROC curve at temperature 1: the probability that a positive sample scores above a negative
 * one, ties counting one half; exact, from the pairs' ranks. Labels are not looked at. The scores (16 bytes a
 * sample) are gathered. Collective. */
CHECKED Status ood_auroc(Collective *, const Logits *in, const Logits *out, double temperature, int threads,
                         OodScores *);

/* Area under the ROC curve with its 90 % interval: the normal one of its logit, with the variance of DeLong, DeLong and
 * Clarke-Pearson (1988), which counts ties as the area does. Ends are NaN where a class has one sample only, and equal the area where
 * that is 0 or 1: then the samples leave no variance. */
typedef struct {
    double area, lower, upper;
} Auroc;

/* Points of the ROC curve in order of falling thresholds, from (0,0) to (1,1): all of them, or, where there are more, those that
 * part its length about evenly. */
enum { ROC_MOST_POINTS = 201 };
typedef struct {
    int count;
    bool whole;                                                             /* all points */
    double false_positive[ROC_MOST_POINTS], true_positive[ROC_MOST_POINTS]; /* rates */
} RocCurve;

/* By entropy and by confidence, positive as above. */
typedef struct {
    Auroc entropy, confidence;
    RocCurve entropy_curve, confidence_curve;
} OodMeasure;

/* As ood_auroc. The same to the bit for any number of ranks. Collective. */
CHECKED Status ood_measure(Collective *, const Logits *in, const Logits *out, double temperature, int threads,
                           OodMeasure *);

/* From scores, [positives] and [negatives], both sorted in place. */
Auroc auroc_with_interval(double *positive, int64_t positives, double *negative, int64_t negatives);
void roc_curve(double *positive, int64_t positives, double *negative, int64_t negatives, RocCurve *);

/* The same from scores: [positives] and [negatives], both sorted in place. */
double auroc_of_scores(double *positive, int64_t positives, double *negative, int64_t negatives);

#endif
