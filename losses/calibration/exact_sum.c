#include "losses/calibration/exact_sum.h"

#include "engine/base/memory.h"

#include <stdlib.h>

Status counts_reduce(Collective *collective, int64_t *counts, int64_t count)
{
    TRY(collective_sum(collective, (Span){.data = counts, .count = count, .type = INT64}, NULL));
    TRY(collective_join(collective, NULL));
    return OK;
}

/* All ranks' numbers by a sum: every rank has its own place. */
static Status numbers_of_ranks(Collective *collective, int64_t number, int64_t **numbers)
{
    TRY(memory_new(numbers, (size_t)collective->size, sizeof **numbers, "numbers of ranks"));
    (*numbers)[collective->rank] = number;
    Status status = counts_reduce(collective, *numbers, collective->size);
    if (status != OK) free(*numbers);
    return status;
}

Status smallest_reduce(Collective *collective, int64_t *number)
{
    int64_t *numbers;
    TRY(numbers_of_ranks(collective, *number, &numbers));
    for (int rank = 0; rank < collective->size; ++rank)
        if (numbers[rank] < *number) *number = numbers[rank];
    free(numbers);
    return OK;
}

Status largest_reduce(Collective *collective, int64_t *number)
{
    int64_t opposite = -*number;
    TRY(smallest_reduce(collective, &opposite));
    *number = -opposite;
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

void large_sum_add(LargeSum *sum, double term)
{
    sum->terms += 1;
    if (isinf(term)) {
        sum->infinite += 1;
        return;
    }
    int64_t part[LARGE_SUM_PARTS];
    const int first = large_sum_parts(term, part);
    for (int i = 0; i < LARGE_SUM_PARTS && first + i < LARGE_SUM_LIMBS; ++i) /* the last one may be 0 */
        sum->limb[first + i] += part[i];
}

void large_sum_merge(LargeSum *sum, const LargeSum *more)
{
    int64_t *to = (int64_t *)sum;
    const int64_t *from = (const int64_t *)more;
    for (int i = 0; i < LARGE_SUM_MEMBERS; ++i)
        to[i] += from[i];
}

Status large_sum_reduce(Collective *collective, LargeSum *sums, int64_t count)
{
    return counts_reduce(collective, (int64_t *)sums, count * LARGE_SUM_MEMBERS);
}

double large_sum_mean(ExactSum sum, const LargeSum *large, double count)
{
    if (large->infinite > 0) return INFINITY;
    if (large->terms == 0) return exact_sum_value(sum) / count;
    /* Digits of 32 bits. Beside a term above 2^40 what `sum` has below 2^-12 is nothing. */
    uint64_t digit[LARGE_SUM_LIMBS + 2];
    __int128 carry = sum.units >> (EXACT_SUM_SHIFT - LARGE_SUM_SHIFT);
    int top = 0;
    for (int i = 0; i < LARGE_SUM_LIMBS + 2; ++i) {
        carry += i < LARGE_SUM_LIMBS ? large->limb[i] : 0;
        digit[i] = (uint64_t)carry & 0xffffffff;
        carry >>= 32;
        if (digit[i] != 0) top = i;
    }
    unsigned __int128 head = 0;
    for (int i = top; i > top - 3; --i)
        head = head << 32 | (i >= 0 ? digit[i] : 0);
    /* Divided before the scale: the mean may be finite where the sum is not. */
    return ldexp((double)head / count, 32 * (top - 2) - LARGE_SUM_SHIFT);
}
