/* What is recorded of the training split while training: one run of the network over it, in evaluation mode and without
 * augmentation, from which all is taken that is wanted at the moment. */
#ifndef PLUMB_LAUNCH_TRAIN_TRAINING_PASS_H
#define PLUMB_LAUNCH_TRAIN_TRAINING_PASS_H

#include "launch/train/session.h"
#include "losses/calibration/norm_sums.h"

/* Figure A.1's. */
enum { TRAIN_RELIABILITY_BINS = 25 };

typedef struct {
    bool calibration; /* as of the other splits */
    bool norms;       /* the means of the norms of features and logits */
    bool gradients;   /* the sizes of the samples' gradients */
    bool reliability; /* calibration in TRAIN_RELIABILITY_BINS bins */
} TrainingWishes;

/* What the config wants. evaluated: the other splits are measured at this moment. epoch: the one that has ended, counted from 1;
 * 0: none has. */
TrainingWishes training_wishes(const Experiment *, bool evaluated, int64_t epoch);
bool training_wishes_any(const TrainingWishes *);
/* Will the config want any of it before training ends, with so many steps an epoch? */
bool training_wishes_ever(const Experiment *, int64_t steps_an_epoch);

typedef struct {
    TrainingWishes has;
    Calibration calibration, reliability;
    NormSums norms; /* over all ranks */
} TrainingMeasures;

/* Of the session's feed for the training split as evaluation sees it. All memory of the device is allocated here. */
CHECKED Status training_pass_open(Session *, TrainingPass **);
void training_pass_close(TrainingPass *); /* NULL is allowed */

/* Measures what is wished for with the network as it is. epoch: for losses whose gamma depends on it, counted from 0. Collective. */
CHECKED Status training_pass_measure(Session *, const TrainingWishes *, int64_t epoch, TrainingMeasures *);

#endif
