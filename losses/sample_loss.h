/* One sample's loss and gradient, in float64: the arithmetic that training, evaluation and tests share.
 *
 *     double row[classes];                                    // the logits
 *     const Sample sample = sample_softmax(row, classes, label); // now the probabilities
 *     const SampleLoss loss = sample_focal(&sample, gamma);
 *     sample_gradient(&sample, &loss, weight, row);              // now the gradient
 *
 * Everything is by log-softmax, never by dividing by p, and 1 - p is summed, not subtracted: values and
 * gradients stay exact to rounding for p of 0 and 1 and for logits of +-1e4. A NaN among the logits, or a
 * label that is no class, gives a NaN loss. */
#ifndef PLUMB_LOSSES_SAMPLE_LOSS_H
#define PLUMB_LOSSES_SAMPLE_LOSS_H

#include <stdbool.h>
#include <stdint.h>

/* What losses need of softmax(logits) and the label y. */
typedef struct {
    double probability;           /* p_y */
    double complement;            /* 1 - p_y */
    double negative_log;          /* -log p_y */
    double negative_log_sum;      /* sum over k of -log p_k */
    double other_squares;         /* sum over k != y of p_k^2 */
    double confidence;            /* max p */
    double confidence_complement; /* 1 - max p */
    int64_t prediction;           /* the first index of the maximum */
    int64_t label, classes;
    bool correct;
} Sample;

/* row [classes]: logits in, probabilities out. classes >= 1. The result is the same bits wherever the row
 * lies. */
Sample sample_softmax(double row[], int64_t classes, int64_t label);

/* A value, and the gradient with respect to the logits: constant + p_k (linear + quadratic p_k), but at_label
 * for the label. All losses here have this form, so one loop writes any gradient. */
typedef struct {
    double value;
    double constant, linear, quadratic, at_label;
    double at_prediction; /* for a wrong prediction, where it does not follow the form (`coupled`) */
    bool coupled;
} SampleLoss;

/* -log p_y */
SampleLoss sample_cross_entropy(const Sample *);

/* -sum s_k log p_k, where s = 1 - removed for the label and `other` for each other class. */
typedef struct {
    double removed, other;
} Smoothing;
Smoothing smoothing_paper(double alpha, int64_t classes);   /* s = (1-a) q + a (1-q)/(K-1) */
Smoothing smoothing_uniform(double alpha, int64_t classes); /* s = (1-a) q + a/K */
SampleLoss sample_label_smoothing(const Sample *, Smoothing);

/* sum over k of (p_k - [k = y])^2 */
SampleLoss sample_brier(const Sample *);

/* -(1 - p_y)^gamma log p_y; gamma is a constant under differentiation. */
SampleLoss sample_focal(const Sample *, double gamma);

/* Adds scale times the gradient of the confidence (the probability of `prediction`). Once a loss. */
void sample_couple(const Sample *, double scale, SampleLoss *);

/* row [classes]: probabilities in, weight times the gradient out. */
void sample_gradient(const Sample *, const SampleLoss *, double weight, double row[]);

#endif
