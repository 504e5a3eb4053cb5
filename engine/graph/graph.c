#include "engine/graph/graph.h"

#include "engine/base/config.h"
#include "engine/base/memory.h"
#include "engine/graph/graph_internal.h"
#include "engine/graph/op.h"

#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The trail of an error that arises inside a builder starts here: it is kept, not returned. */
void graph_stick(Graph *graph, Status status)
{
    if (status == OK) return;
    if (graph->status != OK) {
        status_free(status);
        return;
    }
    graph->status = graph->scope[0] != '\0' ? status_context(status, "%s", graph->scope) : status;
}

/* Memory that lives as long as the graph: names, nodes, attributes. NULL sticks an error. */
void *graph_allocate(Graph *graph, size_t bytes)
{
    void *memory = NULL;
    Status status = memory_new(&memory, bytes > 0 ? bytes : 1, 1, "graph");
    if (status == OK) {
        status = memory_grow(&graph->owned, &graph->owned_capacity, graph->owned_count + 1, sizeof(void *),
                             "graph");
        if (status == OK) {
            graph->owned[graph->owned_count++] = memory;
            return memory;
        }
        free(memory);
    }
    graph_stick(graph, status);
    return NULL;
}

static const char *keep_text(Graph *graph, const char *text)
{
    char *copy = graph_allocate(graph, strlen(text) + 1);
    if (copy != NULL) memcpy(copy, text, strlen(text) + 1);
    return copy;
}

Status graph_create(GraphMode mode, DType compute, Graph **out)
{
    *out = NULL;
    if (compute != FLOAT32 && compute != BFLOAT16)
        return fail(STATUS_INTERNAL, "a graph computes in float32 or bfloat16, not %s", dtype_name(compute));
    Graph *graph;
    TRY(memory_new(&graph, 1, sizeof *graph, "graph"));
    graph->mode = mode;
    graph->compute = compute;
    graph->clock = NO_VALUE;
    *out = graph;
    return OK;
}

void graph_free(Graph *graph)
{
    if (graph == NULL) return;
    for (size_t i = 0; i < graph->owned_count; ++i)
        free(graph->owned[i]);
    free(graph->owned);
    free(graph->value);
    free(graph->node);
    status_free(graph->status);
    free(graph);
}

GraphMode graph_mode(const Graph *graph) { return graph->mode; }
DType graph_compute_type(const Graph *graph) { return graph->compute; }
bool graph_failed(const Graph *graph) { return graph->status != OK; }

void graph_fail(Graph *graph, StatusCode code, const char *format, ...)
{
    if (graph->status != OK) return;
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    graph_stick(graph, fail(code, "%s", text));
}

/* ---- scopes ---- */

const char *graph_scope(const Graph *graph) { return graph->scope; }

void graph_enter(Graph *graph, const char *name)
{
    if (graph->depth >= GRAPH_MAX_DEPTH) {
        graph_fail(graph, STATUS_INTERNAL, "scopes are nested more than %d deep", GRAPH_MAX_DEPTH);
        return;
    }
    const size_t length = strlen(graph->scope);
    graph->scope_length[graph->depth++] = length;
    if (name[0] == '\0') return;
    const int written =
        snprintf(graph->scope + length, sizeof graph->scope - length, "%s%s", length > 0 ? "." : "", name);
    if (written < 0 || (size_t)written >= sizeof graph->scope - length) {
        graph->scope[length] = '\0';
        graph_fail(graph, STATUS_INPUT, "the name %s is too long", name);
    }
}

void graph_enter_format(Graph *graph, const char *format, ...)
{
    char name[GRAPH_MAX_SCOPE];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(name, sizeof name, format, arguments);
    va_end(arguments);
    graph_enter(graph, name);
}

void graph_leave(Graph *graph)
{
    if (graph->depth == 0) {
        graph_fail(graph, STATUS_INTERNAL, "graph_leave without graph_enter");
        return;
    }
    graph->scope[graph->scope_length[--graph->depth]] = '\0';
}

/* ---- values ---- */

Value graph_new_value(Graph *graph, Role role, Shape shape, const char *name)
{
    if (graph->status != OK) return NO_VALUE;
    bool good = shape.rank >= 0 && shape.rank <= SHAPE_MAX_RANK;
    int64_t count = 1;
    for (int i = 0; good && i < shape.rank; ++i)
        good = shape.extent[i] > 0 && !__builtin_mul_overflow(count, shape.extent[i], &count) &&
               count < INT64_MAX / 16;
    if (!good) {
        char text[SHAPE_TEXT];
        graph_fail(graph, STATUS_INPUT, "%s has the impossible shape %s", name, shape_text(shape, text));
        return NO_VALUE;
    }
    Status status = memory_grow(&graph->value, &graph->value_capacity, graph->value_count + 1,
                                sizeof *graph->value, "graph");
    if (status != OK) {
        graph_stick(graph, status);
        return NO_VALUE;
    }
    ValueInfo *info = &graph->value[graph->value_count];
    *info = (ValueInfo){.shape = shape,
                        .role = role,
                        .zero_row = -1,
                        .name = keep_text(graph, name),
                        .producer = -1,
                        .gradient = NO_VALUE};
    if (info->name == NULL) return NO_VALUE;
    return (Value){(int32_t)graph->value_count++};
}

static Value find_named(const Graph *graph, const char *name)
{
    for (size_t i = 0; i < graph->value_count; ++i)
        if (graph->value[i].role != ROLE_RESULT && strcmp(graph->value[i].name, name) == 0)
            return (Value){(int32_t)i};
    return NO_VALUE;
}

Value graph_find(const Graph *graph, const char *name) { return find_named(graph, name); }

/* The named value if it is already there, as it must be; else a new one. */
static Value named_value(Graph *graph, Role role, const char *name, Shape shape, Init init)
{
    if (graph->status != OK) return NO_VALUE;
    Value value = find_named(graph, name);
    if (value_exists(value)) {
        const ValueInfo *info = &graph->value[value.id];
        if (info->role == role && shape_equal(info->shape, shape)) return value;
        char was[SHAPE_TEXT], is[SHAPE_TEXT];
        graph_fail(graph, STATUS_INPUT, "%s was %s and is now asked for as %s", name,
                   shape_text(info->shape, was), shape_text(shape, is));
        return NO_VALUE;
    }
    value = graph_new_value(graph, role, shape, name);
    if (value_exists(value)) graph->value[value.id].init = init;
    return value;
}

Value graph_input(Graph *graph, const char *name, Shape shape)
{
    return named_value(graph, ROLE_INPUT, name, shape, (Init){INIT_ZEROS, 0});
}

Value graph_external_input(Graph *graph, const char *name, Shape shape)
{
    const Value value = graph_input(graph, name, shape);
    if (value_exists(value)) graph->value[value.id].external = true;
    return value;
}

static Value scoped_value(Graph *graph, Role role, const char *name, Shape shape, Init init)
{
    graph_enter(graph, name);
    char full[GRAPH_MAX_SCOPE];
    memcpy(full, graph->scope, sizeof full);
    graph_leave(graph);
    return named_value(graph, role, full, shape, init);
}

Value graph_parameter(Graph *graph, const char *name, Shape shape, Init init)
{
    return graph_parameter_with_layout(graph, name, shape, init, FILE_AS_IN_MEMORY);
}

Value graph_parameter_with_layout(Graph *graph, const char *name, Shape shape, Init init, FileLayout layout)
{
    if (graph->status != OK) return NO_VALUE;
    if (shape.type != FLOAT32) {
        graph_fail(graph, STATUS_INTERNAL, "parameter %s must be float32", name);
        return NO_VALUE;
    }
    if ((layout != FILE_AS_IN_MEMORY && shape.rank != 4) ||
        (layout == FILE_CONVOLUTION_1D && shape.extent[1] != 1)) {
        char text[SHAPE_TEXT];
        graph_fail(graph, STATUS_INTERNAL,
                   "parameter %s of shape %s is no convolution's weight of [out, height (1), width, in]",
                   name, shape_text(shape, text));
        return NO_VALUE;
    }
    const size_t before = graph->value_count;
    const Value value = scoped_value(graph, ROLE_PARAMETER, name, shape, init);
    if (!value_exists(value)) return value;
    if (graph->value_count > before)
        graph->value[value.id].file_layout = layout;
    else if (graph->value[value.id].file_layout != layout)
        graph_fail(graph, STATUS_INTERNAL, "parameter %s was declared before with another layout in files",
                   graph->value[value.id].name);
    return value;
}

Value graph_state(Graph *graph, const char *name, Shape shape, Init init)
{
    return scoped_value(graph, ROLE_STATE, name, shape, init);
}

Value graph_transient_state(Graph *graph, const char *name, Shape shape, Init init)
{
    const Value value = graph_state(graph, name, shape, init);
    if (value_exists(value)) graph->value[value.id].transient = true;
    return value;
}

void graph_set_file_names(Graph *graph, Value parameter, FileNames names)
{
    if (!value_exists(parameter) || graph->status != OK) return;
    ValueInfo *info = &graph->value[parameter.id];
    if (info->role != ROLE_PARAMETER || info->file_layout != FILE_AS_IN_MEMORY ||
        (names.parts > 0 && (info->shape.rank < 1 || info->shape.extent[0] % names.parts != 0)) ||
        names.parts > FILE_NAMES_MAX || names.others > FILE_NAMES_MAX ||
        names.beside_count > FILE_NAMES_MAX) {
        graph_fail(graph, STATUS_INTERNAL, "%s cannot be %d parts in files", info->name, names.parts);
        return;
    }
    for (int i = 0; i < names.parts; ++i)
        names.part[i] = keep_text(graph, names.part[i]);
    for (int i = 0; i < names.others; ++i)
        names.other[i] = keep_text(graph, names.other[i]);
    for (int i = 0; i < names.beside_count; ++i)
        names.beside[i] = keep_text(graph, names.beside[i]);
    if (graph->status == OK) graph->value[parameter.id].file_names = names;
}

void graph_start_row_at_zero(Graph *graph, Value parameter, int64_t row)
{
    if (value_exists(parameter)) graph->value[parameter.id].zero_row = row;
}

void graph_set_training(Graph *graph, Value parameter, TrainingKind training)
{
    if (value_exists(parameter)) graph->value[parameter.id].training = training;
}

Value graph_clock(Graph *graph)
{
    if (!value_exists(graph->clock))
        graph->clock = graph_input(graph, "clock", shape_of(INT64, 1, (const int64_t[]){CLOCK_COUNT}));
    return graph->clock;
}

/* ---- nodes ---- */

static Value append_node(Graph *graph, const Op *op, const Value inputs[], int input_count,
                         const void *attributes, size_t attribute_bytes)
{
    if (input_count > CALL_MAX_TENSORS || op->output_count > CALL_MAX_TENSORS || op->output_count < 1) {
        graph_fail(graph, STATUS_INTERNAL, "op %s: %d inputs and %d outputs, at most %d", op->name,
                   input_count, op->output_count, CALL_MAX_TENSORS);
        return NO_VALUE;
    }
    Value *values = graph_allocate(graph, (size_t)(input_count + op->output_count) * sizeof *values);
    void *kept_attributes = graph_allocate(graph, attribute_bytes);
    const char *scope = keep_text(graph, graph->scope);
    if (graph->status != OK) return NO_VALUE;
    if (attribute_bytes > 0) memcpy(kept_attributes, attributes, attribute_bytes);
    Shape in[CALL_MAX_TENSORS], out[CALL_MAX_TENSORS];
    for (int i = 0; i < input_count; ++i) {
        if (inputs[i].id >= (int32_t)graph->value_count || inputs[i].id < -1) {
            graph_fail(graph, STATUS_INTERNAL, "op %s: input %d is not a value of this graph", op->name, i);
            return NO_VALUE;
        }
        values[i] = inputs[i];
        in[i] = value_exists(inputs[i]) ? graph->value[inputs[i].id].shape : (Shape){.rank = -1};
    }
    Node *node = graph_allocate(graph, sizeof *node);
    if (node == NULL) return NO_VALUE;
    *node = (Node){.op = op,
                   .scope = scope,
                   .phase = graph->differentiating ? PHASE_BACKWARD : PHASE_FORWARD,
                   .input_count = input_count,
                   .output_count = op->output_count,
                   .input = values,
                   .output = values + input_count,
                   .attributes = kept_attributes,
                   .forward = graph->differentiating ? graph->differentiated_node : -1};
    for (int i = 0; i < op->output_count; ++i)
        out[i] = (Shape){.type = FLOAT32, .rank = 0};
    Status status = op->infer(node, in, out);
    if (status != OK) {
        graph_stick(graph, status);
        return NO_VALUE;
    }
    char name[GRAPH_MAX_SCOPE + 64];
    (void)snprintf(name, sizeof name, "%s%s%s", scope, scope[0] != '\0' ? "." : "", op->name);
    status = memory_grow(&graph->node, &graph->node_capacity, graph->node_count + 1, sizeof(Node *), "graph");
    if (status != OK) {
        graph_stick(graph, status);
        return NO_VALUE;
    }
    for (int i = 0; i < op->output_count; ++i) {
        values[input_count + i] = graph_new_value(graph, ROLE_RESULT, out[i], name);
        if (graph->status != OK) return NO_VALUE;
        graph->value[values[input_count + i].id].producer = (int)graph->node_count;
        graph->value[values[input_count + i].id].output_index = i;
    }
    graph->node[graph->node_count++] = node;
    return values[input_count];
}

Value graph_node(Graph *graph, const Op *op, const Value inputs[], int input_count, const void *attributes,
                 size_t attribute_bytes)
{
    if (graph->status != OK) return NO_VALUE;
    return append_node(graph, op, inputs, input_count, attributes, attribute_bytes);
}

Value graph_output(const Graph *graph, Value first, int index)
{
    if (!value_exists(first)) return NO_VALUE;
    const int producer = graph->value[first.id].producer;
    if (producer < 0 || index >= graph->node[producer]->output_count) return NO_VALUE;
    return graph->node[producer]->output[index];
}

void graph_keep(Graph *graph, Value value)
{
    if (value_exists(value)) graph->value[value.id].kept = true;
}

void graph_want_gradient(Graph *graph, Value value)
{
    if (value_exists(value)) graph->value[value.id].wanted = true;
}

Status graph_finish(Graph *graph)
{
    if (graph->status != OK) {
        Status status = graph->status;
        graph->status = fail(STATUS_INTERNAL, "the graph failed before");
        return status;
    }
    if (graph->depth != 0)
        return fail(STATUS_INTERNAL, "graph scope %s was entered but not left", graph->scope);
    return OK;
}

/* ---- reading ---- */

int graph_node_count(const Graph *graph) { return (int)graph->node_count; }

Status graph_check_pattern(const Graph *graph, const char *pattern)
{
    const char **names;
    int count = 0;
    TRY(memory_new(&names, graph->value_count + 1, sizeof *names, "names of parameters"));
    for (size_t v = 0; v < graph->value_count; ++v)
        if (graph->value[v].role == ROLE_PARAMETER) names[count++] = graph->value[v].name;
    Status status = config_pattern_fits(pattern, names, count);
    free(names);
    return status;
}

bool graph_pattern_fits_table(const Graph *graph, const char *pattern)
{
    for (size_t n = 0; n < graph->node_count; ++n) {
        const Node *node = graph->node[n];
        for (int i = 0; i < node->input_count; ++i) {
            const Value input = node->input[i];
            if ((node->op->gathers >> i & 1U) == 0 || !value_exists(input)) continue;
            if (graph_role(graph, input) == ROLE_PARAMETER &&
                (pattern[0] == '\0' || fnmatch(pattern, graph_name(graph, input), 0) == 0))
                return true;
        }
    }
    return false;
}

const Node *graph_node_at(const Graph *graph, int index) { return graph->node[index]; }
int graph_value_count(const Graph *graph) { return (int)graph->value_count; }
Shape graph_shape(const Graph *graph, Value value)
{
    return value_exists(value) ? graph->value[value.id].shape : (Shape){.rank = -1};
}
Role graph_role(const Graph *graph, Value value) { return graph->value[value.id].role; }
const char *graph_name(const Graph *graph, Value value) { return graph->value[value.id].name; }
Init graph_init(const Graph *graph, Value value) { return graph->value[value.id].init; }
FileLayout graph_file_layout(const Graph *graph, Value value) { return graph->value[value.id].file_layout; }
const FileNames *graph_file_names(const Graph *graph, Value value)
{
    return &graph->value[value.id].file_names;
}
int64_t graph_zero_row(const Graph *graph, Value value) { return graph->value[value.id].zero_row; }
TrainingKind graph_training(const Graph *graph, Value value) { return graph->value[value.id].training; }
bool graph_is_transient(const Graph *graph, Value value) { return graph->value[value.id].transient; }
bool graph_is_kept(const Graph *graph, Value value) { return graph->value[value.id].kept; }
bool graph_is_external(const Graph *graph, Value value) { return graph->value[value.id].external; }
int graph_producer(const Graph *graph, Value value) { return graph->value[value.id].producer; }
Value graph_gradient(const Graph *graph, Value of)
{
    return value_exists(of) ? graph->value[of.id].gradient : NO_VALUE;
}

int graph_use_count(const Graph *graph, Value value)
{
    int uses = graph->value[value.id].kept ? 1 : 0;
    for (size_t i = 0; i < graph->node_count; ++i)
        for (int k = 0; k < graph->node[i]->input_count; ++k)
            uses += value_equal(graph->node[i]->input[k], value);
    return uses;
}
