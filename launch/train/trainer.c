#include "launch/train/trainer.h"

#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "engine/data/loader.h"
#include "launch/evaluate/evaluate_run.h"
#include "launch/train/epoch_metrics.h"
#include "launch/train/log_view.h"
#include "launch/train/progress.h"
#include "launch/train/saver.h"

#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a step reports: it is on its way while the next step is enqueued, so that the device need not wait for the
 * host between the two. */
typedef struct {
    bool pending;
    Place place;                  /* before the step */
    double (*of_part)[LOSS_SUMS]; /* for each micro-step */
    double gradient_norm;
    Mark mark;
} Report;

typedef struct {
    Session *session;
    RunFolder *run;
    Saver saver;
    TrainerOptions options;
    Loader *loader;
    Schedule schedule;
    Place place; /* of the next step; its sums are those of the steps that have reported */
    Report report[2];
    Progress progress;
    int64_t epochs, batches; /* epochs of the run; batches an epoch */
    bool mean;               /* divide the gradient by the batch's weight */
    double gradient_norm;
    LogView view;
    bool record;            /* let the device record the step */
    bool last_part;         /* of the step that is enqueued: the optimizer follows */
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

/* One micro-step, of `count`; are its results finite? */
static Status check_micro_step(Trainer *trainer, const Batch *batch, int part, int index, int count)
{
    Plan *plan = trainer->session->train.plan;
    TRY(upload_batch(trainer, batch, part));
    plan_set_micro_step(plan, index, count);
    TRY(plan_run(plan));
    return plan_check_finite(plan);
}

/* The sum over ranks carries a NaN to all of them. Whose is it? The step's parts, each on its own and without
 * reducing gradients: OK on a rank whose own results are finite. */
static Status check_own_results(Trainer *trainer, const Batch *batch)
{
    Status status = OK;
    for (int part = 0; part < trainer->session->micro_batches && status == OK; ++part)
        status = check_micro_step(trainer, batch, part, 0, 2);
    return comm_agree(trainer->session->world, status);
}

/* And together, as they were. */
static Status check_results(Trainer *trainer, const Batch *batch)
{
    const int parts = trainer->session->micro_batches;
    Status status = OK;
    for (int part = 0; part < parts && status == OK; ++part)
        status = check_micro_step(trainer, batch, part, part, parts);
    return comm_agree(trainer->session->world, status);
}

static Status enqueue_micro_step(Trainer *trainer, const Batch *batch, int part, double sums[LOSS_SUMS])
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
    return device_download(session->device, sums, plan_data(step->plan, step->sums),
                           LOSS_SUMS * sizeof *sums);
}

static Status enqueue_step(Trainer *trainer, const Batch *batch, Report *report)
{
    Session *session = trainer->session;
    const double rate =
        schedule_learning_rate(&trainer->schedule, trainer->place.epoch, trainer->place.step + 1);
    report->place = trainer->place;
    report->pending = true;
    TRY(optimizer_set(session->optimizer, trainer->place.step + 1, rate,
                      trainer->mean ? 1.0 / (double)batch->total : 1.0));
    for (int part = 0; part < session->micro_batches; ++part)
        TRY(enqueue_micro_step(trainer, batch, part, report->of_part[part]));
    TRY(optimizer_gradient_norm(session->optimizer, &report->gradient_norm));
    return device_mark(session->device, &report->mark);
}

/* Loss or gradient is NaN or infinite: says where, as exactly as can be known. Always an error. The step is computed
 * once more, for the device has gone on since; the parameters are what they were, unless it is the loss alone that is
 * not finite. */
static Status explain_not_finite(Trainer *trainer, const Place *place, double loss)
{
    const Batch *batch;
    trainer->place = *place;
    TRY(loader_start(trainer->loader, place->epoch, place->batch));
    TRY(loader_next(trainer->loader, &batch));
    Status status = check_own_results(trainer, batch);
    if (status == OK) status = check_results(trainer, batch);
    if (status == OK && !isfinite(loss))
        status = fail(STATUS_NUMERIC, "the loss is %s, though the logits are finite",
                      isnan(loss) ? "NaN" : "infinite");
    if (status == OK)
        status =
            fail(STATUS_NUMERIC, "the gradient's norm is not finite, but all gradients are when the step is "
                                 "computed again: a device or a link between ranks made an error");
    return status_context(status,
                          "step %" PRId64 " (epoch %" PRId64 ", batch %" PRId64
                          "): training stopped; the last checkpoint is kept. Lower the learning rate or clip "
                          "the gradient; the cause",
                          place->step + 1, place->epoch + 1, place->batch + 1);
}

/* Waits for a step and takes its report. */
static Status finish_step(Trainer *trainer, Report *report)
{
    Session *session = trainer->session;
    if (!report->pending) return OK;
    report->pending = false;
    TRY(collective_wait(session->collective, session->device, report->mark));
    double sums[LOSS_SUMS] = {0};
    for (int part = 0; part < session->micro_batches; ++part)
        for (int i = 0; i < LOSS_SUMS; ++i)
            sums[i] += report->of_part[part][i];
    TRY(collective_health(session->collective));
    trainer->gradient_norm = report->gradient_norm;
    if (!isfinite(sums[LOSS_SUM]) || !isfinite(report->gradient_norm))
        return explain_not_finite(trainer, &report->place, sums[LOSS_SUM]);
    for (int i = 0; i < LOSS_SUMS; ++i)
        trainer->place.sums[i] += sums[i];
    progress_step(&trainer->progress, report->place.epoch, trainer->epochs, report->place.step + 1,
                  config_integer(session->config, "batch"),
                  trainer->place.sums[LOSS_SUM] / trainer->place.sums[LOSS_WEIGHT]);
    return OK;
}

/* Until every step that was enqueued has reported: before anything looks at the parameters. */
static Status finish_steps(Trainer *trainer)
{
    TRY(finish_step(trainer, &trainer->report[trainer->place.step % 2])); /* the earlier */
    return finish_step(trainer, &trainer->report[(trainer->place.step + 1) % 2]);
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
            TRY(saver_keep_best(&trainer->saver, place));
        }
    }
    if (is_due(config_integer(config, "checkpoint.keep"), epoch))
        TRY(saver_keep_epoch(&trainer->saver, place));
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
    if (place->epoch == trainer->epochs) return saver_save(&trainer->saver, place);
    return is_due(config_integer(config, "checkpoint.epochs"), epoch)
               ? saver_save_if_worth_it(&trainer->saver, place)
               : OK;
}

/* A signal on any rank, or time to save, as all ranks see it. */
static Status heed_signals(Trainer *trainer)
{
    Session *session = trainer->session;
    const bool overdue =
        saver_is_overdue(&trainer->saver, config_real(session->config, "checkpoint.minutes"));
    bool stop = stop_asked != 0, due = false;
    TRY(comm_any(session->world, stop || overdue, &due));
    if (!due) return OK;
    TRY(comm_any(session->world, stop, &stop));
    TRY(finish_steps(trainer));
    if (trainer->saver.step != trainer->place.step) TRY(saver_save(&trainer->saver, &trainer->place));
    if (!stop) return OK;
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
    /* What an interrupted job did of the epoch is not this one's. */
    const int64_t images =
        session->dataset->split[SPLIT_TRAIN].count - place->batch * config_integer(session->config, "batch");
    TRY(loader_start(trainer->loader, place->epoch, place->batch));
    for (;;) {
        const Batch *batch;
        TRY(loader_next(trainer->loader, &batch));
        if (batch == NULL) break;
        TRY(enqueue_step(trainer, batch, &trainer->report[place->step % 2]));
        ++place->step;
        ++place->batch;
        TRY(finish_step(trainer, &trainer->report[place->step % 2])); /* the one before */
        if (place->batch < trainer->batches) TRY(heed_signals(trainer));
    }
    TRY(finish_steps(trainer));
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
    TRY(session_check_config(config, ranks));
    TRY(read_schedule(config, 1, &schedule));
    (void)loader_options(config, 0, ranks);
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
    TRY(open_loader(trainer));
    trainer->epochs = config_integer(config, "epochs");
    trainer->batches = loader_batches(trainer->loader);
    TRY(comm_agree(session->world, read_schedule(config, trainer->batches, &trainer->schedule)));
    trainer->record = config_flag(config, "graph") && !trainer->options.log_view;
    trainer->mean = session->loss.reduction == REDUCTION_MEAN;
    warn_of_late_step(&trainer->schedule, trainer->epochs);
    for (int i = 0; i < 2; ++i)
        TRY(comm_agree(session->world, memory_new(&trainer->report[i].of_part, (size_t)session->micro_batches,
                                                  sizeof *trainer->report[i].of_part, "reports of steps")));
    TRY(saver_open(&trainer->saver, session, trainer->run, &trainer->place));
    if (trainer->saver.restored[0] != '\0')
        log_info("going on after step %" PRId64 " (epoch %" PRId64 ")", trainer->place.step,
                 trainer->place.epoch + 1);
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
    /* After an error reports may still be on their way to where they are freed. */
    status_free(device_synchronize(session->device));
    for (int i = 0; i < 2; ++i)
        free(trainer.report[i].of_part);
    saver_close(&trainer.saver);
    loader_close(trainer.loader);
    return status;
}
