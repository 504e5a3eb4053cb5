#include "losses/sample_loss.h"

#include "losses/vector_math.h"

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
    const double label_exponential = number_exp(-label_below);
    const double prediction_exponential = number_exp(row[prediction] - highest); /* 1, or NaN */
    row[y] = -INFINITY;
    row[prediction] = -INFINITY;
    double rest = 0, squares = 0;
#pragma omp simd reduction(+ : rest, squares)
    for (int64_t k = 0; k < classes; ++k) {
        const double e = number_exp(row[k] - highest);
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
