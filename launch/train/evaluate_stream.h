/* Evaluation of a network whose logits are too many to be kept: those of tokens over a vocabulary. */
#ifndef PLUMB_LAUNCH_TRAIN_EVALUATE_STREAM_H
#define PLUMB_LAUNCH_TRAIN_EVALUATE_STREAM_H

#include "launch/evaluate/evaluate.h"
#include "launch/train/session.h"

/* What evaluate_logits measures, but the losses, of every row of the split that has a weight (of translation: every real
 * target token given the true ones before it). The validation split is run once for the temperatures, the split itself
 * once. Intervals are by resampling what rows belong to (sentences). Collective. */
CHECKED Status evaluate_stream(Session *, Split, const EvaluateOptions *, EvaluationResult *);
/* STATUS_UNSUPPORTED for what needs logits that are kept. */
CHECKED Status evaluate_stream_check(const Task *, const EvaluateOptions *);

#endif
