/* Products of windows that are zero in most numbers: the same bits as products of all numbers, or a float64 program's sums. */
#include "tests/support.h"

#include "engine/base/random.h"
#include "engine/ops/window_product_cpu.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS = 70 };

static void *memory(size_t bytes)
{
    void *made = aligned_alloc(64, (bytes + 63) / 64 * 64);
    assert_non_null(made);
    memset(made, 0, bytes);
    return made;
}

/* Element i of an array of the type; `share` of 100 elements are not zero. Returns the value that is there. */
static double put(DType type, void *to, int64_t i, RandomStream *random, int share)
{
    float value = (int)random_below(random, 100) < share ? (float)random_normal(random) : 0.0F;
    if (type == FLOAT32) return (double)(((float *)to)[i] = value);
    ((bfloat16 *)to)[i] = bfloat16_from_float(value);
    return (double)bfloat16_to_float(((bfloat16 *)to)[i]);
}

/* ---- rows ---- */

static void check_rows(DType type, int64_t inner, int64_t taps, int64_t columns, int share)
{
    const size_t size = dtype_size(type);
    const int64_t depth = taps * inner, numbers = type == BFLOAT16 ? inner / 2 : inner;
    RandomStream random = random_stream(3, RANDOM_TEST, (uint64_t)(inner + columns));
    float *weight = memory((size_t)(depth * columns) * sizeof *weight);
    for (int64_t i = 0; i < depth * columns; ++i)
        weight[i] = (float)random_normal(&random);
    const WindowMatrix matrix = {type, depth, columns, memory(window_matrix_bytes(type, depth, columns))};
    window_matrix_pack(&matrix, weight, columns, 1);
    char *rows = memory((size_t)(ROWS * inner) * size);
    int32_t *list = memory((size_t)(ROWS * inner + WINDOW_LIST_ROOM) * sizeof *list);
    int64_t count = 0;
    for (int64_t row = 0; row < ROWS; ++row) {
        for (int64_t i = 0; i < inner; ++i)
            (void)put(type, rows, row * inner + i, &random, row % 5 == 4 ? 0 : share);
        count += window_list_numbers(type, rows + (size_t)(row * inner) * size, inner, row * numbers,
                                     list + count);
    }
    char *all = memory((size_t)columns * size), *listed = memory((size_t)columns * size);
    for (int64_t row = 0; row + taps <= ROWS; ++row) {
        const void *window = rows + (size_t)(row * inner) * size;
        void *to = all;
        window_rows(&matrix, &(WindowRows){&window, &to, 1, NULL, type});
        WindowList part = {.rows = rows, .begin = row * numbers, .number = list};
        while (part.number < list + count && *part.number < part.begin)
            ++part.number;
        while (part.number + part.count < list + count &&
               part.number[part.count] < part.begin + taps * numbers)
            ++part.count;
        window_sparse_row(&matrix, &part, listed);
        assert_memory_equal(all, listed, (size_t)columns * size);
    }
    free(listed);
    free(all);
    free(list);
    free(rows);
    free(matrix.packed);
    free(weight);
}

static void test_rows(void **state)
{
    (void)state;
    for (int type = 0; type < (window_has_bfloat16() ? 2 : 1); ++type)
        for (int share = 0; share <= 100; share += 20) {
            const DType of = type == 0 ? FLOAT32 : BFLOAT16;
            check_rows(of, 128, 5, 128, share);
            check_rows(of, 40, 3, 100, share);
            check_rows(of, 6, 4, 7, share);
            check_rows(of, 2, 1, 200, share);
        }
}

/* ---- sums of outer products ---- */

/* Rows of `left` of which every `apart`-th has `share` of 100 elements. */
static void check_outer(DType type, int64_t outs, int64_t step, int64_t taps, int64_t rows, int64_t apart,
                        int share)
{
    const size_t size = dtype_size(type);
    const int64_t depth = taps * step, elements = (rows + taps - 1) * step;
    RandomStream random = random_stream(4, RANDOM_TEST, (uint64_t)(outs + step + rows));
    char *left = memory((size_t)(rows * outs) * size), *x = memory((size_t)elements * size);
    double *left_values = memory((size_t)(rows * outs) * sizeof *left_values);
    double *x_values = memory((size_t)elements * sizeof *x_values);
    double *want = memory((size_t)(outs * depth) * sizeof *want);
    float *sum = memory((size_t)(outs * depth) * sizeof *sum);
    void *scratch = memory(window_outer_bytes(type, outs, depth, step));
    for (int64_t i = 0; i < rows * outs; ++i)
        left_values[i] = put(type, left, i, &random, i / outs % apart == 0 ? share : 0);
    for (int64_t i = 0; i < elements; ++i)
        x_values[i] = put(type, x, i, &random, 100);
    for (int64_t i = 0; i < outs * depth; ++i)
        want[i] = (double)(sum[i] = (float)random_normal(&random));
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t o = 0; o < outs; ++o)
            for (int64_t d = 0; left_values[row * outs + o] != 0 && d < depth; ++d)
                want[o * depth + d] += left_values[row * outs + o] * x_values[row * step + d];
    if (type == BFLOAT16) {
        window_outer_pairs(sum, outs, depth, (bfloat16 *)(void *)left, (bfloat16 *)(void *)x, step, elements,
                           rows, scratch);
    } else {
        const float *left_row[WINDOW_OUTER_ROWS], *window[WINDOW_OUTER_ROWS];
        int64_t count = 0;
        for (int64_t row = 0; row < rows; row += apart) {
            left_row[count] = (float *)(void *)left + row * outs;
            window[count++] = (float *)(void *)x + row * step;
        }
        window_outer(sum, outs, depth, step, left_row, window, count, scratch);
    }
    assert_close_float(sum, want, outs * depth, 1e-5, 1e-4, "sums");
    free(scratch);
    free(sum);
    free(want);
    free(x_values);
    free(left_values);
    free(x);
    free(left);
}

static void test_outer_products(void **state)
{
    (void)state;
    for (int type = 0; type < (window_has_bfloat16() ? 2 : 1); ++type)
        for (int i = 0; i < 6; ++i) {
            const int share = (int[]){0, 2, 10, 30, 60, 100}[i];
            const DType of = type == 0 ? FLOAT32 : BFLOAT16;
            check_outer(of, 128, 128, 5, WINDOW_OUTER_ROWS, 1, share);
            check_outer(of, 128, 100, 5, WINDOW_OUTER_ROWS - 1, 3, share);
            check_outer(of, 100, 37, 3, 67, 1, share);
            check_outer(of, 13, 4, 5, 65, 7, share);
            check_outer(of, 30, 7, 9, 31, 1, share);
            check_outer(of, 8, 1, 1, 1, 1, share);
            check_outer(of, 20, 16, 40, 120, 2, share); /* so many taps that windows share most rows */
            check_outer(of, 20, 16, 12, WINDOW_OUTER_ROWS, 12, share);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows), cmocka_unit_test(test_outer_products)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
