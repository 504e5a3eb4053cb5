/* Sums of real numbers that do not depend on the order of the terms, so that a statistic over samples has
 * the same bits at any number of ranks and threads. A term is rounded once, to 2^-56; from then on all is
 * integer arithmetic. */
#ifndef PLUMB_LOSSES_CALIBRATION_EXACT_SUM_H
#define PLUMB_LOSSES_CALIBRATION_EXACT_SUM_H

#include "engine/base/shared_function.h"
#include "engine/base/status.h"
#include "engine/device/collective.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { EXACT_SUM_SHIFT = 56 }; /* the unit is 2^-56 */
#define EXACT_SUM_LARGEST 0x1p40

/* Zero-initialised is the empty sum. Holds up to 2^31 terms of magnitude up to 2^40 (1.1e12); larger terms, which only
 * losses have, go into a LargeSum. */
typedef struct {
    __int128 units;
} ExactSum;

/* The term in units of 2^-56. NaN and magnitudes above EXACT_SUM_LARGEST are not allowed. */
SHARED_FUNCTION __int128 exact_sum_units(double term)
{
    const int64_t whole = (int64_t)term;
    const double rest = term - (double)whole; /* exact, magnitude below 1 */
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

/* The positive terms above EXACT_SUM_LARGEST of a sum, up to infinity: exact, and in any order likewise. A term is a
 * multiple of 2^-12 below 2^1024, and is added in parts of 32 bits. Zero-initialised is the empty sum. All members are
 * int64: sums over ranks are sums of members. */
enum { LARGE_SUM_LIMBS = 33, LARGE_SUM_SHIFT = 12, LARGE_SUM_PARTS = 3 };
typedef struct {
    int64_t limb[LARGE_SUM_LIMBS]; /* unit of limb i: 2^(32 i - 12) */
    int64_t terms, infinite;       /* how many; among them, how many are infinite */
} LargeSum;
enum { LARGE_SUM_MEMBERS = sizeof(LargeSum) / sizeof(int64_t) };

SHARED_FUNCTION bool large_sum_takes(double term) { return term > EXACT_SUM_LARGEST; }

/* part[i] belongs to limb (result + i). The term is finite. */
SHARED_FUNCTION int large_sum_parts(double term, int64_t part[LARGE_SUM_PARTS])
{
    uint64_t bits;
    memcpy(&bits, &term, sizeof bits);
    const int shift = (int)(bits >> 52) - 1023 - 52 + LARGE_SUM_SHIFT; /* of the mantissa, in units */
    const uint64_t mantissa = (bits & ((UINT64_C(1) << 52) - 1)) | UINT64_C(1) << 52;
    const unsigned __int128 units = (unsigned __int128)mantissa << (shift % 32);
    for (int i = 0; i < LARGE_SUM_PARTS; ++i)
        part[i] = (int64_t)((uint64_t)(units >> (32 * i)) & 0xffffffff);
    return shift / 32;
}

void large_sum_add(LargeSum *, double term);
void large_sum_merge(LargeSum *, const LargeSum *more);
/* (sum + large) / count; infinity if a term is. Without large terms it is exact_sum_value(sum) / count. */
double large_sum_mean(ExactSum sum, const LargeSum *large, double count);

/* Every sum becomes its sum over the ranks. Collective: same count on all ranks. Other integers of 128 bits
 * can travel the same way. */
CHECKED Status exact_sum_reduce(Collective *, ExactSum *sums, int64_t count);
CHECKED Status large_sum_reduce(Collective *, LargeSum *sums, int64_t count);

/* In place sums of int64 over the ranks, waited for. Collective. */
CHECKED Status counts_reduce(Collective *, int64_t *counts, int64_t count);
/* *number becomes the smallest, or largest, of all ranks' numbers. Collective. */
CHECKED Status smallest_reduce(Collective *, int64_t *number);
CHECKED Status largest_reduce(Collective *, int64_t *number);

#endif
