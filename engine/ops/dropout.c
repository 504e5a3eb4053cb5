/* Inverted dropout: y = x / (1 - p) where a random number is p or more, else 0. The mask is a function of
 * (seed, step, node, element of the global batch): backward computes it anew, and it is the same at any
 * number of ranks and threads. */
#include "engine/ops/dropout.h"

#include "engine/ops/ops.h"
#include "engine/ops/table.h"

Value dropout(Graph *graph, Value x, double probability)
{
    if (graph_failed(graph) || graph_mode(graph) == GRAPH_EVALUATE || probability == 0) return x;
    /* A node's place in the graph names it: the same network built again has the same numbers. */
    const DropoutAttributes attributes = {.probability = probability,
                                          .key = (uint64_t)graph_node_count(graph)};
    return graph_node(graph, &dropout_op, (Value[]){x, graph_clock(graph)}, 2, &attributes,
                      sizeof attributes);
}

static Status infer(const Node *node, const Shape in[], Shape out[])
{
    const DropoutAttributes *attributes = node->attributes;
    if (!(attributes->probability >= 0 && attributes->probability < 1))
        return fail(STATUS_INPUT, "dropout with probability %g; it must be in [0, 1)",
                    attributes->probability);
    if (!op_is_activation_type(in[0].type) || in[0].rank < 1) {
        char text[SHAPE_TEXT];
        return fail(STATUS_INPUT, "dropout: float32 or bfloat16 [samples, ...] is needed, not %s",
                    shape_text(in[0], text));
    }
    TRY(op_expect_shape(in[1], shape_of(INT64, 1, (int64_t[]){CLOCK_COUNT}), "the clock"));
    out[0] = in[0];
    return OK;
}

/* The gradient is dropped by the same mask: the same op. */
static void gradient(Graph *graph, const Node *node, const Value d_out[], const bool wanted[], Value d_in[])
{
    if (wanted[0] && value_exists(d_out[0]))
        d_in[0] = graph_node(graph, &dropout_op, (Value[]){d_out[0], node->input[1]}, 2, node->attributes,
                             sizeof(DropoutAttributes));
}

static Cost cost(const Node *node, const Shape in[], const Shape out[])
{
    return (Cost){.flops = (double)shape_count(out[0]), .bytes = op_bytes(node, in, out)};
}

const Op dropout_op = {.name = "dropout",
                       .output_count = 1,
                       .infer = infer,
                       .gradient = gradient,
                       .cost = cost,
                       .kernel = {[DEVICE_CPU] = &dropout_cpu, [DEVICE_CUDA] = &dropout_cuda}};
