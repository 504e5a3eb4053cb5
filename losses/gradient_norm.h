/* How large the gradient of one sample's loss is at the network's last linear layer (the paper's Figure 3b-d). The gradient of the
 * weights is the product of dL/dlogits and the features, that of the bias dL/dlogits itself, so that the norms need no second pass. */
#ifndef PLUMB_LOSSES_GRADIENT_NORM_H
#define PLUMB_LOSSES_GRADIENT_NORM_H

#include "losses/loss_head.h"

#include <stdint.h>

typedef struct {
    double logits;  /* |dL/dlogits| */
    double weights; /* |dL/dW| = |dL/dlogits| |features| */
    double layer;   /* |dL/d(W, b)| = |dL/dlogits| |(features, 1)| */
} GradientNorm;

/* |dL/dlogits| alone: the other two are this times a norm that a program may have already. NaN if the loss is. */
double gradient_norm_of_logits(const LossHead *, int64_t epoch, double row[], int64_t classes, int64_t label);

/* Of one sample's loss, divided by nothing; of a loss with a penalty, which couples the samples of a batch, the part without it. The
 * gamma of an epoch is that of `epoch`. row [classes]: logits in, overwritten. features [width]: what the layer reads. */
GradientNorm gradient_norm(const LossHead *, int64_t epoch, double row[], int64_t classes, int64_t label,
                           const float features[], int64_t width);

/* Counts by size, which ranks can add: bin i holds norms from 2^((i - NORM_BIN_OF_ONE) / 4) to the next; the first also all below, 0
 * among them, the last all above. */
enum { NORM_BINS = 128, NORM_BIN_OF_ONE = 96 };
int gradient_norm_bin(double norm);
double gradient_norm_bin_start(int bin);

#endif
