/* The bins of calibration errors. Internal to losses/. */
#ifndef PLUMB_LOSSES_CALIBRATION_BINS_H
#define PLUMB_LOSSES_CALIBRATION_BINS_H

#include "engine/base/shared_function.h"
#include "losses/calibration/calibration.h"

#include <math.h>

/* edge[0..bins]: what torch.linspace(0, 1, bins + 1) gives in float32: from both ends towards the middle, one
 * rounding each. (0.0666666701 for 15 bins, not the double nearest to 1/15.) */
static inline void bins_edges(int bins, double *edge)
{
    const float step = 1.0F / (float)bins;
    for (int i = 0; i <= bins; ++i)
        edge[i] = (double)(i < (bins + 1) / 2 ? step * (float)i : fmaf(-step, (float)(bins - i), 1.0F));
}

/* The bin (edge[b], edge[b + 1]] that holds q in [0, 1]; -1 for 0. The edges are so close to b / bins that
 * the first guess is wrong by one at most. */
SHARED_FUNCTION int bins_find(const double *edge, int bins, double q)
{
    int bin = (int)(q * bins);
    bin = bin > bins - 1 ? bins - 1 : bin;
    return bin + (q > edge[bin + 1]) - (q <= edge[bin]);
}

/* The other published rule: ceil(bins q) - 1 in double precision. */
SHARED_FUNCTION int bins_find_ceiling(int bins, double q)
{
    const int bin = (int)ceil(q * bins) - 1;
    return bin < 0 ? 0 : bin > bins - 1 ? bins - 1 : bin;
}

/* Edge b of the adaptive bins lies between the sorted confidences at *position and the next (*position itself
 * when *fraction is 0): NumPy's interp(linspace(0, N, bins + 1), arange(N), sorted). */
static inline void bins_adaptive_position(int64_t total, int bins, int b, int64_t *position, double *fraction)
{
    const double at = b == bins ? (double)total : (double)b * ((double)total / bins);
    if (at >= (double)(total - 1)) { /* behind the last: the last */
        *position = total - 1;
        *fraction = 0;
        return;
    }
    *position = (int64_t)at;
    *fraction = at - (double)*position;
}

static inline double bins_adaptive_edge(double low, double high, double fraction)
{
    /* Two roundings, as NumPy has: with one (a fused multiply-add) a fraction of 1 - 2^-53 may give another
     * edge, on the other side of the sample that lies there. */
    volatile double product = (high - low) * fraction;
    return product + low;
}

/* Upper edges of bins with as even a share of the sorted numbers as can be, the first ones one more: half-way between
 * neighbours, equal ones once, the last 1. sorted [count], each number `stride` after the one before. edge [bins]. Returns how
 * many. */
static inline int bins_equal_mass(const double *sorted, int64_t stride, int64_t count, int bins, double *edge)
{
    const int64_t size = count / bins, longer = count % bins;
    int edges = 0;
    for (int64_t b = 1; b < bins; ++b) {
        const int64_t end = b * size + (b < longer ? b : longer);
        if (end == 0 || end == count) continue;
        const double middle = (sorted[(end - 1) * stride] + sorted[end * stride]) / 2;
        if (middle < 1 && (edges == 0 || middle > edge[edges - 1])) edge[edges++] = middle;
    }
    edge[edges++] = 1;
    return edges;
}

/* The first of ascending numbers that is not below q; count if there is none. Of upper edges: the bin. */
static inline int64_t bins_find_upper(const double *edge, int64_t count, double q)
{
    int64_t low = 0, high = count;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (edge[middle] < q)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The bin (edge[b], edge[b + 1]] of ascending edges that holds q; -1 if none does. */
static inline int bins_find_adaptive(const double *edge, int bins, double q)
{
    if (!(q > edge[0]) || q > edge[bins]) return -1;
    int low = 0, high = bins; /* edge[low] < q <= edge[high] */
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (q > edge[middle])
            low = middle;
        else
            high = middle;
    }
    return low;
}

#endif
