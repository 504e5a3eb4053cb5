#include "engine/plan/store.h"

#include "engine/base/memory.h"
#include "engine/base/random.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGN_ELEMENTS = 16, ALIGN_BYTES = 64 };

typedef struct {
    const char *name;
    float *data;
} FlatArray;

struct Store {
    Device *device;
    StoreEntry *entry;
    int count;
    int64_t parameter_count, flat_count;
    float *parameters, *gradients;
    char *states;
    size_t state_bytes;
    void *accumulator, *rounded, *narrow_gradients; /* NULL: nobody has asked for it yet */
    FlatArray *flat;
    size_t flat_arrays, flat_capacity;
};

/* Parameters in the order in which backward finishes their gradients; those without one after them. */
typedef struct {
    Value value;
    int finished;
} Ordered;

static int compare_finished(const void *a, const void *b)
{
    const Ordered *left = a, *right = b;
    if (left->finished != right->finished) return left->finished < right->finished ? -1 : 1;
    return left->value.id < right->value.id ? -1 : 1;
}

static void draw(float *data, int64_t count, Init init, uint64_t seed, uint64_t key)
{
    switch (init.kind) {
    case INIT_ZEROS:
        memset(data, 0, (size_t)count * sizeof *data);
        break;
    case INIT_ONES:
        for (int64_t i = 0; i < count; ++i)
            data[i] = 1.0F;
        break;
    case INIT_UNIFORM: {
        RandomStream stream = random_stream(seed, RANDOM_INITIALISATION, key);
        for (int64_t i = 0; i < count; ++i)
            data[i] = (float)((2.0 * random_uniform(&stream) - 1.0) * init.scale);
        break;
    }
    case INIT_NORMAL: {
        RandomStream stream = random_stream(seed, RANDOM_INITIALISATION, key);
        for (int64_t i = 0; i < count; ++i)
            data[i] = (float)(random_normal(&stream) * init.scale);
        break;
    }
    }
}

static size_t state_room(Shape shape)
{
    return (shape_bytes(shape) + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
}

static Status initialise(Store *store, StoreEntry *entry, Init init, uint64_t seed)
{
    const size_t bytes = shape_bytes(entry->shape);
    if (entry->shape.type != FLOAT32) {
        if (init.kind != INIT_ZEROS)
            return fail(STATUS_INTERNAL, "%s: a state of type %s can only start at zero", entry->name,
                        dtype_name(entry->shape.type));
        return device_clear(store->device, entry->data, bytes);
    }
    float *host;
    TRY(memory_new(&host, (size_t)shape_count(entry->shape), sizeof *host, entry->name));
    draw(host, shape_count(entry->shape), init, seed, random_name_key(entry->name));
    Status status = device_upload(store->device, entry->data, host, bytes);
    if (status == OK) status = device_synchronize(store->device);
    free(host);
    return status;
}

/* One after the other, so that ranks can take them over at once. */
static Status lay_out_states(Store *store, const Graph *graph, uint64_t seed)
{
    const int values = graph_value_count(graph);
    for (int i = 0; i < values; ++i)
        if (graph_role(graph, (Value){i}) == ROLE_STATE)
            store->state_bytes += state_room(graph_shape(graph, (Value){i}));
    if (store->state_bytes == 0) return OK;
    TRY(device_allocate(store->device, store->state_bytes, "states", (void **)(void *)&store->states));
    size_t at = 0;
    for (int i = 0; i < values; ++i) {
        const Value value = {i};
        if (graph_role(graph, value) != ROLE_STATE) continue;
        StoreEntry *entry = &store->entry[store->count];
        *entry = (StoreEntry){
            .role = ROLE_STATE, .shape = graph_shape(graph, value), .data = store->states + at, .offset = -1};
        at += state_room(entry->shape);
        TRY(text_copy(graph_name(graph, value), (char **)(void *)&entry->name));
        ++store->count;
        TRY(initialise(store, entry, graph_init(graph, value), seed));
    }
    return OK;
}

static Status lay_out(Store *store, const Graph *graph, uint64_t seed)
{
    const int values = graph_value_count(graph);
    Ordered *parameter = NULL;
    Status status = OK;
    int parameters = 0, states = 0;
    bool trained = false;
    TRY(memory_new(&parameter, (size_t)values + 1, sizeof *parameter, "store"));
    for (int i = 0; i < values; ++i) {
        const Value value = {i};
        if (graph_role(graph, value) == ROLE_STATE) ++states;
        if (graph_role(graph, value) != ROLE_PARAMETER) continue;
        const Value gradient = graph_gradient(graph, value);
        trained = trained || value_exists(gradient);
        parameter[parameters++] =
            (Ordered){value, value_exists(gradient) ? graph_producer(graph, gradient) : INT32_MAX};
    }
    qsort(parameter, (size_t)parameters, sizeof *parameter, compare_finished);
    TRY_ELSE(done,
             memory_new(&store->entry, (size_t)(parameters + states) + 1, sizeof *store->entry, "store"));
    for (int i = 0; i < parameters; ++i) {
        const Shape shape = graph_shape(graph, parameter[i].value);
        const int64_t count = shape_count(shape);
        StoreEntry *entry = &store->entry[store->count];
        *entry = (StoreEntry){.role = ROLE_PARAMETER,
                              .shape = shape,
                              .offset = store->flat_count,
                              .file_layout = graph_file_layout(graph, parameter[i].value)};
        TRY_ELSE(done, text_copy(graph_name(graph, parameter[i].value), (char **)(void *)&entry->name));
        ++store->count;
        store->parameter_count += count;
        store->flat_count += (count + ALIGN_ELEMENTS - 1) / ALIGN_ELEMENTS * ALIGN_ELEMENTS;
    }
    const size_t bytes = (size_t)store->flat_count * sizeof(float);
    TRY_ELSE(done, device_allocate(store->device, bytes, "parameters", (void **)&store->parameters));
    if (trained)
        TRY_ELSE(done, device_allocate(store->device, bytes, "gradients", (void **)&store->gradients));
    for (int i = 0; i < parameters; ++i) {
        StoreEntry *entry = &store->entry[i];
        entry->data = store->parameters + entry->offset;
        entry->gradient = trained ? store->gradients + entry->offset : NULL;
        TRY_ELSE(done, initialise(store, entry, graph_init(graph, parameter[i].value), seed));
    }
    status = lay_out_states(store, graph, seed);
done:
    free(parameter);
    return status;
}

Status store_create(Device *device, const Graph *graph, uint64_t seed, Store **out)
{
    *out = NULL;
    Store *store;
    TRY(memory_new(&store, 1, sizeof *store, "store"));
    store->device = device;
    Status status = lay_out(store, graph, seed);
    if (status != OK) {
        store_free(store);
        return status;
    }
    *out = store;
    return OK;
}

void store_free(Store *store)
{
    if (store == NULL) return;
    for (int i = 0; i < store->count; ++i)
        free((void *)(uintptr_t)store->entry[i].name);
    for (size_t i = 0; i < store->flat_arrays; ++i) {
        device_free(store->device, store->flat[i].data);
        free((void *)(uintptr_t)store->flat[i].name);
    }
    device_free(store->device, store->parameters);
    device_free(store->device, store->gradients);
    device_free(store->device, store->states);
    device_free(store->device, store->accumulator);
    device_free(store->device, store->rounded);
    device_free(store->device, store->narrow_gradients);
    free(store->flat);
    free(store->entry);
    free(store);
}

Device *store_device(const Store *store) { return store->device; }
int store_count(const Store *store) { return store->count; }
const StoreEntry *store_at(const Store *store, int index) { return &store->entry[index]; }

const StoreEntry *store_find(const Store *store, const char *name)
{
    for (int i = 0; i < store->count; ++i)
        if (strcmp(store->entry[i].name, name) == 0) return &store->entry[i];
    return NULL;
}

int64_t store_parameter_count(const Store *store) { return store->parameter_count; }
int64_t store_flat_count(const Store *store) { return store->flat_count; }
float *store_parameters(const Store *store) { return store->parameters; }
float *store_gradients(const Store *store) { return store->gradients; }
void *store_states(const Store *store) { return store->states; }
size_t store_state_bytes(const Store *store) { return store->state_bytes; }

/* A flat array that is made when it is first asked for. */
static Status make_once(const Store *store, DType type, const char *what, void **array)
{
    if (*array != NULL) return OK;
    return device_allocate(store->device, (size_t)store->flat_count * dtype_size(type), what, array);
}

Status store_accumulator(Store *store, float **data)
{
    TRY(make_once(store, FLOAT32, "accumulated gradients", &store->accumulator));
    *data = store->accumulator;
    return OK;
}

Status store_rounded(Store *store, void **data)
{
    TRY(make_once(store, BFLOAT16, "rounded parameters", &store->rounded));
    *data = store->rounded;
    return OK;
}

Status store_narrow_gradients(Store *store, void **data)
{
    TRY(make_once(store, BFLOAT16, "gradients in bfloat16", &store->narrow_gradients));
    *data = store->narrow_gradients;
    return OK;
}

Status store_flat(Store *store, const char *name, float **data)
{
    for (size_t i = 0; i < store->flat_arrays; ++i) {
        if (strcmp(store->flat[i].name, name) != 0) continue;
        *data = store->flat[i].data;
        return OK;
    }
    TRY(memory_grow(&store->flat, &store->flat_capacity, store->flat_arrays + 1, sizeof *store->flat,
                    "store"));
    FlatArray array = {NULL, NULL};
    TRY(text_copy(name, (char **)(void *)&array.name));
    Status status =
        device_allocate(store->device, (size_t)store->flat_count * sizeof(float), name, (void **)&array.data);
    if (status != OK) {
        free((void *)(uintptr_t)array.name);
        return status;
    }
    store->flat[store->flat_arrays++] = array;
    *data = array.data;
    return OK;
}

int store_flat_arrays(const Store *store) { return (int)store->flat_arrays; }
const char *store_flat_name(const Store *store, int index) { return store->flat[index].name; }
float *store_flat_data(const Store *store, int index) { return store->flat[index].data; }
