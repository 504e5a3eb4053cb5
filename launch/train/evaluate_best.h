/* Early stopping in hindsight (the paper's Table J.1): the models that were the best on the validation split by the measures of
 * checkpoint.best, measured at the end of training. */
#ifndef PLUMB_LAUNCH_TRAIN_EVALUATE_BEST_H
#define PLUMB_LAUNCH_TRAIN_EVALUATE_BEST_H

#include "launch/evaluate/evaluate.h"
#include "launch/runs/run_folder.h"
#include "launch/train/session.h"

/* Measures each of the models that the run has kept so, and writes best_models.json:
 *
 *   {"models": [{"measure": "error", "checkpoint": "best", "epoch": 240, "step": 84480, "evaluation": {...}}, ...]}
 *
 * in the order of checkpoint.best; "evaluation" is what evaluation.json would be of that model. Without a model there is no file. A
 * model that is the last, or one of those before, is not measured twice: `last` is the evaluation of the network of step `step`, which is in the
 * session. Afterwards the session holds another one. Collective. */
CHECKED Status evaluate_best_models(Session *, const RunFolder *, const EvaluateOptions *,
                                    const EvaluationResult *last, int64_t step);

#endif
