#include "engine/ops/ops.h"
#include "models/networks.h"
#include "models/residual.h"

enum { STAGES = 3 };

Status wide_resnet_read(const Config *config, ModelOptions *options)
{
    const int64_t depth = config_integer(config, "model.depth");
    options->width = model_read_width(config, 16);
    options->widen = config_integer(config, "model.widen");
    options->dropout = config_real(config, "model.dropout");
    options->synchronize = config_flag(config, "model.sync_batch_norm");
    if ((depth - 2) % (2 * STAGES) != 0)
        return config_error(config, "model.depth", "%lld is not 6n + 2 (14, 20, 26, 32, ...)",
                            (long long)depth);
    for (int stage = 0; stage < STAGES; ++stage)
        options->blocks[stage] = (depth - 2) / (2 * STAGES); /* two convolutions each */
    return OK;
}

Value wide_resnet_build(Graph *graph, const ModelOptions *options, const Value input[], int64_t classes)
{
    const Residual network = {.stem = options->width, /* not widened */
                              .channels = options->width * options->widen,
                              .stages = STAGES,
                              .blocks = options->blocks,
                              .projection = "downsample",
                              .init = INIT_HE_FAN_OUT,
                              .dropout = options->dropout,
                              .synchronize = options->synchronize};
    if (!model_check_images(graph, input[0], 4)) return NO_VALUE;

    Value x = residual_stages(graph, input[0], &network);
    x = flatten(graph, model_average_map(graph, x, 0));
    return linear(graph, "fc", x, (Linear){.features = classes});
}
