/* What training minimises. A loss builds the head of a graph: one node that reads the logits once and writes
 * the weighted sums and the gradient (by log-softmax in float64, never dividing by p, safe for p of 0 and 1).
 */
#ifndef PLUMB_LOSSES_LOSS_H
#define PLUMB_LOSSES_LOSS_H

#include "engine/base/config.h"
#include "engine/graph/graph.h"

/* What the gradient of the sum is divided by before the step. */
typedef enum { REDUCTION_SUM, REDUCTION_MEAN } Reduction;

/* The head's first output, FLOAT64 [LOSS_SUMS], of this rank's samples; ranks are summed by the plan. */
enum { LOSS_SUM, LOSS_WEIGHT, LOSS_CORRECT, LOSS_SUMS };

typedef struct {
    const char *name; /* "focal" */
    const char *help;
    Reduction reduction; /* that of the published code: `loss.reduction: published` */
    /* logits FLOAT32 [N,K], target INT32 [N], weight FLOAT32 [N]. Returns the sums; differentiate them. */
    Value (*build)(Graph *, const Config *, Value logits, Value target, Value weight);
    /* Settings that contradict each other, before anything is built; may be NULL. */
    Status (*check)(const Config *);
} Loss;

const Loss *losses_table(int *count);
/* STATUS_INPUT names file and line of loss.name and the nearest known name. */
CHECKED Status loss_find(const Config *, const Loss **);
Reduction loss_reduction(const Loss *, const Config *);

#endif
