/* Reverse-mode differentiation: gradient rules append ordinary nodes, last forward node first. */
#include "engine/base/memory.h"
#include "engine/graph/graph_internal.h"
#include "engine/graph/op.h"

#include <stdlib.h>
#include <string.h>

/* Which values lead to a parameter or to a value whose gradient is wanted: others need no gradient. */
static void mark_needed(const Graph *graph, bool needed[])
{
    for (size_t i = 0; i < graph->value_count; ++i) {
        const ValueInfo *info = &graph->value[i];
        needed[i] = (info->role == ROLE_PARAMETER && info->training != FROZEN) || info->wanted;
    }
    for (size_t n = 0; n < graph->node_count; ++n) {
        const Node *node = graph->node[n];
        bool any = false;
        for (int i = 0; i < node->input_count; ++i)
            any = any || (value_exists(node->input[i]) && needed[node->input[i].id]);
        if (!any || node->op->gradient == NULL) continue;
        for (int i = 0; i < node->output_count; ++i)
            needed[node->output[i].id] = true;
    }
}

/* Lets the node that makes `part`, output 0 of an op with an addend, add `total` itself. Only while nothing
 * else uses part, and for a total that was made before. */
static bool add_inside(Graph *graph, Value total, Value part)
{
    const ValueInfo *info = &graph->value[part.id];
    if (info->role != ROLE_RESULT || info->producer < 0 || info->output_index != 0) return false;
    if (graph->value[total.id].producer >= info->producer) return false;
    Node *node = graph->node[info->producer];
    const int addend = node->op->addend;
    if (addend <= 0 || addend >= node->input_count || value_exists(node->input[addend])) return false;
    for (size_t n = (size_t)info->producer + 1; n < graph->node_count; ++n)
        for (int i = 0; i < graph->node[n]->input_count; ++i)
            if (value_equal(graph->node[n]->input[i], part)) return false;
    for (size_t v = 0; v < graph->value_count; ++v)
        if (value_equal(graph->value[v].gradient, part)) return false;
    Value *input = graph_allocate(graph, (size_t)node->input_count * sizeof *input);
    if (input == NULL) return false;
    memcpy(input, node->input, (size_t)node->input_count * sizeof *input);
    input[addend] = total;
    node->input = input;
    return true;
}

/* total + part; either may be absent. */
static Value accumulate(Graph *graph, Value total, Value part)
{
    if (!value_exists(total)) return part;
    if (!value_exists(part)) return total;
    return add_inside(graph, total, part) ? part
                                          : graph_node(graph, &add_op, (Value[]){total, part}, 2, NULL, 0);
}

/* Is `part` the first gradient of rows of a table that is trained by them? Else says why not. */
static bool is_row_gradient(Graph *graph, const Node *node, Value table, Value part)
{
    const ValueInfo *info = &graph->value[table.id];
    const Shape shape = info->shape, got = graph->value[part.id].shape;
    if (value_exists(info->gradient))
        graph_fail(graph, STATUS_INPUT, "%s is trained by rows, but the network uses it more than once",
                   info->name);
    else if (graph->node[graph->value[part.id].producer]->output_count != 3 || got.rank != 2 ||
             got.extent[1] != shape_columns(shape))
        graph_fail(graph, STATUS_INPUT, "%s is trained by rows, but %s needs all of its gradient", info->name,
                   node->op->name);
    return graph->status == OK;
}

static void differentiate_node(Graph *graph, int index, const bool needed[])
{
    const Node *node = graph->node[index];
    if (node->op->gradient == NULL) return;
    Value d_out[CALL_MAX_TENSORS], d_in[CALL_MAX_TENSORS];
    bool wanted[CALL_MAX_TENSORS], any_out = false, any_in = false;
    for (int i = 0; i < node->output_count; ++i) {
        d_out[i] = graph->value[node->output[i].id].gradient;
        any_out = any_out || value_exists(d_out[i]) || value_is_root_gradient(d_out[i]);
    }
    for (int i = 0; i < node->input_count; ++i) {
        d_in[i] = NO_VALUE;
        wanted[i] = value_exists(node->input[i]) && needed[node->input[i].id];
        any_in = any_in || wanted[i];
    }
    if (!any_out || !any_in) return;
    graph->differentiated_node = index;
    /* The backward nodes bear the forward node's scope, so that errors and profiles name the layer. */
    const size_t length = strlen(node->scope);
    memcpy(graph->scope, node->scope, length + 1);
    node->op->gradient(graph, node, d_out, wanted, d_in);
    for (int i = 0; i < node->input_count && graph->status == OK; ++i) {
        if (!wanted[i] || !value_exists(d_in[i])) continue;
        const Value input = node->input[i];
        if (graph->value[input.id].training == TRAINED_BY_ROWS) {
            if (is_row_gradient(graph, node, input, d_in[i])) graph->value[input.id].gradient = d_in[i];
            continue;
        }
        Shape shape = graph->value[input.id].shape, got = graph->value[d_in[i].id].shape;
        if (!shape_equal(shape, got)) {
            char a[SHAPE_TEXT], b[SHAPE_TEXT];
            graph_fail(graph, STATUS_INTERNAL, "%s: the gradient of input %d is %s, the input %s",
                       node->op->name, i, shape_text(got, a), shape_text(shape, b));
            return;
        }
        const Value total = accumulate(graph, graph->value[input.id].gradient, d_in[i]);
        graph->value[input.id].gradient = total;
    }
}

void graph_differentiate(Graph *graph, Value loss)
{
    if (graph->status != OK) return;
    if (graph->depth != 0) {
        graph_fail(graph, STATUS_INTERNAL, "graph_differentiate inside a scope");
        return;
    }
    if (!value_exists(loss) || graph->value[loss.id].producer < 0) {
        graph_fail(graph, STATUS_INTERNAL, "graph_differentiate needs a result");
        return;
    }
    bool *needed = graph_allocate(graph, graph->value_count * sizeof *needed);
    if (needed == NULL) return;
    mark_needed(graph, needed);
    const int last = (int)graph->node_count - 1;
    graph->differentiating = true;
    graph->value[loss.id].gradient = ROOT_GRADIENT;
    for (int i = last; i >= 0 && graph->status == OK; --i)
        differentiate_node(graph, i, needed);
    graph->differentiating = false;
    graph->differentiated_node = -1;
    if (graph->status == OK) graph->scope[0] = '\0';
    for (size_t i = 0; i < graph->value_count; ++i)
        if (graph->value[i].wanted && value_exists(graph->value[i].gradient))
            graph->value[graph->value[i].gradient.id].kept = true;
}
