#include "tests/network.h"

#include "engine/base/file.h"
#include "launch/settings.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

cJSON *golden_json(const char *name)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/%s", golden_folder(), name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    long size = ftell(file);
    assert_true(size > 0);
    rewind(file);
    char *text = malloc((size_t)size + 1);
    assert_non_null(text);
    assert_int_equal(fread(text, 1, (size_t)size, file), size);
    text[size] = '\0';
    (void)fclose(file);
    cJSON *document = cJSON_Parse(text);
    free(text);
    assert_non_null(document);
    return document;
}

const cJSON *golden_case(const char *id, cJSON **document)
{
    *document = golden_json("networks/cases.json");
    const cJSON *item;
    cJSON_ArrayForEach(item, *document)
    {
        if (strcmp(cJSON_GetObjectItemCaseSensitive(item, "id")->valuestring, id) == 0)
            return cJSON_GetObjectItemCaseSensitive(item, "expected");
    }
    print_error("there is no golden case %s\n", id);
    assert_true(false);
    return NULL;
}

double item_number(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    assert_true(cJSON_IsNumber(item));
    return item->valuedouble;
}

/* ---- layouts ---- */

Shape pytorch_shape(Shape shape)
{
    if (shape.rank != 4) return shape;
    const int64_t *extent = shape.extent;
    return shape_of(shape.type, 4, (const int64_t[]){extent[0], extent[3], extent[1], extent[2]});
}

/* Where element `index` of our [n, h, w, c] stands in [n, c, h, w]. */
static int64_t pytorch_index(Shape shape, int64_t index)
{
    if (shape.rank != 4) return index;
    int64_t channels = shape.extent[3], pixels = shape.extent[1] * shape.extent[2];
    int64_t channel = index % channels, pixel = index / channels % pixels, sample = index / channels / pixels;
    return (sample * channels + channel) * pixels + pixel;
}

void from_pytorch(Shape shape, const double *values, float *ours)
{
    for (int64_t i = 0; i < shape_count(shape); ++i)
        ours[i] = (float)values[pytorch_index(shape, i)];
}

void to_pytorch(Shape shape, const float *ours, double *values)
{
    for (int64_t i = 0; i < shape_count(shape); ++i)
        values[pytorch_index(shape, i)] = (double)ours[i];
}

/* ---- building ---- */

Config *config_of(const char *const settings[])
{
    int count = 0, rows;
    while (settings[count] != NULL)
        ++count;
    const Setting *table = settings_table(&rows);
    Config *config;
    assert_ok(config_load(table, rows, NULL, count, settings, &config));
    return config;
}

static Value images_input(Graph *graph, const int64_t images[4])
{
    return graph_input(graph, "images", shape_of(graph_compute_type(graph), 4, images));
}

Graph *network_graph(const Config *config, GraphMode mode, DType compute, const int64_t images[4],
                     int64_t classes, Value *logits)
{
    ModelOptions model;
    Graph *graph;
    assert_ok(model_read(config, &model));
    assert_ok(graph_create(mode, compute, &graph));
    const Value input = images_input(graph, images);
    *logits = model_build(graph, &model, &input, classes);
    assert_ok(graph_finish(graph));
    return graph;
}

void network_open(Network *network, const char *const settings[], DType compute, const int64_t images[4],
                  int64_t classes)
{
    *network = (Network){.config = config_of(settings), .compute = compute, .classes = classes};
    memcpy(network->images, images, sizeof network->images);
    assert_ok(model_read(network->config, &network->model));
    assert_ok(loss_read(network->config, &network->loss));
    assert_ok(device_open(DEVICE_CPU, 0, 2, &network->device));
    assert_ok(arena_create(network->device, &network->arena));
    assert_ok(collective_self(&network->collective));
    NetworkStep step; /* the store is laid out by the graph of a training step */
    network_step_open(&step, network, (StepOptions){.mode = GRAPH_TRAIN});
    network_step_close(&step);
}

void network_close(Network *network)
{
    store_free(network->store);
    arena_free(network->arena);
    collective_free(network->collective);
    device_close(network->device);
    config_free(network->config);
    *network = (Network){0};
}

static Value build_step(Graph *graph, const BatchShape *shape, const void *context)
{
    const Network *network = context;
    (void)shape;
    const Value images = images_input(graph, network->images);
    return model_build(graph, &network->model, &images, network->classes);
}

void network_step_open(NetworkStep *step, Network *network, StepOptions options)
{
    const BatchShape shape = {.rows = network->images[0],
                              .field_count = 3,
                              .field = {{"images", shape_of(network->compute, 4, network->images)},
                                        {"target", shape_of(INT32, 1, network->images)},
                                        {"weight", shape_of(FLOAT32, 1, network->images)}}};
    const ProgramOptions program = {.mode = options.mode,
                                    .compute = network->compute,
                                    .fuse = !options.separate_nodes,
                                    .loss = &network->loss,
                                    .differentiate = !options.forward_only,
                                    .build = build_step,
                                    .context = network};
    *step = (NetworkStep){.network = network};
    assert_ok(program_build(&program, &shape, &step->program));
    if (network->store == NULL)
        assert_ok(
            store_create(network->device, (const Graph *[]){step->program.graph}, 1, 1, &network->store));
    assert_ok(program_plan(&step->program, network->store, network->arena, network->collective,
                           (PlanOptions){.share_memory = !options.separate_memory}));
}

void network_step_close(NetworkStep *step)
{
    program_release(&step->program, step->network->device);
    *step = (NetworkStep){0};
}

/* ---- running ---- */

void network_step_run(NetworkStep *step, const double *images, const double *labels, int64_t first)
{
    Graph *graph = step->program.graph;
    Shape shape = graph_shape(graph, step->program.input[0]);
    int64_t count = shape_count(shape), samples = shape.extent[0];
    float *converted = malloc((size_t)count * sizeof *converted);
    assert_non_null(converted);
    from_pytorch(shape, images + first * (count / samples), converted);
    void *input = plan_data(step->program.plan, step->program.input[0]);
    for (int64_t i = 0; i < count; ++i) {
        if (shape.type == FLOAT32)
            ((float *)input)[i] = converted[i];
        else
            ((bfloat16 *)input)[i] = bfloat16_from_float(converted[i]);
    }
    free(converted);
    int32_t *target = plan_data(step->program.plan, step->program.input[1]);
    float *weight = plan_data(step->program.plan, step->program.input[2]);
    for (int64_t i = 0; i < samples; ++i) {
        target[i] = (int32_t)labels[first + i];
        weight[i] = 1;
    }
    Value clock = graph_find(graph, "clock");
    if (value_exists(clock)) memset(plan_data(step->program.plan, clock), 0, CLOCK_COUNT * sizeof(int64_t));
    assert_ok(plan_run(step->program.plan));
    assert_ok(plan_check_finite(step->program.plan));
}

const float *network_step_logits(NetworkStep *step)
{
    return plan_data(step->program.plan, step->program.logits);
}

const double *network_step_sums(NetworkStep *step)
{
    return plan_data(step->program.plan, step->program.sums);
}

/* ---- golden tensors ---- */

static int64_t item_count(const cJSON *item, Shape shape)
{
    const cJSON *extents = cJSON_GetObjectItemCaseSensitive(item, "shape");
    Shape theirs = pytorch_shape(shape);
    assert_int_equal(cJSON_GetArraySize(extents), theirs.rank);
    for (int i = 0; i < theirs.rank; ++i)
        assert_int_equal(cJSON_GetArrayItem(extents, i)->valueint, theirs.extent[i]);
    return shape_count(shape);
}

static const StoreEntry *item_entry(Network *network, const cJSON *item)
{
    const char *name = cJSON_GetObjectItemCaseSensitive(item, "name")->valuestring;
    const StoreEntry *entry = store_find(network->store, name);
    if (entry == NULL) print_error("the network has no tensor %s\n", name);
    assert_non_null(entry);
    return entry;
}

void network_load(Network *network, const char *index, const char *weights)
{
    cJSON *document = golden_json(index);
    int64_t available;
    double *values = golden_doubles(weights, &available, NULL);
    int loaded = 0, counters = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(document, "tensors"))
    {
        const StoreEntry *entry = item_entry(network, item);
        int64_t offset = (int64_t)item_number(item, "offset");
        assert_true(offset + item_count(item, entry->shape) <= available);
        from_pytorch(entry->shape, values + offset, entry->data);
        ++loaded;
    }
    for (int i = 0; i < store_count(network->store); ++i)
        if (store_at(network->store, i)->shape.type == INT64) ++counters;
    assert_int_equal(loaded + counters, store_count(network->store));
    free(values);
    cJSON_Delete(document);
}

double *network_tensors(Network *network, const char *index, Tensors which, int64_t *count)
{
    cJSON *document = golden_json(index);
    double *values = malloc(((size_t)item_number(document, "total") + 1) * sizeof *values);
    assert_non_null(values);
    *count = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(document, "tensors"))
    {
        const StoreEntry *entry = item_entry(network, item);
        if (which == TENSORS_STATES && entry->role != ROLE_STATE) continue;
        if (which == TENSORS_GRADIENTS && entry->role != ROLE_PARAMETER) continue;
        to_pytorch(entry->shape, which == TENSORS_GRADIENTS ? entry->gradient : entry->data, values + *count);
        *count += item_count(item, entry->shape);
    }
    cJSON_Delete(document);
    return values;
}

double relative_distance(const double *got, const double *want, int64_t count)
{
    double difference = 0, size = 0;
    for (int64_t i = 0; i < count; ++i) {
        difference += (got[i] - want[i]) * (got[i] - want[i]);
        size += want[i] * want[i];
    }
    return sqrt(difference / size);
}
