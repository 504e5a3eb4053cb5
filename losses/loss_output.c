#include "losses/loss_output.h"

#include "engine/ops/table.h"
#include "losses/loss.h"

#include <string.h>

/* Logits of fewer elements stay in cache, where nothing is to be won. */
enum { WORTH_IT = 1 << 18 };

static bool shape_is(Shape shape, DType type, int rank, int64_t rows, int64_t columns)
{
    return shape.type == type && shape.rank == rank && shape.extent[0] == rows &&
           (rank < 2 || shape.extent[1] == columns);
}

static Status infer(const Node *node, const Shape in[], Shape out[])
{
    const LossOutput *output = node->attributes;
    const Shape hidden = in[OUTPUT_HIDDEN], matrix = in[OUTPUT_MATRIX];
    char text[SHAPE_TEXT];
    if (hidden.rank != 2 || !op_is_activation_type(hidden.type))
        return fail(STATUS_INTERNAL,
                    "what is before the output layer must be float32 or bfloat16 [samples, width], not %s",
                    shape_text(hidden, text));
    if (matrix.rank != 2 || matrix.extent[0] < 1 ||
        !shape_is(matrix, FLOAT32, 2, matrix.extent[0], hidden.extent[1]))
        return fail(STATUS_INTERNAL, "the output layer must be float32[classes, %lld], not %s",
                    (long long)hidden.extent[1], shape_text(matrix, text));
    const int64_t samples = hidden.extent[0];
    if (!shape_is(in[OUTPUT_TARGET], INT32, 1, samples, 0))
        return fail(STATUS_INTERNAL, "target must be int32[%lld], not %s", (long long)samples,
                    shape_text(in[OUTPUT_TARGET], text));
    if (!shape_is(in[OUTPUT_WEIGHT], FLOAT32, 1, samples, 0))
        return fail(STATUS_INTERNAL, "weight must be float32[%lld], not %s", (long long)samples,
                    shape_text(in[OUTPUT_WEIGHT], text));
    if (output->head.gamma.by_epoch && !shape_is(in[OUTPUT_CLOCK], INT64, 1, CLOCK_COUNT, 0))
        return fail(STATUS_INTERNAL, "a gamma that follows the epoch needs the clock");
    out[OUTPUT_SUMS] = shape_of(FLOAT64, 1, (const int64_t[]){LOSS_SUMS});
    out[OUTPUT_D_HIDDEN] = hidden;
    out[OUTPUT_D_MATRIX] = matrix;
    out[OUTPUT_CONFIDENCE] = shape_of(FLOAT32, 1, &samples);
    out[OUTPUT_CORRECT] = shape_of(FLOAT32, 1, &samples);
    return OK;
}

static void gradient(Graph *graph, const Node *node, const Value d_out[], const bool wanted[], Value d_in[])
{
    if (!value_is_root_gradient(d_out[OUTPUT_SUMS])) {
        graph_fail(graph, STATUS_INTERNAL, "a loss ends its graph: nothing can be differentiated through it");
        return;
    }
    if (wanted[OUTPUT_HIDDEN]) d_in[OUTPUT_HIDDEN] = node->output[OUTPUT_D_HIDDEN];
    if (wanted[OUTPUT_MATRIX]) d_in[OUTPUT_MATRIX] = node->output[OUTPUT_D_MATRIX];
}

/* Three products, or four, and for each logit what the loss head does. */
static Cost cost(const Node *node, const Shape in[], const Shape out[])
{
    const LossOutput *output = node->attributes;
    const double flops_per_element = 40, sweeps = output->head.penalty == PENALTY_NONE ? 1 : 2;
    const double logits = (double)in[OUTPUT_HIDDEN].extent[0] * (double)in[OUTPUT_MATRIX].extent[0];
    return (Cost){.flops = (2 + sweeps) * 2 * logits * (double)in[OUTPUT_HIDDEN].extent[1] +
                           sweeps * flops_per_element * logits,
                  .bytes = op_bytes(node, in, out)};
}

const Op op_loss_output = {
    .name = "loss_output",
    .output_count = OUTPUT_OUTPUTS,
    .infer = infer,
    .gradient = gradient,
    .cost = cost,
    .kernel = {[DEVICE_CPU] = &loss_output_cpu, [DEVICE_CUDA] = &loss_output_cuda},
};

Value loss_output(Graph *graph, Value hidden, Value matrix, Value target, Value weight,
                  const LossOutput *output)
{
    const Value inputs[OUTPUT_INPUTS] = {
        [OUTPUT_HIDDEN] = hidden,
        [OUTPUT_MATRIX] = matrix,
        [OUTPUT_TARGET] = target,
        [OUTPUT_WEIGHT] = weight,
        [OUTPUT_CLOCK] = output->head.gamma.by_epoch ? graph_clock(graph) : NO_VALUE,
    };
    return graph_node(graph, &op_loss_output, inputs, OUTPUT_INPUTS, output, sizeof *output);
}

/* ---- fusion ---- */

bool loss_takes_logits(const Graph *graph, Value logits)
{
    if (graph_mode(graph) != GRAPH_TRAIN || !value_exists(logits) || graph_producer(graph, logits) < 0)
        return false;
    const Node *layer = graph_node_at(graph, graph_producer(graph, logits));
    const Shape shape = graph_shape(graph, logits);
    return layer->op == &linear_op && layer->input_count == 2 && shape.type == FLOAT32 && shape.rank == 2 &&
           graph_role(graph, layer->input[1]) == ROLE_PARAMETER && shape_count(shape) >= WORTH_IT &&
           graph_use_count(graph, logits) <= 1;
}

bool loss_output_fuse(const Graph *graph, int index, Fusion *fusion)
{
    const Node *node = graph_node_at(graph, index);
    const Value logits = node->input[HEAD_LOGITS];
    if (!loss_takes_logits(graph, logits)) return false;
    for (int i = HEAD_GRADIENT; i < HEAD_OUTPUTS; ++i)
        if (graph_use_count(graph, node->output[i]) > 0) return false;
    const int before = graph_producer(graph, logits);
    const Node *layer = graph_node_at(graph, before);
    const LossHead *head = node->attributes;
    const LossOutput output = {.head = *head};
    *fusion = (Fusion){.op = &op_loss_output,
                       .input_count = OUTPUT_INPUTS,
                       .output_count = OUTPUT_OUTPUTS,
                       .attribute_bytes = sizeof output,
                       .absorbed = {before},
                       .absorbed_count = 1};
    memcpy(fusion->attributes, &output, sizeof output);
    fusion->input[OUTPUT_HIDDEN] = layer->input[0];
    fusion->input[OUTPUT_MATRIX] = layer->input[1];
    fusion->input[OUTPUT_TARGET] = node->input[HEAD_TARGET];
    fusion->input[OUTPUT_WEIGHT] = node->input[HEAD_WEIGHT];
    fusion->input[OUTPUT_CLOCK] = node->input[HEAD_CLOCK];
    fusion->output[OUTPUT_SUMS] = node->output[HEAD_SUMS];
    fusion->output[OUTPUT_D_HIDDEN] = NO_VALUE; /* made anew */
    fusion->output[OUTPUT_D_MATRIX] = NO_VALUE;
    fusion->output[OUTPUT_CONFIDENCE] = node->output[HEAD_CONFIDENCE];
    fusion->output[OUTPUT_CORRECT] = node->output[HEAD_CORRECT];
    return true;
}

int64_t loss_output_chunk(const LossOutput *output, int64_t samples, int64_t classes, int64_t bytes,
                          int64_t least, int64_t most)
{
    int64_t rows = output->chunk;
    if (rows <= 0) {
        rows = bytes / (classes * (int64_t)sizeof(float));
        rows = rows < least ? least : rows > most ? most : rows;
        /* as many in each of as few chunks */
        const int64_t chunks = samples > rows ? (samples - 1) / rows + 1 : 1;
        rows = (samples + chunks - 1) / chunks;
    }
    return rows < samples ? rows : samples > 0 ? samples : 1;
}
