#include "losses/calibration/order_statistics.h"

#include "engine/base/memory.h"
#include "losses/calibration/exact_sum.h"
#include "losses/calibration/threads.h"

#include <stdlib.h>
#include <string.h>

/* Radix selection. The bits of magnitudes are ordered as these are. Digit by digit from the
 * top, each wanted position knows the prefix of its number; the histogram of the next digit among the numbers
 * with this prefix says which digit comes next, and how far into it the position lies. */
enum { DIGIT_BITS = 8, DIGITS = 1 << DIGIT_BITS };

static uint64_t bits_of(double number)
{
    uint64_t bits;
    memcpy(&bits, &number, sizeof bits);
    return bits & INT64_MAX;
}

/* Adds to histogram[prefix][digit] the numbers whose bits above `shift` + DIGIT_BITS are one of the prefixes.
 */
static void count_digits(const double *numbers, int64_t count, const uint64_t *prefix, int prefixes,
                         int shift, int threads, int64_t *histogram)
{
    const size_t cells = (size_t)prefixes * DIGITS;
    const int team = team_size(threads, count / 4096 + 1);
    (void)cells, (void)team; /* for compilers without OpenMP */
#pragma omp parallel for schedule(static) num_threads(team) reduction(+ : histogram[:cells])
    for (int64_t i = 0; i < count; ++i) {
        const uint64_t digits = bits_of(numbers[i]) >> shift;
        /* The top digit has no prefix before it; a shift by all 64 bits has no meaning in C. */
        const uint64_t wanted = shift + DIGIT_BITS >= 64 ? 0 : digits >> DIGIT_BITS;
        int low = 0;
        for (int step = prefixes; step > 1;) { /* the last prefix that is not above `wanted` */
            const int half = step / 2;
            if (prefix[low + half] <= wanted) low += half;
            step -= half;
        }
        if (prefix[low] == wanted) histogram[(size_t)low * DIGITS + (digits & (DIGITS - 1))] += 1;
    }
}

/* The bits of the numbers at ascending positions. */
static Status select_ascending(Collective *collective, const double *numbers, int64_t count,
                               const int64_t *position, int positions, int threads, uint64_t *found)
{
    uint64_t prefix[ORDER_STATISTICS_MAX] = {0}; /* distinct, ascending */
    int64_t within[ORDER_STATISTICS_MAX];        /* each position's place among the numbers with its prefix */
    int prefixes = 1;
    memcpy(within, position, (size_t)positions * sizeof *within);
    memset(found, 0, (size_t)positions * sizeof *found); /* each position's prefix so far */

    int64_t *histogram;
    TRY(memory_new(&histogram, (size_t)positions * DIGITS, sizeof *histogram, "histogram of digits"));
    Status status = OK;
    for (int shift = 64 - DIGIT_BITS; shift >= 0; shift -= DIGIT_BITS) {
        memset(histogram, 0, (size_t)prefixes * DIGITS * sizeof *histogram);
        count_digits(numbers, count, prefix, prefixes, shift, threads, histogram);
        TRY_ELSE(done, counts_reduce(collective, histogram, (int64_t)prefixes * DIGITS));
        int at = 0; /* positions ascend, and so do their prefixes */
        for (int i = 0; i < positions; ++i) {
            while (prefix[at] != found[i])
                ++at;
            const int64_t *row = histogram + (size_t)at * DIGITS;
            uint64_t digit = 0;
            while (digit < DIGITS - 1 && within[i] >= row[digit])
                within[i] -= row[digit++];
            found[i] = found[i] << DIGIT_BITS | digit;
        }
        prefixes = 0;
        for (int i = 0; i < positions; ++i)
            if (prefixes == 0 || prefix[prefixes - 1] != found[i]) prefix[prefixes++] = found[i];
    }
done:
    free(histogram);
    return status;
}

static int compare_positions(const void *a, const void *b)
{
    const int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

Status order_statistics(Collective *collective, const double *numbers, int64_t count, const int64_t *position,
                        int positions, int threads, double *out)
{
    if (positions < 1 || positions > ORDER_STATISTICS_MAX)
        return fail(STATUS_INTERNAL, "order statistics: %d positions", positions);
    int64_t ascending[ORDER_STATISTICS_MAX];
    uint64_t found[ORDER_STATISTICS_MAX];
    memcpy(ascending, position, (size_t)positions * sizeof *ascending);
    qsort(ascending, (size_t)positions, sizeof *ascending, compare_positions);
    TRY(select_ascending(collective, numbers, count, ascending, positions, threads, found));
    for (int i = 0; i < positions; ++i) {
        const int64_t *place =
            bsearch(&position[i], ascending, (size_t)positions, sizeof *ascending, compare_positions);
        memcpy(&out[i], &found[place - ascending], sizeof *out);
    }
    return OK;
}
