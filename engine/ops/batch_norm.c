/* Batch normalisation: builder, shapes, gradient, cost, fusion. */
#include "engine/ops/batch_norm.h"

#include "engine/ops/ops.h"
#include "engine/ops/table.h"

#include <string.h>

Value batch_norm(Graph *graph, const char *name, Value x, BatchNorm options)
{
    if (graph_failed(graph)) return NO_VALUE;
    graph_enter(graph, name);
    const int64_t channels = shape_columns(graph_shape(graph, x));
    const Shape vector = shape_of(FLOAT32, 1, &channels);
    const BatchNormAttributes attributes = {
        .epsilon = options.epsilon == 0 ? 1e-5 : options.epsilon,
        .momentum = options.momentum == 0 ? 0.1 : options.momentum,
        .synchronize = options.synchronize,
        .train = graph_mode(graph) == GRAPH_TRAIN,
    };
    const Value inputs[BATCH_NORM_INPUTS] = {
        [BATCH_NORM_X] = x,
        [BATCH_NORM_WEIGHT] = graph_parameter(graph, "weight", vector, (Init){.kind = INIT_ONES}),
        [BATCH_NORM_BIAS] = graph_parameter(graph, "bias", vector, (Init){.kind = INIT_ZEROS}),
        [BATCH_NORM_RUNNING_MEAN] = graph_state(graph, "running_mean", vector, (Init){.kind = INIT_ZEROS}),
        [BATCH_NORM_RUNNING_VAR] = graph_state(graph, "running_var", vector, (Init){.kind = INIT_ONES}),
        [BATCH_NORM_BATCHES_TRACKED] =
            graph_state(graph, "num_batches_tracked", shape_of(INT64, 0, NULL), (Init){.kind = INIT_ZEROS}),
        [BATCH_NORM_RESIDUAL] = NO_VALUE,
        [BATCH_NORM_CLOCK] = attributes.train ? graph_clock(graph) : NO_VALUE,
    };
    const Value y =
        graph_node(graph, &batch_norm_op, inputs, BATCH_NORM_INPUTS, &attributes, sizeof attributes);
    graph_leave(graph);
    return y;
}

static Status check_x(const Node *node, Shape x)
{
    char text[SHAPE_TEXT];
    if (x.rank >= 2 && op_is_activation_type(x.type)) return OK;
    return fail(STATUS_INPUT, "%s: x must be float32 or bfloat16 with two dimensions or more, not %s",
                node->op->name, shape_text(x, text));
}

static Status check_clock(Shape clock)
{
    if (clock.rank < 0) return OK;
    return op_expect_shape(clock, shape_of(INT64, 1, (int64_t[]){CLOCK_COUNT}), "the clock");
}

static Shape mask_shape(Shape x)
{
    x.type = UINT8;
    x.extent[x.rank - 1] = (x.extent[x.rank - 1] + 7) / 8;
    return x;
}

static Status infer(const Node *node, const Shape in[], Shape out[])
{
    const BatchNormAttributes *attributes = node->attributes;
    const Shape x = in[BATCH_NORM_X];
    TRY(check_x(node, x));
    const Shape vector = shape_of(FLOAT32, 1, (int64_t[]){shape_columns(x)});
    TRY(op_expect_shape(in[BATCH_NORM_WEIGHT], vector, "weight"));
    TRY(op_expect_shape(in[BATCH_NORM_BIAS], vector, "bias"));
    TRY(op_expect_shape(in[BATCH_NORM_RUNNING_MEAN], vector, "running_mean"));
    TRY(op_expect_shape(in[BATCH_NORM_RUNNING_VAR], vector, "running_var"));
    if (in[BATCH_NORM_RESIDUAL].rank >= 0) TRY(op_expect_shape(in[BATCH_NORM_RESIDUAL], x, "the residual"));
    TRY(check_clock(in[BATCH_NORM_CLOCK]));
    if (!(attributes->epsilon > 0) || !(attributes->momentum > 0 && attributes->momentum <= 1))
        return fail(STATUS_INPUT, "batch_norm: epsilon %g must be positive, momentum %g in (0, 1]",
                    attributes->epsilon, attributes->momentum);
    if (attributes->train && !attributes->synchronize && shape_rows(x) < 2) {
        char text[SHAPE_TEXT];
        return fail(STATUS_INPUT,
                    "batch_norm needs more than one value a channel to train, and %s has one; use a larger "
                    "batch",
                    shape_text(x, text));
    }
    out[BATCH_NORM_Y] = x;
    out[BATCH_NORM_MEAN] = out[BATCH_NORM_INVERSE_DEVIATION] = vector;
    out[BATCH_NORM_MASK] = mask_shape(x);
    return OK;
}

static void gradient(Graph *graph, const Node *node, const Value d_out[], const bool wanted[], Value d_in[])
{
    const BatchNormAttributes *attributes = node->attributes;
    const Value dy = d_out[BATCH_NORM_Y];
    if (!value_exists(dy)) return;
    const bool has_residual = value_exists(node->input[BATCH_NORM_RESIDUAL]);
    const Value inputs[BATCH_NORM_BACKWARD_INPUTS] = {
        [BATCH_NORM_BACKWARD_DY] = dy,
        [BATCH_NORM_BACKWARD_X] = node->input[BATCH_NORM_X],
        [BATCH_NORM_BACKWARD_WEIGHT] = node->input[BATCH_NORM_WEIGHT],
        [BATCH_NORM_BACKWARD_BIAS] = node->input[BATCH_NORM_BIAS],
        [BATCH_NORM_BACKWARD_MEAN] = node->output[BATCH_NORM_MEAN],
        [BATCH_NORM_BACKWARD_INVERSE_DEVIATION] = node->output[BATCH_NORM_INVERSE_DEVIATION],
        [BATCH_NORM_BACKWARD_MASK] =
            has_residual && attributes->relu ? node->output[BATCH_NORM_MASK] : NO_VALUE,
        [BATCH_NORM_BACKWARD_ADDEND] = NO_VALUE,
        [BATCH_NORM_BACKWARD_CLOCK] = node->input[BATCH_NORM_CLOCK],
    };
    const Value dx = graph_node(graph, &batch_norm_backward_op, inputs, BATCH_NORM_BACKWARD_INPUTS,
                                attributes, sizeof *attributes);
    d_in[BATCH_NORM_X] = dx;
    d_in[BATCH_NORM_WEIGHT] = graph_output(graph, dx, BATCH_NORM_BACKWARD_DWEIGHT);
    d_in[BATCH_NORM_BIAS] = graph_output(graph, dx, BATCH_NORM_BACKWARD_DBIAS);
    if (has_residual && wanted[BATCH_NORM_RESIDUAL])
        d_in[BATCH_NORM_RESIDUAL] =
            attributes->relu ? graph_output(graph, dx, BATCH_NORM_BACKWARD_DRESIDUAL) : dy;
}

static Status infer_backward(const Node *node, const Shape in[], Shape out[])
{
    const BatchNormAttributes *attributes = node->attributes;
    const Shape x = in[BATCH_NORM_BACKWARD_X], mask = in[BATCH_NORM_BACKWARD_MASK];
    TRY(check_x(node, x));
    const Shape vector = shape_of(FLOAT32, 1, (int64_t[]){shape_columns(x)});
    TRY(op_expect_shape(in[BATCH_NORM_BACKWARD_DY], x, "dy"));
    if (in[BATCH_NORM_BACKWARD_ADDEND].rank >= 0)
        TRY(op_expect_shape(in[BATCH_NORM_BACKWARD_ADDEND], x, "the addend"));
    TRY(check_clock(in[BATCH_NORM_BACKWARD_CLOCK]));
    TRY(op_expect_shape(in[BATCH_NORM_BACKWARD_WEIGHT], vector, "weight"));
    TRY(op_expect_shape(in[BATCH_NORM_BACKWARD_BIAS], vector, "bias"));
    TRY(op_expect_shape(in[BATCH_NORM_BACKWARD_MEAN], vector, "mean"));
    TRY(op_expect_shape(in[BATCH_NORM_BACKWARD_INVERSE_DEVIATION], vector, "the inverse deviation"));
    if (mask.rank >= 0) {
        TRY(op_expect_shape(mask, mask_shape(x), "the mask"));
        if (!attributes->relu) return fail(STATUS_INTERNAL, "a mask without a ReLU");
    }
    out[BATCH_NORM_BACKWARD_DX] = x;
    out[BATCH_NORM_BACKWARD_DWEIGHT] = out[BATCH_NORM_BACKWARD_DBIAS] = vector;
    out[BATCH_NORM_BACKWARD_DRESIDUAL] = mask.rank >= 0 ? x : shape_of(x.type, 1, (int64_t[]){1});
    return OK;
}

/* The passes over memory that the definition needs: once for the statistics, once to normalise. */
static Cost cost(const Node *node, const Shape in[], const Shape out[])
{
    (void)out;
    const BatchNormAttributes *attributes = node->attributes;
    const double count = (double)shape_count(in[BATCH_NORM_X]), bytes = (double)shape_bytes(in[BATCH_NORM_X]);
    const bool has_residual = in[BATCH_NORM_RESIDUAL].rank >= 0;
    return (Cost){.flops = count * ((attributes->train ? 7 : 3) + (attributes->relu ? 1 : 0) + has_residual),
                  .bytes = bytes * ((attributes->train ? 3 : 2) + has_residual)};
}

static Cost cost_backward(const Node *node, const Shape in[], const Shape out[])
{
    (void)out;
    const BatchNormAttributes *attributes = node->attributes;
    const double count = (double)shape_count(in[BATCH_NORM_BACKWARD_X]),
                 bytes = (double)shape_bytes(in[BATCH_NORM_BACKWARD_X]);
    const int passes = 3 /* dy, x, dx */ + (attributes->train ? 2 : 0) + /* dy and x again */
                       (in[BATCH_NORM_BACKWARD_MASK].rank >= 0) +        /* dresidual */
                       (in[BATCH_NORM_BACKWARD_ADDEND].rank >= 0);
    return (Cost){.flops = count * (attributes->relu ? 12 : 9), .bytes = bytes * passes};
}

bool batch_norm_fuse(const Graph *graph, int index, Value residual, Fusion *fusion)
{
    const Node *node = graph_node_at(graph, index);
    if (node->op != &batch_norm_op) return false;
    BatchNormAttributes attributes = *(const BatchNormAttributes *)node->attributes;
    if (attributes.relu || value_exists(node->input[BATCH_NORM_RESIDUAL])) return false;
    attributes.relu = true;
    fusion->op = &batch_norm_op;
    fusion->input_count = BATCH_NORM_INPUTS;
    memcpy(fusion->input, node->input, BATCH_NORM_INPUTS * sizeof *node->input);
    fusion->input[BATCH_NORM_RESIDUAL] = residual;
    fusion->output_count = BATCH_NORM_OUTPUTS;
    memcpy(fusion->output, node->output, BATCH_NORM_OUTPUTS * sizeof *node->output);
    memcpy(fusion->attributes, &attributes, sizeof attributes);
    fusion->attribute_bytes = sizeof attributes;
    fusion->absorbed[0] = index;
    fusion->absorbed_count = 1;
    return true;
}

const Op batch_norm_op = {.name = "batch_norm",
                          .output_count = BATCH_NORM_OUTPUTS,
                          .infer = infer,
                          .gradient = gradient,
                          .cost = cost,
                          .kernel = {[DEVICE_CPU] = &batch_norm_cpu, [DEVICE_CUDA] = &batch_norm_cuda}};

const Op batch_norm_backward_op = {
    .name = "batch_norm_backward",
    .output_count = BATCH_NORM_BACKWARD_OUTPUTS,
    .infer = infer_backward,
    .cost = cost_backward,
    .addend = BATCH_NORM_BACKWARD_ADDEND,
    .kernel = {[DEVICE_CPU] = &batch_norm_backward_cpu, [DEVICE_CUDA] = &batch_norm_backward_cuda}};
