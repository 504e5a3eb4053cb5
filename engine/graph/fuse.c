/* Rewrites chains of forward nodes into single nodes, as the ops at their ends propose. */
#include "engine/graph/graph_internal.h"
#include "engine/graph/op.h"

#include <stdio.h>
#include <string.h>

static bool absorbed_by(const Fusion *fusion, int index)
{
    for (int i = 0; i < fusion->absorbed_count; ++i)
        if (fusion->absorbed[i] == index) return true;
    return false;
}

/* Values for outputs that no node of the chain makes. */
static void make_outputs(Graph *graph, const Node *node, Value output[])
{
    Shape in[CALL_MAX_TENSORS], out[CALL_MAX_TENSORS];
    char name[GRAPH_MAX_SCOPE + 64];
    bool any = false;
    for (int i = 0; i < node->output_count; ++i)
        any = any || !value_exists(output[i]);
    if (!any) return;
    for (int i = 0; i < node->input_count; ++i)
        in[i] = graph_shape(graph, node->input[i]);
    const Status status = node->op->infer(node, in, out);
    if (status != OK) {
        graph_stick(graph, status);
        return;
    }
    (void)snprintf(name, sizeof name, "%s%s%s", node->scope, node->scope[0] != '\0' ? "." : "",
                   node->op->name);
    for (int i = 0; i < node->output_count; ++i)
        if (!value_exists(output[i])) output[i] = graph_new_value(graph, ROLE_RESULT, out[i], name);
}

/* Puts the fused node in the place of the chain's last and marks the others as gone (NULL). */
static void apply(Graph *graph, int last, const Fusion *fusion)
{
    Value *values =
        graph_allocate(graph, (size_t)(fusion->input_count + fusion->output_count) * sizeof *values);
    void *attributes = graph_allocate(graph, fusion->attribute_bytes);
    Node *node = graph_allocate(graph, sizeof *node);
    if (graph->status != OK) return;
    memcpy(values, fusion->input, (size_t)fusion->input_count * sizeof *values);
    memcpy(values + fusion->input_count, fusion->output, (size_t)fusion->output_count * sizeof *values);
    memcpy(attributes, fusion->attributes, fusion->attribute_bytes);
    /* The layer that does the work gives the name: the chain's first node. */
    const Node *first = graph->node[fusion->absorbed_count > 0 ? fusion->absorbed[0] : last];
    *node = (Node){.op = fusion->op,
                   .scope = first->scope,
                   .phase = PHASE_FORWARD,
                   .input_count = fusion->input_count,
                   .output_count = fusion->output_count,
                   .input = values,
                   .output = values + fusion->input_count,
                   .attributes = attributes,
                   .forward = -1};
    make_outputs(graph, node, values + fusion->input_count);
    if (graph->status != OK) return;
    for (int i = 0; i < fusion->output_count; ++i) {
        graph->value[node->output[i].id].producer = last;
        graph->value[node->output[i].id].output_index = i;
    }
    graph->node[last] = node;
    for (int i = 0; i < fusion->absorbed_count; ++i)
        graph->node[fusion->absorbed[i]] = NULL;
}

int graph_fuse(Graph *graph)
{
    if (graph->status != OK) return 0;
    int fused = 0;
    for (int i = 0; i < (int)graph->node_count && graph->status == OK; ++i) {
        Fusion fusion = {.op = NULL};
        const Node *node = graph->node[i];
        if (node->op->fuse == NULL || !node->op->fuse(graph, i, &fusion)) continue;
        apply(graph, i, &fusion);
        ++fused;
        /* Close the gaps at once, so that every index stays meaningful to the next rule. */
        int kept = 0;
        for (int k = 0; k < (int)graph->node_count; ++k) {
            if (absorbed_by(&fusion, k)) continue;
            graph->node[kept] = graph->node[k];
            for (int o = 0; o < graph->node[kept]->output_count; ++o)
                graph->value[graph->node[kept]->output[o].id].producer = kept;
            ++kept;
        }
        i -= (int)graph->node_count - kept;
        graph->node_count = (size_t)kept;
    }
    /* Results inside chains are made by nobody any more. */
    for (size_t v = 0; v < graph->value_count; ++v) {
        ValueInfo *info = &graph->value[v];
        if (info->role != ROLE_RESULT || info->producer < 0) continue;
        bool made = false;
        if (info->producer < (int)graph->node_count) {
            const Node *node = graph->node[info->producer];
            made =
                info->output_index < node->output_count && node->output[info->output_index].id == (int32_t)v;
        }
        if (!made) info->producer = -1;
    }
    return fused;
}
