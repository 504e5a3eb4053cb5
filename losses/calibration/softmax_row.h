/* One row of logits at a time, the inner step of every loop of evaluation. Internal to losses/. A row's
 * numbers depend on the row alone, never on where it lies in a rank's share. Sums over a row are sums of integers, in
 * units of 2^-52 (as precise as a double next to the largest term, which is 1): they do not depend on the order of the
 * classes, so that confidences which are equal are equal to the last bit, nor on the width of the processor's vectors
 * or on how the threads of a GPU share a row. */
#ifndef PLUMB_LOSSES_CALIBRATION_SOFTMAX_ROW_H
#define PLUMB_LOSSES_CALIBRATION_SOFTMAX_ROW_H

#include "losses/calibration/logits.h"
#include "losses/vector_math.h"

#include <math.h>

#define ROW_LOWEST (-746.0) /* exp of it is 0 */
enum {
    ROW_LANES = 8, /* of the CPU */
    ROW_VECTORS = ROW_LANES / DOUBLES_LANES,
    ROW_CHUNK = 8192 /* classes whose sum fits 64 bits lane by lane */
};
#define ROW_UNIT 0x1p-52

/* Room for a row in whole rounds of its lanes. */
SHARED_FUNCTION int64_t row_padded(int64_t classes)
{
    return (classes + ROW_LANES - 1) / ROW_LANES * ROW_LANES;
}

/* A number in [0, 1] in units of ROW_UNIT: 1 + number has them in its lowest bits. */
SHARED_FUNCTION uint64_t row_units(double number)
{
    const double shifted = 1.0 + number;
    uint64_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    return bits - UINT64_C(0x3ff0000000000000);
}

SHARED_FUNCTION double row_value(unsigned __int128 units)
{
    return (units >> 63 == 0 ? (double)(int64_t)units : (double)units) * ROW_UNIT;
}

#ifndef __cplusplus

/* x = the row in double precision; what lies behind its end is -infinity, so never a maximum and of probability 0.
 */
static inline void row_load_values(const Logits *logits, int64_t row, double *restrict x, int64_t padded)
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
        x[k] = -INFINITY;
}

/* x = the row's logits: of probabilities their logarithms. */
static inline void row_load(const Logits *logits, int64_t row, double *restrict x, int64_t padded)
{
    row_load_values(logits, row, x, padded);
    for (int64_t k = 0; logits->probabilities && k < logits->classes; ++k)
        x[k] = log(x[k]);
}

/* p = the row of probabilities x, divided by its sum unless that is 1 but for rounding, and 0 behind its end. Returns
 * sum_k p_k log p_k. The sums are of integers, so they do not depend on the order of the classes. */
static inline double row_probabilities(const double *restrict x, int64_t classes, int64_t padded,
                                       double *restrict p)
{
    __int128 sum = 0, product = 0;
    for (int64_t k = 0; k < classes; ++k)
        sum += llrint(x[k] * 0x1p52);
    const double total = row_value((unsigned __int128)sum);
    const bool is_one = fabs(total - 1) <= (double)classes * 0x1p-53;
    for (int64_t k = 0; k < classes; ++k) {
        p[k] = is_one ? x[k] : x[k] / total;
        if (p[k] > 0) product += llrint(-p[k] * log(p[k]) * 0x1p52);
    }
    for (int64_t k = classes; k < padded; ++k)
        p[k] = 0;
    return -(double)product * ROW_UNIT;
}

static inline double row_maximum(const double *x, int64_t padded)
{
    Doubles most = doubles_load(x);
    for (int64_t k = DOUBLES_LANES; k < padded; k += DOUBLES_LANES)
        most = doubles_maximum(doubles_load(x + k), most);
    double maximum = most[0];
    for (int lane = 1; lane < DOUBLES_LANES; ++lane)
        maximum = most[lane] > maximum ? most[lane] : maximum;
    return maximum;
}

/* The prediction: the first index of the maximum, which `value` is. */
static inline int64_t row_first(const double *x, double value)
{
    for (int64_t k = 0;; k += DOUBLES_LANES) {
        const unsigned lanes = doubles_lanes_equal(doubles_load(x + k), value);
        if (lanes != 0) return k + __builtin_ctz(lanes);
    }
}

/* The same units of all lanes, to be subtracted once: total += doubles_shifted(numbers), and at the end as many times
 * bits of 1.0 as vectors were added. Unsigned, since these bits overflow, which the subtraction undoes. */
DOUBLES_INLINE DoublesUnsigned doubles_shifted(Doubles numbers)
{
    return (DoublesUnsigned)doubles_bits(numbers + 1.0);
}

/* Integers of 64 bits a lane, each the sum of `vectors` shifted numbers, as a sum in units. */
static inline unsigned __int128 row_units_of(const DoublesUnsigned part[ROW_VECTORS], int64_t vectors)
{
    unsigned __int128 units = 0;
    for (int lane = 0; lane < ROW_LANES; ++lane)
        units += part[lane / DOUBLES_LANES][lane % DOUBLES_LANES] -
                 (uint64_t)vectors * UINT64_C(0x3ff0000000000000);
    return units;
}

/* e = exp(z), z = (x - maximum) / temperature. Returns sum_k e_k; *weighted = sum_k e_k z_k, so that
 * log p_k = z_k - log sum and the entropy is log sum - weighted / sum. */
static inline double row_exponentials(const double *restrict x, double maximum, double temperature,
                                      int64_t padded, double *restrict e, double *weighted)
{
    const double scale = 1.0 / temperature;
    unsigned __int128 sum_units = 0, product_units = 0;
    for (int64_t begin = 0; begin < padded; begin += ROW_CHUNK) {
        const int64_t end = begin + ROW_CHUNK < padded ? begin + ROW_CHUNK : padded;
        DoublesUnsigned sum[ROW_VECTORS] = {0}, product[ROW_VECTORS] = {0};
        for (int64_t k = begin; k < end; k += ROW_LANES) {
            for (int part = 0; part < ROW_VECTORS; ++part) {
                const int64_t at = k + part * (int64_t)DOUBLES_LANES;
                const Doubles z = (doubles_load(x + at) - maximum) * scale;
                const Doubles value = doubles_exp(z);
                doubles_store(e + at, value);
                sum[part] += doubles_shifted(value);
                /* 0 * -inf is not 0; -e z is at most 1/e. */
                product[part] += doubles_shifted(-(value * doubles_maximum(z, doubles_all(ROW_LOWEST))));
            }
        }
        const int64_t vectors = (end - begin) / ROW_LANES;
        sum_units += row_units_of(sum, vectors);
        product_units += row_units_of(product, vectors);
    }
    *weighted = -row_value(product_units);
    return row_value(sum_units);
}

/* The sum alone, to the same bit. */
static inline double row_denominator(const double *restrict x, double maximum, double temperature,
                                     int64_t padded)
{
    const double scale = 1.0 / temperature;
    unsigned __int128 units = 0;
    for (int64_t begin = 0; begin < padded; begin += ROW_CHUNK) {
        const int64_t end = begin + ROW_CHUNK < padded ? begin + ROW_CHUNK : padded;
        DoublesUnsigned sum[ROW_VECTORS] = {0};
        for (int64_t k = begin; k < end; k += ROW_LANES)
            for (int part = 0; part < ROW_VECTORS; ++part)
                sum[part] += doubles_shifted(
                    doubles_exp((doubles_load(x + k + part * (int64_t)DOUBLES_LANES) - maximum) * scale));
        units += row_units_of(sum, (end - begin) / ROW_LANES);
    }
    return row_value(units);
}
#endif

#endif
