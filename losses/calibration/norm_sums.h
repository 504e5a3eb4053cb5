/* What is recorded of a network's last linear layer over a set of samples: the mean norms of what it reads and of the logits that
 * it makes (the paper's Figures 2e, I.1 and C.1), and how large the gradients of the samples' losses are there (Figure 3b-d).
 * Sums are exact: the same bits in any order of the samples and at any number of ranks. */
#ifndef PLUMB_LOSSES_CALIBRATION_NORM_SUMS_H
#define PLUMB_LOSSES_CALIBRATION_NORM_SUMS_H

#include "engine/device/collective.h"
#include "losses/calibration/exact_sum.h"
#include "losses/gradient_norm.h"

enum { NORM_FEATURES, NORM_LOGITS, NORM_GRADIENT, NORM_KINDS };

/* Zero-initialised: of no samples. */
typedef struct {
    ExactSum sum[NORM_KINDS];
    int64_t samples[NORM_KINDS];
    int64_t beyond[NORM_KINDS]; /* of them: no numbers, or above EXACT_SUM_LARGEST; not in the sum */
    int64_t bin[NORM_BINS];     /* of the gradients, as gradient_norm_bin says; NaN is in none */
} NormSums;

/* norm [rows]; weight [rows] of 1, which counts a row, and 0, which leaves it out whatever it holds. */
void norm_sums_add(NormSums *, int kind, const double norm[], const float weight[], int64_t rows);
/* Sums over the ranks. Collective. */
CHECKED Status norm_sums_reduce(Collective *, NormSums *);
/* NaN without samples, or if one of them is `beyond`. */
double norm_sums_mean(const NormSums *, int kind);

/* Rows of a part, in host memory. */
typedef struct {
    const float *logits;    /* [rows, classes] */
    const int32_t *labels;  /* [rows] */
    const float *weights;   /* [rows] of 1 and 0 */
    const double *features; /* [rows]: norms of what the layer reads */
    int64_t rows, classes;
} GradientRows;
/* norm [rows]: GradientNorm.layer of each row that counts, 0 for the others. row [threads, classes] is working memory. */
void gradient_norms(const LossHead *, int64_t epoch, const GradientRows *, int threads, double *row,
                    double *norm);

#endif
