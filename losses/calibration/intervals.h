/* Intervals that need no resampling. */
#ifndef PLUMB_LOSSES_CALIBRATION_INTERVALS_H
#define PLUMB_LOSSES_CALIBRATION_INTERVALS_H

#include "losses/calibration/bootstrap.h"

/* The exact interval of Clopper and Pearson (1934) of a proportion, of which `hits` of `total` samples are an estimate. NaN without
 * samples. */
Interval interval_of_proportion(double hits, double total, double level);

/* How far from the mean of `count` values, drawn from one normal distribution, the next one lies at most, with probability `level`:
 * t deviation sqrt(1 + 1 / count), t the quantile of Student's distribution with count - 1 degrees of freedom. deviation: the sample
 * standard deviation. NaN below two values. */
double interval_next_reach(double deviation, int count, double level);

#endif
