/* A line of dynamics.jsonl: what is recorded of the training split after chosen epochs (evaluate.gradient_norms,
 * evaluate.train_reliability).
 *
 *   {"epoch": 100, "step": 35200,
 *    "gradient_norms": {"loss": "focal", "samples": 45000, "mean": 0.03, "bins": [{"lower": 0.5, "upper": 0.59, "count": 17}, ...]},
 *    "train_reliability": {"samples": 45000, "error": 0.01, "ece": 0.02,
 *                          "bins": [{"lower": 0, "upper": 0.04, "count": 3, "share": 0.001, "confidence": 0.03, "accuracy": 0}, ...]}}
 *
 * gradient_norms: of |dL/d(W, b)| at the last linear layer, L the loss of one sample, divided by nothing, without MMCE's penalty. Bins are
 * [lower, upper), four to a factor of 2, from the first to the last with a sample; the lowest that there may be begins at 0, the highest has no
 * upper end (null). train_reliability: bins (lower, upper] as those of evaluation.json, share = count / samples. */
#ifndef PLUMB_LAUNCH_TRAIN_DYNAMICS_LINE_H
#define PLUMB_LAUNCH_TRAIN_DYNAMICS_LINE_H

#include "launch/train/training_pass.h"

/* Is there anything to write? */
bool dynamics_line_is_due(const TrainingMeasures *);
/* epoch, step: done. Release with free(). */
CHECKED Status dynamics_line(const TrainingMeasures *, double epoch, int64_t step, const char *loss,
                             char **line);

#endif
