#include "losses/calibration/intervals.h"

#include <gsl/gsl_cdf.h>
#include <math.h>

Interval interval_of_proportion(double hits, double total, double level)
{
    const double tail = (1 - level) / 2;
    if (!(total > 0)) return (Interval){NAN, NAN};
    return (Interval){hits > 0 ? gsl_cdf_beta_Pinv(tail, hits, total - hits + 1) : 0,
                      hits < total ? gsl_cdf_beta_Qinv(tail, hits + 1, total - hits) : 1};
}

double interval_next_reach(double deviation, int count, double level)
{
    if (count < 2) return NAN;
    return gsl_cdf_tdist_Pinv(1 - (1 - level) / 2, count - 1) * deviation * sqrt(1 + 1.0 / count);
}
