#include "engine/ops/ops.h"
#include "models/networks.h"
#include "models/tree_lstm.h"

Status tree_network_read(const Config *config, ModelOptions *options)
{
    options->embedding_width = config_integer(config, "model.embedding_width");
    options->freeze_embedding = config_flag(config, "model.freeze_embedding");
    options->memory = config_integer(config, "model.memory");
    options->leaf_gate = config_flag(config, "model.leaf_gate");
    options->output_gate = config_flag(config, "model.output_gate");
    options->dropout = config_real(config, "model.dropout");
    return OK;
}

Value tree_network_build(Graph *graph, const ModelOptions *options, const Value input[], int64_t classes)
{
    static const double unknown = 0.05; /* words without a vector start uniform in +-0.05 */
    const Embedding table = {.rows = options->vocabulary,
                             .width = options->embedding_width,
                             .init = {INIT_UNIFORM, unknown},
                             .training = options->freeze_embedding ? FROZEN : TRAINED};
    const TreeLstmNetwork network = {.memory = options->memory,
                                     .classes = classes,
                                     .leaf_gate = options->leaf_gate,
                                     .output_gate = options->output_gate,
                                     .dropout = options->dropout};
    const Value vectors = embedding(graph, "embedding", input[TREE_WORDS_INPUT], table);
    return tree_lstm_logits(graph, &network, vectors, input[TREE_CHILDREN_INPUT], input[TREE_LEVELS_INPUT],
                            input[TREE_KEY_INPUT]);
}
