#include "engine/ops/ops.h"
#include "models/networks.h"
#include "models/residual.h"

Status resnet_read(const Config *config, ModelOptions *options)
{
    const Resnet *published = options->model->published;
    options->width = model_read_width(config, published->width);
    options->synchronize = config_flag(config, "model.sync_batch_norm");
    return model_read_blocks(config, published->blocks, published->stages, options->blocks);
}

Value resnet_build(Graph *graph, const ModelOptions *options, const Value input[], int64_t classes)
{
    const Resnet *published = options->model->published;
    const Residual network = {.stem = options->width,
                              .channels = options->width,
                              .bottleneck = published->bottleneck,
                              .stages = published->stages,
                              .blocks = options->blocks,
                              .projection = "shortcut",
                              .init = INIT_PYTORCH,
                              .synchronize = options->synchronize};
    if (!model_check_images(graph, input[0], (int64_t)1 << (published->stages - 1))) return NO_VALUE;

    Value x = residual_stages(graph, input[0], &network);
    x = flatten(graph, model_average_map(graph, x, published->window));
    return linear(graph, "fc", x, (Linear){.features = classes});
}
