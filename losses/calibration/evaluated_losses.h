/* Every training loss of the study, of a set of logits: what evaluation reports beside the calibration
 * errors. In double precision, and with the same bits at any number of ranks and threads. */
#ifndef PLUMB_LOSSES_CALIBRATION_EVALUATED_LOSSES_H
#define PLUMB_LOSSES_CALIBRATION_EVALUATED_LOSSES_H

#include "engine/base/status.h"
#include "engine/device/collective.h"
#include "losses/calibration/logits.h"

enum { EVALUATED_LOSSES = 10 };
/* "cross_entropy", "label_smoothing_0.05" (the paper's form), "brier", "focal_1", "focal_2", "focal_3",
 * "flsd_53", "flsd_532", "mmce", "mmce_weighted" */
extern const char *const evaluated_loss_names[EVALUATED_LOSSES];

/* A loss above 2^40, as no network means it, is in the mean as it is: the mean may be infinite. */
typedef struct {
    double value[EVALUATED_LOSSES];
    int64_t large_count, large_row; /* samples with such a loss, and the row of the first; -1 without any */
} EvaluatedLosses;

/* value[i]: the mean of loss i over the samples of all ranks; of mmce and mmce_weighted the penalty alone, as
 * one value of the whole set (loss.h's MMCE losses add it, times lambda, to cross-entropy), with the
 * published kernel width. Checked logits only (logits_check). threads: 0 means as OpenMP says. Collective. */
CHECKED Status losses_evaluate(Collective *, const Logits *, int threads, EvaluatedLosses *);

#endif
