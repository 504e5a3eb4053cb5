#include "losses/calibration/intervals.h"

#include <gsl/gsl_cdf.h>
#include <math.h>

/* The place up to which the beta distribution has this probability, by halving: GSL's own inverse does not converge for some
 * thousands of samples, and then ends the program. */
static double beta_quantile(double probability, double a, double b)
{
    double low = 0, high = 1;
    for (int i = 0; i < 60; ++i) {
        const double middle = (low + high) / 2;
        if (gsl_cdf_beta_P(middle, a, b) < probability)
            low = middle;
        else
            high = middle;
    }
    return (low + high) / 2;
}

Interval interval_of_proportion(double hits, double total, double level)
{
    const double tail = (1 - level) / 2;
    if (!(total > 0) || !(hits >= 0)) return (Interval){NAN, NAN};
    return (Interval){hits > 0 ? beta_quantile(tail, hits, total - hits + 1) : 0,
                      hits < total ? beta_quantile(1 - tail, hits + 1, total - hits) : 1};
}

double interval_next_reach(double deviation, int count, double level)
{
    if (count < 2) return NAN;
    return gsl_cdf_tdist_Pinv(1 - (1 - level) / 2, count - 1) * deviation * sqrt(1 + 1.0 / count);
}
