/* Telling out-of-distribution inputs by confidence and by entropy. */
#ifndef PLUMB_LOSSES_CALIBRATION_OOD_H
#define PLUMB_LOSSES_CALIBRATION_OOD_H

#include "engine/base/status.h"
#include "engine/device/collective.h"
#include "losses/calibration/logits.h"

typedef struct {
    double auroc_entropy;    /* out of distribution is the positive class */
    double auroc_confidence; /* in distribution is the positive class */
} OodScores;

/* Area under the ROC curve at temperature 1: the probability that a positive sample scores above a negative
 * one, ties counting one half; exact, from the pairs' ranks. Labels are not looked at. The scores (16 bytes a
 * sample) are gathered. Collective. */
CHECKED Status ood_auroc(Collective *, const Logits *in, const Logits *out, double temperature, int threads,
                         OodScores *);

/* The same from scores: [positives] and [negatives], both sorted in place. */
double auroc_of_scores(double *positive, int64_t positives, double *negative, int64_t negatives);

#endif
