/* Vectors of positions: builder, shapes, gradient, cost. */
#include "engine/ops/positions.h"

#include "engine/ops/table.h"

#include <math.h>

void positions_table(PositionKind kind, int64_t count, int64_t width, float *table)
{
    const double half = (double)width / 2, ten_thousand = 10000;
    for (int64_t i = 0; i < width / 2; ++i) {
        double exponent = (double)i / half;
        if (kind == POSITIONS_HALVES_TENSOR2TENSOR) exponent = half > 1 ? (double)i / (half - 1) : 0;
        const double frequency = pow(ten_thousand, -exponent);
        const bool alternates = kind == POSITIONS_INTERLEAVED;
        const int64_t sine = alternates ? 2 * i : i, cosine = alternates ? 2 * i + 1 : width / 2 + i;
        for (int64_t p = 0; p < count; ++p) {
            table[p * width + sine] = (float)sin((double)p * frequency);
            table[p * width + cosine] = (float)cos((double)p * frequency);
        }
    }
}

static Status infer(const Node *node, const Shape in[], Shape out[])
{
    const PositionsAttributes *a = node->attributes;
    const Shape x = in[POSITIONS_X], position = in[POSITIONS_POSITION], weight = in[POSITIONS_WEIGHT];
    char text[SHAPE_TEXT];
    if (!op_is_activation_type(x.type) || x.rank != (position.rank >= 0 ? 2 : 3))
        return fail(STATUS_INPUT, "positions%s: x must be float32 or bfloat16 [%s], not %s",
                    position.rank >= 0 ? " of rows" : "",
                    position.rank >= 0 ? "rows, width" : "samples, length, width", shape_text(x, text));
    if (position.rank >= 0)
        TRY(op_expect_shape(position, shape_of(INT32, 1, x.extent), "the list of positions"));
    const int64_t width = shape_columns(x);
    if (a->kind != POSITIONS_LEARNED && width % 2 != 0)
        return fail(STATUS_INPUT, "positions: sines and cosines need an even width, not %lld",
                    (long long)width);
    if (a->kind == POSITIONS_LEARNED)
        TRY(op_expect_shape(weight, shape_of(FLOAT32, 2, (int64_t[]){a->most, width}), "the weight"));
    if (position.rank < 0 && x.extent[1] > a->most)
        return fail(STATUS_INPUT,
                    "positions: sequences of %lld are longer than the %lld positions that there are",
                    (long long)x.extent[1], (long long)a->most);
    out[0] = x;
    return OK;
}

static void gradient(Graph *graph, const Node *node, const Value d_out[], const bool wanted[], Value d_in[])
{
    if (!value_exists(d_out[0])) return;
    d_in[POSITIONS_X] = d_out[0];
    if (value_exists(node->input[POSITIONS_WEIGHT]) && wanted[POSITIONS_WEIGHT])
        d_in[POSITIONS_WEIGHT] = graph_node(graph, &positions_backward_op, &d_out[0], 1, node->attributes,
                                            sizeof(PositionsAttributes));
}

static Status backward_infer(const Node *node, const Shape in[], Shape out[])
{
    const PositionsAttributes *a = node->attributes;
    if (in[0].rank != 3)
        return fail(STATUS_INTERNAL, "positions: the gradient of positions that are given is not known");
    out[0] = shape_of(FLOAT32, 2, (int64_t[]){a->most, shape_columns(in[0])});
    return OK;
}

static Cost cost(const Node *node, const Shape in[], const Shape out[])
{
    return (Cost){.flops = (double)shape_count(in[0]), .bytes = op_bytes(node, in, out)};
}

const Op positions_op = {
    .name = "positions",
    .output_count = 1,
    .infer = infer,
    .gradient = gradient,
    .cost = cost,
    .kernel = {[DEVICE_CPU] = &positions_cpu, [DEVICE_CUDA] = &positions_cuda},
};

const Op positions_backward_op = {
    .name = "positions_backward",
    .output_count = 1,
    .infer = backward_infer,
    .cost = cost,
    .kernel = {[DEVICE_CPU] = &positions_backward_cpu, [DEVICE_CUDA] = &positions_backward_cuda},
};

Value positions(Graph *graph, const char *name, Value x, Value position, Positions options)
{
    if (graph_failed(graph)) return NO_VALUE;
    const Shape shape = graph_shape(graph, x);
    const PositionsAttributes a = {.kind = options.kind,
                                   .most = options.most > 0 || shape.rank < 2 || value_exists(position)
                                               ? options.most
                                               : shape.extent[1]};
    graph_enter(graph, name);
    Value y = NO_VALUE;
    if (shape.rank < 2 || a.most < 1) {
        char text[SHAPE_TEXT];
        graph_fail(graph, STATUS_INPUT, "%lld positions for %s", (long long)a.most, shape_text(shape, text));
    } else {
        const int64_t width = shape_columns(shape);
        Value weight = NO_VALUE;
        if (a.kind == POSITIONS_LEARNED) /* as the embedding that they are added to, before it is scaled */
            weight = graph_parameter(graph, "weight", shape_of(FLOAT32, 2, (int64_t[]){a.most, width}),
                                     (Init){INIT_NORMAL, 1 / sqrt((double)width)});
        y = graph_node(graph, &positions_op, (Value[]){x, position, weight}, POSITIONS_INPUTS, &a, sizeof a);
    }
    graph_leave(graph);
    return y;
}
