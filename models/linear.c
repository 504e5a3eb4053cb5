#include "engine/ops/ops.h"
#include "models/networks.h"
#include "models/residual.h"

Value linear_build(Graph *graph, const Config *config, Value images, int64_t classes)
{
    (void)config;
    if (!model_check_images(graph, images, 1)) return NO_VALUE;
    return linear(graph, "fc", flatten(graph, images), (Linear){.features = classes});
}
