/* Ops that only move data, often none: concat, slice, reshape, flatten. */
#include "engine/ops/shape_ops.h"

#include "engine/ops/ops.h"
#include "engine/ops/table.h"

#include <string.h>

/* ---- concat ---- */

Value concat(Graph *graph, const Value parts[], int count)
{
    if (graph_failed(graph)) return NO_VALUE;
    if (count < 1 || count > CALL_MAX_TENSORS) {
        graph_fail(graph, STATUS_INPUT, "concat of %d parts; 1 to %d are possible", count, CALL_MAX_TENSORS);
        return NO_VALUE;
    }
    return count == 1 ? parts[0] : graph_node(graph, &concat_op, parts, count, NULL, 0);
}

static Status concat_infer(const Node *node, const Shape in[], Shape out[])
{
    if (in[0].rank < 1) return fail(STATUS_INPUT, "concat needs a dimension to join along");
    out[0] = in[0];
    for (int i = 1; i < node->input_count; ++i) {
        Shape same = in[i];
        if (same.rank == in[0].rank) same.extent[same.rank - 1] = in[0].extent[in[0].rank - 1];
        if (!shape_equal(same, in[0])) {
            char a[SHAPE_TEXT], b[SHAPE_TEXT];
            return fail(STATUS_INPUT, "concat: %s and %s differ in more than the last dimension",
                        shape_text(in[0], a), shape_text(in[i], b));
        }
        out[0].extent[out[0].rank - 1] += shape_columns(in[i]);
    }
    return OK;
}

static void concat_gradient(Graph *graph, const Node *node, const Value d_out[], const bool wanted[],
                            Value d_in[])
{
    if (!value_exists(d_out[0])) return;
    int64_t first = 0;
    for (int i = 0; i < node->input_count; ++i) {
        const int64_t columns = shape_columns(graph_shape(graph, node->input[i]));
        if (wanted[i]) d_in[i] = slice(graph, d_out[0], first, columns);
        first += columns;
    }
}

const Op concat_op = {.name = "concat",
                      .output_count = 1,
                      .infer = concat_infer,
                      .gradient = concat_gradient,
                      .alias = ALIAS_CONCAT,
                      .kernel = {[DEVICE_CPU] = &concat_cpu, [DEVICE_CUDA] = &concat_cuda}};

/* ---- slice ---- */

Value slice(Graph *graph, Value x, int64_t first, int64_t columns)
{
    if (graph_failed(graph)) return NO_VALUE;
    const SliceAttributes attributes = {
        .first = first, .columns = columns, .x_columns = shape_columns(graph_shape(graph, x))};
    if (first == 0 && columns == attributes.x_columns) return x;
    return graph_node(graph, &slice_op, &x, 1, &attributes, sizeof attributes);
}

static Status slice_infer(const Node *node, const Shape in[], Shape out[])
{
    const SliceAttributes *a = node->attributes;
    if (in[0].rank < 1 || a->columns < 1 || a->first < 0 || a->columns > a->x_columns ||
        a->first > a->x_columns - a->columns) {
        char text[SHAPE_TEXT];
        return fail(STATUS_INPUT, "slice: %lld columns from column %lld on are not within %s",
                    (long long)a->columns, (long long)a->first, shape_text(in[0], text));
    }
    out[0] = in[0];
    out[0].extent[out[0].rank - 1] = a->columns;
    return OK;
}

static void slice_gradient(Graph *graph, const Node *node, const Value d_out[], const bool wanted[],
                           Value d_in[])
{
    if (wanted[0] && value_exists(d_out[0]))
        d_in[0] = graph_node(graph, &slice_backward_op, d_out, 1, node->attributes, sizeof(SliceAttributes));
}

static Status slice_backward_infer(const Node *node, const Shape in[], Shape out[])
{
    const SliceAttributes *a = node->attributes;
    out[0] = in[0];
    out[0].extent[out[0].rank - 1] = a->x_columns;
    return OK;
}

const Op slice_op = {.name = "slice",
                     .output_count = 1,
                     .infer = slice_infer,
                     .gradient = slice_gradient,
                     .alias = ALIAS_SLICE,
                     .kernel = {[DEVICE_CPU] = &slice_cpu, [DEVICE_CUDA] = &slice_cuda}};

const Op slice_backward_op = {
    .name = "slice_backward",
    .output_count = 1,
    .infer = slice_backward_infer,
    .kernel = {[DEVICE_CPU] = &slice_backward_cpu, [DEVICE_CUDA] = &slice_backward_cuda}};

/* ---- reshape ---- */

/* Fills in the one extent that may be -1. */
static Status resolve(Shape x, Shape *shape)
{
    const int64_t count = shape_count(x);
    int64_t known = 1;
    int open = -1;
    char text[SHAPE_TEXT];
    for (int i = 0; i < shape->rank; ++i) {
        if (shape->extent[i] == -1 && open < 0) {
            open = i;
        } else if (shape->extent[i] < 0 || __builtin_mul_overflow(known, shape->extent[i], &known)) {
            return fail(STATUS_INPUT, "reshape: extent %lld of dimension %d is not possible",
                        (long long)shape->extent[i], i);
        }
    }
    if (open >= 0 && known > 0) {
        shape->extent[open] = count / known;
        known *= count / known;
    }
    if (known != count)
        return fail(STATUS_INPUT, "reshape: %s does not hold the number of elements asked for",
                    shape_text(x, text));
    return OK;
}

Value reshape(Graph *graph, Value x, int rank, const int64_t extent[])
{
    if (graph_failed(graph)) return NO_VALUE;
    if (rank < 0 || rank > SHAPE_MAX_RANK) {
        graph_fail(graph, STATUS_INPUT, "reshape to %d dimensions; at most %d are possible", rank,
                   SHAPE_MAX_RANK);
        return NO_VALUE;
    }
    const Shape from = graph_shape(graph, x);
    ReshapeAttributes attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.shape = shape_of(from.type, rank, extent);
    Status status = resolve(from, &attributes.shape);
    if (status != OK) {
        graph_fail(graph, status_code(status), "%s", status_message(status));
        status_free(status);
        return NO_VALUE;
    }
    return graph_node(graph, &reshape_op, &x, 1, &attributes, sizeof attributes);
}

static Status reshape_infer(const Node *node, const Shape in[], Shape out[])
{
    const ReshapeAttributes *attributes = node->attributes;
    if (shape_count(attributes->shape) != shape_count(in[0]) || attributes->shape.type != in[0].type)
        return fail(STATUS_INTERNAL, "reshape changes the number or type of elements");
    out[0] = attributes->shape;
    return OK;
}

static void reshape_gradient(Graph *graph, const Node *node, const Value d_out[], const bool wanted[],
                             Value d_in[])
{
    if (!wanted[0] || !value_exists(d_out[0])) return;
    const Shape x = graph_shape(graph, node->input[0]);
    d_in[0] = reshape(graph, d_out[0], x.rank, x.extent);
}

static Cost no_cost(const Node *node, const Shape in[], const Shape out[])
{
    (void)node;
    (void)in;
    (void)out;
    return (Cost){0};
}

const Op reshape_op = {.name = "reshape",
                       .output_count = 1,
                       .infer = reshape_infer,
                       .gradient = reshape_gradient,
                       .cost = no_cost,
                       .alias = ALIAS_RESHAPE};

/* ---- flatten ---- */

Value flatten(Graph *graph, Value x)
{
    if (graph_failed(graph)) return NO_VALUE;
    const Shape shape = graph_shape(graph, x);
    if (shape.rank < 1) {
        graph_fail(graph, STATUS_INPUT, "flatten needs a dimension of samples");
        return NO_VALUE;
    }
    /* Orders differ only where there is more than one pixel. */
    if (shape.rank != 4 || shape.extent[1] * shape.extent[2] == 1 || shape.extent[3] == 1)
        return reshape(graph, x, 2, (int64_t[]){shape.extent[0], shape_count(shape) / shape.extent[0]});
    FlattenAttributes attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.x = shape;
    return graph_node(graph, &flatten_op, &x, 1, &attributes, sizeof attributes);
}

static Status flatten_infer(const Node *node, const Shape in[], Shape out[])
{
    (void)node;
    if (dtype_size(in[0].type) != 4 && in[0].type != BFLOAT16)
        return fail(STATUS_INTERNAL, "flatten of %s is not supported", dtype_name(in[0].type));
    out[0] = shape_of(in[0].type, 2, (int64_t[]){in[0].extent[0], shape_count(in[0]) / in[0].extent[0]});
    return OK;
}

static void flatten_gradient(Graph *graph, const Node *node, const Value d_out[], const bool wanted[],
                             Value d_in[])
{
    if (wanted[0] && value_exists(d_out[0]))
        d_in[0] =
            graph_node(graph, &flatten_backward_op, d_out, 1, node->attributes, sizeof(FlattenAttributes));
}

static Status flatten_backward_infer(const Node *node, const Shape in[], Shape out[])
{
    (void)in;
    const FlattenAttributes *attributes = node->attributes;
    out[0] = attributes->x;
    return OK;
}

const Op flatten_op = {.name = "flatten",
                       .output_count = 1,
                       .infer = flatten_infer,
                       .gradient = flatten_gradient,
                       .kernel = {[DEVICE_CPU] = &flatten_cpu, [DEVICE_CUDA] = &flatten_cuda}};

const Op flatten_backward_op = {
    .name = "flatten_backward",
    .output_count = 1,
    .infer = flatten_backward_infer,
    .kernel = {[DEVICE_CPU] = &flatten_backward_cpu, [DEVICE_CUDA] = &flatten_backward_cuda}};
