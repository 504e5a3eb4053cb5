/* dot: the sum of products of two tensors, in double. What ends a graph in tests and probes. */
#include "engine/ops/dot.h"

#include "engine/ops/ops.h"
#include "engine/ops/table.h"

Value dot(Graph *graph, Value x, Value weight)
{
    return graph_node(graph, &dot_op, (Value[]){x, weight}, 2, NULL, 0);
}

static Status infer(const Node *node, const Shape in[], Shape out[])
{
    (void)node;
    Shape like = in[1];
    like.type = in[0].type; /* weights may be float32 for a bfloat16 x */
    if (!op_is_activation_type(in[0].type) || !op_is_activation_type(in[1].type) ||
        !shape_equal(in[0], like)) {
        char x[SHAPE_TEXT], weight[SHAPE_TEXT];
        return fail(STATUS_INPUT, "dot of %s and %s", shape_text(in[0], x), shape_text(in[1], weight));
    }
    out[0] = shape_of(FLOAT64, 1, (int64_t[]){1});
    return OK;
}

static void gradient(Graph *graph, const Node *node, const Value d_out[], const bool wanted[], Value d_in[])
{
    const bool root = value_is_root_gradient(d_out[0]);
    if (!root && !value_exists(d_out[0])) return;
    for (int i = 0; i < 2; ++i) {
        if (!wanted[i]) continue;
        const DotAttributes attributes = {.type = graph_shape(graph, node->input[i]).type};
        d_in[i] =
            graph_node(graph, &dot_backward_op, (Value[]){node->input[1 - i], root ? NO_VALUE : d_out[0]}, 2,
                       &attributes, sizeof attributes);
    }
}

static Status backward_infer(const Node *node, const Shape in[], Shape out[])
{
    const DotAttributes *attributes = node->attributes;
    if (in[1].rank >= 0)
        TRY(op_expect_shape(in[1], shape_of(FLOAT64, 1, (int64_t[]){1}), "the gradient of the sum"));
    out[0] = in[0];
    out[0].type = attributes->type;
    return OK;
}

static Cost cost(const Node *node, const Shape in[], const Shape out[])
{
    return (Cost){.flops = 2 * (double)shape_count(in[0]), .bytes = op_bytes(node, in, out)};
}

const Op dot_op = {.name = "dot",
                   .output_count = 1,
                   .infer = infer,
                   .gradient = gradient,
                   .cost = cost,
                   .kernel = {[DEVICE_CPU] = &dot_cpu, [DEVICE_CUDA] = &dot_cuda}};

const Op dot_backward_op = {.name = "dot_backward",
                            .output_count = 1,
                            .infer = backward_infer,
                            .kernel = {[DEVICE_CPU] = &dot_backward_cpu, [DEVICE_CUDA] = &dot_backward_cuda}};
