/* The arithmetic of random.h, for the host and for CUDA kernels alike. */
#ifndef PLUMB_ENGINE_BASE_PHILOX_H
#define PLUMB_ENGINE_BASE_PHILOX_H

#include "engine/base/shared_function.h"

#include <stdint.h>

/* The published constants of Philox4x32-10. */
enum { PHILOX_ROUNDS = 10 };
#define PHILOX_FACTOR_0 ((uint64_t)0xD2511F53U)
#define PHILOX_FACTOR_1 ((uint64_t)0xCD9E8D57U)
#define PHILOX_KEY_STEP_0 0x9E3779B9U
#define PHILOX_KEY_STEP_1 0xBB67AE85U

/* Philox4x32-10: c becomes the random bits. */
SHARED_FUNCTION void philox(uint32_t k0, uint32_t k1, uint32_t c[4])
{
    for (int round = 0; round < PHILOX_ROUNDS; ++round) {
        const uint64_t product0 = PHILOX_FACTOR_0 * c[0];
        const uint64_t product1 = PHILOX_FACTOR_1 * c[2];
        c[0] = (uint32_t)(product1 >> 32) ^ c[1] ^ k0;
        c[1] = (uint32_t)product1;
        c[2] = (uint32_t)(product0 >> 32) ^ c[3] ^ k1;
        c[3] = (uint32_t)product0;
        k0 += PHILOX_KEY_STEP_0;
        k1 += PHILOX_KEY_STEP_1;
    }
}

/* Epoch and index fill the 128-bit counter, so the purpose goes into the key: a bijection of
 * seed + purpose * odd constant (the finaliser of SplitMix64). For one seed no two purposes share a key. */
SHARED_FUNCTION uint64_t philox_key(uint64_t seed, uint64_t purpose)
{
    uint64_t z = seed + purpose * 0x9E3779B97F4A7C15U;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
}

#endif
