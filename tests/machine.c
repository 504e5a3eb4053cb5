#include "tests/machine.h"

#include <stdlib.h>

void machine_open(Machine *m, int threads)
{
    for (int i = 0; i < m->count; ++i)
        assert_ok(graph_finish(m->graph[i]));
    assert_ok(device_open(test_device(), 0, threads, &m->device));
    assert_ok(collective_self(&m->self));
    assert_ok(arena_create(m->device, &m->arena));
    assert_ok(store_create(m->device, (const Graph *const *)m->graph, m->count, 1, &m->store));
    for (int i = 0; i < m->count; ++i)
        assert_ok(plan_create(m->graph[i], m->store, m->arena, m->self, PLAN_DEFAULTS, &m->plan[i]));
}

void machine_close(Machine *m)
{
    for (int i = 0; i < m->count; ++i)
        plan_free(m->plan[i]);
    store_free(m->store);
    arena_free(m->arena);
    collective_free(m->self);
    device_close(m->device);
    for (int i = 0; i < m->count; ++i)
        graph_free(m->graph[i]);
}

void *new_items(int64_t count, size_t size)
{
    void *memory = calloc((size_t)count + 1, size);
    assert_non_null(memory);
    return memory;
}

void machine_put(const Machine *m, void *to, Shape shape, const double *values)
{
    const int64_t count = shape_count(shape);
    void *host = new_items(count, dtype_size(shape.type));
    for (int64_t i = 0; i < count; ++i) {
        if (shape.type == FLOAT32)
            ((float *)host)[i] = (float)values[i];
        else
            ((int32_t *)host)[i] = (int32_t)values[i];
    }
    assert_ok(device_upload(m->device, to, host, shape_bytes(shape)));
    assert_ok(device_synchronize(m->device));
    free(host);
}

double *machine_get(const Machine *m, const void *from, Shape shape)
{
    const int64_t count = shape_count(shape);
    double *values = new_items(count, sizeof *values);
    void *host = new_items(count, dtype_size(shape.type));
    assert_ok(device_download(m->device, host, from, shape_bytes(shape)));
    assert_ok(device_synchronize(m->device));
    for (int64_t i = 0; i < count; ++i)
        values[i] = shape.type == FLOAT32 ? (double)((const float *)host)[i] : ((const double *)host)[i];
    free(host);
    return values;
}

void machine_put_input(const Machine *m, int graph, Value value, const double *values)
{
    machine_put(m, plan_data(m->plan[graph], value), graph_shape(m->graph[graph], value), values);
}

double *machine_get_result(const Machine *m, int graph, Value value)
{
    return machine_get(m, plan_data(m->plan[graph], value), graph_shape(m->graph[graph], value));
}

void machine_run(const Machine *m, int graph)
{
    assert_ok(plan_run(m->plan[graph]));
    assert_ok(device_synchronize(m->device));
}
