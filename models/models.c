#include "models/model.h"

#include "models/networks.h"

#include <string.h>

static const Model models[] = {
    {"linear", "one linear layer on the pixels (appendix C of the paper)", linear_build},
    {"resnet8", "ResNet-8: basic blocks [1,1,1] of 16, 32, 64 channels; for small runs", resnet8_build},
    {"resnet18", "ResNet-18: basic blocks [2,2,2,2]", resnet18_build},
    {"resnet34", "ResNet-34: basic blocks [3,4,6,3]", resnet34_build},
    {"resnet50", "ResNet-50: bottleneck blocks [3,4,6,3]", resnet50_build},
    {"resnet101", "ResNet-101: bottleneck blocks [3,4,23,3]", resnet101_build},
    {"resnet110", "ResNet-110 of the published code: bottleneck blocks [3,4,26,3]", resnet110_build},
    {"resnet152", "ResNet-152: bottleneck blocks [3,8,36,3]", resnet152_build},
    {"tiny_imagenet_resnet50", "ResNet-50 with a 2x2 map before the classifier, He initialisation",
     tiny_imagenet_resnet50_build},
    {"wide_resnet", "Wide-ResNet, 26-10 unless model.depth and model.widen say otherwise", wide_resnet_build},
    {"densenet121", "DenseNet-121: dense blocks [6,12,24,16], growth rate 32", densenet121_build},
    {"densenet169", "DenseNet-169: dense blocks [6,12,32,32], growth rate 32", densenet169_build},
};
enum { MODEL_COUNT = sizeof models / sizeof models[0] };

const Model *models_table(int *count)
{
    *count = MODEL_COUNT;
    return models;
}

Status model_find(const Config *config, const Model **model)
{
    *model = NULL;
    TRY(config_require(config, (const char *const[]){"model.name", NULL}));
    const char *name = config_text(config, "model.name");
    const char *known[MODEL_COUNT];
    for (int index = 0; index < MODEL_COUNT; ++index) {
        known[index] = models[index].name;
        if (strcmp(known[index], name) == 0) {
            *model = &models[index];
            return OK;
        }
    }
    const char *nearest = config_nearest(name, known, MODEL_COUNT);
    if (nearest != NULL)
        return config_error(config, "model.name", "there is no network \"%s\"; did you mean \"%s\"?", name,
                            nearest);
    return config_error(config, "model.name", "there is no network \"%s\"; see: plumb list models", name);
}
