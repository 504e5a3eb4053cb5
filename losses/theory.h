/* What the paper proves of focal loss, as numbers: Figure 3a, Figure B.1, Proposition 2. */
#ifndef PLUMB_LOSSES_THEORY_H
#define PLUMB_LOSSES_THEORY_H

#include <stdint.h>

/* g(p, gamma) = (1-p)^gamma - gamma p (1-p)^(gamma-1) ln p, for p in [0, 1]: by Proposition 1 the factor between focal loss's gradient
 * and cross-entropy's. */
double theory_factor(double p, double gamma);

/* |focal - factor plain| / |plain| of two gradients of the same weights: 0 where Proposition 1 holds exactly, and where both are
 * 0. */
double theory_deviation(const float focal[], const float plain[], double factor, int64_t count);

/* The Euclidean norm. */
double theory_norm(const float values[], int64_t count);

/* The p that minimises -[q (1-p)^gamma ln p + (1-q) p^gamma ln(1-p)], the expected focal loss where the positive class has probability
 * q in [0, 1] (appendix B). There is one: the root of the derivative, found in log-odds. */
double theory_minimiser(double q, double gamma);

/* The gamma >= 0 at which g(p0, gamma) = 1, by search; Proposition 2 (gamma_from_threshold) gives it in closed form. p0 in
 * (0, 0.5]. */
double theory_gamma_by_search(double p0);

#endif
