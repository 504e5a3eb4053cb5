/* The least value of a smooth convex function, by GSL. Internal to losses/. */
#ifndef PLUMB_LOSSES_CALIBRATION_MINIMISE_H
#define PLUMB_LOSSES_CALIBRATION_MINIMISE_H

#include "engine/base/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    int64_t parameters;
    const void *data;
    /* gradient [parameters] and hessian [parameters, parameters] (its lower triangle) may be NULL. */
    double (*value)(const void *data, const double *at, double *gradient, double *hessian);
} Objective;

typedef struct {
    double value;
    double gap;    /* an estimate of how far that is above the least value, from the last step */
    bool finished; /* the gap is below 1e-7 */
} Minimum;

/* Goes on from at [parameters]. Newton's method with steps by GSL's Cholesky decomposition up to MINIMISE_NEWTON
 * parameters, beyond that GSL's BFGS. A function without a minimiser comes close to its infimum, with finite parameters. */
enum { MINIMISE_NEWTON = 600 };
CHECKED Status minimise(const Objective *, double *at, Minimum *);

#endif
