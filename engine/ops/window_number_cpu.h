/* What the products of windows (window_product_cpu.h) are made of: numbers of four bytes, which are a FLOAT32 each or a
 * pair of BFLOAT16. */
#ifndef PLUMB_ENGINE_OPS_WINDOW_NUMBER_CPU_H
#define PLUMB_ENGINE_OPS_WINDOW_NUMBER_CPU_H

#include "engine/ops/vector_cpu.h"

#if VECTOR_AVX512 && defined(__AVX512BF16__) && !defined(__AMX_BF16__)
#define WINDOW_HAS_PAIRS 1
#else
#define WINDOW_HAS_PAIRS 0
#endif

/* A vector of sums += products of two pairs of BFLOAT16 in each lane. */
VECTOR_INLINE Vector multiply_pairs(Vector sum, Vector a, Vector b)
{
#if WINDOW_HAS_PAIRS
    return (Vector)_mm512_dpbf16_ps((__m512)sum, (__m512bh)(__m512)a, (__m512bh)(__m512)b);
#else
    (void)a;
    (void)b;
    return sum;  /* not reached: window_has_bfloat16 */
#endif
}

VECTOR_INLINE Vector multiply_add(Vector sum, Vector a, Vector b, bool pairs)
{
    return pairs ? multiply_pairs(sum, a, b) : sum + a * b;
}

VECTOR_INLINE float number_at(const void *data, int64_t index)
{
    float value;
    memcpy(&value, (const char *)data + index * 4, sizeof value);
    return value;
}

/* The lanes whose number is not zero, or, of a pair, one of the two. */
VECTOR_INLINE Mask numbers_not_zero(Vector numbers, bool pairs)
{
    const BitsVector bits = (BitsVector)numbers << 1; /* -0 is zero */
#if VECTOR_AVX512
    const uint32_t counts = pairs ? 0xfffeffffU : 0xffffffffU; /* the sign of the lower of a pair does not */
    return _mm512_test_epi32_mask((__m512i)bits, _mm512_set1_epi32((int)counts));
#else
    (void)pairs; /* not reached */
    return (IntVector)(bits != 0);
#endif
}

#endif
