#include "engine/ops/decode.h"

#include "engine/ops/ops.h"
#include "engine/ops/table.h"

static Status best_tokens_infer(const Node *node, const Shape in[], Shape out[])
{
    const BestTokensAttributes *a = node->attributes;
    const Shape logits = in[BEST_TOKENS_LOGITS];
    char text[SHAPE_TEXT];
    if (logits.type != FLOAT32 || logits.rank != 2)
        return fail(STATUS_INPUT, "best tokens are of float32 [rows, vocabulary], not of %s",
                    shape_text(logits, text));
    if (a->count < 1 || a->count > BEST_TOKENS_MOST)
        return fail(STATUS_INPUT, "the best %lld tokens: 1 to %d are possible", (long long)a->count,
                    BEST_TOKENS_MOST);
    const int64_t rows = logits.extent[0], starts = rows + 1, banned = shape_count(in[BEST_TOKENS_BANNED]);
    TRY(op_expect_shape(in[BEST_TOKENS_TEMPERATURE], shape_of(FLOAT32, 1, (int64_t[]){1}),
                        "the temperature"));
    TRY(op_expect_shape(in[BEST_TOKENS_FORCED], shape_of(INT32, 1, &rows), "the forced tokens"));
    TRY(op_expect_shape(in[BEST_TOKENS_BANNED_START], shape_of(INT32, 1, &starts),
                        "the starts of banned tokens"));
    TRY(op_expect_shape(in[BEST_TOKENS_BANNED], shape_of(INT32, 1, &banned), "the banned tokens"));
    out[BEST_TOKENS_TOKEN] = shape_of(INT32, 2, (int64_t[]){rows, a->count});
    out[BEST_TOKENS_LOGIT] = shape_of(FLOAT32, 2, (int64_t[]){rows, a->count});
    out[BEST_TOKENS_SCALE] = shape_of(FLOAT32, 2, (int64_t[]){rows, 2});
    return OK;
}

/* An exponential counts as one operation. */
static Cost best_tokens_cost(const Node *node, const Shape in[], const Shape out[])
{
    return (Cost){.flops = 4 * (double)shape_count(in[BEST_TOKENS_LOGITS]), .bytes = op_bytes(node, in, out)};
}

const Op best_tokens_op = {.name = "best_tokens",
                           .output_count = BEST_TOKENS_OUTPUTS,
                           .infer = best_tokens_infer,
                           .cost = best_tokens_cost,
                           .kernel = {[DEVICE_CPU] = &best_tokens_cpu, [DEVICE_CUDA] = &best_tokens_cuda}};

BestTokens best_tokens(Graph *graph, Value logits, BestTokens wanted)
{
    const BestTokensAttributes a = {.count = wanted.count};
    const Value in[BEST_TOKENS_INPUTS] = {[BEST_TOKENS_LOGITS] = logits,
                                          [BEST_TOKENS_TEMPERATURE] = wanted.temperature,
                                          [BEST_TOKENS_FORCED] = wanted.forced,
                                          [BEST_TOKENS_BANNED_START] = wanted.banned_start,
                                          [BEST_TOKENS_BANNED] = wanted.banned};
    wanted.token = graph_node(graph, &best_tokens_op, in, BEST_TOKENS_INPUTS, &a, sizeof a);
    wanted.logit = graph_output(graph, wanted.token, BEST_TOKENS_LOGIT);
    wanted.scale = graph_output(graph, wanted.token, BEST_TOKENS_SCALE);
    return wanted;
}

static Status place_sequences_infer(const Node *node, const Shape in[], Shape out[])
{
    const Shape x = in[PLACE_SEQUENCES_X], state = in[PLACE_SEQUENCES_STATE];
    char text[SHAPE_TEXT], other[SHAPE_TEXT];
    (void)node;
    if (!op_is_activation_type(x.type) || x.rank != 3)
        return fail(STATUS_INPUT, "sequences are float32 or bfloat16 [N,L,C], not %s", shape_text(x, text));
    if (state.type != x.type || state.rank != 3 || state.extent[1] < x.extent[1] ||
        state.extent[2] != x.extent[2])
        return fail(STATUS_INPUT, "%s has no room for sequences of %s", shape_text(state, text),
                    shape_text(x, other));
    TRY(op_expect_shape(in[PLACE_SEQUENCES_ROW], shape_of(INT32, 1, x.extent), "the rows"));
    out[0] = in[PLACE_SEQUENCES_ROW];
    return OK;
}

static Cost place_sequences_cost(const Node *node, const Shape in[], const Shape out[])
{
    (void)node;
    (void)out;
    return (Cost){.bytes = 2 * (double)shape_bytes(in[PLACE_SEQUENCES_X])};
}

const Op place_sequences_op = {
    .name = "place_sequences",
    .output_count = 1,
    .infer = place_sequences_infer,
    .cost = place_sequences_cost,
    .kernel = {[DEVICE_CPU] = &place_sequences_cpu, [DEVICE_CUDA] = &place_sequences_cuda}};

Value place_sequences(Graph *graph, Value x, Value state, Value row)
{
    return graph_node(
        graph, &place_sequences_op,
        (Value[PLACE_SEQUENCES_INPUTS]){
            [PLACE_SEQUENCES_X] = x, [PLACE_SEQUENCES_STATE] = state, [PLACE_SEQUENCES_ROW] = row},
        PLACE_SEQUENCES_INPUTS, NULL, 0);
}
