#include "engine/ops/ops.h"
#include "models/networks.h"
#include "models/residual.h"

enum { STAGES = 4 };

/* relu(bn(x)), then a convolution: normalisation comes first in this network. */
static Value norm_relu_convolution(Graph *graph, const char *norm, const char *convolution, Value x,
                                   BatchNorm options, int64_t channels, int64_t kernel)
{
    x = relu(graph, batch_norm(graph, norm, x, options));
    return conv2d(graph, convolution, x,
                  (Conv2d){.channels = channels, .kernel = kernel, .padding = kernel / 2});
}

/* New channels stand before old ones, as in the published code. */
static Value dense_block(Graph *graph, Value x, BatchNorm norm, int64_t layers, int64_t growth)
{
    for (int64_t layer = 0; layer < layers; ++layer) {
        graph_enter_format(graph, "%lld", (long long)layer);
        Value y = norm_relu_convolution(graph, "bn1", "conv1", x, norm, 4 * growth, 1);
        y = norm_relu_convolution(graph, "bn2", "conv2", y, norm, growth, 3);
        x = concat(graph, (Value[]){y, x}, 2);
        graph_leave(graph);
    }
    return x;
}

/* Half the channels (rounded down), half the map. */
static Value transition(Graph *graph, Value x, BatchNorm norm)
{
    if (graph_failed(graph)) return NO_VALUE;
    int64_t channels = shape_columns(graph_shape(graph, x)) / 2;
    x = norm_relu_convolution(graph, "bn", "conv", x, norm, channels, 1);
    return average_pool2d(graph, x, (Pool2d){.kernel = 2});
}

Status densenet_read(const Config *config, ModelOptions *options)
{
    const Densenet *published = options->model->published;
    options->width = model_read_width(config, published->growth);
    options->synchronize = config_flag(config, "model.sync_batch_norm");
    return model_read_blocks(config, published->blocks, STAGES, options->blocks);
}

Value densenet_build(Graph *graph, const ModelOptions *options, const Value input[], int64_t classes)
{
    const int64_t growth = options->width;
    const BatchNorm norm = {.synchronize = options->synchronize};
    if (!model_check_images(graph, input[0], 8)) return NO_VALUE;

    Value x = conv2d(graph, "conv1", input[0], (Conv2d){.channels = 2 * growth, .kernel = 3, .padding = 1});
    for (int stage = 0; stage < STAGES; ++stage) {
        graph_enter_format(graph, "dense%d", stage + 1);
        x = dense_block(graph, x, norm, options->blocks[stage], growth);
        graph_leave(graph);
        if (stage == STAGES - 1) break;
        graph_enter_format(graph, "trans%d", stage + 1);
        x = transition(graph, x, norm);
        graph_leave(graph);
    }
    x = relu(graph, batch_norm(graph, "bn", x, norm));
    x = flatten(graph, model_average_map(graph, x, 4));
    return linear(graph, "linear", x, (Linear){.features = classes});
}
