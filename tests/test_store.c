/* The store and its files: layouts of parameters in checkpoints. */
#include "tests/support.h"

#include "engine/base/random.h"
#include "engine/ops/ops.h"
#include "engine/plan/checkpoint.h"
#include "engine/plan/plan.h"

#include <stdio.h>
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
static void check_one_dimensional(const SafeTensor *tensor, const float *memory)
{
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
    assert_ok(device_open(DEVICE_CPU, 0, 1, &device));
    assert_ok(store_create(device, graph, 1, &store));
    assert_ok(store_create(device, graph, 2, &other));
    assert_ok(store_flat(store, "momentum", &momentum));
    assert_ok(store_flat(other, "momentum", &again));
    const StoreEntry *weight = store_find(store, "conv1.weight");
    assert_int_equal(weight->file_layout, FILE_CONVOLUTION_1D);
    for (int i = 0; i < store_count(store); ++i)
        fill(momentum + store_at(store, i)->offset, shape_count(store_at(store, i)->shape), (uint64_t)i);
    assert_ok(checkpoint_save(store, folder, "a", NULL, 0));
    assert_ok(checkpoint_load(other, folder, "a", &file));
    check_one_dimensional(safetensors_find(file, "conv1.weight"), weight->data);
    const SafeTensor *two = safetensors_find(file, "conv2.weight"), *table = safetensors_find(file, "table");
    assert_int_equal(two->rank, 4);
    assert_int_equal(two->extent[1], OUT);
    assert_int_equal(two->extent[2], 1);
    assert_int_equal(two->extent[3], 3);
    /* Rank 4, but no convolution: as in memory. */
    assert_int_equal(table->extent[2], 3);
    assert_memory_equal(table->data, store_find(store, "table")->data, 12 * sizeof(float));
    safetensors_close(file);
    const size_t bytes = (size_t)store_flat_count(store) * sizeof(float);
    assert_memory_equal(store_parameters(store), store_parameters(other), bytes);
    assert_memory_equal(momentum, again, bytes);
    (void)snprintf(path, sizeof path, "%s/a.optimizer.safetensors", folder);
    assert_ok(safetensors_open(path, &file));
    check_one_dimensional(safetensors_find(file, "momentum/conv1.weight"), momentum + weight->offset);
    safetensors_close(file);
    /* The same tensor as a two-dimensional convolution's: the file has another shape, which is named. */
    Graph *wrong = new_graph(GRAPH_EVALUATE);
    const Value x = graph_input(wrong, "x", shape_of(FLOAT32, 4, (const int64_t[]){1, 1, LENGTH, IN}));
    (void)conv2d(wrong, "conv1", x, (Conv2d){.channels = OUT, .kernel_height = 1, .kernel_width = WIDTH});
    assert_ok(graph_finish(wrong));
    store_free(other);
    assert_ok(store_create(device, wrong, 1, &other));
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layouts_in_files_are_those_of_the_parameters),
        cmocka_unit_test(layouts_must_fit_their_parameters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
