/* Sums of real numbers that do not depend on the order of the terms, so that a statistic over samples has
 * the same bits at any number of ranks and threads. A term is rounded once, to 2^-56; from then on all is
 * integer arithmetic. */
#ifndef PLUMB_LOSSES_CALIBRATION_EXACT_SUM_H
#define PLUMB_LOSSES_CALIBRATION_EXACT_SUM_H

#include "engine/base/shared_function.h"
#include "engine/base/status.h"
#include "engine/device/collective.h"

#include <math.h>
#include <stdint.h>

enum { EXACT_SUM_SHIFT = 56 }; /* the unit is 2^-56 */

/* Zero-initialised is the empty sum. Holds up to 2^31 terms of magnitude up to 2^40. */
typedef struct {
    __int128 units;
} ExactSum;

/* The term in units of 2^-56. A term beyond +-2^40 (1.1e12) counts as +-2^40. NaN is not allowed. */
SHARED_FUNCTION __int128 exact_sum_units(double term)
{
    const double limited = fmin(fmax(term, -0x1p40), 0x1p40);
    const int64_t whole = (int64_t)limited;
    const double rest = limited - (double)whole; /* exact, magnitude below 1 */
    return (__int128)whole * ((__int128)1 << EXACT_SUM_SHIFT) + (__int128)llrint(rest * 0x1p56);
}

static inline void exact_sum_add(ExactSum *sum, double term) { sum->units += exact_sum_units(term); }

/* The nearest double. */
static inline double exact_sum_value(ExactSum sum) { return (double)sum.units * 0x1p-56; }

/* A sum in parts of 32 bits, the highest one signed, each in an int64: parts are added up on their own, for up
 * to 2^31 terms or ranks, and carries are resolved at the end. */
enum { EXACT_SUM_LIMBS = 4 };

SHARED_FUNCTION int64_t exact_sum_limb(__int128 units, int limb)
{
    const int64_t part = (int64_t)(units >> (32 * limb));
    return limb < EXACT_SUM_LIMBS - 1 ? part & 0xffffffff : part;
}

static inline ExactSum exact_sum_of_limbs(const int64_t limb[EXACT_SUM_LIMBS])
{
    __int128 units = 0;
    for (int i = EXACT_SUM_LIMBS - 1; i >= 0; --i)
        units = units * ((__int128)1 << 32) + limb[i];
    return (ExactSum){units};
}

/* Every sum becomes its sum over the ranks. Collective: same count on all ranks. Other integers of 128 bits
 * can travel the same way. */
CHECKED Status exact_sum_reduce(Collective *, ExactSum *sums, int64_t count);

/* In place sums of int64 over the ranks, waited for. Collective. */
CHECKED Status counts_reduce(Collective *, int64_t *counts, int64_t count);

#endif
