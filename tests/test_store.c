/* The store: made from several graphs, its layouts in files, its gradients on their way to other ranks. */
#include "tests/support.h"

#include "engine/base/random.h"
#include "engine/device/collective_methods.h"
#include "engine/ops/ops.h"
#include "engine/plan/checkpoint.h"
#include "engine/plan/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fill(float *data, int64_t count, uint64_t key)
{
    RandomStream stream = random_stream(3, RANDOM_TEST, key);
    for (int64_t i = 0; i < count; ++i)
        data[i] = (float)random_normal(&stream);
}

static Graph *new_graph(GraphMode mode)
{
    Graph *graph;
    assert_ok(graph_create(mode, FLOAT32, &graph));
    return graph;
}

/* Out of the device's memory; release with free(). */
static void *fetch(Device *device, const void *from, size_t bytes)
{
    void *host = malloc(bytes > 0 ? bytes : 1);
    assert_non_null(host);
    assert_ok(device_download(device, host, from, bytes));
    assert_ok(device_synchronize(device));
    return host;
}

static void fill_device(Device *device, void *to, int64_t count, uint64_t key)
{
    float *host = calloc((size_t)count, sizeof *host);
    assert_non_null(host);
    fill(host, count, key);
    assert_ok(device_upload(device, to, host, (size_t)count * sizeof *host));
    assert_ok(device_synchronize(device));
    free(host);
}

static void assert_device_equal(Device *device, const void *a, const void *b, size_t bytes)
{
    void *left = fetch(device, a, bytes), *right = fetch(device, b, bytes);
    assert_memory_equal(left, right, bytes);
    free(left);
    free(right);
}

/* ---- layouts in files ---- */

enum { LENGTH = 7, IN = 3, OUT = 2, WIDTH = 5 };

static Graph *one_dimensional_graph(void)
{
    Graph *graph = new_graph(GRAPH_TRAIN);
    const Value x = graph_input(graph, "x", shape_of(FLOAT32, 4, (const int64_t[]){1, 1, LENGTH, IN}));
    const Conv2d flat = {
        .channels = OUT, .kernel_height = 1, .kernel_width = WIDTH, .bias = true, .one_dimensional = true};
    Value y = conv2d(graph, "conv1", x, flat);
    y = conv2d(graph, "conv2", y, (Conv2d){.channels = OUT, .kernel_height = 1, .kernel_width = 3});
    const Shape plain = shape_of(FLOAT32, 4, (const int64_t[]){2, 1, 3, 2});
    (void)graph_parameter(graph, "table", plain, (Init){INIT_NORMAL, 1});
    graph_differentiate(graph, dot(graph, y, y));
    assert_ok(graph_finish(graph));
    return graph;
}

/* [out, 1, width, in] in memory, [out, in, width] in the file. */
static void check_one_dimensional(const SafeTensor *tensor, Device *device, const float *from)
{
    float *memory = fetch(device, from, sizeof(float) * OUT * IN * WIDTH);
    assert_non_null(tensor);
    assert_int_equal(tensor->rank, 3);
    assert_int_equal(tensor->extent[0], OUT);
    assert_int_equal(tensor->extent[1], IN);
    assert_int_equal(tensor->extent[2], WIDTH);
    const float *file = tensor->data;
    for (int o = 0; o < OUT; ++o)
        for (int i = 0; i < IN; ++i)
            for (int w = 0; w < WIDTH; ++w)
                assert_true(file[(o * IN + i) * WIDTH + w] == memory[(o * WIDTH + w) * IN + i]);
    free(memory);
}

static void layouts_in_files_are_those_of_the_parameters(void **state)
{
    (void)state;
    char folder[4096], path[8192];
    test_scratch_make(folder);
    Device *device;
    Store *store, *other;
    float *momentum, *again;
    SafeFile *file;
    Graph *graph = one_dimensional_graph();
    assert_ok(device_open(test_device(), 0, 1, &device));
    assert_ok(store_create(device, (const Graph *[]){graph}, 1, 1, &store));
    assert_ok(store_create(device, (const Graph *[]){graph}, 1, 2, &other));
    assert_ok(store_flat(store, "momentum", false, &momentum));
    assert_ok(store_flat(other, "momentum", false, &again));
    const StoreEntry *weight = store_find(store, "conv1.weight");
    assert_int_equal(weight->file_layout, FILE_CONVOLUTION_1D);
    for (int i = 0; i < store_count(store); ++i) {
        const StoreEntry *entry = store_at(store, i);
        float *of = store_flat_of(store, 0, entry);
        assert_true((of == NULL) == (strcmp(entry->name, "table") == 0)); /* nothing trains the table */
        if (of != NULL) fill_device(device, of, shape_count(entry->shape), (uint64_t)i);
    }
    assert_ok(checkpoint_save(store, folder, "a", NULL, 0));
    assert_ok(checkpoint_load(other, folder, "a", &file));
    check_one_dimensional(safetensors_find(file, "conv1.weight"), device, weight->data);
    const SafeTensor *two = safetensors_find(file, "conv2.weight"), *table = safetensors_find(file, "table");
    assert_int_equal(two->rank, 4);
    assert_int_equal(two->extent[1], OUT);
    assert_int_equal(two->extent[2], 1);
    assert_int_equal(two->extent[3], 3);
    /* Rank 4, but no convolution: as in memory. */
    assert_int_equal(table->extent[2], 3);
    float *values = fetch(device, store_find(store, "table")->data, 12 * sizeof(float));
    assert_memory_equal(table->data, values, 12 * sizeof(float));
    free(values);
    safetensors_close(file);
    assert_device_equal(device, store_parameters(store), store_parameters(other),
                        (size_t)store_flat_count(store) * sizeof(float));
    assert_device_equal(device, momentum, again, (size_t)store_trained_count(store) * sizeof(float));
    (void)snprintf(path, sizeof path, "%s/a.optimizer.safetensors", folder);
    assert_ok(safetensors_open(path, &file));
    check_one_dimensional(safetensors_find(file, "momentum/conv1.weight"), device, momentum + weight->offset);
    safetensors_close(file);
    /* The same tensor as a two-dimensional convolution's: the file has another shape, which is named. */
    Graph *wrong = new_graph(GRAPH_EVALUATE);
    const Value x = graph_input(wrong, "x", shape_of(FLOAT32, 4, (const int64_t[]){1, 1, LENGTH, IN}));
    (void)conv2d(wrong, "conv1", x, (Conv2d){.channels = OUT, .kernel_height = 1, .kernel_width = WIDTH});
    assert_ok(graph_finish(wrong));
    store_free(other);
    assert_ok(store_create(device, (const Graph *[]){wrong}, 1, 1, &other));
    assert_fails(checkpoint_load(other, folder, "a", NULL), STATUS_INPUT,
                 "conv1.weight is float32[2, 3, 5]; this network needs float32[2, 3, 1, 5]");
    store_free(other);
    store_free(store);
    device_close(device);
    graph_free(wrong);
    graph_free(graph);
    test_scratch_remove(folder);
}

static void layouts_must_fit_their_parameters(void **state)
{
    (void)state;
    const Init init = {INIT_ZEROS, 0};
    Graph *graph = new_graph(GRAPH_TRAIN);
    const Shape tall = shape_of(FLOAT32, 4, (const int64_t[]){2, 3, 3, 1});
    (void)graph_parameter_with_layout(graph, "w", tall, init, FILE_CONVOLUTION_1D);
    assert_fails(graph_finish(graph), STATUS_INTERNAL, "w of shape float32[2, 3, 3, 1]");
    graph_free(graph);
    graph = new_graph(GRAPH_TRAIN);
    (void)graph_parameter_with_layout(graph, "w", tall, init, FILE_CONVOLUTION_2D);
    (void)graph_parameter(graph, "w", tall, init);
    assert_fails(graph_finish(graph), STATUS_INTERNAL, "w was declared before with another layout");
    graph_free(graph);
}

/* ---- several graphs ---- */

enum { FEATURES = 24 };

static Value features(Graph *graph, const char *name, int64_t samples, int64_t count)
{
    return graph_input(graph, name, shape_of(FLOAT32, 2, (const int64_t[]){samples, count}));
}

/* Two layers that are trained; crossed: the second is finished after the first, for it is used before, too. */
static Graph *training_graph(int64_t samples, bool crossed, DType compute)
{
    Graph *graph;
    assert_ok(graph_create(GRAPH_TRAIN, compute, &graph));
    Value x = cast(graph, features(graph, "x", samples, FEATURES), compute);
    const Linear typed = {.features = FEATURES, .type = compute};
    if (crossed) x = linear(graph, "second", x, typed);
    x = linear(graph, "first", x, typed);
    x = linear(graph, "second", x, typed);
    x = linear(graph, "third", x, (Linear){.features = FEATURES});
    graph_differentiate(graph, dot(graph, x, features(graph, "weight", samples, FEATURES)));
    assert_ok(graph_finish(graph));
    return graph;
}

/* The same network, with a layer more and a cache. */
static Graph *decoding_graph(void)
{
    Graph *graph = new_graph(GRAPH_EVALUATE);
    Value x = features(graph, "x", 1, FEATURES);
    x = add(graph, x, graph_transient_state(graph, "cache", graph_shape(graph, x), (Init){INIT_UNIFORM, 1}));
    x = linear(graph, "second", linear(graph, "first", x, (Linear){.features = FEATURES}),
               (Linear){.features = FEATURES});
    x = linear(graph, "only_here", x, (Linear){.features = 3});
    graph_keep(graph, batch_norm(graph, "norm", x, (BatchNorm){0}));
    assert_ok(graph_finish(graph));
    return graph;
}

static void a_store_serves_several_graphs(void **state)
{
    (void)state;
    char folder[4096];
    test_scratch_make(folder);
    Device *device;
    Store *store, *alone, *again;
    Graph *train = training_graph(4, false, FLOAT32), *decode = decoding_graph();
    assert_ok(device_open(test_device(), 0, 1, &device));
    assert_ok(store_create(device, (const Graph *[]){train}, 1, 5, &alone));
    assert_ok(store_create(device, (const Graph *[]){decode, train, decode}, 3, 5, &store));
    assert_true(store_has_one_order(store));
    /* What is trained lies where it did, and starts as it did. */
    for (int i = 0; i < store_count(alone); ++i)
        assert_string_equal(store_at(alone, i)->name, store_at(store, i)->name);
    assert_int_equal(store_trained_count(store), store_flat_count(alone));
    assert_device_equal(device, store_parameters(alone), store_parameters(store),
                        (size_t)store_flat_count(alone) * sizeof(float));
    const StoreEntry *only = store_find(store, "only_here.weight"), *cache = store_find(store, "cache");
    assert_true(only->gradient == NULL && only->offset >= store_trained_count(store));
    assert_true(cache->transient && !store_find(store, "norm.running_mean")->transient);
    assert_int_equal(store_state_bytes(store), 3 * 64);
    /* Another plan finds the cache where the first left it. */
    Arena *arena;
    Collective *collective;
    Plan *one, *two;
    assert_ok(arena_create(device, &arena));
    assert_ok(collective_self(&collective));
    assert_ok(plan_create(decode, store, arena, collective, PLAN_DEFAULTS, &one));
    assert_ok(plan_create(decode, store, arena, collective, PLAN_DEFAULTS, &two));
    assert_ptr_equal(plan_data(one, graph_find(decode, "cache")), cache->data);
    assert_ptr_equal(plan_data(two, graph_find(decode, "cache")), cache->data);
    plan_free(one);
    plan_free(two);
    /* No file holds the cache, and loading leaves it alone. */
    SafeFile *file;
    assert_ok(checkpoint_save(store, folder, "a", NULL, 0));
    assert_ok(store_create(device, (const Graph *[]){train, decode}, 2, 6, &again));
    fill_device(device, store_find(again, "cache")->data, FEATURES, 1);
    void *before = fetch(device, store_find(again, "cache")->data, FEATURES * sizeof(float));
    assert_ok(checkpoint_load(again, folder, "a", &file));
    assert_null(safetensors_find(file, "cache"));
    assert_non_null(safetensors_find(file, "only_here.weight"));
    safetensors_close(file);
    void *after = fetch(device, store_find(again, "cache")->data, FEATURES * sizeof(float));
    assert_memory_equal(before, after, FEATURES * sizeof(float));
    free(before);
    free(after);
    assert_device_equal(device, store_parameters(again), store_parameters(store),
                        (size_t)store_flat_count(store) * sizeof(float));
    float values[FEATURES * FEATURES];
    fill(values, FEATURES * FEATURES, 9);
    assert_ok(store_fill(store, "first.weight", values, FEATURES * FEATURES));
    float *now = fetch(device, store_find(store, "first.weight")->data, sizeof values);
    assert_memory_equal(now, values, sizeof values);
    free(now);
    assert_fails(store_fill(store, "first.weight", values, 3), STATUS_INPUT,
                 "first.weight is float32[24, 24] and cannot be filled with 3");
    assert_fails(store_fill(store, "zeroth", values, 3), STATUS_INPUT, "no parameter zeroth");
    collective_free(collective);
    arena_free(arena);
    store_free(again);
    store_free(store);
    store_free(alone);
    graph_free(train);
    graph_free(decode);
    device_close(device);
    test_scratch_remove(folder);
}

static void graphs_that_contradict_each_other_are_named(void **state)
{
    (void)state;
    Device *device;
    Store *store;
    Graph *train = training_graph(4, false, FLOAT32), *other = new_graph(GRAPH_EVALUATE),
          *kept = new_graph(GRAPH_EVALUATE);
    (void)linear(other, "second", features(other, "x", 1, 7), (Linear){.features = 3});
    assert_ok(graph_finish(other));
    (void)graph_state(kept, "first.weight", shape_of(FLOAT32, 2, (const int64_t[]){FEATURES, FEATURES}),
                      (Init){INIT_ZEROS, 0});
    assert_ok(graph_finish(kept));
    assert_ok(device_open(test_device(), 0, 1, &device));
    assert_fails(store_create(device, (const Graph *[]){train, other}, 2, 1, &store), STATUS_INPUT,
                 "second.weight is float32[24, 24] in graph 0 and float32[3, 7] in graph 1");
    assert_fails(store_create(device, (const Graph *[]){train, kept}, 2, 1, &store), STATUS_INTERNAL,
                 "first.weight");
    graph_free(train);
    graph_free(other);
    graph_free(kept);
    device_close(device);
}

/* ---- reductions ---- */

/* Two ranks with the same gradients, in device memory that the host cannot see. */
typedef struct {
    Device *device;
    int nodes, first_sum; /* nodes run; of them before the first sum */
    int64_t summed[2];    /* elements: float32, bfloat16 */
} Twin;

static Status sum_twins(Collective *collective, Span span, Stream after)
{
    (void)after;
    Twin *twin = collective->implementation;
    if (twin->first_sum < 0) twin->first_sum = twin->nodes;
    twin->summed[span.type == BFLOAT16] += span.count;
    const size_t bytes = (size_t)span.count * dtype_size(span.type);
    void *host = fetch(twin->device, span.data, bytes);
    for (int64_t i = 0; i < span.count; ++i)
        if (span.type == FLOAT32)
            ((float *)host)[i] *= 2;
        else
            ((bfloat16 *)host)[i] = bfloat16_from_float(2 * bfloat16_to_float(((bfloat16 *)host)[i]));
    TRY(device_upload(twin->device, span.data, host, bytes));
    TRY(device_synchronize(twin->device));
    free(host);
    return OK;
}

static Status join_twins(Collective *collective, Stream stream)
{
    (void)collective, (void)stream;
    return OK;
}

static Status count_node(Collective *collective)
{
    ++((Twin *)collective->implementation)->nodes;
    return OK;
}

/* Runs the graph on made inputs. What the gradients are then is to be released with free(). */
static float *gradients_of(const Graph *graph, Store *store, Twin *twin, int ranks, DType type,
                           int micro_steps)
{
    static const CollectiveMethods methods = {.sum = sum_twins, .join = join_twins, .health = count_node};
    Collective collective = {.size = ranks, .methods = &methods, .implementation = twin};
    Arena *arena;
    Plan *plan;
    *twin = (Twin){.device = store_device(store), .first_sum = -1};
    assert_ok(arena_create(twin->device, &arena));
    assert_ok(plan_create(graph, store, arena, &collective,
                          (PlanOptions){.share_memory = true, .bucket_bytes = 512, .gradient_type = type},
                          &plan));
    for (int step = 0; step < micro_steps; ++step) {
        const char *const names[] = {"x", "weight"};
        for (int i = 0; i < 2; ++i) {
            const Value input = graph_find(graph, names[i]);
            fill_device(twin->device, plan_data(plan, input), shape_count(graph_shape(graph, input)),
                        (uint64_t)i);
        }
        plan_set_micro_step(plan, step, micro_steps);
        assert_ok(plan_run(plan));
    }
    float *gradients =
        fetch(twin->device, store_gradients(store), (size_t)store_trained_count(store) * sizeof *gradients);
    plan_free(plan);
    arena_free(arena);
    return gradients;
}

/* Programs of one network that differ in the batch alone reduce while backward runs; where the order differs they
 * all reduce at the end, so that ranks that run different ones meet. */
static void ranks_reduce_in_one_order_whatever_they_run(void **state)
{
    (void)state;
    Device *device;
    Store *store;
    Twin twin;
    Graph *small = training_graph(2, false, FLOAT32), *large = training_graph(6, false, FLOAT32),
          *crossed = training_graph(2, true, FLOAT32);
    assert_ok(device_open(test_device(), 0, 1, &device));
    assert_ok(store_create(device, (const Graph *[]){small, large}, 2, 1, &store));
    assert_true(store_has_one_order(store));
    free(gradients_of(large, store, &twin, 2, FLOAT32, 1));
    assert_true(twin.first_sum < graph_node_count(large) - 1);
    assert_int_equal(twin.summed[0], store_trained_count(store));
    store_free(store);
    assert_ok(store_create(device, (const Graph *[]){small, crossed}, 2, 1, &store));
    assert_false(store_has_one_order(store));
    const Graph *const both[] = {small, crossed};
    for (int i = 0; i < 2; ++i) {
        free(gradients_of(both[i], store, &twin, 2, FLOAT32, 1));
        assert_int_equal(twin.first_sum, graph_node_count(both[i]) - 1);
    }
    store_free(store);
    graph_free(small);
    graph_free(large);
    graph_free(crossed);
    device_close(device);
}

/* Kernels of a GPU may leave gradients as bfloat16, which travel as they are, unless micro-steps are to be added. */
static void bfloat16_gradients_are_those_that_were_rounded(void **state)
{
    (void)state;
    Device *device;
    Store *store;
    Twin twin;
    Graph *graph = training_graph(4, false, BFLOAT16);
    assert_ok(device_open(test_device(), 0, 1, &device));
    assert_ok(store_create(device, (const Graph *[]){graph}, 1, 1, &store));
    for (int micro_steps = 1; micro_steps <= 2; ++micro_steps) {
        float *alone = gradients_of(graph, store, &twin, 1, FLOAT32, micro_steps);
        for (int64_t i = 0; i < store_trained_count(store); ++i)
            alone[i] /= 2; /* the stand-in sums for one rank, too */
        float *together = gradients_of(graph, store, &twin, 2, BFLOAT16, micro_steps);
        assert_int_equal(twin.summed[0], 0);
        assert_int_equal(twin.summed[1], store_trained_count(store));
        double norm = 0;
        for (int64_t i = 0; i < store_trained_count(store); ++i) {
            assert_true(together[i] == 2 * bfloat16_to_float(bfloat16_from_float(alone[i])));
            norm += (double)alone[i] * (double)alone[i];
        }
        assert_true(norm > 0);
        free(alone);
        free(together);
    }
    store_free(store);
    graph_free(graph);
    device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layouts_in_files_are_those_of_the_parameters),
        cmocka_unit_test(layouts_must_fit_their_parameters),
        cmocka_unit_test(a_store_serves_several_graphs),
        cmocka_unit_test(graphs_that_contradict_each_other_are_named),
        cmocka_unit_test(ranks_reduce_in_one_order_whatever_they_run),
        cmocka_unit_test(bfloat16_gradients_are_those_that_were_rounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
