/* Losses of a set of samples in float64, by the functions that the op's kernels are made of. */
#ifndef PLUMB_TESTS_LOSS_SET_H
#define PLUMB_TESTS_LOSS_SET_H

#include "losses/loss_head.h"
#include "losses/mmce.h"
#include "losses/sample_loss.h"

typedef struct {
    int64_t samples, classes;
    double *logits;
    int64_t *labels;
} LossSet;

LossSet loss_set_new(int64_t samples, int64_t classes);
void loss_set_free(LossSet *);

/* The loss of a set, summed over its samples (or, alone, the penalty once), and its gradient [N,K] if not NULL. */
double loss_set_evaluate(const LossSet *, const LossHead *, bool alone, int64_t epoch, double *gradient);

/* Zeros. */
void *loss_allocate(int64_t count, size_t size);

#endif
