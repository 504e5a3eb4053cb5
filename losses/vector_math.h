/* Double-precision exp and log over vector registers, for the loops of evaluation. Internal to losses/.
 * Written with the compilers' vector extensions: the width is that of the processor built for, and every lane
 * computes the same whatever its neighbours hold. In CUDA kernels a vector is one number. In a file that is
 * compiled without contraction (no fused multiply-adds of the compiler's own) a lane's bits are the same on
 * every processor. */
#ifndef PLUMB_LOSSES_VECTOR_MATH_H
#define PLUMB_LOSSES_VECTOR_MATH_H

#include "engine/base/shared_function.h"

#include <stdint.h>
#include <string.h>

#if defined(__AVX__) && !defined(__cplusplus)
#include <immintrin.h>
#endif

#if defined(__cplusplus)
#define DOUBLES_BYTES 8
#elif defined(__AVX512F__)
#define DOUBLES_BYTES 64
#elif defined(__AVX__)
#define DOUBLES_BYTES 32
#else
#define DOUBLES_BYTES 16
#endif
enum { DOUBLES_LANES = DOUBLES_BYTES / 8 };

#ifdef __cplusplus /* a CUDA kernel, or its source compiled for the host */
typedef double Doubles;
typedef int64_t DoublesBits;
typedef uint64_t DoublesUnsigned;
#define DOUBLES_INLINE SHARED_FUNCTION
#else
typedef double Doubles __attribute__((vector_size(DOUBLES_BYTES)));
typedef int64_t DoublesBits __attribute__((vector_size(DOUBLES_BYTES)));
typedef uint64_t DoublesUnsigned __attribute__((vector_size(DOUBLES_BYTES)));
#define DOUBLES_INLINE static inline __attribute__((always_inline))
#endif

/* The same bits as another type. */
DOUBLES_INLINE DoublesBits doubles_bits(Doubles v)
{
    DoublesBits bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

DOUBLES_INLINE Doubles doubles_of_bits(DoublesBits bits)
{
    Doubles v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* All ones in the lanes where a > b. */
DOUBLES_INLINE DoublesBits doubles_above(Doubles a, Doubles b)
{
#ifdef __cplusplus
    return a > b ? -1 : 0;
#else
    return (DoublesBits)(a > b);
#endif
}

DOUBLES_INLINE Doubles doubles_load(const double *from)
{
    Doubles v;
    memcpy(&v, from, sizeof v);
    return v;
}

DOUBLES_INLINE void doubles_store(double *to, Doubles v) { memcpy(to, &v, sizeof v); }

DOUBLES_INLINE Doubles doubles_all(double value)
{
    const Doubles zero = {0};
    return zero + value;
}

DOUBLES_INLINE Doubles doubles_select(DoublesBits mask, Doubles yes, Doubles no)
{
    return doubles_of_bits((mask & doubles_bits(yes)) | (~mask & doubles_bits(no)));
}

DOUBLES_INLINE Doubles doubles_maximum(Doubles a, Doubles b)
{
    return doubles_select(doubles_above(a, b), a, b);
}

#ifndef __cplusplus
/* One bit a lane, the first lane's lowest. The compilers' vector extensions have no word for it. */
#if defined(__AVX512F__)
DOUBLES_INLINE unsigned doubles_lanes_above(Doubles v, double limit)
{
    return _mm512_cmp_pd_mask((__m512d)v, _mm512_set1_pd(limit), _CMP_GT_OQ);
}
DOUBLES_INLINE unsigned doubles_lanes_equal(Doubles v, double value)
{
    return _mm512_cmp_pd_mask((__m512d)v, _mm512_set1_pd(value), _CMP_EQ_OQ);
}
#elif defined(__AVX__)
DOUBLES_INLINE unsigned doubles_lanes_above(Doubles v, double limit)
{
    return (unsigned)_mm256_movemask_pd(_mm256_cmp_pd((__m256d)v, _mm256_set1_pd(limit), _CMP_GT_OQ));
}
DOUBLES_INLINE unsigned doubles_lanes_equal(Doubles v, double value)
{
    return (unsigned)_mm256_movemask_pd(_mm256_cmp_pd((__m256d)v, _mm256_set1_pd(value), _CMP_EQ_OQ));
}
#else
DOUBLES_INLINE unsigned doubles_lanes_above(Doubles v, double limit)
{
    unsigned lanes = 0;
    for (int lane = 0; lane < DOUBLES_LANES; ++lane)
        lanes |= (unsigned)(v[lane] > limit) << lane;
    return lanes;
}
DOUBLES_INLINE unsigned doubles_lanes_equal(Doubles v, double value)
{
    unsigned lanes = 0;
    for (int lane = 0; lane < DOUBLES_LANES; ++lane)
        lanes |= (unsigned)(v[lane] == value) << lane;
    return lanes;
}
#endif
#endif

/* round(v * 2^shift) for |v * 2^shift| < 2^51: adding 1.5 * 2^52 leaves the integer in the low bits. */
DOUBLES_INLINE DoublesBits doubles_fixed(Doubles v, double scale)
{
    const Doubles shifter = doubles_all(0x1.8p52);
    return doubles_bits(v * scale + shifter) - doubles_bits(shifter);
}

/* 2^y for y in [-1021, 1023]. 2^y = 2^n 2^f with |f| <= 1/2, 2^f by Chebyshev interpolation of degree 10:
 * relative error below 4e-16 beside that of y. Exact at 0. */
DOUBLES_INLINE Doubles doubles_exp2(Doubles y)
{
    const Doubles shifter = doubles_all(0x1.8p52);
    const Doubles shifted = y + shifter;
    const Doubles f = y - (shifted - shifter);
    Doubles p = doubles_all(0x1.e6063f7217bc6p-28);
    p = p * f + 0x1.b675bca4eeebbp-24;
    p = p * f + 0x1.62bfd47773353p-20;
    p = p * f + 0x1.ffcb54062e698p-17;
    p = p * f + 0x1.430913096fd9fp-13;
    p = p * f + 0x1.5d87fe9d7a584p-10;
    p = p * f + 0x1.3b2ab6fba1ddap-7;
    p = p * f + 0x1.c6b08d703ce49p-5;
    p = p * f + 0x1.ebfbdff82c598p-3;
    p = p * f + 0x1.62e42fefa3a19p-1;
    p = p * f + 1.0;
    return doubles_of_bits(doubles_bits(p) + (doubles_bits(shifted) << 52));
}

/* e^x for x in [-708, 0], within 2 units in the last place, exact at 0; NaN gives NaN if its lowest 12 bits are 0, as those of
 * arithmetic and of float32 are. Defined for vectors and for numbers by the same operations, so with the same bits where both are
 * compiled with contraction or both without; compilers make vector instructions of a loop over numbers
 * (their own exp would need flags that also forbid NaN).
 * x = whole log 2 + rest, |rest| <= log(2) / 2. Adding 1.5 2^52 rounds to an integer, which then stands in the lowest
 * bits; log 2 is given as a sum of two, the first with enough zeros at its end that the product with `whole` is exact.
 * Then Taylor's series, of which the first term left out is below 2^-60; `whole` is added to its exponent. */
#define EXP_DEFINE(NAME, NUMBER, BITS)                                                                       \
    DOUBLES_INLINE NUMBER NAME(NUMBER x)                                                                     \
    {                                                                                                        \
        const NUMBER zero = {0};                                                                             \
        const NUMBER shifted = x * 0x1.71547652b82fep0 + 0x1.8p52;                                           \
        const NUMBER whole = shifted - 0x1.8p52;                                                             \
        const NUMBER rest = (x - whole * 0x1.62e42fefa0000p-1) - whole * 0x1.cf79abc9e3b39p-40;              \
        NUMBER series = zero + 1.0 / 6227020800.0;                                                           \
        series = series * rest + 1.0 / 479001600.0;                                                          \
        series = series * rest + 1.0 / 39916800.0;                                                           \
        series = series * rest + 1.0 / 3628800.0;                                                            \
        series = series * rest + 1.0 / 362880.0;                                                             \
        series = series * rest + 1.0 / 40320.0;                                                              \
        series = series * rest + 1.0 / 5040.0;                                                               \
        series = series * rest + 1.0 / 720.0;                                                                \
        series = series * rest + 1.0 / 120.0;                                                                \
        series = series * rest + 1.0 / 24.0;                                                                 \
        series = series * rest + 1.0 / 6.0;                                                                  \
        series = series * rest + 0.5;                                                                        \
        series = series * rest + 1.0;                                                                        \
        series = series * rest + 1.0;                                                                        \
        BITS bits, exponent;                                                                                 \
        memcpy(&bits, &series, sizeof bits);                                                                 \
        memcpy(&exponent, &shifted, sizeof exponent);                                                        \
        bits += exponent << 52;                                                                              \
        memcpy(&series, &bits, sizeof series);                                                               \
        return series;                                                                                       \
    }
EXP_DEFINE(doubles_exp_normal, Doubles, DoublesUnsigned)
EXP_DEFINE(number_exp_normal, double, uint64_t)
#undef EXP_DEFINE

/* e^x for x <= 0. The two differ only below -708, where results would soon be subnormal, which is slow:
 * doubles_exp, of evaluation, gives e^-708 down to -745.13..., and 0 below, where the nearest double is 0: a probability
 * is 0 where it should be. number_exp, of training, saves that effort and gives 0. */
#define EXP_SMALLEST (-708.0)
DOUBLES_INLINE Doubles doubles_exp(Doubles x)
{
    const Doubles smallest = doubles_all(EXP_SMALLEST);
    const Doubles e = doubles_exp_normal(doubles_select(doubles_above(smallest, x), smallest, x));
    return doubles_of_bits(doubles_bits(e) & ~doubles_above(doubles_all(-745.1332191019412), x));
}

DOUBLES_INLINE double number_exp(double x) { return x < EXP_SMALLEST ? 0.0 : number_exp_normal(x); }

/* log(v) for normal v > 0: v = 2^k m with m in [sqrt(1/2), sqrt(2)), log m = 2 atanh((m - 1) / (m + 1)).
 * Relative error a few 1e-16. Exact at 1. */
DOUBLES_INLINE Doubles doubles_log(Doubles v)
{
    const int64_t sqrt_half = 0x3fe6a09e667f3bcd;
    const DoublesBits offset = doubles_bits(v) - sqrt_half;
    const DoublesBits k = offset >> 52;
    const Doubles m = doubles_of_bits(doubles_bits(v) - (k << 52));
    const Doubles shifter = doubles_all(0x1.8p52);
    const Doubles exponent = doubles_of_bits(k + doubles_bits(shifter)) - shifter;
    const Doubles s = (m - 1.0) / (m + 1.0);
    const Doubles u = s * s;
    Doubles r = doubles_all(0x1.0c039c49989c6p-3);
    r = r * u + 0x1.0fbe95d716020p-3;
    r = r * u + 0x1.3b1c355a8f7a2p-3;
    r = r * u + 0x1.745cf9048dd95p-3;
    r = r * u + 0x1.c71c720159177p-3;
    r = r * u + 0x1.2492492476cccp-2;
    r = r * u + 0x1.9999999999a38p-2;
    r = r * u + 0x1.5555555555555p-1;
    return exponent * 0x1.62e42fefa39efp-1 + (2.0 * s + s * u * r);
}

/* The same of one number. */
DOUBLES_INLINE double number_log(double v)
{
#ifdef __cplusplus
    return doubles_log(v);
#else
    return doubles_log(doubles_all(v))[0];
#endif
}

#endif
