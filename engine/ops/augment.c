/* Images out of a table of bytes: builder and shapes. */
#include "engine/ops/augment.h"

#include "engine/ops/ops.h"
#include "engine/ops/table.h"

#include <string.h>

Value augment(Graph *graph, Value table, Value index, Value crop, Augment options)
{
    AugmentAttributes attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.padding = options.padding;
    attributes.flip = options.flip;
    attributes.type = graph_compute_type(graph);
    for (int i = 0; i < 4; ++i) {
        attributes.mean[i] = (double)options.mean[i];
        attributes.deviation[i] = (double)options.deviation[i];
    }
    return graph_node(graph, &augment_op, (Value[]){table, index, crop}, AUGMENT_INPUTS, &attributes,
                      sizeof attributes);
}

static Status infer(const Node *node, const Shape in[], Shape out[])
{
    const AugmentAttributes *a = node->attributes;
    const Shape table = in[AUGMENT_TABLE], index = in[AUGMENT_INDEX];
    char text[SHAPE_TEXT];
    if (table.type != UINT8 || table.rank != 4 || table.extent[3] < 1 || table.extent[3] > 4)
        return fail(STATUS_INPUT, "augment needs uint8 [M,H,W,C] with 1 to 4 channels, not %s",
                    shape_text(table, text));
    if (index.type != INT64 || index.rank != 1)
        return fail(STATUS_INPUT, "augment: the index must be int64 [N], not %s", shape_text(index, text));
    TRY(op_expect_shape(in[AUGMENT_CROP], shape_of(INT32, 2, (int64_t[]){index.extent[0], CROP_COLUMNS}),
                        "the crop"));
    if (a->padding < 0 || a->padding > INT32_MAX / 2)
        return fail(STATUS_INPUT, "augment: a padding of %lld", (long long)a->padding);
    for (int64_t c = 0; c < table.extent[3]; ++c)
        if (!(a->deviation[c] > 0))
            return fail(STATUS_INPUT, "augment: the deviation of channel %lld is %g, but must be positive",
                        (long long)c, a->deviation[c]);
    out[0] =
        shape_of(a->type, 4, (int64_t[]){index.extent[0], table.extent[1], table.extent[2], table.extent[3]});
    return OK;
}

/* The table is not read as a whole. */
static Cost cost(const Node *node, const Shape in[], const Shape out[])
{
    (void)node;
    (void)in;
    return (Cost){.bytes = (double)shape_bytes(out[0]) + (double)shape_count(out[0])};
}

const Op augment_op = {.name = "augment",
                       .output_count = 1,
                       .infer = infer,
                       .cost = cost,
                       .kernel = {[DEVICE_CPU] = &augment_cpu, [DEVICE_CUDA] = &augment_cuda}};
