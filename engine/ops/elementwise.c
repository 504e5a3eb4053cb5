/* ReLU, addition, cast: builders, shapes, gradients, costs; and the fusion of what a ReLU ends. */
#include "engine/ops/elementwise.h"

#include "engine/ops/batch_norm.h"
#include "engine/ops/ops.h"
#include "engine/ops/table.h"

static Status check_activation(const Node *node, Shape x)
{
    if (op_is_activation_type(x.type)) return OK;
    return fail(STATUS_INPUT, "%s: float32 or bfloat16 is needed, not %s", node->op->name,
                dtype_name(x.type));
}

static Cost cost(const Node *node, const Shape in[], const Shape out[])
{
    return (Cost){.flops = (double)shape_count(out[0]), .bytes = op_bytes(node, in, out)};
}

/* ---- relu ---- */

Value relu(Graph *graph, Value x) { return graph_node(graph, &relu_op, &x, 1, NULL, 0); }

static Status relu_infer(const Node *node, const Shape in[], Shape out[])
{
    TRY(check_activation(node, in[0]));
    out[0] = in[0];
    return OK;
}

/* From y, not x: x is then free. At exactly 0 the gradient is 0. */
static void relu_gradient(Graph *graph, const Node *node, const Value d_out[], const bool wanted[],
                          Value d_in[])
{
    (void)wanted;
    if (!value_exists(d_out[0])) return;
    d_in[0] = graph_node(graph, &relu_backward_op, (Value[]){d_out[0], node->output[0]}, 2, NULL, 0);
}

static Status relu_backward_infer(const Node *node, const Shape in[], Shape out[])
{
    TRY(check_activation(node, in[0]));
    TRY(op_expect_shape(in[0], in[1], "the gradient"));
    out[0] = in[0];
    return OK;
}

/* batch_norm -> relu, and batch_norm -> add -> relu whichever operand the batch_norm is; the first if both
 * are. Nothing else may read what lies between. */
static bool relu_fuse(const Graph *graph, int index, Fusion *fusion)
{
    const Node *node = graph_node_at(graph, index);
    const Value x = node->input[0];
    const int producer = graph_producer(graph, x);
    if (producer < 0 || graph_use_count(graph, x) != 1) return false;
    if (batch_norm_fuse(graph, producer, NO_VALUE, fusion)) {
        fusion->output[0] = node->output[0];
        return true;
    }
    const Node *sum = graph_node_at(graph, producer);
    if (sum->op != &add_op) return false;
    for (int i = 0; i < 2; ++i) {
        const Value normalised = sum->input[i], residual = sum->input[1 - i];
        const int source = graph_producer(graph, normalised);
        if (source < 0 || graph_use_count(graph, normalised) != 1 ||
            !batch_norm_fuse(graph, source, residual, fusion))
            continue;
        fusion->output[0] = node->output[0];
        fusion->absorbed[fusion->absorbed_count++] = producer;
        return true;
    }
    return false;
}

const Op relu_op = {.name = "relu",
                    .output_count = 1,
                    .infer = relu_infer,
                    .gradient = relu_gradient,
                    .cost = cost,
                    .fuse = relu_fuse,
                    .kernel = {[DEVICE_CPU] = &relu_cpu, [DEVICE_CUDA] = &relu_cuda}};

const Op relu_backward_op = {
    .name = "relu_backward",
    .output_count = 1,
    .infer = relu_backward_infer,
    .cost = cost,
    .kernel = {[DEVICE_CPU] = &relu_backward_cpu, [DEVICE_CUDA] = &relu_backward_cuda}};

/* ---- add ---- */

Value add(Graph *graph, Value a, Value b) { return graph_node(graph, &add_op, (Value[]){a, b}, 2, NULL, 0); }

static Status add_infer(const Node *node, const Shape in[], Shape out[])
{
    TRY(check_activation(node, in[0]));
    char a[SHAPE_TEXT], b[SHAPE_TEXT];
    if (!shape_equal(in[0], in[1]))
        return fail(STATUS_INPUT, "add: %s and %s differ", shape_text(in[0], a), shape_text(in[1], b));
    out[0] = in[0];
    return OK;
}

static void add_gradient(Graph *graph, const Node *node, const Value d_out[], const bool wanted[],
                         Value d_in[])
{
    (void)graph;
    (void)node;
    if (!value_exists(d_out[0])) return;
    for (int i = 0; i < 2; ++i)
        if (wanted[i]) d_in[i] = d_out[0];
}

const Op add_op = {.name = "add",
                   .output_count = 1,
                   .infer = add_infer,
                   .gradient = add_gradient,
                   .cost = cost,
                   .kernel = {[DEVICE_CPU] = &add_cpu, [DEVICE_CUDA] = &add_cuda}};

/* ---- cast ---- */

Value cast(Graph *graph, Value x, DType type)
{
    if (graph_failed(graph) || graph_shape(graph, x).type == type) return x;
    const CastAttributes attributes = {.type = type};
    return graph_node(graph, &cast_op, &x, 1, &attributes, sizeof attributes);
}

static Status cast_infer(const Node *node, const Shape in[], Shape out[])
{
    const CastAttributes *attributes = node->attributes;
    TRY(check_activation(node, in[0]));
    if (attributes->type == in[0].type)
        return fail(STATUS_INTERNAL, "cast: it is %s already", dtype_name(in[0].type));
    out[0] = in[0];
    out[0].type = attributes->type;
    return check_activation(node, out[0]);
}

static void cast_gradient(Graph *graph, const Node *node, const Value d_out[], const bool wanted[],
                          Value d_in[])
{
    if (wanted[0] && value_exists(d_out[0]))
        d_in[0] = cast(graph, d_out[0], graph_shape(graph, node->input[0]).type);
}

const Op cast_op = {.name = "cast",
                    .output_count = 1,
                    .infer = cast_infer,
                    .gradient = cast_gradient,
                    .kernel = {[DEVICE_CPU] = &cast_cpu, [DEVICE_CUDA] = &cast_cuda}};
