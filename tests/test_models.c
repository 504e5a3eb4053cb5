/* The networks: their sizes, initialisation, and checks on settings and images. */
#include "tests/network.h"

#include "engine/graph/op.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- any classes, channels, sizes ---- */

static void test_shapes(void **state)
{
    (void)state;
    static const int64_t images[][4] = {{2, 28, 28, 1}, {2, 32, 32, 3}, {1, 64, 64, 3}, {2, 45, 37, 4}};
    int count;
    const Model *models = models_table(&count);
    for (int m = 0; m < count; ++m) {
        if (models[m].input != MODEL_OF_IMAGES) continue;
        char setting[64];
        (void)snprintf(setting, sizeof setting, "model.name=%s", models[m].name);
        Config *config = config_of((const char *const[]){setting, NULL});
        for (size_t i = 0; i < sizeof images / sizeof images[0]; ++i) {
            Value logits;
            Graph *graph = network_graph(config, GRAPH_TRAIN, BFLOAT16, images[i], 7, &logits);
            assert_true(shape_equal(graph_shape(graph, logits),
                                    shape_of(FLOAT32, 2, (const int64_t[]){images[i][0], 7})));
            graph_free(graph);
        }
        config_free(config);
    }
}

static void test_dropout_stands_before_the_second_convolution(void **state)
{
    (void)state;
    Config *config = config_of(
        (const char *const[]){"model.name=wide_resnet", "model.depth=8", "model.dropout=0.3", NULL});
    Value logits;
    Graph *graph = network_graph(config, GRAPH_TRAIN, FLOAT32, (const int64_t[]){1, 32, 32, 3}, 10, &logits);
    int found = 0;
    for (int n = 0; n < graph_node_count(graph); ++n) {
        const Node *node = graph_node_at(graph, n);
        if (strcmp(node->op->name, "conv2d") != 0 || strstr(node->scope, ".conv2") == NULL) continue;
        int before = graph_producer(graph, node->input[0]);
        assert_string_equal(graph_node_at(graph, before)->op->name, "dropout");
        ++found;
    }
    assert_int_equal(found, 3);
    graph_free(graph);
    config_free(config);
}

/* ---- bad settings and images ---- */

static Status build(const char *const settings[], const int64_t images[4])
{
    Config *config = config_of(settings);
    ModelOptions model;
    Status status = model_read(config, &model);
    if (status == OK) {
        Graph *graph;
        assert_ok(graph_create(GRAPH_TRAIN, FLOAT32, &graph));
        const Value input = graph_input(graph, "images", shape_of(FLOAT32, 4, images));
        (void)model_build(graph, &model, &input, 10);
        status = graph_finish(graph);
        graph_free(graph);
    }
    config_free(config);
    return status;
}

static void test_errors(void **state)
{
    (void)state;
    static const int64_t images[4] = {2, 32, 32, 3}, small[4] = {2, 32, 7, 3};
    assert_fails(build((const char *const[]){"model.name=resnet5O", NULL}, images), STATUS_INPUT, "resnet50");
    assert_fails(build((const char *const[]){"model.name=perceiver", NULL}, images), STATUS_INPUT,
                 "plumb list models");
    assert_fails(build((const char *const[]){NULL}, images), STATUS_INPUT, "model.name");
    assert_fails(build((const char *const[]){"model.name=resnet50", "model.blocks=[1,2]", NULL}, images),
                 STATUS_INPUT, "model.blocks");
    assert_fails(build((const char *const[]){"model.name=wide_resnet", "model.depth=27", NULL}, images),
                 STATUS_INPUT, "6n + 2");
    static const char *const names[] = {"resnet18", "resnet50", "densenet121", "tiny_imagenet_resnet50"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; ++i) {
        char setting[64];
        (void)snprintf(setting, sizeof setting, "model.name=%s", names[i]);
        assert_fails(build((const char *const[]){setting, NULL}, small), STATUS_INPUT,
                     "8 x 8 pixels or more");
    }
}

/* A row of values instead of images. */
static void test_images_have_four_dimensions(void **state)
{
    (void)state;
    Config *config = config_of((const char *const[]){"model.name=linear", NULL});
    ModelOptions model;
    Graph *graph;
    assert_ok(model_read(config, &model));
    assert_ok(graph_create(GRAPH_TRAIN, FLOAT32, &graph));
    Value rows = graph_input(graph, "rows", shape_of(FLOAT32, 2, (const int64_t[]){2, 784}));
    (void)model_build(graph, &model, &rows, 10);
    assert_fails(graph_finish(graph), STATUS_INPUT, "[samples, height, width, channels]");
    graph_free(graph);
    config_free(config);
}

/* ---- initialisation ---- */

typedef struct {
    double largest, mean, variance, fourth; /* fourth: E x^4 / variance^2 */
} Moments;

static Moments moments(const float *values, int64_t count)
{
    Moments result = {0, 0, 0, 0};
    for (int64_t i = 0; i < count; ++i) {
        double value = (double)values[i];
        result.largest = fmax(result.largest, fabs(value));
        result.mean += value / (double)count;
        result.variance += value * value / (double)count;
        result.fourth += value * value * value * value / (double)count;
    }
    result.fourth /= result.variance * result.variance;
    return result;
}

static const int64_t images32[4] = {2, 32, 32, 3};

static void check_uniform(const StoreEntry *entry, double fan_in)
{
    int64_t count = shape_count(entry->shape);
    double bound = 1 / sqrt(fan_in);
    Moments got = moments(entry->data, count);
    assert_true(got.largest <= bound);
    if (count < 2000) return;
    double noise = 5 / sqrt((double)count); /* five standard errors and more of each */
    assert_true(got.largest > 0.98 * bound);
    assert_true(fabs(got.mean) < noise * bound);
    assert_true(fabs(got.variance / (bound * bound / 3) - 1) < noise);
    assert_true(fabs(got.fourth - 1.8) < 2 * noise);
}

static void check_normal(const StoreEntry *entry, double fan_out)
{
    int64_t count = shape_count(entry->shape);
    if (count < 2000) return;
    double noise = 5 / sqrt((double)count), variance = 2 / fan_out;
    Moments got = moments(entry->data, count);
    assert_true(fabs(got.mean) < noise * sqrt(variance));
    assert_true(fabs(got.variance / variance - 1) < 2 * noise);
    assert_true(fabs(got.fourth - 3) < 10 * noise);
}

static void check_constant(const StoreEntry *entry, float value)
{
    for (int64_t i = 0; i < shape_count(entry->shape); ++i)
        assert_true(((const float *)entry->data)[i] == value);
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

static void check_initialisation(const char *name, bool he)
{
    char setting[64];
    (void)snprintf(setting, sizeof setting, "model.name=%s", name);
    Network network;
    network_open(&network, (const char *const[]){setting, "model.width=16", "model.widen=2", NULL}, FLOAT32,
                 images32, 10);
    int convolutions = 0;
    for (int i = 0; i < store_count(network.store); ++i) {
        const StoreEntry *entry = store_at(network.store, i);
        const int64_t *extent = entry->shape.extent;
        if (entry->shape.type == INT64)
            assert_int_equal(*(const int64_t *)entry->data, 0);
        else if (entry->shape.rank == 4) {
            ++convolutions;
            if (he)
                check_normal(entry, (double)(extent[0] * extent[1] * extent[2]));
            else
                check_uniform(entry, (double)(extent[1] * extent[2] * extent[3]));
        } else if (entry->shape.rank == 2)
            check_uniform(entry, (double)extent[1]);
        else if (strncmp(entry->name, "fc.", 3) == 0 || strncmp(entry->name, "linear.", 7) == 0) {
            const char *weight = entry->name[0] == 'f' ? "fc.weight" : "linear.weight";
            check_uniform(entry, (double)store_find(network.store, weight)->shape.extent[1]);
            assert_true(((const float *)entry->data)[0] != 0);
        } else if (ends_with(entry->name, ".bias") || ends_with(entry->name, "running_mean"))
            check_constant(entry, 0);
        else
            check_constant(entry, 1);
    }
    assert_true(convolutions > 10);
    network_close(&network);
}

static void test_initialisation(void **state)
{
    (void)state;
    check_initialisation("resnet18", false);
    check_initialisation("densenet121", false);
    check_initialisation("wide_resnet", true);
    check_initialisation("tiny_imagenet_resnet50", true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_dropout_stands_before_the_second_convolution),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_images_have_four_dimensions),
        cmocka_unit_test(test_initialisation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
