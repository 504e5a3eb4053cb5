/* e^x and what is made of it, of as many float32 at a time as a register holds. */
#ifndef PLUMB_ENGINE_OPS_VECTOR_EXP_CPU_H
#define PLUMB_ENGINE_OPS_VECTOR_EXP_CPU_H

#include "engine/ops/vector_cpu.h"

VECTOR_INLINE Vector vector_select(IntVector where, Vector yes, Vector no)
{
    return (Vector)((where & (IntVector)yes) | (~where & (IntVector)no));
}

/* e^x for x <= 0, to 2 units in the last place: x = n ln 2 + r, |r| <= ln(2)/2, and a polynomial in r (the
 * coefficients of Moshier's Cephes expf). Below the smallest normal number the result is 0. NaN stays NaN. */
VECTOR_INLINE Vector vector_exp(Vector x)
{
    const Vector magic = vector_all(0x1.8p23F); /* adding it leaves n, rounded, in the low bits */
    const Vector shifted = x * 1.44269504088896341F + magic;
    const Vector n = shifted - magic;
    const Vector r = (x - n * 0.693359375F) - n * -2.12194440e-4F;
    Vector p = vector_all(1.9875691500e-4F);
    p = p * r + 1.3981999507e-3F;
    p = p * r + 8.3334519073e-3F;
    p = p * r + 4.1665795894e-2F;
    p = p * r + 1.6666665459e-1F;
    p = p * r + 5.0000001201e-1F;
    p = p * r * r + r + 1.0F;
    const BitsVector power = ((BitsVector)shifted - 0x4B400000U + 127U) << 23;
    const IntVector tiny = x < vector_all(-87.3F);
    return (Vector)((IntVector)(p * (Vector)power) & ~tiny);
}

VECTOR_INLINE Vector vector_absolute(Vector x) { return (Vector)((BitsVector)x & 0x7fffffffU); }

/* 1 / (1 + e^-x), to 4 units in the last place. */
VECTOR_INLINE Vector vector_logistic(Vector x)
{
    const Vector e = vector_exp(-vector_absolute(x));
    return vector_select(x < vector_all(0), e, vector_all(1)) / (1.0F + e);
}

/* To 4 units in the last place. Near 0 by Cephes' polynomial, since 1 - e^-2x would cancel. */
VECTOR_INLINE Vector vector_tanh(Vector x)
{
    const Vector size = vector_absolute(x), e = vector_exp(-2.0F * size), z = x * x;
    Vector p = vector_all(-5.70498872745e-3F);
    p = p * z + 2.06390887954e-2F;
    p = p * z + -5.37397155531e-2F;
    p = p * z + 1.33314422036e-1F;
    p = p * z + -3.33332819422e-1F;
    const Vector small = p * z * x + x, large = (1.0F - e) / (1.0F + e);
    const Vector with_sign = (Vector)((BitsVector)large | ((BitsVector)x & 0x80000000U));
    return vector_select(size < vector_all(0.625F), small, with_sign);
}

#endif
