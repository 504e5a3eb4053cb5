/* One training step of a network on synthetic images, timed: forward, backward, clipping, SGD. Prints one
 * JSON object; perf/train_step_peer.py does the same work in PyTorch.
 *
 *     train_step [--size 32] [--channels 3] [--classes 10] [--steps 5] [--warmup 2] [--profile] key=value ...
 *
 * The settings are plumb's (model.name, batch, compute, device, graph, threads, loss.name, optimizer.*,
 * plan.*); mpirun gives several ranks, which share the batch. As in training, a step on a GPU is recorded
 * once (not with --profile) and each is waited for. */
#include "comm/comm.h"
#include "engine/base/memory.h"
#include "engine/base/random.h"
#include "engine/optim/optimizer.h"
#include "launch/options.h"
#include "launch/settings.h"
#include "launch/train/program.h"
#include "losses/loss.h"
#include "models/model.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

typedef struct {
    int64_t size, channels, classes, steps, warmup;
    bool profile;
    int setting_count;
    const char **settings;
} Options;

typedef struct {
    Config *config;
    ModelOptions model;
    LossOptions loss;
    int64_t classes;
    Device *device;
    Collective *collective;
    Arena *arena;
    Program program;
    Store *store;
    Optimizer *optimizer;
    int64_t batch; /* of this rank */
    /* The same batch for all steps, where the device reads it. */
    struct {
        Value value;
        void *data;
        size_t bytes;
    } input[4];
    int inputs;
} Training;

static double now(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static Status parse(int argc, char **argv, Options *options)
{
    const Option table[] = {{"size", .number = &options->size, .low = 1, .high = 4096},
                            {"channels", .number = &options->channels, .low = 1, .high = 4096},
                            {"classes", .number = &options->classes, .low = 2, .high = 1 << 24},
                            {"steps", .number = &options->steps, .low = 1, .high = 1 << 24},
                            {"warmup", .number = &options->warmup, .low = 0, .high = 1 << 24},
                            {"profile", .flag = &options->profile}};
    TRY(memory_new(&options->settings, (size_t)argc, sizeof *options->settings, "settings"));
    return options_parse(table, sizeof table / sizeof *table, argc, argv, options->settings,
                         &options->setting_count);
}

static Value build_network(Graph *graph, const BatchShape *shape, const void *context)
{
    const Training *training = context;
    const Value images = graph_input(graph, "images", shape->field[0].shape);
    return model_build(graph, &training->model, &images, training->classes);
}

static Status build(Training *training, const Options *options)
{
    const Config *config = training->config;
    const DType compute = strcmp(config_text(config, "compute"), "bfloat16") == 0 ? BFLOAT16 : FLOAT32;
    TRY(model_read(config, &training->model));
    TRY(loss_read(config, &training->loss));
    training->classes = options->classes;
    const int64_t images[] = {training->batch, options->size, options->size, options->channels};
    const BatchShape shape = {.rows = training->batch,
                              .field_count = 3,
                              .field = {{"images", shape_of(compute, 4, images)},
                                        {"target", shape_of(INT32, 1, images)},
                                        {"weight", shape_of(FLOAT32, 1, images)}}};
    const ProgramOptions program = {.mode = GRAPH_TRAIN,
                                    .compute = compute,
                                    .fuse = config_flag(config, "plan.fuse"),
                                    .loss = &training->loss,
                                    .differentiate = true,
                                    .build = build_network,
                                    .context = training};
    return program_build(&program, &shape, &training->program);
}

static Status open_device(Training *training, World *world)
{
    const Config *config = training->config;
    const char *wish = config_text(config, "device");
    const int64_t threads = config_integer(config, "threads");
    const int gpus = strcmp(wish, "cpu") != 0 ? device_count(DEVICE_CUDA, NULL) : 0;
    const bool on_gpu = gpus > 0 || strcmp(wish, "cuda") == 0;
    TRY(device_open(on_gpu ? DEVICE_CUDA : DEVICE_CPU, gpus > 0 ? world->local_rank % gpus : 0,
                    threads > 0 ? (int)threads : comm_threads(world), &training->device));
    device_set_numerics(training->device,
                        (DeviceNumerics){.deterministic = config_flag(config, "deterministic"),
                                         .tf32 = config_flag(config, "tf32")});
    return OK;
}

static Status prepare(Training *training, const Options *options, World *world)
{
    const Config *config = training->config;
    const int64_t batch = config_integer(config, "batch");
    if (batch % world->size != 0) return fail(STATUS_USAGE, "the batch must be a multiple of the ranks");
    training->batch = batch / world->size;
    TRY(comm_agree(world, open_device(training, world)));
    const CommOptions options_of_ranks = {.kind = config_text(config, "collective"),
                                          .timeout_seconds = config_real(config, "comm.timeout_seconds"),
                                          .step_seconds = config_real(config, "comm.step_seconds"),
                                          .deterministic = config_flag(config, "deterministic")};
    TRY(comm_device_collective(world, training->device, &options_of_ranks, &training->collective));
    TRY(arena_create(training->device, &training->arena));
    TRY(build(training, options));
    TRY(store_create(training->device, (const Graph *[]){training->program.graph}, 1, 1, &training->store));
    TRY(program_plan(&training->program, training->store, training->arena, training->collective,
                     (PlanOptions){.bucket_bytes = config_integer(config, "comm.bucket_bytes"),
                                   .share_memory = config_flag(config, "plan.share_memory"),
                                   .profile = options->profile}));
    return optimizer_create(training->store,
                            (OptimizerOptions){.name = config_text(config, "optimizer.name"),
                                               .momentum = config_real(config, "optimizer.momentum"),
                                               .nesterov = config_flag(config, "optimizer.nesterov"),
                                               .weight_decay = config_real(config, "optimizer.weight_decay"),
                                               .beta1 = config_real(config, "optimizer.beta1"),
                                               .beta2 = config_real(config, "optimizer.beta2"),
                                               .epsilon = config_real(config, "optimizer.epsilon"),
                                               .clip_norm = config_real(config, "optimizer.clip_norm")},
                            &training->optimizer);
}

static void release(Training *training)
{
    for (int i = 0; i < training->inputs; ++i)
        device_free(training->device, training->input[i].data);
    optimizer_free(training->optimizer);
    program_release(&training->program, training->device);
    store_free(training->store);
    arena_free(training->arena);
    collective_free(training->collective);
    device_close(training->device);
    config_free(training->config);
}

static Status add_input(Training *training, Value value, const void *host)
{
    const size_t bytes = shape_bytes(graph_shape(training->program.graph, value));
    void *data;
    TRY(device_allocate(training->device, bytes, "an input", &data));
    training->input[training->inputs].value = value;
    training->input[training->inputs].data = data;
    training->input[training->inputs].bytes = bytes;
    ++training->inputs;
    return device_upload(training->device, data, host, bytes);
}

/* Random pixels and labels, the same in every run. */
static Status make_inputs(Training *training, const Options *options, const World *world)
{
    const Program *program = &training->program;
    const Shape shape = program->shape.field[0].shape;
    const int64_t pixels = shape_count(shape);
    const int64_t clock[CLOCK_COUNT] = {0};
    float *images = NULL, *weight = NULL;
    bfloat16 *rounded = NULL;
    int32_t *targets = NULL;
    Status status;
    TRY_ELSE(done, memory_new(&images, (size_t)pixels, sizeof *images, "images"));
    TRY_ELSE(done, memory_new(&rounded, (size_t)pixels, sizeof *rounded, "images"));
    TRY_ELSE(done, memory_new(&weight, (size_t)training->batch, sizeof *weight, "weights"));
    TRY_ELSE(done, memory_new(&targets, (size_t)training->batch, sizeof *targets, "targets"));
    RandomStream random = random_stream(1, RANDOM_TEST, (uint64_t)world->rank);
    for (int64_t i = 0; i < pixels; ++i) {
        images[i] = (float)random_normal(&random);
        rounded[i] = bfloat16_from_float(images[i]);
    }
    for (int64_t i = 0; i < training->batch; ++i) {
        targets[i] = (int32_t)random_below(&random, (uint64_t)options->classes);
        weight[i] = 1;
    }
    TRY_ELSE(done, add_input(training, program->input[0],
                             shape.type == BFLOAT16 ? (const void *)rounded : (const void *)images));
    TRY_ELSE(done, add_input(training, program->input[1], targets));
    TRY_ELSE(done, add_input(training, program->input[2], weight));
    if (value_exists(program->clock)) TRY_ELSE(done, add_input(training, program->clock, clock));
    TRY_ELSE(done, device_synchronize(training->device));
done:
    free(targets);
    free(weight);
    free(rounded);
    free(images);
    return status;
}

/* Inputs lie in the arena, where later tensors may take their place: they are written before every run. */
static Status enqueue_step(void *argument)
{
    Training *training = argument;
    for (int i = 0; i < training->inputs; ++i)
        TRY(device_copy_rows(training->device, plan_data(training->program.plan, training->input[i].value),
                             training->input[i].bytes, training->input[i].data, training->input[i].bytes,
                             training->input[i].bytes, 1));
    TRY(plan_run(training->program.plan));
    return optimizer_step(training->optimizer);
}

/* A step is given to the device while the one before runs, as the trainer does. */
typedef struct {
    double sums[LOSS_SUMS];
    Mark mark;
} Given;

static Status give_step(Training *training, const Options *options, const World *world, int64_t index,
                        Given *given)
{
    const bool mean = training->loss.reduction == REDUCTION_MEAN;
    const double batch = (double)(training->batch * world->size);
    TRY(optimizer_set(training->optimizer, index, config_real(training->config, "optimizer.learning_rate"),
                      mean ? 1 / batch : 1));
    if (config_flag(training->config, "graph") && !options->profile)
        TRY(device_repeat(training->device, &training->program.recording[RECORD_LAST], enqueue_step,
                          training));
    else
        TRY(enqueue_step(training));
    TRY(device_download(training->device, given->sums,
                        plan_data(training->program.plan, training->program.sums), sizeof given->sums));
    return device_mark(training->device, &given->mark);
}

static Status await_step(const Training *training, const Given *given)
{
    return collective_wait(training->collective, training->device, given->mark);
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void add_profile(cJSON *json, Plan *plan)
{
    const ProfileRow *rows;
    const int count = plan_profile(plan, &rows);
    if (count == 0) return;
    cJSON *list = cJSON_AddArrayToObject(json, "profile");
    for (int i = 0; i < count; ++i) {
        cJSON *row = cJSON_CreateObject();
        const double runs = (double)rows[i].runs;
        cJSON_AddStringToObject(row, "op", rows[i].op);
        cJSON_AddStringToObject(row, "phase", rows[i].phase == PHASE_FORWARD ? "forward" : "backward");
        cJSON_AddNumberToObject(row, "nodes", rows[i].nodes);
        cJSON_AddNumberToObject(row, "milliseconds", 1e3 * rows[i].seconds / runs);
        cJSON_AddNumberToObject(row, "gflops_per_second", 1e-9 * rows[i].flops / rows[i].seconds);
        cJSON_AddNumberToObject(row, "gbytes_per_second", 1e-9 * rows[i].bytes / rows[i].seconds);
        cJSON_AddItemToArray(list, row);
    }
}

static void report(Training *training, const Options *options, const World *world, size_t base_bytes,
                   double seconds[], double optimizer_seconds, double loss)
{
    const double batch = (double)(training->batch * world->size);
    const PlanReport plan = plan_report(training->program.plan);
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage);
    double total = 0;
    for (int64_t i = 0; i < options->steps; ++i)
        total += seconds[i];
    qsort(seconds, (size_t)options->steps, sizeof *seconds, by_size);
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "program", "plumb");
    cJSON_AddStringToObject(json, "network", config_text(training->config, "model.name"));
    cJSON_AddStringToObject(json, "device", device_name(training->device));
    cJSON_AddNumberToObject(json, "batch", batch);
    cJSON_AddNumberToObject(json, "ranks", world->size);
    cJSON_AddNumberToObject(json, "threads", device_threads(training->device));
    cJSON_AddStringToObject(json, "compute", config_text(training->config, "compute"));
    cJSON_AddNumberToObject(json, "steps", (double)options->steps);
    cJSON_AddNumberToObject(json, "images_per_second", batch / seconds[options->steps / 2]);
    cJSON_AddNumberToObject(json, "best_images_per_second", batch / seconds[0]);
    cJSON_AddNumberToObject(json, "mean_images_per_second", batch * (double)options->steps / total);
    cJSON_AddNumberToObject(json, "optimizer_milliseconds", 1e3 * optimizer_seconds / (double)options->steps);
    cJSON_AddNumberToObject(json, "peak_bytes", 1024.0 * (double)usage.ru_maxrss);
    cJSON_AddNumberToObject(json, "base_bytes", (double)base_bytes);
    cJSON_AddNumberToObject(json, "loss", loss);
    cJSON *memory = cJSON_AddObjectToObject(json, "plan");
    cJSON_AddNumberToObject(memory, "arena_bytes", (double)plan.arena_bytes);
    cJSON_AddNumberToObject(memory, "tensor_bytes", (double)plan.tensor_bytes);
    cJSON_AddNumberToObject(memory, "scratch_bytes", (double)plan.scratch_bytes);
    cJSON_AddNumberToObject(memory, "parameter_bytes", (double)plan.parameter_bytes);
    cJSON_AddNumberToObject(memory, "gradient_bytes", (double)plan.gradient_bytes);
    cJSON_AddNumberToObject(memory, "state_bytes", (double)plan.state_bytes);
    cJSON_AddNumberToObject(memory, "nodes", plan.nodes);
    cJSON_AddNumberToObject(memory, "fused", training->program.fused);
    cJSON_AddNumberToObject(memory, "in_place", plan.in_place);
    cJSON_AddNumberToObject(memory, "views", plan.views);
    cJSON_AddNumberToObject(memory, "buckets", plan.buckets);
    cJSON_AddNumberToObject(memory, "flops", plan.flops);
    cJSON_AddNumberToObject(memory, "bytes", plan.bytes);
    add_profile(json, training->program.plan);
    char *text = cJSON_PrintUnformatted(json);
    if (text != NULL) (void)puts(text);
    free(text);
    cJSON_Delete(json);
}

static Status measure(Training *training, const Options *options, const World *world, size_t base_bytes)
{
    double *seconds = NULL, optimizer_seconds = 0, last = now();
    Given given[2];
    Status status;
    TRY_ELSE(done, make_inputs(training, options, world));
    TRY_ELSE(done, memory_new(&seconds, (size_t)options->steps, sizeof *seconds, "times"));
    /* Between two steps that are over the device is given another one, which on a CPU is when that one is done; so one
     * more is given than is timed. */
    const int64_t steps = options->warmup + options->steps;
    for (int64_t i = 0; i <= steps; ++i) {
        TRY_ELSE(done, give_step(training, options, world, i + 1, &given[i % 2]));
        if (i == 0) continue;
        TRY_ELSE(done, await_step(training, &given[(i - 1) % 2]));
        if (i > options->warmup) seconds[i - options->warmup - 1] = now() - last;
        last = now();
    }
    TRY_ELSE(done, await_step(training, &given[steps % 2]));
    const double *sums = given[(steps - 1) % 2].sums, loss = sums[LOSS_SUM] / sums[LOSS_WEIGHT];
    const double learning_rate = 0; /* the optimizer's share, without going anywhere */
    const double start = now();
    TRY_ELSE(done, optimizer_set(training->optimizer, steps + 2, learning_rate, 1));
    for (int64_t i = 0; i < options->steps; ++i)
        TRY_ELSE(done, optimizer_step(training->optimizer));
    TRY_ELSE(done, device_synchronize(training->device));
    optimizer_seconds = now() - start;
    if (world->rank == 0) report(training, options, world, base_bytes, seconds, optimizer_seconds, loss);
done:
    free(seconds);
    return status;
}

static Status run(int argc, char **argv, World *world)
{
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage);
    const size_t base_bytes = (size_t)usage.ru_maxrss * 1024;
    Options options = {.size = 32, .channels = 3, .classes = 10, .steps = 5, .warmup = 2};
    Training training = {0};
    int rows;
    const Setting *table = settings_table(&rows);
    Status status = parse(argc, argv, &options);
    if (status == OK)
        status = config_load(table, rows, NULL, options.setting_count, options.settings, &training.config);
    if (status == OK) status = prepare(&training, &options, world);
    if (status == OK) status = measure(&training, &options, world, base_bytes);
    release(&training);
    free(options.settings);
    return status;
}

int main(int argc, char **argv)
{
    World *world;
    Status status = comm_start(&argc, &argv, &world);
    if (status == OK) {
        status = comm_agree(world, run(argc, argv, world));
        if (status == OK) comm_stop(world);
    }
    if (status == OK) return 0;
    (void)fprintf(stderr, "train_step: %s\n", status_message(status));
    const int code = (int)status_code(status);
    status_free(status);
    return code;
}
