/* What training minimises. A loss builds the head of a graph: one node that reads the logits once and writes
 * the weighted sums and the gradient (by log-softmax in float64, never dividing by p, safe for p of 0 and 1).
 */
#ifndef PLUMB_LOSSES_LOSS_H
#define PLUMB_LOSSES_LOSS_H

#include "engine/base/config.h"
#include "engine/graph/graph.h"
#include "losses/loss_head.h"

/* What the gradient of the sum is divided by before the step. */
typedef enum { REDUCTION_SUM, REDUCTION_MEAN } Reduction;

typedef struct {
    const char *name; /* "focal" */
    const char *help;
    Reduction reduction; /* that of the published code: `loss.reduction: published` */
    /* Fills the head, which is zero, from the settings that the loss uses. An error names file and line of the setting.
     * NULL: there are none. */
    Status (*read)(const Config *, LossHead *);
    LossHead head; /* what does not depend on settings */
} Loss;

/* A loss with its settings, read from the config once. */
typedef struct {
    const Loss *loss;
    LossHead head;
    Reduction reduction;
} LossOptions;

const Loss *losses_table(int *count);
/* STATUS_INPUT names file and line; of loss.name, the nearest known name too. */
CHECKED Status loss_read(const Config *, LossOptions *);
/* logits FLOAT32 [N,K], target INT32 [N], weight FLOAT32 [N]. Returns the sums; differentiate them. */
Value loss_build(Graph *, const LossOptions *, Value logits, Value target, Value weight);
/* Will graph_fuse make one op of the layer that makes these logits and the loss (loss_output.h), if nothing else uses them?
 * There are then no logits that could be kept. Before loss_build. */
bool loss_takes_logits(const Graph *, Value logits);

#endif
