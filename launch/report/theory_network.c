#include "launch/report/theory_network.h"

#include "engine/base/config.h"
#include "engine/base/memory.h"
#include "engine/base/random.h"
#include "engine/optim/optimizer.h"
#include "launch/settings.h"
#include "launch/train/program.h"
#include "losses/theory.h"
#include "models/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 16, CHANNELS = 3, CLASSES = 10, LOSSES = 1 + THEORY_GAMMAS, MOST_WORD = 64 };
static const char layer[] = "fc.weight";

/* One loss: the network with it, forward and backward. The first is cross-entropy. */
typedef struct {
    Config *config;
    ModelOptions model;
    LossOptions loss;
    Program program;
} LossProgram;

typedef struct {
    LossProgram loss[LOSSES];
    Device *device;
    Collective *collective;
    Arena *arena;
    Store *store;
    Optimizer *optimizer;
    float *images, *plain; /* plain: cross-entropy's gradient of the layer */
    int32_t target[THEORY_SAMPLES];
    double *probabilities; /* [CLASSES] */
} Network;

static Value build_network(Graph *graph, const BatchShape *shape, const void *context)
{
    const LossProgram *loss = context;
    const Value images = graph_input(graph, "images", shape->field[0].shape);
    return model_build(graph, &loss->model, &images, CLASSES);
}

static Status build(const char *const settings[], int count, LossProgram *loss)
{
    int rows;
    const Setting *table = settings_table(&rows);
    TRY(config_load(table, rows, NULL, count, settings, &loss->config));
    TRY(model_read(loss->config, &loss->model));
    TRY(loss_read(loss->config, &loss->loss));
    const int64_t images[] = {THEORY_SAMPLES, SIDE, SIDE, CHANNELS};
    const BatchShape shape = {.rows = THEORY_SAMPLES,
                              .field_count = 3,
                              .field = {{"images", shape_of(FLOAT32, 4, images)},
                                        {"target", shape_of(INT32, 1, images)},
                                        {"weight", shape_of(FLOAT32, 1, images)}}};
    const ProgramOptions options = {.mode = GRAPH_TRAIN,
                                    .compute = FLOAT32,
                                    .fuse = true,
                                    .loss = &loss->loss,
                                    .differentiate = true,
                                    .build = build_network,
                                    .context = loss};
    return program_build(&options, &shape, &loss->program);
}

static Status build_losses(Network *network, const TheoryNetwork *result)
{
    for (int i = 0; i < LOSSES; ++i) {
        char gamma[MOST_WORD];
        (void)snprintf(gamma, sizeof gamma, "loss.gamma=%.17g", i > 0 ? result->gamma[i - 1] : 0.0);
        const char *const plain[] = {"model.name=resnet8", "loss.name=cross_entropy"};
        const char *const focal[] = {"model.name=resnet8", "loss.name=focal", gamma};
        TRY(build(i == 0 ? plain : focal, i == 0 ? 2 : 3, &network->loss[i]));
    }
    return OK;
}

static Status make_samples(Network *network)
{
    const int64_t pixels = (int64_t)THEORY_SAMPLES * SIDE * SIDE * CHANNELS;
    TRY(memory_new(&network->images, (size_t)pixels, sizeof *network->images, "images"));
    RandomStream stream = random_stream(1, RANDOM_THEORY, 2);
    for (int64_t i = 0; i < pixels; ++i)
        network->images[i] = (float)random_normal(&stream);
    for (int i = 0; i < THEORY_SAMPLES; ++i)
        network->target[i] = (int32_t)random_below(&stream, CLASSES);
    return OK;
}

static Status open_network(const TheoryNetwork *result, Network *network)
{
    const Graph *graphs[LOSSES];
    TRY(build_losses(network, result));
    for (int i = 0; i < LOSSES; ++i)
        graphs[i] = network->loss[i].program.graph;
    TRY(device_open(DEVICE_CPU, 0, 1, &network->device));
    TRY(collective_self(&network->collective));
    TRY(arena_create(network->device, &network->arena));
    TRY(store_create(network->device, graphs, LOSSES, 1, &network->store));
    for (int i = 0; i < LOSSES; ++i)
        TRY(program_plan(&network->loss[i].program, network->store, network->arena, network->collective,
                         PLAN_DEFAULTS));
    const StoreEntry *entry = store_find(network->store, layer);
    if (entry == NULL) return fail(STATUS_INTERNAL, "the network has no %s", layer);
    TRY(memory_new(&network->plain, (size_t)shape_count(entry->shape), sizeof *network->plain, "a gradient"));
    TRY(memory_new(&network->probabilities, CLASSES, sizeof *network->probabilities, "probabilities"));
    TRY(make_samples(network));
    return optimizer_create(network->store,
                            (OptimizerOptions){.name = "sgd", .momentum = 0.9, .clip_norm = 2},
                            &network->optimizer);
}

static void close_network(Network *network)
{
    optimizer_free(network->optimizer);
    for (int i = 0; i < LOSSES; ++i) {
        program_release(&network->loss[i].program, network->device);
        config_free(network->loss[i].config);
    }
    store_free(network->store);
    arena_free(network->arena);
    collective_free(network->collective);
    device_close(network->device);
    free(network->images);
    free(network->plain);
    free(network->probabilities);
}

/* Forward and backward; only sample `counted` counts, or every other one if that is negative. */
static Status run(Network *network, int loss, int counted)
{
    float weight[THEORY_SAMPLES];
    static const int64_t clock[CLOCK_COUNT] = {0};
    for (int i = 0; i < THEORY_SAMPLES; ++i)
        weight[i] = (counted < 0 && i % 2 == 0) || counted == i ? 1.0F : 0.0F;
    void *const field[BATCH_MAX_FIELDS] = {network->images, network->target, weight};
    BatchPart part = {0};
    memcpy(part.field, field, sizeof part.field);
    TRY(program_upload(&network->loss[loss].program, network->device, &part, clock));
    TRY(plan_run(network->loss[loss].program.plan));
    return device_synchronize(network->device);
}

static Status train(Network *network)
{
    static const double learning_rate = 0.02;
    for (int step = 1; step <= THEORY_STEPS; ++step) {
        TRY(optimizer_set(network->optimizer, step, learning_rate, 1));
        TRY(run(network, 0, -1));
        TRY(optimizer_step(network->optimizer));
    }
    return device_synchronize(network->device);
}

static Status measure_sample(Network *network, int sample, TheoryNetwork *result)
{
    const StoreEntry *entry = store_find(network->store, layer);
    const int64_t count = shape_count(entry->shape);
    TRY(run(network, 0, sample));
    Program *plain = &network->loss[0].program;
    const float *logits = (const float *)plan_data(plain->plan, plain->logits) + (int64_t)sample * CLASSES;
    for (int k = 0; k < CLASSES; ++k)
        network->probabilities[k] = (double)logits[k];
    result->probability[sample] =
        sample_softmax(network->probabilities, CLASSES, network->target[sample]).probability;
    memcpy(network->plain, entry->gradient, (size_t)count * sizeof *network->plain);
    result->plain_norm[sample] = theory_norm(network->plain, count);
    for (int g = 0; g < THEORY_GAMMAS; ++g) {
        TRY(run(network, 1 + g, sample));
        const double factor = theory_factor(result->probability[sample], result->gamma[g]);
        const double deviation = theory_deviation(entry->gradient, network->plain, factor, count);
        result->factor[g][sample] = factor;
        result->focal_norm[g][sample] = theory_norm(entry->gradient, count);
        result->deviation[g] = fmax(result->deviation[g], deviation);
    }
    return OK;
}

Status theory_network(TheoryNetwork *result)
{
    Network network = {.device = NULL};
    *result = (TheoryNetwork){.network = "resnet8", .layer = layer, .gamma = {1, 2, 3, 5}};
    Status status = open_network(result, &network);
    if (status == OK) status = train(&network);
    for (int i = 0; i < THEORY_SAMPLES && status == OK; ++i)
        status = measure_sample(&network, i, result);
    close_network(&network);
    return status;
}
