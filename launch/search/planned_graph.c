#include "launch/search/planned_graph.h"

#include "engine/base/log.h"

void planned_free(Device *device, PlannedGraph *planned)
{
    device_forget(device, &planned->recording);
    plan_free(planned->plan);
    graph_free(planned->graph);
    *planned = (PlannedGraph){.graph = NULL};
}

Value planned_integers(Graph *graph, const char *name, int rank, int64_t first, int64_t second)
{
    return graph_input(graph, name, shape_of(INT32, rank, (int64_t[]){first, second}));
}

Status planned_upload(Device *device, const PlannedGraph *planned, Value input, const void *data)
{
    return device_upload(device, plan_data(planned->plan, input), data,
                         shape_bytes(graph_shape(planned->graph, input)));
}

Status planned_download(Device *device, const PlannedGraph *planned, Value result, void *data, int64_t rows)
{
    const Shape shape = graph_shape(planned->graph, result);
    return device_download(device, data, plan_data(planned->plan, result),
                           (size_t)(rows * shape_columns(shape)) * dtype_size(shape.type));
}

static Status enqueue(void *plan) { return plan_run(plan); }

Status planned_run(Device *device, PlannedGraph *planned, const char *what, bool *record)
{
    if (!*record) return plan_run(planned->plan);
    const int64_t calls = planned->recording.calls;
    Status status = device_repeat(device, &planned->recording, enqueue, planned->plan);
    if (status == OK || calls == 0 || planned->recording.implementation != NULL) return status;
    log_warning("%s cannot be recorded, and runs without: %s", what, status_message(status));
    status_free(status);
    *record = false;
    return plan_run(planned->plan);
}
