/* The ops of decoders against plain programs. */
#include "tests/kernel_call.h"
#include "tests/op_rows.h"
#include "tests/support.h"

#include "engine/base/random.h"
#include "engine/ops/decode.h"
#include "engine/ops/table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- best tokens ---- */

typedef struct {
    int64_t rows, columns, count;
    double temperature;
    bool ties;    /* logits are few numbers */
    int banned;   /* of each row, about */
    bool forced;  /* every third row */
    int infinite; /* every so manieth logit is minus infinity; 0: none */
} BestCase;

typedef struct {
    float *logits, temperature, *logit, *scale;
    int32_t *forced, *start, *banned, *token;
} BestArrays;

static Tensor integers(int32_t *data, int rank, const int64_t extent[])
{
    const Shape shape = shape_of(INT32, rank, extent);
    return (Tensor){.data = data, .shape = shape, .stride = shape_columns(shape)};
}

static void *room(int64_t count, size_t size)
{
    void *data = aligned_alloc(64, ((size_t)count * size + 127) / 64 * 64);
    assert_non_null(data);
    memset(data, 0x55, (size_t)count * size);
    return data;
}

static BestArrays make_arrays(const BestCase *one, uint64_t seed)
{
    RandomStream stream = random_stream(seed, RANDOM_TEST, 1);
    BestArrays arrays = {.logits = room(one->rows * one->columns, 4),
                         .temperature = (float)one->temperature,
                         .logit = room(one->rows * one->count, 4),
                         .scale = room(one->rows * 2, 4),
                         .forced = room(one->rows, 4),
                         .start = room(one->rows + 1, 4),
                         .banned = room(one->rows * one->columns + 1, 4),
                         .token = room(one->rows * one->count, 4)};
    for (int64_t i = 0; i < one->rows * one->columns; ++i) {
        arrays.logits[i] = (float)(3 * random_normal(&stream) - 1);
        if (one->ties) arrays.logits[i] = floorf(arrays.logits[i]);
        if (one->infinite > 0 && i % one->infinite == 0) arrays.logits[i] = -INFINITY;
    }
    int32_t count = 0;
    for (int64_t r = 0; r < one->rows; ++r) {
        arrays.start[r] = count;
        for (int64_t t = 0; t < one->columns; ++t)
            if (random_below(&stream, (uint64_t)one->columns) < (uint64_t)one->banned)
                arrays.banned[count++] = (int32_t)t;
        arrays.forced[r] =
            one->forced && r % 3 == 1 ? (int32_t)random_below(&stream, (uint64_t)one->columns) : -1;
    }
    arrays.start[one->rows] = count;
    return arrays;
}

static void free_arrays(BestArrays *arrays)
{
    free(arrays->logits);
    free(arrays->logit);
    free(arrays->scale);
    free(arrays->forced);
    free(arrays->start);
    free(arrays->banned);
    free(arrays->token);
}

static void run_best(const BestCase *one, BestArrays *arrays, int threads)
{
    const BestTokensAttributes attributes = {.count = one->count};
    const int64_t banned = arrays->start[one->rows] > 0 ? arrays->start[one->rows] : 1;
    Call call = {.attributes = &attributes};
    call.in[BEST_TOKENS_LOGITS] = tensor_floats(arrays->logits, one->rows, one->columns, one->columns);
    call.in[BEST_TOKENS_TEMPERATURE] = tensor_vector(&arrays->temperature, 1);
    call.in[BEST_TOKENS_FORCED] = integers(arrays->forced, 1, &one->rows);
    call.in[BEST_TOKENS_BANNED_START] = integers(arrays->start, 1, (int64_t[]){one->rows + 1});
    call.in[BEST_TOKENS_BANNED] = integers(arrays->banned, 1, &banned);
    call.out[BEST_TOKENS_TOKEN] = integers(arrays->token, 2, (int64_t[]){one->rows, one->count});
    call.out[BEST_TOKENS_LOGIT] = tensor_floats(arrays->logit, one->rows, one->count, one->count);
    call.out[BEST_TOKENS_SCALE] = tensor_floats(arrays->scale, one->rows, 2, 2);
    assert_ok(kernel_call(&best_tokens_op, &call, BEST_TOKENS_INPUTS, threads, 0, NULL));
}

static bool is_allowed(const BestArrays *arrays, int64_t row, int32_t token)
{
    if (arrays->forced[row] >= 0) return token == arrays->forced[row];
    for (int32_t i = arrays->start[row]; i < arrays->start[row + 1]; ++i)
        if (arrays->banned[i] == token) return false;
    return true;
}

/* The best by repeated search, and the sum in double precision. */
static void check_best(const BestCase *one, const BestArrays *arrays)
{
    bool *taken = calloc((size_t)one->columns, sizeof *taken);
    assert_non_null(taken);
    for (int64_t r = 0; r < one->rows; ++r) {
        const float *logits = arrays->logits + r * one->columns;
        float greatest = -INFINITY;
        double sum = 0;
        for (int64_t c = 0; c < one->columns; ++c)
            if (logits[c] > greatest) greatest = logits[c];
        for (int64_t c = 0; c < one->columns; ++c)
            sum += exp(((double)logits[c] - (double)greatest) / one->temperature);
        assert_true(arrays->scale[2 * r] == greatest);
        assert_true(fabs((double)arrays->scale[2 * r + 1] - sum) <= 1e-5 * sum);
        memset(taken, 0, (size_t)one->columns * sizeof *taken);
        for (int64_t i = 0; i < one->count; ++i) {
            int32_t best = -1;
            for (int32_t c = 0; c < one->columns; ++c)
                if (!taken[c] && is_allowed(arrays, r, c) && logits[c] > -INFINITY &&
                    (best < 0 || logits[c] > logits[best]))
                    best = c;
            assert_int_equal(arrays->token[r * one->count + i], best);
            assert_true(arrays->logit[r * one->count + i] == (best >= 0 ? logits[best] : -INFINITY));
            if (best >= 0) taken[best] = true;
        }
    }
    free(taken);
}

static void test_best_tokens(void **state)
{
    (void)state;
    static const BestCase cases[] = {
        {1, 1, 1, 1, false, 0, false, 0},        {3, 7, 2, 1, false, 1, false, 0},
        {5, 24, 8, 0.7, false, 3, true, 0},      {4, 300, 8, 1, false, 2, true, 0},
        {7, 1003, 16, 1.5, false, 5, true, 0},   {3, 5000, 128, 1, false, 40, true, 0},
        {2, 9001, 4, 3, true, 3, false, 0},      {6, 512, 20, 1, true, 100, true, 0},
        {3, 40, 64, 1, true, 10, false, 0},      {4, 130, 8, 0.2, false, 3, false, 2},
        {3, 20, 128, 1, false, 19, true, 0},     {2, 4097, 1, 1, true, 0, false, 3},
        {2, 64, 8, 1, false, 0, false, 1 << 30}, /* the first of all */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
        BestArrays arrays = make_arrays(&cases[i], i);
        run_best(&cases[i], &arrays, 2);
        check_best(&cases[i], &arrays);
        free_arrays(&arrays);
    }
    op_rows_record(&best_tokens_op, OP_ROW_REFERENCE);
}

/* The bits of a row do not depend on the rows beside it, nor on the number of threads. */
static void test_best_tokens_of_a_row_are_its_own(void **state)
{
    (void)state;
    const BestCase all = {9, 5003, 8, 1.3, false, 2, false, 0};
    BestArrays arrays = make_arrays(&all, 5);
    run_best(&all, &arrays, 3);
    for (int64_t r = 0; r < all.rows; ++r) {
        BestCase alone = all;
        alone.rows = 1;
        BestArrays one = make_arrays(&alone, 5);
        memcpy(one.logits, arrays.logits + r * all.columns, (size_t)all.columns * 4);
        one.start[1] = arrays.start[r + 1] - arrays.start[r];
        memcpy(one.banned, arrays.banned + arrays.start[r], (size_t)one.start[1] * 4);
        run_best(&alone, &one, 1);
        assert_memory_equal(one.token, arrays.token + r * all.count, (size_t)all.count * 4);
        assert_memory_equal(one.logit, arrays.logit + r * all.count, (size_t)all.count * 4);
        assert_memory_equal(one.scale, arrays.scale + r * 2, 8);
        free_arrays(&one);
    }
    free_arrays(&arrays);
}

/* The order of tokens does not depend on the temperature. */
static void test_temperature_changes_no_order(void **state)
{
    (void)state;
    BestCase cold = {3, 400, 8, 0.05, true, 0, false, 0}, hot = cold;
    hot.temperature = 20;
    BestArrays a = make_arrays(&cold, 8), b = make_arrays(&hot, 8);
    run_best(&cold, &a, 1);
    run_best(&hot, &b, 1);
    assert_memory_equal(a.token, b.token, (size_t)(cold.rows * cold.count) * 4);
    free_arrays(&a);
    free_arrays(&b);
}

static void test_best_tokens_show_nan(void **state)
{
    (void)state;
    const BestCase one = {4, 5000, 4, 1, false, 0, false, 0};
    BestArrays arrays = make_arrays(&one, 4);
    arrays.logits[17] = NAN;
    arrays.logits[one.columns + 4999] = INFINITY;
    for (int64_t i = 0; i < one.columns; ++i)
        arrays.logits[2 * one.columns + i] = -INFINITY;
    for (int64_t i = 0; i < 4500; ++i) /* a whole strip of nothing is no harm */
        arrays.logits[3 * one.columns + i] = -INFINITY;
    run_best(&one, &arrays, 1);
    for (int i = 0; i < 3; ++i)
        assert_true(isnan(arrays.scale[2 * i + 1]));
    assert_true(arrays.scale[7] > 0);
    free_arrays(&arrays);
}

/* ---- places of sequences ---- */

static void check_places(DType type, int64_t width, int64_t length, int64_t most)
{
    enum { SEQUENCES = 4, ROWS = 5 };
    static const int32_t places[SEQUENCES] = {3, -1, 0, 4};
    const size_t element = dtype_size(type), sequence = (size_t)(length * width) * element;
    const size_t apart = (size_t)(most * width) * element;
    unsigned char *x = room((int64_t)(SEQUENCES * sequence), 1), *state = room((int64_t)(ROWS * apart), 1);
    unsigned char *want = room((int64_t)(ROWS * apart), 1);
    int32_t row[SEQUENCES], done[SEQUENCES];
    memcpy(row, places, sizeof row);
    for (size_t i = 0; i < SEQUENCES * sequence; ++i)
        x[i] = (unsigned char)(i * 7 % 251);
    for (int n = 0; n < SEQUENCES; ++n)
        if (places[n] >= 0) memcpy(want + (size_t)places[n] * apart, x + (size_t)n * sequence, sequence);
    Call call = {.attributes = NULL};
    call.in[PLACE_SEQUENCES_X] = (Tensor){
        .data = x, .shape = shape_of(type, 3, (int64_t[]){SEQUENCES, length, width}), .stride = width};
    call.in[PLACE_SEQUENCES_STATE] =
        (Tensor){.data = state, .shape = shape_of(type, 3, (int64_t[]){ROWS, most, width}), .stride = width};
    call.in[PLACE_SEQUENCES_ROW] = integers(row, 1, (int64_t[]){SEQUENCES});
    call.out[0] = integers(done, 1, (int64_t[]){SEQUENCES});
    assert_ok(kernel_call(&place_sequences_op, &call, PLACE_SEQUENCES_INPUTS, 2, 0, NULL));
    assert_memory_equal(state, want, ROWS * apart);
    assert_memory_equal(done, places, sizeof places);
    free(x);
    free(state);
    free(want);
}

static void test_place_sequences(void **state)
{
    (void)state;
    check_places(FLOAT32, 12, 3, 7);
    check_places(FLOAT32, 5, 3, 3);
    check_places(BFLOAT16, 16, 6, 7);
    check_places(BFLOAT16, 3, 1, 4);
    op_rows_record(&place_sequences_op, OP_ROW_REFERENCE);
}

/* ---- builders ---- */

static Graph *new_graph(void)
{
    Graph *graph;
    assert_ok(graph_create(GRAPH_EVALUATE, FLOAT32, &graph));
    return graph;
}

static Value input(Graph *graph, const char *name, DType type, int rank, int64_t a, int64_t b, int64_t c)
{
    return graph_input(graph, name, shape_of(type, rank, (int64_t[]){a, b, c}));
}

static void test_shapes(void **state)
{
    (void)state;
    Graph *graph = new_graph();
    BestTokens best = {.count = 8,
                       .temperature = input(graph, "temperature", FLOAT32, 1, 1, 0, 0),
                       .forced = input(graph, "forced", INT32, 1, 4, 0, 0),
                       .banned_start = input(graph, "banned_start", INT32, 1, 5, 0, 0),
                       .banned = input(graph, "banned", INT32, 1, 9, 0, 0)};
    const Value logits = input(graph, "logits", FLOAT32, 2, 4, 30, 0);
    best = best_tokens(graph, logits, best);
    char text[SHAPE_TEXT];
    assert_string_equal(shape_text(graph_shape(graph, best.token), text), "int32[4, 8]");
    assert_string_equal(shape_text(graph_shape(graph, best.scale), text), "float32[4, 2]");
    assert_ok(graph_finish(graph));
    best.count = BEST_TOKENS_MOST + 1;
    (void)best_tokens(graph, logits, best);
    assert_fails(graph_finish(graph), STATUS_INPUT, "the best 129 tokens: 1 to 128");
    graph_free(graph);

    graph = new_graph();
    const Value x = input(graph, "x", FLOAT32, 3, 4, 6, 8), row = input(graph, "row", INT32, 1, 4, 0, 0);
    (void)place_sequences(graph, x, input(graph, "state", FLOAT32, 3, 3, 6, 8), row);
    assert_ok(graph_finish(graph));
    (void)place_sequences(graph, x, input(graph, "short", FLOAT32, 3, 3, 5, 8), row);
    assert_fails(graph_finish(graph), STATUS_INPUT, "has no room for sequences of float32[4, 6, 8]");
    graph_free(graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_best_tokens),
        cmocka_unit_test(test_best_tokens_of_a_row_are_its_own),
        cmocka_unit_test(test_temperature_changes_no_order),
        cmocka_unit_test(test_best_tokens_show_nan),
        cmocka_unit_test(test_place_sequences),
        cmocka_unit_test(test_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
