#include "launch/trainer.h"

#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "engine/data/loader.h"
#include "engine/plan/checkpoint.h"
#include "launch/epoch_metrics.h"
#include "launch/evaluate_run.h"
#include "launch/log_view.h"
#include "launch/progress.h"

#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Everything that a checkpoint must hold beside the store, for the same bits after a resume. */
typedef struct {
    int64_t step;           /* steps done */
    int64_t epoch, batch;   /* the next step is this batch of this epoch */
    double sums[LOSS_SUMS]; /* of the epoch so far */
    double best_error;      /* lowest validation error so far; infinity before the first evaluation */
} Place;

typedef struct {
    Session *session;
    RunFolder *run;
    TrainerOptions options;
    Loader *loader;
    Schedule schedule;
    Place place;
    Progress progress;
    int64_t epochs, batches; /* epochs of the run; batches an epoch */
    uint64_t config_hash;
    bool mean;         /* divide the gradient by the batch's weight */
    double last_saved; /* on the progress clock */
    double gradient_norm;
    char restored[64]; /* stem it went on from */
    LogView view;
    bool record;    /* let the device record the step */
    bool last_part; /* of the step that is enqueued: the optimizer follows */
    double of_part
        [LOSS_SUMS]; /* where a part's sums come to; not on the stack, since an error may leave them on their way */
    Recording recording[3]; /* of the first, middle and last micro-step */
} Trainer;

/* ---- signals ---- */

static volatile sig_atomic_t stop_asked;

static void ask_to_stop(int signal_number)
{
    (void)signal_number;
    stop_asked = 1;
}

void trainer_catch_signals(void)
{
    struct sigaction action = {.sa_handler = ask_to_stop};
    (void)sigemptyset(&action.sa_mask);
    action.sa_flags = SA_RESTART;
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGUSR1, &action, NULL);
    action.sa_flags = SA_RESTART | (int)SA_RESETHAND; /* a second interrupt ends the process */
    (void)sigaction(SIGINT, &action, NULL);
    (void)signal(SIGXFSZ, SIG_IGN); /* a limit on the size of files is then an error like a full disk */
}

/* ---- checkpoints ---- */

static Status save(Trainer *trainer)
{
    Session *session = trainer->session;
    const Place *place = &trainer->place;
    Status status = OK;
    if (session->world->rank == 0) {
        char stem[64], ranks[16], text[5 + LOSS_SUMS][40];
        (void)snprintf(ranks, sizeof ranks, "%d", session->world->size);
        (void)snprintf(stem, sizeof stem, "step-%010" PRId64, place->step);
        (void)snprintf(text[0], sizeof text[0], "%" PRId64, place->step);
        (void)snprintf(text[1], sizeof text[1], "%" PRId64, place->epoch);
        (void)snprintf(text[2], sizeof text[2], "%" PRId64, place->batch);
        (void)snprintf(text[3], sizeof text[3], "%016" PRIx64, trainer->config_hash);
        (void)snprintf(text[4], sizeof text[4], "%a", place->best_error);
        for (int i = 0; i < LOSS_SUMS; ++i)
            (void)snprintf(text[5 + i], sizeof text[5 + i], "%a", place->sums[i]);
        const SafeMetadata metadata[] = {
            {"step", text[0]},       {"epoch", text[1]},       {"batch", text[2]},
            {"config", text[3]},     {"best_error", text[4]},  {"loss_sum", text[5]},
            {"weight_sum", text[6]}, {"correct_sum", text[7]}, {"ranks", ranks}};
        status = checkpoint_save(session->store, trainer->run->checkpoints, stem, metadata,
                                 (int)(sizeof metadata / sizeof metadata[0]));
        if (status == OK) status = run_folder_prune(trainer->run, stem);
    }
    trainer->last_saved = progress_clock();
    return comm_agree(session->world, status);
}

static Status metadata_integer(const SafeFile *file, const char *key, int64_t *value)
{
    const char *text = safetensors_metadata(file, key);
    char *end = NULL;
    if (text != NULL) *value = strtoll(text, &end, 10);
    if (text == NULL || end == text || *end != '\0')
        return fail(STATUS_INPUT, "the checkpoint has no usable \"%s\"", key);
    return OK;
}

static Status metadata_real(const SafeFile *file, const char *key, double *value)
{
    const char *text = safetensors_metadata(file, key);
    char *end = NULL;
    if (text != NULL) *value = strtod(text, &end);
    if (text == NULL || end == text || *end != '\0')
        return fail(STATUS_INPUT, "the checkpoint has no usable \"%s\"", key);
    return OK;
}

static Status read_place(const SafeFile *file, uint64_t config_hash, Place *place)
{
    char want[32];
    TRY(metadata_integer(file, "step", &place->step));
    TRY(metadata_integer(file, "epoch", &place->epoch));
    TRY(metadata_integer(file, "batch", &place->batch));
    TRY(metadata_real(file, "best_error", &place->best_error));
    TRY(metadata_real(file, "loss_sum", &place->sums[LOSS_SUM]));
    TRY(metadata_real(file, "weight_sum", &place->sums[LOSS_WEIGHT]));
    TRY(metadata_real(file, "correct_sum", &place->sums[LOSS_CORRECT]));
    (void)snprintf(want, sizeof want, "%016" PRIx64, config_hash);
    const char *config = safetensors_metadata(file, "config");
    if (config == NULL || strcmp(config, want) != 0)
        return fail(STATUS_INPUT, "the checkpoint was written with another config");
    return OK;
}

/* A copy of the model for evaluation: "best", "epoch-0010". */
static Status save_model(Trainer *trainer, const char *stem)
{
    char step[32], epoch[32];
    (void)snprintf(step, sizeof step, "%" PRId64, trainer->place.step);
    (void)snprintf(epoch, sizeof epoch, "%" PRId64, trainer->place.epoch + 1);
    const SafeMetadata metadata[] = {{"step", step}, {"epoch", epoch}};
    Status status = OK;
    if (trainer->session->world->rank == 0)
        status = checkpoint_save_model(trainer->session->store, trainer->run->checkpoints, stem, metadata, 2);
    return comm_agree(trainer->session->world, status);
}

/* All ranks start from the same parameters: equal seeds and files, but a rank on another host may have other
 * files. */
static Status check_parameters_equal(Session *session)
{
    const size_t bytes = (size_t)store_flat_count(session->store) * sizeof(float);
    float *host;
    TRY(memory_new(&host, bytes > 0 ? bytes : 1, 1, "parameters"));
    Status status = device_download(session->device, host, store_parameters(session->store), bytes);
    if (status == OK) status = device_synchronize(session->device);
    status = comm_agree(session->world, status);
    if (status == OK) status = comm_check_equal(session->world, host, bytes, "the starting parameters");
    free(host);
    return status;
}

/* The first check finds a rank that started from other files. Then rank 0's values go where the gradients
 * will go, before anything relies on that way; and the second finds out what has arrived. */
static Status share_parameters(Session *session)
{
    TRY(check_parameters_equal(session));
    if (session->world->size == 1) return OK;
    const Span parameters = {store_parameters(session->store), store_flat_count(session->store), FLOAT32};
    Collective *collective = session->collective;
    TRY(collective->broadcast(collective, parameters, 0, device_stream(session->device)));
    TRY(collective->join(collective, device_stream(session->device)));
    TRY(collective->wait(collective, session->device));
    return check_parameters_equal(session);
}

/* Checkpoints of older versions do not say how many ranks wrote them. */
static void tell_of_other_ranks(const SafeFile *file, int ranks)
{
    const char *before = safetensors_metadata(file, "ranks");
    if (before != NULL && strtol(before, NULL, 10) != ranks)
        log_info("the number of ranks was %s and is now %d: results are the same up to the order of "
                 "summation and, without model.sync_batch_norm, to batch norm's statistics, which are each "
                 "rank's own",
                 before, ranks);
}

/* Every rank reads the files itself: a rank that cannot is found out here, not later. */
static Status restore(Trainer *trainer)
{
    Session *session = trainer->session;
    SafeFile *file = NULL;
    trainer->place = (Place){.best_error = INFINITY};
    Status status = run_folder_latest(trainer->run, trainer->restored);
    if (status == OK && trainer->restored[0] != '\0') {
        status = checkpoint_load(session->store, trainer->run->checkpoints, trainer->restored, &file);
        if (status == OK) status = read_place(file, trainer->config_hash, &trainer->place);
        if (status == OK) tell_of_other_ranks(file, session->world->size);
        safetensors_close(file);
        if (status != OK)
            status = status_context(status, "cannot go on from %s/%s (remove its files to start anew)",
                                    trainer->run->checkpoints, trainer->restored);
    }
    TRY(comm_agree(session->world, status));
    TRY(comm_check_equal(session->world, &trainer->place, sizeof trainer->place,
                         "the checkpoint's place in training"));
    TRY(share_parameters(session));
    if (session->world->rank == 0) {
        status = run_folder_rewind_metrics(trainer->run, trainer->place.step);
        /* A job that was killed as it saved may have left the checkpoint before, or half of the next. */
        if (status == OK) status = run_folder_prune(trainer->run, trainer->restored);
    }
    return comm_agree(session->world, status);
}

/* ---- steps ---- */

static Status upload_batch(Trainer *trainer, const Batch *batch, int part)
{
    Session *session = trainer->session;
    Step *step = &session->train;
    const int64_t first = step->batch * part;
    const size_t count = (size_t)step->batch;
    int64_t padding = 0; /* at the end; of weight 0 */
    while (padding < step->batch && batch->weight[first + step->batch - 1 - padding] == 0)
        ++padding;
    const int64_t clock[CLOCK_COUNT] = {[CLOCK_SEED] = config_integer(session->config, "seed"),
                                        [CLOCK_EPOCH] = trainer->place.epoch,
                                        [CLOCK_STEP] = trainer->place.step,
                                        [CLOCK_FIRST_SAMPLE] = batch->first + first,
                                        [CLOCK_PADDING] = padding};
    const void *table;
    TRY(pixels_batch(session->pixels, SPLIT_TRAIN, batch->row + first, NULL, step->batch,
                     plan_data(step->plan, step->index), &table));
    plan_bind(step->plan, step->table, (void *)(uintptr_t)table);
    TRY(device_upload(session->device, plan_data(step->plan, step->crop), batch->crop + 3 * first,
                      3 * count * sizeof *batch->crop));
    TRY(device_upload(session->device, plan_data(step->plan, step->target), batch->label + first,
                      count * sizeof *batch->label));
    TRY(device_upload(session->device, plan_data(step->plan, step->weight), batch->weight + first,
                      count * sizeof *batch->weight));
    return device_upload(session->device, plan_data(step->plan, step->clock), clock, sizeof clock);
}

/* The sum over ranks carries a NaN to all of them. Whose is it? The step's last part once more, without
 * reducing gradients: OK on a rank whose own results are finite. */
static Status check_own_gradients(Trainer *trainer, const Batch *batch)
{
    Session *session = trainer->session;
    Plan *plan = session->train.plan;
    plan_set_micro_step(plan, 0, 2);
    Status status = upload_batch(trainer, batch, session->micro_batches - 1);
    if (status == OK) status = plan_run(plan);
    if (status == OK) status = plan_check_finite(plan);
    return comm_agree(session->world, status);
}

/* Loss or gradient is NaN or infinite: says where, as exactly as can be known. Always an error. */
static Status explain_not_finite(Trainer *trainer, const Batch *batch, double loss)
{
    Session *session = trainer->session;
    Status status = plan_check_finite(session->train.plan);
    if (session->world->size > 1) {
        Status own = check_own_gradients(trainer, batch);
        if (own != OK) {
            status_free(status);
            status = own;
        } else {
            status = comm_agree(session->world, status);
        }
    }
    if (status == OK && !isfinite(loss))
        status = fail(STATUS_NUMERIC, "the loss is %s, though the logits are finite",
                      isnan(loss) ? "NaN" : "infinite");
    if (status == OK) status = fail(STATUS_NUMERIC, "the gradient's norm is not finite");
    return status_context(status,
                          "step %" PRId64 " (epoch %" PRId64 ", batch %" PRId64
                          "): training stopped; the last checkpoint is kept. Lower the learning rate or clip "
                          "the gradient; the cause",
                          trainer->place.step + 1, trainer->place.epoch + 1, trainer->place.batch + 1);
}

/* What one part of a step enqueues: the same every time, so that the device can record it. */
static Status enqueue_part(void *argument)
{
    Trainer *trainer = argument;
    Session *session = trainer->session;
    TRY(plan_run(session->train.plan));
    if (!trainer->last_part) return OK;
    const double started = progress_clock();
    TRY(optimizer_step(session->optimizer));
    if (trainer->options.log_view) TRY(device_synchronize(session->device));
    trainer->view.optimizer_seconds += progress_clock() - started;
    return OK;
}

static Status run_part(Trainer *trainer, const Batch *batch, int part, double sums[LOSS_SUMS])
{
    Session *session = trainer->session;
    Step *step = &session->train;
    trainer->last_part = part == session->micro_batches - 1;
    TRY(upload_batch(trainer, batch, part));
    plan_set_micro_step(step->plan, part, session->micro_batches);
    /* The first, those between and the last enqueue different things. */
    Recording *recording = &trainer->recording[trainer->last_part ? 2 : part > 0 ? 1 : 0];
    TRY(trainer->record ? device_repeat(session->device, recording, enqueue_part, trainer)
                        : enqueue_part(trainer));
    TRY(device_download(session->device, trainer->of_part, plan_data(step->plan, step->sums),
                        sizeof trainer->of_part));
    if (trainer->last_part) TRY(optimizer_gradient_norm(session->optimizer, &trainer->gradient_norm));
    TRY(session->collective->wait(session->collective, session->device));
    for (int i = 0; i < LOSS_SUMS; ++i)
        sums[i] += trainer->of_part[i];
    return session->collective->health(session->collective);
}

static Status run_step(Trainer *trainer, const Batch *batch)
{
    const double rate =
        schedule_learning_rate(&trainer->schedule, trainer->place.epoch, trainer->place.step + 1);
    double sums[LOSS_SUMS] = {0};
    TRY(optimizer_set(trainer->session->optimizer, trainer->place.step + 1, rate,
                      trainer->mean ? 1.0 / (double)batch->total : 1.0));
    for (int part = 0; part < trainer->session->micro_batches; ++part)
        TRY(run_part(trainer, batch, part, sums));
    if (!isfinite(sums[LOSS_SUM]) || !isfinite(trainer->gradient_norm))
        return explain_not_finite(trainer, batch, sums[LOSS_SUM]);
    for (int i = 0; i < LOSS_SUMS; ++i)
        trainer->place.sums[i] += sums[i];
    return OK;
}

/* ---- epochs ---- */

static bool is_due(int64_t every, int64_t epoch) { return every > 0 && (epoch + 1) % every == 0; }

/* images: those that this job has trained on in the epoch, in so many seconds. */
static Status end_epoch(Trainer *trainer, int64_t images, double seconds)
{
    Session *session = trainer->session;
    const Config *config = session->config;
    Place *place = &trainer->place;
    const int64_t epoch = place->epoch;
    EpochMetrics metrics = {.epoch = epoch + 1,
                            .step = place->step,
                            .learning_rate = schedule_learning_rate(&trainer->schedule, epoch, place->step),
                            .train_loss = place->sums[LOSS_SUM] / place->sums[LOSS_WEIGHT],
                            .train_error = 1.0 - place->sums[LOSS_CORRECT] / place->sums[LOSS_WEIGHT],
                            .gradient_norm = trainer->gradient_norm,
                            .seconds = seconds,
                            .images_per_second = (double)images / seconds};
    if (is_due(config_integer(config, "evaluate.every"), epoch)) {
        TRY(epoch_metrics_measure(session, &metrics));
        const double error = metrics.has[SPLIT_VALIDATION] ? metrics.split[SPLIT_VALIDATION].error : INFINITY;
        if (error < place->best_error) {
            place->best_error = error;
            TRY(save_model(trainer, "best"));
        }
    }
    if (is_due(config_integer(config, "checkpoint.keep"), epoch)) {
        char stem[64];
        (void)snprintf(stem, sizeof stem, "epoch-%04" PRId64, epoch + 1);
        TRY(save_model(trainer, stem));
    }
    Status status = OK;
    if (session->world->rank == 0) {
        progress_clear(&trainer->progress);
        epoch_metrics_print(&metrics, trainer->epochs);
        char *line;
        status = epoch_metrics_json(&metrics, &line);
        if (status == OK) {
            status = run_folder_append_metrics(trainer->run, line);
            free(line);
        }
    }
    TRY(comm_agree(session->world, status));
    for (int i = 0; i < LOSS_SUMS; ++i)
        place->sums[i] = 0;
    ++place->epoch;
    place->batch = 0;
    const bool last = place->epoch == trainer->epochs;
    if (last || is_due(config_integer(config, "checkpoint.epochs"), epoch)) TRY(save(trainer));
    return OK;
}

/* A signal on any rank, or time to save, as all ranks see it. */
static Status heed_signals(Trainer *trainer)
{
    Session *session = trainer->session;
    const double minutes = config_real(session->config, "checkpoint.minutes");
    const bool overdue =
        session->world->rank == 0 && minutes > 0 && progress_clock() - trainer->last_saved > 60 * minutes;
    bool stop = stop_asked != 0, due = overdue;
    TRY(comm_any(session->world, stop || due, &due));
    if (!due) return OK;
    TRY(comm_any(session->world, stop, &stop));
    if (trainer->place.batch > 0) TRY(save(trainer)); /* at the end of an epoch end_epoch decides */
    if (!stop) return OK;
    if (trainer->place.batch == 0) TRY(save(trainer));
    progress_clear(&trainer->progress);
    return fail(STATUS_INTERRUPTED,
                "stopped by a signal after step %" PRId64
                "; saved in %s. The same command goes on from there",
                trainer->place.step, trainer->run->checkpoints);
}

static Status run_epoch(Trainer *trainer)
{
    Session *session = trainer->session;
    Place *place = &trainer->place;
    const double started = progress_clock();
    const int64_t batch_size = config_integer(session->config, "batch");
    /* What an interrupted job did of the epoch is not this one's. */
    const int64_t images = session->dataset->split[SPLIT_TRAIN].count - place->batch * batch_size;
    TRY(loader_start(trainer->loader, place->epoch, place->batch));
    for (;;) {
        const Batch *batch;
        TRY(loader_next(trainer->loader, &batch));
        if (batch == NULL) break;
        TRY(run_step(trainer, batch));
        ++place->step;
        ++place->batch;
        progress_step(&trainer->progress, place->epoch, trainer->epochs, place->step, batch_size,
                      place->sums[LOSS_SUM] / place->sums[LOSS_WEIGHT]);
        if (place->batch < trainer->batches) TRY(heed_signals(trainer));
    }
    TRY(end_epoch(trainer, images, progress_clock() - started));
    return heed_signals(trainer);
}

/* ---- the run ---- */

/* A step out of order, or twice, is a slip: the rate falls at every epoch of the list, in whatever order. */
static Status check_epochs(const Config *config, const Schedule *schedule)
{
    for (int i = 1; i < schedule->epoch_count; ++i)
        if (schedule->epochs[i] <= schedule->epochs[i - 1])
            return config_error(config, "schedule.epochs", "must rise, but %" PRId64 " follows %" PRId64,
                                schedule->epochs[i], schedule->epochs[i - 1]);
    return OK;
}

static void warn_of_late_step(const Schedule *schedule, int64_t epochs)
{
    const int last = schedule->epoch_count - 1;
    if (last >= 0 && schedule->epochs[last] >= epochs)
        log_warning("schedule.epochs: the step at epoch %" PRId64 " is never taken: there are %" PRId64
                    " epochs, from 0",
                    schedule->epochs[last], epochs);
}

static Status read_schedule(const Config *config, int64_t batches, Schedule *schedule)
{
    *schedule = (Schedule){.name = config_text(config, "schedule.name"),
                           .learning_rate = config_real(config, "optimizer.learning_rate"),
                           .warmup_steps = config_integer(config, "schedule.warmup_steps")};
    if (strcmp(schedule->name, "steps") == 0) {
        schedule->epoch_count = config_integers(config, "schedule.epochs", &schedule->epochs);
        schedule->factor = config_real(config, "schedule.factor");
        schedule->one_epoch_early = config_flag(config, "compat.early_schedule");
        return check_epochs(config, schedule);
    }
    if (strcmp(schedule->name, "cosine") == 0) {
        schedule->total_steps = config_integer(config, "epochs") * batches;
        schedule->final_rate = config_real(config, "schedule.final_rate");
    } else if (strcmp(schedule->name, "inverse_square_root") == 0) {
        schedule->model_width = config_integer(config, "schedule.model_width");
    }
    return OK;
}

static LoaderOptions loader_options(const Config *config, int rank, int ranks)
{
    return (LoaderOptions){.batch = config_integer(config, "batch"),
                           .rank = rank,
                           .ranks = ranks,
                           .seed = (uint64_t)config_integer(config, "seed"),
                           .shuffle = true,
                           .crop_padding = config_integer(config, "augment.crop_padding"),
                           .flip = config_flag(config, "augment.flip")};
}

Status trainer_check_config(const Config *config, int ranks)
{
    Schedule schedule;
    const Loss *loss;
    TRY(session_check_config(config, ranks));
    TRY(read_schedule(config, 1, &schedule));
    TRY(loss_find(config, &loss));
    (void)loss_reduction(loss, config), (void)loader_options(config, 0, ranks);
    (void)config_integer(config, "epochs");
    (void)config_integer(config, "checkpoint.epochs"), (void)config_integer(config, "checkpoint.keep");
    (void)config_real(config, "checkpoint.minutes"), (void)config_integer(config, "evaluate.every");
    (void)config_integer(config, "evaluate.bins"), (void)config_integer(config, "evaluate.bootstrap");
    return config_check_all_read(config);
}

static Status open_loader(Trainer *trainer)
{
    Session *session = trainer->session;
    const LoaderOptions options = loader_options(session->config, session->world->rank, session->world->size);
    return comm_agree(session->world, loader_open(session->dataset, SPLIT_TRAIN, options, &trainer->loader));
}

static Status train(Trainer *trainer)
{
    Session *session = trainer->session;
    const Config *config = session->config;
    TRY(run_config_hash(config, &trainer->config_hash));
    TRY(open_loader(trainer));
    trainer->epochs = config_integer(config, "epochs");
    trainer->batches = loader_batches(trainer->loader);
    TRY(comm_agree(session->world, read_schedule(config, trainer->batches, &trainer->schedule)));
    trainer->record = config_flag(config, "graph") && !trainer->options.log_view;
    trainer->mean = loss_reduction(session->loss, config) == REDUCTION_MEAN;
    warn_of_late_step(&trainer->schedule, trainer->epochs);
    TRY(restore(trainer));
    if (trainer->restored[0] != '\0')
        log_info("going on after step %" PRId64 " (epoch %" PRId64 ")", trainer->place.step,
                 trainer->place.epoch + 1);
    trainer->last_saved = progress_clock();
    progress_start(&trainer->progress, session->world->rank == 0 && !trainer->options.quiet,
                   trainer->place.step, trainer->epochs * trainer->batches);
    while (trainer->place.epoch < trainer->epochs)
        TRY(run_epoch(trainer));
    TRY(evaluate_trained(session, trainer->run, trainer->options.quiet));
    trainer->view.data_seconds = loader_waited(trainer->loader);
    if (trainer->options.log_view) TRY(log_view_print(&trainer->view, session));
    return OK;
}

Status trainer_run(Session *session, RunFolder *run, TrainerOptions options)
{
    Trainer trainer = {.session = session, .run = run, .options = options};
    Status status = train(&trainer);
    for (int i = 0; i < 3; ++i)
        device_forget(session->device, &trainer.recording[i]);
    loader_close(trainer.loader);
    return status;
}
