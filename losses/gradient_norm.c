#include "losses/gradient_norm.h"

#include "losses/sample_loss.h"

#include <math.h>

/* The square root of the sum of squares, without overflow or loss for small ones: gradients may be 1e-200. */
static double norm_of(const double row[], int64_t count)
{
    double largest = 0, sum = 0;
    for (int64_t i = 0; i < count; ++i)
        largest = fmax(largest, fabs(row[i]));
    if (!(largest > 0) || isinf(largest)) return largest;
    for (int64_t i = 0; i < count; ++i)
        sum += (row[i] / largest) * (row[i] / largest);
    return largest * sqrt(sum);
}

double gradient_norm_of_logits(const LossHead *head, int64_t epoch, double row[], int64_t classes,
                               int64_t label)
{
    const Sample sample = sample_softmax(row, classes, label);
    const SampleLoss loss = loss_head_sample(&sample, head, epoch);
    if (isnan(loss.value)) return NAN;
    sample_gradient(&sample, &loss, 1, row);
    return norm_of(row, classes);
}

GradientNorm gradient_norm(const LossHead *head, int64_t epoch, double row[], int64_t classes, int64_t label,
                           const float features[], int64_t width)
{
    double squares = 0;
    for (int64_t i = 0; i < width; ++i)
        squares += (double)features[i] * (double)features[i];
    const double logits = gradient_norm_of_logits(head, epoch, row, classes, label);
    return (GradientNorm){logits, logits * sqrt(squares), logits * sqrt(squares + 1)};
}

int gradient_norm_bin(double norm)
{
    if (!(norm > 0)) return 0;
    const double place = floor(4 * log2(norm)) + NORM_BIN_OF_ONE;
    return place < 0 ? 0 : place >= NORM_BINS ? NORM_BINS - 1 : (int)place;
}

double gradient_norm_bin_start(int bin) { return exp2((bin - NORM_BIN_OF_ONE) / 4.0); }
