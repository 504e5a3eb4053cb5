#include "engine/ops/ops.h"
#include "models/networks.h"
#include "models/residual.h"

/* The published code's network for 64 x 64 images: a 3x3 stride-1 stem without max pool, and a 2x2 map left
 * before the classifier, which so has 4 x 2048 inputs. */
Value tiny_imagenet_resnet50_build(Graph *graph, const Config *config, Value images, int64_t classes)
{
    static const int64_t blocks[] = {3, 4, 6, 3};
    int64_t width = model_width(config, 64);
    Residual network = {.stem = width,
                        .channels = width,
                        .bottleneck = true,
                        .stages = 4,
                        .projection = "downsample",
                        .init = INIT_HE_FAN_OUT,
                        .synchronize = config_flag(config, "model.sync_batch_norm")};
    if (!model_blocks(graph, config, blocks, network.stages, network.blocks)) return NO_VALUE;
    if (!model_check_images(graph, images, 8)) return NO_VALUE;

    Value x = residual_stages(graph, images, &network);
    x = flatten(graph, adaptive_average_pool2d(graph, x, 2, 2));
    return linear(graph, "fc", x, (Linear){.features = classes});
}
