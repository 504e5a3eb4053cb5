#include "engine/ops/ops.h"
#include "models/networks.h"
#include "models/residual.h"

Value wide_resnet_build(Graph *graph, const Config *config, Value images, int64_t classes)
{
    enum { STAGES = 3 };
    int64_t depth = config_integer(config, "model.depth");
    int64_t width = model_width(config, 16);
    if ((depth - 2) % (2 * STAGES) != 0) {
        Status status =
            config_error(config, "model.depth", "%lld is not 6n + 2 (14, 20, 26, 32, ...)", (long long)depth);
        graph_fail(graph, status_code(status), "%s", status_message(status));
        status_free(status);
        return NO_VALUE;
    }
    int64_t blocks = (depth - 2) / (2 * STAGES); /* two convolutions each */
    Residual network = {.stem = width,           /* not widened */
                        .channels = width * config_integer(config, "model.widen"),
                        .stages = STAGES,
                        .blocks = {blocks, blocks, blocks},
                        .projection = "downsample",
                        .init = INIT_HE_FAN_OUT,
                        .dropout = config_real(config, "model.dropout"),
                        .synchronize = config_flag(config, "model.sync_batch_norm")};
    if (!model_check_images(graph, images, 4)) return NO_VALUE;

    Value x = residual_stages(graph, images, &network);
    x = flatten(graph, model_average_map(graph, x, 0));
    return linear(graph, "fc", x, (Linear){.features = classes});
}
