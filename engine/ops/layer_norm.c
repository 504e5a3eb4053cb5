/* Layer normalisation: builder, shapes, gradient, cost. */
#include "engine/ops/layer_norm.h"

#include "engine/ops/ops.h"
#include "engine/ops/table.h"

Value layer_norm(Graph *graph, const char *name, Value x, double epsilon)
{
    if (graph_failed(graph)) return NO_VALUE;
    graph_enter(graph, name);
    const Shape vector = shape_of(FLOAT32, 1, (int64_t[]){shape_columns(graph_shape(graph, x))});
    const LayerNormAttributes attributes = {.epsilon = epsilon == 0 ? 1e-5 : epsilon};
    const Value inputs[LAYER_NORM_INPUTS] = {
        [LAYER_NORM_X] = x,
        [LAYER_NORM_WEIGHT] = graph_parameter(graph, "weight", vector, (Init){.kind = INIT_ONES}),
        [LAYER_NORM_BIAS] = graph_parameter(graph, "bias", vector, (Init){.kind = INIT_ZEROS}),
    };
    const Value y =
        graph_node(graph, &layer_norm_op, inputs, LAYER_NORM_INPUTS, &attributes, sizeof attributes);
    graph_leave(graph);
    return y;
}

static Status check_x(const Node *node, Shape x)
{
    char text[SHAPE_TEXT];
    if (x.rank >= 1 && op_is_activation_type(x.type)) return OK;
    return fail(STATUS_INPUT, "%s: x must be float32 or bfloat16 [..., C], not %s", node->op->name,
                shape_text(x, text));
}

static Status infer(const Node *node, const Shape in[], Shape out[])
{
    const LayerNormAttributes *attributes = node->attributes;
    const Shape x = in[LAYER_NORM_X];
    TRY(check_x(node, x));
    const Shape vector = shape_of(FLOAT32, 1, (int64_t[]){shape_columns(x)});
    TRY(op_expect_shape(in[LAYER_NORM_WEIGHT], vector, "weight"));
    TRY(op_expect_shape(in[LAYER_NORM_BIAS], vector, "bias"));
    if (!(attributes->epsilon > 0))
        return fail(STATUS_INPUT, "layer_norm: epsilon %g must be positive", attributes->epsilon);
    out[LAYER_NORM_Y] = x;
    out[LAYER_NORM_MEAN] = out[LAYER_NORM_INVERSE_DEVIATION] =
        shape_of(FLOAT32, 1, (int64_t[]){shape_rows(x)});
    return OK;
}

static void gradient(Graph *graph, const Node *node, const Value d_out[], const bool wanted[], Value d_in[])
{
    (void)wanted;
    if (!value_exists(d_out[LAYER_NORM_Y])) return;
    const Value inputs[LAYER_NORM_BACKWARD_INPUTS] = {
        [LAYER_NORM_BACKWARD_DY] = d_out[LAYER_NORM_Y],
        [LAYER_NORM_BACKWARD_X] = node->input[LAYER_NORM_X],
        [LAYER_NORM_BACKWARD_WEIGHT] = node->input[LAYER_NORM_WEIGHT],
        [LAYER_NORM_BACKWARD_MEAN] = node->output[LAYER_NORM_MEAN],
        [LAYER_NORM_BACKWARD_INVERSE_DEVIATION] = node->output[LAYER_NORM_INVERSE_DEVIATION],
    };
    const Value dx = graph_node(graph, &layer_norm_backward_op, inputs, LAYER_NORM_BACKWARD_INPUTS, NULL, 0);
    d_in[LAYER_NORM_X] = dx;
    d_in[LAYER_NORM_WEIGHT] = graph_output(graph, dx, LAYER_NORM_BACKWARD_DWEIGHT);
    d_in[LAYER_NORM_BIAS] = graph_output(graph, dx, LAYER_NORM_BACKWARD_DBIAS);
}

static Status backward_infer(const Node *node, const Shape in[], Shape out[])
{
    const Shape x = in[LAYER_NORM_BACKWARD_X];
    TRY(check_x(node, x));
    const Shape vector = shape_of(FLOAT32, 1, (int64_t[]){shape_columns(x)});
    const Shape rows = shape_of(FLOAT32, 1, (int64_t[]){shape_rows(x)});
    TRY(op_expect_shape(in[LAYER_NORM_BACKWARD_DY], x, "dy"));
    TRY(op_expect_shape(in[LAYER_NORM_BACKWARD_WEIGHT], vector, "weight"));
    TRY(op_expect_shape(in[LAYER_NORM_BACKWARD_MEAN], rows, "mean"));
    TRY(op_expect_shape(in[LAYER_NORM_BACKWARD_INVERSE_DEVIATION], rows, "the inverse deviation"));
    out[LAYER_NORM_BACKWARD_DX] = x;
    out[LAYER_NORM_BACKWARD_DWEIGHT] = out[LAYER_NORM_BACKWARD_DBIAS] = vector;
    return OK;
}

static Cost cost(const Node *node, const Shape in[], const Shape out[])
{
    return (Cost){.flops = 7 * (double)shape_count(out[0]), .bytes = op_bytes(node, in, out)};
}

static Cost backward_cost(const Node *node, const Shape in[], const Shape out[])
{
    return (Cost){.flops = 14 * (double)shape_count(out[0]), .bytes = op_bytes(node, in, out)};
}

const Op layer_norm_op = {.name = "layer_norm",
                          .output_count = LAYER_NORM_OUTPUTS,
                          .infer = infer,
                          .gradient = gradient,
                          .cost = cost,
                          .kernel = {[DEVICE_CPU] = &layer_norm_cpu, [DEVICE_CUDA] = &layer_norm_cuda}};

const Op layer_norm_backward_op = {
    .name = "layer_norm_backward",
    .output_count = LAYER_NORM_BACKWARD_OUTPUTS,
    .infer = backward_infer,
    .cost = backward_cost,
    .kernel = {[DEVICE_CPU] = &layer_norm_backward_cpu, [DEVICE_CUDA] = &layer_norm_backward_cuda}};
