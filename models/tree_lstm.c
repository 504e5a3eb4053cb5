#include "models/tree_lstm.h"

#include "engine/ops/ops.h"

Value tree_lstm_logits(Graph *graph, const TreeLstmNetwork *network, Value vectors, Value children,
                       Value levels, Value key)
{
    const TreeLstm form = {.memory = network->memory,
                           .leaf_gate = network->leaf_gate,
                           .output_gate = network->output_gate,
                           .nary = network->nary};
    Value h = tree_lstm(graph, network->nary ? "" : "tree_module", vectors, children, levels, form);
    h = dropout_by_key(graph, "dropout", h, key, network->dropout);
    graph_enter(graph, "output_module");
    const Value logits = linear(graph, "l1", h, (Linear){.features = network->classes});
    graph_leave(graph);
    return logits;
}
