#include "models/residual.h"

enum { EXPANSION = 4 }; /* of bottleneck blocks */

bool model_check_images(Graph *graph, Value images, int64_t smallest)
{
    if (graph_failed(graph)) return false;
    Shape shape = graph_shape(graph, images);
    char text[SHAPE_TEXT];
    if (shape.rank != 4) {
        graph_fail(graph, STATUS_INPUT, "the network takes images [samples, height, width, channels], not %s",
                   shape_text(shape, text));
        return false;
    }
    if (shape.extent[1] < smallest || shape.extent[2] < smallest) {
        graph_fail(
            graph, STATUS_INPUT, "the network takes images of %lld x %lld pixels or more, not %lld x %lld",
            (long long)smallest, (long long)smallest, (long long)shape.extent[1], (long long)shape.extent[2]);
        return false;
    }
    return true;
}

int64_t model_read_width(const Config *config, int64_t published)
{
    const int64_t width = config_integer(config, "model.width");
    return width > 0 ? width : published;
}

Status model_read_blocks(const Config *config, const int64_t published[], int stages,
                         int64_t blocks[MODEL_MAX_STAGES])
{
    const int64_t *given;
    const int count = config_integers(config, "model.blocks", &given);
    if (count != 0 && count != stages)
        return config_error(config, "model.blocks", "%s has %d stages, but %d numbers are given",
                            config_text(config, "model.name"), stages, count);
    for (int stage = 0; stage < stages; ++stage)
        blocks[stage] = count == 0 ? published[stage] : given[stage];
    return OK;
}

Value model_average_map(Graph *graph, Value x, int64_t window)
{
    if (graph_failed(graph)) return NO_VALUE;
    Shape shape = graph_shape(graph, x);
    int64_t height = shape.extent[1], width = shape.extent[2];
    bool one_window = window > 0 && height / window == 1 && width / window == 1;
    if (one_window) return average_pool2d(graph, x, (Pool2d){.kernel = window});
    return adaptive_average_pool2d(graph, x, 1, 1);
}

static Value convolution(Graph *graph, const char *name, Value x, const Residual *network, int64_t channels,
                         int64_t kernel, int64_t stride)
{
    return conv2d(graph, name, x,
                  (Conv2d){.channels = channels,
                           .kernel = kernel,
                           .stride = stride,
                           .padding = kernel / 2,
                           .init = network->init});
}

static Value norm(Graph *graph, const char *name, Value x, const Residual *network)
{
    return batch_norm(graph, name, x, (BatchNorm){.synchronize = network->synchronize});
}

/* relu(F(x) + shortcut(x)). The shortcut comes after the convolutions, as in the published code: its order is
 * that of the parameters in a file. */
static Value block(Graph *graph, Value x, const Residual *network, int64_t channels, int64_t stride)
{
    if (graph_failed(graph)) return NO_VALUE;
    bool bottleneck = network->bottleneck;
    int64_t channels_out = bottleneck ? EXPANSION * channels : channels;

    Value y = convolution(graph, "conv1", x, network, channels, bottleneck ? 1 : 3, bottleneck ? 1 : stride);
    y = relu(graph, norm(graph, "bn1", y, network));
    if (bottleneck) {
        y = convolution(graph, "conv2", y, network, channels, 3, stride);
        y = relu(graph, norm(graph, "bn2", y, network));
    }
    if (network->dropout > 0) y = dropout(graph, "dropout", y, network->dropout);
    y = convolution(graph, bottleneck ? "conv3" : "conv2", y, network, channels_out, bottleneck ? 1 : 3, 1);
    y = norm(graph, bottleneck ? "bn3" : "bn2", y, network);

    Value shortcut = x;
    if (stride != 1 || shape_columns(graph_shape(graph, x)) != channels_out) {
        graph_enter(graph, network->projection);
        shortcut = convolution(graph, "0", x, network, channels_out, 1, stride);
        shortcut = norm(graph, "1", shortcut, network);
        graph_leave(graph);
    }
    return relu(graph, add(graph, y, shortcut));
}

Value residual_stages(Graph *graph, Value images, const Residual *network)
{
    Value x = convolution(graph, "conv1", images, network, network->stem, 3, 1);
    x = relu(graph, norm(graph, "bn1", x, network));
    int64_t channels = network->channels;
    for (int stage = 0; stage < network->stages; ++stage) {
        graph_enter_format(graph, "layer%d", stage + 1);
        for (int64_t index = 0; index < network->blocks[stage]; ++index) {
            graph_enter_format(graph, "%lld", (long long)index);
            x = block(graph, x, network, channels, stage > 0 && index == 0 ? 2 : 1);
            graph_leave(graph);
        }
        graph_leave(graph);
        channels *= 2;
    }
    return x;
}
