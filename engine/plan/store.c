#include "engine/plan/store.h"

#include "engine/base/memory.h"
#include "engine/base/random.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGN_ELEMENTS = 16, ALIGN_BYTES = 64 };

typedef struct {
    const char *name;
    float *data;
    int64_t count;
} FlatArray;

struct Store {
    Device *device;
    StoreEntry *entry;
    int count;
    int64_t parameter_count, flat_count, trained_count, table_count;
    float *parameters, *gradients;
    char *states;
    size_t state_bytes;
    void *accumulator, *rounded, *narrow_gradients; /* NULL: nobody has asked for it yet */
    RowGradient *gathered;                          /* one a table; NULL: nobody has asked for it yet */
    void *row_scratch;
    int tables, ranks;
    bool one_order;
    FlatArray *flat;
    size_t flat_arrays, flat_capacity;
    PackedParameter **packed; /* each for itself: plans hold them */
    size_t packed_count, packed_capacity;
    int64_t version;
};

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

static int64_t flat_room(Shape shape)
{
    return (shape_count(shape) + ALIGN_ELEMENTS - 1) / ALIGN_ELEMENTS * ALIGN_ELEMENTS;
}

/* A parameter or state of some graph. `place` orders them: kind first, then graph, then the node after which its
 * gradient is finished, then its number in the graph. */
typedef enum { KIND_DENSE, KIND_TABLE, KIND_UNTRAINED, KIND_STATE, KIND_TRANSIENT } Kind;
typedef struct {
    const Graph *graph;
    Value value;
    Kind kind;
    int graph_index, finished;
    int64_t most_rows;
} Found;

static int compare_found(const void *a, const void *b)
{
    const Found *left = a, *right = b;
    if (left->kind != right->kind) return left->kind < right->kind ? -1 : 1;
    if (left->graph_index != right->graph_index) return left->graph_index < right->graph_index ? -1 : 1;
    if (left->finished != right->finished) return left->finished < right->finished ? -1 : 1;
    return left->value.id < right->value.id ? -1 : 1;
}

static Found describe(const Graph *graph, int index, Value value)
{
    Found found = {.graph = graph, .value = value, .graph_index = index, .finished = INT32_MAX};
    const Value gradient = graph_gradient(graph, value);
    if (graph_role(graph, value) == ROLE_STATE) {
        found.kind = graph_is_transient(graph, value) ? KIND_TRANSIENT : KIND_STATE;
    } else if (!value_exists(gradient)) {
        found.kind = KIND_UNTRAINED;
    } else {
        found.kind = graph_training(graph, value) == TRAINED_BY_ROWS ? KIND_TABLE : KIND_DENSE;
        found.finished = graph_producer(graph, gradient);
        if (found.kind == KIND_TABLE) found.most_rows = graph_shape(graph, gradient).extent[0];
    }
    return found;
}

static Status check_same(const Found *a, const Found *b)
{
    const char *name = graph_name(a->graph, a->value);
    const Shape left = graph_shape(a->graph, a->value), right = graph_shape(b->graph, b->value);
    if (graph_role(a->graph, a->value) != graph_role(b->graph, b->value) ||
        graph_is_transient(a->graph, a->value) != graph_is_transient(b->graph, b->value))
        return fail(STATUS_INTERNAL,
                    "%s is a parameter, a state or a transient state, and another in graph %d and %d", name,
                    a->graph_index, b->graph_index);
    if (!shape_equal(left, right)) {
        char was[SHAPE_TEXT], is[SHAPE_TEXT];
        return fail(STATUS_INPUT, "%s is %s in graph %d and %s in graph %d", name, shape_text(left, was),
                    a->graph_index, shape_text(right, is), b->graph_index);
    }
    if (graph_file_layout(a->graph, a->value) != graph_file_layout(b->graph, b->value))
        return fail(STATUS_INTERNAL, "%s has another layout in files in graph %d than in graph %d", name,
                    a->graph_index, b->graph_index);
    if (graph_file_names(a->graph, a->value)->parts != graph_file_names(b->graph, b->value)->parts)
        return fail(STATUS_INTERNAL, "%s has other names in files in graph %d than in graph %d", name,
                    a->graph_index, b->graph_index);
    const bool rows_a = a->kind == KIND_TABLE, rows_b = b->kind == KIND_TABLE;
    if (rows_a != rows_b && a->kind != KIND_UNTRAINED && b->kind != KIND_UNTRAINED)
        return fail(STATUS_INTERNAL, "%s is trained by rows in one of graph %d and %d only", name,
                    a->graph_index, b->graph_index);
    return OK;
}

/* Takes over what another graph says of a value that is known: where it is trained, and by how many rows. */
static Status merge(Found *known, const Found *more, bool *one_order)
{
    TRY(check_same(known, more));
    const int64_t most = known->most_rows > more->most_rows ? known->most_rows : more->most_rows;
    if (known->finished != INT32_MAX && more->finished != INT32_MAX && known->finished != more->finished)
        *one_order = false;
    if (known->kind == KIND_UNTRAINED && more->kind != KIND_UNTRAINED) *known = *more;
    known->most_rows = most;
    return OK;
}

/* All parameters and states of the graphs, each once, in the store's order; release with free(). */
static Status find_all(const Graph *const graphs[], int count, Found **out, int *found_count, bool *one_order)
{
    Found *found = NULL;
    size_t capacity = 0;
    int length = 0, trained_first = -1;
    Status status = OK;
    *one_order = true;
    for (int g = 0; g < count; ++g) {
        const Graph *graph = graphs[g];
        int trained = 0;
        for (int v = 0; v < graph_value_count(graph); ++v) {
            const Value value = {v};
            const Role role = graph_role(graph, value);
            if (role != ROLE_PARAMETER && role != ROLE_STATE) continue;
            const Found more = describe(graph, g, value);
            const bool trains = more.kind == KIND_DENSE || more.kind == KIND_TABLE;
            trained += trains;
            const char *name = graph_name(graph, value);
            int at = 0;
            while (at < length && strcmp(graph_name(found[at].graph, found[at].value), name) != 0)
                ++at;
            /* Others than the first must train the same, no more and no less. */
            if (trains && trained_first >= 0 && (at == length || found[at].kind == KIND_UNTRAINED))
                *one_order = false;
            if (at < length) {
                TRY_ELSE(failed, merge(&found[at], &more, one_order));
                continue;
            }
            TRY_ELSE(failed, memory_grow(&found, &capacity, (size_t)length + 1, sizeof *found, "store"));
            found[length++] = more;
        }
        if (trained == 0) continue;
        if (trained_first >= 0 && trained != trained_first) *one_order = false;
        trained_first = trained;
    }
    if (length > 0) qsort(found, (size_t)length, sizeof *found, compare_found);
    *out = found;
    *found_count = length;
    return OK;
failed:
    free(found);
    return status;
}

static Status initialise(Store *store, StoreEntry *entry, const Found *found, uint64_t seed)
{
    const size_t bytes = shape_bytes(entry->shape);
    const Init init = graph_init(found->graph, found->value);
    const int64_t zero_row = graph_zero_row(found->graph, found->value),
                  columns = shape_columns(entry->shape);
    if (entry->shape.type != FLOAT32) {
        if (init.kind != INIT_ZEROS)
            return fail(STATUS_INTERNAL, "%s: a state of type %s can only start at zero", entry->name,
                        dtype_name(entry->shape.type));
        return device_clear(store->device, entry->data, bytes);
    }
    float *host;
    TRY(memory_new(&host, (size_t)shape_count(entry->shape), sizeof *host, entry->name));
    draw(host, shape_count(entry->shape), init, seed, random_name_key(entry->name));
    if (zero_row >= 0 && zero_row < shape_rows(entry->shape))
        memset(host + zero_row * columns, 0, (size_t)columns * sizeof *host);
    Status status = device_upload(store->device, entry->data, host, bytes);
    if (status == OK) status = device_synchronize(store->device);
    free(host);
    return status;
}

static Status allocate_rows(Store *store, const char *name, int64_t lists, int64_t most, int64_t columns,
                            RowGradient *rows)
{
    const size_t list = (size_t)(lists * (ROW_LIST_HEAD + most)), elements = (size_t)(lists * most * columns);
    rows->most = most;
    TRY(device_allocate(store->device, list * sizeof *rows->list, name, (void **)&rows->list));
    return device_allocate(store->device, elements * sizeof *rows->gradient, name, (void **)&rows->gradient);
}

static void free_rows(const Store *store, RowGradient *rows)
{
    device_free(store->device, rows->list);
    device_free(store->device, rows->gradient);
}

static Status copy_file_names(const FileNames *from, FileNames *to)
{
    for (; to->parts < from->parts; ++to->parts)
        TRY(text_copy(from->part[to->parts], (char **)(void *)&to->part[to->parts]));
    for (; to->others < from->others; ++to->others)
        TRY(text_copy(from->other[to->others], (char **)(void *)&to->other[to->others]));
    for (; to->beside_count < from->beside_count; ++to->beside_count)
        TRY(text_copy(from->beside[to->beside_count], (char **)(void *)&to->beside[to->beside_count]));
    return OK;
}

static void free_file_names(FileNames *names)
{
    for (int i = 0; i < names->parts; ++i)
        free((void *)(uintptr_t)names->part[i]);
    for (int i = 0; i < names->others; ++i)
        free((void *)(uintptr_t)names->other[i]);
    for (int i = 0; i < names->beside_count; ++i)
        free((void *)(uintptr_t)names->beside[i]);
}

static Status add_entry(Store *store, const Found *found)
{
    const Shape shape = graph_shape(found->graph, found->value);
    StoreEntry *entry = &store->entry[store->count];
    *entry = (StoreEntry){.role = graph_role(found->graph, found->value),
                          .shape = shape,
                          .offset = -1,
                          .file_layout = graph_file_layout(found->graph, found->value),
                          .transient = found->kind == KIND_TRANSIENT,
                          .by_rows = found->kind == KIND_TABLE};
    TRY(text_copy(graph_name(found->graph, found->value), (char **)(void *)&entry->name));
    ++store->count;
    TRY(copy_file_names(graph_file_names(found->graph, found->value), &entry->file_names));
    if (entry->role == ROLE_PARAMETER) {
        entry->offset = store->flat_count;
        store->parameter_count += shape_count(shape);
        store->flat_count += flat_room(shape);
        if (found->kind == KIND_DENSE) store->trained_count += flat_room(shape);
        if (found->kind == KIND_TABLE) store->table_count += flat_room(shape);
    } else if (found->kind == KIND_STATE) {
        store->state_bytes += state_room(shape);
    }
    if (!entry->by_rows) return OK;
    ++store->tables;
    TRY(allocate_rows(store, entry->name, 1, found->most_rows, shape_columns(shape), &entry->rows));
    entry->all_rows = entry->rows;
    return OK;
}

/* Parameters in one array; states one after the other, so that ranks can take them over at once; transient ones each
 * for itself. */
static Status lay_out(Store *store, const Found *found, int count)
{
    TRY(memory_new(&store->entry, (size_t)count + 1, sizeof *store->entry, "store"));
    for (int i = 0; i < count; ++i)
        TRY(add_entry(store, &found[i]));
    TRY(device_allocate(store->device, (size_t)store->flat_count * sizeof(float), "parameters",
                        (void **)&store->parameters));
    if (store->trained_count + store->table_count > 0)
        TRY(device_allocate(store->device, (size_t)store->trained_count * sizeof(float), "gradients",
                            (void **)&store->gradients));
    if (store->state_bytes > 0)
        TRY(device_allocate(store->device, store->state_bytes, "states", (void **)(void *)&store->states));
    return OK;
}

static Status place_and_fill(Store *store, const Found *found, uint64_t seed)
{
    size_t at = 0;
    for (int i = 0; i < store->count; ++i) {
        StoreEntry *entry = &store->entry[i];
        if (entry->role == ROLE_PARAMETER) {
            entry->data = store->parameters + entry->offset;
            if (found[i].kind == KIND_DENSE) entry->gradient = store->gradients + entry->offset;
        } else if (entry->transient) {
            TRY(device_allocate(store->device, shape_bytes(entry->shape), entry->name, &entry->data));
        } else {
            entry->data = store->states + at;
            at += state_room(entry->shape);
        }
        TRY(initialise(store, entry, &found[i], seed));
    }
    return OK;
}

Status store_create(Device *device, const Graph *const graphs[], int count, uint64_t seed, Store **out)
{
    *out = NULL;
    Store *store;
    Found *found = NULL;
    int entries = 0;
    TRY(memory_new(&store, 1, sizeof *store, "store"));
    store->device = device;
    Status status = find_all(graphs, count, &found, &entries, &store->one_order);
    if (status == OK) status = lay_out(store, found, entries);
    if (status == OK) status = place_and_fill(store, found, seed);
    free(found);
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
    for (int i = 0; i < store->count; ++i) {
        StoreEntry *entry = &store->entry[i];
        if (entry->transient) device_free(store->device, entry->data);
        if (entry->all_rows.list != entry->rows.list) free_rows(store, &entry->all_rows);
        free_rows(store, &entry->rows);
        free((void *)(uintptr_t)entry->name);
        free_file_names(&entry->file_names);
    }
    for (int i = 0; i < store->tables && store->gathered != NULL; ++i)
        free_rows(store, &store->gathered[i]);
    for (size_t i = 0; i < store->flat_arrays; ++i) {
        device_free(store->device, store->flat[i].data);
        free((void *)(uintptr_t)store->flat[i].name);
    }
    for (size_t i = 0; i < store->packed_count; ++i) {
        device_free(store->device, store->packed[i]->memory);
        free(store->packed[i]);
    }
    free(store->packed);
    device_free(store->device, store->row_scratch);
    device_free(store->device, store->parameters);
    device_free(store->device, store->gradients);
    device_free(store->device, store->states);
    device_free(store->device, store->accumulator);
    device_free(store->device, store->rounded);
    device_free(store->device, store->narrow_gradients);
    free(store->gathered);
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
int64_t store_trained_count(const Store *store) { return store->trained_count; }
int64_t store_table_count(const Store *store) { return store->table_count; }
bool store_has_one_order(const Store *store) { return store->one_order; }
float *store_parameters(const Store *store) { return store->parameters; }
float *store_gradients(const Store *store) { return store->gradients; }
void *store_states(const Store *store) { return store->states; }
size_t store_state_bytes(const Store *store) { return store->state_bytes; }

Status store_fill(Store *store, const char *name, const float *values, int64_t count)
{
    const StoreEntry *entry = store_find(store, name);
    if (entry == NULL) return fail(STATUS_INPUT, "the network has no parameter %s to be filled", name);
    char shape[SHAPE_TEXT];
    if (entry->shape.type != FLOAT32 || shape_count(entry->shape) != count)
        return fail(STATUS_INPUT, "%s is %s and cannot be filled with %lld float32 numbers", name,
                    shape_text(entry->shape, shape), (long long)count);
    TRY(device_upload(store->device, entry->data, values, shape_bytes(entry->shape)));
    store_changed(store);
    return device_synchronize(store->device);
}

void store_changed(Store *store) { ++store->version; }
int64_t store_version(const Store *store) { return store->version; }

Status store_packed(Store *store, const StoreEntry *entry, const void *op, size_t bytes, uint64_t form,
                    PackedParameter **out)
{
    for (size_t i = 0; i < store->packed_count; ++i) {
        *out = store->packed[i];
        if ((*out)->entry == entry && (*out)->op == op && (*out)->bytes == bytes && (*out)->form == form)
            return OK;
    }
    PackedParameter *packed;
    TRY(memory_grow(&store->packed, &store->packed_capacity, store->packed_count + 1, sizeof *store->packed,
                    "packed parameters"));
    TRY(memory_new(&packed, 1, sizeof *packed, "packed parameters"));
    *packed = (PackedParameter){.entry = entry, .op = op, .bytes = bytes, .form = form, .version = -1};
    store->packed[store->packed_count++] = *out = packed;
    return device_allocate(store->device, bytes, entry->name, &packed->memory);
}

size_t store_packed_bytes(const Store *store)
{
    size_t bytes = 0;
    for (size_t i = 0; i < store->packed_count; ++i)
        bytes += store->packed[i]->bytes;
    return bytes;
}

/* A flat array that is made when it is first asked for. */
static Status make_once(const Store *store, DType type, int64_t count, const char *what, void **array)
{
    if (*array != NULL) return OK;
    return device_allocate(store->device, (size_t)count * dtype_size(type), what, array);
}

Status store_accumulator(Store *store, float **data)
{
    TRY(make_once(store, FLOAT32, store->trained_count, "accumulated gradients", &store->accumulator));
    *data = store->accumulator;
    return OK;
}

Status store_rounded(Store *store, void **data)
{
    TRY(make_once(store, BFLOAT16, store->flat_count, "rounded parameters", &store->rounded));
    *data = store->rounded;
    return OK;
}

Status store_narrow_gradients(Store *store, void **data)
{
    TRY(make_once(store, BFLOAT16, store->trained_count, "gradients in bfloat16", &store->narrow_gradients));
    *data = store->narrow_gradients;
    return OK;
}

/* all_rows and what it is made of, for each table. */
static Status make_shared_rows(Store *store, int ranks)
{
    int64_t longest = 0;
    TRY(memory_new(&store->gathered, (size_t)store->tables, sizeof *store->gathered, "row gradients"));
    for (int i = 0, table = 0; i < store->count; ++i) {
        StoreEntry *entry = &store->entry[i];
        if (!entry->by_rows) continue;
        const int64_t columns = shape_columns(entry->shape), rows = shape_rows(entry->shape);
        const int64_t vectors = entry->rows.most * ranks;
        RowGradient all = {.list = NULL};
        TRY(allocate_rows(store, entry->name, ranks, entry->rows.most, columns, &store->gathered[table++]));
        const Status status =
            allocate_rows(store, entry->name, 1, vectors < rows ? vectors : rows, columns, &all);
        if (status != OK) {
            free_rows(store, &all);
            return status;
        }
        entry->all_rows = all;
        if (vectors > longest) longest = vectors;
    }
    return device_allocate(store->device, row_sums_scratch(longest), "row gradients", &store->row_scratch);
}

Status store_share_rows(Store *store, int ranks, const RowGradient **gathered, void **scratch)
{
    *gathered = NULL;
    *scratch = NULL;
    if (store->tables == 0) return OK;
    if (store->ranks != 0 && store->ranks != ranks)
        return fail(STATUS_INTERNAL, "row gradients of %d ranks, after those of %d", ranks, store->ranks);
    if (store->ranks == 0 && ranks > 1) TRY(make_shared_rows(store, ranks));
    store->ranks = ranks;
    *gathered = store->gathered;
    *scratch = store->row_scratch;
    return OK;
}

Status store_flat(Store *store, const char *name, bool tables, float **data)
{
    const int64_t count = store->trained_count + (tables ? store->table_count : 0);
    for (size_t i = 0; i < store->flat_arrays; ++i) {
        if (strcmp(store->flat[i].name, name) != 0) continue;
        if (store->flat[i].count < count)
            return fail(STATUS_INTERNAL, "the flat array %s was made without tables", name);
        *data = store->flat[i].data;
        return OK;
    }
    TRY(memory_grow(&store->flat, &store->flat_capacity, store->flat_arrays + 1, sizeof *store->flat,
                    "store"));
    FlatArray array = {.count = count};
    TRY(text_copy(name, (char **)(void *)&array.name));
    Status status = device_allocate(store->device, (size_t)count * sizeof(float), name, (void **)&array.data);
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

float *store_flat_of(const Store *store, int index, const StoreEntry *entry)
{
    const FlatArray *array = &store->flat[index];
    if (entry->role != ROLE_PARAMETER || entry->offset + shape_count(entry->shape) > array->count)
        return NULL;
    return array->data + entry->offset;
}
