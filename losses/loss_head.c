#include "losses/loss_head.h"

#include "losses/loss_output.h"

static bool shape_is(Shape shape, DType type, int rank, int64_t rows)
{
    return shape.type == type && shape.rank == rank && shape.extent[0] == rows;
}

static Status infer(const Node *node, const Shape in[], Shape out[])
{
    const LossHead *head = node->attributes;
    const Shape logits = in[HEAD_LOGITS];
    char text[SHAPE_TEXT];
    if (logits.type != FLOAT32 || logits.rank != 2 || logits.extent[1] < 1)
        return fail(STATUS_INTERNAL, "logits must be float32[samples, classes], not %s",
                    shape_text(logits, text));
    const int64_t samples = logits.extent[0];
    if (!shape_is(in[HEAD_TARGET], INT32, 1, samples))
        return fail(STATUS_INTERNAL, "target must be int32[%lld], not %s", (long long)samples,
                    shape_text(in[HEAD_TARGET], text));
    if (!shape_is(in[HEAD_WEIGHT], FLOAT32, 1, samples))
        return fail(STATUS_INTERNAL, "weight must be float32[%lld], not %s", (long long)samples,
                    shape_text(in[HEAD_WEIGHT], text));
    if (head->gamma.by_epoch && !shape_is(in[HEAD_CLOCK], INT64, 1, CLOCK_COUNT))
        return fail(STATUS_INTERNAL, "a gamma that follows the epoch needs the clock");
    out[HEAD_SUMS] = shape_of(FLOAT64, 1, (const int64_t[]){LOSS_SUMS});
    out[HEAD_GRADIENT] = logits;
    out[HEAD_CONFIDENCE] = shape_of(FLOAT32, 1, &samples);
    out[HEAD_CORRECT] = shape_of(FLOAT32, 1, &samples);
    return OK;
}

/* The forward kernel has already made the gradient: it is one of the outputs. */
static void gradient(Graph *graph, const Node *node, const Value d_out[], const bool wanted[], Value d_in[])
{
    if (!value_is_root_gradient(d_out[HEAD_SUMS])) {
        graph_fail(graph, STATUS_INTERNAL, "a loss ends its graph: nothing can be differentiated through it");
        return;
    }
    if (wanted[HEAD_LOGITS]) d_in[HEAD_LOGITS] = node->output[HEAD_GRADIENT];
}

static Cost cost(const Node *node, const Shape in[], const Shape out[])
{
    /* Of one element: an exponential in float64, its sums, the gradient; twice where the batch is coupled. */
    const double flops_per_element = 40;
    const LossHead *head = node->attributes;
    const double sweeps = head->penalty == PENALTY_NONE ? 1 : 2;
    Cost total = {.flops = sweeps * flops_per_element * (double)shape_count(in[HEAD_LOGITS])};
    total.bytes = sweeps * (double)shape_bytes(in[HEAD_LOGITS]);
    for (int i = HEAD_TARGET; i <= HEAD_WEIGHT; ++i)
        total.bytes += (double)shape_bytes(in[i]);
    for (int i = 0; i < HEAD_OUTPUTS; ++i)
        total.bytes += (double)shape_bytes(out[i]);
    return total;
}

const Op op_loss_head = {
    .name = "loss_head",
    .output_count = HEAD_OUTPUTS,
    .infer = infer,
    .gradient = gradient,
    .cost = cost,
    .fuse = loss_output_fuse,
    .kernel = {[DEVICE_CPU] = &loss_head_cpu, [DEVICE_CUDA] = &loss_head_cuda},
};

Value loss_head(Graph *graph, Value logits, Value target, Value weight, const LossHead *head)
{
    const Value inputs[HEAD_INPUTS] = {
        [HEAD_LOGITS] = logits,
        [HEAD_TARGET] = target,
        [HEAD_WEIGHT] = weight,
        [HEAD_CLOCK] = head->gamma.by_epoch ? graph_clock(graph) : NO_VALUE,
    };
    return graph_node(graph, &op_loss_head, inputs, HEAD_INPUTS, head, sizeof *head);
}
