/* One row of logits at a time, the inner step of every loop of evaluation. Internal to losses/. A row's
 * numbers depend on the row alone, never on where it lies in a rank's share. Sums over a row are taken in
 * ROW_LANES parts (element k in part k mod ROW_LANES) whatever the width of the processor's vectors, then over
 * the parts in their order: CUDA kernels do the same. */
#ifndef PLUMB_LOSSES_SOFTMAX_ROW_H
#define PLUMB_LOSSES_SOFTMAX_ROW_H

#include "losses/calibration/logits.h"
#include "losses/vector_math.h"

#include <float.h>

#define ROW_LOWEST (-746.0) /* exp of it is 0 */
enum { ROW_LANES = 8, ROW_VECTORS = ROW_LANES / LANES };

/* Room for a row in whole rounds of its lanes. */
SHARED_FUNCTION int64_t row_padded(int64_t classes)
{
    return (classes + ROW_LANES - 1) / ROW_LANES * ROW_LANES;
}

#ifndef __cplusplus

/* x = the row in double precision; what lies behind its end is the lowest double, so never a maximum and of
 * probability 0. */
static inline void row_load(const Logits *logits, int64_t row, double *restrict x, int64_t padded)
{
    const int64_t classes = logits->classes;
    if (logits->type == FLOAT32) {
        const float *restrict from = (const float *)logits->values + row * classes;
        for (int64_t k = 0; k < classes; ++k)
            x[k] = (double)from[k];
    } else {
        memcpy(x, (const double *)logits->values + row * classes, (size_t)classes * sizeof *x);
    }
    for (int64_t k = classes; k < padded; ++k)
        x[k] = -DBL_MAX;
}

static inline double row_maximum(const double *x, int64_t padded)
{
    VectorDouble most = vector_load(x);
    for (int64_t k = LANES; k < padded; k += LANES)
        most = vector_maximum(vector_load(x + k), most);
    double maximum = most[0];
    for (int lane = 1; lane < LANES; ++lane)
        maximum = most[lane] > maximum ? most[lane] : maximum;
    return maximum;
}

/* The prediction: the first index of the maximum, which `value` is. */
static inline int64_t row_first(const double *x, double value)
{
    for (int64_t k = 0;; k += LANES) {
        const unsigned lanes = vector_lanes_equal(vector_load(x + k), value);
        if (lanes != 0) return k + __builtin_ctz(lanes);
    }
}

static inline double row_sum(const VectorDouble part[ROW_VECTORS])
{
    double sum = part[0][0];
    for (int lane = 1; lane < ROW_LANES; ++lane)
        sum += part[lane / LANES][lane % LANES];
    return sum;
}

/* e = exp(z), z = (x - maximum) / temperature. Returns sum_k e_k; *weighted = sum_k e_k z_k, so that
 * log p_k = z_k - log sum and the entropy is log sum - weighted / sum. */
static inline double row_exponentials(const double *restrict x, double maximum, double temperature,
                                      int64_t padded, double *restrict e, double *weighted)
{
    const double scale = 1.0 / temperature;
    VectorDouble sum[ROW_VECTORS] = {0}, product[ROW_VECTORS] = {0};
    for (int64_t k = 0; k < padded; k += ROW_LANES) {
        for (int part = 0; part < ROW_VECTORS; ++part) {
            const int64_t at = k + part * (int64_t)LANES;
            const VectorDouble z = (vector_load(x + at) - maximum) * scale;
            const VectorDouble value = vector_exp(z);
            vector_store(e + at, value);
            sum[part] += value;
            product[part] += value * vector_maximum(z, vector_all(ROW_LOWEST)); /* 0 * -inf is not 0 */
        }
    }
    *weighted = row_sum(product);
    return row_sum(sum);
}
#endif

#endif
