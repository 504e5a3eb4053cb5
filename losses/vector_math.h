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
#define VECTOR_BYTES 8
#elif defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif
enum { LANES = VECTOR_BYTES / 8 };

#ifdef __cplusplus /* a CUDA kernel, or its source compiled for the host */
typedef double VectorDouble;
typedef int64_t VectorInt;
typedef uint64_t VectorUnsigned;
#define VECTOR_INLINE SHARED_FUNCTION
#else
typedef double VectorDouble __attribute__((vector_size(VECTOR_BYTES)));
typedef int64_t VectorInt __attribute__((vector_size(VECTOR_BYTES)));
typedef uint64_t VectorUnsigned __attribute__((vector_size(VECTOR_BYTES)));
#define VECTOR_INLINE static inline __attribute__((always_inline))
#endif

/* The same bits as another type. */
VECTOR_INLINE VectorInt vector_bits(VectorDouble v)
{
    VectorInt bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

VECTOR_INLINE VectorDouble vector_of_bits(VectorInt bits)
{
    VectorDouble v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* All ones in the lanes where a > b. */
VECTOR_INLINE VectorInt vector_above(VectorDouble a, VectorDouble b)
{
#ifdef __cplusplus
    return a > b ? -1 : 0;
#else
    return (VectorInt)(a > b);
#endif
}

VECTOR_INLINE VectorDouble vector_load(const double *from)
{
    VectorDouble v;
    memcpy(&v, from, sizeof v);
    return v;
}

VECTOR_INLINE void vector_store(double *to, VectorDouble v) { memcpy(to, &v, sizeof v); }

VECTOR_INLINE VectorDouble vector_all(double value)
{
    const VectorDouble zero = {0};
    return zero + value;
}

VECTOR_INLINE VectorDouble vector_select(VectorInt mask, VectorDouble yes, VectorDouble no)
{
    return vector_of_bits((mask & vector_bits(yes)) | (~mask & vector_bits(no)));
}

VECTOR_INLINE VectorDouble vector_maximum(VectorDouble a, VectorDouble b)
{
    return vector_select(vector_above(a, b), a, b);
}

#ifndef __cplusplus
/* One bit a lane, the first lane's lowest. The compilers' vector extensions have no word for it. */
#if defined(__AVX512F__)
VECTOR_INLINE unsigned vector_lanes_above(VectorDouble v, double limit)
{
    return _mm512_cmp_pd_mask((__m512d)v, _mm512_set1_pd(limit), _CMP_GT_OQ);
}
VECTOR_INLINE unsigned vector_lanes_equal(VectorDouble v, double value)
{
    return _mm512_cmp_pd_mask((__m512d)v, _mm512_set1_pd(value), _CMP_EQ_OQ);
}
#elif defined(__AVX__)
VECTOR_INLINE unsigned vector_lanes_above(VectorDouble v, double limit)
{
    return (unsigned)_mm256_movemask_pd(_mm256_cmp_pd((__m256d)v, _mm256_set1_pd(limit), _CMP_GT_OQ));
}
VECTOR_INLINE unsigned vector_lanes_equal(VectorDouble v, double value)
{
    return (unsigned)_mm256_movemask_pd(_mm256_cmp_pd((__m256d)v, _mm256_set1_pd(value), _CMP_EQ_OQ));
}
#else
VECTOR_INLINE unsigned vector_lanes_above(VectorDouble v, double limit)
{
    unsigned lanes = 0;
    for (int lane = 0; lane < LANES; ++lane)
        lanes |= (unsigned)(v[lane] > limit) << lane;
    return lanes;
}
VECTOR_INLINE unsigned vector_lanes_equal(VectorDouble v, double value)
{
    unsigned lanes = 0;
    for (int lane = 0; lane < LANES; ++lane)
        lanes |= (unsigned)(v[lane] == value) << lane;
    return lanes;
}
#endif
#endif

/* round(v * 2^shift) for |v * 2^shift| < 2^51: adding 1.5 * 2^52 leaves the integer in the low bits. */
VECTOR_INLINE VectorInt vector_fixed(VectorDouble v, double scale)
{
    const VectorDouble shifter = vector_all(0x1.8p52);
    return vector_bits(v * scale + shifter) - vector_bits(shifter);
}

/* 2^y for y in [-1021, 1023]. 2^y = 2^n 2^f with |f| <= 1/2, 2^f by Chebyshev interpolation of degree 10:
 * relative error below 4e-16 beside that of y. Exact at 0. */
VECTOR_INLINE VectorDouble vector_exp2(VectorDouble y)
{
    const VectorDouble shifter = vector_all(0x1.8p52);
    const VectorDouble shifted = y + shifter;
    const VectorDouble f = y - (shifted - shifter);
    VectorDouble p = vector_all(0x1.e6063f7217bc6p-28);
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
    return vector_of_bits(vector_bits(p) + (vector_bits(shifted) << 52));
}

/* e^z for z <= 0. Where the true value is below the smallest normal number the result is 0 if the nearest
 * double is (z < -745.13...), else about 2^-1021. */
VECTOR_INLINE VectorDouble vector_exp(VectorDouble z)
{
    const double log2_e_high = 0x1.71547652b82fep0, log2_e_low = 0x1.777d0ffda0d24p-56;
    const VectorDouble limited = vector_maximum(z, vector_all(-707.7));
    /* y = z log2(e) in two parts: the rounding of the product comes back as the correction. */
    const VectorDouble shifter = vector_all(0x1.8p52);
    const VectorDouble shifted = limited * log2_e_high + shifter;
    const VectorDouble n = shifted - shifter;
    /* z - n ln2, ln2 in two parts, is exact to the last bits; times log2(e) it is the fraction. */
    const VectorDouble rest = (limited - n * 0x1.62e42fefa3800p-1) - n * 0x1.ef35793c76730p-45;
    const VectorDouble f = rest * log2_e_high + rest * log2_e_low;
    VectorDouble p = vector_all(0x1.e9ec1fcb69a7fp-32);
    p = p * f + 0x1.e6228acd1c6e5p-28;
    p = p * f + 0x1.b524ebd13a55fp-24;
    p = p * f + 0x1.62bfc2c86d700p-20;
    p = p * f + 0x1.ffcbfc6da6ed1p-17;
    p = p * f + 0x1.430913112c61bp-13;
    p = p * f + 0x1.5d87fe78a3f9cp-10;
    p = p * f + 0x1.3b2ab6fb9f1a5p-7;
    p = p * f + 0x1.c6b08d704a0c6p-5;
    p = p * f + 0x1.ebfbdff82c5aep-3;
    p = p * f + 0x1.62e42fefa39efp-1;
    p = p * f + 1.0;
    const VectorDouble e = vector_of_bits(vector_bits(p) + (vector_bits(shifted) << 52));
    return vector_of_bits(vector_bits(e) & ~vector_above(vector_all(-745.1332191019412), z));
}

/* log(v) for normal v > 0: v = 2^k m with m in [sqrt(1/2), sqrt(2)), log m = 2 atanh((m - 1) / (m + 1)).
 * Relative error a few 1e-16. Exact at 1. */
VECTOR_INLINE VectorDouble vector_log(VectorDouble v)
{
    const int64_t sqrt_half = 0x3fe6a09e667f3bcd;
    const VectorInt offset = vector_bits(v) - sqrt_half;
    const VectorInt k = offset >> 52;
    const VectorDouble m = vector_of_bits(vector_bits(v) - (k << 52));
    const VectorDouble shifter = vector_all(0x1.8p52);
    const VectorDouble exponent = vector_of_bits(k + vector_bits(shifter)) - shifter;
    const VectorDouble s = (m - 1.0) / (m + 1.0);
    const VectorDouble u = s * s;
    VectorDouble r = vector_all(0x1.0c039c49989c6p-3);
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
VECTOR_INLINE double number_log(double v)
{
#ifdef __cplusplus
    return vector_log(v);
#else
    return vector_log(vector_all(v))[0];
#endif
}

#endif
