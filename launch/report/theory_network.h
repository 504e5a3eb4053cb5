/* Proposition 1 on a real network: sample by sample, the gradient of focal loss at the weights of the last linear layer is that of
 * cross-entropy times g(p, gamma). */
#ifndef PLUMB_LAUNCH_THEORY_NETWORK_H
#define PLUMB_LAUNCH_THEORY_NETWORK_H

#include "engine/base/status.h"

enum { THEORY_GAMMAS = 4, THEORY_SAMPLES = 16, THEORY_STEPS = 12 };

typedef struct {
    const char *network, *layer;
    double gamma[THEORY_GAMMAS];
    double probability[THEORY_SAMPLES];               /* of the label */
    double plain_norm[THEORY_SAMPLES];                /* |dL/dW| of cross-entropy */
    double focal_norm[THEORY_GAMMAS][THEORY_SAMPLES]; /* of focal loss */
    double factor[THEORY_GAMMAS][THEORY_SAMPLES];     /* g(p, gamma) */
    double deviation[THEORY_GAMMAS]; /* the largest |focal - g plain| / |plain| of a sample */
} TheoryNetwork;

/* Trains resnet8 by cross-entropy for THEORY_STEPS steps on half of THEORY_SAMPLES made images (Philox, seed 1), so that it is sure of
 * some and not of others; on one
 * thread of the CPU, which is enough; then runs forward
 * and backward with each sample alone counting, by every loss. */
CHECKED Status theory_network(TheoryNetwork *);

#endif
