#include "tests/network.h"

#include "engine/base/file.h"
#include "launch/settings.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* ---- golden networks ---- */

/* How the published networks are called, and which of our models they are. */
static const struct {
    const char *built, *model, *width; /* the words before the width, or NULL */
} published[] = {
    {"wide_resnet", "wide_resnet", NULL},
    {"DenseNet", "densenet121", "growth "},
    {"Tiny-ImageNet Bottleneck", "tiny_imagenet_resnet50", "widths "},
    {"BasicBlock", "resnet18", "widths "},
    {"Bottleneck blocks", "resnet50", "base width "},
    {"Bottleneck", "resnet50", "widths "},
};

__attribute__((format(printf, 2, 3))) static void add_setting(NetworkSettings *settings, const char *format,
                                                              ...)
{
    assert_true(settings->count < 4);
    char *text = settings->text[settings->count];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof settings->text[0], format, arguments);
    va_end(arguments);
    settings->settings[settings->count++] = text;
}

/* The number behind `words` in `text`. */
static int number_behind(const char *text, const char *words)
{
    const char *at = strstr(text, words);
    if (at == NULL) print_error("\"%s\" does not say \"%s\"\n", text, words);
    assert_non_null(at);
    return (int)strtol(at + strlen(words), NULL, 10);
}

void network_settings(const GoldenCase *golden, NetworkSettings *settings)
{
    const char *built = golden_text(golden, "params/built");
    *settings = (NetworkSettings){.count = 0};
    for (size_t i = 0; i < sizeof published / sizeof published[0]; ++i) {
        if (strstr(built, published[i].built) == NULL) continue;
        add_setting(settings, "model.name=%s", published[i].model);
        if (published[i].width == NULL) {
            add_setting(settings, "model.depth=%d", number_behind(built, "depth="));
            add_setting(settings, "model.widen=%d", number_behind(built, "width="));
            return;
        }
        const char *list = strchr(built, '['), *end = list != NULL ? strchr(list, ']') : NULL;
        assert_non_null(end);
        add_setting(settings, "model.blocks=%.*s", (int)(end + 1 - list), list);
        add_setting(settings, "model.width=%d", number_behind(built, published[i].width));
        return;
    }
    print_error("%s of %s: tests/network.c knows no network \"%s\"\n", golden->id, golden->folder, built);
    assert_true(false);
}

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

void network_load(Network *network, const GoldenCase *golden)
{
    cJSON *document = golden_document(golden, "inputs/index");
    GoldenArray weights = golden_array(golden, "inputs/weights");
    int loaded = 0, counters = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(document, "tensors"))
    {
        const StoreEntry *entry = item_entry(network, item);
        int64_t offset = (int64_t)item_number(item, "offset");
        assert_true(offset + item_count(item, entry->shape) <= weights.count);
        from_pytorch(entry->shape, weights.values + offset, entry->data);
        ++loaded;
    }
    for (int i = 0; i < store_count(network->store); ++i)
        if (store_at(network->store, i)->shape.type == INT64) ++counters;
    assert_int_equal(loaded + counters, store_count(network->store));
    golden_array_free(&weights);
    cJSON_Delete(document);
}

double *network_tensors(Network *network, const GoldenCase *golden, Tensors which, int64_t *count)
{
    cJSON *document = golden_document(golden, "inputs/index");
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
