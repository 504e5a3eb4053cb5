#include "launch/train/session.h"

#include "engine/base/file.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "engine/base/safetensors.h"
#include "engine/ops/ops.h"
#include "engine/plan/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- device, data ---- */

/* Which GPU is this rank's: that of its place on the host. A launcher may instead show each rank its own
 * only. */
static Status open_gpu(Session *session, int threads)
{
    Status why;
    const int count = device_count(DEVICE_CUDA, &why);
    if (count == 0) return why;
    return device_open(DEVICE_CUDA, session->world->local_rank % count, threads, &session->device);
}

static Status open_chosen(Session *session)
{
    const char *wish = config_text(session->config, "device");
    int threads = (int)config_integer(session->config, "threads");
    if (threads == 0) threads = comm_threads(session->world);
    if (strcmp(wish, "cuda") == 0) return open_gpu(session, threads);
    if (strcmp(wish, "auto") == 0) {
        Status why;
        if (device_count(DEVICE_CUDA, &why) > 0) return open_gpu(session, threads);
        /* Where there is a driver somebody expects it to be used. */
        if (device_has_driver(DEVICE_CUDA) || access("/dev/nvidiactl", F_OK) == 0)
            log_warning("running on the CPU: %s", status_message(why));
        status_free(why);
    }
    return device_open(DEVICE_CPU, 0, threads, &session->device);
}

static DeviceNumerics numerics_of(const Config *config)
{
    return (DeviceNumerics){.deterministic = config_flag(config, "deterministic"),
                            .tf32 = config_flag(config, "tf32")};
}

static Status open_device(Session *session)
{
    TRY(open_chosen(session));
    device_set_numerics(session->device, numerics_of(session->config));
    return OK;
}

/* All ranks on the same kind of device, each on its own GPU. Collective. */
static Status check_devices(Session *session)
{
    const World *world = session->world;
    const bool share = config_flag(session->config, "share_gpus");
    typedef struct {
        char host[sizeof world->host], name[256], identity[64];
        int64_t kind;
    } Place;
    if (world->size == 1) return OK;
    Place mine = {.kind = device_kind(session->device)}, *all;
    (void)snprintf(mine.host, sizeof mine.host, "%s", world->host);
    (void)snprintf(mine.name, sizeof mine.name, "%s", device_name(session->device));
    (void)snprintf(mine.identity, sizeof mine.identity, "%s", device_identity(session->device));
    TRY(memory_new(&all, (size_t)world->size, sizeof *all, "the ranks' devices"));
    Status status = comm_gather(session->world, &mine, sizeof mine, all, "the ranks' devices");
    for (int i = 1; i < world->size && status == OK; ++i) {
        if (all[i].kind != all[0].kind) {
            status = fail(STATUS_INPUT,
                          "rank 0 on host %s runs on %s, but rank %d on host %s on %s: set device: cpu, or "
                          "give each rank a GPU",
                          all[0].host, all[0].name, i, all[i].host, all[i].name);
            break;
        }
        for (int j = 0; j < i && status == OK && !share && all[i].identity[0] != '\0'; ++j)
            if (strcmp(all[i].identity, all[j].identity) == 0 && strcmp(all[i].host, all[j].host) == 0)
                status = fail(STATUS_INPUT,
                              "ranks %d and %d share one GPU of host %s (%s): start no more ranks there than "
                              "it has GPUs, or "
                              "set share_gpus: true for a test",
                              j, i, all[i].host, all[i].name);
    }
    free(all);
    return status;
}

DatasetOptions session_dataset_options(const Config *config)
{
    const char *name = config_text(config, "dataset.name");
    DatasetOptions options = {.folder = config_text(config, "dataset.folder"),
                              .validation = config_integer(config, "dataset.validation"),
                              .train_limit = config_integer(config, "dataset.train_limit"),
                              .validation_limit = config_integer(config, "dataset.validation_limit"),
                              .test_limit = config_integer(config, "dataset.test_limit")};
    /* Read only where they mean something, so that setting them elsewhere is found out. */
    if (strcmp(name, "tiny_imagenet") == 0)
        options.validation_is_test = config_flag(config, "compat.validation_is_test");
    if (strcmp(name, "cifar100") == 0)
        options.published_test_normalisation = config_flag(config, "compat.cifar100_test_normalisation");
    return options;
}

Status session_open_dataset(const Config *config, Dataset **dataset)
{
    *dataset = NULL;
    TRY(config_require(config, (const char *const[]){"dataset.name", NULL}));
    const DatasetOptions options = session_dataset_options(config);
    const char *name = config_text(config, "dataset.name");
    if (options.folder[0] != '\0' && !file_exists(options.folder))
        return config_error(config, "dataset.folder",
                            "there is no folder %s (launch/get_data.sh %s %s fetches the data set)",
                            options.folder, name, options.folder);
    return dataset_open(name, &options, dataset);
}

/* A data set of the kind that the config names, without samples: what graphs are built from. */
static Status describe_dataset(const Config *config, Dataset *dataset)
{
    const DatasetKind *kind;
    TRY(config_require(config, (const char *const[]){"dataset.name", NULL}));
    Status status = dataset_find(config_text(config, "dataset.name"), &kind);
    if (status != OK) {
        Status at_setting = config_error(config, "dataset.name", "%s", status_message(status));
        status_free(status);
        return at_setting;
    }
    *dataset = (Dataset){.name = kind->name,
                         .height = kind->height,
                         .width = kind->width,
                         .channels = kind->channels,
                         .classes = kind->classes};
    for (int split = 0; split < SPLIT_COUNT; ++split)
        for (int64_t c = 0; c < kind->channels; ++c)
            dataset->split[split].deviation[c] = 1;
    return OK;
}

/* ---- graphs ---- */

static Value build_images(const Session *session, Step *step, Split split, bool augmented)
{
    const Dataset *dataset = session->dataset;
    const DataSplit *data = &dataset->split[split];
    Augment augmentation = {.padding =
                                augmented ? config_integer(session->config, "augment.crop_padding") : 0,
                            .flip = augmented && config_flag(session->config, "augment.flip")};
    memcpy(augmentation.mean, data->mean, sizeof augmentation.mean);
    memcpy(augmentation.deviation, data->deviation, sizeof augmentation.deviation);
    /* Without the data any number of rows will do. */
    const int64_t rows =
        session->pixels != NULL ? pixels_rows(session->pixels, split, step->batch) : step->batch;
    const int64_t table[] = {rows, dataset->height, dataset->width, dataset->channels};
    const int64_t crop[] = {step->batch, 3};
    step->table = graph_external_input(step->graph, "table", shape_of(UINT8, 4, table));
    step->index = graph_input(step->graph, "index", shape_of(INT64, 1, &step->batch));
    step->crop = graph_input(step->graph, "crop", shape_of(INT32, 2, crop));
    return augment(step->graph, step->table, step->index, step->crop, augmentation);
}

static DType compute_type(const Config *config)
{
    return strcmp(config_text(config, "compute"), "bfloat16") == 0 ? BFLOAT16 : FLOAT32;
}

static Status build_train(Session *session)
{
    Step *step = &session->train;
    TRY(graph_create(GRAPH_TRAIN, compute_type(session->config), &step->graph));
    Graph *graph = step->graph;
    step->target = graph_input(graph, "target", shape_of(INT32, 1, &step->batch));
    step->weight = graph_input(graph, "weight", shape_of(FLOAT32, 1, &step->batch));
    step->clock = graph_clock(graph);
    const Value images = build_images(session, step, SPLIT_TRAIN, true);
    step->logits = model_build(graph, &session->model, &images, session->dataset->classes);
    step->sums = loss_build(graph, &session->loss, step->logits, step->target, step->weight);
    graph_keep(graph, step->logits);
    graph_keep(graph, step->sums);
    if (config_flag(session->config, "plan.fuse")) step->fused = graph_fuse(graph);
    graph_differentiate(graph, step->sums);
    return graph_finish(graph);
}

static bool is_evaluated(const Session *session, int split)
{
    return split != SPLIT_TRAIN && session->dataset->split[split].count > 0;
}

static Status build_evaluate(Session *session, Split split)
{
    Step *step = &session->evaluate[split];
    TRY(graph_create(GRAPH_EVALUATE, compute_type(session->config), &step->graph));
    const Value images = build_images(session, step, split, false);
    step->logits = model_build(step->graph, &session->model, &images, session->dataset->classes);
    graph_keep(step->graph, step->logits);
    if (config_flag(session->config, "plan.fuse")) step->fused = graph_fuse(step->graph);
    return graph_finish(step->graph);
}

/* The global batch must part evenly among ranks and micro-batches. */
static Status share_batch(const Config *config, int ranks, const char *name, int64_t batch, int64_t parts,
                          int64_t *share)
{
    if (batch < ranks)
        return config_error(
            config, name,
            "a batch of %lld samples cannot be shared by %d ranks: use fewer ranks or a larger batch",
            (long long)batch, ranks);
    if (batch % (ranks * parts) != 0)
        return config_error(config, name, "%lld samples do not part evenly among %d ranks%s",
                            (long long)batch, ranks, parts > 1 ? " and the micro-batches" : "");
    *share = batch / (ranks * parts);
    return OK;
}

static OptimizerOptions optimizer_options(const Config *config)
{
    OptimizerOptions options = {.name = config_text(config, "optimizer.name"),
                                .weight_decay = config_real(config, "optimizer.weight_decay"),
                                .clip_norm = config_real(config, "optimizer.clip_norm")};
    if (strcmp(options.name, "sgd") == 0) {
        options.momentum = config_real(config, "optimizer.momentum");
        options.nesterov = config_flag(config, "optimizer.nesterov");
    } else {
        options.epsilon = config_real(config, "optimizer.epsilon");
    }
    if (strcmp(options.name, "adam") == 0) {
        options.beta1 = config_real(config, "optimizer.beta1");
        options.beta2 = config_real(config, "optimizer.beta2");
    }
    return options;
}

static PlanOptions plan_options(const Config *config)
{
    PlanOptions options = PLAN_DEFAULTS;
    options.share_memory = config_flag(config, "plan.share_memory");
    options.bucket_bytes = config_integer(config, "comm.bucket_bytes");
    options.gradient_type =
        strcmp(config_text(config, "comm.gradients"), "bfloat16") == 0 ? BFLOAT16 : FLOAT32;
    return options;
}

static Status make_plans(Session *session, bool training, bool profile)
{
    const Config *config = session->config;
    PlanOptions options = plan_options(config);
    options.profile = profile;
    const Graph *graph = training ? session->train.graph : session->evaluate[SPLIT_TEST].graph;
    TRY(store_create(session->device, &graph, 1, (uint64_t)config_integer(config, "seed"), &session->store));
    TRY(arena_create(session->device, &session->arena));
    if (training) {
        TRY(plan_create(session->train.graph, session->store, session->arena, session->collective, options,
                        &session->train.plan));
        TRY(plan_reduce(session->train.plan, session->train.sums));
        TRY(optimizer_create(session->store, optimizer_options(config), &session->optimizer));
    }
    options.profile = false;
    for (int split = 0; split < SPLIT_COUNT; ++split) {
        Step *step = &session->evaluate[split];
        if (step->graph != NULL)
            TRY(plan_create(step->graph, session->store, session->arena, session->collective, options,
                            &step->plan));
    }
    return OK;
}

/* This rank's share of a split: its labels, and where its logits belong. */
static Status describe_share(const Session *session, Split which, Logits *out)
{
    const DataSplit *split = &session->dataset->split[which];
    if (session->evaluate[which].plan == NULL)
        return fail(STATUS_INPUT, "the %s split of %s is empty", split_name(which), session->dataset->name);
    *out = (Logits){.name = split_name(which),
                    .type = FLOAT32,
                    .label_type = INT32,
                    .total = split->count,
                    .classes = session->dataset->classes};
    logits_share(split->count, session->world->rank, session->world->size, &out->first, &out->count);
    out->labels = split->label + out->first;
    return OK;
}

/* Opened before the first step, since memory that is freed later would make recordings be made anew. */
static Status open_calibration(Session *session, Split split)
{
    Logits share;
    TRY(describe_share(session, split, &share));
    Step *step = &session->evaluate[split];
    void *labels;
    const size_t bytes = (size_t)share.count * sizeof(int32_t);
    TRY(device_allocate(session->device, bytes + sizeof(int32_t), "labels", &labels));
    step->labels = labels;
    TRY(device_upload(session->device, labels, share.labels, bytes));
    const CalibrationSetup setup = {.name = share.name,
                                    .classes = share.classes,
                                    .temperature = 1,
                                    .bins = (int)config_integer(session->config, "evaluate.bins"),
                                    .most_rows = step->batch};
    return calibration_pass_open(session->device, &setup, &step->calibration);
}

/* The network and loss that the config names, and a rank's share of the batches. */
static Status choose(Session *session, int ranks, bool training)
{
    const Config *config = session->config;
    TRY(model_read(config, &session->model));
    TRY(loss_read(config, &session->loss));
    session->micro_batches = (int)config_integer(config, "micro_batches");
    const int64_t batch = config_integer(config, "batch");
    int64_t evaluate_batch = config_integer(config, "evaluate_batch");
    /* That of training need not fit the ranks that evaluate. */
    if (training)
        TRY(share_batch(config, ranks, "batch", batch, session->micro_batches, &session->train.batch));
    if (evaluate_batch == 0) evaluate_batch = batch / session->micro_batches;
    int64_t evaluate_share = 0;
    TRY(share_batch(config, ranks, "evaluate_batch", evaluate_batch, 1, &evaluate_share));
    for (int split = 0; split < SPLIT_COUNT; ++split)
        session->evaluate[split].batch = evaluate_share;
    return OK;
}

static CommOptions comm_options(const Config *config)
{
    return (CommOptions){.kind = config_text(config, "collective"),
                         .timeout_seconds = config_real(config, "comm.timeout_seconds"),
                         .step_seconds = config_real(config, "comm.step_seconds"),
                         .deterministic = config_flag(config, "deterministic")};
}

Status session_check_config(const Config *config, int ranks)
{
    Session session = {.config = config};
    Dataset dataset;
    TRY(choose(&session, ranks, true));
    TRY(describe_dataset(config, &dataset));
    session.dataset = &dataset;
    Status status = build_train(&session);
    graph_free(session.train.graph);
    /* What is read for a device, ranks and data that are there. */
    (void)numerics_of(config), (void)comm_options(config), (void)session_dataset_options(config);
    (void)optimizer_options(config), (void)plan_options(config);
    (void)config_text(config, "device"), (void)config_integer(config, "threads");
    (void)config_flag(config, "share_gpus"), (void)config_flag(config, "graph");
    (void)config_integer(config, "seed"), (void)config_integer(config, "evaluate.bins");
    (void)config_text(config, "init");
    return status;
}

Status session_check_init(const Config *config)
{
    const char *init = config_text(config, "init");
    if (init[0] == '\0') return OK;
    SafeFile *file;
    const Status status = safetensors_open(init, &file);
    if (status != OK) return status_context(status, "init");
    safetensors_close(file);
    return OK;
}

/* What one rank may find wrong alone: its files, its memory. */
static Status open_here(Session *session, bool training, bool profile)
{
    const Config *config = session->config;
    TRY(choose(session, session->world->size, training));
    if (training) TRY(session_check_init(config)); /* before the long work of planning */
    TRY(session_open_dataset(config, &session->dataset));
    const int64_t evaluated = session->evaluate[SPLIT_TEST].batch;
    const int64_t most = training && session->train.batch > evaluated ? session->train.batch : evaluated;
    TRY(pixels_open(session->device, session->dataset, most, &session->pixels));
    if (training) TRY(build_train(session));
    for (int split = 0; split < SPLIT_COUNT; ++split)
        if (is_evaluated(session, split)) TRY(build_evaluate(session, (Split)split));
    TRY(make_plans(session, training, profile));
    for (int split = 0; split < SPLIT_COUNT && training; ++split)
        if (session->evaluate[split].plan != NULL) TRY(open_calibration(session, (Split)split));
    const char *init = config_text(config, "init");
    if (training && init[0] != '\0') TRY(checkpoint_load_weights(session->store, init));
    return OK;
}

Status session_open(World *world, const Config *config, bool training, bool profile, Session *session)
{
    *session = (Session){.world = world, .config = config};
    const CommOptions options = comm_options(config);
    Status status;
    TRY_ELSE(failed, comm_collective(world, options.timeout_seconds, &session->host));
    TRY_ELSE(failed, comm_agree(world, open_device(session)));
    TRY_ELSE(failed, comm_agree(world, check_devices(session)));
    TRY_ELSE(failed, comm_device_collective(world, session->device, &options, &session->collective));
    TRY_ELSE(failed, comm_agree(world, open_here(session, training, profile)));
    return OK;
failed:
    session_close(session);
    return status;
}

static void close_step(Session *session, Step *step)
{
    if (session->device != NULL) device_forget(session->device, &step->recording);
    calibration_pass_close(step->calibration);
    device_free(session->device, step->labels);
    plan_free(step->plan);
    graph_free(step->graph);
}

void session_close(Session *session)
{
    /* First, since what is outstanding goes to the memory of the others. */
    collective_free(session->collective);
    collective_free(session->host);
    close_step(session, &session->train);
    for (int split = 0; split < SPLIT_COUNT; ++split)
        close_step(session, &session->evaluate[split]);
    optimizer_free(session->optimizer);
    arena_free(session->arena);
    store_free(session->store);
    pixels_close(session->pixels);
    dataset_close(session->dataset);
    device_close(session->device);
    *session = (Session){0};
}

/* ---- evaluation ---- */

/* Batch statistics are each rank's own; those that count are rank 0's, as with PyTorch's
 * DistributedDataParallel: they are what a checkpoint holds. Ranks take them over before they evaluate. */
static Status share_states(Session *session)
{
    if (session->world->size == 1) return OK;
    const Span states = {store_states(session->store), (int64_t)store_state_bytes(session->store), UINT8};
    TRY(collective_broadcast(session->collective, states, 0, device_stream(session->device)));
    TRY(collective_join(session->collective, device_stream(session->device)));
    return collective_wait(session->collective, session->device, EVERYTHING);
}

static Status enqueue_plan(void *plan) { return plan_run(plan); }

/* Enqueues the network on samples first .. first + count - 1 of the split; the rest of the batch repeats the
 * first. */
static Status enqueue_batch(Session *session, Split which, int64_t first, int64_t count, int64_t *row,
                            int64_t *sample)
{
    Device *device = session->device;
    Step *step = &session->evaluate[which];
    const void *table;
    for (int64_t i = 0; i < step->batch; ++i) {
        sample[i] = first + (i < count ? i : 0);
        row[i] = session->dataset->split[which].row[sample[i]];
    }
    TRY(pixels_batch(session->pixels, which, row, sample, step->batch, plan_data(step->plan, step->index),
                     &table));
    plan_bind(step->plan, step->table, (void *)(uintptr_t)table);
    TRY(device_clear(device, plan_data(step->plan, step->crop), (size_t)step->batch * 3 * sizeof(int32_t)));
    if (config_flag(session->config, "graph"))
        return device_repeat(device, &step->recording, enqueue_plan, step->plan);
    return plan_run(step->plan);
}

/* Takes the logits of the next `rows` samples, which are in the device's memory until the next batch. */
typedef Status TakeLogits(void *taker, const float *logits, int64_t rows);

/* Runs the network on this rank's share of a split. Collective. */
static Status evaluate_share(Session *session, Split which, TakeLogits *take, void *taker)
{
    const Step *step = &session->evaluate[which];
    int64_t *row = NULL, *sample = NULL;
    int64_t first, count;
    logits_share(session->dataset->split[which].count, session->world->rank, session->world->size, &first,
                 &count);
    Status status;
    TRY_ELSE(done, memory_new(&row, (size_t)step->batch, sizeof *row, "evaluation"));
    TRY_ELSE(done, memory_new(&sample, (size_t)step->batch, sizeof *sample, "evaluation"));
    TRY_ELSE(done, share_states(session));
    for (int64_t done = 0; done < count; done += step->batch) {
        const int64_t here = count - done < step->batch ? count - done : step->batch;
        TRY_ELSE(done, enqueue_batch(session, which, first + done, here, row, sample));
        TRY_ELSE(done, take(taker, plan_data(step->plan, step->logits), here));
    }
done:
    free(row);
    free(sample);
    return status;
}

typedef struct {
    Device *device;
    float *next;
    int64_t classes;
} Download;

static Status take_download(void *taker, const float *logits, int64_t rows)
{
    Download *download = taker;
    const int64_t count = rows * download->classes;
    TRY(device_download(download->device, download->next, logits, (size_t)count * sizeof *logits));
    download->next += count;
    return device_synchronize(download->device);
}

Status session_logits(Session *session, Split which, Logits *out, float **logits, int32_t **labels)
{
    Status status;
    *logits = NULL;
    *labels = NULL;
    TRY(describe_share(session, which, out));
    TRY_ELSE(done, memory_new(logits, (size_t)(out->count * out->classes) + 1, sizeof **logits, "logits"));
    TRY_ELSE(done, memory_new(labels, (size_t)out->count + 1, sizeof **labels, "labels"));
    Download download = {.device = session->device, .next = *logits, .classes = out->classes};
    TRY_ELSE(done, evaluate_share(session, which, take_download, &download));
    memcpy(*labels, out->labels, (size_t)out->count * sizeof **labels);
    out->values = *logits;
    out->labels = *labels;
done:
    if (status != OK) {
        free(*logits);
        free(*labels);
        *logits = NULL;
        *labels = NULL;
    }
    return status;
}

typedef struct {
    CalibrationPass *pass;
    const int32_t *labels;
    int64_t next; /* row of the whole split */
} Measured;

static Status take_calibration(void *taker, const float *logits, int64_t count)
{
    Measured *measured = taker;
    const LogitRows rows = {
        .logits = logits, .labels = measured->labels, .rows = count, .first = measured->next};
    measured->labels += count;
    measured->next += count;
    return calibration_pass_add(measured->pass, &rows);
}

Status session_calibration(Session *session, Split which, Calibration *result)
{
    CalibrationPass *pass = session->evaluate[which].calibration;
    Status status = comm_agree(session->world, calibration_pass_begin(pass));
    if (status != OK) return status;
    Measured measured = {.pass = pass, .labels = session->evaluate[which].labels};
    int64_t count;
    logits_share(session->dataset->split[which].count, session->world->rank, session->world->size,
                 &measured.next, &count);
    status = evaluate_share(session, which, take_calibration, &measured);
    if (status == OK) status = calibration_pass_collect(pass);
    TRY(comm_agree(session->world, status));
    return calibration_pass_measure(pass, session->host, result);
}
