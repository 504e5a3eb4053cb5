/* Binary Tree-LSTM: builders, shapes, gradient, cost. */
#include "engine/ops/tree_lstm.h"

#include "engine/ops/ops.h"
#include "engine/ops/table.h"

#include <math.h>

static bool is_bias(int input)
{
    return (input >= TREE_LSTM_LEAF_BIAS && input < TREE_LSTM_LEFT_WEIGHT) || input >= TREE_LSTM_LEFT_BIAS;
}

/* Is this parameter there? */
static bool is_present(const TreeLstmAttributes *a, int input)
{
    if (is_bias(input)) return (a->biases >> (input - TREE_LSTM_FIRST_PARAMETER) & 1U) != 0;
    if (input < TREE_LSTM_LEAF_BIAS) return a->leaf_part[input - TREE_LSTM_LEAF_WEIGHT];
    return a->output_gate || (input - TREE_LSTM_LEFT_WEIGHT) % TREE_GATES != TREE_GATE_OUTPUT;
}

static Shape parameter_shape(int input, int64_t width, int64_t memory)
{
    if (is_bias(input)) return shape_of(FLOAT32, 1, (int64_t[]){memory});
    const int64_t columns = input < TREE_LSTM_LEAF_BIAS ? width : memory;
    return shape_of(FLOAT32, 2, (int64_t[]){memory, columns});
}

/* Checks x, children, levels and the weights, which stand at in[0], ...; [first, last): the inputs to check. */
static Status check_inputs(const Node *node, const Shape in[], int last)
{
    const TreeLstmAttributes *a = node->attributes;
    const Shape x = in[TREE_LSTM_X], children = in[TREE_LSTM_CHILDREN], levels = in[TREE_LSTM_LEVELS];
    char text[SHAPE_TEXT];
    if (x.rank != 2 || !op_is_activation_type(x.type))
        return fail(STATUS_INPUT, "%s: x must be float32 or bfloat16 [leaves, width], not %s", node->op->name,
                    shape_text(x, text));
    if (children.rank != 2 || children.type != INT32 || children.extent[1] != 2)
        return fail(STATUS_INPUT, "%s: children must be int32 [inner nodes, 2], not %s", node->op->name,
                    shape_text(children, text));
    if (levels.rank != 1 || levels.type != INT32)
        return fail(STATUS_INPUT, "%s: levels must be int32 [1 + most levels], not %s", node->op->name,
                    shape_text(levels, text));
    if (!a->leaf_part[TREE_LEAF_CELL] || in[TREE_LSTM_LEAF_WEIGHT].rank != 2)
        return fail(STATUS_INPUT, "%s needs the weight of a leaf's cell", node->op->name);
    const int64_t memory = in[TREE_LSTM_LEAF_WEIGHT].extent[0];
    for (int i = TREE_LSTM_FIRST_PARAMETER; i < last; ++i) {
        if (!is_present(a, i)) {
            if (in[i].rank >= 0)
                return fail(STATUS_INTERNAL, "%s has parameter %d, which must be absent", node->op->name, i);
            continue;
        }
        TRY(op_expect_shape(in[i], parameter_shape(i, x.extent[1], memory), "a parameter"));
    }
    return OK;
}

static void output_shapes(const TreeLstmAttributes *a, const Shape in[], Shape out[TREE_LSTM_OUTPUTS])
{
    const int64_t nodes = in[TREE_LSTM_X].extent[0] + in[TREE_LSTM_CHILDREN].extent[0];
    const int64_t memory = in[TREE_LSTM_LEAF_WEIGHT].extent[0], units = tree_lstm_units(memory);
    out[TREE_LSTM_H] = shape_of(in[TREE_LSTM_X].type, 2, (int64_t[]){nodes, memory});
    out[TREE_LSTM_CELLS] = shape_of(FLOAT32, 2, (int64_t[]){nodes, units});
    out[TREE_LSTM_GATES] = shape_of(FLOAT32, 2, (int64_t[]){nodes, units * tree_lstm_gates(a)});
}

static Status infer(const Node *node, const Shape in[], Shape out[])
{
    TRY(check_inputs(node, in, TREE_LSTM_INPUTS));
    output_shapes(node->attributes, in, out);
    return OK;
}

static void gradient(Graph *graph, const Node *node, const Value d_out[], const bool wanted[], Value d_in[])
{
    if (!value_exists(d_out[TREE_LSTM_H])) return;
    Value inputs[TREE_LSTM_BACKWARD_INPUTS] = {
        [TREE_LSTM_BACKWARD_DH] = d_out[TREE_LSTM_H],
        [TREE_LSTM_BACKWARD_H] = node->output[TREE_LSTM_H],
        [TREE_LSTM_BACKWARD_CELLS] = node->output[TREE_LSTM_CELLS],
        [TREE_LSTM_BACKWARD_GATES] = node->output[TREE_LSTM_GATES],
    };
    for (int i = TREE_LSTM_BACKWARD_FORWARD; i < TREE_LSTM_BACKWARD_INPUTS; ++i)
        inputs[i] = node->input[i - TREE_LSTM_BACKWARD_FORWARD];
    const TreeLstmAttributes *a = node->attributes;
    const Value dx =
        graph_node(graph, &tree_lstm_backward_op, inputs, TREE_LSTM_BACKWARD_INPUTS, a, sizeof *a);
    if (wanted[TREE_LSTM_X]) d_in[TREE_LSTM_X] = dx;
    for (int i = TREE_LSTM_FIRST_PARAMETER; i < TREE_LSTM_INPUTS; ++i)
        if (wanted[i])
            d_in[i] = graph_output(graph, dx, TREE_LSTM_BACKWARD_PARAMETERS + i - TREE_LSTM_FIRST_PARAMETER);
}

static Status backward_infer(const Node *node, const Shape in[], Shape out[])
{
    const TreeLstmAttributes *a = node->attributes;
    const Shape *forward = in + TREE_LSTM_BACKWARD_FORWARD;
    TRY(check_inputs(node, forward, TREE_LSTM_LEFT_BIAS));
    Shape made[TREE_LSTM_OUTPUTS];
    output_shapes(a, forward, made);
    TRY(op_expect_shape(in[TREE_LSTM_BACKWARD_DH], made[TREE_LSTM_H], "the gradient of h"));
    TRY(op_expect_shape(in[TREE_LSTM_BACKWARD_H], made[TREE_LSTM_H], "h"));
    TRY(op_expect_shape(in[TREE_LSTM_BACKWARD_CELLS], made[TREE_LSTM_CELLS], "cells"));
    TRY(op_expect_shape(in[TREE_LSTM_BACKWARD_GATES], made[TREE_LSTM_GATES], "gates"));
    out[TREE_LSTM_BACKWARD_DX] = forward[TREE_LSTM_X];
    for (int i = TREE_LSTM_FIRST_PARAMETER; i < TREE_LSTM_INPUTS; ++i)
        if (is_present(a, i))
            out[TREE_LSTM_BACKWARD_PARAMETERS + i - TREE_LSTM_FIRST_PARAMETER] =
                parameter_shape(i, forward[TREE_LSTM_X].extent[1], forward[TREE_LSTM_LEAF_WEIGHT].extent[0]);
    return OK;
}

/* Of a full batch: how many rows exist is not known here. */
static double product_flops(const TreeLstmAttributes *a, const Shape in[])
{
    const double memory = (double)in[TREE_LSTM_LEAF_WEIGHT].extent[0],
                 inner = (double)in[TREE_LSTM_CHILDREN].extent[0];
    double parts = 0;
    for (int i = 0; i < TREE_LEAF_PARTS; ++i)
        parts += a->leaf_part[i];
    return 2 * memory *
           ((double)shape_count(in[TREE_LSTM_X]) * parts + 2 * memory * inner * tree_lstm_gates(a));
}

static Cost cost(const Node *node, const Shape in[], const Shape out[])
{
    return (Cost){.flops = product_flops(node->attributes, in), .bytes = op_bytes(node, in, out)};
}

static Cost backward_cost(const Node *node, const Shape in[], const Shape out[])
{
    return (Cost){.flops = 2 * product_flops(node->attributes, in + TREE_LSTM_BACKWARD_FORWARD),
                  .bytes = op_bytes(node, in, out)};
}

const Op tree_lstm_op = {.name = "tree_lstm",
                         .output_count = TREE_LSTM_OUTPUTS,
                         .infer = infer,
                         .gradient = gradient,
                         .cost = cost,
                         .kernel = {[DEVICE_CPU] = &tree_lstm_cpu, [DEVICE_CUDA] = &tree_lstm_cuda}};

const Op tree_lstm_backward_op = {
    .name = "tree_lstm_backward",
    .output_count = TREE_LSTM_BACKWARD_OUTPUTS,
    .infer = backward_infer,
    .cost = backward_cost,
    .kernel = {[DEVICE_CPU] = &tree_lstm_backward_cpu, [DEVICE_CUDA] = &tree_lstm_backward_cuda}};

Value tree_lstm_node(Graph *graph, const Value inputs[TREE_LSTM_INPUTS])
{
    TreeLstmAttributes a = {.output_gate = value_exists(inputs[TREE_LSTM_LEFT_WEIGHT + TREE_GATE_OUTPUT])};
    for (int i = 0; i < TREE_LEAF_PARTS; ++i)
        a.leaf_part[i] = value_exists(inputs[TREE_LSTM_LEAF_WEIGHT + i]);
    for (int i = TREE_LSTM_FIRST_PARAMETER; i < TREE_LSTM_INPUTS; ++i)
        if (is_bias(i) && value_exists(inputs[i])) a.biases |= 1U << (i - TREE_LSTM_FIRST_PARAMETER);
    return graph_node(graph, &tree_lstm_op, inputs, TREE_LSTM_INPUTS, &a, sizeof a);
}

/* ---- the usual forms ---- */

/* torch's default: uniform within 1/sqrt(in), the bias too. */
static Value parameter(Graph *graph, const char *name, Shape shape, int64_t in)
{
    return graph_parameter(graph, name, shape, (Init){INIT_UNIFORM, 1 / sqrt((double)in)});
}

static void layer(Graph *graph, const char *name, int64_t in, int64_t out, Value *weight, Value *bias)
{
    graph_enter(graph, name);
    *weight = parameter(graph, "weight", shape_of(FLOAT32, 2, (int64_t[]){out, in}), in);
    if (bias != NULL) *bias = parameter(graph, "bias", shape_of(FLOAT32, 1, (int64_t[]){out}), in);
    graph_leave(graph);
}

/* The names and the order of the code that the paper cites. */
static void cited_parameters(Graph *graph, TreeLstm t, int64_t width, Value in[TREE_LSTM_INPUTS])
{
    static const char *const leaf[] = {[TREE_LEAF_CELL] = "cx", [TREE_LEAF_OUTPUT] = "ox"};
    static const struct {
        TreeGate gate;
        const char *left, *right;
    } composer[TREE_GATES] = {{TREE_GATE_INPUT, "ilh", "irh"},
                              {TREE_GATE_LEFT_FORGET, "lflh", "lfrh"},
                              {TREE_GATE_RIGHT_FORGET, "rflh", "rfrh"},
                              {TREE_GATE_UPDATE, "ulh", "urh"},
                              {TREE_GATE_OUTPUT, "olh", "orh"}};
    graph_enter(graph, "leaf_module");
    for (int i = 0; i < (t.leaf_gate ? 2 : 1); ++i)
        layer(graph, leaf[i], width, t.memory, &in[TREE_LSTM_LEAF_WEIGHT + i], &in[TREE_LSTM_LEAF_BIAS + i]);
    graph_leave(graph);
    graph_enter(graph, "composer");
    for (int i = 0; i < (t.output_gate ? TREE_GATES : TREE_GATES - 1); ++i) {
        const int gate = (int)composer[i].gate;
        layer(graph, composer[i].left, t.memory, t.memory, &in[TREE_LSTM_LEFT_WEIGHT + gate],
              &in[TREE_LSTM_LEFT_BIAS + gate]);
        layer(graph, composer[i].right, t.memory, t.memory, &in[TREE_LSTM_RIGHT_WEIGHT + gate],
              &in[TREE_LSTM_RIGHT_BIAS + gate]);
    }
    graph_leave(graph);
}

/* W_f has a bias alone: its weight would multiply the vector of a leaf, whose children's cells are 0. */
static void nary_parameters(Graph *graph, TreeLstm t, int64_t width, Value in[TREE_LSTM_INPUTS])
{
    static const struct {
        const char *name;
        TreeLeafPart part;
        TreeGate gate;
    } leaf[] = {{"W_i", TREE_LEAF_INPUT, TREE_GATE_INPUT},
                {"W_o", TREE_LEAF_OUTPUT, TREE_GATE_OUTPUT},
                {"W_u", TREE_LEAF_CELL, TREE_GATE_UPDATE}};
    static const struct {
        TreeGate gate;
        const char *left, *right;
    } composer[TREE_GATES] = {{TREE_GATE_INPUT, "U_i_l", "U_i_r"},
                              {TREE_GATE_LEFT_FORGET, "U_f_ll", "U_f_lr"},
                              {TREE_GATE_RIGHT_FORGET, "U_f_rl", "U_f_rr"},
                              {TREE_GATE_OUTPUT, "U_o_l", "U_o_r"},
                              {TREE_GATE_UPDATE, "U_u_l", "U_u_r"}};
    for (int i = 0; i < 3; ++i) {
        Value *bias = &in[TREE_LSTM_LEAF_BIAS + leaf[i].part];
        layer(graph, leaf[i].name, width, t.memory, &in[TREE_LSTM_LEAF_WEIGHT + leaf[i].part], bias);
        in[TREE_LSTM_LEFT_BIAS + leaf[i].gate] = *bias;
    }
    graph_enter(graph, "W_f");
    in[TREE_LSTM_LEFT_BIAS + TREE_GATE_LEFT_FORGET] = in[TREE_LSTM_LEFT_BIAS + TREE_GATE_RIGHT_FORGET] =
        parameter(graph, "bias", shape_of(FLOAT32, 1, (int64_t[]){t.memory}), width);
    graph_leave(graph);
    for (int i = 0; i < TREE_GATES; ++i) {
        const int gate = (int)composer[i].gate;
        layer(graph, composer[i].left, t.memory, t.memory, &in[TREE_LSTM_LEFT_WEIGHT + gate], NULL);
        layer(graph, composer[i].right, t.memory, t.memory, &in[TREE_LSTM_RIGHT_WEIGHT + gate], NULL);
    }
}

Value tree_lstm(Graph *graph, const char *name, Value x, Value children, Value levels, TreeLstm t)
{
    if (graph_failed(graph)) return NO_VALUE;
    const Shape shape = graph_shape(graph, x);
    graph_enter(graph, name);
    Value h = NO_VALUE;
    if (shape.rank != 2 || t.memory < 1) {
        char text[SHAPE_TEXT];
        graph_fail(graph, STATUS_INPUT, "a Tree-LSTM of %lld units over %s", (long long)t.memory,
                   shape_text(shape, text));
    } else {
        Value inputs[TREE_LSTM_INPUTS];
        for (int i = 0; i < TREE_LSTM_INPUTS; ++i)
            inputs[i] = NO_VALUE;
        inputs[TREE_LSTM_X] = x;
        inputs[TREE_LSTM_CHILDREN] = children;
        inputs[TREE_LSTM_LEVELS] = levels;
        (t.nary ? nary_parameters : cited_parameters)(graph, t, shape.extent[1], inputs);
        h = tree_lstm_node(graph, inputs);
    }
    graph_leave(graph);
    return h;
}
