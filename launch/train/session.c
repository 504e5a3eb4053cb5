#include "launch/train/session.h"

#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "engine/base/safetensors.h"
#include "engine/plan/checkpoint.h"
#include "launch/train/training_pass.h"

#include <stdlib.h>

/* ---- feeds ---- */

/* Of tokens about. */
static int64_t steps_of_epoch(const TaskData *data)
{
    const int64_t steps = (data->count[SPLIT_TRAIN] + data->batch - 1) / data->batch;
    return steps > 0 ? steps : 1;
}

static bool is_evaluated(const Session *session, int split, bool training)
{
    const TaskData *data = session->data;
    if (split == SPLIT_TRAIN && !training) return false;
    if (split == SPLIT_TRAIN && !training_wishes_ever(&session->experiment, steps_of_epoch(data)))
        return false;
    return data->count[split] > 0;
}

static Status build_feed(Session *session, TaskData *data, Split split, bool training, Feed *feed)
{
    const Task *task = data->task;
    BatchShape shape[BATCH_MAX_SHAPES];
    const int count = task->shapes(data, split, training, shape);
    for (int i = 0; i < count; ++i) {
        ++feed->programs;
        TRY(training
                ? program_build_training(&session->experiment, &shape[i], &feed->program[i])
                : program_build_evaluation(&session->experiment, data, split, &shape[i], &feed->program[i]));
    }
    TRY(task->source(data, split, training, &feed->source));
    return loader_open(feed->source, &feed->loader);
}

static Status plan_feed(Session *session, const TaskData *data, Split split, PlanOptions options, Feed *feed)
{
    const Task *task = data->task;
    for (int i = 0; i < feed->programs; ++i) {
        Program *program = &feed->program[i];
        TRY(program_plan(program, session->store, session->arena, session->collective, options));
        if (task->bind != NULL) task->bind(data, split, program->graph, program->plan);
    }
    return OK;
}

/* Parameters and states of all programs; training decides their order. */
static Status make_store(Session *session)
{
    const Graph *graph[(1 + SPLIT_COUNT) * BATCH_MAX_SHAPES];
    int count = 0;
    for (int i = 0; i < session->train.programs; ++i)
        graph[count++] = session->train.program[i].graph;
    for (int split = 0; split < SPLIT_COUNT; ++split)
        for (int i = 0; i < session->evaluate[split].programs; ++i)
            graph[count++] = session->evaluate[split].program[i].graph;
    if (count == 0) return fail(STATUS_INPUT, "%s has no samples to evaluate", session->data->dataset);
    return store_create(session->device, graph, count, session->experiment.seed, &session->store);
}

static Status make_plans(Session *session, bool training, bool profile)
{
    const Experiment *experiment = &session->experiment;
    PlanOptions options = experiment->plan;
    options.profile = profile;
    TRY(make_store(session));
    TRY(arena_create(session->device, &session->arena));
    if (training) {
        TRY(plan_feed(session, session->data, SPLIT_TRAIN, options, &session->train));
        if (store_gradients(session->store) == NULL && experiment->optimizer.group_count > 0)
            return config_error(experiment->config, "optimizer.groups",
                                "no parameter is left to train: all that have gradients are frozen");
        TRY(optimizer_create(session->store, experiment->optimizer, &session->optimizer));
    }
    options.profile = false;
    for (int split = 0; split < SPLIT_COUNT; ++split)
        TRY(plan_feed(session, session->data, (Split)split, options, &session->evaluate[split]));
    return OK;
}

/* This rank's share of a split: its labels, and where its logits belong. */
static Status describe_share(const Session *session, const TaskData *data, const Feed *feed, Split split,
                             Logits *out)
{
    if (feed->source == NULL)
        return fail(STATUS_INPUT, "the %s split of %s is empty", split_name(split), data->dataset);
    *out = (Logits){.name = split_name(split),
                    .type = FLOAT32,
                    .label_type = INT32,
                    .total = data->count[split],
                    .classes = data->classes};
    share_of_rank(data->count[split], session->world->rank, session->world->size, &out->first, &out->count);
    out->labels = data->label[split] + out->first;
    return OK;
}

int64_t session_most_rows(const Session *session, Split split)
{
    const Feed *feed = &session->evaluate[split];
    int64_t rows = 0;
    for (int i = 0; i < feed->programs; ++i)
        if (feed->program[i].shape.rows > rows) rows = feed->program[i].shape.rows;
    return rows;
}

/* Room for the labels and weights of a part. */
static Status open_rows(Session *session, Split split)
{
    Feed *feed = &session->evaluate[split];
    const size_t rows = (size_t)session_most_rows(session, split);
    if (feed->labels != NULL) return OK;
    TRY(device_allocate(session->device, rows * sizeof(int32_t), "labels", (void **)&feed->labels));
    TRY(device_allocate(session->device, rows * sizeof(int64_t), "samples", (void **)&feed->samples));
    TRY(memory_new(&feed->row_samples, rows, sizeof *feed->row_samples, "samples"));
    return device_allocate(session->device, rows * sizeof(float), "weights", (void **)&feed->weights);
}

Status session_open_calibration(const Session *session, Split split, int bins, CalibrationPass **pass)
{
    const CalibrationSetup setup = {.name = split_name(split),
                                    .classes = session->data->classes,
                                    .masked = session->data->masked,
                                    .temperature = 1,
                                    .bins = bins,
                                    .most_rows = session_most_rows(session, split)};
    return calibration_pass_open(session->device, &setup, pass);
}

/* Opened before the first step, since memory that is freed later would make recordings be made anew. */
static Status open_calibration(Session *session, Split split)
{
    const Experiment *experiment = &session->experiment;
    TRY(open_rows(session, split));
    if (split == SPLIT_TRAIN) TRY(training_pass_open(session, &session->training));
    if (split == SPLIT_TRAIN && !experiment->evaluate.train) return OK;
    return session_open_calibration(session, split, experiment->evaluate.bins,
                                    &session->evaluate[split].calibration);
}

static void close_feed(Session *session, Feed *feed)
{
    calibration_pass_close(feed->calibration);
    device_free(session->device, feed->labels);
    device_free(session->device, feed->weights);
    device_free(session->device, feed->samples);
    free(feed->row_samples);
    for (int i = 0; i < feed->programs; ++i)
        program_release(&feed->program[i], session->device);
    loader_close(feed->loader);
    source_free(feed->source);
}

/* ---- opening ---- */

/* A file of ours says which vocabulary the rows of its tables are of; PyTorch's do not. */
static Status load_starting_weights(Session *session)
{
    const char *init = session->experiment.init, *pattern = session->experiment.init_parameters;
    SafeFile *file;
    TRY(safetensors_open(init, &file));
    Status status = OK;
    if (safetensors_metadata(file, "vocabulary") != NULL &&
        graph_pattern_fits_table(session->train.program[0].graph, pattern))
        status = task_check_vocabulary(session->data, file);
    safetensors_close(file);
    if (status != OK) return status_context(status, "init: %s", init);
    char *kept;
    status = checkpoint_load_weights(session->store, init, pattern, &kept);
    if (status != OK) return status_context(status, "init");
    if (kept[0] != '\0') log_info("init: %s; these start as they would without it: %s", init, kept);
    free(kept);
    return OK;
}

/* Sets for the end of training that are not there now may be there then; somebody should know. */
static void look_for_outside(const Session *session)
{
    const OodChoices *choices = &session->experiment.evaluate.ood;
    for (int i = 0; i < choices->count && session->world->rank == 0; ++i) {
        const OodChoice *choice = &choices->choice[i];
        Status status = session->data->task->outside_check(choice->name, choice->from);
        if (status != OK)
            log_warning("evaluate.ood: %s: it is left out unless it is there when training ends",
                        status_message(status));
        status_free(status);
    }
}

/* What one rank may find wrong alone: its files, its memory. */
static Status open_here(Session *session, SessionUse use, bool profile)
{
    const bool training = use != SESSION_EVALUATES, starts = use == SESSION_TRAINS;
    const Experiment *experiment = &session->experiment;
    const Task *task = session->data->task;
    if (starts) TRY(experiment_check_init(experiment)); /* before the long work of planning */
    if (training) look_for_outside(session);
    TRY(task->load(session->data, experiment->config));
    if (task->place != NULL) TRY(task->place(session->data, session->device));
    if (training) TRY(build_feed(session, session->data, SPLIT_TRAIN, true, &session->train));
    for (int split = 0; split < SPLIT_COUNT; ++split)
        if (is_evaluated(session, split, training))
            TRY(build_feed(session, session->data, (Split)split, false, &session->evaluate[split]));
    TRY(make_plans(session, training, profile));
    for (int split = 0; split < SPLIT_COUNT && training; ++split)
        if (session->evaluate[split].source != NULL) TRY(open_calibration(session, (Split)split));
    if (starts && task->initialise != NULL) TRY(task->initialise(session->data, session->store));
    if (starts && experiment->init[0] != '\0') TRY(load_starting_weights(session));
    return OK;
}

/* What a session is opened for. */
typedef struct {
    SessionUse use;
    bool profile;
    const char *run; /* whose network is given samples, as `inputs` says; NULL: those of the data set */
    const InputOptions *inputs;
} Opening;

static Status open_inputs_here(Session *session, const Opening *opening)
{
    TaskData *data = session->data;
    Feed *feed = &session->evaluate[SPLIT_TEST];
    BatchShape shape[BATCH_MAX_SHAPES];
    TRY(data->task->inputs->open(data, session->experiment.config, opening->run, opening->inputs));
    const int count = data->task->inputs->shapes(data, shape);
    for (int i = 0; i < count; ++i) {
        ++feed->programs;
        TRY(program_build_evaluation(&session->experiment, data, SPLIT_TEST, &shape[i], &feed->program[i]));
    }
    return make_plans(session, false, false);
}

static Status open_session(World *world, const Config *config, const Opening *opening, Session *session)
{
    *session = (Session){.world = world};
    Experiment *experiment = &session->experiment;
    const TaskShare share = {.rank = world->rank,
                             .ranks = world->size,
                             .training = opening->use != SESSION_EVALUATES,
                             .goes_on = opening->use == SESSION_GOES_ON};
    Status status;
    TRY_ELSE(failed, comm_agree(world, experiment_read(config, share, experiment)));
    session->data = experiment->data;
    TRY_ELSE(failed, comm_collective(world, experiment->comm.timeout_seconds, &session->host_collective));
    TRY_ELSE(failed, comm_agree(world, session_open_device(world, experiment, &session->device)));
    TRY_ELSE(failed, session_check_devices(world, session->device, experiment));
    TRY_ELSE(failed, comm_device_collective(world, session->device, &experiment->comm, &session->collective));
    TRY_ELSE(failed,
             comm_agree(world, opening->run != NULL ? open_inputs_here(session, opening)
                                                    : open_here(session, opening->use, opening->profile)));
    return OK;
failed:
    session_close(session);
    return status;
}

Status session_open(World *world, const Config *config, SessionUse use, bool profile, Session *session)
{
    return open_session(world, config, &(Opening){.use = use, .profile = profile}, session);
}

Status session_open_inputs(World *world, const Config *config, const char *run, const InputOptions *inputs,
                           Session *session)
{
    return open_session(world, config, &(Opening){.run = run, .inputs = inputs}, session);
}

void session_close(Session *session)
{
    /* First, since what is outstanding goes to the memory of the others. */
    collective_free(session->collective);
    collective_free(session->host_collective);
    training_pass_close(session->training);
    close_feed(session, &session->train);
    for (int split = 0; split < SPLIT_COUNT; ++split)
        close_feed(session, &session->evaluate[split]);
    optimizer_free(session->optimizer);
    arena_free(session->arena);
    store_free(session->store);
    experiment_free(&session->experiment);
    device_close(session->device);
    *session = (Session){0};
}

/* Networks refuse samples that they cannot take when they are built. */
static Status check_graphs(const Experiment *experiment)
{
    BatchShape shape[BATCH_MAX_SHAPES];
    const int count = experiment->data->task->shapes(experiment->data, SPLIT_TRAIN, true, shape);
    Status status = OK;
    for (int i = 0; i < count && status == OK; ++i) {
        Program program;
        status = program_build_training(experiment, &shape[i], &program);
        if (status == OK && i == 0 && experiment->init_parameters[0] != '\0')
            status = config_error_of(experiment->config, "init_parameters",
                                     graph_check_pattern(program.graph, experiment->init_parameters));
        program_release(&program, NULL);
    }
    return status;
}

Status session_check_config(const Config *config, int ranks)
{
    Experiment experiment;
    Status status = experiment_read(config, (TaskShare){.ranks = ranks, .training = true}, &experiment);
    if (status == OK) status = check_graphs(&experiment);
    if (status == OK) status = config_check_all_read(config);
    experiment_free(&experiment);
    return status;
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

/* What cannot be recorded is slower, but no reason to stop. With several ranks it is: all must do the same. */
Status session_repeat(Session *session, Recording *recording, Status (*enqueue)(void *), void *argument,
                      bool *record)
{
    if (!*record) return enqueue(argument);
    const int64_t calls = recording->calls;
    Status status = device_repeat(session->device, recording, enqueue, argument);
    if (status == OK || calls == 0 || recording->implementation != NULL || session->world->size > 1)
        return status;
    log_warning("the step cannot be recorded, and runs without (as with graph: false): %s",
                status_message(status));
    status_free(status);
    *record = session->experiment.record = false; /* told once, of training and evaluation */
    return enqueue(argument);
}

static Status enqueue_plan(void *plan) { return plan_run(plan); }

/* Takes the logits of a part, [rows, classes] in the device's memory until the next part. */
typedef Status TakeLogits(void *taker, const float *logits, const BatchPart *);

static Status evaluate_part(Session *session, Feed *feed, const BatchPart *part, TakeLogits *take,
                            void *taker)
{
    static const int64_t clock[CLOCK_COUNT] = {0};
    Program *program = &feed->program[part->shape];
    TRY(program_upload(program, session->device, part, clock));
    TRY(session_repeat(session, &program->recording[RECORD_FIRST], enqueue_plan, program->plan,
                       &session->experiment.record));
    return take(taker, plan_data(program->plan, program->logits), part);
}

typedef struct {
    Device *device;
    const TaskData *data;
    const Feed *feed;
    float *logits;
} PartLogits;

static Status take_part_logits(void *taker, const float *logits, const BatchPart *part)
{
    const PartLogits *to = taker;
    const int64_t values = to->feed->program[part->shape].shape.rows * to->data->classes;
    TRY(device_download(to->device, to->logits, logits, (size_t)values * sizeof *logits));
    return device_synchronize(to->device);
}

Status session_part_logits(Session *session, Feed *feed, const BatchPart *part, float *logits)
{
    PartLogits to = {session->device, session->data, feed, logits};
    return evaluate_part(session, feed, part, take_part_logits, &to);
}

/* Runs the network on this rank's share of a feed's split. Collective. */
static Status evaluate_share(Session *session, Feed *feed, TakeLogits *take, void *taker)
{
    TRY(share_states(session));
    TRY(loader_start(feed->loader, 0, 0));
    for (;;) {
        const Batch *batch;
        TRY(loader_next(feed->loader, &batch));
        if (batch == NULL) return OK;
        for (int p = 0; p < batch->parts; ++p)
            TRY(evaluate_part(session, feed, &batch->part[p], take, taker));
    }
}

/* Each sample's row goes to the sample's place in the share, without the columns of masked classes. */
typedef struct {
    Session *session;
    const TaskData *data;
    const Feed *feed;
    const Logits *share;
    const uint8_t *masked; /* [the network's classes]; NULL: none */
    float *part;           /* [rows of the largest part, the network's classes] */
    float *logits;
    int32_t *labels; /* [count, measured classes], [count] */
} Download;

static Status take_download(void *taker, const float *logits, const BatchPart *part)
{
    const Download *download = taker;
    const TaskData *data = download->data;
    Device *device = download->session->device;
    const Logits *share = download->share;
    const BatchShape *shape = &download->feed->program[part->shape].shape;
    const int64_t *sample = part->field[batch_shape_find(shape, "sample")];
    const float *weight = part->field[batch_shape_find(shape, "weight")];
    TRY(device_download(device, download->part, logits,
                        (size_t)(shape->rows * data->classes) * sizeof *logits));
    TRY(device_synchronize(device));
    for (int64_t i = 0; i < shape->rows; ++i) {
        if (weight[i] == 0) continue;
        float *to = download->logits + (sample[i] - share->first) * share->classes;
        for (int64_t k = 0; k < data->classes; ++k)
            if (download->masked == NULL || download->masked[k] == 0)
                *to++ = download->part[i * data->classes + k];
    }
    return OK;
}

static Status allocate_download(Download *download)
{
    const Logits *share = download->share;
    const int64_t rows = download->feed->program[0].shape.rows, classes = download->data->classes;
    TRY(memory_new(&download->part, (size_t)(rows * classes) + 1, sizeof *download->part, "logits"));
    TRY(memory_new(&download->logits, (size_t)(share->count * share->classes) + 1, sizeof *download->logits,
                   "logits"));
    return memory_new(&download->labels, (size_t)share->count + 1, sizeof *download->labels, "labels");
}

/* labels: NULL where they mean nothing. */
static Status download_feed(Session *session, const TaskData *data, Feed *feed, Split split,
                            const uint8_t *masked, Logits *out, float **logits, int32_t **labels)
{
    Download download = {.session = session, .data = data, .feed = feed, .share = out, .masked = masked};
    Status status;
    TRY(describe_share(session, data, feed, split, out));
    out->classes = task_measured_class(masked, data->classes);
    TRY_ELSE(failed, comm_agree(session->world, allocate_download(&download)));
    TRY_ELSE(failed, evaluate_share(session, feed, take_download, &download));
    for (int64_t i = 0; i < out->count; ++i)
        download.labels[i] = (int32_t)task_measured_class(masked, data->label[split][out->first + i]);
    free(download.part);
    out->values = *logits = download.logits;
    out->labels = labels != NULL ? download.labels : NULL;
    if (labels != NULL)
        *labels = download.labels;
    else
        free(download.labels);
    return OK;
failed:
    free(download.part);
    free(download.logits);
    free(download.labels);
    return status;
}

Status session_logits(Session *session, Split split, bool masked, Logits *out, float **logits,
                      int32_t **labels)
{
    *logits = NULL;
    *labels = NULL;
    return download_feed(session, session->data, &session->evaluate[split], split,
                         masked ? session->data->masked : NULL, out, logits, labels);
}

/* What a rank may find wrong alone. */
static Status open_outside(Session *session, TaskData *outside, Feed *feed)
{
    PlanOptions options = session->experiment.plan;
    TRY(build_feed(session, outside, SPLIT_TEST, false, feed));
    return plan_feed(session, outside, SPLIT_TEST, options, feed);
}

Status session_outside_logits(Session *session, TaskData *outside, Logits *out, float **logits)
{
    Feed feed = {.source = NULL};
    *logits = NULL;
    Status status = comm_agree(session->world, open_outside(session, outside, &feed));
    if (status == OK)
        status = download_feed(session, outside, &feed, SPLIT_TEST, outside->masked, out, logits, NULL);
    if (status == OK) out->name = outside->dataset;
    close_feed(session, &feed);
    return status;
}

typedef struct {
    Device *device;
    const Feed *feed;
    TakeRows *take;
    void *taker;
} Streamed;

/* The sample of each row: rows of a sample lie side by side. */
static const int64_t *samples_of_rows(const Feed *feed, const BatchPart *part, const BatchShape *shape)
{
    const int field = batch_shape_find(shape, "sample");
    const int64_t *sample = part->field[field];
    const int64_t samples = shape_count(shape->field[field].shape), a_sample = shape->rows / samples;
    if (a_sample == 1) return sample;
    for (int64_t row = 0; row < shape->rows; ++row)
        feed->row_samples[row] = sample[row / a_sample];
    return feed->row_samples;
}

/* Which rows count, and as what, comes with the batch. */
static Status take_stream(void *taker, const float *logits, const BatchPart *part)
{
    const Streamed *stream = taker;
    const Feed *feed = stream->feed;
    const BatchShape *shape = &feed->program[part->shape].shape;
    const int64_t *sample = samples_of_rows(feed, part, shape);
    TRY(device_upload(stream->device, feed->labels, part->field[batch_shape_find(shape, "target")],
                      (size_t)shape->rows * sizeof *feed->labels));
    TRY(device_upload(stream->device, feed->weights, part->field[batch_shape_find(shape, "weight")],
                      (size_t)shape->rows * sizeof *feed->weights));
    TRY(device_upload(stream->device, feed->samples, sample, (size_t)shape->rows * sizeof *feed->samples));
    const LogitRows rows = {.logits = logits,
                            .labels = feed->labels,
                            .weights = feed->weights,
                            .rows = shape->rows,
                            .number = feed->samples};
    TRY(stream->take(stream->taker, &rows, part, shape));
    return OK;
}

Status session_stream(Session *session, Split split, TakeRows *take, void *taker)
{
    Streamed stream = {
        .device = session->device, .feed = &session->evaluate[split], .take = take, .taker = taker};
    TRY(comm_agree(session->world, open_rows(session, split)));
    return evaluate_share(session, &session->evaluate[split], take_stream, &stream);
}
