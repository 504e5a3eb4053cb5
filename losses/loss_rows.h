/* The losses of rows of logits on the CPU, and the penalty of a batch: what the loss head and the output layer with its
 * loss have in common. One thread takes a row. Sums are formed afterwards in the order of the samples, so they do not
 * depend on the number of threads. */
#ifndef PLUMB_LOSSES_LOSS_ROWS_H
#define PLUMB_LOSSES_LOSS_ROWS_H

#include "losses/loss_head.h"
#include "losses/mmce.h"

/* What a row needs to know beside itself. */
typedef struct {
    const LossHead *head;
    int64_t classes, epoch;
} LossRows;

typedef struct {
    double loss; /* weighted */
    float confidence, correct;
    Judged judged;
} RowLoss;

/* slope: what the penalty adds to the derivative by the confidence, per unit of weight. row [classes], aligned to 64 bytes:
 * the logits in; if wanted, the weighted gradient out. */
RowLoss loss_row(const LossRows *, int32_t target, double weight, double slope, bool with_gradient,
                 double row[]);

/* Parts of the scratch memory. */
typedef struct {
    double *rows;      /* [threads, padded classes] */
    double *losses;    /* [N]: weighted */
    Judged *mine;      /* with a penalty: [N] */
    Judged *all;       /* [ranks, N] */
    double *slope;     /* [ranks, N]: d penalty / d confidence */
    void *workspace;   /* of the penalty */
    size_t bytes;      /* of all of them */
    int64_t row_bytes; /* of one thread */
    int threads;
} LossScratch;
/* Lays it out in call->scratch, which is NULL while only counting. */
LossScratch loss_scratch(const Call *, const LossHead *, int64_t samples, int64_t classes);
/* The next `bytes` behind it. */
void *loss_scratch_take(LossScratch *, void *scratch, size_t bytes);
/* The row of the thread that asks. */
double *loss_scratch_row(const LossScratch *);

/* The sums of the batch from the losses of its rows. */
void loss_add_up(const LossScratch *, const float weight[], const float correct[], int64_t samples,
                 double sums[LOSS_SUMS]);

/* Of all rows of all ranks, once their confidences are known: the penalty is added to this rank's sums. Then own_slope [N]
 * and *scale, whose product over the weight is the slope of loss_row. Collective. */
CHECKED Status loss_penalty(const Call *, const LossHead *, const LossScratch *, int64_t samples,
                            double sums[LOSS_SUMS], const double **own_slope, double *scale);

#endif
