/* What the files of tree_lstm share: the binary constituency Tree-LSTM of Tai, Socher and Manning, "Improved Semantic
 * Representations From Tree-Structured Long Short-Term Memory Networks", 2015, over a batch of trees.
 *
 * The trees are data, not graph. Nodes stand sorted by height: first all leaves, then all nodes of height 1, and so on. A
 * level (the nodes of one height) is one matrix product, so a batch takes as many products as its highest tree has levels,
 * and the gradient of a weight is one product over all inner nodes. Arrays have a capacity, which is their shape; how many
 * rows there are is data (TREE_LSTM_LEVELS). So one plan serves trees of any shape up to its capacity: nothing is planned
 * or recorded anew in training. Kernels work on the rows that exist.
 *
 * On the CPU a thread owns units of the memory, all gates of them, so that its weights stay in its second-level cache from
 * level to level; threads meet once a level. (So no more threads than vectors of units are of use: 10 for 150 units.)
 *
 * On CUDA each level is a launch (two in backward) whose blocks read the level's bounds from device memory. A recorded step
 * holds as many launches as the levels array has room for; those of absent levels end at once. That costs about 2
 * microseconds an absent level and launch: 60 in a step that has room for 30 levels and trees of 20. In return the record
 * is never made anew, no host waits for a height, and no grid-wide barrier asks for all blocks to be resident at once. */
#ifndef PLUMB_ENGINE_OPS_TREE_LSTM_H
#define PLUMB_ENGINE_OPS_TREE_LSTM_H

#include "engine/graph/op.h"

/* With s the logistic function, x a leaf's vector, l and r the children:
 *     leaf:  C = W_C x + b_C          c = C if there is no W_I, else s(W_I x + b_I) tanh(C)
 *            h = tanh(c)              times s(W_O x + b_O) if there is a W_O
 *     inner: G = L_G h_l + R_G h_r + b_G + b'_G  for G = I, F (of the left cell), F' (of the right), U and maybe O
 *            c = s(I) tanh(U) + s(F) c_l + s(F') c_r
 *            h = tanh(c)              times s(O) if there is an O */
typedef enum { TREE_LEAF_CELL, TREE_LEAF_OUTPUT, TREE_LEAF_INPUT, TREE_LEAF_PARTS } TreeLeafPart;
typedef enum {
    TREE_GATE_INPUT,
    TREE_GATE_LEFT_FORGET,
    TREE_GATE_RIGHT_FORGET,
    TREE_GATE_UPDATE,
    TREE_GATE_OUTPUT,
    TREE_GATES
} TreeGate;

/* Inputs. Weights are FLOAT32 [memory, in], biases FLOAT32 [memory]. Absent are those of absent leaf parts and of an absent
 * output gate; any bias may be absent, and one value may be the bias of several gates. */
enum {
    TREE_LSTM_X, /* [leaf capacity, width]: rows of leaves; further rows are not read */
    TREE_LSTM_CHILDREN, /* INT32 [inner capacity, 2]: left and right child of each inner node, as nodes: leaf i is node i,
                           inner node j is node leaves + j. A node is the child of at most one node of a higher level */
    TREE_LSTM_LEVELS, /* INT32 [1 + most levels]: where each level ends, as nodes: [0] is the number of leaves, the last
                           entry that of all nodes; levels that do not exist are empty */
    TREE_LSTM_LEAF_WEIGHT,
    TREE_LSTM_LEAF_BIAS = TREE_LSTM_LEAF_WEIGHT + TREE_LEAF_PARTS,
    TREE_LSTM_LEFT_WEIGHT = TREE_LSTM_LEAF_BIAS + TREE_LEAF_PARTS,
    TREE_LSTM_RIGHT_WEIGHT = TREE_LSTM_LEFT_WEIGHT + TREE_GATES,
    TREE_LSTM_LEFT_BIAS = TREE_LSTM_RIGHT_WEIGHT + TREE_GATES,
    TREE_LSTM_RIGHT_BIAS = TREE_LSTM_LEFT_BIAS + TREE_GATES,
    TREE_LSTM_INPUTS = TREE_LSTM_RIGHT_BIAS + TREE_GATES,
    TREE_LSTM_FIRST_PARAMETER = TREE_LSTM_LEAF_WEIGHT
};
/* CELLS and GATES are for backward; how they are laid out is the device's matter. */
enum {
    TREE_LSTM_H,     /* [leaf capacity + inner capacity, memory]; 0 in rows of no node */
    TREE_LSTM_CELLS, /* FLOAT32 [rows of h, tree_lstm_units]: c */
    TREE_LSTM_GATES, /* FLOAT32 [rows of h, gates * tree_lstm_units]: what s and tanh gave */
    TREE_LSTM_OUTPUTS
};

/* Of backward. Its outputs are the gradients of the inputs above, in their order but for CHILDREN and LEVELS; those of
 * absent parameters are scalars that no kernel writes. */
enum {
    TREE_LSTM_BACKWARD_DH,
    TREE_LSTM_BACKWARD_H,
    TREE_LSTM_BACKWARD_CELLS,
    TREE_LSTM_BACKWARD_GATES,
    TREE_LSTM_BACKWARD_FORWARD, /* from here on: the inputs of forward */
    TREE_LSTM_BACKWARD_INPUTS = TREE_LSTM_BACKWARD_FORWARD + TREE_LSTM_LEFT_BIAS
};
enum {
    TREE_LSTM_BACKWARD_DX,
    TREE_LSTM_BACKWARD_PARAMETERS, /* from here on: of input TREE_LSTM_FIRST_PARAMETER, ... */
    TREE_LSTM_BACKWARD_OUTPUTS = TREE_LSTM_BACKWARD_PARAMETERS + TREE_LSTM_INPUTS - TREE_LSTM_FIRST_PARAMETER
};

/* Of both ops. */
typedef struct {
    bool leaf_part[TREE_LEAF_PARTS]; /* which there are */
    bool output_gate;
    uint32_t biases; /* bit i: input TREE_LSTM_FIRST_PARAMETER + i is there, if it is a bias */
} TreeLstmAttributes;

/* Units of the memory, rounded up so that rows of a saved tensor are whole vectors. */
enum { TREE_LSTM_UNIT_BLOCK = 16 };
static inline int64_t tree_lstm_units(int64_t memory)
{
    return (memory + TREE_LSTM_UNIT_BLOCK - 1) / TREE_LSTM_UNIT_BLOCK * TREE_LSTM_UNIT_BLOCK;
}
static inline int tree_lstm_gates(const TreeLstmAttributes *a)
{
    return a->output_gate ? TREE_GATES : TREE_GATES - 1;
}

/* The node of these inputs, which says what there is; tree_lstm (ops.h) makes the parameters of the usual forms. */
Value tree_lstm_node(Graph *, const Value inputs[TREE_LSTM_INPUTS]);

extern const Kernel tree_lstm_cpu;
extern const Kernel tree_lstm_cuda OPTIONAL_KERNEL;
extern const Kernel tree_lstm_backward_cpu;
extern const Kernel tree_lstm_backward_cuda OPTIONAL_KERNEL;

#endif
