/* Groups of parameters: rules of their own, frozen parameters, tables that are trained by rows, alone and among ranks.
 */
#include "tests/support.h"

#include "engine/base/random.h"
#include "engine/device/collective_methods.h"
#include "engine/ops/ops.h"
#include "engine/optim/optimizer.h"
#include "engine/plan/checkpoint.h"
#include "engine/plan/plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 50, WIDTH = 20, INDICES = 12, OUT = 700, STEPS = 4 };

typedef struct {
    Graph *graph;
    Device *device;
    Store *store;
    Arena *arena;
    Collective *collective;
    Plan *plan;
    Optimizer *optimizer;
} Fixture;

/* Two layers over the rows of a table. */
static Graph *build(const OptimizerOptions *options)
{
    Graph *graph;
    assert_ok(graph_create(GRAPH_TRAIN, FLOAT32, &graph));
    const Value index = graph_input(graph, "index", shape_of(INT32, 1, (const int64_t[]){INDICES}));
    Value x = embedding(graph, "table", index,
                        (Embedding){.rows = ROWS, .width = WIDTH, .padded = true, .init = {INIT_NORMAL, 1}});
    x = linear(graph, "one", x, (Linear){.features = OUT});
    x = linear(graph, "two", x, (Linear){.features = 3});
    const Value weight = graph_input(graph, "weight", graph_shape(graph, x));
    assert_ok(optimizer_mark(graph, options, NULL));
    graph_differentiate(graph, dot(graph, x, weight));
    assert_ok(graph_finish(graph));
    return graph;
}

static void open_fixture(Fixture *f, OptimizerOptions options, Collective *collective)
{
    *f = (Fixture){.graph = build(&options)};
    assert_ok(device_open(test_device(), 0, 2, &f->device));
    assert_ok(store_create(f->device, (const Graph *[]){f->graph}, 1, 3, &f->store));
    assert_ok(arena_create(f->device, &f->arena));
    assert_ok(collective_self(&f->collective));
    assert_ok(plan_create(f->graph, f->store, f->arena, collective != NULL ? collective : f->collective,
                          PLAN_DEFAULTS, &f->plan));
    assert_ok(optimizer_create(f->store, options, &f->optimizer));
}

static void close_fixture(Fixture *f)
{
    optimizer_free(f->optimizer);
    plan_free(f->plan);
    arena_free(f->arena);
    store_free(f->store);
    collective_free(f->collective);
    device_close(f->device);
    graph_free(f->graph);
}

/* Inputs are a function of the step; row 0 is padding, and some rows come again. */
static void run(Fixture *f, int64_t step)
{
    RandomStream stream = random_stream(3, RANDOM_TEST, (uint64_t)step);
    int32_t index[INDICES];
    float weight[INDICES * 3];
    for (int i = 0; i < INDICES; ++i)
        index[i] = i < 2 ? 0 : (int32_t)random_below(&stream, i < 6 ? 3 : ROWS);
    for (int i = 0; i < INDICES * 3; ++i)
        weight[i] = (float)random_normal(&stream);
    assert_ok(
        device_upload(f->device, plan_data(f->plan, graph_find(f->graph, "index")), index, sizeof index));
    assert_ok(
        device_upload(f->device, plan_data(f->plan, graph_find(f->graph, "weight")), weight, sizeof weight));
    assert_ok(plan_run(f->plan));
}

static void train(Fixture *f, double rate)
{
    for (int64_t step = 1; step <= STEPS; ++step) {
        run(f, step);
        assert_ok(optimizer_set(f->optimizer, step, rate, 0.5));
        assert_ok(optimizer_step(f->optimizer));
    }
}

static void *fetch(const Fixture *f, const void *from, size_t bytes)
{
    void *host = malloc(bytes + 1);
    assert_non_null(host);
    assert_ok(device_download(f->device, host, from, bytes));
    assert_ok(device_synchronize(f->device));
    return host;
}

static float *parameter(const Fixture *f, const char *name, int64_t *count)
{
    const StoreEntry *entry = store_find(f->store, name);
    assert_non_null(entry);
    *count = shape_count(entry->shape);
    return fetch(f, entry->data, shape_bytes(entry->shape));
}

static double norm_of(const Fixture *f)
{
    double norm;
    assert_ok(optimizer_gradient_norm(f->optimizer, &norm));
    assert_ok(device_synchronize(f->device));
    return norm;
}

static void assert_same(const Fixture *a, const Fixture *b, const char *name)
{
    int64_t count;
    float *left = parameter(a, name, &count), *right = parameter(b, name, &count);
    assert_memory_equal(left, right, (size_t)count * sizeof *left);
    free(left);
    free(right);
}

/* One step changes no later gradient: then a group's parameters are, to the bit, those of an optimizer that is theirs
 * alone. */
static void each_group_steps_by_its_own_rule(void **state)
{
    (void)state;
    static const OptimizerGroup groups[] = {
        {.parameters = "*.bias", .learning_rate_factor = 2, .weight_decay = 0},
        {.parameters = "t*", .name = "adagrad", .learning_rate_factor = 0.5, .weight_decay = 1e-3},
        {.parameters = "two.bias", .name = "adam", .learning_rate_factor = 1, .weight_decay = 0.25},
        {.parameters = "table.*", .name = "sgd", .learning_rate_factor = 3, .weight_decay = 0.5},
    };
    const OptimizerOptions base = {.name = "sgd",
                                   .momentum = 0.9,
                                   .nesterov = true,
                                   .weight_decay = 0.125,
                                   .beta1 = 0.9,
                                   .beta2 = 0.99,
                                   .epsilon = 1e-6,
                                   .clip_norm = 0.75};
    static const struct {
        const char *parameter;
        int group; /* -1: none */
    } expected[] = {
        {"one.weight", -1}, {"one.bias", 0}, {"two.weight", 1}, {"two.bias", 2}, {"table.weight", 3}};
    OptimizerOptions options = base;
    Fixture grouped, alone;
    options.groups = groups;
    options.group_count = 4;
    open_fixture(&grouped, options, NULL);
    run(&grouped, 1);
    assert_ok(optimizer_set(grouped.optimizer, 3, 0.1, 0.5));
    assert_ok(optimizer_step(grouped.optimizer));
    for (size_t i = 0; i < sizeof expected / sizeof *expected; ++i) {
        const OptimizerGroup *group = expected[i].group >= 0 ? &groups[expected[i].group] : NULL;
        OptimizerOptions own = base;
        if (group != NULL) own.weight_decay = group->weight_decay;
        if (group != NULL && group->name != NULL) {
            own.name = group->name;
            own.momentum = 0;
            own.nesterov = false;
        }
        open_fixture(&alone, own, NULL);
        run(&alone, 1);
        assert_ok(
            optimizer_set(alone.optimizer, 3, 0.1 * (group != NULL ? group->learning_rate_factor : 1), 0.5));
        assert_ok(optimizer_step(alone.optimizer));
        assert_same(&grouped, &alone, expected[i].parameter);
        assert_true(norm_of(&grouped) == norm_of(&alone) && norm_of(&alone) > 0.75);
        close_fixture(&alone);
    }
    close_fixture(&grouped);
}

static void frozen_parameters_stay(void **state)
{
    (void)state;
    static const OptimizerGroup groups[] = {{.parameters = "one.*", .frozen = true},
                                            {.parameters = "table.weight", .frozen = true}};
    const OptimizerOptions options = {.name = "adam",
                                      .beta1 = 0.9,
                                      .beta2 = 0.99,
                                      .epsilon = 1e-8,
                                      .weight_decay = 0.1,
                                      .groups = groups,
                                      .group_count = 2};
    Fixture f, before;
    open_fixture(&f, options, NULL);
    open_fixture(&before, options, NULL);
    train(&f, 0.1);
    assert_same(&f, &before, "one.weight");
    assert_same(&f, &before, "one.bias");
    assert_same(&f, &before, "table.weight");
    int64_t count;
    float *now = parameter(&f, "two.weight", &count), *then = parameter(&before, "two.weight", &count);
    assert_memory_not_equal(now, then, (size_t)count * sizeof *now);
    free(now);
    free(then);
    assert_int_equal(store_trained_count(f.store), 2112 + 16); /* of two.weight and two.bias */
    for (int n = 0; n < graph_node_count(f.graph); ++n)
        assert_string_not_equal(graph_node_at(f.graph, n)->op->name, "linear_backward_data");
    close_fixture(&before);
    close_fixture(&f);
}

/* The same bits as dense for sgd and adagrad; and a checkpoint brings back what only they have. */
static void rows_step_as_the_whole_table_would(void **state)
{
    (void)state;
    for (int adagrad = 0; adagrad < 2; ++adagrad) {
        OptimizerGroup group = {
            .parameters = "table.*", .name = adagrad ? "adagrad" : "sgd", .learning_rate_factor = 2};
        const OptimizerOptions options = {
            .name = "adagrad", .weight_decay = 1e-4, .epsilon = 1e-10, .groups = &group, .group_count = 1};
        Fixture dense, sparse, resumed;
        open_fixture(&dense, options, NULL);
        train(&dense, 0.05);
        group.sparse = true;
        open_fixture(&sparse, options, NULL);
        train(&sparse, 0.05);
        static const char *const names[] = {"table.weight", "one.weight", "one.bias", "two.weight",
                                            "two.bias"};
        for (int i = 0; i < 5; ++i)
            assert_same(&dense, &sparse, names[i]);
        assert_true(fabs(norm_of(&dense) - norm_of(&sparse)) <= 1e-12 * norm_of(&dense));
        const StoreEntry *entry = store_find(sparse.store, "table.weight");
        assert_true(entry->by_rows && entry->gradient == NULL && entry->rows.most == INDICES);
        /* Only the rule that has a state makes one for the table. */
        assert_true((store_flat_of(sparse.store, 0, entry) != NULL) == (adagrad == 1));
        char folder[4096];
        test_scratch_make(folder);
        assert_ok(checkpoint_save(sparse.store, folder, "a", NULL, 0));
        open_fixture(&resumed, options, NULL);
        assert_ok(checkpoint_load(resumed.store, folder, "a", NULL));
        Fixture *const both[] = {&sparse, &resumed};
        for (int i = 0; i < 2; ++i) {
            run(both[i], STEPS + 1);
            assert_ok(optimizer_set(both[i]->optimizer, STEPS + 1, 0.05, 0.5));
            assert_ok(optimizer_step(both[i]->optimizer));
        }
        for (int i = 0; i < 5; ++i)
            assert_same(&resumed, &sparse, names[i]);
        test_scratch_remove(folder);
        close_fixture(&resumed);
        close_fixture(&sparse);
        close_fixture(&dense);
    }
}

static void the_norm_that_clips_counts_rows(void **state)
{
    (void)state;
    OptimizerGroup group = {.parameters = "table.*", .name = "sgd", .learning_rate_factor = 1};
    const OptimizerOptions options = {.name = "sgd", .clip_norm = 0.01, .groups = &group, .group_count = 1};
    Fixture dense, sparse;
    open_fixture(&dense, options, NULL);
    train(&dense, 0.1);
    group.sparse = true;
    open_fixture(&sparse, options, NULL);
    train(&sparse, 0.1);
    int64_t count;
    float *left = parameter(&dense, "table.weight", &count),
          *right = parameter(&sparse, "table.weight", &count);
    for (int64_t i = 0; i < count; ++i)
        assert_true(fabsf(left[i] - right[i]) <= 1e-6F);
    free(left);
    free(right);
    close_fixture(&sparse);
    close_fixture(&dense);
}

/* ---- ranks ---- */

/* The second rank has the same rows, each one further, and three times their gradients; dense sums are doubled. */
static Device *shared_device;

static Status gather_twins(Collective *collective, Span part, Span all, Stream after)
{
    (void)collective, (void)after;
    const size_t bytes = (size_t)part.count * dtype_size(part.type);
    char *host = malloc(2 * bytes);
    assert_non_null(host);
    assert_int_equal(all.count, 2 * part.count);
    assert_ok(device_download(shared_device, host, part.data, bytes));
    assert_ok(device_synchronize(shared_device));
    memcpy(host + bytes, host, bytes);
    for (int64_t i = 0; i < part.count; ++i)
        if (part.type == FLOAT32)
            ((float *)(void *)(host + bytes))[i] *= 3;
        else if (i > 0)
            ++((int32_t *)(void *)(host + bytes))[i];
    assert_ok(device_upload(shared_device, all.data, host, 2 * bytes));
    assert_ok(device_synchronize(shared_device));
    free(host);
    return OK;
}

static Status sum_nothing(Collective *collective, Span span, Stream after)
{
    (void)collective, (void)span, (void)after;
    return OK;
}

static Status join_nothing(Collective *collective, Stream stream)
{
    (void)collective, (void)stream;
    return OK;
}

static Status healthy(Collective *collective)
{
    (void)collective;
    return OK;
}

static void rows_of_ranks_are_added(void **state)
{
    (void)state;
    static const CollectiveMethods methods = {
        .gather = gather_twins, .sum = sum_nothing, .join = join_nothing, .health = healthy};
    Collective twins = {.size = 2, .methods = &methods};
    const OptimizerGroup group = {.parameters = "table.*", .sparse = true, .learning_rate_factor = 1};
    const OptimizerOptions options = {.name = "sgd", .groups = &group, .group_count = 1};
    Fixture f;
    open_fixture(&f, options, &twins);
    shared_device = f.device;
    for (int64_t step = 1; step <= 3; ++step) {
        run(&f, step);
        const StoreEntry *entry = store_find(f.store, "table.weight");
        const RowGradient mine = entry->rows, all = entry->all_rows;
        assert_int_equal(all.most, 2 * INDICES);
        int32_t *one = fetch(&f, mine.list, (size_t)(ROW_LIST_HEAD + mine.most) * sizeof *one),
                *two = fetch(&f, all.list, (size_t)(ROW_LIST_HEAD + all.most) * sizeof *two);
        float *part = fetch(&f, mine.gradient, (size_t)mine.most * WIDTH * sizeof *part),
              *sum = fetch(&f, all.gradient, (size_t)all.most * WIDTH * sizeof *sum);
        double want[ROWS + 1][WIDTH] = {{0}};
        bool touched[ROWS + 1] = {false};
        for (int rank = 0; rank < 2; ++rank)
            for (int32_t i = 0; i < one[0]; ++i) {
                const int32_t row = one[ROW_LIST_HEAD + i] + rank;
                assert_true(row > 0); /* padding has no gradient */
                if (row >= ROWS) continue;
                touched[row] = true;
                for (int c = 0; c < WIDTH; ++c) {
                    const float tripled = 3 * part[i * WIDTH + c];
                    want[row][c] += (double)(rank == 0 ? part[i * WIDTH + c] : tripled);
                }
            }
        int32_t at = 0;
        for (int32_t row = 0; row < ROWS; ++row) {
            if (!touched[row]) continue;
            assert_int_equal(two[ROW_LIST_HEAD + at], row);
            for (int c = 0; c < WIDTH; ++c)
                assert_true(sum[at * WIDTH + c] == (float)want[row][c]);
            ++at;
        }
        assert_int_equal(two[0], at);
        free(one);
        free(two);
        free(part);
        free(sum);
    }
    close_fixture(&f);
}

/* ---- what cannot be ---- */

static void groups_that_make_no_sense_are_named(void **state)
{
    (void)state;
    static const struct {
        OptimizerGroup group;
        const char *text;
    } bad[] = {
        {{.parameters = "table.*", .sparse = true, .learning_rate_factor = 1}, "neither momentum nor adam"},
        {{.parameters = "table.*",
          .name = "sgd",
          .sparse = true,
          .learning_rate_factor = 1,
          .weight_decay = 1},
         "table.weight is trained by rows: its group needs weight_decay 0"},
        {{.parameters = "one.*", .name = "lion"}, "there is no optimizer \"lion\""},
        {{.parameters = "one.*", .learning_rate_factor = -1}, "the group of one.*: the factor -1"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; ++i) {
        const OptimizerOptions options = {
            .name = "sgd", .momentum = 0.9, .groups = &bad[i].group, .group_count = 1};
        Fixture f = {.graph = build(&options)};
        assert_ok(device_open(test_device(), 0, 1, &f.device));
        assert_ok(store_create(f.device, (const Graph *[]){f.graph}, 1, 3, &f.store));
        assert_fails(optimizer_create(f.store, options, &f.optimizer), STATUS_INPUT, bad[i].text);
        store_free(f.store);
        device_close(f.device);
        graph_free(f.graph);
    }
    const OptimizerOptions none = {.name = "sgd"};
    const OptimizerGroup typo[] = {{.parameters = "two.*"}, {.parameters = "one.wieght"}};
    Graph *graph = build(&none);
    int which = -1;
    assert_fails(optimizer_mark(graph, &(OptimizerOptions){.groups = typo, .group_count = 2}, &which),
                 STATUS_INPUT, "one.wieght fits no parameter of this network; the nearest is one.weight");
    assert_int_equal(which, 1);
    /* What the network has frozen stays so. */
    const OptimizerGroup sparse = {.parameters = "table.*", .sparse = true, .learning_rate_factor = 1};
    const OptimizerOptions by_rows = {.groups = &sparse, .group_count = 1};
    graph_set_training(graph, graph_find(graph, "table.weight"), FROZEN);
    assert_fails(optimizer_mark(graph, &by_rows, &which), STATUS_INPUT,
                 "and cannot be trained by rows: leave the group out");
    assert_int_equal(which, 0);
    const OptimizerGroup faster[] = {
        {.parameters = "*", .learning_rate_factor = 2}, /* others that learn are meant, too */
        {.parameters = "table.*", .frozen = true},
        {.parameters = "table.*", .learning_rate_factor = 2}};
    which = -1;
    assert_ok(optimizer_mark(graph, &(OptimizerOptions){.groups = faster, .group_count = 2}, &which));
    assert_int_equal(which, -1);
    assert_fails(
        optimizer_mark(graph, &(OptimizerOptions){.groups = faster, .group_count = 3}, &which), STATUS_INPUT,
        "table.weight is frozen by the network (as by model.freeze_embedding), so the group has no effect");
    assert_int_equal(which, 2);
    graph_free(graph);
    /* Rows are not gathered over micro-steps. */
    const OptimizerGroup group = {.parameters = "table.*", .sparse = true, .learning_rate_factor = 1};
    Fixture f;
    open_fixture(&f, (OptimizerOptions){.name = "sgd", .groups = &group, .group_count = 1}, NULL);
    plan_set_micro_step(f.plan, 1, 2);
    assert_fails(plan_run(f.plan), STATUS_UNSUPPORTED, "micro-batches");
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_group_steps_by_its_own_rule),
        cmocka_unit_test(frozen_parameters_stay),
        cmocka_unit_test(rows_step_as_the_whole_table_would),
        cmocka_unit_test(the_norm_that_clips_counts_rows),
        cmocka_unit_test(rows_of_ranks_are_added),
        cmocka_unit_test(groups_that_make_no_sense_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
