/* What a plan has come to: numbers that are not finite, its size, where its time went. */
#include "engine/plan/plan_fields.h"

#include "engine/base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static Status check_floats(Plan *plan, const char *what, const char *name, const void *data, Shape shape)
{
    if (shape.type != FLOAT32 && shape.type != FLOAT64) return OK;
    const int64_t count = shape_count(shape);
    char *host;
    TRY(memory_new(&host, (size_t)count, dtype_size(shape.type), name));
    Status status = device_download(plan->device, host, data, shape_bytes(shape));
    if (status == OK) status = device_synchronize(plan->device);
    for (int64_t i = 0; i < count && status == OK; ++i) {
        const double value = shape.type == FLOAT32 ? (double)((const float *)(const void *)host)[i]
                                                   : ((const double *)(const void *)host)[i];
        if (!isfinite(value))
            status = fail(STATUS_NUMERIC, "%s %s is %s at element %lld", what, name,
                          isnan(value) ? "NaN" : "infinite", (long long)i);
    }
    free(host);
    return status;
}

/* Of this rank's gradient of a table's rows, that what is there. */
static Status check_rows(Plan *plan, const StoreEntry *entry)
{
    int32_t rows;
    TRY(device_download(plan->device, &rows, entry->rows.list, sizeof rows));
    TRY(device_synchronize(plan->device));
    const Shape shape = shape_of(FLOAT32, 2, (const int64_t[]){rows, shape_columns(entry->shape)});
    return check_floats(plan, "the gradient of rows of", entry->name, entry->rows.gradient, shape);
}

static bool is_reduced(const Plan *plan, Value value)
{
    for (size_t i = 0; i < plan->reduced_count; ++i)
        if (value_equal(plan->reduced[i], value)) return true;
    return false;
}

Status plan_check_finite(Plan *plan)
{
    const bool own = plan->micro_step + 1 < plan->micro_steps; /* no gradient has been reduced */
    for (int i = 0; i < store_count(plan->store); ++i) {
        const StoreEntry *entry = store_at(plan->store, i);
        TRY(check_floats(plan, entry->role == ROLE_PARAMETER ? "parameter" : "state", entry->name,
                         entry->data, entry->shape));
    }
    for (int v = 0; v < plan->values; ++v) {
        const Value value = {v};
        if (graph_is_kept(plan->graph, value) && graph_role(plan->graph, value) == ROLE_RESULT &&
            !(own && is_reduced(plan, value)))
            TRY(check_floats(plan, "result", graph_name(plan->graph, value), plan_data(plan, value),
                             graph_shape(plan->graph, value)));
    }
    for (int i = 0; i < store_count(plan->store) && plan->trains; ++i) {
        const StoreEntry *entry = store_at(plan->store, i);
        if (entry->gradient != NULL)
            TRY(check_floats(plan, "the gradient of", entry->name, entry->gradient, entry->shape));
        if (entry->by_rows) TRY(check_rows(plan, entry));
    }
    return OK;
}

PlanReport plan_report(const Plan *plan)
{
    PlanReport report = {.arena_bytes = plan->layout.arena_bytes,
                         .tensor_bytes = plan->layout.tensor_bytes,
                         .scratch_bytes = plan->scratch_bytes,
                         .nodes = plan->nodes,
                         .in_place = plan->layout.in_place,
                         .views = plan->layout.views,
                         .buckets = plan->bucket_count};
    for (int i = 0; i < store_count(plan->store); ++i) {
        const StoreEntry *entry = store_at(plan->store, i);
        const size_t bytes = shape_bytes(entry->shape);
        if (entry->role == ROLE_STATE) report.state_bytes += bytes;
        if (entry->role == ROLE_PARAMETER) report.parameter_bytes += bytes;
        if (entry->gradient != NULL) report.gradient_bytes += bytes;
        if (entry->by_rows)
            report.gradient_bytes += (size_t)(entry->rows.most * shape_columns(entry->shape)) * sizeof(float);
    }
    for (int n = 0; n < plan->nodes; ++n) {
        report.flops += plan->cost[n].flops;
        report.bytes += plan->cost[n].bytes;
    }
    return report;
}

int plan_profile(Plan *plan, const ProfileRow **rows)
{
    free(plan->row);
    plan->row = NULL;
    *rows = NULL;
    if (!plan->options.profile) return 0;
    Status status = memory_new(&plan->row, (size_t)plan->nodes + 1, sizeof *plan->row, "profile");
    if (status != OK) {
        status_free(status);
        return 0;
    }
    int count = 0;
    for (int n = 0; n < plan->nodes; ++n) {
        const Node *node = graph_node_at(plan->graph, n);
        int at = 0;
        while (at < count &&
               !(strcmp(plan->row[at].op, node->op->name) == 0 && plan->row[at].phase == node->phase))
            ++at;
        if (at == count)
            plan->row[count++] = (ProfileRow){.op = node->op->name, .phase = node->phase, .runs = plan->runs};
        ++plan->row[at].nodes;
        plan->row[at].seconds += plan->seconds[n];
        plan->row[at].flops += plan->cost[n].flops * (double)plan->runs;
        plan->row[at].bytes += plan->cost[n].bytes * (double)plan->runs;
    }
    *rows = plan->row;
    return count;
}

double plan_join_seconds(const Plan *plan) { return plan->join_seconds; }
