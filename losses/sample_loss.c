#include "losses/sample_loss.h"

#include "losses/exponential.h"
#include "losses/gamma.h"

#include <math.h>

/* The first index of the maximum, and the maximum. NaN never wins against a number; all NaN: index 0.
 * (In lanes, because a comparison that minds NaN is no reduction that compilers would reorder.) */
static int64_t find_maximum(const double row[], int64_t classes, double *maximum)
{
    enum { LANES = 8 };
    double lane[LANES];
    for (int l = 0; l < LANES; ++l)
        lane[l] = -INFINITY;
    int64_t k = 0;
    for (; k + LANES <= classes; k += LANES)
        for (int l = 0; l < LANES; ++l)
            lane[l] = row[k + l] > lane[l] ? row[k + l] : lane[l];
    double highest = -INFINITY;
    for (int l = 0; l < LANES; ++l)
        highest = lane[l] > highest ? lane[l] : highest;
    for (; k < classes; ++k)
        highest = row[k] > highest ? row[k] : highest;
    *maximum = highest;
    for (int64_t first = 0; first < classes; ++first)
        if (row[first] == highest) return first;
    return 0;
}

Sample sample_softmax(double row[], int64_t classes, int64_t label)
{
    double highest;
    const int64_t prediction = find_maximum(row, classes, &highest);
    const bool valid = label >= 0 && label < classes;
    const int64_t y = valid ? label : prediction;
    const bool correct = y == prediction;

    double below = 0;
#pragma omp simd reduction(+ : below)
    for (int64_t k = 0; k < classes; ++k)
        below += highest - row[k];
    const double label_below = highest - row[y];

    /* The sums leave out the label and the prediction, to be added where they belong: 1 - p of either is then
     * the sum of what it consists of, and the logarithm of the whole is log1p of what exceeds 1. */
    const double label_exponential = exponential(-label_below);
    const double prediction_exponential = exponential(row[prediction] - highest); /* 1, or NaN */
    row[y] = -INFINITY;
    row[prediction] = -INFINITY;
    double rest = 0, squares = 0;
#pragma omp simd reduction(+ : rest, squares)
    for (int64_t k = 0; k < classes; ++k) {
        const double e = exponential(row[k] - highest);
        rest += e;
        squares += e * e;
        row[k] = e;
    }
    row[y] = label_exponential;
    row[prediction] = prediction_exponential;

    const double excess = correct ? rest : rest + label_exponential; /* of the whole sum over 1 */
    const double scale = 1 / (prediction_exponential + excess);
    const double log_sum = log1p(excess);
#pragma omp simd
    for (int64_t k = 0; k < classes; ++k)
        row[k] *= scale;
    Sample sample = {
        .probability = row[y],
        .complement = (correct ? rest : rest + prediction_exponential) * scale,
        .negative_log = label_below + log_sum,
        .negative_log_sum = below + (double)classes * log_sum,
        .other_squares = (correct ? squares : squares + 1) * (scale * scale),
        .confidence = row[prediction],
        .confidence_complement = excess * scale,
        .prediction = prediction,
        .label = label,
        .classes = classes,
        .correct = valid && correct,
    };
    if (!valid) {
        sample.probability = sample.complement = sample.negative_log = NAN;
        sample.negative_log_sum = sample.other_squares = NAN;
    }
    return sample;
}

SampleLoss sample_cross_entropy(const Sample *sample)
{
    return (SampleLoss){.value = sample->negative_log, .linear = 1, .at_label = -sample->complement};
}

Smoothing smoothing_paper(double alpha, int64_t classes)
{
    if (classes < 2) return (Smoothing){0, 0}; /* nothing to give alpha to */
    return (Smoothing){alpha, alpha / (double)(classes - 1)};
}

Smoothing smoothing_uniform(double alpha, int64_t classes)
{
    const double other = alpha / (double)classes;
    return (Smoothing){other * (double)(classes - 1), other};
}

SampleLoss sample_label_smoothing(const Sample *sample, Smoothing smoothing)
{
    if (smoothing.other == 0) return sample_cross_entropy(sample);
    return (SampleLoss){
        .value = (1 - smoothing.removed) * sample->negative_log +
                 smoothing.other * (sample->negative_log_sum - sample->negative_log),
        .constant = -smoothing.other,
        .linear = 1,
        .at_label = smoothing.removed - sample->complement, /* p - (1 - removed) */
    };
}

/* With t = sum p_k (p_k - [k = y]), the derivative by logit j is 2 p_j (p_j - [j = y] - t). */
SampleLoss sample_brier(const Sample *sample)
{
    const double p = sample->probability, complement = sample->complement;
    const double t = sample->other_squares - p * complement;
    return (SampleLoss){
        .value = complement * complement + sample->other_squares,
        .linear = -2 * t,
        .quadratic = 2,
        .at_label = -2 * p * (complement + t),
    };
}

/* base^exponent for base >= 0; the usual small integers by multiplication, several times faster than pow. */
static double power_of(double base, double exponent)
{
    enum { MOST = 8 };
    if (!(exponent >= 0 && exponent <= MOST && exponent == floor(exponent))) return pow(base, exponent);
    double power = 1;
    for (int i = 0; i < (int)exponent; ++i)
        power *= base;
    return power;
}

SampleLoss sample_focal(const Sample *sample, double gamma)
{
    const double complement = sample->complement;
    const double power = power_of(complement, gamma);
    const double factor = power * focal_growth(sample->probability, complement, sample->negative_log, gamma);
    return (SampleLoss){
        .value = power * sample->negative_log,
        .linear = factor,
        .at_label = -factor * complement,
    };
}

/* With r the confidence, dr / d logit_j = r ([j = prediction] - p_j). */
void sample_couple(const Sample *sample, double scale, SampleLoss *loss)
{
    const double r = sample->confidence;
    const double own = scale * r * sample->confidence_complement;
    loss->at_prediction = loss->constant + r * (loss->linear + loss->quadratic * r) + own;
    loss->at_label += sample->correct ? own : -scale * r * sample->probability;
    loss->linear -= scale * r;
    loss->coupled = true;
}

void sample_gradient(const Sample *sample, const SampleLoss *loss, double weight, double row[])
{
    const double constant = weight * loss->constant;
    const double linear = weight * loss->linear;
    const double quadratic = weight * loss->quadratic;
#pragma omp simd
    for (int64_t k = 0; k < sample->classes; ++k)
        row[k] = constant + row[k] * (linear + quadratic * row[k]);
    if (loss->coupled) row[sample->prediction] = weight * loss->at_prediction;
    if (sample->label >= 0 && sample->label < sample->classes) row[sample->label] = weight * loss->at_label;
}
