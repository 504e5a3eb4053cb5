#include "engine/plan/plan_fields.h"

#include "engine/base/memory.h"
#include "engine/ops/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { DEFAULT_BUCKET_BYTES = 4 << 20 };

/* ---- making ---- */

/* The gradient of a table's rows, their numbers and how many there are: graph.h. */
static Status bind_rows(Plan *plan, const StoreEntry *entry, Value gradient)
{
    if (graph_shape(plan->graph, gradient).extent[0] > entry->rows.most)
        return fail(STATUS_INTERNAL, "%s: the store has no room for so many rows", entry->name);
    void *const to[] = {entry->rows.gradient, entry->rows.list + ROW_LIST_HEAD, entry->rows.list};
    for (int i = 0; i < 3; ++i) {
        const Value value = graph_output(plan->graph, gradient, i);
        plan->is_gradient[value.id] = true;
        plan->bound[value.id] = to[i];
    }
    return OK;
}

static Status bind_store(Plan *plan)
{
    for (int v = 0; v < plan->values; ++v) {
        const Value value = {v};
        const Role role = graph_role(plan->graph, value);
        if (role != ROLE_PARAMETER && role != ROLE_STATE) continue;
        const char *name = graph_name(plan->graph, value);
        const StoreEntry *entry = store_find(plan->store, name);
        if (entry == NULL) return fail(STATUS_INTERNAL, "%s is not in the store", name);
        if (!shape_equal(entry->shape, graph_shape(plan->graph, value))) {
            char has[SHAPE_TEXT], wants[SHAPE_TEXT];
            return fail(STATUS_INPUT, "%s is %s in the store; this graph wants %s", name,
                        shape_text(entry->shape, has), shape_text(graph_shape(plan->graph, value), wants));
        }
        plan->bound[v] = entry->data;
        const Value gradient = graph_gradient(plan->graph, value);
        if (role != ROLE_PARAMETER || !value_exists(gradient)) continue;
        plan->trains = true;
        if (entry->by_rows) {
            TRY(bind_rows(plan, entry, gradient));
            continue;
        }
        if (entry->gradient == NULL) return fail(STATUS_INTERNAL, "%s has no gradient in the store", name);
        if (plan->is_gradient[gradient.id])
            return fail(STATUS_INTERNAL, "%s shares its gradient with another parameter", name);
        plan->is_gradient[gradient.id] = true;
        plan->bound[gradient.id] = entry->gradient;
    }
    return OK;
}

/* The buckets cover all dense gradients, so that every rank issues the same ones; where ranks may run graphs that finish
 * gradients after other nodes, all at the end, behind whatever the nodes themselves exchange. */
static Status make_buckets(Plan *plan)
{
    if (!plan->trains) return OK;
    const int entries = store_count(plan->store);
    const int64_t bytes =
        plan->options.bucket_bytes > 0 ? plan->options.bucket_bytes : (int64_t)DEFAULT_BUCKET_BYTES;
    TRY(memory_new(&plan->bucket, (size_t)entries + 1, sizeof *plan->bucket, "plan"));
    Bucket bucket = {0, 0, store_has_one_order(plan->store) ? -1 : plan->nodes - 1};
    for (int i = 0; i < entries; ++i) {
        const StoreEntry *entry = store_at(plan->store, i);
        if (entry->gradient == NULL) continue;
        const Value parameter = graph_find(plan->graph, entry->name);
        const Value gradient = value_exists(parameter) ? graph_gradient(plan->graph, parameter) : NO_VALUE;
        const int ready = value_exists(gradient) ? graph_producer(plan->graph, gradient) : -1;
        if (ready < 0) plan->gradients_missing = true;
        if (ready > bucket.ready) bucket.ready = ready;
        const bool last = i + 1 == entries || store_at(plan->store, i + 1)->gradient == NULL;
        const int64_t end = last ? store_trained_count(plan->store) : store_at(plan->store, i + 1)->offset;
        bucket.count = end - bucket.first;
        if (!last && bucket.count * (int64_t)sizeof(float) < bytes) continue;
        plan->bucket[plan->bucket_count++] = bucket;
        bucket = (Bucket){end, 0, bucket.ready};
    }
    return OK;
}

static Cost node_cost(const Graph *graph, const Node *node)
{
    Shape in[CALL_MAX_TENSORS], out[CALL_MAX_TENSORS];
    Cost cost = {0, 0};
    for (int i = 0; i < node->input_count; ++i) {
        in[i] = graph_shape(graph, node->input[i]);
        if (value_exists(node->input[i])) cost.bytes += (double)shape_bytes(in[i]);
    }
    for (int i = 0; i < node->output_count; ++i) {
        out[i] = graph_shape(graph, node->output[i]);
        cost.bytes += (double)shape_bytes(out[i]);
    }
    if (node->op->alias == ALIAS_RESHAPE) return (Cost){0, 0};
    return node->op->cost != NULL ? node->op->cost(node, in, out) : cost;
}

/* Does a node read it? */
static bool is_input(const Graph *graph, Value value)
{
    for (int n = 0; n < graph_node_count(graph); ++n) {
        const Node *node = graph_node_at(graph, n);
        for (int i = 0; i < node->input_count; ++i)
            if (node->input[i].id == value.id) return true;
    }
    return false;
}

/* Does a node read it whole, and not only some of its rows? */
static bool is_read_whole(const Graph *graph, Value value)
{
    for (int n = 0; n < graph_node_count(graph); ++n) {
        const Node *node = graph_node_at(graph, n);
        for (int i = 0; i < node->input_count; ++i)
            if (node->input[i].id == value.id && (node->op->gathers >> i & 1U) == 0) return true;
    }
    return false;
}

/* Neighbours in the flat array are rounded together: mostly all parameters at once. */
static Status choose_rounding(Plan *plan)
{
    const int entries = store_count(plan->store);
    TRY(store_rounded(plan->store, (void **)(void *)&plan->rounded));
    TRY(memory_new(&plan->rounding, (size_t)entries + 1, sizeof *plan->rounding, "plan"));
    bool open = false;
    for (int i = 0; i < entries; ++i) {
        const StoreEntry *entry = store_at(plan->store, i);
        if (entry->role != ROLE_PARAMETER) continue;
        const Value parameter = graph_find(plan->graph, entry->name);
        const bool wanted = value_exists(parameter) && is_read_whole(plan->graph, parameter);
        const bool last = i + 1 == entries || store_at(plan->store, i + 1)->role != ROLE_PARAMETER;
        const int64_t end = last ? store_flat_count(plan->store) : store_at(plan->store, i + 1)->offset;
        if (wanted && !open) plan->rounding[plan->roundings++].first = entry->offset;
        if (wanted)
            plan->rounding[plan->roundings - 1].count = end - plan->rounding[plan->roundings - 1].first;
        open = wanted;
    }
    return OK;
}

/* Is it one of the dense gradients, or the rows of a table? */
static bool is_in_flat_gradient(const Plan *plan, const float *gradient)
{
    const float *first = store_gradients(plan->store);
    return gradient >= first && gradient < first + store_trained_count(plan->store);
}

static Status prepare_node(Plan *plan, int n)
{
    const Node *node = graph_node_at(plan->graph, n);
    Call *call = &plan->call[n];
    *call = (Call){
        .node = node, .attributes = node->attributes, .device = plan->device, .collective = plan->collective};
    plan->cost[n] = node_cost(plan->graph, node);
    if (node->op->alias == ALIAS_RESHAPE) return OK;
    const Kernel *kernel = node->op->kernel[device_kind(plan->device)];
    if (kernel == NULL)
        return fail(STATUS_UNSUPPORTED, "%s: op %s has no kernel for this device", node->scope,
                    node->op->name);
    for (int i = 0; i < node->input_count; ++i) {
        call->in[i].shape = graph_shape(plan->graph, node->input[i]);
        if (!value_exists(node->input[i])) continue;
        const Place *place = &plan->layout.place[node->input[i].id];
        call->in[i].stride = place->stride;
        call->in[i].column = place->column;
        call->in[i].packs = plan->options.packs && graph_role(plan->graph, node->input[i]) == ROLE_PARAMETER;
    }
    for (int i = 0; i < node->output_count; ++i) {
        const Value output = node->output[i];
        const float *gradient = plan->is_gradient[output.id] ? plan->bound[output.id] : NULL;
        call->out[i] = (Tensor){.shape = graph_shape(plan->graph, output),
                                .stride = plan->layout.place[output.id].stride,
                                .column = plan->layout.place[output.id].column};
        call->wanted[i] = plan->layout.place[output.id].last > n;
        if (gradient != NULL && plan->narrow != NULL && is_in_flat_gradient(plan, gradient) &&
            !is_input(plan->graph, output))
            call->out[i].narrow = narrow_gradients_place(plan->narrow, gradient);
    }
    size_t scratch = 0;
    if (kernel->prepare != NULL) {
        Status status = kernel->prepare(call, &scratch);
        if (status != OK) return status_context(status, "%s (%s)", node->scope, node->op->name);
    }
    plan->prepared = n + 1;
    TRY(packed_parameters_add(&plan->packed, plan->store, plan->graph, call));
    for (int i = 0; i < node->output_count; ++i)
        if (call->out[i].narrowed)
            narrow_gradients_add(plan->narrow, plan->bound[node->output[i].id],
                                 shape_count(call->out[i].shape));
    plan->layout.buffer[plan->layout.scratch + n].bytes = scratch;
    if (scratch > plan->scratch_bytes) plan->scratch_bytes = scratch;
    return OK;
}

/* Memory was refused: what takes most of it. */
static Status name_largest(const Plan *plan, Status status)
{
    enum { LARGEST = 3 };
    int largest[LARGEST] = {-1, -1, -1};
    char text[LARGEST * 160] = "";
    size_t at = 0;
    for (int v = 0; v < plan->values; ++v) {
        if (plan->layout.place[v].buffer < 0 || graph_producer(plan->graph, (Value){v}) < 0) continue;
        int candidate = v;
        for (int i = 0; i < LARGEST; ++i) {
            const int other = largest[i];
            if (other >= 0 && shape_bytes(graph_shape(plan->graph, (Value){candidate})) <=
                                  shape_bytes(graph_shape(plan->graph, (Value){other})))
                continue;
            largest[i] = candidate;
            candidate = other;
            if (candidate < 0) break;
        }
    }
    for (int i = 0; i < LARGEST && largest[i] >= 0; ++i) {
        const Value value = {largest[i]};
        const Shape shape = graph_shape(plan->graph, value);
        const Node *node = graph_node_at(plan->graph, graph_producer(plan->graph, value));
        char shape_string[SHAPE_TEXT];
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%.60s (%s) %s, %.3f GB", i > 0 ? "; " : "",
                               node->scope, node->op->name, shape_text(shape, shape_string),
                               (double)shape_bytes(shape) * 1e-9);
        if (at >= sizeof text) break;
    }
    return status_context(status, "a plan of %d tensors, the largest of them %s", plan->values, text);
}

Status plan_create(const Graph *graph, Store *store, Arena *arena, Collective *collective,
                   PlanOptions options, Plan **out)
{
    *out = NULL;
    Plan *plan;
    TRY(memory_new(&plan, 1, sizeof *plan, "plan"));
    Status status;
    plan->graph = graph;
    plan->store = store;
    plan->device = store_device(store);
    plan->arena = arena;
    plan->collective = collective;
    plan->options = options;
    plan->arena_version = -1;
    plan->nodes = graph_node_count(graph);
    plan->values = graph_value_count(graph);
    TRY_ELSE(failed, memory_new(&plan->call, (size_t)plan->nodes + 1, sizeof *plan->call, "plan"));
    TRY_ELSE(failed, memory_new(&plan->cost, (size_t)plan->nodes + 1, sizeof *plan->cost, "plan"));
    TRY_ELSE(failed, memory_new(&plan->seconds, (size_t)plan->nodes + 1, sizeof *plan->seconds, "plan"));
    TRY_ELSE(failed, memory_new(&plan->bound, (size_t)plan->values + 1, sizeof *plan->bound, "plan"));
    TRY_ELSE(failed,
             memory_new(&plan->is_gradient, (size_t)plan->values + 1, sizeof *plan->is_gradient, "plan"));
    TRY_ELSE(failed, bind_store(plan));
    TRY_ELSE(failed, make_buckets(plan));
    if (device_kind(plan->device) == DEVICE_CUDA && graph_compute_type(graph) == BFLOAT16) {
        TRY_ELSE(failed, choose_rounding(plan));
        if (plan->bucket_count > 0)
            TRY_ELSE(failed, narrow_gradients_create(store, store_count(store), &plan->narrow));
    }
    if (plan->bucket_count > 0)
        TRY_ELSE(failed,
                 exchange_create(store, collective, plan->narrow, options.gradient_type, &plan->exchange));
    if (plan->trains) TRY_ELSE(failed, row_exchange_create(store, collective, &plan->rows));
    TRY_ELSE(failed, layout_create(graph, device_kind(plan->device), plan->is_gradient, options.share_memory,
                                   &plan->layout));
    for (int n = 0; n < plan->nodes; ++n)
        TRY_ELSE(failed, prepare_node(plan, n));
    TRY_ELSE(failed, layout_assign_offsets(&plan->layout));
    status = arena_reserve(arena, plan->layout.arena_bytes);
    if (status != OK) {
        status = name_largest(plan, status);
        goto failed;
    }
    *out = plan;
    return OK;
failed:
    plan_free(plan);
    return status;
}

void plan_free(Plan *plan)
{
    if (plan == NULL) return;
    for (int n = 0; n < plan->prepared; ++n) {
        const Node *node = graph_node_at(plan->graph, n);
        const Kernel *kernel = node->op->kernel[device_kind(plan->device)];
        if (kernel != NULL && kernel->release != NULL && node->op->alias != ALIAS_RESHAPE)
            kernel->release(&plan->call[n]);
    }
    layout_free(&plan->layout);
    exchange_free(plan->exchange);
    row_exchange_free(plan->rows);
    narrow_gradients_free(plan->narrow);
    packed_parameters_free(&plan->packed);
    free(plan->call);
    free(plan->cost);
    free(plan->seconds);
    free(plan->bound);
    free(plan->is_gradient);
    free(plan->bucket);
    free(plan->rounding);
    free(plan->reduced);
    free(plan->row);
    free(plan);
}

/* ---- memory ---- */

static void *address(const Plan *plan, Value value)
{
    /* A reshape of memory outside the arena is that memory. */
    while (plan->bound[value.id] == NULL && plan->layout.place[value.id].buffer < 0) {
        const int producer = graph_producer(plan->graph, value);
        if (producer < 0) return NULL;
        const Node *node = graph_node_at(plan->graph, producer);
        if (node->op->alias != ALIAS_RESHAPE) return NULL;
        value = node->input[0];
    }
    if (plan->bound[value.id] != NULL) return plan->bound[value.id];
    const Place *place = &plan->layout.place[value.id];
    const Buffer *buffer = &plan->layout.buffer[place->buffer];
    if (buffer->fixed) { /* shares the memory of a gradient: find whose */
        for (int v = 0; v < plan->values; ++v)
            if (plan->is_gradient[v] && plan->layout.place[v].buffer == place->buffer) return plan->bound[v];
        return NULL;
    }
    return arena_memory(plan->arena) + buffer->offset +
           (size_t)place->column * dtype_size(graph_shape(plan->graph, value).type);
}

static void resolve(Plan *plan)
{
    if (plan->arena_version == arena_version(plan->arena)) return;
    for (int n = 0; n < plan->nodes; ++n) {
        const Node *node = graph_node_at(plan->graph, n);
        Call *call = &plan->call[n];
        for (int i = 0; i < node->input_count; ++i)
            call->in[i].data = value_exists(node->input[i]) ? address(plan, node->input[i]) : NULL;
        for (int i = 0; i < node->input_count && plan->rounded != NULL; ++i)
            if (value_exists(node->input[i]) && graph_role(plan->graph, node->input[i]) == ROLE_PARAMETER)
                call->in[i].rounded =
                    plan->rounded + ((const float *)call->in[i].data - store_parameters(plan->store)) *
                                        (ptrdiff_t)dtype_size(BFLOAT16);
        for (int i = 0; i < node->output_count; ++i)
            call->out[i].data = address(plan, node->output[i]);
        const Buffer *scratch = &plan->layout.buffer[plan->layout.scratch + n];
        call->scratch = scratch->bytes > 0 ? arena_memory(plan->arena) + scratch->offset : NULL;
    }
    plan->arena_version = arena_version(plan->arena);
}

void *plan_data(Plan *plan, Value value)
{
    resolve(plan);
    return address(plan, value);
}

void plan_bind(Plan *plan, Value value, void *data)
{
    if (plan->bound[value.id] == data) return;
    plan->bound[value.id] = data;
    plan->arena_version = -1;
}

/* ---- running ---- */

static double now(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static Status check_inputs_bound(const Plan *plan)
{
    for (int v = 0; v < plan->values; ++v)
        if (graph_role(plan->graph, (Value){v}) == ROLE_INPUT && graph_is_external(plan->graph, (Value){v}) &&
            plan->bound[v] == NULL)
            return fail(STATUS_INTERNAL, "input %s was not bound before the run",
                        graph_name(plan->graph, (Value){v}));
    return OK;
}

/* Each bucket that is complete after node n: its sum over ranks is started, with what earlier micro-steps gathered; or
 * if it is not to be reduced, it becomes float32. */
static Status finish_ready(Plan *plan, int n, bool reduce, const float *gathered, int *next)
{
    while (*next < plan->bucket_count && plan->bucket[*next].ready <= n) {
        const Bucket *bucket = &plan->bucket[(*next)++];
        if (reduce)
            TRY(exchange_start(plan->exchange, bucket->first, bucket->count, gathered));
        else if (plan->narrow != NULL)
            TRY(narrow_gradients_widen(plan->narrow, bucket->first, bucket->count));
    }
    return OK;
}

static Status reduce_results(Plan *plan, int n)
{
    for (size_t i = 0; i < plan->reduced_count; ++i) {
        const Value value = plan->reduced[i];
        if (graph_producer(plan->graph, value) != n) continue;
        const Shape shape = graph_shape(plan->graph, value);
        TRY(collective_sum(plan->collective, (Span){address(plan, value), shape_count(shape), shape.type},
                           device_stream(plan->device)));
    }
    return OK;
}

/* Parameters are float32; a GPU's libraries want them in the activations' type. All at once, because rounding
 * each where it is used would cost a launch a layer, forward and backward. */
static Status round_parameters(Plan *plan)
{
    for (int i = 0; i < plan->roundings; ++i) {
        const Slice slice = plan->rounding[i];
        const Node node = {.op = &cast_op, .scope = "parameters", .input_count = 1, .output_count = 1};
        const Call call = {.node = &node,
                           .in = {{.data = store_parameters(plan->store) + slice.first,
                                   .shape = shape_of(FLOAT32, 1, &slice.count),
                                   .stride = slice.count}},
                           .out = {{.data = plan->rounded + slice.first * (int64_t)dtype_size(BFLOAT16),
                                    .shape = shape_of(BFLOAT16, 1, &slice.count),
                                    .stride = slice.count}},
                           .device = plan->device,
                           .collective = plan->collective};
        /* cppcheck-suppress returnDanglingLifetime ; kernels keep nothing of a call */
        TRY(cast_op.kernel[device_kind(plan->device)]->run(&call));
    }
    return OK;
}

static Status run_node(Plan *plan, int n)
{
    const Node *node = plan->call[n].node;
    if (node->op->alias == ALIAS_RESHAPE) return OK;
    const double start = plan->options.profile ? now() : 0;
    Status status = node->op->kernel[device_kind(plan->device)]->run(&plan->call[n]);
    if (status != OK) return status_context(status, "%s (%s)", node->scope, node->op->name);
    if (plan->options.profile) {
        TRY(device_synchronize(plan->device));
        plan->seconds[n] += now() - start;
    }
    return OK;
}

Status plan_run(Plan *plan)
{
    TRY(check_inputs_bound(plan));
    resolve(plan);
    const bool gathering = plan->micro_steps > 1, last = plan->micro_step == plan->micro_steps - 1;
    const bool reduce = !gathering || last;
    if (plan->rows != NULL && gathering && plan->micro_step > 0)
        return fail(STATUS_UNSUPPORTED,
                    "tables that are trained by rows cannot gather the gradients of micro-batches");
    float *gathered = NULL;
    if (gathering) TRY(store_accumulator(plan->store, &gathered));
    if (plan->gradients_missing && plan->bucket_count > 0)
        TRY(device_clear(plan->device, store_gradients(plan->store),
                         (size_t)store_trained_count(plan->store) * sizeof(float)));
    TRY(round_parameters(plan));
    TRY(packed_parameters_make(&plan->packed, plan->store));
    int next = 0;
    for (int n = 0; n < plan->nodes; ++n) {
        TRY(run_node(plan, n));
        TRY(finish_ready(plan, n, reduce, gathered, &next));
        TRY(reduce_results(plan, n));
        TRY(collective_health(plan->collective));
    }
    if (plan->rows != NULL && reduce) TRY(row_exchange_start(plan->rows, plan->graph));
    ++plan->runs;
    if (gathering && !last && plan->bucket_count > 0) {
        if (plan->micro_step == 0)
            TRY(device_clear(plan->device, gathered,
                             (size_t)store_trained_count(plan->store) * sizeof(float)));
        TRY(device_accumulate(plan->device, gathered, store_gradients(plan->store),
                              store_trained_count(plan->store)));
    }
    const double start = now();
    TRY(collective_join(plan->collective, device_stream(plan->device)));
    if (plan->exchange != NULL) TRY(exchange_finish(plan->exchange));
    if (plan->rows != NULL && reduce) TRY(row_exchange_finish(plan->rows));
    plan->join_seconds += now() - start;
    return OK;
}

void plan_set_micro_step(Plan *plan, int index, int count)
{
    plan->micro_step = index;
    plan->micro_steps = count;
}

Status plan_reduce(Plan *plan, Value value)
{
    if (!value_exists(value) || !graph_is_kept(plan->graph, value))
        return fail(STATUS_INTERNAL, "plan_reduce needs a kept result");
    TRY(memory_grow(&plan->reduced, &plan->reduced_capacity, plan->reduced_count + 1, sizeof *plan->reduced,
                    "plan"));
    plan->reduced[plan->reduced_count++] = value;
    return OK;
}
