/* Element types, and the bfloat16 conversions. */
#ifndef PLUMB_ENGINE_BASE_DTYPE_H
#define PLUMB_ENGINE_BASE_DTYPE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef enum { FLOAT32, BFLOAT16, FLOAT64, INT32, INT64, UINT8, DTYPE_COUNT } DType;

size_t dtype_size(DType);      /* bytes */
const char *dtype_name(DType); /* "float32", ... */

typedef uint16_t bfloat16;

static inline float bfloat16_to_float(bfloat16 value)
{
    uint32_t bits = (uint32_t)value << 16;
    float result;
    memcpy(&result, &bits, sizeof result);
    return result;
}

/* Round to nearest, ties to even; NaN stays NaN. */
static inline bfloat16 bfloat16_from_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffffU) > 0x7f800000U) return (bfloat16)((bits >> 16) | 0x40U);
    return (bfloat16)((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

/* Of the bits of a float16 (IEEE 754). float32 holds each of them, those below float16's normal range too: nothing is
 * rounded. */
static inline float half_to_float(uint16_t half)
{
    enum { FRACTION = 10, BIAS = 15, ALL_ONES = 31 };
    const uint32_t fraction = half & ((1U << FRACTION) - 1), exponent = (uint32_t)half >> FRACTION & ALL_ONES;
    uint32_t bits = fraction << (23 - FRACTION);
    float result;
    if (exponent == ALL_ONES) { /* infinity, or NaN */
        bits |= 255U << 23;
    } else if (exponent > 0) {
        bits |= (exponent + 127 - BIAS) << 23;
    } else {
        const float small = (float)fraction * 0x1p-24F;
        memcpy(&bits, &small, sizeof bits);
    }
    bits |= (uint32_t)half >> 15 << 31;
    memcpy(&result, &bits, sizeof result);
    return result;
}

#endif
