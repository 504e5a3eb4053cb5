/* The op that ends a graph for training: from logits to the sums, and with them, because both need
 * the same softmax, the gradient.
 *
 * inputs:  logits FLOAT32 [N,K], target INT32 [N], weight FLOAT32 [N], the clock (absent unless gamma
 *          follows the epoch).
 * outputs: sums FLOAT64 [LOSS_SUMS]; d_logits FLOAT32 [N,K], times the sample's weight;
 *          confidence FLOAT32 [N], the highest probability;
 *          correct FLOAT32 [N], 1 if the first index of the maximum is the target.
 *
 * A sample of weight 0 is padding: it is not looked at, and all its outputs are 0. A target that is no class
 * gives a NaN loss.
 *
 * With a penalty the loss is W (mean cross-entropy + lambda MMCE), W being the weight of the global batch and
 * MMCE that of the global batch, for which confidence, correctness and weight are gathered: the op is then
 * collective (N is the same on all ranks). A rank's LOSS_SUM has the penalty in proportion to its weight, so
 * that the ranks' sums add up to the whole. Under gradient accumulation the batch is one micro-batch of all
 * ranks. */
#ifndef PLUMB_LOSSES_LOSS_HEAD_H
#define PLUMB_LOSSES_LOSS_HEAD_H

#include "engine/graph/op.h"
#include "losses/gamma.h"
#include "losses/sample_loss.h"

#include <stdbool.h>

typedef enum {
    SAMPLE_LABEL_SMOOTHING, /* with alpha 0: cross-entropy */
    SAMPLE_BRIER,
    SAMPLE_FOCAL
} SampleForm;

typedef enum { PENALTY_NONE, PENALTY_MMCE, PENALTY_MMCE_WEIGHTED } PenaltyForm;

typedef struct {
    SampleForm form;
    double alpha; /* label smoothing */
    bool uniform;
    GammaPolicy gamma; /* focal */
    PenaltyForm penalty;
    double lambda, kernel_width; /* penalty */
} LossHead;

/* The first output, of this rank's samples; ranks are summed by the plan. */
enum { LOSS_SUM, LOSS_WEIGHT, LOSS_CORRECT, LOSS_SUMS };

enum { HEAD_LOGITS, HEAD_TARGET, HEAD_WEIGHT, HEAD_CLOCK, HEAD_INPUTS };
enum { HEAD_SUMS, HEAD_GRADIENT, HEAD_CONFIDENCE, HEAD_CORRECT, HEAD_OUTPUTS };

extern const Op op_loss_head;
extern const Kernel loss_head_cpu;
extern const Kernel loss_head_cuda OPTIONAL_KERNEL;

/* The loss of one sample in the epoch, without a penalty. */
SampleLoss loss_head_sample(const Sample *, const LossHead *, int64_t epoch);

/* Appends the op; returns the sums. */
Value loss_head(Graph *, Value logits, Value target, Value weight, const LossHead *);

#endif
