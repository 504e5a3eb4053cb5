/* The kernel calibration error of whole vectors of probabilities (Widmann, Lindsten and Zachariah 2019), squared, and tests of
 * whether a network is calibrated.
 *
 *     h_ij = k(p_i, p_j) (1[y_i = y_j] - p_i(y_j) - p_j(y_i) + p_i . p_j)
 *
 * with k = exp(-|p_i - p_j| / nu) (laplacian) or exp(-|p_i - p_j|^2 / (2 nu^2)) (gaussian), |.| Euclidean over the vector.
 * biased: the mean over all i and j. unbiased: over i != j, which may be negative. Work and memory grow with the square of the
 * number of samples. */
#ifndef PLUMB_LOSSES_CALIBRATION_KERNEL_ERROR_H
#define PLUMB_LOSSES_CALIBRATION_KERNEL_ERROR_H

#include "engine/base/status.h"
#include "losses/calibration/binned_errors.h"

typedef enum { KERNEL_LAPLACIAN, KERNEL_GAUSSIAN, KERNELS } KernelForm;
extern const char *const kernel_names[KERNELS];

/* Means over blocks of so many consecutive samples, an incomplete block left out: z = mean / standard error, p the upper tail of
 * the normal law. */
typedef struct {
    int64_t size, blocks;
    double estimate, standard_error, z, p;
} BlockTest;
enum { KERNEL_BLOCK_TESTS = 2 }; /* of blocks of 2 and of 10 */

typedef struct {
    KernelForm form;
    double width;           /* nu */
    double median_distance; /* of all pairs; of an even number the mean of the middle two */
    int64_t samples;
    double biased, unbiased;
    /* Bounds that hold for any number of samples: |h| <= 2. They are loose: most are close to 1. */
    double bound_biased, bound_unbiased;
    BlockTest block[KERNEL_BLOCK_TESTS];
    /* Asymptotic: statistic = n / (n - 1) unbiased - biased; p: the share of resamples of the samples (i*), with replacement,
     * whose mean over i < j of h_i*j* less twice the mean over i and j of h_i*j is not below the statistic. */
    double statistic, p;
    int64_t resamples;
} KernelError;

typedef struct {
    KernelForm form;
    double width; /* 0: the median distance */
    int64_t resamples;
    uint64_t seed;
} KernelOptions;

/* Of a whole set of at least 2 samples. Not collective. */
CHECKED Status kernel_error(const ProbabilitySet *, const KernelOptions *, int threads, KernelError *);

#endif
