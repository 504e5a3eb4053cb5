#include "engine/plan/layout.h"

#include "engine/base/memory.h"

#include <stdlib.h>

/* As memory that a GPU's own allocator gives: its libraries count on it for their workspace. */
enum { NOWHERE = -1, OFFSET_ALIGNMENT = 256 };

typedef struct {
    const Graph *graph;
    DeviceKind device;
    const bool *is_gradient;
    Layout *layout;
    /* Consumers of each value: use[use_start[v]] .. use[use_start[v + 1] - 1], as node index and input index.
     */
    int *use_start, *use_node, *use_input;
} Builder;

static const Kernel *kernel_of(const Builder *b, const Node *node) { return node->op->kernel[b->device]; }

static bool may_stride_out(const Builder *b, Value value)
{
    const Node *node = graph_node_at(b->graph, graph_producer(b->graph, value));
    const Kernel *kernel = kernel_of(b, node);
    if (node->op->alias == ALIAS_RESHAPE || kernel == NULL) return false;
    for (int i = 0; i < node->output_count; ++i)
        if (value_equal(node->output[i], value)) return (kernel->strided_out >> i & 1U) != 0;
    return false;
}

/* Do all consumers read this value with any stride? */
static bool consumers_may_stride(const Builder *b, Value value)
{
    for (int u = b->use_start[value.id]; u < b->use_start[value.id + 1]; ++u) {
        const Node *node = graph_node_at(b->graph, b->use_node[u]);
        const Kernel *kernel = kernel_of(b, node);
        if (node->op->alias == ALIAS_RESHAPE || kernel == NULL ||
            (kernel->strided_in >> b->use_input[u] & 1U) == 0)
            return false;
    }
    return true;
}

/* A result whose memory is ours to choose. */
static bool is_free(const Builder *b, Value value)
{
    return value_exists(value) && graph_role(b->graph, value) == ROLE_RESULT &&
           !graph_is_kept(b->graph, value) && !b->is_gradient[value.id] &&
           b->layout->place[value.id].buffer == NOWHERE && graph_producer(b->graph, value) >= 0;
}

static Status new_buffer(Layout *layout, size_t bytes, int *index)
{
    *index = layout->buffer_count++;
    layout->buffer[*index] = (Buffer){.bytes = bytes, .first = INT32_MAX, .last = -1};
    return OK;
}

static void put(Layout *layout, Value value, int buffer, int64_t column, int64_t stride)
{
    Place *place = &layout->place[value.id];
    place->buffer = buffer;
    place->column = column;
    place->stride = stride;
    Buffer *b = &layout->buffer[buffer];
    if (place->first < b->first) b->first = place->first;
    if (place->last > b->last) b->last = place->last;
}

static Status put_in_new_buffer(Builder *b, Value value)
{
    int buffer;
    TRY(new_buffer(b->layout, shape_bytes(graph_shape(b->graph, value)), &buffer));
    put(b->layout, value, buffer, 0, shape_columns(graph_shape(b->graph, value)));
    return OK;
}

static Status index_uses(Builder *b)
{
    const int values = graph_value_count(b->graph), nodes = graph_node_count(b->graph);
    int total = 0;
    TRY(memory_new(&b->use_start, (size_t)values + 2, sizeof(int), "plan"));
    for (int n = 0; n < nodes; ++n) {
        const Node *node = graph_node_at(b->graph, n);
        for (int i = 0; i < node->input_count; ++i) {
            if (!value_exists(node->input[i])) continue;
            ++b->use_start[node->input[i].id + 2];
            ++total;
        }
    }
    for (int v = 0; v < values; ++v)
        b->use_start[v + 2] += b->use_start[v + 1];
    TRY(memory_new(&b->use_node, (size_t)total + 1, sizeof(int), "plan"));
    TRY(memory_new(&b->use_input, (size_t)total + 1, sizeof(int), "plan"));
    for (int n = 0; n < nodes; ++n) {
        const Node *node = graph_node_at(b->graph, n);
        for (int i = 0; i < node->input_count; ++i) {
            if (!value_exists(node->input[i])) continue;
            const int at = b->use_start[node->input[i].id + 1]++;
            b->use_node[at] = n;
            b->use_input[at] = i;
        }
    }
    return OK;
}

static void find_lifetimes(Builder *b)
{
    const int values = graph_value_count(b->graph), nodes = graph_node_count(b->graph);
    for (int v = 0; v < values; ++v) {
        Place *place = &b->layout->place[v];
        place->first = place->last = graph_producer(b->graph, (Value){v});
        place->buffer = NOWHERE;
        for (int u = b->use_start[v]; u < b->use_start[v + 1]; ++u)
            if (b->use_node[u] > place->last) place->last = b->use_node[u];
        if (graph_is_kept(b->graph, (Value){v}) || b->is_gradient[v]) place->last = nodes;
    }
}

/* Concatenation without copies: what can be written straight into the result is placed there. Last node
 * first, so that a chain of concatenations (a dense block) ends up in one buffer. */
static Status place_concatenations(Builder *b)
{
    for (int n = graph_node_count(b->graph) - 1; n >= 0; --n) {
        const Node *node = graph_node_at(b->graph, n);
        const Value output = node->output[0];
        if (node->op->alias == ALIAS_RESHAPE && b->is_gradient[output.id] && is_free(b, node->input[0])) {
            const Place *place = &b->layout->place[output.id];
            put(b->layout, node->input[0], place->buffer, 0,
                shape_columns(graph_shape(b->graph, node->input[0])));
            continue;
        }
        if (node->op->alias != ALIAS_CONCAT) continue;
        if (b->layout->place[output.id].buffer == NOWHERE) TRY(put_in_new_buffer(b, output));
        const Place place = b->layout->place[output.id];
        int64_t column = place.column;
        for (int i = 0; i < node->input_count; ++i) {
            const Value input = node->input[i];
            const Shape shape = graph_shape(b->graph, input);
            bool once = true;
            for (int k = 0; k < node->input_count; ++k)
                once = once && (k == i || !value_equal(node->input[k], input));
            if (once && is_free(b, input) && may_stride_out(b, input) && consumers_may_stride(b, input)) {
                put(b->layout, input, place.buffer, column, place.stride);
                ++b->layout->views;
            }
            column += shape_columns(shape);
        }
    }
    return OK;
}

/* Is any other value that shares memory with `value` still to be read, or being read, at node n or later? */
static bool overlaps_living(const Builder *b, Value value, int n)
{
    const Place *place = &b->layout->place[value.id];
    const int64_t columns = shape_columns(graph_shape(b->graph, value));
    for (int v = 0; v < graph_value_count(b->graph); ++v) {
        const Place *other = &b->layout->place[v];
        if (v == value.id || other->buffer != place->buffer || other->last < n) continue;
        const int64_t width = shape_columns(graph_shape(b->graph, (Value){v}));
        const bool apart = other->stride == place->stride && (other->column + width <= place->column ||
                                                              place->column + columns <= other->column);
        if (!apart) return true;
    }
    return false;
}

/* Output 0 takes the memory of an input that dies here. */
static bool place_in_place(Builder *b, int n, const Node *node)
{
    const Kernel *kernel = kernel_of(b, node);
    const Value output = node->output[0];
    if (kernel == NULL || kernel->in_place == 0) return false;
    const Shape shape = graph_shape(b->graph, output);
    for (int i = 0; i < node->input_count; ++i) {
        const Value input = node->input[i];
        if ((kernel->in_place >> i & 1U) == 0 || !value_exists(input)) continue;
        const Place place = b->layout->place[input.id];
        if (place.buffer == NOWHERE || b->layout->buffer[place.buffer].fixed || place.last != n) continue;
        if (graph_is_kept(b->graph, input) || !shape_equal(graph_shape(b->graph, input), shape)) continue;
        if (graph_role(b->graph, input) != ROLE_RESULT) continue;
        const bool strided = place.stride != shape_columns(shape);
        if (strided && !(may_stride_out(b, output) && consumers_may_stride(b, output))) continue;
        if (overlaps_living(b, input, n)) continue;
        int uses = 0;
        for (int k = 0; k < node->input_count; ++k)
            uses += value_equal(node->input[k], input);
        if (uses > 1) continue;
        put(b->layout, output, place.buffer, place.column, place.stride);
        ++b->layout->in_place;
        return true;
    }
    return false;
}

static Status place_node(Builder *b, int n, bool share)
{
    const Node *node = graph_node_at(b->graph, n);
    const Value output = node->output[0];
    const Place *place = &b->layout->place[output.id];
    if (node->op->alias == ALIAS_RESHAPE) {
        const Place from = b->layout->place[node->input[0].id];
        if (place->buffer != NOWHERE) {
            if (from.buffer == place->buffer) return OK;
            return fail(STATUS_INTERNAL,
                        "%s: a gradient of the store cannot be a reshape of another's memory", node->scope);
        }
        if (from.buffer == NOWHERE)
            return OK; /* of a parameter, state or bound input: plan.c follows the chain */
        put(b->layout, output, from.buffer, 0, shape_columns(graph_shape(b->graph, output)));
        ++b->layout->views;
        return OK;
    }
    if (share && place->buffer == NOWHERE && is_free(b, output)) {
        if (node->op->alias == ALIAS_SLICE && is_free(b, output) && consumers_may_stride(b, output)) {
            const Place from = b->layout->place[node->input[0].id];
            const int64_t first =
                *(const int64_t *)node->attributes; /* SliceAttributes begins with the column */
            if (from.buffer != NOWHERE && !b->layout->buffer[from.buffer].fixed) {
                put(b->layout, output, from.buffer, from.column + first, from.stride);
                ++b->layout->views;
            }
        } else if (node->op->alias == ALIAS_NONE) {
            (void)place_in_place(b, n, node);
        }
    }
    for (int i = 0; i < node->output_count; ++i)
        if (b->layout->place[node->output[i].id].buffer == NOWHERE)
            TRY(put_in_new_buffer(b, node->output[i]));
    return OK;
}

static Status build(Builder *b, bool share)
{
    const int values = graph_value_count(b->graph), nodes = graph_node_count(b->graph);
    Layout *layout = b->layout;
    TRY(memory_new(&layout->place, (size_t)values + 1, sizeof *layout->place, "plan"));
    TRY(memory_new(&layout->buffer, (size_t)values + (size_t)nodes + 1, sizeof *layout->buffer, "plan"));
    TRY(index_uses(b));
    find_lifetimes(b);
    for (int v = 0; v < values; ++v) {
        const Value value = {v};
        layout->place[v].stride = shape_columns(graph_shape(b->graph, value));
        if (b->is_gradient[v]) {
            TRY(put_in_new_buffer(b, value));
            layout->buffer[layout->place[v].buffer].fixed = true;
        }
        if (graph_role(b->graph, value) == ROLE_INPUT && !graph_is_external(b->graph, value))
            TRY(put_in_new_buffer(b, value));
        if (graph_role(b->graph, value) == ROLE_RESULT && graph_producer(b->graph, value) >= 0)
            layout->tensor_bytes += shape_bytes(graph_shape(b->graph, value));
    }
    if (share) TRY(place_concatenations(b));
    for (int n = 0; n < nodes; ++n)
        TRY(place_node(b, n, share));
    if (!share)
        for (int i = 0; i < layout->buffer_count; ++i)
            layout->buffer[i].first = -1, layout->buffer[i].last = nodes;
    layout->scratch = layout->buffer_count;
    for (int n = 0; n < nodes; ++n) {
        int index;
        TRY(new_buffer(layout, 0, &index));
        layout->buffer[index].first = layout->buffer[index].last = n;
    }
    return OK;
}

Status layout_create(const Graph *graph, DeviceKind device, const bool is_gradient[], bool share,
                     Layout *layout)
{
    *layout = (Layout){0};
    Builder builder = {.graph = graph, .device = device, .is_gradient = is_gradient, .layout = layout};
    Status status = build(&builder, share);
    free(builder.use_start);
    free(builder.use_node);
    free(builder.use_input);
    if (status != OK) layout_free(layout);
    return status;
}

void layout_free(Layout *layout)
{
    free(layout->place);
    free(layout->buffer);
    *layout = (Layout){0};
}

/* ---- offsets ---- */

static int larger_first(const void *a, const void *b)
{
    const Buffer *left = *(Buffer *const *)a, *right = *(Buffer *const *)b;
    if (left->bytes != right->bytes) return left->bytes > right->bytes ? -1 : 1;
    return left < right ? -1 : 1;
}

static int lower_first(const void *a, const void *b)
{
    const Buffer *left = *(Buffer *const *)a, *right = *(Buffer *const *)b;
    if (left->offset != right->offset) return left->offset < right->offset ? -1 : 1;
    return 0;
}

/* Greedy by size (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020): the
 * largest buffer first, each at the lowest offset free during its life. */
Status layout_assign_offsets(Layout *layout)
{
    Buffer **order, **conflict;
    TRY(memory_new(&order, (size_t)layout->buffer_count * 2 + 1, sizeof(Buffer *), "plan"));
    conflict = order + layout->buffer_count;
    int count = 0;
    for (int i = 0; i < layout->buffer_count; ++i)
        if (!layout->buffer[i].fixed && layout->buffer[i].bytes > 0) order[count++] = &layout->buffer[i];
    qsort(order, (size_t)count, sizeof *order, larger_first);
    layout->arena_bytes = 0;
    for (int i = 0; i < count; ++i) {
        Buffer *buffer = order[i];
        int conflicts = 0;
        for (int k = 0; k < i; ++k)
            if (order[k]->first <= buffer->last && buffer->first <= order[k]->last)
                conflict[conflicts++] = order[k];
        qsort(conflict, (size_t)conflicts, sizeof *conflict, lower_first);
        size_t offset = 0;
        for (int k = 0; k < conflicts; ++k) {
            if (offset + buffer->bytes <= conflict[k]->offset) break;
            const size_t end = (conflict[k]->offset + conflict[k]->bytes + OFFSET_ALIGNMENT - 1) /
                               OFFSET_ALIGNMENT * OFFSET_ALIGNMENT;
            if (end > offset) offset = end;
        }
        buffer->offset = offset;
        if (offset + buffer->bytes > layout->arena_bytes) layout->arena_bytes = offset + buffer->bytes;
    }
    free(order);
    return OK;
}
