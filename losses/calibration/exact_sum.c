#include "losses/calibration/exact_sum.h"

#include "engine/base/memory.h"

#include <stdlib.h>

Status counts_reduce(Collective *collective, int64_t *counts, int64_t count)
{
    TRY(collective_sum(collective, (Span){.data = counts, .count = count, .type = INT64}, NULL));
    TRY(collective_join(collective, NULL));
    return OK;
}

Status exact_sum_reduce(Collective *collective, ExactSum *sums, int64_t count)
{
    if (collective->size == 1) return OK;
    int64_t *limbs;
    TRY(memory_new(&limbs, (size_t)count * EXACT_SUM_LIMBS, sizeof *limbs, "exact sums"));
    for (int64_t i = 0; i < count; ++i)
        for (int limb = 0; limb < EXACT_SUM_LIMBS; ++limb)
            limbs[i * EXACT_SUM_LIMBS + limb] = exact_sum_limb(sums[i].units, limb);
    Status status = counts_reduce(collective, limbs, count * EXACT_SUM_LIMBS);
    for (int64_t i = 0; status == OK && i < count; ++i)
        sums[i] = exact_sum_of_limbs(limbs + i * EXACT_SUM_LIMBS);
    free(limbs);
    return status;
}
