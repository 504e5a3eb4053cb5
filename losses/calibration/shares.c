#include "losses/calibration/shares.h"

#include "engine/base/memory.h"
#include "losses/calibration/exact_sum.h"

#include <stdlib.h>

Status shares_find(Collective *collective, int64_t count, Shares *shares)
{
    int64_t *counts;
    *shares = (Shares){.first = 0};
    TRY(memory_new(&counts, (size_t)collective->size, sizeof *counts, "counts of samples"));
    counts[collective->rank] = count;
    const Status status = counts_reduce(collective, counts, collective->size);
    for (int rank = 0; rank < collective->size; ++rank) {
        if (rank < collective->rank) shares->first += counts[rank];
        if (counts[rank] > shares->largest) shares->largest = counts[rank];
        shares->total += counts[rank];
    }
    free(counts);
    return status;
}
