#include "engine/ops/ops.h"
#include "models/networks.h"
#include "models/residual.h"

typedef struct {
    bool bottleneck;
    int64_t width; /* of stem and first stage */
    int stages;
    int64_t blocks[MODEL_MAX_STAGES];
    int64_t window; /* of the average before the classifier; 0: the whole map */
} Published;

static Value build(Graph *graph, const Config *config, Value images, int64_t classes,
                   const Published *published)
{
    int64_t width = model_width(config, published->width);
    Residual network = {.stem = width,
                        .channels = width,
                        .bottleneck = published->bottleneck,
                        .stages = published->stages,
                        .projection = "shortcut",
                        .init = INIT_PYTORCH,
                        .synchronize = config_flag(config, "model.sync_batch_norm")};
    if (!model_blocks(graph, config, published->blocks, published->stages, network.blocks)) return NO_VALUE;
    if (!model_check_images(graph, images, (int64_t)1 << (published->stages - 1))) return NO_VALUE;

    Value x = residual_stages(graph, images, &network);
    x = flatten(graph, model_average_map(graph, x, published->window));
    return linear(graph, "fc", x, (Linear){.features = classes});
}

/* The smallest of the 6n + 2 layer networks that He et al. made for CIFAR-10, but with projections where the
 * size changes, like the others here. */
Value resnet8_build(Graph *graph, const Config *config, Value images, int64_t classes)
{
    static const Published published = {.width = 16, .stages = 3, .blocks = {1, 1, 1}};
    return build(graph, config, images, classes, &published);
}

Value resnet18_build(Graph *graph, const Config *config, Value images, int64_t classes)
{
    static const Published published = {.width = 64, .stages = 4, .blocks = {2, 2, 2, 2}, .window = 4};
    return build(graph, config, images, classes, &published);
}

Value resnet34_build(Graph *graph, const Config *config, Value images, int64_t classes)
{
    static const Published published = {.width = 64, .stages = 4, .blocks = {3, 4, 6, 3}, .window = 4};
    return build(graph, config, images, classes, &published);
}

Value resnet50_build(Graph *graph, const Config *config, Value images, int64_t classes)
{
    static const Published published = {
        .bottleneck = true, .width = 64, .stages = 4, .blocks = {3, 4, 6, 3}, .window = 4};
    return build(graph, config, images, classes, &published);
}

Value resnet101_build(Graph *graph, const Config *config, Value images, int64_t classes)
{
    static const Published published = {
        .bottleneck = true, .width = 64, .stages = 4, .blocks = {3, 4, 23, 3}, .window = 4};
    return build(graph, config, images, classes, &published);
}

/* Not the 110-layer network of 6n + 2 basic layers that usually bears the name. */
Value resnet110_build(Graph *graph, const Config *config, Value images, int64_t classes)
{
    static const Published published = {
        .bottleneck = true, .width = 64, .stages = 4, .blocks = {3, 4, 26, 3}, .window = 4};
    return build(graph, config, images, classes, &published);
}

Value resnet152_build(Graph *graph, const Config *config, Value images, int64_t classes)
{
    static const Published published = {
        .bottleneck = true, .width = 64, .stages = 4, .blocks = {3, 8, 36, 3}, .window = 4};
    return build(graph, config, images, classes, &published);
}
