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

#endif
