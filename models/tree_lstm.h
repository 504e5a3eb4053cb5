/* The binary constituency Tree-LSTM with a classifier at every node: Tai, Socher and Manning 2015, in the form of the code that
 * the calibration paper cites. */
#ifndef PLUMB_MODELS_TREE_LSTM_H
#define PLUMB_MODELS_TREE_LSTM_H

#include "engine/graph/graph.h"

typedef struct {
    int64_t memory, classes;
    bool leaf_gate, output_gate, nary; /* see TreeLstm (engine/ops/ops.h) */
    double dropout;                    /* of h before the classifier */
} TreeLstmNetwork;
/* The cited code: leaves have an output gate, inner nodes have none. */
#define TREE_LSTM_CITED ((TreeLstmNetwork){.memory = 150, .classes = 3, .leaf_gate = true, .dropout = 0.5})

/* vectors [leaf capacity, width] of the compute type, children and levels as tree_lstm takes them, key INT64 of all nodes
 * as dropout_by_key takes it (NO_VALUE: nodes are keyed by their rows) -> logits FLOAT32 [leaf
 * capacity + inner capacity, classes] of all nodes; in rows of no node the classifier's bias, which must weigh 0. */
Value tree_lstm_logits(Graph *, const TreeLstmNetwork *, Value vectors, Value children, Value levels,
                       Value key);

#endif
