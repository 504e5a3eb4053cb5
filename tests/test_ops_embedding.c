/* Embedding: a float64 program, whole gradients and gradients of rows, tables that are frozen, indices that are no rows.
 */
#include "tests/op_test.h"
#include "tests/support.h"

#include "engine/ops/ops.h"
#include "engine/plan/plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static Value build(Graph *graph, const OpCase *op_case, const Value in[])
{
    return embedding(graph, "table", in[0], *(const Embedding *)op_case->parameters);
}

/* Some rows often, one never. */
static double any_row(const OpCase *op_case, const char *name, int64_t index, RandomStream *random)
{
    const Embedding *e = op_case->parameters;
    (void)name;
    if (index % 3 == 0) return (double)(e->rows - 1);
    return (double)random_below(random, (uint64_t)(e->rows > 2 ? e->rows - 1 : e->rows));
}

static double scale_of(const Embedding *e) { return e->scale == 0 ? 1 : e->scale; }

static void reference(const OpCase *op_case, OpReference *r)
{
    const Embedding *e = op_case->parameters;
    for (int64_t i = 0; i < shape_count(r->in[0].shape); ++i)
        for (int64_t c = 0; c < e->width; ++c)
            r->out[i * e->width + c] = scale_of(e) * r->in[1].data[(int64_t)r->in[0].data[i] * e->width + c];
}

/* Not finite differences: the padding's gradient is zero by definition. */
static void gradient(const OpCase *op_case, OpReference *r)
{
    const Embedding *e = op_case->parameters;
    memset(r->in[1].gradient, 0, (size_t)shape_count(r->in[1].shape) * sizeof(double));
    for (int64_t i = 0; i < shape_count(r->in[0].shape); ++i) {
        const int64_t row = (int64_t)r->in[0].data[i];
        for (int64_t c = 0; c < e->width; ++c)
            r->in[1].gradient[row * e->width + c] += scale_of(e) * r->upstream[i * e->width + c];
    }
}

static void gradient_padded(const OpCase *op_case, OpReference *r)
{
    const Embedding *e = op_case->parameters;
    gradient(op_case, r);
    memset(r->in[1].gradient + e->padding_row * e->width, 0, (size_t)e->width * sizeof(double));
}

/* A table that is read three times, as a Transformer's is: its gradients add up in one. */
static Value build_shared(Graph *graph, const OpCase *op_case, const Value in[])
{
    const Embedding e = *(const Embedding *)op_case->parameters;
    const Value first = embedding(graph, "table", in[0], e), second = embedding(graph, "table", in[1], e);
    return add(graph, add(graph, first, second), embedding(graph, "table", in[2], e));
}

static void reference_shared(const OpCase *op_case, OpReference *r)
{
    const Embedding *e = op_case->parameters;
    for (int64_t i = 0; i < shape_count(r->in[0].shape); ++i)
        for (int64_t c = 0; c < e->width; ++c) {
            r->out[i * e->width + c] = 0;
            for (int k = 0; k < 3; ++k)
                r->out[i * e->width + c] +=
                    scale_of(e) * r->in[3].data[(int64_t)r->in[k].data[i] * e->width + c];
        }
}

static void gradient_shared(const OpCase *op_case, OpReference *r)
{
    const Embedding *e = op_case->parameters;
    memset(r->in[3].gradient, 0, (size_t)shape_count(r->in[3].shape) * sizeof(double));
    for (int k = 0; k < 3; ++k)
        for (int64_t i = 0; i < shape_count(r->in[0].shape); ++i)
            for (int64_t c = 0; c < e->width; ++c)
                r->in[3].gradient[(int64_t)r->in[k].data[i] * e->width + c] +=
                    scale_of(e) * r->upstream[i * e->width + c];
}

/* Padding has no part in the loss, so that finite differences say zero, too. */
static void reference_padded(const OpCase *op_case, OpReference *r)
{
    const Embedding *e = op_case->parameters;
    reference(op_case, r);
    for (int64_t i = 0; i < shape_count(r->in[0].shape); ++i)
        if ((int64_t)r->in[0].data[i] == e->padding_row)
            memset(r->upstream + i * e->width, 0, (size_t)e->width * sizeof(double));
}

static const Embedding small = {.rows = 7, .width = 5, .init = {INIT_NORMAL, 1}},
                       scaled = {.rows = 300, .width = 33, .scale = 2.5, .init = {INIT_UNIFORM, 1}},
                       one = {.rows = 1, .width = 3, .init = {INIT_NORMAL, 1}},
                       many = {.rows = 70000, .width = 2, .init = {INIT_NORMAL, 1}},
                       by_rows = {.rows = 300,
                                  .width = 70,
                                  .init = {INIT_NORMAL, 1},
                                  .training = TRAINED_BY_ROWS},
                       few_by_rows = {.rows = 5, .width = 4, .scale = 3, .training = TRAINED_BY_ROWS},
                       padded = {
                           .rows = 9, .width = 6, .padded = true, .padding_row = 8, .init = {INIT_NORMAL, 1}};

#define ROW(text, of, ...)                                                                                   \
    {                                                                                                        \
        .name = text, .build = build, .parameters = &(of),                                                   \
        .in = {{"index", __VA_ARGS__, true, INT32, any_row}}, .reference = reference, .gradient = gradient   \
    }
static const OpCase cases[] = {
    ROW("a vector of indices", small, 1, {11}),
    ROW("a batch of sentences, scaled", scaled, 2, {6, 700}),
    ROW("one row", one, 1, {2500}),
    ROW("one index", small, 1, {1}),
    ROW("more rows than sixteen bits tell apart", many, 3, {2, 3, 50}),
    ROW("by rows", by_rows, 2, {4, 300}),
    ROW("by rows, more indices than rows", few_by_rows, 1, {50}),
    {.name = "three uses of a table",
     .build = build_shared,
     .parameters = &scaled,
     .in = {{"first", 1, {90}, true, INT32, any_row},
            {"second", 1, {90}, true, INT32, any_row},
            {"third", 1, {90}, true, INT32, any_row}},
     .reference = reference_shared,
     .gradient = gradient_shared},
    {.name = "padding",
     .build = build,
     .parameters = &padded,
     .in = {{"index", 2, {4, 6}, true, INT32, any_row}},
     .reference = reference_padded,
     .gradient = gradient_padded},
};

static void against_float64(void **state)
{
    (void)state;
    op_test_cases(cases, (int)(sizeof cases / sizeof *cases), test_device());
}

/* No node of its own adds them. */
static void gradients_add_up_inside(void **state)
{
    (void)state;
    Graph *graph;
    assert_ok(graph_create(GRAPH_TRAIN, FLOAT32, &graph));
    Value in[3];
    static const char *const names[] = {"first", "second", "third"};
    for (int k = 0; k < 3; ++k)
        in[k] = graph_input(graph, names[k], shape_of(INT32, 1, (const int64_t[]){4}));
    const Value y = build_shared(graph, &(OpCase){.parameters = &small}, in);
    const Value upstream = graph_input(graph, "upstream", graph_shape(graph, y));
    graph_differentiate(graph, dot(graph, y, upstream));
    assert_ok(graph_finish(graph));
    int backward = 0;
    for (int n = 0; n < graph_node_count(graph); ++n) {
        const Node *node = graph_node_at(graph, n);
        if (node->phase != PHASE_BACKWARD) continue;
        assert_string_not_equal(node->op->name, "add");
        backward += strcmp(node->op->name, "embedding_backward") == 0;
    }
    assert_int_equal(backward, 3);
    graph_free(graph);
}

/* ---- plans ---- */

enum { COUNT = 40 };

typedef struct {
    Graph *graph;
    Device *device;
    Store *store;
    Arena *arena;
    Collective *collective;
    Plan *plan;
    Value index, upstream, output;
} Fixture;

static void open_fixture(Fixture *f, Embedding e)
{
    *f = (Fixture){.graph = NULL};
    assert_ok(graph_create(GRAPH_TRAIN, FLOAT32, &f->graph));
    f->index = graph_input(f->graph, "index", shape_of(INT32, 1, (const int64_t[]){COUNT}));
    f->upstream = graph_input(f->graph, "upstream", shape_of(FLOAT32, 2, (const int64_t[]){COUNT, e.width}));
    f->output = embedding(f->graph, "table", f->index, e);
    graph_keep(f->graph, f->output);
    graph_differentiate(f->graph, dot(f->graph, f->output, f->upstream));
    assert_ok(graph_finish(f->graph));
    assert_ok(device_open(test_device(), 0, 2, &f->device));
    assert_ok(store_create(f->device, (const Graph *[]){f->graph}, 1, 3, &f->store));
    assert_ok(arena_create(f->device, &f->arena));
    assert_ok(collective_self(&f->collective));
    assert_ok(plan_create(f->graph, f->store, f->arena, f->collective, PLAN_DEFAULTS, &f->plan));
}

static void close_fixture(Fixture *f)
{
    plan_free(f->plan);
    arena_free(f->arena);
    store_free(f->store);
    collective_free(f->collective);
    device_close(f->device);
    graph_free(f->graph);
}

static void frozen_tables_cost_nothing(void **state)
{
    (void)state;
    Fixture f;
    Embedding e = small;
    e.training = FROZEN;
    open_fixture(&f, e);
    for (int n = 0; n < graph_node_count(f.graph); ++n)
        assert_int_equal(graph_node_at(f.graph, n)->phase, PHASE_FORWARD);
    assert_null(store_gradients(f.store));
    assert_int_equal(store_trained_count(f.store), 0);
    assert_int_equal(plan_report(f.plan).gradient_bytes, 0);
    close_fixture(&f);
}

static void the_padding_starts_at_zero(void **state)
{
    (void)state;
    Fixture f;
    open_fixture(&f, padded);
    float table[9 * 6];
    assert_ok(device_download(f.device, table, store_find(f.store, "table.weight")->data, sizeof table));
    assert_ok(device_synchronize(f.device));
    for (int i = 0; i < 9 * 6; ++i)
        assert_true((table[i] == 0) == (i / 6 == 8));
    close_fixture(&f);
}

/* The CPU refuses it; a GPU cannot, and gives what training stops at. */
static void an_index_that_is_no_row_is_found(void **state)
{
    (void)state;
    static const int32_t wrong[] = {7, -1, INT32_MAX, INT32_MIN};
    Fixture f;
    open_fixture(&f, small);
    for (int i = 0; i < 4; ++i) {
        int32_t index[COUNT] = {[3] = wrong[i]};
        float upstream[COUNT * 5] = {0}, output[COUNT * 5];
        assert_ok(device_upload(f.device, plan_data(f.plan, f.index), index, sizeof index));
        assert_ok(device_upload(f.device, plan_data(f.plan, f.upstream), upstream, sizeof upstream));
        if (test_device() == DEVICE_CPU) {
            assert_fails(plan_run(f.plan), STATUS_INPUT, "element 3 of the index is");
            continue;
        }
        assert_ok(plan_run(f.plan));
        assert_ok(device_download(f.device, output, plan_data(f.plan, f.output), sizeof output));
        assert_ok(device_synchronize(f.device));
        for (int k = 0; k < COUNT * 5; ++k)
            assert_true(isnan(output[k]) == (k / 5 == 3));
    }
    close_fixture(&f);
}

static void tables_that_cannot_be_trained_by_rows_are_named(void **state)
{
    (void)state;
    const int64_t count[] = {4};
    Graph *graph;
    assert_ok(graph_create(GRAPH_TRAIN, FLOAT32, &graph));
    const Value index = graph_input(graph, "index", shape_of(INT32, 1, count));
    Value y = add(graph, embedding(graph, "table", index, few_by_rows),
                  embedding(graph, "table", index, few_by_rows));
    graph_differentiate(graph, dot(graph, y, y));
    assert_fails(graph_finish(graph), STATUS_INPUT,
                 "table.weight is trained by rows, but the network uses it more");
    graph_free(graph);
    assert_ok(graph_create(GRAPH_TRAIN, FLOAT32, &graph));
    y = linear(graph, "out", graph_input(graph, "x", shape_of(FLOAT32, 2, (const int64_t[]){2, 3})),
               (Linear){.features = 2});
    graph_set_training(graph, graph_find(graph, "out.weight"), TRAINED_BY_ROWS);
    graph_differentiate(graph, dot(graph, y, y));
    assert_fails(graph_finish(graph), STATUS_INPUT, "but linear needs all of its gradient");
    graph_free(graph);
    static const Embedding bad[] = {{.rows = 0, .width = 3},
                                    {.rows = 3, .width = 3, .padded = true, .padding_row = 3}};
    for (int i = 0; i < 2; ++i) {
        assert_ok(graph_create(GRAPH_TRAIN, FLOAT32, &graph));
        (void)embedding(graph, "table", graph_input(graph, "index", shape_of(INT32, 1, count)), bad[i]);
        assert_fails(graph_finish(graph), STATUS_INPUT, "table: ");
        graph_free(graph);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_float64),
        cmocka_unit_test(gradients_add_up_inside),
        cmocka_unit_test(frozen_tables_cost_nothing),
        cmocka_unit_test(the_padding_starts_at_zero),
        cmocka_unit_test(an_index_that_is_no_row_is_found),
        cmocka_unit_test(tables_that_cannot_be_trained_by_rows_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
