/* row_norms: the Euclidean norm of each row, in double. What training records of a network's features and logits. */
#include "engine/ops/row_norms.h"

#include "engine/ops/ops.h"
#include "engine/ops/table.h"

Value row_norms(Graph *graph, Value x)
{
    return graph_failed(graph) ? NO_VALUE : graph_node(graph, &row_norms_op, &x, 1, NULL, 0);
}

static Status infer(const Node *node, const Shape in[], Shape out[])
{
    (void)node;
    char text[SHAPE_TEXT];
    if (in[0].rank < 1 || !op_is_activation_type(in[0].type))
        return fail(STATUS_INPUT, "norms of rows need float32 or bfloat16 [..., columns], not %s",
                    shape_text(in[0], text));
    out[0] = shape_of(FLOAT64, 1, (int64_t[]){shape_rows(in[0])});
    return OK;
}

static Cost cost(const Node *node, const Shape in[], const Shape out[])
{
    return (Cost){.flops = 2 * (double)shape_count(in[0]), .bytes = op_bytes(node, in, out)};
}

const Op row_norms_op = {.name = "row_norms",
                         .output_count = 1,
                         .infer = infer,
                         .cost = cost,
                         .kernel = {[DEVICE_CPU] = &row_norms_cpu, [DEVICE_CUDA] = &row_norms_cuda}};
