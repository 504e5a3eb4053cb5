/* Rows of a table: y[i, c] = scale * weight[index[i], c]. The gradient of the table is either as large as the table, or
 * the rows alone that were read (TRAINED_BY_ROWS). */
#include "engine/ops/embedding.h"

#include "engine/ops/ops.h"
#include "engine/ops/table.h"

/* Of embedding_backward: another gradient of the table, to which this one is added. */
enum { ADDEND = 2 };

static const EmbeddingAttributes *attributes_of(const Node *node) { return node->attributes; }

static Shape weight_shape(const EmbeddingAttributes *a)
{
    return shape_of(FLOAT32, 2, (int64_t[]){a->rows, a->width});
}

static Shape output_shape(const EmbeddingAttributes *a)
{
    Shape shape = a->index;
    shape.type = a->type;
    shape.extent[shape.rank++] = a->width;
    return shape;
}

static Status forward_infer(const Node *node, const Shape in[], Shape out[])
{
    const EmbeddingAttributes *a = attributes_of(node);
    TRY(op_expect_shape(in[0], a->index, "the index"));
    TRY(op_expect_shape(in[1], weight_shape(a), "the weight"));
    out[0] = output_shape(a);
    return OK;
}

static Status expect_backward(const Node *node, const Shape in[])
{
    const EmbeddingAttributes *a = attributes_of(node);
    TRY(op_expect_shape(in[0], output_shape(a), "the gradient of the output"));
    return op_expect_shape(in[1], a->index, "the index");
}

static Status backward_infer(const Node *node, const Shape in[], Shape out[])
{
    TRY(expect_backward(node, in));
    out[0] = weight_shape(attributes_of(node));
    return in[ADDEND].rank >= 0 ? op_expect_shape(in[ADDEND], out[0], "the addend") : OK;
}

static Status backward_rows_infer(const Node *node, const Shape in[], Shape out[])
{
    const EmbeddingAttributes *a = attributes_of(node);
    const int64_t count = shape_count(a->index), most = count < a->rows ? count : a->rows;
    TRY(expect_backward(node, in));
    out[0] = shape_of(FLOAT32, 2, (int64_t[]){most, a->width});
    out[1] = shape_of(INT32, 1, &most);
    out[2] = shape_of(INT32, 1, (int64_t[]){1});
    return OK;
}

static void forward_gradient(Graph *graph, const Node *node, const Value d_out[], const bool wanted[],
                             Value d_in[])
{
    const EmbeddingAttributes *a = attributes_of(node);
    if (!value_exists(d_out[0]) || !wanted[1]) return;
    const bool by_rows = graph_training(graph, node->input[1]) == TRAINED_BY_ROWS;
    d_in[1] = graph_node(graph, by_rows ? &embedding_backward_rows_op : &embedding_backward_op,
                         (Value[]){d_out[0], node->input[0], NO_VALUE}, by_rows ? 2 : 3, a, sizeof *a);
}

/* The table is not read but for the rows. */
static Cost forward_cost(const Node *node, const Shape in[], const Shape out[])
{
    (void)node;
    return (Cost){.flops = (double)shape_count(out[0]),
                  .bytes = (double)shape_bytes(in[0]) + (double)shape_bytes(out[0]) +
                           (double)shape_count(out[0]) * (double)sizeof(float)};
}

static Cost backward_cost(const Node *node, const Shape in[], const Shape out[])
{
    return (Cost){.flops = (double)shape_count(in[0]), .bytes = op_bytes(node, in, out)};
}

const Op embedding_op = {
    .name = "embedding",
    .output_count = 1,
    .infer = forward_infer,
    .gradient = forward_gradient,
    .cost = forward_cost,
    .gathers = 1U << 1,
    .kernel = {[DEVICE_CPU] = &embedding_cpu, [DEVICE_CUDA] = &embedding_cuda},
};

const Op embedding_backward_op = {
    .name = "embedding_backward",
    .output_count = 1,
    .infer = backward_infer,
    .cost = backward_cost,
    .addend = ADDEND,
    .kernel = {[DEVICE_CPU] = &embedding_backward_cpu, [DEVICE_CUDA] = &embedding_backward_cuda},
};

const Op embedding_backward_rows_op = {
    .name = "embedding_backward_rows",
    .output_count = 3,
    .infer = backward_rows_infer,
    .cost = backward_cost,
    .kernel = {[DEVICE_CPU] = &embedding_backward_rows_cpu, [DEVICE_CUDA] = &embedding_backward_rows_cuda},
};

Status embedding_backward_prepare(Call *call, size_t *scratch_bytes)
{
    const EmbeddingAttributes *a = call->attributes;
    *scratch_bytes = row_sums_scratch(shape_count(a->index));
    return OK;
}

RowSums embedding_row_sums(const Call *call)
{
    const EmbeddingAttributes *a = call->attributes;
    const bool whole = call->node->output_count == 1;
    return (RowSums){.count = shape_count(a->index),
                     .rows = a->rows,
                     .columns = a->width,
                     .skipped_row = a->padding_row,
                     .scale = a->scale,
                     .type = a->type,
                     .index = call->in[1].data,
                     .vector = call->in[0].data,
                     .whole = whole,
                     .start = whole ? call->in[ADDEND].data : NULL,
                     .sum = call->out[0].data,
                     .row = whole ? NULL : call->out[1].data,
                     .found = whole ? NULL : call->out[2].data,
                     .scratch = call->scratch};
}

Value embedding(Graph *graph, const char *name, Value index, Embedding embedding)
{
    if (graph_failed(graph)) return NO_VALUE;
    const Shape shape = graph_shape(graph, index);
    graph_enter(graph, name);
    Value y = NO_VALUE;
    char text[SHAPE_TEXT];
    if (shape.type != INT32 || shape.rank < 1 || shape.rank >= SHAPE_MAX_RANK) {
        graph_fail(graph, STATUS_INPUT, "an embedding needs int32 [...] of at most %d dimensions, not %s",
                   SHAPE_MAX_RANK - 1, shape_text(shape, text));
    } else if (embedding.rows < 1 || embedding.rows >= INT32_MAX || embedding.width < 1 ||
               shape_count(shape) >= INT32_MAX) {
        graph_fail(graph, STATUS_INPUT, "an embedding of %s in %lld rows of %lld", shape_text(shape, text),
                   (long long)embedding.rows, (long long)embedding.width);
    } else if (embedding.padded && (embedding.padding_row < 0 || embedding.padding_row >= embedding.rows)) {
        graph_fail(graph, STATUS_INPUT, "row %lld for padding, in an embedding of %lld rows",
                   (long long)embedding.padding_row, (long long)embedding.rows);
    } else {
        const EmbeddingAttributes a = {.rows = embedding.rows,
                                       .width = embedding.width,
                                       .padding_row = embedding.padded ? embedding.padding_row : -1,
                                       .scale = embedding.scale == 0 ? 1 : embedding.scale,
                                       .index = shape,
                                       .type = graph_compute_type(graph)};
        const Value weight = graph_parameter(graph, "weight", weight_shape(&a), embedding.init);
        if (embedding.padded) graph_start_row_at_zero(graph, weight, embedding.padding_row);
        if (embedding.training != TRAINED) graph_set_training(graph, weight, embedding.training);
        y = graph_node(graph, &embedding_op, (Value[]){index, weight}, 2, &a, sizeof a);
    }
    graph_leave(graph);
    return y;
}
