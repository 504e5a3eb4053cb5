/* Layer normalisation: builder, shapes, gradient, cost. */
#include "engine/ops/layer_norm.h"

#include "engine/ops/ops.h"
#include "engine/ops/table.h"

#include <string.h>

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

/* Does a node read the value before node `last`, but for `last` itself? Then what makes it cannot wait for `last`. */
static bool is_read_before(const Graph *graph, Value value, int last)
{
    for (int n = graph_producer(graph, value) + 1; n < last; ++n) {
        const Node *node = graph_node_at(graph, n);
        for (int i = 0; i < node->input_count; ++i)
            if (value_equal(node->input[i], value)) return true;
    }
    return false;
}

/* The dropout that makes a value for `add` alone; -1: none does. */
static int dropout_before(const Graph *graph, Value value)
{
    const int producer = graph_producer(graph, value);
    if (producer < 0 || graph_use_count(graph, value) != 1) return -1;
    const Node *node = graph_node_at(graph, producer);
    return node->op == &dropout_op && !value_exists(node->input[DROPOUT_KEY]) ? producer : -1;
}

/* add -> layer_norm, and dropout -> add -> layer_norm. Others may read the sum, too, later. */
static bool layer_norm_fuse(const Graph *graph, int index, Fusion *fusion)
{
    const Node *node = graph_node_at(graph, index);
    const LayerNormAttributes *norm = node->attributes;
    const Value sum = node->input[LAYER_NORM_X];
    const int producer = graph_producer(graph, sum);
    if (producer < 0 || graph_node_at(graph, producer)->op != &add_op || is_read_before(graph, sum, index))
        return false;
    const Node *add_node = graph_node_at(graph, producer);
    ResidualNormAttributes attributes = {.epsilon = norm->epsilon};
    Value x = add_node->input[0], made = add_node->input[1], clock = NO_VALUE;
    *fusion = (Fusion){.op = &residual_norm_op,
                       .absorbed = {producer},
                       .absorbed_count = 1,
                       .input_count = RESIDUAL_NORM_INPUTS,
                       .output_count = RESIDUAL_NORM_OUTPUTS,
                       .attribute_bytes = sizeof attributes};
    for (int i = 1; i >= 0; --i) {
        const int drop = dropout_before(graph, add_node->input[i]);
        if (drop < 0) continue;
        const Node *drop_node = graph_node_at(graph, drop);
        x = add_node->input[1 - i];
        made = drop_node->input[DROPOUT_X];
        clock = drop_node->input[DROPOUT_CLOCK];
        attributes.dropout = *(const DropoutAttributes *)drop_node->attributes;
        fusion->absorbed[fusion->absorbed_count++] = drop;
        break;
    }
    memcpy(fusion->attributes, &attributes, sizeof attributes);
    fusion->input[RESIDUAL_NORM_X] = x;
    fusion->input[RESIDUAL_NORM_MADE] = made;
    fusion->input[RESIDUAL_NORM_WEIGHT] = node->input[LAYER_NORM_WEIGHT];
    fusion->input[RESIDUAL_NORM_BIAS] = node->input[LAYER_NORM_BIAS];
    fusion->input[RESIDUAL_NORM_CLOCK] = clock;
    fusion->output[RESIDUAL_NORM_Y] = node->output[LAYER_NORM_Y];
    fusion->output[RESIDUAL_NORM_SUM] = sum;
    fusion->output[RESIDUAL_NORM_MEAN] = node->output[LAYER_NORM_MEAN];
    fusion->output[RESIDUAL_NORM_INVERSE_DEVIATION] = node->output[LAYER_NORM_INVERSE_DEVIATION];
    return true;
}

const Op layer_norm_op = {.name = "layer_norm",
                          .output_count = LAYER_NORM_OUTPUTS,
                          .infer = infer,
                          .gradient = gradient,
                          .cost = cost,
                          .fuse = layer_norm_fuse,
                          .kernel = {[DEVICE_CPU] = &layer_norm_cpu, [DEVICE_CUDA] = &layer_norm_cuda}};

const Op layer_norm_backward_op = {
    .name = "layer_norm_backward",
    .output_count = LAYER_NORM_BACKWARD_OUTPUTS,
    .infer = backward_infer,
    .cost = backward_cost,
    .kernel = {[DEVICE_CPU] = &layer_norm_backward_cpu, [DEVICE_CUDA] = &layer_norm_backward_cuda}};

/* ---- fused with the addition before it ---- */

static bool drops(const Node *node)
{
    return ((const ResidualNormAttributes *)node->attributes)->dropout.probability > 0;
}

static Status check_clock(const Node *node, Shape clock)
{
    if (!drops(node)) return OK;
    return op_expect_shape(clock, shape_of(INT64, 1, (int64_t[]){CLOCK_COUNT}), "the clock");
}

static Status residual_infer(const Node *node, const Shape in[], Shape out[])
{
    const Shape x = in[RESIDUAL_NORM_X];
    TRY(check_x(node, x));
    const Shape vector = shape_of(FLOAT32, 1, (int64_t[]){shape_columns(x)});
    TRY(op_expect_shape(in[RESIDUAL_NORM_MADE], x, "what is added"));
    TRY(op_expect_shape(in[RESIDUAL_NORM_WEIGHT], vector, "weight"));
    TRY(op_expect_shape(in[RESIDUAL_NORM_BIAS], vector, "bias"));
    TRY(check_clock(node, in[RESIDUAL_NORM_CLOCK]));
    out[RESIDUAL_NORM_Y] = out[RESIDUAL_NORM_SUM] = x;
    out[RESIDUAL_NORM_MEAN] = out[RESIDUAL_NORM_INVERSE_DEVIATION] =
        shape_of(FLOAT32, 1, (int64_t[]){shape_rows(x)});
    return OK;
}

static void residual_gradient(Graph *graph, const Node *node, const Value d_out[], const bool wanted[],
                              Value d_in[])
{
    const ResidualNormAttributes *a = node->attributes;
    const Value d_sum = d_out[RESIDUAL_NORM_SUM];
    (void)wanted;
    if (value_exists(d_out[RESIDUAL_NORM_Y])) {
        const Value inputs[RESIDUAL_NORM_BACKWARD_INPUTS] = {
            [RESIDUAL_NORM_BACKWARD_DY] = d_out[RESIDUAL_NORM_Y],
            [RESIDUAL_NORM_BACKWARD_DSUM] = d_sum,
            [RESIDUAL_NORM_BACKWARD_SUM] = node->output[RESIDUAL_NORM_SUM],
            [RESIDUAL_NORM_BACKWARD_WEIGHT] = node->input[RESIDUAL_NORM_WEIGHT],
            [RESIDUAL_NORM_BACKWARD_MEAN] = node->output[RESIDUAL_NORM_MEAN],
            [RESIDUAL_NORM_BACKWARD_INVERSE_DEVIATION] = node->output[RESIDUAL_NORM_INVERSE_DEVIATION],
            [RESIDUAL_NORM_BACKWARD_CLOCK] = node->input[RESIDUAL_NORM_CLOCK],
        };
        const Value dx = graph_node(graph, &residual_norm_backward_op, inputs, RESIDUAL_NORM_BACKWARD_INPUTS,
                                    a, sizeof *a);
        d_in[RESIDUAL_NORM_X] = dx;
        d_in[RESIDUAL_NORM_MADE] = drops(node) ? graph_output(graph, dx, RESIDUAL_NORM_BACKWARD_DMADE) : dx;
        d_in[RESIDUAL_NORM_WEIGHT] = graph_output(graph, dx, RESIDUAL_NORM_BACKWARD_DWEIGHT);
        d_in[RESIDUAL_NORM_BIAS] = graph_output(graph, dx, RESIDUAL_NORM_BACKWARD_DBIAS);
    } else if (value_exists(d_sum)) {
        const Value inputs[DROPOUT_INPUTS] = {[DROPOUT_X] = d_sum,
                                              [DROPOUT_CLOCK] = node->input[RESIDUAL_NORM_CLOCK],
                                              [DROPOUT_KEY] = NO_VALUE};
        d_in[RESIDUAL_NORM_X] = d_sum;
        d_in[RESIDUAL_NORM_MADE] = drops(node) ? graph_node(graph, &dropout_op, inputs, DROPOUT_INPUTS,
                                                            &a->dropout, sizeof a->dropout)
                                               : d_sum;
    }
}

static Status residual_backward_infer(const Node *node, const Shape in[], Shape out[])
{
    const Shape x = in[RESIDUAL_NORM_BACKWARD_SUM];
    TRY(check_x(node, x));
    const Shape vector = shape_of(FLOAT32, 1, (int64_t[]){shape_columns(x)});
    const Shape rows = shape_of(FLOAT32, 1, (int64_t[]){shape_rows(x)});
    TRY(op_expect_shape(in[RESIDUAL_NORM_BACKWARD_DY], x, "dy"));
    if (in[RESIDUAL_NORM_BACKWARD_DSUM].rank >= 0)
        TRY(op_expect_shape(in[RESIDUAL_NORM_BACKWARD_DSUM], x, "the gradient of the sum"));
    TRY(op_expect_shape(in[RESIDUAL_NORM_BACKWARD_WEIGHT], vector, "weight"));
    TRY(op_expect_shape(in[RESIDUAL_NORM_BACKWARD_MEAN], rows, "mean"));
    TRY(op_expect_shape(in[RESIDUAL_NORM_BACKWARD_INVERSE_DEVIATION], rows, "the inverse deviation"));
    TRY(check_clock(node, in[RESIDUAL_NORM_BACKWARD_CLOCK]));
    out[RESIDUAL_NORM_BACKWARD_DX] = x;
    if (drops(node)) out[RESIDUAL_NORM_BACKWARD_DMADE] = x;
    out[RESIDUAL_NORM_BACKWARD_DWEIGHT] = out[RESIDUAL_NORM_BACKWARD_DBIAS] = vector;
    return OK;
}

const Op residual_norm_op = {
    .name = "residual_norm",
    .output_count = RESIDUAL_NORM_OUTPUTS,
    .infer = residual_infer,
    .gradient = residual_gradient,
    .cost = cost,
    .kernel = {[DEVICE_CPU] = &residual_norm_cpu, [DEVICE_CUDA] = &residual_norm_cuda}};

const Op residual_norm_backward_op = {
    .name = "residual_norm_backward",
    .output_count = RESIDUAL_NORM_BACKWARD_OUTPUTS,
    .infer = residual_backward_infer,
    .cost = backward_cost,
    .kernel = {[DEVICE_CPU] = &residual_norm_backward_cpu, [DEVICE_CUDA] = &residual_norm_backward_cuda}};
