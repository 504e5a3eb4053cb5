/* Attention: builders, shapes, gradient, cost. */
#include "engine/ops/attention.h"

#include "engine/base/random.h"
#include "engine/ops/ops.h"
#include "engine/ops/table.h"

#include <string.h>

static bool is_there(Shape shape) { return shape.rank >= 0; }

static Status check_list(Shape list, int64_t count, const char *what)
{
    if (!is_there(list)) return OK;
    return op_expect_shape(list, shape_of(INT32, 1, &count), what);
}

/* Checks the inputs of forward. */
static Status check_inputs(const Node *node, const Shape in[])
{
    const AttentionAttributes *a = node->attributes;
    const Shape query = in[ATTENTION_QUERY], keys = in[ATTENTION_KEY_VALUE];
    char text[SHAPE_TEXT];
    if (a->heads < 1 || a->head_width < 1 || query.rank != 3 || !op_is_activation_type(query.type))
        return fail(STATUS_INPUT,
                    "%s of %lld heads needs float32 or bfloat16 [samples, queries, width], not %s",
                    node->op->name, (long long)a->heads, shape_text(query, text));
    const int64_t all = a->heads * a->head_width;
    if (query.extent[2] != (is_there(keys) ? all : 3 * all))
        return fail(STATUS_INPUT, "%s of %lld heads of %lld numbers%s cannot take %s", node->op->name,
                    (long long)a->heads, (long long)a->head_width,
                    is_there(keys) ? "" : " without separate keys and values", shape_text(query, text));
    if (is_there(keys) && (keys.rank != 3 || keys.type != query.type || keys.extent[2] != 2 * all))
        return fail(STATUS_INPUT, "%s: the keys and values must be %s [sequences, keys, %lld], not %s",
                    node->op->name, dtype_name(query.type), (long long)(2 * all), shape_text(keys, text));
    const AttentionSizes sizes = attention_sizes(a, query, keys);
    TRY(check_list(in[ATTENTION_FIRST], sizes.sequences, "the list of first keys"));
    TRY(check_list(in[ATTENTION_END], sizes.sequences, "the list of lengths"));
    TRY(check_list(in[ATTENTION_ROW], sizes.samples, "the list of sequences"));
    if (!is_there(in[ATTENTION_ROW]) && sizes.sequences != sizes.samples)
        return fail(STATUS_INPUT, "%s: queries of %lld samples and keys of %lld sequences", node->op->name,
                    (long long)sizes.samples, (long long)sizes.sequences);
    if (!(a->probability >= 0 && a->probability < 1))
        return fail(STATUS_INPUT, "%s with dropout of probability %g; it must be in [0, 1)", node->op->name,
                    a->probability);
    if (a->probability > 0)
        TRY(op_expect_shape(in[ATTENTION_CLOCK], shape_of(INT64, 1, (int64_t[]){CLOCK_COUNT}), "the clock"));
    return OK;
}

static Shape output_shape(const AttentionAttributes *a, Shape query)
{
    query.extent[2] = a->heads * a->head_width;
    return query;
}

static Shape sum_shape(const AttentionAttributes *a, Shape query)
{
    return shape_of(FLOAT32, 3, (int64_t[]){query.extent[0], a->heads, query.extent[1]});
}

static Status infer(const Node *node, const Shape in[], Shape out[])
{
    TRY(check_inputs(node, in));
    out[ATTENTION_Y] = output_shape(node->attributes, in[ATTENTION_QUERY]);
    out[ATTENTION_SUM] = sum_shape(node->attributes, in[ATTENTION_QUERY]);
    return OK;
}

static Status backward_infer(const Node *node, const Shape in[], Shape out[])
{
    const AttentionAttributes *a = node->attributes;
    const Shape *forward = in + ATTENTION_BACKWARD_FORWARD;
    TRY(check_inputs(node, forward));
    const Shape y = output_shape(a, forward[ATTENTION_QUERY]);
    TRY(op_expect_shape(in[ATTENTION_BACKWARD_DY], y, "the gradient of y"));
    TRY(op_expect_shape(in[ATTENTION_BACKWARD_Y], y, "y"));
    TRY(op_expect_shape(in[ATTENTION_BACKWARD_SUM], sum_shape(a, forward[ATTENTION_QUERY]), "the sums"));
    if (is_there(forward[ATTENTION_ROW]))
        return fail(STATUS_INTERNAL, "%s: the gradient of chosen sequences is not known", node->op->name);
    out[ATTENTION_BACKWARD_DQUERY] = forward[ATTENTION_QUERY];
    if (is_there(forward[ATTENTION_KEY_VALUE]))
        out[ATTENTION_BACKWARD_DKEY_VALUE] = forward[ATTENTION_KEY_VALUE];
    return OK;
}

static void gradient(Graph *graph, const Node *node, const Value d_out[], const bool wanted[], Value d_in[])
{
    if (!value_exists(d_out[ATTENTION_Y])) return;
    Value inputs[ATTENTION_BACKWARD_INPUTS] = {
        [ATTENTION_BACKWARD_DY] = d_out[ATTENTION_Y],
        [ATTENTION_BACKWARD_Y] = node->output[ATTENTION_Y],
        [ATTENTION_BACKWARD_SUM] = node->output[ATTENTION_SUM],
    };
    for (int i = 0; i < ATTENTION_INPUTS; ++i)
        inputs[ATTENTION_BACKWARD_FORWARD + i] = node->input[i];
    const AttentionAttributes *a = node->attributes;
    const Value d_query =
        graph_node(graph, &attention_backward_op, inputs, ATTENTION_BACKWARD_INPUTS, a, sizeof *a);
    if (wanted[ATTENTION_QUERY]) d_in[ATTENTION_QUERY] = d_query;
    if (value_exists(node->input[ATTENTION_KEY_VALUE]) && wanted[ATTENTION_KEY_VALUE])
        d_in[ATTENTION_KEY_VALUE] = graph_output(graph, d_query, ATTENTION_BACKWARD_DKEY_VALUE);
}

/* Of sequences without padding; of a causal mask half the pairs are left. */
static double pairs(const AttentionAttributes *a, Shape query, Shape key_value)
{
    const AttentionSizes s = attention_sizes(a, query, key_value);
    return (double)s.samples * (double)s.queries * (double)s.keys * (a->causal ? 0.5 : 1) *
           (double)(s.heads * s.width);
}

static Cost cost(const Node *node, const Shape in[], const Shape out[])
{
    return (Cost){.flops = 4 * pairs(node->attributes, in[ATTENTION_QUERY], in[ATTENTION_KEY_VALUE]),
                  .bytes = op_bytes(node, in, out)};
}

static Cost backward_cost(const Node *node, const Shape in[], const Shape out[])
{
    const Shape *forward = in + ATTENTION_BACKWARD_FORWARD;
    return (Cost){.flops =
                      10 * pairs(node->attributes, forward[ATTENTION_QUERY], forward[ATTENTION_KEY_VALUE]),
                  .bytes = op_bytes(node, in, out)};
}

const Op attention_op = {
    .name = "attention",
    .output_count = ATTENTION_OUTPUTS,
    .infer = infer,
    .gradient = gradient,
    .cost = cost,
    .kernel = {[DEVICE_CPU] = &attention_cpu, [DEVICE_CUDA] = &attention_cuda},
};

const Op attention_backward_op = {
    .name = "attention_backward",
    .output_count = ATTENTION_BACKWARD_OUTPUTS,
    .infer = backward_infer,
    .cost = backward_cost,
    .kernel = {[DEVICE_CPU] = &attention_backward_cpu, [DEVICE_CUDA] = &attention_backward_cuda},
};

Value attention(Graph *graph, Value query, AttentionKeys keys, Attention options)
{
    if (graph_failed(graph)) return NO_VALUE;
    const Shape shape = graph_shape(graph, query);
    const int64_t parts = value_exists(keys.key_value) ? 1 : 3;
    if (shape.rank != 3 || options.heads < 1 || shape.extent[2] % (parts * options.heads) != 0) {
        char text[SHAPE_TEXT];
        graph_fail(graph, STATUS_INPUT,
                   "attention of %lld heads cannot take %s: the width is no multiple of %lld",
                   (long long)options.heads, shape_text(shape, text), (long long)(parts * options.heads));
        return NO_VALUE;
    }
    const bool drops = graph_mode(graph) == GRAPH_TRAIN && options.dropout != 0;
    const AttentionAttributes a = {.heads = options.heads,
                                   .head_width = shape.extent[2] / (parts * options.heads),
                                   .causal = options.causal,
                                   .probability = drops ? options.dropout : 0,
                                   .name_key = drops ? random_name_key(graph_scope(graph)) : 0};
    for (int i = 0; drops && i < graph_node_count(graph); ++i)
        if (graph_node_at(graph, i)->op == &attention_op &&
            strcmp(graph_node_at(graph, i)->scope, graph_scope(graph)) == 0)
            graph_fail(graph, STATUS_INTERNAL, "two attentions in this scope would drop the same weights");
    const Value inputs[ATTENTION_INPUTS] = {
        [ATTENTION_QUERY] = query,      [ATTENTION_KEY_VALUE] = keys.key_value,
        [ATTENTION_FIRST] = keys.first, [ATTENTION_END] = keys.end,
        [ATTENTION_ROW] = keys.row,     [ATTENTION_CLOCK] = drops ? graph_clock(graph) : NO_VALUE,
    };
    return graph_node(graph, &attention_op, inputs, ATTENTION_INPUTS, &a, sizeof a);
}

/* ---- a step of decoding ---- */

static Status step_infer(const Node *node, const Shape in[], Shape out[])
{
    const AttentionStepAttributes *a = node->attributes;
    const Shape x = in[ATTENTION_STEP_QUERY_KEY_VALUE], cache = in[ATTENTION_STEP_CACHE];
    const int64_t all = a->heads * a->head_width;
    char text[SHAPE_TEXT];
    if (a->heads < 1 || x.rank != 2 || !op_is_activation_type(x.type) || x.extent[1] != 3 * all)
        return fail(
            STATUS_INPUT,
            "attention_step of %lld heads of %lld numbers needs float32 or bfloat16 [rows, %lld], not %s",
            (long long)a->heads, (long long)a->head_width, (long long)(3 * all), shape_text(x, text));
    if (cache.rank != 3 || cache.type != x.type || cache.extent[2] != 2 * all)
        return fail(STATUS_INPUT, "attention_step: the cache must be %s [slots, positions, %lld], not %s",
                    dtype_name(x.type), (long long)(2 * all), shape_text(cache, text));
    TRY(op_expect_shape(in[ATTENTION_STEP_TABLE],
                        shape_of(INT32, 2, (int64_t[]){x.extent[0], cache.extent[1]}), "the table"));
    TRY(op_expect_shape(in[ATTENTION_STEP_POSITION], shape_of(INT32, 1, x.extent), "the list of positions"));
    out[0] = shape_of(x.type, 2, (int64_t[]){x.extent[0], all});
    return OK;
}

/* Of full caches. */
static Cost step_cost(const Node *node, const Shape in[], const Shape out[])
{
    const double positions = (double)in[ATTENTION_STEP_CACHE].extent[1];
    (void)node;
    return (Cost){.flops = 4 * (double)shape_count(out[0]) * positions,
                  .bytes = (double)shape_bytes(out[0]) * (4 + 2 * positions)};
}

const Op attention_step_op = {
    .name = "attention_step",
    .output_count = 1,
    .infer = step_infer,
    .cost = step_cost,
    .kernel = {[DEVICE_CPU] = &attention_step_cpu, [DEVICE_CUDA] = &attention_step_cuda},
};

Value attention_step(Graph *graph, Value query_key_value, Value cache, Value table, Value position,
                     int64_t heads)
{
    if (graph_failed(graph)) return NO_VALUE;
    const Shape shape = graph_shape(graph, query_key_value);
    const AttentionStepAttributes a = {
        .heads = heads, .head_width = heads > 0 && shape.rank == 2 ? shape.extent[1] / (3 * heads) : 0};
    const Value inputs[ATTENTION_STEP_INPUTS] = {[ATTENTION_STEP_QUERY_KEY_VALUE] = query_key_value,
                                                 [ATTENTION_STEP_CACHE] = cache,
                                                 [ATTENTION_STEP_TABLE] = table,
                                                 [ATTENTION_STEP_POSITION] = position};
    return graph_node(graph, &attention_step_op, inputs, ATTENTION_STEP_INPUTS, &a, sizeof a);
}
