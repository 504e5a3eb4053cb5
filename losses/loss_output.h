/* The output layer and the loss as one op, for outputs over a vocabulary: logits = hidden matrix^T are made a chunk of rows
 * at a time, each chunk is judged at once and its gradients are multiplied on, so that neither the logits nor their
 * gradient are ever in memory as a whole. In training graphs graph_fuse makes it of a linear layer without bias and its
 * loss head, if nothing else uses the logits (loss_takes_logits).
 *
 * inputs:  hidden FLOAT32 or BFLOAT16 [N,C], matrix FLOAT32 [K,C]; target, weight and clock as those of the loss head.
 * outputs: sums as those of the loss head; d_hidden of hidden's type [N,C]; d_matrix FLOAT32 [K,C];
 *          confidence and correct as those of the loss head.
 *
 * A sample of weight 0 is padding: all that is of it is 0, whatever numbers are in its row of `hidden`. On the CPU such rows are
 * left out of all products. A penalty needs the confidences of the whole batch first: then logits are made twice. */
#ifndef PLUMB_LOSSES_LOSS_OUTPUT_H
#define PLUMB_LOSSES_LOSS_OUTPUT_H

#include "losses/loss_head.h"

typedef struct {
    LossHead head;
    int64_t chunk; /* rows; 0: as fits */
} LossOutput;

enum { OUTPUT_HIDDEN, OUTPUT_MATRIX, OUTPUT_TARGET, OUTPUT_WEIGHT, OUTPUT_CLOCK, OUTPUT_INPUTS };
enum { OUTPUT_SUMS, OUTPUT_D_HIDDEN, OUTPUT_D_MATRIX, OUTPUT_CONFIDENCE, OUTPUT_CORRECT, OUTPUT_OUTPUTS };

extern const Op op_loss_output;
extern const Kernel loss_output_cpu;
extern const Kernel loss_output_cuda OPTIONAL_KERNEL;

/* Appends the op; returns the sums. */
Value loss_output(Graph *, Value hidden, Value matrix, Value target, Value weight, const LossOutput *);

/* For the loss head: the linear layer and it as one, if they are worth it. */
bool loss_output_fuse(const Graph *, int node, Fusion *);

/* Rows of a chunk so that it takes at most so many bytes of logits, but between `least` and `most`, and no more than the batch
 * has. */
int64_t loss_output_chunk(const LossOutput *, int64_t samples, int64_t classes, int64_t bytes, int64_t least,
                          int64_t most);

#endif
