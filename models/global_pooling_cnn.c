#include "models/global_pooling_cnn.h"

#include "engine/ops/ops.h"

const GlobalPoolingCnn global_pooling_cnn_published = {
    .width = 128, .kernel = 5, .pool = 5, .pool_stride = 1, .dense = 128, .dropout = 0.3};

/* Outward from one output of the last convolution: a layer of `size` and `stride` turns n into (n - 1) * stride + size. */
int64_t global_pooling_cnn_field(const GlobalPoolingCnn *network)
{
    int64_t field = network->kernel;
    for (int pool = 0; pool < 2; ++pool)
        field = (field - 1) * network->pool_stride + network->pool + network->kernel - 1;
    return field;
}

Value global_pooling_cnn(Graph *graph, Value vectors, const GlobalPoolingCnn *network, int64_t classes)
{
    if (graph_failed(graph)) return NO_VALUE;
    const Shape shape = graph_shape(graph, vectors);
    const int64_t field = global_pooling_cnn_field(network);
    char text[SHAPE_TEXT];
    if (shape.rank != 3 || shape.extent[1] < field) {
        graph_fail(
            graph, STATUS_INPUT,
            "the network needs vectors [documents, positions, size] of at least %lld positions, not %s",
            (long long)field, shape_text(shape, text));
        return NO_VALUE;
    }
    const Conv1d conv = {
        .channels = network->width, .kernel = network->kernel, .bias = true, .init = INIT_GLOROT_UNIFORM};
    const Pool1d pool = {.kernel = network->pool, .stride = network->pool_stride};
    Value x = relu(graph, conv1d(graph, "conv1", vectors, conv));
    x = relu(graph, conv1d(graph, "conv2", max_pool1d(graph, x, pool), conv));
    x = relu(graph, conv1d(graph, "conv3", max_pool1d(graph, x, pool), conv));
    const Linear dense = {
        .features = network->dense, .init = INIT_GLOROT_UNIFORM, .type = graph_compute_type(graph)};
    x = relu(graph, linear(graph, "dense", global_max_pool1d(graph, x), dense));
    x = dropout(graph, "dropout", x, network->dropout);
    return linear(graph, "output", x, (Linear){.features = classes, .init = INIT_GLOROT_UNIFORM});
}
