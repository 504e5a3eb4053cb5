/* CUDA kernels, executed on the host, beside the CPU's kernels, which test_ops_* hold to float64 references:
 * the same bits for ops that only move or round single numbers. Sizes: one element, odd, past one block, past
 * a whole grid; rows with and without gaps, aligned and not. Memory around every output must stay as it was.
 */
#include "tests/support.h"

#include "engine/ops/elementwise.h"
#include "engine/ops/table.h"
#include "tests/kernel_call.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    int64_t rows, columns, gap, offset; /* gap between rows, and offset of the first, in elements */
} Layout;

static const Layout layouts[] = {{1, 1, 0, 0},    {1, 7, 0, 0},    {3, 5, 0, 1},   {8, 16, 0, 0},
                                 {8, 16, 16, 0},  {9, 24, 8, 8},   {5, 3, 2, 0},   {33, 257, 0, 0},
                                 {64, 64, 64, 3}, {1, 2047, 0, 0}, {300, 8, 8, 0}, {1200, 1000, 0, 0}};

enum { GUARD = 0x5a };

static size_t bytes_of(const Layout *layout, DType type)
{
    return (size_t)(layout->offset + layout->rows * (layout->columns + layout->gap)) * dtype_size(type) + 64;
}

static Tensor tensor_in(void *memory, const Layout *layout, DType type)
{
    return (Tensor){.data = (char *)memory + (size_t)layout->offset * dtype_size(type),
                    .shape = shape_of(type, 2, (int64_t[]){layout->rows, layout->columns}),
                    .stride = layout->columns + layout->gap};
}

/* Random numbers and special ones. No subnormal numbers: processors that convert to bfloat16 by an
 * instruction of their own take them for zero. */
static void fill(void *memory, size_t bytes, DType type, uint64_t seed)
{
    static const float special[] = {0,      -0.0F,   INFINITY, -INFINITY,   NAN,
                                    1e-30F, -1e-30F, 3.4e38F,  1.00390625F, 1.01171875F};
    uint64_t state = seed;
    for (size_t i = 0; i < bytes / dtype_size(type); ++i) {
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        float value = ((float)(state >> 40) / 8388608.0F - 1) * 3;
        if (state >> 33 & 1 && i % 11 == 3)
            value = special[(state >> 50) % (sizeof special / sizeof special[0])];
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        if (type == BFLOAT16)
            ((uint16_t *)memory)[i] = isnan(value) ? 0x7fc0 : (uint16_t)(bits >> 16);
        else
            ((float *)memory)[i] = value;
    }
}

static bool is_nan(const void *data, DType type)
{
    if (type == FLOAT32) return isnan(*(const float *)data);
    return (*(const uint16_t *)data & 0x7fff) > 0x7f80;
}

static void compare(const Op *op, int inputs, DType from, DType to, const Layout *layout)
{
    const size_t in_bytes = bytes_of(layout, from), out_bytes = bytes_of(layout, to);
    void *in[2], *out[2];
    for (int i = 0; i < 2; ++i) {
        assert_non_null(in[i] = aligned_alloc(64, (in_bytes + 63) / 64 * 64));
        assert_non_null(out[i] = aligned_alloc(64, (out_bytes + 63) / 64 * 64));
        fill(in[i], in_bytes, from, 17 + (uint64_t)i);
        memset(out[i], GUARD, out_bytes);
    }
    for (DeviceKind device = DEVICE_CPU; device < DEVICE_KINDS; ++device) {
        Call call = {.in = {tensor_in(in[0], layout, from), tensor_in(in[1], layout, from)},
                     .out = {tensor_in(out[device], layout, to)}};
        assert_ok(kernel_call_on(device, op, &call, inputs, 2, 0, NULL));
    }
    const size_t size = dtype_size(to);
    for (size_t i = 0; i < out_bytes / size; ++i) {
        const char *cpu = (const char *)out[DEVICE_CPU] + i * size,
                   *cuda = (const char *)out[DEVICE_CUDA] + i * size;
        if (memcmp(cpu, cuda, size) == 0 || (is_nan(cpu, to) && is_nan(cuda, to))) continue;
        print_error("%s, %lld x %lld, gap %lld, offset %lld: CPU and CUDA differ at element %zu\n", op->name,
                    (long long)layout->rows, (long long)layout->columns, (long long)layout->gap,
                    (long long)layout->offset, i);
        assert_true(false);
    }
    for (int i = 0; i < 2; ++i) {
        free(in[i]);
        free(out[i]);
    }
}

static void test_elementwise(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof layouts / sizeof layouts[0]; ++i)
        for (int bf16 = 0; bf16 < 2; ++bf16) {
            const DType type = bf16 ? BFLOAT16 : FLOAT32;
            compare(&relu_op, 1, type, type, &layouts[i]);
            compare(&relu_backward_op, 2, type, type, &layouts[i]);
            compare(&add_op, 2, type, type, &layouts[i]);
            compare(&cast_op, 1, type, bf16 ? FLOAT32 : BFLOAT16, &layouts[i]);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_elementwise)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
