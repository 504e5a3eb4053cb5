#include "models/model.h"

#include "models/global_pooling_cnn.h"
#include "models/networks.h"

static const Resnet resnet8 = {.width = 16, .stages = 3, .blocks = {1, 1, 1}};
static const Resnet resnet18 = {.width = 64, .stages = 4, .blocks = {2, 2, 2, 2}, .window = 4};
static const Resnet resnet34 = {.width = 64, .stages = 4, .blocks = {3, 4, 6, 3}, .window = 4};
static const Resnet resnet50 = {
    .bottleneck = true, .width = 64, .stages = 4, .blocks = {3, 4, 6, 3}, .window = 4};
static const Resnet resnet101 = {
    .bottleneck = true, .width = 64, .stages = 4, .blocks = {3, 4, 23, 3}, .window = 4};
static const Resnet resnet110 = {
    .bottleneck = true, .width = 64, .stages = 4, .blocks = {3, 4, 26, 3}, .window = 4};
static const Resnet resnet152 = {
    .bottleneck = true, .width = 64, .stages = 4, .blocks = {3, 8, 36, 3}, .window = 4};
static const Densenet densenet121 = {.growth = 32, .blocks = {6, 12, 24, 16}};
static const Densenet densenet169 = {.growth = 32, .blocks = {6, 12, 32, 32}};
static const PublishedTransformer transformer_small = {
    .width = 256, .feed_forward_width = 1024, .heads = 4, .layers = 3, .dropout = 0.1};
static const PublishedTransformer transformer_base = {
    .width = 512, .feed_forward_width = 2048, .heads = 8, .layers = 6, .dropout = 0.1};
static const PublishedTransformer transformer_big = {
    .width = 1024, .feed_forward_width = 4096, .heads = 16, .layers = 6, .dropout = 0.3};

static const Model models[] = {
    {"linear", "one linear layer on the pixels (appendix C of the paper)", MODEL_OF_IMAGES, NULL, NULL,
     linear_build},
    /* The smallest of the 6n + 2 layer networks that He et al. made for CIFAR-10, but with projections where the size
     * changes, like the others here. */
    {"resnet8", "ResNet-8: basic blocks [1,1,1] of 16, 32, 64 channels; for small runs", MODEL_OF_IMAGES,
     &resnet8, resnet_read, resnet_build},
    {"resnet18", "ResNet-18: basic blocks [2,2,2,2]", MODEL_OF_IMAGES, &resnet18, resnet_read, resnet_build},
    {"resnet34", "ResNet-34: basic blocks [3,4,6,3]", MODEL_OF_IMAGES, &resnet34, resnet_read, resnet_build},
    {"resnet50", "ResNet-50: bottleneck blocks [3,4,6,3]", MODEL_OF_IMAGES, &resnet50, resnet_read,
     resnet_build},
    {"resnet101", "ResNet-101: bottleneck blocks [3,4,23,3]", MODEL_OF_IMAGES, &resnet101, resnet_read,
     resnet_build},
    /* Not the 110-layer network of 6n + 2 basic layers that usually bears the name. */
    {"resnet110", "ResNet-110 of the published code: bottleneck blocks [3,4,26,3]", MODEL_OF_IMAGES,
     &resnet110, resnet_read, resnet_build},
    {"resnet152", "ResNet-152: bottleneck blocks [3,8,36,3]", MODEL_OF_IMAGES, &resnet152, resnet_read,
     resnet_build},
    {"tiny_imagenet_resnet50", "ResNet-50 with a 2x2 map before the classifier, He initialisation",
     MODEL_OF_IMAGES, &resnet50, resnet_read, tiny_imagenet_resnet_build},
    {"wide_resnet", "Wide-ResNet, 26-10 unless model.depth and model.widen say otherwise", MODEL_OF_IMAGES,
     NULL, wide_resnet_read, wide_resnet_build},
    {"densenet121", "DenseNet-121: dense blocks [6,12,24,16], growth rate 32", MODEL_OF_IMAGES, &densenet121,
     densenet_read, densenet_build},
    {"densenet169", "DenseNet-169: dense blocks [6,12,32,32], growth rate 32", MODEL_OF_IMAGES, &densenet169,
     densenet_read, densenet_build},
    {"global_pooling_cnn", "documents: three convolutions over word vectors, the maximum over all positions",
     MODEL_OF_DOCUMENTS, &global_pooling_cnn_published, document_network_read, document_network_build},
    {"tree_lstm", "trees: the binary constituency Tree-LSTM, a classifier at every node", MODEL_OF_TREES,
     NULL, tree_network_read, tree_network_build},
    {"transformer",
     "translation: a small Transformer, 3 + 3 layers of width 256, unless model.* say otherwise",
     MODEL_OF_TRANSLATION, &transformer_small, translation_network_read, translation_network_build},
    {"transformer_base", "translation: Transformer base, 6 + 6 layers of width 512 and 8 heads",
     MODEL_OF_TRANSLATION, &transformer_base, translation_network_read, translation_network_build},
    {"transformer_big", "translation: Transformer big, 6 + 6 layers of width 1024 and 16 heads, dropout 0.3",
     MODEL_OF_TRANSLATION, &transformer_big, translation_network_read, translation_network_build},
};
enum { MODEL_COUNT = sizeof models / sizeof models[0] };

const Model *models_table(int *count)
{
    *count = MODEL_COUNT;
    return models;
}

Status model_read(const Config *config, ModelOptions *options)
{
    const char *known[MODEL_COUNT];
    int index;
    *options = (ModelOptions){.model = NULL};
    for (int i = 0; i < MODEL_COUNT; ++i)
        known[i] = models[i].name;
    TRY(config_require(config, (const char *const[]){"model.name", NULL}));
    TRY(config_choose(config, "model.name", "network", "plumb list models", known, MODEL_COUNT, &index));
    options->model = &models[index];
    return options->model->read != NULL ? options->model->read(config, options) : OK;
}

Value model_build(Graph *graph, const ModelOptions *options, const Value input[], int64_t classes)
{
    return options->model->build(graph, options, input, classes);
}
