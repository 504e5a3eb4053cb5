/* The linear layer: y[r, o] = bias[o] + sum over c of x[r, c] * weight[o, c], r over all leading dimensions.
 */
#include "engine/ops/linear.h"

#include "engine/ops/ops.h"
#include "engine/ops/table.h"

#include <stdio.h>

static const LinearAttributes *attributes_of(const Node *node) { return node->attributes; }

static Shape input_shape(const LinearAttributes *a) { return shape_of(a->in_type, a->rank, a->extent); }

static Shape output_shape(const LinearAttributes *a)
{
    Shape shape = shape_of(a->out_type, a->rank, a->extent);
    shape.extent[a->rank - 1] = a->features;
    return shape;
}

static Shape weight_shape(const LinearAttributes *a)
{
    return shape_of(FLOAT32, 2, (int64_t[]){a->features, a->extent[a->rank - 1]});
}

/* Lengths are input `index`, if there are any. */
static Status expect_length(const Node *node, const Shape in[], int index)
{
    const LinearAttributes *a = attributes_of(node);
    if (node->input_count <= index) return OK;
    if (a->rank < 2)
        return fail(STATUS_INPUT, "a linear layer of sequences needs [sequences, ..., features]");
    return op_expect_shape(in[index], shape_of(INT32, 1, a->extent), "the lengths of sequences");
}

static Status forward_infer(const Node *node, const Shape in[], Shape out[])
{
    const LinearAttributes *a = attributes_of(node);
    TRY(op_expect_shape(in[LINEAR_X], input_shape(a), "the input"));
    TRY(op_expect_shape(in[LINEAR_WEIGHT], weight_shape(a), "the weight"));
    if (node->input_count > LINEAR_BIAS && in[LINEAR_BIAS].rank >= 0)
        TRY(op_expect_shape(in[LINEAR_BIAS], shape_of(FLOAT32, 1, (int64_t[]){a->features}), "the bias"));
    TRY(expect_length(node, in, LINEAR_LENGTH));
    out[0] = output_shape(a);
    return OK;
}

static Status backward_data_infer(const Node *node, const Shape in[], Shape out[])
{
    const LinearAttributes *a = attributes_of(node);
    TRY(op_expect_shape(in[0], output_shape(a), "the gradient of the output"));
    TRY(op_expect_shape(in[1], weight_shape(a), "the weight"));
    TRY(expect_length(node, in, LINEAR_BACKWARD_LENGTH));
    out[0] = input_shape(a);
    return OK;
}

static Status backward_weights_infer(const Node *node, const Shape in[], Shape out[])
{
    const LinearAttributes *a = attributes_of(node);
    TRY(op_expect_shape(in[0], input_shape(a), "the input"));
    TRY(op_expect_shape(in[1], output_shape(a), "the gradient of the output"));
    TRY(expect_length(node, in, LINEAR_BACKWARD_LENGTH));
    out[0] = weight_shape(a);
    return OK;
}

/* Weights first, as in convolution: the input is dead after it. */
static void forward_gradient(Graph *graph, const Node *node, const Value d_out[], const bool wanted[],
                             Value d_in[])
{
    const LinearAttributes *a = attributes_of(node);
    if (!value_exists(d_out[0])) return;
    const bool has_length = node->input_count > LINEAR_LENGTH;
    const Value length = has_length ? node->input[LINEAR_LENGTH] : NO_VALUE;
    const int inputs = has_length ? LINEAR_BACKWARD_INPUTS : LINEAR_BACKWARD_LENGTH;
    if (node->input_count > LINEAR_BIAS && wanted[LINEAR_BIAS])
        d_in[LINEAR_BIAS] = bias_gradient(graph, d_out[0]);
    if (wanted[LINEAR_WEIGHT])
        d_in[LINEAR_WEIGHT] =
            graph_node(graph, &linear_backward_weights_op, (Value[]){node->input[LINEAR_X], d_out[0], length},
                       inputs, a, sizeof *a);
    if (wanted[LINEAR_X])
        d_in[LINEAR_X] =
            graph_node(graph, &linear_backward_data_op,
                       (Value[]){d_out[0], node->input[LINEAR_WEIGHT], length}, inputs, a, sizeof *a);
}

/* All rows count, also those behind sequences' ends that a kernel leaves out: how many these are differs from step to step. */
static Cost cost(const Node *node, const Shape in[], const Shape out[])
{
    const LinearAttributes *a = attributes_of(node);
    return (Cost){.flops = 2 * (double)shape_count(input_shape(a)) * (double)a->features,
                  .bytes = op_bytes(node, in, out)};
}

const Op linear_op = {
    .name = "linear",
    .output_count = 1,
    .infer = forward_infer,
    .gradient = forward_gradient,
    .cost = cost,
    .kernel = {[DEVICE_CPU] = &linear_cpu, [DEVICE_CUDA] = &linear_cuda},
};

const Op linear_backward_data_op = {
    .name = "linear_backward_data",
    .output_count = 1,
    .infer = backward_data_infer,
    .cost = cost,
    .kernel = {[DEVICE_CPU] = &linear_backward_data_cpu, [DEVICE_CUDA] = &linear_backward_data_cuda},
};

const Op linear_backward_weights_op = {
    .name = "linear_backward_weights",
    .output_count = 1,
    .infer = backward_weights_infer,
    .cost = cost,
    .kernel = {[DEVICE_CPU] = &linear_backward_weights_cpu, [DEVICE_CUDA] = &linear_backward_weights_cuda},
};

static Status bias_infer(const Node *node, const Shape in[], Shape out[])
{
    (void)node;
    if (!op_is_activation_type(in[0].type))
        return fail(STATUS_INTERNAL, "the gradient is %s, but must be float32 or bfloat16",
                    dtype_name(in[0].type));
    out[0] = shape_of(FLOAT32, 1, (int64_t[]){shape_columns(in[0])});
    return OK;
}

static Cost bias_cost(const Node *node, const Shape in[], const Shape out[])
{
    return (Cost){.flops = (double)shape_count(in[0]), .bytes = op_bytes(node, in, out)};
}

const Op bias_gradient_op = {
    .name = "bias_gradient",
    .output_count = 1,
    .infer = bias_infer,
    .cost = bias_cost,
    .kernel = {[DEVICE_CPU] = &bias_gradient_cpu, [DEVICE_CUDA] = &bias_gradient_cuda},
};

Value bias_gradient(Graph *graph, Value d_y)
{
    return graph_node(graph, &bias_gradient_op, &d_y, 1, NULL, 0);
}

static bool check_layer(Graph *graph, Shape in, int64_t features, DType type)
{
    char text[SHAPE_TEXT];
    if (in.rank < 1 || !op_is_activation_type(in.type))
        graph_fail(graph, STATUS_INPUT, "a linear layer needs float32 or bfloat16 [..., features], not %s",
                   shape_text(in, text));
    else if (features < 1 || !op_is_activation_type(type))
        graph_fail(graph, STATUS_INPUT, "a linear layer with %lld features of type %s", (long long)features,
                   dtype_name(type));
    return !graph_failed(graph);
}

static Value layer_node(Graph *graph, Value x, Value weight, Value bias, Value length, DType type)
{
    if (graph_failed(graph)) return NO_VALUE;
    const Shape in = graph_shape(graph, x);
    if (!check_layer(graph, in, shape_rows(graph_shape(graph, weight)), type)) return NO_VALUE;
    LinearAttributes a = {.in_type = in.type,
                          .out_type = type,
                          .rank = in.rank,
                          .features = shape_rows(graph_shape(graph, weight))};
    for (int i = 0; i < in.rank; ++i)
        a.extent[i] = in.extent[i];
    int inputs = LINEAR_INPUTS;
    if (!value_exists(length)) inputs = value_exists(bias) ? LINEAR_LENGTH : LINEAR_BIAS;
    return graph_node(graph, &linear_op, (Value[]){x, weight, bias, length}, inputs, &a, sizeof a);
}

Value linear_with(Graph *graph, Value x, Value weight, Value bias, DType type)
{
    return layer_node(graph, x, weight, bias, NO_VALUE, type);
}

/* "SCOPE.PART.weight" for each part: the names of the parts beside the layer that they make. */
static void name_parts(Graph *graph, Value parameter, const char *scope, const Linear *linear,
                       const char *what)
{
    enum { ROOM = 640 };
    char text[FILE_NAMES_MAX][ROOM];
    FileNames names = {.parts = 0};
    while (names.parts < FILE_NAMES_MAX && linear->parts[names.parts] != NULL) {
        (void)snprintf(text[names.parts], ROOM, "%s%s%s.%s", scope, scope[0] != '\0' ? "." : "",
                       linear->parts[names.parts], what);
        names.part[names.parts] = text[names.parts];
        ++names.parts;
    }
    if (names.parts > 0) graph_set_file_names(graph, parameter, names);
}

Value linear_sequences(Graph *graph, const char *name, Value x, Value length, Linear linear)
{
    if (graph_failed(graph)) return NO_VALUE;
    const Shape in = graph_shape(graph, x);
    char scope[512];
    (void)snprintf(scope, sizeof scope, "%s", graph_scope(graph));
    graph_enter(graph, name);
    Value y = NO_VALUE;
    if (check_layer(graph, in, linear.features, linear.type)) {
        const double fan_in = (double)shape_columns(in);
        const double fan_out = (double)(linear.fan_out > 0 ? linear.fan_out : linear.features);
        const Shape weight = shape_of(FLOAT32, 2, (int64_t[]){linear.features, shape_columns(in)});
        const Shape bias = shape_of(FLOAT32, 1, (int64_t[]){linear.features});
        const Value parameter =
            graph_parameter(graph, "weight", weight, op_weight_init(linear.init, fan_in, fan_out));
        name_parts(graph, parameter, scope, &linear, "weight");
        Value bias_parameter = NO_VALUE;
        if (!linear.no_bias) {
            bias_parameter = graph_parameter(graph, "bias", bias, op_bias_init(linear.init, fan_in));
            name_parts(graph, bias_parameter, scope, &linear, "bias");
        }
        y = layer_node(graph, x, parameter, bias_parameter, length, linear.type);
    }
    graph_leave(graph);
    return y;
}

Value linear(Graph *graph, const char *name, Value x, Linear linear)
{
    return linear_sequences(graph, name, x, NO_VALUE, linear);
}
