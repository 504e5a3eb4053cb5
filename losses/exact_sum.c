#include "losses/exact_sum.h"

#include "engine/base/memory.h"

#include <stdlib.h>

/* A sum travels as four limbs of 32 bits in int64, the highest one signed: the ranks' limbs add up without
 * overflow for up to 2^31 ranks, and carries are resolved on arrival. */
enum { LIMBS = 4 };

Status counts_reduce(Collective *collective, int64_t *counts, int64_t count)
{
    TRY(collective->sum(collective, (Span){.data = counts, .count = count, .type = INT64}, NULL));
    TRY(collective->join(collective, NULL));
    return OK;
}

Status exact_sum_reduce(Collective *collective, ExactSum *sums, int64_t count)
{
    if (collective->size == 1) return OK;
    int64_t *limbs;
    TRY(memory_new(&limbs, (size_t)count * LIMBS, sizeof *limbs, "exact sums"));
    for (int64_t i = 0; i < count; ++i) {
        __int128 rest = sums[i].units;
        for (int limb = 0; limb < LIMBS - 1; ++limb) {
            limbs[i * LIMBS + limb] = (int64_t)(rest & 0xffffffff);
            rest >>= 32;
        }
        limbs[i * LIMBS + LIMBS - 1] = (int64_t)rest;
    }
    Status status = counts_reduce(collective, limbs, count * LIMBS);
    for (int64_t i = 0; status == OK && i < count; ++i) {
        __int128 units = 0;
        for (int limb = LIMBS - 1; limb >= 0; --limb)
            units = units * ((__int128)1 << 32) + limbs[i * LIMBS + limb];
        sums[i].units = units;
    }
    free(limbs);
    return status;
}
