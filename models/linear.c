#include "engine/ops/ops.h"
#include "models/networks.h"
#include "models/residual.h"

Value linear_build(Graph *graph, const ModelOptions *options, const Value input[], int64_t classes)
{
    (void)options;
    if (!model_check_images(graph, input[0], 1)) return NO_VALUE;
    return linear(graph, "fc", flatten(graph, input[0]), (Linear){.features = classes});
}
