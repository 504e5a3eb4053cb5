/* batch_norm against itself: any number of threads and ranks, in place, with gradients to add; what it
 * refuses; and when it takes in what follows it. */
#include "tests/support.h"

#include "tests/kernel_call.h"

#include "engine/base/random.h"
#include "engine/device/collective_methods.h"
#include "engine/ops/batch_norm.h"
#include "engine/ops/ops.h"
#include "engine/ops/table.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(cases) ((int)(sizeof(cases) / sizeof *(cases)))

enum { ROWS = 1500, COLUMNS = 37, X_STRIDE = 41, Y_STRIDE = 53 };

/* Cheap numbers for large tensors. */
static float *ramp(int64_t count)
{
    float *data = aligned_alloc(64, ((size_t)count * sizeof *data + 63) / 64 * 64);
    assert_non_null(data);
    for (int64_t i = 0; i < count; ++i)
        data[i] = (float)(i * 7919 % 2003) * 0.001F - 1;
    return data;
}

static float *floats(int64_t count, uint64_t seed)
{
    float *data = aligned_alloc(64, ((size_t)count * sizeof *data + 63) / 64 * 64);
    assert_non_null(data);
    RandomStream random = random_stream(seed, RANDOM_TEST, 7);
    for (int64_t i = 0; i < count; ++i)
        data[i] = (float)random_normal(&random);
    return data;
}

/* All tensors of a forward and backward call with every option, in memory of their own. */
typedef struct {
    float *x, *residual, *weight, *bias, *running_mean, *running_var, *dy, *addend;
    float *y, *mean, *inverse, *dx, *dresidual, *dweight, *dbias;
    uint8_t *mask;
    int64_t batches;
    int64_t clock[CLOCK_COUNT];
} Tensors;

enum { MASK_COLUMNS = (COLUMNS + 7) / 8 };

static Tensors make_tensors(int64_t rows)
{
    Tensors t = {.x = floats(rows * X_STRIDE, 1),
                 .residual = floats(rows * X_STRIDE, 2),
                 .weight = floats(COLUMNS, 3),
                 .bias = floats(COLUMNS, 4),
                 .running_mean = floats(COLUMNS, 5),
                 .running_var = floats(COLUMNS, 6),
                 .dy = floats(rows * Y_STRIDE, 7),
                 .addend = floats(rows * COLUMNS, 9),
                 .y = floats(rows * Y_STRIDE, 10),
                 .mean = floats(COLUMNS, 11),
                 .inverse = floats(COLUMNS, 12),
                 .dx = floats(rows * X_STRIDE, 13),
                 .dresidual = floats(rows * Y_STRIDE, 14),
                 .dweight = floats(COLUMNS, 15),
                 .dbias = floats(COLUMNS, 16),
                 .mask = calloc((size_t)rows, MASK_COLUMNS)};
    assert_non_null(t.mask);
    return t;
}

static void free_tensors(Tensors *t)
{
    float *all[] = {t->x,           t->residual, t->weight,    t->bias,    t->running_mean,
                    t->running_var, t->dy,       t->addend,    t->y,       t->mean,
                    t->inverse,     t->dx,       t->dresidual, t->dweight, t->dbias};
    for (int i = 0; i < COUNT(all); ++i)
        free(all[i]);
    free(t->mask);
}

static Tensor mask_tensor(uint8_t *mask, int64_t rows)
{
    return (Tensor){
        .data = mask, .shape = shape_of(UINT8, 2, (int64_t[]){rows, MASK_COLUMNS}), .stride = MASK_COLUMNS};
}

static Tensor clock_tensor(int64_t clock[CLOCK_COUNT])
{
    return (Tensor){
        .data = clock, .shape = shape_of(INT64, 1, (int64_t[]){CLOCK_COUNT}), .stride = CLOCK_COUNT};
}

static Status forward(Tensors *t, int64_t rows, const BatchNormAttributes *attributes, int threads,
                      Collective *collective)
{
    Call call = {.attributes = attributes};
    call.in[BATCH_NORM_X] = tensor_floats(t->x, rows, COLUMNS, X_STRIDE);
    call.in[BATCH_NORM_WEIGHT] = tensor_vector(t->weight, COLUMNS);
    call.in[BATCH_NORM_BIAS] = tensor_vector(t->bias, COLUMNS);
    call.in[BATCH_NORM_RUNNING_MEAN] = tensor_vector(t->running_mean, COLUMNS);
    call.in[BATCH_NORM_RUNNING_VAR] = tensor_vector(t->running_var, COLUMNS);
    call.in[BATCH_NORM_BATCHES_TRACKED] =
        (Tensor){.data = &t->batches, .shape = shape_of(INT64, 0, NULL), .stride = 1};
    call.in[BATCH_NORM_RESIDUAL] = tensor_floats(t->residual, rows, COLUMNS, X_STRIDE);
    call.in[BATCH_NORM_CLOCK] = clock_tensor(t->clock);
    call.out[BATCH_NORM_Y] = tensor_floats(t->y, rows, COLUMNS, Y_STRIDE);
    call.out[BATCH_NORM_MEAN] = tensor_vector(t->mean, COLUMNS);
    call.out[BATCH_NORM_INVERSE_DEVIATION] = tensor_vector(t->inverse, COLUMNS);
    call.out[BATCH_NORM_MASK] = mask_tensor(t->mask, rows);
    return kernel_call(&batch_norm_op, &call, BATCH_NORM_INPUTS, threads, 0, collective);
}

static Status backward(Tensors *t, int64_t rows, const BatchNormAttributes *attributes, int threads,
                       uint32_t unwanted, Collective *collective)
{
    Call call = {.attributes = attributes};
    call.in[BATCH_NORM_BACKWARD_DY] = tensor_floats(t->dy, rows, COLUMNS, Y_STRIDE);
    call.in[BATCH_NORM_BACKWARD_X] = tensor_floats(t->x, rows, COLUMNS, X_STRIDE);
    call.in[BATCH_NORM_BACKWARD_WEIGHT] = tensor_vector(t->weight, COLUMNS);
    call.in[BATCH_NORM_BACKWARD_BIAS] = tensor_vector(t->bias, COLUMNS);
    call.in[BATCH_NORM_BACKWARD_MEAN] = tensor_vector(t->mean, COLUMNS);
    call.in[BATCH_NORM_BACKWARD_INVERSE_DEVIATION] = tensor_vector(t->inverse, COLUMNS);
    call.in[BATCH_NORM_BACKWARD_MASK] = mask_tensor(t->mask, rows);
    call.in[BATCH_NORM_BACKWARD_ADDEND] = tensor_floats(t->addend, rows, COLUMNS, COLUMNS);
    call.in[BATCH_NORM_BACKWARD_CLOCK] = clock_tensor(t->clock);
    call.out[BATCH_NORM_BACKWARD_DX] = tensor_floats(t->dx, rows, COLUMNS, X_STRIDE);
    call.out[BATCH_NORM_BACKWARD_DRESIDUAL] = tensor_floats(t->dresidual, rows, COLUMNS, Y_STRIDE);
    call.out[BATCH_NORM_BACKWARD_DWEIGHT] = tensor_vector(t->dweight, COLUMNS);
    call.out[BATCH_NORM_BACKWARD_DBIAS] = tensor_vector(t->dbias, COLUMNS);
    return kernel_call(&batch_norm_backward_op, &call, BATCH_NORM_BACKWARD_INPUTS, threads, unwanted,
                       collective);
}

static const BatchNormAttributes all_options = {
    .epsilon = 1e-5, .momentum = 0.1, .relu = true, .train = true, .synchronize = true};

static void assert_same_bits(const void *got, const void *want, size_t bytes, const char *what)
{
    if (memcmp(got, want, bytes) == 0) return;
    print_error("%s differs\n", what);
    assert_true(false);
}

#define ASSERT_SAME(a, b, member, count)                                                                     \
    assert_same_bits((a).member, (b).member, (size_t)(count) * sizeof *(a).member, #member)

static void assert_same_results(const Tensors *a, const Tensors *b, int64_t rows)
{
    ASSERT_SAME(*a, *b, y, rows * Y_STRIDE);
    ASSERT_SAME(*a, *b, mask, rows * MASK_COLUMNS);
    ASSERT_SAME(*a, *b, running_mean, COLUMNS);
    ASSERT_SAME(*a, *b, running_var, COLUMNS);
    ASSERT_SAME(*a, *b, dx, rows * X_STRIDE);
    ASSERT_SAME(*a, *b, dresidual, rows * Y_STRIDE);
    ASSERT_SAME(*a, *b, dweight, COLUMNS);
    ASSERT_SAME(*a, *b, dbias, COLUMNS);
}

static void test_any_number_of_threads_gives_the_same_bits(void **state)
{
    (void)state;
    Tensors one = make_tensors(ROWS);
    assert_ok(forward(&one, ROWS, &all_options, 1, NULL));
    assert_ok(backward(&one, ROWS, &all_options, 1, 0, NULL));
    for (int threads = 2; threads <= 5; ++threads) {
        Tensors many = make_tensors(ROWS);
        assert_ok(forward(&many, ROWS, &all_options, threads, NULL));
        assert_ok(backward(&many, ROWS, &all_options, threads, 0, NULL));
        assert_same_results(&one, &many, ROWS);
        free_tensors(&many);
    }
    free_tensors(&one);
}

/* The addend does what a separate addition would. */
static void test_addend(void **state)
{
    (void)state;
    Tensors fused = make_tensors(ROWS), plain = make_tensors(ROWS);
    assert_ok(forward(&fused, ROWS, &all_options, 2, NULL));
    assert_ok(backward(&fused, ROWS, &all_options, 2, 0, NULL));
    assert_ok(forward(&plain, ROWS, &all_options, 2, NULL));
    float *addend = plain.addend;
    plain.addend = NULL; /* tensors without data are absent */
    assert_ok(backward(&plain, ROWS, &all_options, 2, 0, NULL));
    plain.addend = addend;
    ASSERT_SAME(fused, plain, dresidual, ROWS * Y_STRIDE);
    ASSERT_SAME(fused, plain, dweight, COLUMNS);
    for (int64_t i = 0; i < ROWS; ++i)
        for (int64_t c = 0; c < COLUMNS; ++c) {
            const float sum = plain.dx[i * X_STRIDE + c] + addend[i * COLUMNS + c];
            assert_true(fabsf(fused.dx[i * X_STRIDE + c] - sum) <= 1e-6F * (1 + fabsf(sum)));
        }
    free_tensors(&fused);
    free_tensors(&plain);
}

static void assert_columns_near(const float *got, const float *want, int64_t rows, int64_t stride,
                                const char *what)
{
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t c = 0; c < COLUMNS; ++c) {
            const float a = got[row * stride + c], b = want[row * stride + c];
            if (fabsf(a - b) <= 1e-5F * (1 + fabsf(b))) continue;
            print_error("%s, row %lld, column %lld: %g, but must be %g\n", what, (long long)row, (long long)c,
                        (double)a, (double)b);
            assert_true(false);
        }
}

static void assert_rows_are_zero(const float *data, int64_t first, int64_t stride, const char *what)
{
    for (int64_t row = first; row < ROWS; ++row)
        for (int64_t c = 0; c < COLUMNS; ++c) {
            if (data[row * stride + c] == 0) continue;
            print_error("%s: padding in row %lld has a gradient\n", what, (long long)row);
            assert_true(false);
        }
}

/* A batch that ends in padding, whatever stands there, is a smaller batch. */
static void test_padding(void **state)
{
    (void)state;
    static const int64_t paddings[] = {1, 3, 700, ROWS - 2};
    for (int i = 0; i < COUNT(paddings); ++i) {
        const int64_t rows = ROWS - paddings[i];
        Tensors padded = make_tensors(ROWS), smaller = make_tensors(ROWS);
        padded.clock[CLOCK_PADDING] = paddings[i];
        for (int64_t at = rows * X_STRIDE; at < ROWS * X_STRIDE; ++at)
            padded.x[at] = padded.residual[at] = NAN;
        assert_ok(forward(&padded, ROWS, &all_options, 2, NULL));
        assert_ok(backward(&padded, ROWS, &all_options, 2, 0, NULL));
        assert_ok(forward(&smaller, rows, &all_options, 2, NULL));
        assert_ok(backward(&smaller, rows, &all_options, 2, 0, NULL));
        assert_columns_near(padded.y, smaller.y, rows, Y_STRIDE, "y");
        assert_columns_near(padded.running_mean, smaller.running_mean, 1, COLUMNS, "running_mean");
        assert_columns_near(padded.running_var, smaller.running_var, 1, COLUMNS, "running_var");
        assert_columns_near(padded.dx, smaller.dx, rows, X_STRIDE, "dx");
        assert_columns_near(padded.dresidual, smaller.dresidual, rows, Y_STRIDE, "dresidual");
        assert_columns_near(padded.dweight, smaller.dweight, 1, COLUMNS, "dweight");
        assert_columns_near(padded.dbias, smaller.dbias, 1, COLUMNS, "dbias");
        assert_rows_are_zero(padded.dx, rows, X_STRIDE, "dx");
        assert_rows_are_zero(padded.dresidual, rows, Y_STRIDE, "dresidual");
        assert_int_equal(padded.batches, 1);
        free_tensors(&padded);
        free_tensors(&smaller);
    }
}

static void test_nothing_but_padding(void **state)
{
    (void)state;
    Tensors t = make_tensors(ROWS), before = make_tensors(ROWS);
    t.clock[CLOCK_PADDING] = ROWS;
    assert_ok(forward(&t, ROWS, &all_options, 2, NULL));
    assert_ok(backward(&t, ROWS, &all_options, 2, 0, NULL));
    ASSERT_SAME(t, before, running_mean, COLUMNS);
    ASSERT_SAME(t, before, running_var, COLUMNS);
    assert_int_equal(t.batches, 0);
    for (int64_t i = 0; i < ROWS * Y_STRIDE; ++i)
        assert_true(isfinite(t.y[i]));
    assert_rows_are_zero(t.dx, 0, X_STRIDE, "dx");
    for (int c = 0; c < COLUMNS; ++c)
        assert_true(t.dweight[c] == 0 && t.dbias[c] == 0);
    free_tensors(&t);
    free_tensors(&before);
}

/* Columns outside a strided tensor and outputs that nobody wants are left alone. */
static void test_writes_only_what_it_must(void **state)
{
    (void)state;
    Tensors t = make_tensors(ROWS), before = make_tensors(ROWS);
    assert_ok(forward(&t, ROWS, &all_options, 2, NULL));
    assert_ok(backward(&t, ROWS, &all_options, 2, 1U << BATCH_NORM_BACKWARD_DX, NULL));
    ASSERT_SAME(t, before, dx, ROWS * X_STRIDE);
    assert_ok(backward(&t, ROWS, &all_options, 2, 0, NULL));
    for (int64_t i = 0; i < ROWS; ++i) {
        const size_t y_gap = (Y_STRIDE - COLUMNS) * sizeof(float),
                     x_gap = (X_STRIDE - COLUMNS) * sizeof(float);
        assert_memory_equal(t.y + i * Y_STRIDE + COLUMNS, before.y + i * Y_STRIDE + COLUMNS, y_gap);
        assert_memory_equal(t.dx + i * X_STRIDE + COLUMNS, before.dx + i * X_STRIDE + COLUMNS, x_gap);
        assert_memory_equal(t.dresidual + i * Y_STRIDE + COLUMNS, before.dresidual + i * Y_STRIDE + COLUMNS,
                            y_gap);
    }
    ASSERT_SAME(t, before, x, ROWS * X_STRIDE);
    ASSERT_SAME(t, before, dy, ROWS * Y_STRIDE);
    free_tensors(&t);
    free_tensors(&before);
}

static void test_in_place(void **state)
{
    (void)state;
    assert_int_equal(batch_norm_op.kernel[DEVICE_CPU]->in_place,
                     1 << BATCH_NORM_X | 1 << BATCH_NORM_RESIDUAL);
    Tensors apart = make_tensors(ROWS), shared = make_tensors(ROWS);
    assert_ok(forward(&apart, ROWS, &all_options, 2, NULL));
    assert_ok(backward(&apart, ROWS, &all_options, 2, 0, NULL));
    /* dx over dy: shapes are those of Y_STRIDE. */
    memcpy(shared.mask, apart.mask, ROWS * MASK_COLUMNS);
    memcpy(shared.mean, apart.mean, COLUMNS * sizeof(float));
    memcpy(shared.inverse, apart.inverse, COLUMNS * sizeof(float));
    float *own = shared.dx;
    Call call = {.attributes = &all_options};
    call.in[BATCH_NORM_BACKWARD_DY] = tensor_floats(shared.dy, ROWS, COLUMNS, Y_STRIDE);
    call.in[BATCH_NORM_BACKWARD_X] = tensor_floats(shared.x, ROWS, COLUMNS, X_STRIDE);
    call.in[BATCH_NORM_BACKWARD_WEIGHT] = tensor_vector(shared.weight, COLUMNS);
    call.in[BATCH_NORM_BACKWARD_BIAS] = tensor_vector(shared.bias, COLUMNS);
    call.in[BATCH_NORM_BACKWARD_MEAN] = tensor_vector(shared.mean, COLUMNS);
    call.in[BATCH_NORM_BACKWARD_INVERSE_DEVIATION] = tensor_vector(shared.inverse, COLUMNS);
    call.in[BATCH_NORM_BACKWARD_MASK] = mask_tensor(shared.mask, ROWS);
    call.in[BATCH_NORM_BACKWARD_ADDEND] = tensor_floats(shared.addend, ROWS, COLUMNS, COLUMNS);
    call.out[BATCH_NORM_BACKWARD_DX] = call.in[BATCH_NORM_BACKWARD_DY];
    call.out[BATCH_NORM_BACKWARD_DRESIDUAL] = tensor_floats(shared.dresidual, ROWS, COLUMNS, Y_STRIDE);
    call.out[BATCH_NORM_BACKWARD_DWEIGHT] = tensor_vector(shared.dweight, COLUMNS);
    call.out[BATCH_NORM_BACKWARD_DBIAS] = tensor_vector(shared.dbias, COLUMNS);
    assert_ok(kernel_call(&batch_norm_backward_op, &call, BATCH_NORM_BACKWARD_INPUTS, 2, 0, NULL));
    for (int64_t i = 0; i < ROWS; ++i)
        assert_memory_equal(shared.dy + i * Y_STRIDE, apart.dx + i * X_STRIDE, COLUMNS * sizeof(float));
    ASSERT_SAME(apart, shared, dresidual, ROWS * Y_STRIDE);
    shared.dx = own;
    free_tensors(&apart);
    free_tensors(&shared);
}

/* Large results are written past the caches if rows are aligned. */
static void test_large_results(void **state)
{
    (void)state;
    enum { LARGE_ROWS = 65000, CHANNELS = 97, STRIDE = 112, ODD_STRIDE = 113 };
    for (int type = 0; type < 2; ++type) {
        const bool bf16 = type == 1;
        const size_t size = bf16 ? sizeof(bfloat16) : sizeof(float);
        void *x = ramp(LARGE_ROWS * STRIDE), *out[2][4] = {{NULL}};
        if (bf16)
            for (int64_t i = 0; i < LARGE_ROWS * STRIDE; ++i)
                ((bfloat16 *)x)[i] = bfloat16_from_float(((float *)x)[i]);
        float *weight = floats(CHANNELS, 3), *bias = floats(CHANNELS, 4), *other[6];
        for (int i = 0; i < 6; ++i)
            other[i] = floats(CHANNELS, 5);
        int64_t batches = 0;
        for (int odd = 0; odd < 2; ++odd) {
            const int64_t stride = odd ? ODD_STRIDE : STRIDE;
            for (int i = 0; i < 3; ++i)
                out[odd][i] = ramp(LARGE_ROWS * stride);
            out[odd][3] = calloc(LARGE_ROWS, (CHANNELS + 7) / 8);
            assert_non_null(out[odd][3]);
            const Shape shape = shape_of(bf16 ? BFLOAT16 : FLOAT32, 2, (int64_t[]){LARGE_ROWS, CHANNELS});
            const Tensor in = {.data = x, .shape = shape, .stride = STRIDE};
            const Tensor mask = {.data = out[odd][3],
                                 .shape = shape_of(UINT8, 2, (int64_t[]){LARGE_ROWS, (CHANNELS + 7) / 8}),
                                 .stride = (CHANNELS + 7) / 8};
            Call call = {.attributes = &all_options,
                         .in = {in,
                                tensor_vector(weight, CHANNELS),
                                tensor_vector(bias, CHANNELS),
                                tensor_vector(other[0], CHANNELS),
                                tensor_vector(other[1], CHANNELS),
                                {.data = &batches, .shape = shape_of(INT64, 0, NULL), .stride = 1},
                                in},
                         .out = {{.data = out[odd][0], .shape = shape, .stride = stride},
                                 tensor_vector(other[2], CHANNELS),
                                 tensor_vector(other[3], CHANNELS),
                                 mask}};
            assert_ok(kernel_call(&batch_norm_op, &call, BATCH_NORM_INPUTS, 2, 0, NULL));
            call = (Call){.attributes = &all_options,
                          .in = {in, in, tensor_vector(weight, CHANNELS), tensor_vector(bias, CHANNELS),
                                 tensor_vector(other[2], CHANNELS), tensor_vector(other[3], CHANNELS), mask},
                          .out = {{.data = out[odd][1], .shape = shape, .stride = stride},
                                  tensor_vector(other[4], CHANNELS),
                                  tensor_vector(other[5], CHANNELS),
                                  {.data = out[odd][2], .shape = shape, .stride = stride}}};
            assert_ok(kernel_call(&batch_norm_backward_op, &call, BATCH_NORM_BACKWARD_INPUTS, 2, 0, NULL));
        }
        for (int64_t row = 0; row < LARGE_ROWS; ++row)
            for (int i = 0; i < 3; ++i)
                assert_memory_equal((char *)out[0][i] + (size_t)(row * STRIDE) * size,
                                    (char *)out[1][i] + (size_t)(row * ODD_STRIDE) * size, CHANNELS * size);
        for (int i = 0; i < 4; ++i) {
            free(out[0][i]);
            free(out[1][i]);
        }
        for (int i = 0; i < 6; ++i)
            free(other[i]);
        free(weight);
        free(bias);
        free(x);
    }
}

static void test_nan_is_seen(void **state)
{
    (void)state;
    Tensors t = make_tensors(ROWS);
    t.x[700 * X_STRIDE + 20] = NAN;
    assert_ok(forward(&t, ROWS, &all_options, 2, NULL));
    assert_true(isnan(t.y[20]) && isnan(t.y[700 * Y_STRIDE + 20]) && isnan(t.running_mean[20]));
    assert_false(isnan(t.y[21]));
    assert_ok(backward(&t, ROWS, &all_options, 2, 0, NULL));
    assert_true(isnan(t.dx[20]) && isnan(t.dweight[20]));
    assert_false(isnan(t.dx[21]));
    free_tensors(&t);
}

/* ---- synchronised: ranks as threads of this process ---- */

enum { RANKS = 3 };

typedef struct {
    pthread_barrier_t barrier;
    double *part[RANKS];
} World;

typedef struct {
    Collective collective;
    World *world;
} Rank;

static Status sum_in_world(Collective *collective, Span span, Stream after)
{
    (void)after;
    World *world = ((Rank *)collective->implementation)->world;
    assert_true(span.type == FLOAT64);
    world->part[collective->rank] = span.data;
    pthread_barrier_wait(&world->barrier);
    double *sum = calloc((size_t)span.count, sizeof *sum);
    assert_non_null(sum);
    for (int r = 0; r < RANKS; ++r)
        for (int64_t i = 0; i < span.count; ++i)
            sum[i] += world->part[r][i];
    pthread_barrier_wait(&world->barrier);
    memcpy(span.data, sum, (size_t)span.count * sizeof *sum);
    free(sum);
    return OK;
}

static Status join_world(Collective *collective, Stream stream)
{
    (void)collective;
    (void)stream;
    return OK;
}

static const CollectiveMethods world_methods = {.sum = sum_in_world, .join = join_world};

typedef struct {
    Rank rank;
    Tensors tensors;
    int64_t first, rows; /* of the global batch */
    Status status;
} Worker;

static void *work(void *argument)
{
    Worker *worker = argument;
    worker->status = forward(&worker->tensors, worker->rows, &all_options, 1, &worker->rank.collective);
    if (worker->status == OK)
        worker->status =
            backward(&worker->tensors, worker->rows, &all_options, 1, 0, &worker->rank.collective);
    return NULL;
}

static void move_rows(float *to, const float *from, const Worker *worker, int64_t stride)
{
    memcpy(to, from + worker->first * stride, (size_t)(worker->rows * stride) * sizeof *to);
}

static void assert_near(const float *got, const float *want, int64_t count, float tolerance, const char *what)
{
    for (int64_t i = 0; i < count; ++i) {
        if (fabsf(got[i] - want[i]) <= tolerance * (1 + fabsf(want[i]))) continue;
        print_error("%s[%lld] is %.9g, not %.9g\n", what, (long long)i, (double)got[i], (double)want[i]);
        assert_true(false);
    }
}

static void test_synchronised_statistics_are_those_of_the_global_batch(void **state)
{
    (void)state;
    if (!test_reads_device_memory()) skip(); /* sum_in_world does; tests of training cover the rest */
    Tensors whole = make_tensors(ROWS);
    assert_ok(forward(&whole, ROWS, &all_options, 1, NULL));
    assert_ok(backward(&whole, ROWS, &all_options, 1, 0, NULL));
    World world;
    assert_int_equal(pthread_barrier_init(&world.barrier, NULL, RANKS), 0);
    const int64_t share[RANKS] = {700, 1, 799}; /* uneven; one row alone would have no variance */
    Worker worker[RANKS];
    pthread_t thread[RANKS];
    int64_t first = 0;
    const Tensors fresh = make_tensors(ROWS);
    for (int r = 0; r < RANKS; ++r) {
        Worker *w = &worker[r];
        *w = (Worker){.first = first, .rows = share[r], .tensors = make_tensors(share[r])};
        first += share[r];
        w->rank =
            (Rank){.world = &world, .collective = {.rank = r, .size = RANKS, .methods = &world_methods}};
        move_rows(w->tensors.x, fresh.x, w, X_STRIDE);
        move_rows(w->tensors.residual, fresh.residual, w, X_STRIDE);
        move_rows(w->tensors.dy, fresh.dy, w, Y_STRIDE);
        move_rows(w->tensors.addend, fresh.addend, w, COLUMNS);
        move_rows(w->tensors.y, fresh.y, w, Y_STRIDE);
        move_rows(w->tensors.dx, fresh.dx, w, X_STRIDE);
    }
    for (int r = 0; r < RANKS; ++r) {
        worker[r].rank.collective.implementation = &worker[r].rank;
        assert_int_equal(pthread_create(&thread[r], NULL, work, &worker[r]), 0);
    }
    float dweight[COLUMNS] = {0};
    for (int r = 0; r < RANKS; ++r) {
        assert_int_equal(pthread_join(thread[r], NULL), 0);
        assert_ok(worker[r].status);
    }
    for (int r = 0; r < RANKS; ++r) {
        Worker *w = &worker[r];
        assert_near(w->tensors.mean, whole.mean, COLUMNS, 1e-6F, "mean");
        assert_near(w->tensors.inverse, whole.inverse, COLUMNS, 1e-6F, "inverse deviation");
        assert_near(w->tensors.running_mean, whole.running_mean, COLUMNS, 1e-6F, "running mean");
        assert_near(w->tensors.running_var, whole.running_var, COLUMNS, 1e-6F, "running variance");
        assert_near(w->tensors.y, whole.y + w->first * Y_STRIDE, w->rows * Y_STRIDE, 1e-5F, "y");
        assert_near(w->tensors.dx, whole.dx + w->first * X_STRIDE, w->rows * X_STRIDE, 1e-5F, "dx");
        for (int64_t c = 0; c < COLUMNS; ++c)
            dweight[c] += w->tensors.dweight[c];
        /* Every rank has the very same statistics. */
        ASSERT_SAME(w->tensors, worker[0].tensors, running_var, COLUMNS);
    }
    for (int r = 0; r < RANKS; ++r)
        free_tensors(&worker[r].tensors);
    assert_near(dweight, whole.dweight, COLUMNS, 1e-4F, "dweight");
    Tensors unused = fresh;
    free_tensors(&unused);
    free_tensors(&whole);
    pthread_barrier_destroy(&world.barrier);
}

/* ---- fusion and errors ---- */

static Graph *graph_with_x(GraphMode mode, Shape shape, Value *x)
{
    Graph *graph;
    assert_ok(graph_create(mode, FLOAT32, &graph));
    *x = graph_input(graph, "x", shape);
    return graph;
}

static void test_no_fusion_when_others_read_what_lies_between(void **state)
{
    (void)state;
    for (int which = 0; which < 3; ++which) {
        Value x;
        Graph *graph = graph_with_x(GRAPH_TRAIN, shape_of(FLOAT32, 2, (int64_t[]){4, 3}), &x);
        const Value normalised = batch_norm(graph, "bn", x, (BatchNorm){0});
        const Value sum = which == 2 ? normalised : add(graph, normalised, x);
        const Value y = relu(graph, sum);
        graph_keep(graph, which == 0 ? normalised : sum);
        graph_keep(graph, y);
        assert_int_equal(graph_fuse(graph), 0);
        assert_ok(graph_finish(graph));
        graph_free(graph);
    }
    /* The sum of a value with itself has no residual. */
    Value x;
    Graph *graph = graph_with_x(GRAPH_TRAIN, shape_of(FLOAT32, 2, (int64_t[]){4, 3}), &x);
    const Value normalised = batch_norm(graph, "bn", x, (BatchNorm){0});
    graph_keep(graph, relu(graph, add(graph, normalised, normalised)));
    assert_int_equal(graph_fuse(graph), 0);
    graph_free(graph);
}

static void test_errors(void **state)
{
    (void)state;
    Value x;
    Graph *graph = graph_with_x(GRAPH_TRAIN, shape_of(FLOAT32, 4, (int64_t[]){1, 1, 1, 8}), &x);
    batch_norm(graph, "bn", x, (BatchNorm){0});
    assert_fails(graph_finish(graph), STATUS_INPUT, "more than one value a channel");
    graph_free(graph);

    graph = graph_with_x(GRAPH_TRAIN, shape_of(FLOAT32, 1, (int64_t[]){8}), &x);
    batch_norm(graph, "bn", x, (BatchNorm){0});
    assert_fails(graph_finish(graph), STATUS_INPUT, "two dimensions or more");
    graph_free(graph);

    graph = graph_with_x(GRAPH_TRAIN, shape_of(INT64, 2, (int64_t[]){8, 8}), &x);
    batch_norm(graph, "bn", x, (BatchNorm){0});
    assert_fails(graph_finish(graph), STATUS_INPUT, "not int64[8, 8]");
    graph_free(graph);

    graph = graph_with_x(GRAPH_TRAIN, shape_of(FLOAT32, 2, (int64_t[]){8, 8}), &x);
    batch_norm(graph, "bn", x, (BatchNorm){.momentum = 1.5});
    assert_fails(graph_finish(graph), STATUS_INPUT, "momentum 1.5");
    graph_free(graph);

    graph = graph_with_x(GRAPH_TRAIN, shape_of(UINT8, 2, (int64_t[]){8, 8}), &x);
    layer_norm(graph, "norm", x, 0);
    assert_fails(graph_finish(graph), STATUS_INPUT, "layer_norm");
    graph_free(graph);
}

static void test_cost(void **state)
{
    (void)state;
    Value x;
    Graph *graph = graph_with_x(GRAPH_TRAIN, shape_of(FLOAT32, 2, (int64_t[]){100, 8}), &x);
    const Value y = batch_norm(graph, "bn", x, (BatchNorm){0});
    const Node *node = graph_node_at(graph, graph_producer(graph, y));
    Shape in[BATCH_NORM_INPUTS], out[BATCH_NORM_OUTPUTS];
    for (int i = 0; i < BATCH_NORM_INPUTS; ++i) {
        in[i].rank = -1;
        if (value_exists(node->input[i])) in[i] = graph_shape(graph, node->input[i]);
    }
    for (int i = 0; i < BATCH_NORM_OUTPUTS; ++i)
        out[i] = graph_shape(graph, node->output[i]);
    const Cost cost = node->op->cost(node, in, out);
    assert_true(cost.bytes == 3 * 3200 && cost.flops == 7 * 800);
    graph_free(graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_number_of_threads_gives_the_same_bits),
        cmocka_unit_test(test_addend),
        cmocka_unit_test(test_padding),
        cmocka_unit_test(test_nothing_but_padding),
        cmocka_unit_test(test_writes_only_what_it_must),
        cmocka_unit_test(test_in_place),
        cmocka_unit_test(test_large_results),
        cmocka_unit_test(test_nan_is_seen),
        cmocka_unit_test(test_synchronised_statistics_are_those_of_the_global_batch),
        cmocka_unit_test(test_no_fusion_when_others_read_what_lies_between),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_cost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
