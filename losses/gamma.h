/* Focal loss's gamma: how it is chosen, and Proposition 2 of "Calibrating Deep Neural Networks using Focal
 * Loss" (Mukhoti et al., 2020). */
#ifndef PLUMB_LOSSES_GAMMA_H
#define PLUMB_LOSSES_GAMMA_H

#include "engine/base/config.h"
#include "engine/base/shared_function.h"

#include <stdbool.h>
#include <stdint.h>

/* A step function: gamma[i], where i is the number of limits that are <= x. x is the epoch (`by_epoch`) or
 * the probability of the sample's label; a fixed gamma has no limits. Plain data, so that kernels of any
 * device can take it by value. */
enum { GAMMA_MAX_STEPS = 16 };
typedef struct {
    double gamma[GAMMA_MAX_STEPS];
    double limit[GAMMA_MAX_STEPS - 1]; /* rising */
    int32_t limits;
    bool by_epoch;
} GammaPolicy;

SHARED_FUNCTION double gamma_choose(const GammaPolicy *policy, double probability, int64_t epoch)
{
    const double x = policy->by_epoch ? (double)epoch : probability;
    int32_t i = 0;
    while (i < policy->limits && policy->limit[i] <= x)
        ++i;
    return policy->gamma[i];
}

/* From loss.policy and the settings that it uses. STATUS_INPUT when lists do not match or do not rise. */
CHECKED Status gamma_read(const Config *, GammaPolicy *);

/* g(p, gamma) = (1-p)^gamma - gamma p (1-p)^(gamma-1) log p: what multiplies cross-entropy's gradient with
 * respect to the logits to make focal loss's; here without its factor (1-p)^gamma, which is focal loss's own.
 * `complement` is 1 - p and `negative_log` is -log p, given apart because they cannot be had from p near 1
 * without cancellation.
 *
 * The published form divides by (1-p). Factored as (1-p)^gamma (1 + gamma p (-log p)/(1-p)) nothing is lost
 * near p = 1, where (-log p)/(1-p) tends to 1, nor for gamma < 1, where (1-p)^(gamma-1) grows without bound.
 */
SHARED_FUNCTION double focal_growth(double probability, double complement, double negative_log, double gamma)
{
    double ratio = 1;
    if (complement > 0) ratio = probability > 0 ? negative_log / complement : 0;
    /* p log p tends to 0 with p; -log p alone may be infinite there. A NaN probability stays one. */
    return 1 + gamma * probability * ratio;
}

/* The gamma > 0 at which g(p0, gamma) = 1 (0 at p0 = 0.5), for p0 in (0, 0.5]: from p0 on focal loss's
 * gradient is the smaller one. By branch -1 of Lambert's W. */
double gamma_from_threshold(double p0);

#endif
