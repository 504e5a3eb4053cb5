/* Dropout and augmentation, and the random numbers they take. */
#include "tests/support.h"

#include "tests/kernel_call.h"
#include "tests/op_test.h"

#include "engine/ops/augment.h"
#include "engine/ops/dropout.h"
#include "engine/ops/ops.h"
#include "engine/ops/table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(cases) ((int)(sizeof(cases) / sizeof *(cases)))
#define IN(the_name, ...)                                                                                    \
    {                                                                                                        \
        .name = the_name, .rank = sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), .extent = {            \
            __VA_ARGS__                                                                                      \
        }                                                                                                    \
    }
#define X(...)                                                                                               \
    {                                                                                                        \
        IN("x", __VA_ARGS__)                                                                                 \
    }

/* ---- dropout ---- */

static Value build_dropout(Graph *graph, const OpCase *op_case, const Value in[])
{
    const double p = *(const double *)op_case->parameters;
    const Value y = op_case->in[1].name != NULL ? dropout_by_key(graph, "drop", in[0], in[1], p)
                                                : dropout(graph, "drop", in[0], p);
    assert_int_equal(graph_node_count(graph), op_case->mode == GRAPH_EVALUATE ? 0 : 1);
    return op_case->mode == GRAPH_EVALUATE ? relu(graph, y) : y;
}

/* The documented rule: element e of a row has word e % 4 of block e / 4 of the row; the rows of sample s begin at block
 * s * 2^32, and a row takes as many whole blocks as it needs. */
static double dropout_factor(const OpCase *op_case, const OpReference *r, int64_t e)
{
    const double p = *(const double *)op_case->parameters;
    if (op_case->mode == GRAPH_EVALUATE) return r->in[0].data[e] > 0;
    const bool keyed = op_case->in[1].name != NULL;
    const int64_t columns = shape_count(r->shape) / (keyed ? shape_rows(r->shape) : r->shape.extent[0]);
    const uint64_t row = (uint64_t)(e / columns), column = (uint64_t)(e % columns);
    const uint64_t key =
        keyed ? (uint64_t)r->in[1].data[row] : ((uint64_t)op_case->clock[CLOCK_FIRST_SAMPLE] + row) << 32;
    const uint64_t in_sample = (key & 0xFFFFFFFFU) * (((uint64_t)columns + 3) / 4) + column / 4;
    const RandomBlock block =
        random_block((uint64_t)op_case->clock[CLOCK_SEED] + random_name_key("drop"), RANDOM_DROPOUT,
                     (uint64_t)op_case->clock[CLOCK_STEP], (key >> 32 << 32) + in_sample);
    return (double)random_unit_float(block.word[column % 4]) < p ? 0 : 1 / (1 - p);
}

static void reference_dropout(const OpCase *op_case, OpReference *r)
{
    for (int64_t e = 0; e < shape_count(r->shape); ++e)
        r->out[e] = r->in[0].data[e] * dropout_factor(op_case, r, e);
}

static void gradient_dropout(const OpCase *op_case, OpReference *r)
{
    for (int64_t e = 0; e < shape_count(r->shape); ++e)
        r->in[0].gradient[e] += r->upstream[e] * dropout_factor(op_case, r, e);
}

#define DROPOUT(text, p, first_sample, the_mode, ...)                                                        \
    {                                                                                                        \
        .name = "dropout " text, .build = build_dropout, .in = X(__VA_ARGS__),                               \
        .reference = reference_dropout, .gradient = gradient_dropout, .parameters = &(const double){p},      \
        .mode = the_mode, .clock = {                                                                         \
            12345,                                                                                           \
            6,                                                                                               \
            78,                                                                                              \
            first_sample                                                                                     \
        }                                                                                                    \
    }

/* Rows of samples 3, 4, 5 ... in an order of their own. */
static double fill_key(const OpCase *op_case, const char *name, int64_t index, RandomStream *random)
{
    (void)op_case, (void)name, (void)random;
    return (double)dropout_key(3 + index % 3, index / 3);
}

#define KEYED(text, p, rows, columns)                                                                        \
    {                                                                                                        \
        .name = "dropout " text, .build = build_dropout,                                                     \
        .in =                                                                                                \
            {IN("x", rows, columns),                                                                         \
             {.name = "key", .rank = 1, .extent = {rows}, .typed = true, .type = INT64, .fill = fill_key}},  \
        .reference = reference_dropout, .gradient = gradient_dropout, .parameters = &(const double){p},      \
        .mode = GRAPH_TRAIN, .clock = {                                                                      \
            12345,                                                                                           \
            6,                                                                                               \
            78,                                                                                              \
            5                                                                                                \
        }                                                                                                    \
    }

static const OpCase dropout_cases[] = {
    KEYED("of rows", 0.5, 7, 16),
    KEYED("of rows that end within a block", 0.25, 50, 33),
    DROPOUT("of one number", 0.5, 0, GRAPH_TRAIN, 1),
    DROPOUT("of a sentence", 0.1, 0, GRAPH_TRAIN, 2, 7, 33),
    DROPOUT("of another rank", 0.25, 5, GRAPH_TRAIN, 3, 7, 5),
    DROPOUT("on many threads", 0.75, 3, GRAPH_TRAIN, 9, 43, 17),
    DROPOUT("evaluated", 0.5, 0, GRAPH_EVALUATE, 3, 9),
};

static void test_dropout(void **state)
{
    (void)state;
    op_test_cases(dropout_cases, COUNT(dropout_cases), test_device());
}

static void drop(float *y, int64_t samples, const int64_t clock[CLOCK_COUNT], uint64_t key, int threads)
{
    enum { PER_SAMPLE = 77 };
    const DropoutAttributes attributes = {.probability = 0.3, .name_key = key};
    for (int64_t i = 0; i < samples * PER_SAMPLE; ++i)
        y[i] = 1;
    int64_t copy[CLOCK_COUNT];
    memcpy(copy, clock, sizeof copy);
    Call call = {
        .attributes = &attributes,
        .in = {tensor_floats(y, samples, PER_SAMPLE, PER_SAMPLE),
               {.data = copy, .shape = shape_of(INT64, 1, (int64_t[]){CLOCK_COUNT}), .stride = CLOCK_COUNT}},
        .out = {tensor_floats(y, samples, PER_SAMPLE, PER_SAMPLE)}};
    assert_ok(kernel_call(&dropout_op, &call, DROPOUT_INPUTS, threads, 0, NULL));
}

static void test_dropout_does_not_depend_on_ranks_or_threads(void **state)
{
    (void)state;
    enum { SAMPLES = 400, PER_SAMPLE = 77 };
    static float whole[SAMPLES * PER_SAMPLE], parts[SAMPLES * PER_SAMPLE], other[SAMPLES * PER_SAMPLE];
    drop(whole, SAMPLES, (int64_t[CLOCK_COUNT]){1, 0, 9, 0}, 4, 1);
    drop(parts, 123, (int64_t[CLOCK_COUNT]){1, 0, 9, 0}, 4, 3);
    drop(parts + 123 * PER_SAMPLE, SAMPLES - 123, (int64_t[CLOCK_COUNT]){1, 0, 9, 123}, 4, 2);
    assert_memory_equal(whole, parts, sizeof whole);
    int kept = 0;
    for (int i = 0; i < SAMPLES * PER_SAMPLE; ++i)
        kept += whole[i] != 0;
    const double count = SAMPLES * PER_SAMPLE;
    assert_true(fabs(kept / count - 0.7) < 5 * sqrt(0.3 * 0.7 / count));
    /* Another step, seed or node: another mask, as unlike as chance. */
    static const int64_t clock[3][CLOCK_COUNT] = {{1, 0, 10, 0}, {2, 0, 9, 0}, {1, 0, 9, 0}};
    for (int which = 0; which < 3; ++which) {
        drop(other, SAMPLES, clock[which], which == 2 ? 5 : 4, 2);
        int both = 0;
        for (int i = 0; i < SAMPLES * PER_SAMPLE; ++i)
            both += whole[i] != 0 && other[i] != 0;
        assert_true(fabs(both / count - 0.49) < 5 * sqrt(0.49 * 0.51 / count));
    }
}

static void test_dropout_errors(void **state)
{
    (void)state;
    static const double wrong[] = {-0.1, 1, NAN};
    for (int i = 0; i < COUNT(wrong); ++i) {
        Graph *graph;
        assert_ok(graph_create(GRAPH_TRAIN, FLOAT32, &graph));
        dropout(graph, "drop", graph_input(graph, "x", shape_of(FLOAT32, 1, (int64_t[]){4})), wrong[i]);
        assert_fails(graph_finish(graph), STATUS_INPUT, "[0, 1)");
        graph_free(graph);
    }
}

/* A layer's mask belongs to its name: what else is in the network does not move it. */
static void test_dropout_of_a_name(void **state)
{
    (void)state;
    uint64_t key[2];
    for (int i = 0; i < 2; ++i) {
        Graph *graph;
        assert_ok(graph_create(GRAPH_TRAIN, FLOAT32, &graph));
        Value x = graph_input(graph, "x", shape_of(FLOAT32, 1, (int64_t[]){4}));
        if (i == 1) x = dropout(graph, "first", relu(graph, x), 0.1);
        graph_enter(graph, "block");
        const int node = graph_producer(graph, dropout(graph, "drop", x, 0.5));
        graph_leave(graph);
        key[i] = ((const DropoutAttributes *)graph_node_at(graph, node)->attributes)->name_key;
        assert_true(key[i] == random_name_key("block.drop"));
        if (i == 1) {
            dropout(graph, "first", x, 0.5);
            assert_fails(graph_finish(graph), STATUS_INTERNAL, "first: two dropouts of this name");
        }
        graph_free(graph);
    }
}

static void test_random_blocks_are_those_made_one_by_one(void **state)
{
    (void)state;
    RandomBlock many[37];
    const uint64_t index = 0xFFFFFFF0U; /* the low word of the counter runs over */
    for (int count = 0; count <= 37; ++count) {
        random_blocks(99, RANDOM_TEST, 0x1234567890U, index, count, many);
        for (int i = 0; i < count; ++i) {
            const RandomBlock one = random_block(99, RANDOM_TEST, 0x1234567890U, index + (uint64_t)i);
            assert_memory_equal(&one, &many[i], sizeof one);
        }
    }
}

/* ---- augment ---- */

enum { TABLE = 7, SIDE_H = 6, SIDE_W = 5 };

typedef struct {
    Augment options;
    int64_t channels;
} AugmentRow;

static Value build_augment(Graph *graph, const OpCase *op_case, const Value in[])
{
    const AugmentRow *row = op_case->parameters;
    return augment(graph, in[0], in[1], in[2], row->options);
}

static void reference_augment(const OpCase *op_case, OpReference *r)
{
    const AugmentRow *row = op_case->parameters;
    const int64_t *extent = r->shape.extent;
    for (int64_t e = 0; e < shape_count(r->shape); ++e) {
        const int64_t c = e % extent[3], x = e / extent[3] % extent[2],
                      y = e / (extent[3] * extent[2]) % extent[1];
        const int64_t n = e / (extent[3] * extent[2] * extent[1]);
        const double *crop = r->in[2].data + 3 * n;
        const int64_t from_y = y + (int64_t)crop[0] - row->options.padding;
        const int64_t in_crop = row->options.flip && crop[2] != 0 ? extent[2] - 1 - x : x;
        const int64_t from_x = in_crop + (int64_t)crop[1] - row->options.padding;
        double byte = 0;
        if (from_y >= 0 && from_y < extent[1] && from_x >= 0 && from_x < extent[2])
            byte = r->in[0].data[(((int64_t)r->in[1].data[n] * extent[1] + from_y) * extent[2] + from_x) *
                                     extent[3] +
                                 c];
        r->out[e] = (byte / 255 - (double)row->options.mean[c]) / (double)row->options.deviation[c];
    }
}

static double fill_augment(const OpCase *op_case, const char *name, int64_t index, RandomStream *random)
{
    const AugmentRow *row = op_case->parameters;
    if (strcmp(name, "table") == 0) return (double)random_below(random, 256);
    if (strcmp(name, "index") == 0) return (double)random_below(random, TABLE);
    if (index % 3 == 2) return (double)random_below(random, 2);
    return (double)random_below(random, 2 * (uint64_t)row->options.padding + 1);
}

#define AUGMENT(text, samples, the_channels, ...)                                                            \
    {                                                                                                        \
        .name = "augment " text, .build = build_augment,                                                     \
        .in = {{.name = "table",                                                                             \
                .rank = 4,                                                                                   \
                .extent = {TABLE, SIDE_H, SIDE_W, the_channels},                                             \
                .typed = true,                                                                               \
                .type = UINT8,                                                                               \
                .fill = fill_augment},                                                                       \
               {.name = "index",                                                                             \
                .rank = 1,                                                                                   \
                .extent = {samples},                                                                         \
                .typed = true,                                                                               \
                .type = INT64,                                                                               \
                .fill = fill_augment},                                                                       \
               {.name = "crop",                                                                              \
                .rank = 2,                                                                                   \
                .extent = {samples, 3},                                                                      \
                .typed = true,                                                                               \
                .type = INT32,                                                                               \
                .fill = fill_augment}},                                                                      \
        .reference = reference_augment, .no_gradient = true, .parameters = &(const AugmentRow)               \
        {                                                                                                    \
            {__VA_ARGS__}, the_channels                                                                      \
        }                                                                                                    \
    }

static const OpCase augment_cases[] = {
    AUGMENT("one sample", 1, 3, .mean = {0.5F, 0.4F, 0.3F}, .deviation = {0.2F, 0.25F, 0.3F}),
    AUGMENT("crops", 33, 3, .padding = 2, .mean = {0.5F, 0.4F, 0.3F}, .deviation = {0.2F, 0.25F, 0.3F}),
    AUGMENT("crops and flips", 200, 3, .padding = 4, .flip = true, .mean = {0.49F, 0.48F, 0.45F},
            .deviation = {0.2F, 0.19F, 0.201F}),
    AUGMENT("crops wider than the image", 20, 1, .padding = 8, .flip = true, .mean = {0.29F},
            .deviation = {0.35F}),
    AUGMENT("four channels", 21, 4, .padding = 1, .flip = true, .mean = {0, 0.1F, 0.2F, 0.3F},
            .deviation = {1, 0.5F, 2, 0.25F}),
};

static void test_augment(void **state)
{
    (void)state;
    op_test_cases(augment_cases, COUNT(augment_cases), test_device());
}

static Status augment_two(int64_t index, int32_t top, int32_t left, int32_t flip)
{
    uint8_t table[3 * 4 * 4] = {0};
    float y[2 * 4 * 4] = {0};
    int64_t rows[2] = {0, index};
    int32_t crop[6] = {0, 0, 0, top, left, flip};
    const AugmentAttributes attributes = {.padding = 2, .flip = true, .deviation = {1}};
    Call call = {.attributes = &attributes,
                 .in = {{.data = table, .shape = shape_of(UINT8, 4, (int64_t[]){3, 4, 4, 1}), .stride = 1},
                        {.data = rows, .shape = shape_of(INT64, 1, (int64_t[]){2}), .stride = 2},
                        {.data = crop, .shape = shape_of(INT32, 2, (int64_t[]){2, 3}), .stride = 3}},
                 .out = {{.data = y, .shape = shape_of(FLOAT32, 4, (int64_t[]){2, 4, 4, 1}), .stride = 1}}};
    TRY(kernel_call(&augment_op, &call, AUGMENT_INPUTS, 2, 0, NULL));
    /* A GPU cannot tell which sample it was: its pixels are NaN, which the trainer stops at. */
    for (int i = 0; i < 4 * 4; ++i)
        if (isnan(y[4 * 4 + i])) return fail(STATUS_INTERNAL, "NaN");
    return OK;
}

static void expect_refusal(Status status, const char *text)
{
    assert_fails(status, STATUS_INTERNAL, test_device() == DEVICE_CPU ? text : "NaN");
}

static void test_augment_trusts_nothing(void **state)
{
    (void)state;
    assert_ok(augment_two(2, 4, 4, 1));
    expect_refusal(augment_two(3, 0, 0, 0), "sample 1 is row 3 of a table of 3");
    expect_refusal(augment_two(-1, 0, 0, 0), "row -1");
    expect_refusal(augment_two(INT64_MAX, 0, 0, 0), "sample 1 is row");
    expect_refusal(augment_two(0, 5, 0, 0), "(5, 0)");
    expect_refusal(augment_two(0, 0, -1, 0), "(0, -1)");
    expect_refusal(augment_two(0, 0, 0, 2), "flip 2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dropout),
        cmocka_unit_test(test_dropout_does_not_depend_on_ranks_or_threads),
        cmocka_unit_test(test_dropout_errors),
        cmocka_unit_test(test_dropout_of_a_name),
        cmocka_unit_test(test_random_blocks_are_those_made_one_by_one),
        cmocka_unit_test(test_augment),
        cmocka_unit_test(test_augment_trusts_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
