/* Vectors are sorted by row, stably, by counting sort of digits; then each row is one thread's work. */
#include "engine/ops/row_sums.h"

#include <omp.h>
#include <string.h>

enum { DIGIT_BITS = 11, DIGITS = 1 << DIGIT_BITS, STRIP = 64 };

/* Of int32: rows and vectors, twice; where each row begins; and how many digits of each kind the shares of a GPU's
 * blocks have. */
size_t row_sums_scratch(int64_t count)
{
    enum { SHARE = 1024, SHARE_DIGITS = 256 };
    return (size_t)(5 * count + 2 + (count + SHARE - 1) / SHARE * SHARE_DIGITS) * sizeof(int32_t);
}

/* The row of vector v, or -1 if its sum is nobody's. */
static int32_t row_of(const RowSums *sums, int64_t v)
{
    int32_t row;
    if (sums->list_rows > 0) {
        const int32_t *list = sums->index + v / sums->list_rows * (ROW_LIST_HEAD + sums->list_rows);
        const int64_t at = v % sums->list_rows;
        if (at >= list[0]) return -1;
        row = list[ROW_LIST_HEAD + at];
    } else {
        row = sums->index[v];
    }
    return row < 0 || row >= sums->rows || row == sums->skipped_row ? -1 : row;
}

/* Sorts row[] and vector[] by a digit of row, into other[] and its vectors. */
static void sort_digit(const int32_t *row, const int32_t *vector, int32_t *to_row, int32_t *to_vector,
                       int64_t count, int shift)
{
    int64_t start[DIGITS] = {0}, total = 0;
    for (int64_t i = 0; i < count; ++i)
        ++start[row[i] >> shift & (DIGITS - 1)];
    for (int digit = 0; digit < DIGITS; ++digit) {
        const int64_t here = start[digit];
        start[digit] = total;
        total += here;
    }
    for (int64_t i = 0; i < count; ++i) {
        const int64_t to = start[row[i] >> shift & (DIGITS - 1)]++;
        to_row[to] = row[i];
        to_vector[to] = vector[i];
    }
}

static void add_strip(const RowSums *sums, const int32_t *vector, int64_t vectors, int64_t first, float *to)
{
    double sum[STRIP] = {0};
    const int64_t columns = sums->columns - first < STRIP ? sums->columns - first : STRIP;
    for (int64_t i = 0; i < vectors; ++i) {
        const int64_t at = vector[i] * sums->columns + first;
        if (sums->type == FLOAT32) {
            const float *from = (const float *)sums->vector + at;
            for (int64_t c = 0; c < columns; ++c)
                sum[c] += (double)from[c];
        } else {
            const bfloat16 *from = (const bfloat16 *)sums->vector + at;
            for (int64_t c = 0; c < columns; ++c)
                sum[c] += (double)bfloat16_to_float(from[c]);
        }
    }
    if (sums->whole && sums->start != NULL) {
        for (int64_t c = 0; c < columns; ++c)
            to[c] = (float)((double)to[c] + sum[c] * sums->scale);
        return;
    }
    for (int64_t c = 0; c < columns; ++c)
        to[c] = (float)(sum[c] * sums->scale);
}

/* The table without any vector. */
static void start_table(const RowSums *sums, int threads)
{
    const size_t bytes = (size_t)sums->columns * sizeof(float);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t r = 0; r < sums->rows; ++r) {
        if (sums->start != NULL)
            memcpy(sums->sum + r * sums->columns, sums->start + r * sums->columns, bytes);
        else
            memset(sums->sum + r * sums->columns, 0, bytes);
    }
}

Status row_sums_cpu(Device *device, const RowSums *sums)
{
    const int threads = sums->count * sums->columns < 1 << 14 ? 1 : device_threads(device);
    int32_t *row = sums->scratch, *vector = row + sums->count, *other_row = vector + sums->count,
            *other_vector = other_row + sums->count, *start = other_vector + sums->count;
    int64_t count = 0, found = 0;
    for (int64_t v = 0; v < sums->count; ++v) {
        const int32_t of = row_of(sums, v);
        if (of < 0) continue;
        row[count] = of;
        vector[count++] = (int32_t)v;
    }
    for (int shift = 0; shift < 31 && (sums->rows - 1) >> shift > 0; shift += DIGIT_BITS) {
        sort_digit(row, vector, other_row, other_vector, count, shift);
        int32_t *const before[] = {row, vector};
        row = other_row, vector = other_vector;
        other_row = before[0], other_vector = before[1];
    }
    for (int64_t i = 0; i < count; ++i)
        if (i == 0 || row[i] != row[i - 1]) start[found++] = (int32_t)i;
    start[found] = (int32_t)count;
    if (sums->whole) {
        if (sums->start != sums->sum) start_table(sums, threads);
    } else {
        *sums->found = (int32_t)found;
        for (int64_t i = 0; i < found; ++i)
            sums->row[i] = row[start[i]];
    }
#pragma omp parallel for schedule(dynamic, 16) num_threads(threads)
    for (int64_t i = 0; i < found; ++i) {
        float *to = sums->sum + (sums->whole ? row[start[i]] : i) * sums->columns;
        for (int64_t first = 0; first < sums->columns; first += STRIP)
            add_strip(sums, vector + start[i], start[i + 1] - start[i], first, to + first);
    }
    return OK;
}
