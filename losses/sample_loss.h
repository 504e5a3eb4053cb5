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

#include "losses/gamma.h"

#include <math.h>
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
SHARED_FUNCTION SampleLoss sample_cross_entropy(const Sample *sample)
{
    SampleLoss loss = {0, 0, 0, 0, 0, 0, false};
    loss.value = sample->negative_log;
    loss.linear = 1;
    loss.at_label = -sample->complement;
    return loss;
}

/* -sum s_k log p_k, where s = 1 - removed for the label and `other` for each other class. */
typedef struct {
    double removed, other;
} Smoothing;

/* s = (1-a) q + a (1-q)/(K-1); with one class there is nothing to give alpha to. */
SHARED_FUNCTION Smoothing smoothing_paper(double alpha, int64_t classes)
{
    Smoothing smoothing = {0, 0};
    if (classes < 2) return smoothing;
    smoothing.removed = alpha;
    smoothing.other = alpha / (double)(classes - 1);
    return smoothing;
}

/* s = (1-a) q + a/K */
SHARED_FUNCTION Smoothing smoothing_uniform(double alpha, int64_t classes)
{
    Smoothing smoothing = {0, alpha / (double)classes};
    smoothing.removed = smoothing.other * (double)(classes - 1);
    return smoothing;
}

SHARED_FUNCTION SampleLoss sample_label_smoothing(const Sample *sample, Smoothing smoothing)
{
    if (smoothing.other == 0) return sample_cross_entropy(sample);
    SampleLoss loss = {0, 0, 0, 0, 0, 0, false};
    loss.value = (1 - smoothing.removed) * sample->negative_log +
                 smoothing.other * (sample->negative_log_sum - sample->negative_log);
    loss.constant = -smoothing.other;
    loss.linear = 1;
    loss.at_label = smoothing.removed - sample->complement; /* p - (1 - removed) */
    return loss;
}

/* sum over k of (p_k - [k = y])^2. With t = sum p_k (p_k - [k = y]), the derivative by logit j is
 * 2 p_j (p_j - [j = y] - t). */
SHARED_FUNCTION SampleLoss sample_brier(const Sample *sample)
{
    const double p = sample->probability, complement = sample->complement;
    const double t = sample->other_squares - p * complement;
    SampleLoss loss = {0, 0, 0, 0, 0, 0, false};
    loss.value = complement * complement + sample->other_squares;
    loss.linear = -2 * t;
    loss.quadratic = 2;
    loss.at_label = -2 * p * (complement + t);
    return loss;
}

/* base^exponent for base >= 0; the usual small integers by multiplication, several times faster than pow.
 */
SHARED_FUNCTION double power_of(double base, double exponent)
{
    const double most = 8;
    if (!(exponent >= 0 && exponent <= most && exponent == floor(exponent))) return pow(base, exponent);
    double power = 1;
    for (int i = 0; i < (int)exponent; ++i)
        power *= base;
    return power;
}

/* -(1 - p_y)^gamma log p_y; gamma is a constant under differentiation. */
SHARED_FUNCTION SampleLoss sample_focal(const Sample *sample, double gamma)
{
    const double complement = sample->complement;
    const double power = power_of(complement, gamma);
    const double factor = power * focal_growth(sample->probability, complement, sample->negative_log, gamma);
    SampleLoss loss = {0, 0, 0, 0, 0, 0, false};
    loss.value = power * sample->negative_log;
    loss.linear = factor;
    loss.at_label = -factor * complement;
    return loss;
}

/* Adds scale times the gradient of the confidence r (the probability of `prediction`), once a loss:
 * dr / d logit_j = r ([j = prediction] - p_j). */
SHARED_FUNCTION void sample_couple(const Sample *sample, double scale, SampleLoss *loss)
{
    const double r = sample->confidence;
    const double own = scale * r * sample->confidence_complement;
    loss->at_prediction = loss->constant + r * (loss->linear + loss->quadratic * r) + own;
    loss->at_label += sample->correct ? own : -scale * r * sample->probability;
    loss->linear -= scale * r;
    loss->coupled = true;
}

/* row [classes]: probabilities in, weight times the gradient out. */
void sample_gradient(const Sample *, const SampleLoss *, double weight, double row[]);

#endif
