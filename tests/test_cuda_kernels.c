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

/* More slices than a launch takes, of odd sizes; between them what other kernels have written as float32. */
static void test_widen(void **state)
{
    (void)state;
    enum { SLICES = 75, UNIT = 16, BETWEEN = 3 * UNIT };
    Slice slice[SLICES];
    int64_t count = BETWEEN;
    for (int i = 0; i < SLICES; ++i) {
        slice[i] = (Slice){count, 1 + i * 37 % 400 + (i == 40 ? 70000 : 0)};
        count += (slice[i].count + UNIT - 1) / UNIT * UNIT + BETWEEN;
    }
    Device *device;
    assert_ok(device_open(DEVICE_CUDA, 0, 1, &device));
    uint16_t *from, *host_from = calloc((size_t)count, sizeof *host_from);
    float *to, *host_to = malloc((size_t)count * sizeof *host_to);
    assert_non_null(host_from);
    assert_non_null(host_to);
    assert_ok(device_allocate(device, (size_t)count * sizeof *from, "from", (void **)(void *)&from));
    assert_ok(device_allocate(device, (size_t)count * sizeof *to, "to", (void **)(void *)&to));
    for (int64_t i = 0; i < count; ++i)
        host_to[i] = -7;
    for (int i = 0; i < SLICES; ++i)
        for (int64_t k = 0; k < slice[i].count; ++k)
            host_from[slice[i].first + k] = (uint16_t)(0x3f80 + (i + k) % 1000);
    assert_ok(device_upload(device, from, host_from, (size_t)count * sizeof *from));
    assert_ok(device_upload(device, to, host_to, (size_t)count * sizeof *to));
    assert_ok(device_widen(device, to, from, slice, SLICES));
    assert_ok(device_widen(device, to, from, slice, 0));
    assert_ok(device_download(device, host_to, to, (size_t)count * sizeof *to));
    assert_ok(device_synchronize(device));
    int64_t at = 0;
    for (int i = 0; i <= SLICES; ++i) {
        for (const int64_t end = i < SLICES ? slice[i].first : count; at < end; ++at)
            assert_true(host_to[at] == -7);
        if (i == SLICES) break;
        for (int64_t k = 0; k < slice[i].count; ++k, ++at) {
            const uint32_t bits = (uint32_t)(0x3f80 + (i + k) % 1000) << 16;
            assert_memory_equal(&host_to[at], &bits, sizeof bits);
        }
        at = (at + UNIT - 1) / UNIT * UNIT; /* the gap may be written */
    }
    const Slice crooked = {8, 5};
    assert_fails(device_widen(device, to, from, &crooked, 1), STATUS_INTERNAL, "element 8");
    device_free(device, from);
    device_free(device, to);
    device_close(device);
    free(host_from);
    free(host_to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_elementwise), cmocka_unit_test(test_widen)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
