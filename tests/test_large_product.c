/* Large matrix products of the CPU (engine/ops/large_product_cpu.h) against float64 sums, and the linear layer by them. */
#include "tests/support.h"

#include "tests/kernel_call.h"

#include "engine/base/random.h"
#include "engine/ops/large_product_cpu.h"
#include "engine/ops/linear.h"
#include "engine/ops/table.h"

#include <math.h>
#include <stdlib.h>

/* Numbers of a type, dense. */
typedef struct {
    DType type;
    void *data;
} Numbers;

static Numbers numbers(DType type, int64_t count, RandomStream *random)
{
    Numbers n = {type, calloc((size_t)count + 1, dtype_size(type))};
    assert_non_null(n.data);
    for (int64_t i = 0; i < count && random != NULL; ++i) {
        const float value = (float)random_normal(random);
        if (type == FLOAT32)
            ((float *)n.data)[i] = value;
        else
            ((bfloat16 *)n.data)[i] = bfloat16_from_float(value);
    }
    return n;
}

static double number(Numbers n, int64_t i)
{
    return n.type == FLOAT32 ? (double)((float *)n.data)[i]
                             : (double)bfloat16_to_float(((bfloat16 *)n.data)[i]);
}

static double rounded(double value, DType type)
{
    return type == FLOAT32 ? value : (double)bfloat16_to_float(bfloat16_from_float((float)value));
}

/* Element [row,column], and in *size the sum of its terms' magnitudes. */
static double element(const LargeProduct *p, Numbers a, Numbers b, int64_t row, int64_t column, double *size)
{
    double sum = 0;
    *size = 0;
    for (int64_t k = 0; k < p->inner; ++k) {
        const double left = number(a, p->a_turned ? k * p->rows + row : row * p->inner + k);
        const double right = number(b, p->b_turned ? column * p->inner + k : k * p->columns + column);
        sum += left * rounded(right, p->type);
        *size += fabs(left * right);
    }
    return sum;
}

/* Every so many-th element. */
static void check(const LargeProduct *p, Numbers a, Numbers b, const float *bias, Numbers out, int64_t every)
{
    for (int64_t i = 0; i < p->rows * p->columns; i += every) {
        double size;
        const double sum = element(p, a, b, i / p->columns, i % p->columns, &size);
        const double want = bias != NULL ? sum + (double)bias[i % p->columns] : sum;
        const double room = 1e-6 * (size + 1) + (p->out_type == FLOAT32 ? 0 : 4e-3 * fabs(want));
        if (fabs(number(out, i) - want) <= room) continue;
        print_error("%s [%lld,%lld,%lld]: element %lld is %g, not %g\n", dtype_name(p->type),
                    (long long)p->rows, (long long)p->inner, (long long)p->columns, (long long)i,
                    number(out, i), want);
        assert_true(false);
    }
}

static void try_product(const LargeProduct *p)
{
    if (!large_product_possible(p)) return;
    RandomStream random = random_stream(1, RANDOM_TEST, (uint64_t)(p->rows + p->inner + p->columns));
    const Numbers a = numbers(p->type, p->rows * p->inner, &random),
                  b = numbers(p->b_type, p->inner * p->columns, &random),
                  bias = numbers(FLOAT32, p->columns, &random);
    Numbers out[2]; /* by one thread and by two: the same bits */
    void *scratch = aligned_alloc(64, large_product_scratch(p));
    assert_non_null(scratch);
    for (int threads = 1; threads <= 2; ++threads) {
        const Numbers made = out[threads - 1] = numbers(p->out_type, p->rows * p->columns, NULL);
        Device *device;
        assert_ok(device_open(DEVICE_CPU, 0, threads, &device));
        large_product_run(device, p, a.data, b.data, threads == 1 ? bias.data : NULL, made.data, scratch);
        check(p, a, b, threads == 1 ? bias.data : NULL, made, p->inner > 1000 ? 7 : 1);
        large_product_run(device, p, a.data, b.data, bias.data, made.data, scratch);
        device_close(device);
    }
    assert_memory_equal(out[0].data, out[1].data, (size_t)(p->rows * p->columns) * dtype_size(p->out_type));
    free(scratch);
    free(a.data), free(b.data), free(bias.data);
    free(out[0].data), free(out[1].data);
}

/* Of some rows the same bits as of these rows alone; others stay as they are. Two in three, and the last is one of them. */
static void try_rows(const LargeProduct *p)
{
    if (!large_product_possible(p)) return;
    const int64_t all = p->a_turned ? p->inner : p->rows, width = p->a_turned ? p->rows : p->inner;
    RandomStream random = random_stream(1, RANDOM_TEST, (uint64_t)(p->rows + p->inner + p->columns));
    const Numbers a = numbers(p->type, all * width, &random),
                  b = numbers(p->b_type, p->inner * p->columns, &random),
                  bias = numbers(FLOAT32, p->columns, &random), few_a = numbers(p->type, all * width, NULL),
                  few_b = numbers(p->b_type, p->inner * p->columns, NULL),
                  out = numbers(p->out_type, p->rows * p->columns, NULL),
                  few_out = numbers(p->out_type, p->rows * p->columns, NULL);
    const size_t a_row = (size_t)width * dtype_size(p->type),
                 b_row = (size_t)p->columns * dtype_size(p->b_type),
                 out_row = (size_t)p->columns * dtype_size(p->out_type);
    int32_t *row = malloc((size_t)all * sizeof *row);
    void *scratch = aligned_alloc(64, large_product_scratch(p));
    Device *device;
    int64_t count = 0;
    assert_non_null(row);
    assert_non_null(scratch);
    for (int64_t r = 0; r < all; ++r)
        if ((all - 1 - r) % 3 != 1) row[count++] = (int32_t)r;
    for (int64_t i = 0; i < count; ++i) {
        memcpy((char *)few_a.data + (size_t)i * a_row, (char *)a.data + (size_t)row[i] * a_row, a_row);
        if (p->a_turned)
            memcpy((char *)few_b.data + (size_t)i * b_row, (char *)b.data + (size_t)row[i] * b_row, b_row);
    }
    LargeProduct few = *p;
    *(p->a_turned ? &few.inner : &few.rows) = count;
    LargeProduct chosen = few;
    chosen.row = row;
    memset(out.data, 0x55, (size_t)p->rows * out_row);
    assert_ok(device_open(DEVICE_CPU, 0, 2, &device));
    large_product_run(device, &few, few_a.data, p->a_turned ? few_b.data : b.data, bias.data, few_out.data,
                      scratch);
    large_product_run(device, &chosen, a.data, b.data, bias.data, out.data, scratch);
    device_close(device);
    char *untouched = malloc(out_row);
    assert_non_null(untouched);
    memset(untouched, 0x55, out_row);
    for (int64_t r = 0, next = 0; r < p->rows; ++r) {
        const bool made = p->a_turned || (next < count && row[next] == r);
        const char *want = made ? (const char *)few_out.data + (size_t)next * out_row : untouched;
        assert_memory_equal((const char *)out.data + (size_t)r * out_row, want, out_row);
        next += made;
    }
    free(untouched), free(scratch), free(row), free(a.data), free(b.data), free(bias.data);
    free(few_a.data), free(few_b.data), free(out.data), free(few_out.data);
}

/* As linear layers use them: forward, and the gradients of the input and of the weights. */
static void test_rows(void **state)
{
    (void)state;
    const int64_t shapes[][3] = {{1, 2, 1}, {9, 34, 33}, {45, 66, 48}, {300, 50, 260}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; ++s)
        for (int form = 0; form < 6; ++form) {
            const DType type = form & 1 ? BFLOAT16 : FLOAT32;
            try_rows(&(LargeProduct){.rows = shapes[s][0],
                                     .inner = shapes[s][1],
                                     .columns = shapes[s][2],
                                     .a_turned = form / 2 == 2,
                                     .b_turned = form / 2 == 0,
                                     .type = type,
                                     .b_type = form / 2 == 2 ? type : FLOAT32,
                                     .out_type = form / 2 == 2 ? FLOAT32 : type});
        }
}

/* Tiles and vectors that are not whole in each direction, odd counts, and an inner dimension of several parts. */
static void test_products(void **state)
{
    (void)state;
    const int64_t shapes[][3] = {{1, 1, 1},   {1, 2, 1},    {7, 33, 5},    {8, 32, 32},    {9, 31, 33},
                                 {17, 64, 3}, {45, 66, 48}, {300, 5, 260}, {16, 2051, 36}, {3, 8200, 270}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; ++s)
        for (int form = 0; form < 32; ++form) {
            const DType type = form & 4 ? BFLOAT16 : FLOAT32;
            if (shapes[s][1] > 1000 && (form & 9) != 0) continue; /* making its numbers takes long */
            try_product(&(LargeProduct){.rows = shapes[s][0],
                                        .inner = shapes[s][1],
                                        .columns = shapes[s][2],
                                        .a_turned = (form & 1) != 0,
                                        .b_turned = (form & 2) != 0,
                                        .type = type,
                                        .b_type = form & 8 ? type : FLOAT32,
                                        .out_type = form & 16 ? type : FLOAT32});
        }
}

static Tensor tensor(Numbers n, int64_t rows, int64_t columns)
{
    return (Tensor){
        .data = n.data, .shape = shape_of(n.type, 2, (int64_t[]){rows, columns}), .stride = columns};
}

/* Of a linear layer that is large enough for them; on other processors the same layer by oneDNN. */
static void try_layer(DType type)
{
    enum { ROWS = 261, CHANNELS = 512, FEATURES = 514, EVERY = 997 };
    RandomStream random = random_stream(1, RANDOM_TEST, 7);
    const Numbers x = numbers(type, (int64_t)ROWS * CHANNELS, &random),
                  weight = numbers(FLOAT32, (int64_t)FEATURES * CHANNELS, &random),
                  bias = numbers(FLOAT32, FEATURES, &random),
                  d_y = numbers(type, (int64_t)ROWS * FEATURES, &random),
                  y = numbers(type, (int64_t)ROWS * FEATURES, NULL),
                  d_x = numbers(type, (int64_t)ROWS * CHANNELS, NULL),
                  d_weight = numbers(FLOAT32, (int64_t)FEATURES * CHANNELS, NULL);
    const LinearAttributes attributes = {
        .in_type = type, .out_type = type, .rank = 2, .extent = {ROWS, CHANNELS}, .features = FEATURES};
    Call forward = {.attributes = &attributes,
                    .in = {tensor(x, ROWS, CHANNELS), tensor(weight, FEATURES, CHANNELS),
                           tensor_vector(bias.data, FEATURES)},
                    .out = {tensor(y, ROWS, FEATURES)}};
    assert_ok(kernel_call_on(DEVICE_CPU, &linear_op, &forward, 3, 2, 0, NULL));
    check(&(LargeProduct){.rows = ROWS,
                          .inner = CHANNELS,
                          .columns = FEATURES,
                          .b_turned = true,
                          .type = type,
                          .out_type = type},
          x, weight, bias.data, y, EVERY);
    Call backward_data = {.attributes = &attributes,
                          .in = {tensor(d_y, ROWS, FEATURES), tensor(weight, FEATURES, CHANNELS)},
                          .out = {tensor(d_x, ROWS, CHANNELS)}};
    assert_ok(kernel_call_on(DEVICE_CPU, &linear_backward_data_op, &backward_data, 2, 2, 0, NULL));
    check(
        &(LargeProduct){.rows = ROWS, .inner = FEATURES, .columns = CHANNELS, .type = type, .out_type = type},
        d_y, weight, NULL, d_x, EVERY);
    Call backward_weights = {.attributes = &attributes,
                             .in = {tensor(x, ROWS, CHANNELS), tensor(d_y, ROWS, FEATURES)},
                             .out = {tensor(d_weight, FEATURES, CHANNELS)}};
    assert_ok(kernel_call_on(DEVICE_CPU, &linear_backward_weights_op, &backward_weights, 2, 2, 0, NULL));
    check(&(LargeProduct){.rows = FEATURES,
                          .inner = ROWS,
                          .columns = CHANNELS,
                          .a_turned = true,
                          .type = type,
                          .b_type = type},
          d_y, x, NULL, d_weight, EVERY);
    free(x.data), free(weight.data), free(bias.data), free(d_y.data);
    free(y.data), free(d_x.data), free(d_weight.data);
}

/* A layer of sequences: the rows that they have as without lengths, the others 0; gradients where d_y is 0 behind the ends. */
static void try_sequences(DType type, int64_t channels, int64_t features)
{
    enum { SEQUENCES = 29, LONG = 9, ROWS = SEQUENCES * LONG };
    const bool ours = channels > 100 && large_product_possible(&(LargeProduct){.type = type});
    RandomStream random = random_stream(1, RANDOM_TEST, 8);
    const Numbers x = numbers(type, ROWS * channels, &random),
                  weight = numbers(FLOAT32, features * channels, &random),
                  bias = numbers(FLOAT32, features, &random), d_y = numbers(type, ROWS * features, &random);
    int32_t length[SEQUENCES];
    const LinearAttributes attributes = {.in_type = type,
                                         .out_type = type,
                                         .rank = 3,
                                         .extent = {SEQUENCES, LONG, channels},
                                         .features = features};
    const Tensor lengths = {
        .data = length, .shape = shape_of(INT32, 1, (int64_t[]){SEQUENCES}), .stride = SEQUENCES};
    const Op *const ops[] = {&linear_op, &linear_backward_data_op, &linear_backward_weights_op};
    for (int n = 0; n < SEQUENCES; ++n) {
        length[n] = n % (LONG + 1); /* of no row, some and all */
        memset((char *)d_y.data + (size_t)(n * LONG + length[n]) * (size_t)features * dtype_size(type), 0,
               (size_t)(LONG - length[n]) * (size_t)features * dtype_size(type));
    }
    for (int k = 0; k < 3; ++k) {
        const DType out_type = k == 2 ? FLOAT32 : type;
        const int64_t columns = k == 0 ? features : channels, rows = k == 2 ? features : ROWS;
        const int inputs = k == 0 ? LINEAR_LENGTH : LINEAR_BACKWARD_LENGTH;
        const Numbers some = numbers(out_type, rows * columns, &random),
                      all = numbers(out_type, rows * columns, NULL);
        Call call = {.attributes = &attributes,
                     .in = {k == 1 ? tensor(d_y, ROWS, features) : tensor(x, ROWS, channels),
                            k == 2 ? tensor(d_y, ROWS, features) : tensor(weight, features, channels)},
                     .out = {tensor(all, rows, columns)}};
        if (k == 0) call.in[LINEAR_BIAS] = tensor_vector(bias.data, features);
        assert_ok(kernel_call_on(DEVICE_CPU, ops[k], &call, inputs, 2, 0, NULL));
        call.in[inputs] = lengths;
        call.out[0] = tensor(some, rows, columns);
        assert_ok(kernel_call_on(DEVICE_CPU, ops[k], &call, inputs + 1, 2, 0, NULL));
        for (int64_t i = 0; i < rows * columns; ++i) {
            const int64_t row = i / columns;
            const bool there = k == 2 || row % LONG < length[row / LONG];
            const double want = number(all, i), have = number(some, i);
            if (!there && ours)
                assert_true(have == 0);
            else if (there)
                assert_true(fabs(have - want) <= (k == 2 ? 1e-4 : 0));
        }
        free(some.data), free(all.data);
    }
    free(x.data), free(weight.data), free(bias.data), free(d_y.data);
}

static void test_sequences(void **state)
{
    (void)state;
    for (int type = 0; type < 2; ++type) {
        try_sequences(type == 0 ? FLOAT32 : BFLOAT16, 512, 514);
        try_sequences(type == 0 ? FLOAT32 : BFLOAT16, 32, 48); /* by the library */
    }
}

static void test_layer(void **state)
{
    (void)state;
    try_layer(FLOAT32);
    try_layer(BFLOAT16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_layer),
        cmocka_unit_test(test_sequences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
