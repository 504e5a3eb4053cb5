/* As many floats at a time as a register holds, for kernels whose speed is that of memory: sixteen with AVX-512,
 * else eight (one register of AVX2, two of NEON or SSE; gcc makes slow code of vectors wider than registers).
 * Arithmetic is written with C operators (compilers' vector extensions); float32 and bfloat16 differ only in
 * how a vector is loaded and stored, which the constant argument `bf16` selects.
 *
 * A row is walked in whole vectors and one part: every function here takes the number of lanes that exist,
 * and with the constant LANES compiles to one plain load or store. Absent lanes read as zero. */
#ifndef PLUMB_ENGINE_OPS_VECTOR_CPU_H
#define PLUMB_ENGINE_OPS_VECTOR_CPU_H

#include "engine/base/dtype.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define VECTOR_AVX512 1
#define VECTOR_AVX2 0
#include <immintrin.h>
#elif defined(__AVX2__)
#define VECTOR_AVX512 0
#define VECTOR_AVX2 1
#include <immintrin.h>
#else
#define VECTOR_AVX512 0
#define VECTOR_AVX2 0
#endif

/* Inlined always, so that the conventions for passing wide vectors do not matter (the build says -Wno-psabi);
 * but not with sanitizers, whose checks would make each kernel megabytes. */
#ifdef PLUMB_SANITIZED
#define VECTOR_INLINE static inline
#else
#define VECTOR_INLINE static inline __attribute__((always_inline))
#endif

#define VECTOR_BYTES (VECTOR_AVX512 ? 64 : 32)
enum { LANES = VECTOR_BYTES / 4 };
typedef float Vector __attribute__((vector_size(VECTOR_BYTES)));
typedef int32_t IntVector __attribute__((vector_size(VECTOR_BYTES)));
typedef uint32_t BitsVector __attribute__((vector_size(VECTOR_BYTES)));
typedef uint16_t HalfVector __attribute__((vector_size(VECTOR_BYTES / 2)));

VECTOR_INLINE Vector vector_all(float value) { return value - (Vector){0}; }

/* The address of element `index`. */
VECTOR_INLINE const void *vector_at(const void *data, int64_t index, bool bf16)
{
    return (const char *)data + index * (bf16 ? 2 : 4);
}

/* Asks for `vectors` vectors from `index` on, which may lie behind the end: into the second-level cache,
 * since rows whose length is a power of two would drive one another out of the first. */
VECTOR_INLINE void vector_prefetch(const void *data, int64_t index, int vectors, bool bf16)
{
    enum { LINE = 64 };
    for (int byte = 0; byte < vectors * LANES * (bf16 ? 2 : 4); byte += LINE)
        __builtin_prefetch((const char *)vector_at(data, index, bf16) + byte, 0, 2);
}

/* All ones in the lanes that exist. */
VECTOR_INLINE IntVector vector_present(int lanes)
{
    IntVector lane = {0};
    for (int i = 0; i < LANES; ++i)
        lane[i] = i;
    return lane < (IntVector){0} + lanes;
}

/* Of a part of a vector. The mask changes nothing but what compilers know of its size. */
VECTOR_INLINE size_t vector_part_bytes(int lanes, size_t element)
{
    return ((unsigned)lanes & (LANES - 1)) * element;
}

VECTOR_INLINE Vector vector_load(const void *data, int64_t index, int lanes, bool bf16)
{
    const void *from = vector_at(data, index, bf16);
    if (bf16) {
        HalfVector half = {0};
        if (lanes == LANES) {
            memcpy(&half, from, sizeof half);
        } else {
#if VECTOR_AVX512
            half = (HalfVector)_mm256_maskz_loadu_epi16((__mmask16)((1U << lanes) - 1), from);
#else
            memcpy(&half, from, vector_part_bytes(lanes, sizeof(bfloat16)));
#endif
        }
#if VECTOR_AVX512 /* gcc makes five instructions of the conversion below */
        return (Vector)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)half), 16);
#elif VECTOR_AVX2
        return (Vector)_mm256_slli_epi32(_mm256_cvtepu16_epi32((__m128i)half), 16);
#else
        return (Vector)(__builtin_convertvector(half, BitsVector) << 16);
#endif
    }
    Vector vector = {0};
    if (lanes == LANES) {
        memcpy(&vector, from, sizeof vector);
    } else {
#if VECTOR_AVX512
        vector = (Vector)_mm512_maskz_loadu_ps((__mmask16)((1U << lanes) - 1), from);
#elif VECTOR_AVX2
        vector = (Vector)_mm256_maskload_ps(from, (__m256i)vector_present(lanes));
#else
        memcpy(&vector, from, vector_part_bytes(lanes, sizeof(float)));
#endif
    }
    return vector;
}

/* As bfloat16_from_float does it. (The processor's own instruction takes denormals for zero: of no
 * consequence to sums, and an eighth of the work.) */
VECTOR_INLINE HalfVector vector_to_half(Vector vector)
{
#if VECTOR_AVX512 && defined(__AVX512BF16__)
    return (HalfVector)_mm512_cvtneps_pbh((__m512)vector);
#else
    const BitsVector bits = (BitsVector)vector;
    const BitsVector nan = (BitsVector)(vector != vector);
    const BitsVector rounded = bits + 0x7fffU + ((bits >> 16) & 1U);
    const BitsVector high = ((rounded & ~nan) | ((bits | 0x400000U) & nan)) >> 16;
#if VECTOR_AVX2 /* packs within 128 bits */
    const __m256i packed = _mm256_packus_epi32((__m256i)high, (__m256i)high);
    return (HalfVector)_mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08));
#else
    return __builtin_convertvector(high, HalfVector);
#endif
#endif
}

VECTOR_INLINE void vector_store(void *data, int64_t index, int lanes, bool bf16, Vector vector)
{
    void *to = (char *)data + index * (bf16 ? 2 : 4);
    if (bf16) {
        const HalfVector half = vector_to_half(vector);
        if (lanes == LANES) {
            memcpy(to, &half, sizeof half);
        } else {
#if VECTOR_AVX512
            _mm256_mask_storeu_epi16(to, (__mmask16)((1U << lanes) - 1), (__m256i)half);
#else
            memcpy(to, &half, vector_part_bytes(lanes, sizeof(bfloat16)));
#endif
        }
        return;
    }
    if (lanes == LANES) {
        memcpy(to, &vector, sizeof vector);
    } else {
#if VECTOR_AVX512
        _mm512_mask_storeu_ps(to, (__mmask16)((1U << lanes) - 1), (__m512)vector);
#elif VECTOR_AVX2
        _mm256_maskstore_ps(to, (__m256i)vector_present(lanes), (__m256)vector);
#else
        memcpy(to, &vector, vector_part_bytes(lanes, sizeof(float)));
#endif
    }
}

/* A whole vector past the caches, for results too large to stay in them: the line need not be read before it
 * is written. The address must be aligned to the vector's bytes; vector_fence before others read. */
VECTOR_INLINE void vector_stream(void *data, int64_t index, bool bf16, Vector vector)
{
#if VECTOR_AVX512
    void *to = (char *)data + index * (bf16 ? 2 : 4);
    if (bf16)
        _mm256_stream_si256(to, (__m256i)vector_to_half(vector));
    else
        _mm512_stream_ps(to, (__m512)vector);
#elif VECTOR_AVX2
    void *to = (char *)data + index * (bf16 ? 2 : 4);
    if (bf16)
        _mm_stream_si128(to, (__m128i)vector_to_half(vector));
    else
        _mm256_stream_ps(to, (__m256)vector);
#else
    vector_store(data, index, LANES, bf16, vector);
#endif
}

VECTOR_INLINE void vector_fence(void)
{
#if VECTOR_AVX512 || VECTOR_AVX2
    _mm_sfence();
#endif
}

/* ---- the ReLU's question ---- */

#if VECTOR_AVX512
typedef __mmask16 Mask;
#else
typedef IntVector Mask; /* a lane is 0 or -1 */
#endif

/* Lanes that a ReLU passes: positive ones, and NaN, which must not vanish. */
VECTOR_INLINE Mask vector_passes(Vector vector)
{
#if VECTOR_AVX512
    return _mm512_cmp_ps_mask((__m512)vector, _mm512_setzero_ps(), _CMP_NLE_UQ);
#else
    return ~(vector <= vector_all(0));
#endif
}

/* The vector where the mask is set, 0 elsewhere. */
VECTOR_INLINE Vector vector_gate(Mask mask, Vector vector)
{
#if VECTOR_AVX512
    return (Vector)_mm512_maskz_mov_ps(mask, (__m512)vector);
#else
    return (Vector)(mask & (IntVector)vector);
#endif
}

/* The first where the mask is set, the second elsewhere. */
VECTOR_INLINE Vector vector_choose(Mask mask, Vector first, Vector second)
{
#if VECTOR_AVX512
    return (Vector)_mm512_mask_mov_ps((__m512)second, mask, (__m512)first);
#else
    return (Vector)((mask & (IntVector)first) | (~mask & (IntVector)second));
#endif
}

/* Lanes in which `vector` comes before `best` as a maximum: larger, or NaN. */
VECTOR_INLINE Mask vector_beats(Vector vector, Vector best)
{
#if VECTOR_AVX512
    return _mm512_cmp_ps_mask((__m512)vector, (__m512)best, _CMP_GT_OQ) |
           _mm512_cmp_ps_mask((__m512)vector, (__m512)vector, _CMP_UNORD_Q);
#else
    return (vector > best) | (vector != vector);
#endif
}

VECTOR_INLINE Vector vector_relu(Vector vector) { return vector_gate(vector_passes(vector), vector); }

/* Bit i: lane i. */
VECTOR_INLINE uint16_t mask_bits(Mask mask)
{
#if VECTOR_AVX512
    return (uint16_t)mask;
#elif VECTOR_AVX2
    return (uint16_t)_mm256_movemask_ps((__m256)mask);
#else
    uint16_t bits = 0;
    for (int i = 0; i < LANES; ++i)
        bits |= (uint16_t)((mask[i] & 1) << i);
    return bits;
#endif
}

/* Masks in memory: bit i of a row belongs to column i; rows start at whole bytes. */
VECTOR_INLINE void mask_store(uint8_t *row, int64_t column, int lanes, Mask mask)
{
    const uint16_t bits = mask_bits(mask);
    row[column / 8] = (uint8_t)bits;
    if (lanes > 8) row[column / 8 + 1] = (uint8_t)(bits >> 8);
}

VECTOR_INLINE Mask mask_load(const uint8_t *row, int64_t column, int lanes)
{
    uint16_t bits = row[column / 8];
    if (lanes > 8) bits |= (uint16_t)(row[column / 8 + 1] << 8);
#if VECTOR_AVX512
    return (Mask)bits;
#elif VECTOR_AVX2
    const __m256i of_lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    return (Mask)_mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(bits), of_lane), of_lane);
#else
    Mask mask = {0};
    for (int i = 0; i < LANES; ++i)
        mask[i] = -(int32_t)((bits >> i) & 1U);
    return mask;
#endif
}

/* ---- within one vector ---- */

/* Always in the same order. */
VECTOR_INLINE float vector_sum(Vector vector)
{
    float lane[LANES];
    memcpy(lane, &vector, sizeof lane);
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int i = 0; i < width; ++i)
            lane[i] += lane[i + width];
    return lane[0];
}

#endif
