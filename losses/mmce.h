/* Maximum mean calibration error (Kumar et al., 2018), as the published code of focal loss's paper has it,
 * over a set of samples with confidence r, correctness c (0 or 1) and weight w; k is the Laplacian kernel
 * exp(-|ri - rj| / width). Weights are multiplicities: N, m and n below are sums of weights, and weight 0
 * leaves a sample out.
 *
 * MMCE: no square root, the diagonal included:
 *     sum over i, j of (ci - ri)(cj - rj) k(ri, rj) / N^2
 * MMCE weighted: with m right samples (indices i) and n wrong ones (indices j), normalised twice:
 *     sqrt(mean_ii (1-ri)(1-ri') k / (m^2 + 1e-5) + mean_jj' rj rj' k / (n^2 + 1e-5)
 *          - 2 mean_ij (1-ri) rj k / (m n + 1e-5) + 1e-10)
 * and 0 when all are right or all are wrong (also where that makes the published code give NaN or fail: two
 * samples, one), and when the constants leave less than 0 under the root.
 *
 * The kernel of sorted confidences is a product of steps, so that sums over pairs are prefix sums: O(N)
 * memory and O(N) time after a radix sort. The result does not depend on the order of the samples, to the bit
 * (for weights whose sums are exact). A NaN confidence gives NaN (and no gradient). */
#ifndef PLUMB_LOSSES_MMCE_H
#define PLUMB_LOSSES_MMCE_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    double confidence, correct, weight;
} Judged;

/* Bytes that these functions need of `workspace` (aligned to 8). */
size_t mmce_workspace(int64_t count);

/* Value, and (unless NULL) gradient[i] = d value / d confidence of sample i, with sign(ri - rj) of 0 for
 * equal confidences. count < 2^32. No samples: 0. */
double mmce(const Judged samples[], int64_t count, double width, void *workspace, double gradient[]);
double mmce_weighted(const Judged samples[], int64_t count, double width, void *workspace, double gradient[]);
/* Both values for one sort. */
void mmce_both(const Judged samples[], int64_t count, double width, void *workspace, double *plain,
               double *weighted);

#endif
