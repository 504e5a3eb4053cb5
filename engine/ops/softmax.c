/* softmax and log_softmax over the last dimension: builders, shapes, gradients, costs. */
#include "engine/ops/softmax.h"

#include "engine/ops/ops.h"
#include "engine/ops/table.h"

Value softmax(Graph *graph, Value x) { return graph_node(graph, &softmax_op, &x, 1, NULL, 0); }

Value log_softmax(Graph *graph, Value x) { return graph_node(graph, &log_softmax_op, &x, 1, NULL, 0); }

static Status infer(const Node *node, const Shape in[], Shape out[])
{
    if (!op_is_activation_type(in[0].type) || in[0].rank < 1) {
        char text[SHAPE_TEXT];
        return fail(STATUS_INPUT, "%s: float32 or bfloat16 [..., C] is needed, not %s", node->op->name,
                    shape_text(in[0], text));
    }
    out[0] = in[0];
    return OK;
}

static Status backward_infer(const Node *node, const Shape in[], Shape out[])
{
    TRY(op_expect_shape(in[0], in[1], "the gradient"));
    return infer(node, in, out);
}

/* Both gradients are written with the result, so x need not be kept. */
static void softmax_gradient(Graph *graph, const Node *node, const Value d_out[], const bool wanted[],
                             Value d_in[])
{
    if (wanted[0] && value_exists(d_out[0]))
        d_in[0] = graph_node(graph, &softmax_backward_op, (Value[]){d_out[0], node->output[0]}, 2, NULL, 0);
}

static void log_softmax_gradient(Graph *graph, const Node *node, const Value d_out[], const bool wanted[],
                                 Value d_in[])
{
    if (wanted[0] && value_exists(d_out[0]))
        d_in[0] =
            graph_node(graph, &log_softmax_backward_op, (Value[]){d_out[0], node->output[0]}, 2, NULL, 0);
}

/* An exponential counts as one operation. */
static Cost cost(const Node *node, const Shape in[], const Shape out[])
{
    return (Cost){.flops = 4 * (double)shape_count(out[0]), .bytes = op_bytes(node, in, out)};
}

const Op softmax_op = {.name = "softmax",
                       .output_count = 1,
                       .infer = infer,
                       .gradient = softmax_gradient,
                       .cost = cost,
                       .kernel = {[DEVICE_CPU] = &softmax_cpu, [DEVICE_CUDA] = &softmax_cuda}};

const Op softmax_backward_op = {
    .name = "softmax_backward",
    .output_count = 1,
    .infer = backward_infer,
    .cost = cost,
    .kernel = {[DEVICE_CPU] = &softmax_backward_cpu, [DEVICE_CUDA] = &softmax_backward_cuda}};

const Op log_softmax_op = {.name = "log_softmax",
                           .output_count = 1,
                           .infer = infer,
                           .gradient = log_softmax_gradient,
                           .cost = cost,
                           .kernel = {[DEVICE_CPU] = &log_softmax_cpu, [DEVICE_CUDA] = &log_softmax_cuda}};

const Op log_softmax_backward_op = {
    .name = "log_softmax_backward",
    .output_count = 1,
    .infer = backward_infer,
    .cost = cost,
    .kernel = {[DEVICE_CPU] = &log_softmax_backward_cpu, [DEVICE_CUDA] = &log_softmax_backward_cuda}};
