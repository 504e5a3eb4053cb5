#include "engine/ops/ops.h"
#include "models/networks.h"
#include "models/residual.h"

/* The published code's network for 64 x 64 images: a 3x3 stride-1 stem without max pool, and a 2x2 map left
 * before the classifier, which so has 4 x 2048 inputs. */
Value tiny_imagenet_resnet_build(Graph *graph, const ModelOptions *options, const Value input[],
                                 int64_t classes)
{
    const Resnet *published = options->model->published;
    const Residual network = {.stem = options->width,
                              .channels = options->width,
                              .bottleneck = published->bottleneck,
                              .stages = published->stages,
                              .blocks = options->blocks,
                              .projection = "downsample",
                              .init = INIT_HE_FAN_OUT,
                              .synchronize = options->synchronize};
    if (!model_check_images(graph, input[0], 8)) return NO_VALUE;

    Value x = residual_stages(graph, input[0], &network);
    x = flatten(graph, adaptive_average_pool2d(graph, x, 2, 2));
    return linear(graph, "fc", x, (Linear){.features = classes});
}
