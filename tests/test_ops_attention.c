/* Attention, a step of decoding, and the vectors of positions, against float64 programs. */
#include "tests/support.h"

#include "tests/kernel_call.h"
#include "tests/op_test.h"

#include "engine/ops/attention.h"
#include "engine/ops/ops.h"
#include "engine/ops/table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(cases) ((int)(sizeof(cases) / sizeof *(cases)))

/* ---- attention ---- */

/* The lists are inputs if they are not NULL. */
typedef struct {
    Attention form;
    const int *first, *end, *row;
    bool nan_outside; /* keys and values that nobody sees hold NaN */
} Row;

static int find(const OpCase *op_case, const char *name)
{
    for (int i = 0; i < OP_TEST_INPUTS && op_case->in[i].name != NULL; ++i)
        if (strcmp(op_case->in[i].name, name) == 0) return i;
    return -1;
}

static double fill_first(const OpCase *op_case, const char *name, int64_t index, RandomStream *random)
{
    (void)name;
    (void)random;
    return ((const Row *)op_case->parameters)->first[index];
}
static double fill_end(const OpCase *op_case, const char *name, int64_t index, RandomStream *random)
{
    (void)name;
    (void)random;
    return ((const Row *)op_case->parameters)->end[index];
}
static double fill_row(const OpCase *op_case, const char *name, int64_t index, RandomStream *random)
{
    (void)name;
    (void)random;
    return ((const Row *)op_case->parameters)->row[index];
}

static double fill_keys(const OpCase *op_case, const char *name, int64_t index, RandomStream *random)
{
    const Row *row = op_case->parameters;
    const OpInput *in = &op_case->in[find(op_case, name)];
    const int64_t position = index / in->extent[2] % in->extent[1],
                  sequence = index / in->extent[2] / in->extent[1];
    const double value = random_normal(random);
    if (!row->nan_outside) return value;
    const bool seen =
        position < row->end[sequence] && (row->first == NULL || position >= row->first[sequence]);
    return seen ? value : (double)NAN;
}

static Value build(Graph *graph, const OpCase *op_case, const Value in[])
{
    const Row *row = op_case->parameters;
    const int keys = find(op_case, "key_value"), first = find(op_case, "first"), end = find(op_case, "end"),
              sequence = find(op_case, "row");
    graph_enter(graph, "layer");
    const Value y = attention(graph, in[0],
                              (AttentionKeys){.key_value = keys >= 0 ? in[keys] : NO_VALUE,
                                              .first = first >= 0 ? in[first] : NO_VALUE,
                                              .end = end >= 0 ? in[end] : NO_VALUE,
                                              .row = sequence >= 0 ? in[sequence] : NO_VALUE},
                              row->form);
    graph_leave(graph);
    return y;
}

typedef struct {
    const OpCase *op_case;
    OpReference *r;
    AttentionSizes size;
    int keys; /* input that holds keys and values */
} Program;

static Program program_of(const OpCase *op_case, OpReference *r)
{
    const Row *row = op_case->parameters;
    const int keys = find(op_case, "key_value");
    const Shape none = {.rank = -1};
    const int64_t parts = keys >= 0 ? 1 : 3;
    const AttentionAttributes a = {.heads = row->form.heads,
                                   .head_width = r->in[0].shape.extent[2] / parts / row->form.heads};
    return (Program){.op_case = op_case,
                     .r = r,
                     .size = attention_sizes(&a, r->in[0].shape, keys >= 0 ? r->in[keys].shape : none),
                     .keys = keys >= 0 ? keys : 0};
}

/* The sequence whose keys a sample sees, and whether it sees key k from query q. */
static int64_t sequence_of(const Program *p, int64_t n)
{
    const Row *row = p->op_case->parameters;
    return row->row != NULL ? row->row[n] : n;
}
static bool sees(const Program *p, int64_t n, int64_t q, int64_t k)
{
    const Row *row = p->op_case->parameters;
    const int64_t m = sequence_of(p, n);
    if (m < 0 || (row->form.causal && k > q)) return false;
    return (row->first == NULL || k >= row->first[m]) && (row->end == NULL || k < row->end[m]);
}

static double mask_of(const Program *p, int64_t n, int64_t h, int64_t q, int64_t k)
{
    const Row *row = p->op_case->parameters;
    const int64_t *clock = p->op_case->clock;
    if (row->form.dropout == 0) return 1;
    const int64_t positions = attention_positions(p->size.queries, p->size.keys);
    const uint64_t block = attention_block((uint64_t)(clock[CLOCK_FIRST_SAMPLE] + n), h, q, positions) +
                           (uint64_t)(k / DROPOUT_WORDS);
    const RandomBlock random =
        random_block(dropout_seed((uint64_t)clock[CLOCK_SEED], random_name_key("layer")), RANDOM_DROPOUT,
                     (uint64_t)clock[CLOCK_STEP], block);
    const bool kept = random.word[k % DROPOUT_WORDS] >> 8 >= (uint32_t)lround(row->form.dropout * 0x1p24);
    return kept ? 1 / (1 - row->form.dropout) : 0;
}

static double *query_at(const Program *p, double *data, int64_t n, int64_t h, int64_t q)
{
    return data + (n * p->size.queries + q) * p->size.query_stride + h * p->size.width;
}
static double *key_at(const Program *p, double *data, int64_t m, int64_t h, int64_t k, int64_t column)
{
    return data + (m * p->size.keys + k) * p->size.key_stride + column + h * p->size.width;
}

static double dot_of(const double *a, const double *b, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; ++i)
        sum += a[i] * b[i];
    return sum;
}

/* The weights of a query, before dropout. */
static void weigh(const Program *p, int64_t n, int64_t h, int64_t q, double *weight)
{
    const AttentionSizes *s = &p->size;
    double most = -INFINITY, sum = 0;
    for (int64_t k = 0; k < s->keys; ++k) {
        if (!sees(p, n, q, k)) continue;
        weight[k] =
            dot_of(query_at(p, p->r->in[0].data, n, h, q),
                   key_at(p, p->r->in[p->keys].data, sequence_of(p, n), h, k, s->key_column), s->width) /
            sqrt((double)s->width);
        most = fmax(most, weight[k]);
    }
    for (int64_t k = 0; k < s->keys; ++k) {
        weight[k] = sees(p, n, q, k) ? exp(weight[k] - most) : 0;
        sum += weight[k];
    }
    for (int64_t k = 0; k < s->keys && sum > 0; ++k)
        weight[k] /= sum;
}

static void reference(const OpCase *op_case, OpReference *r)
{
    const Program p = program_of(op_case, r);
    const AttentionSizes *s = &p.size;
    double *weight = calloc((size_t)s->keys, sizeof *weight);
    assert_non_null(weight);
    for (int64_t i = 0; i < s->samples * s->heads * s->queries; ++i) {
        const int64_t q = i % s->queries, h = i / s->queries % s->heads, n = i / s->queries / s->heads;
        double *y = r->out + ((n * s->queries + q) * s->heads + h) * s->width;
        weigh(&p, n, h, q, weight);
        for (int64_t c = 0; c < s->width; ++c) {
            y[c] = 0;
            for (int64_t k = 0; k < s->keys; ++k)
                if (sees(&p, n, q, k))
                    y[c] += weight[k] * mask_of(&p, n, h, q, k) *
                            key_at(&p, r->in[p.keys].data, sequence_of(&p, n), h, k, s->value_column)[c];
        }
    }
    free(weight);
}

static void gradient(const OpCase *op_case, OpReference *r)
{
    const Program p = program_of(op_case, r);
    const AttentionSizes *s = &p.size;
    double *weight = calloc((size_t)s->keys, sizeof *weight),
           *d_weight = calloc((size_t)s->keys, sizeof *d_weight);
    assert_true(weight != NULL && d_weight != NULL);
    for (int64_t i = 0; i < s->samples * s->heads * s->queries; ++i) {
        const int64_t q = i % s->queries, h = i / s->queries % s->heads, n = i / s->queries / s->heads;
        const double *dy = r->upstream + ((n * s->queries + q) * s->heads + h) * s->width;
        double sum = 0;
        weigh(&p, n, h, q, weight);
        for (int64_t k = 0; k < s->keys; ++k) {
            if (!sees(&p, n, q, k)) continue;
            const double mask = mask_of(&p, n, h, q, k);
            d_weight[k] =
                mask * dot_of(dy, key_at(&p, r->in[p.keys].data, n, h, k, s->value_column), s->width);
            sum += weight[k] * d_weight[k];
            for (int64_t c = 0; c < s->width; ++c)
                key_at(&p, r->in[p.keys].gradient, n, h, k, s->value_column)[c] += weight[k] * mask * dy[c];
        }
        for (int64_t k = 0; k < s->keys; ++k) {
            if (!sees(&p, n, q, k)) continue;
            const double d = weight[k] * (d_weight[k] - sum) / sqrt((double)s->width);
            for (int64_t c = 0; c < s->width; ++c) {
                query_at(&p, r->in[0].gradient, n, h, q)[c] +=
                    d * key_at(&p, r->in[p.keys].data, n, h, k, s->key_column)[c];
                key_at(&p, r->in[p.keys].gradient, n, h, k, s->key_column)[c] +=
                    d * query_at(&p, r->in[0].data, n, h, q)[c];
            }
        }
    }
    free(weight);
    free(d_weight);
}

#define LIST(what, count)                                                                                    \
    {                                                                                                        \
        .name = #what, .rank = 1, .extent = {count}, .typed = true, .type = INT32, .fill = fill_##what       \
    }
#define QUERY(...)                                                                                           \
    {                                                                                                        \
        .name = "query", .rank = 3, .extent = { __VA_ARGS__ }                                                \
    }
#define KEYS_OF(...)                                                                                         \
    {                                                                                                        \
        .name = "key_value", .rank = 3, .extent = {__VA_ARGS__}, .fill = fill_keys                           \
    }
#define INPUTS(...)                                                                                          \
    {                                                                                                        \
        __VA_ARGS__                                                                                          \
    }
#define CASE(text, inputs, ...)                                                                              \
    {                                                                                                        \
        .name = "attention " text, .build = build, .reference = reference, .gradient = gradient,             \
        .in = inputs, .clock = {7, 1, 11, 5, 0}, .parameters = &(const Row)                                  \
        {                                                                                                    \
            __VA_ARGS__                                                                                      \
        }                                                                                                    \
    }
#define INTS(...) ((const int[]){__VA_ARGS__})

static const OpCase cases[] = {
    CASE("of one position", INPUTS(QUERY(1, 1, 3)), .form = {.heads = 1}),
    CASE("plain", INPUTS(QUERY(2, 5, 36)), .form = {.heads = 3}),
    CASE("causal", INPUTS(QUERY(2, 7, 36)), .form = {.heads = 3, .causal = true}),
    CASE("of several lengths, one of them none", INPUTS(QUERY(4, 6, 24), LIST(end, 4)), .form = {.heads = 2},
         .end = INTS(6, 3, 0, 1)),
    CASE("causal, of several lengths", INPUTS(QUERY(3, 6, 24), LIST(end, 3)),
         .form = {.heads = 2, .causal = true}, .end = INTS(6, 3, 1)),
    CASE("causal, padding in front", INPUTS(QUERY(3, 6, 24), LIST(first, 3), LIST(end, 3)),
         .form = {.heads = 2, .causal = true}, .first = INTS(2, 0, 5), .end = INTS(6, 5, 6)),
    CASE("a range outside the keys", INPUTS(QUERY(3, 4, 12), LIST(first, 3), LIST(end, 3)),
         .form = {.heads = 1}, .first = INTS(-3, 5, 2), .end = INTS(9, 9, 1)),
    CASE("heads of 64, base's lengths", INPUTS(QUERY(3, 21, 384), LIST(end, 3)), .form = {.heads = 2},
         .end = INTS(21, 17, 4)),
    CASE("whole blocks", INPUTS(QUERY(1, 64, 192)), .form = {.heads = 1, .causal = true}),
    CASE("several blocks of keys and queries, odd heads",
         INPUTS(QUERY(1, 150, 3 * 21), LIST(first, 1), LIST(end, 1)), .form = {.heads = 3, .causal = true},
         .first = INTS(3), .end = INTS(141)),
    CASE("several blocks, not causal", INPUTS(QUERY(1, 131, 3 * 16)), .form = {.heads = 2}),
    CASE("a wide head", INPUTS(QUERY(2, 11, 3 * 100), LIST(end, 2)), .form = {.heads = 1},
         .end = INTS(11, 5)),
    CASE("to other sequences", INPUTS(QUERY(2, 4, 8), KEYS_OF(2, 7, 16)), .form = {.heads = 2}),
    CASE("to one key and to two", INPUTS(QUERY(2, 4, 8), KEYS_OF(2, 2, 16), LIST(end, 2)),
         .form = {.heads = 2}, .end = INTS(1, 2)),
    CASE("to other sequences of several lengths", INPUTS(QUERY(3, 5, 16), KEYS_OF(3, 9, 32), LIST(end, 3)),
         .form = {.heads = 2}, .end = INTS(9, 0, 4)),
    CASE("to many keys", INPUTS(QUERY(2, 3, 20), KEYS_OF(2, 200, 40), LIST(end, 2)), .form = {.heads = 1},
         .end = INTS(200, 129)),
    CASE("of many queries", INPUTS(QUERY(1, 100, 20), KEYS_OF(1, 3, 40)), .form = {.heads = 2}),
    CASE("with dropout, causal", INPUTS(QUERY(2, 37, 48), LIST(first, 2), LIST(end, 2)),
         .form = {.heads = 2, .causal = true, .dropout = 0.4}, .first = INTS(0, 3), .end = INTS(37, 30)),
    CASE("with dropout, to other sequences", INPUTS(QUERY(2, 5, 16), KEYS_OF(2, 90, 32), LIST(end, 2)),
         .form = {.heads = 2, .dropout = 0.25}, .end = INTS(90, 71)),
    /* Long sequences: many tiles of keys for a query, and of queries for a key. */
    CASE("long, causal, with dropout", INPUTS(QUERY(1, 330, 3 * 16), LIST(first, 1), LIST(end, 1)),
         .form = {.heads = 1, .causal = true, .dropout = 0.1}, .first = INTS(37), .end = INTS(325)),
    CASE("to a thousand keys", INPUTS(QUERY(1, 40, 36), KEYS_OF(1, 1000, 72), LIST(end, 1)),
         .form = {.heads = 1}, .end = INTS(990)),
    CASE("of a thousand queries", INPUTS(QUERY(1, 1000, 16), KEYS_OF(1, 70, 32), LIST(first, 1)),
         .form = {.heads = 1}, .first = INTS(33)),
};

static void test_attention(void **state)
{
    (void)state;
    op_test_cases(cases, COUNT(cases), test_device());
}

/* Differences cannot be made of NaN. */
static void test_padding_goes_nowhere(void **state)
{
    (void)state;
    const Row padded = {
        .form = {.heads = 2}, .first = INTS(2, 0, 0), .end = INTS(9, 0, 4), .nan_outside = true};
    const OpCase padding = {.name = "attention to keys among NaN",
                            .build = build,
                            .reference = reference,
                            .gradient = gradient,
                            .in = INPUTS(QUERY(3, 5, 16), KEYS_OF(3, 10, 32), LIST(first, 3), LIST(end, 3)),
                            .not_smooth = true,
                            .parameters = &padded};
    op_test_cases(&padding, 1, test_device());
}

static void test_chosen_sequences(void **state)
{
    (void)state;
    const Row rows = {.form = {.heads = 2}, .end = INTS(9, 0, 4), .row = INTS(2, -1, 0, 1, 2)};
    const OpCase chosen = {.name = "attention to chosen sequences",
                           .build = build,
                           .reference = reference,
                           .in = INPUTS(QUERY(5, 4, 16), KEYS_OF(3, 10, 32), LIST(end, 3), LIST(row, 5)),
                           .no_gradient = true,
                           .parameters = &rows};
    op_test_cases(&chosen, 1, test_device());
}

/* ---- a step of decoding ---- */

enum { ROWS = 5, SLOTS = 7, PLACES = 6 };
static const int step_position[ROWS] = {3, 0, -1, 5, 2};
static const int step_table[ROWS][PLACES] = {
    {1, 1, 4, 0, -9, -9}, {3, -9, -9, -9, -9, -9}, {-9, -9, -9, -9, -9, -9},
    {1, 1, 4, 4, 5, 6},   {2, 4, 2, -9, -9, -9},
};

static double fill_step_table(const OpCase *op_case, const char *name, int64_t index, RandomStream *random)
{
    (void)op_case;
    (void)name;
    (void)random;
    return step_table[index / PLACES][index % PLACES];
}
static double fill_step_position(const OpCase *op_case, const char *name, int64_t index, RandomStream *random)
{
    (void)op_case;
    (void)name;
    (void)random;
    return step_position[index];
}

static Value build_step(Graph *graph, const OpCase *op_case, const Value in[])
{
    const int64_t heads = *(const int64_t *)op_case->parameters, width = op_case->in[0].extent[1] / 3;
    const Shape shape = shape_of(graph_compute_type(graph), 3, (int64_t[]){SLOTS, PLACES, 2 * width});
    const Value cache = graph_transient_state(graph, "cache", shape, (Init){.kind = INIT_ZEROS});
    return attention_step(graph, in[0], cache, in[1], in[2], heads);
}

static void reference_step(const OpCase *op_case, OpReference *r)
{
    const int64_t heads = *(const int64_t *)op_case->parameters, width = r->shape.extent[1], all = 2 * width;
    double *cache = r->in[3].after;
    memset(r->out, 0, sizeof(double) * (size_t)shape_count(r->shape));
    for (int64_t i = 0; i < ROWS; ++i)
        if (step_position[i] >= 0)
            memcpy(cache + (step_table[i][step_position[i]] * PLACES + step_position[i]) * all,
                   r->in[0].data + i * 3 * width + width, sizeof(double) * (size_t)all);
    for (int64_t i = 0; i < ROWS; ++i)
        for (int64_t h = 0; h < heads; ++h) {
            const int64_t columns = width / heads;
            const double *query = r->in[0].data + i * 3 * width + h * columns;
            double weight[PLACES], sum = 0;
            for (int p = 0; p <= step_position[i]; ++p) {
                const double *key = cache + (step_table[i][p] * PLACES + p) * all + h * columns;
                weight[p] = exp(dot_of(query, key, columns) / sqrt((double)columns));
                sum += weight[p];
            }
            for (int p = 0; p <= step_position[i]; ++p)
                for (int64_t c = 0; c < columns; ++c)
                    r->out[i * width + h * columns + c] +=
                        weight[p] / sum *
                        cache[(step_table[i][p] * PLACES + p) * all + width + h * columns + c];
        }
}

#define STEP(text, width, count)                                                                             \
    {                                                                                                        \
        .name = "attention_step " text, .build = build_step, .reference = reference_step,                    \
        .in = {{.name = "x", .rank = 2, .extent = {ROWS, 3 * (width)}},                                      \
               {.name = "table",                                                                             \
                .rank = 2,                                                                                   \
                .extent = {ROWS, PLACES},                                                                    \
                .typed = true,                                                                               \
                .type = INT32,                                                                               \
                .fill = fill_step_table},                                                                    \
               {.name = "position",                                                                          \
                .rank = 1,                                                                                   \
                .extent = {ROWS},                                                                            \
                .typed = true,                                                                               \
                .type = INT32,                                                                               \
                .fill = fill_step_position}},                                                                \
        .no_gradient = true, .parameters = &(const int64_t)                                                  \
        {                                                                                                    \
            count                                                                                            \
        }                                                                                                    \
    }

static const OpCase step_cases[] = {STEP("of one number", 1, 1), STEP("of odd heads", 33, 3),
                                    STEP("of heads of 64", 128, 2), STEP("of a wide head", 100, 1)};

static void test_step(void **state)
{
    (void)state;
    op_test_cases(step_cases, COUNT(step_cases), test_device());
}

/* ---- positions ---- */

static Value build_positions(Graph *graph, const OpCase *op_case, const Value in[])
{
    const Positions *form = op_case->parameters;
    return positions(graph, "p", in[0], op_case->in[1].name != NULL ? in[1] : NO_VALUE, *form);
}

static double element_of(const Positions *form, const OpReference *r, int64_t position, int64_t column)
{
    const int64_t width = shape_columns(r->shape), half = width / 2;
    if (position < 0) return 0;
    if (form->kind == POSITIONS_LEARNED) return r->in[r->in_count - 1].data[position * width + column];
    const bool alternates = form->kind == POSITIONS_INTERLEAVED;
    const int64_t i = alternates ? column / 2 : column % half;
    const bool sine = alternates ? column % 2 == 0 : column < half;
    const double steps =
        form->kind == POSITIONS_HALVES_TENSOR2TENSOR ? fmax((double)half - 1, 1) : (double)half;
    const double angle = (double)position * exp(-log(1e4) * (double)i / steps);
    return sine ? sin(angle) : cos(angle);
}

static int64_t position_at(const OpReference *r, int64_t row)
{
    return r->shape.rank == 3 ? row % r->shape.extent[1] : (int64_t)r->in[1].data[row];
}

static void reference_positions(const OpCase *op_case, OpReference *r)
{
    const int64_t width = shape_columns(r->shape);
    for (int64_t e = 0; e < shape_count(r->shape); ++e)
        r->out[e] =
            r->in[0].data[e] + element_of(op_case->parameters, r, position_at(r, e / width), e % width);
}

static void gradient_positions(const OpCase *op_case, OpReference *r)
{
    const Positions *form = op_case->parameters;
    const int64_t width = shape_columns(r->shape);
    for (int64_t e = 0; e < shape_count(r->shape); ++e) {
        r->in[0].gradient[e] += r->upstream[e];
        if (form->kind == POSITIONS_LEARNED)
            r->in[1].gradient[position_at(r, e / width) * width + e % width] += r->upstream[e];
    }
}

static double fill_position(const OpCase *op_case, const char *name, int64_t index, RandomStream *random)
{
    static const int position[] = {4, 0, -1, 999, 4, 17};
    (void)op_case;
    (void)name;
    (void)random;
    return position[index];
}

#define POSITIONS(text, shape, ...)                                                                          \
    {                                                                                                        \
        .name = "positions " text, .build = build_positions, .reference = reference_positions,               \
        .gradient = gradient_positions, .in = {{.name = "x", .rank = 3, .extent = shape}},                   \
        .parameters = &(const Positions)                                                                     \
        {                                                                                                    \
            __VA_ARGS__                                                                                      \
        }                                                                                                    \
    }
#define GIVEN(text, width, ...)                                                                              \
    {                                                                                                        \
        .name = "positions " text, .build = build_positions, .reference = reference_positions,               \
        .in = {{.name = "x", .rank = 2, .extent = {6, width}},                                               \
               {.name = "position",                                                                          \
                .rank = 1,                                                                                   \
                .extent = {6},                                                                               \
                .typed = true,                                                                               \
                .type = INT32,                                                                               \
                .fill = fill_position}},                                                                     \
        .no_gradient = true, .parameters = &(const Positions)                                                \
        {                                                                                                    \
            __VA_ARGS__                                                                                      \
        }                                                                                                    \
    }
#define SHAPE(...)                                                                                           \
    {                                                                                                        \
        __VA_ARGS__                                                                                          \
    }

static const OpCase position_cases[] = {
    POSITIONS("interleaved", SHAPE(2, 9, 12), .kind = POSITIONS_INTERLEAVED),
    POSITIONS("halves", SHAPE(3, 40, 34), .kind = POSITIONS_HALVES_PAPER_FREQUENCIES),
    POSITIONS("halves of tensor2tensor", SHAPE(2, 9, 12), .kind = POSITIONS_HALVES_TENSOR2TENSOR, .most = 20),
    POSITIONS("halves of tensor2tensor, of two numbers", SHAPE(2, 3, 2),
              .kind = POSITIONS_HALVES_TENSOR2TENSOR),
    POSITIONS("learned", SHAPE(3, 5, 7), .kind = POSITIONS_LEARNED, .most = 8),
    POSITIONS("learned, all used", SHAPE(2, 6, 16), .kind = POSITIONS_LEARNED, .most = 6),
    GIVEN("of rows", 10, .kind = POSITIONS_INTERLEAVED, .most = 1000),
    GIVEN("learned, of rows", 5, .kind = POSITIONS_LEARNED, .most = 1000),
};

static void test_positions(void **state)
{
    (void)state;
    op_test_cases(position_cases, COUNT(position_cases), test_device());
}

/* ---- errors ---- */

static Value wrong_heads(Graph *graph, Value x)
{
    return attention(graph, x, ATTENTION_SELF, (Attention){.heads = 5});
}
static Value no_heads(Graph *graph, Value x) { return attention(graph, x, ATTENTION_SELF, (Attention){0}); }
static Value wrong_dropout(Graph *graph, Value x)
{
    return attention(graph, x, ATTENTION_SELF, (Attention){.heads = 2, .dropout = 1});
}
static Value wrong_keys(Graph *graph, Value x)
{
    AttentionKeys keys = ATTENTION_SELF;
    keys.key_value = x;
    return attention(graph, x, keys, (Attention){.heads = 2});
}
static Value wrong_lengths(Graph *graph, Value x)
{
    AttentionKeys keys = ATTENTION_SELF;
    keys.end = graph_input(graph, "end", shape_of(INT32, 1, (int64_t[]){3}));
    return attention(graph, x, keys, (Attention){.heads = 2});
}
static Value too_long(Graph *graph, Value x)
{
    return positions(graph, "p", x, NO_VALUE, (Positions){.kind = POSITIONS_LEARNED, .most = 4});
}
static Value odd_width(Graph *graph, Value x)
{
    return positions(graph, "p", slice(graph, x, 0, 11), NO_VALUE,
                     (Positions){.kind = POSITIONS_INTERLEAVED});
}

static void test_errors(void **state)
{
    (void)state;
    const struct {
        Value (*build)(Graph *, Value);
        const char *text;
    } errors[] = {
        {wrong_heads, "attention of 5 heads cannot take float32[2, 5, 12]"},
        {no_heads, "attention of 0 heads"},
        {wrong_dropout, "dropout of probability 1"},
        {wrong_keys, "keys and values must be float32 [sequences, keys, 24], not float32[2, 5, 12]"},
        {wrong_lengths, "the list of lengths is int32[3], but must be int32[2]"},
        {too_long, "p: positions: sequences of 5 are longer than the 4 positions"},
        {odd_width, "need an even width, not 11"},
    };
    for (int i = 0; i < COUNT(errors); ++i) {
        Graph *graph;
        assert_ok(graph_create(GRAPH_TRAIN, FLOAT32, &graph));
        (void)errors[i].build(graph, graph_input(graph, "x", shape_of(FLOAT32, 3, (int64_t[]){2, 5, 12})));
        Status status = graph_finish(graph);
        assert_non_null(strstr(status_message(status), errors[i].text));
        status_free(status);
        graph_free(graph);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attention),        cmocka_unit_test(test_padding_goes_nowhere),
        cmocka_unit_test(test_chosen_sequences), cmocka_unit_test(test_step),
        cmocka_unit_test(test_positions),        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
