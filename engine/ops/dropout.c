/* Inverted dropout: y = x / (1 - p) where a random number is p or more, else 0. The mask is a function of
 * (seed, step, name of the layer, sample, element of the sample): backward computes it anew, it is the same at any
 * number of ranks, parts and threads, and another layer in the network leaves it as it is. */
#include "engine/ops/dropout.h"

#include "engine/base/random.h"
#include "engine/ops/ops.h"
#include "engine/ops/table.h"

#include <string.h>

Value dropout_by_key(Graph *graph, const char *name, Value x, Value key, double probability)
{
    if (graph_failed(graph) || graph_mode(graph) == GRAPH_EVALUATE || probability == 0) return x;
    graph_enter(graph, name);
    for (int i = 0; i < graph_node_count(graph); ++i)
        if (graph_node_at(graph, i)->op == &dropout_op &&
            strcmp(graph_node_at(graph, i)->scope, graph_scope(graph)) == 0)
            graph_fail(graph, STATUS_INTERNAL, "two dropouts of this name would drop the same elements");
    const DropoutAttributes attributes = {.probability = probability,
                                          .name_key = random_name_key(graph_scope(graph))};
    const Value y =
        graph_node(graph, &dropout_op,
                   (Value[]){[DROPOUT_X] = x, [DROPOUT_CLOCK] = graph_clock(graph), [DROPOUT_KEY] = key},
                   DROPOUT_INPUTS, &attributes, sizeof attributes);
    graph_leave(graph);
    return y;
}

Value dropout(Graph *graph, const char *name, Value x, double probability)
{
    return dropout_by_key(graph, name, x, NO_VALUE, probability);
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
    TRY(op_expect_shape(in[DROPOUT_CLOCK], shape_of(INT64, 1, (int64_t[]){CLOCK_COUNT}), "the clock"));
    if (value_exists(node->input[DROPOUT_KEY])) {
        const int64_t rows = shape_rows(in[0]);
        TRY(op_expect_shape(in[DROPOUT_KEY], shape_of(INT64, 1, &rows), "dropout's keys of rows"));
    }
    out[0] = in[0];
    return OK;
}

/* The gradient is dropped by the same mask: the same op. */
static void gradient(Graph *graph, const Node *node, const Value d_out[], const bool wanted[], Value d_in[])
{
    if (wanted[0] && value_exists(d_out[0]))
        d_in[0] = graph_node(graph, &dropout_op,
                             (Value[]){[DROPOUT_X] = d_out[0],
                                       [DROPOUT_CLOCK] = node->input[DROPOUT_CLOCK],
                                       [DROPOUT_KEY] = node->input[DROPOUT_KEY]},
                             DROPOUT_INPUTS, node->attributes, sizeof(DropoutAttributes));
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
