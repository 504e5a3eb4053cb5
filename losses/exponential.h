/* exp(x) for x <= 0 in a form that compilers turn into vector instructions; theirs would need the flags
 * that also forbid NaN. Within 2 units in the last place; 0 below -708, where results would be subnormal or
 * nearly so; NaN gives NaN. */
#ifndef PLUMB_LOSSES_EXPONENTIAL_H
#define PLUMB_LOSSES_EXPONENTIAL_H

#include <stdint.h>
#include <string.h>

static inline double exponential(double x)
{
    /* x = whole log 2 + rest, |rest| <= log(2) / 2. Adding 1.5 2^52 rounds to an integer, which then stands
     * in the lowest bits; log 2 is given as a sum of two, the first with enough zeros at its end that the
     * product with `whole` is exact. */
    const double shifted = x * 0x1.71547652b82fep0 + 0x1.8p52;
    const double whole = shifted - 0x1.8p52;
    const double rest = (x - whole * 0x1.62e42fefa0000p-1) - whole * 0x1.cf79abc9e3b39p-40;
    /* Taylor's series: the first term left out is below 2^-60. */
    double series = 1.0 / 6227020800.0;
    series = series * rest + 1.0 / 479001600.0;
    series = series * rest + 1.0 / 39916800.0;
    series = series * rest + 1.0 / 3628800.0;
    series = series * rest + 1.0 / 362880.0;
    series = series * rest + 1.0 / 40320.0;
    series = series * rest + 1.0 / 5040.0;
    series = series * rest + 1.0 / 720.0;
    series = series * rest + 1.0 / 120.0;
    series = series * rest + 1.0 / 24.0;
    series = series * rest + 1.0 / 6.0;
    series = series * rest + 0.5;
    series = series * rest + 1.0;
    series = series * rest + 1.0;
    /* 2^whole, by its exponent's bits. */
    uint64_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 1023) << 52;
    double power;
    memcpy(&power, &bits, sizeof power);
    return x < -708.0 ? 0.0 : series * power;
}

#endif
