#include "losses/theory.h"

#include "losses/gamma.h"

#include <math.h>

double theory_factor(double p, double gamma)
{
    const double complement = 1 - p;
    if (gamma == 0) return 1;
    if (!(complement > 0)) return 0;
    return pow(complement, gamma) * focal_growth(p, complement, -log(p), gamma);
}

double theory_norm(const float values[], int64_t count)
{
    double squares = 0;
    for (int64_t i = 0; i < count; ++i)
        squares += (double)values[i] * (double)values[i];
    return sqrt(squares);
}

double theory_deviation(const float focal[], const float plain[], double factor, int64_t count)
{
    double difference = 0, whole = 0;
    for (int64_t i = 0; i < count; ++i) {
        const double one = (double)focal[i] - factor * (double)plain[i];
        difference += one * one;
        whole += (double)plain[i] * (double)plain[i];
    }
    return difference > 0 ? sqrt(difference / whole) : 0;
}

/* ln(q g(p) / p), the slope of one side of the expected loss. The probability is given by its log-odds x, since neither p nor 1 - p may
 * be had from the other. */
static double log_slope(double q, double x, double gamma)
{
    const double p = 1 / (1 + exp(-x)), complement = 1 / (1 + exp(x));
    const double negative_log = x < 0 ? -x + log1p(exp(x)) : log1p(exp(-x));
    const double log_complement = x > 0 ? -x - log1p(exp(-x)) : -log1p(exp(x));
    return log(q) + gamma * log_complement + log(focal_growth(p, complement, negative_log, gamma)) +
           negative_log;
}

/* A root of a function that is positive at `low` and negative at `high`, to the last bit of the place. */
typedef double Function(double x, double a, double b);
static double bisect(Function *function, double a, double b, double low, double high)
{
    for (;;) {
        const double middle = low + (high - low) / 2;
        if (!(middle > low && middle < high)) return middle;
        if (function(middle, a, b) > 0)
            low = middle;
        else
            high = middle;
    }
}

/* Positive where the loss falls with p. */
static double descent(double x, double q, double gamma)
{
    return log_slope(q, x, gamma) - log_slope(1 - q, -x, gamma);
}

double theory_minimiser(double q, double gamma)
{
    static const double far = 700; /* log-odds: exp of it is still a number */
    if (!(q > 0)) return 0;
    if (!(q < 1)) return 1;
    return 1 / (1 + exp(-bisect(descent, q, gamma, -far, far)));
}

/* ln g(p0, gamma) of a = ln(1 - p0) and b = p0 (-ln p0) / (1 - p0): first above 0, then falling. */
static double log_factor(double gamma, double a, double b) { return gamma * a + log1p(gamma * b); }

double theory_gamma_by_search(double p0)
{
    const double a = log1p(-p0), b = -p0 * log(p0) / (1 - p0);
    const double top = -1 / a - 1 / b; /* where it is largest; none above 0 is left at p0 = 0.5 */
    if (!(top > 0)) return 0;
    double high = 2 * top;
    while (log_factor(high, a, b) > 0)
        high *= 2;
    return bisect(log_factor, a, b, top, high);
}
