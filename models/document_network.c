#include "engine/ops/ops.h"
#include "models/global_pooling_cnn.h"
#include "models/networks.h"

Status document_network_read(const Config *config, ModelOptions *options)
{
    options->embedding_width = config_integer(config, "model.embedding_width");
    options->freeze_embedding = config_flag(config, "model.freeze_embedding");
    options->receptive_field = global_pooling_cnn_field(options->model->published);
    return OK;
}

Value document_network_build(Graph *graph, const ModelOptions *options, const Value input[], int64_t classes)
{
    static const double keras = 0.05; /* Keras' Embedding starts uniform in +-0.05 */
    const Embedding table = {.rows = options->vocabulary,
                             .width = options->embedding_width,
                             .padded = true,
                             .init =
                                 options->has_vectors ? (Init){INIT_ZEROS, 0} : (Init){INIT_UNIFORM, keras},
                             .training = options->freeze_embedding ? FROZEN : TRAINED};
    return global_pooling_cnn(graph, embedding(graph, "embedding", input[0], table),
                              options->model->published, classes);
}
