#include "launch/train/trainer.h"

#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "engine/data/loader.h"
#include "launch/train/dynamics_line.h"
#include "launch/train/epoch_metrics.h"
#include "launch/train/evaluate_run.h"
#include "launch/train/log_view.h"
#include "launch/train/progress.h"
#include "launch/train/saver.h"
#include "launch/train/split_translation.h"

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
    int parts;
    int64_t samples;
    Position position;            /* before the step */
    double (*of_part)[LOSS_SUMS]; /* for each micro-step */
    double gradient_norm;
    Mark mark;
} StepReport;

typedef struct {
    Session *session;
    RunFolder *run;
    Saver saver;
    TrainerOptions options;
    Schedule schedule;
    Position position; /* of the next step; its sums are those of the steps that have reported */
    StepReport report[2];
    Progress progress;
    int64_t epochs; /* of the run; if it ends after a number of steps, about as many as it will begin */
    int64_t
        steps; /* of the run, of which there may be a few more or fewer if it ends after a number of epochs */
    SplitTranslation *translation; /* of the validation split; NULL: BLEU is not measured */
    bool mean;                     /* divide the gradient by the batch's weight */
    double gradient_norm;
    LogView view;
    bool record;       /* let the device record the step */
    Program *enqueued; /* that of the micro-step at hand */
    bool last_part;    /* of the step that is enqueued: the optimizer follows */
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
    struct sigaction before; /* of a dropped connection, which nohup has ignored */
    if (sigaction(SIGHUP, NULL, &before) == 0 && before.sa_handler != SIG_IGN)
        (void)sigaction(SIGHUP, &action, NULL);
    action.sa_flags = SA_RESTART | (int)SA_RESETHAND; /* a second interrupt ends the process */
    (void)sigaction(SIGINT, &action, NULL);
    (void)signal(SIGXFSZ, SIG_IGN); /* a limit on the size of files is then an error like a full disk */
}

/* ---- steps ---- */

static Program *program_of(const Trainer *trainer, const BatchPart *part)
{
    return &trainer->session->train.program[part->shape];
}

static Status upload_part(Trainer *trainer, const BatchPart *part)
{
    const int64_t clock[CLOCK_COUNT] = {[CLOCK_SEED] = (int64_t)trainer->session->experiment.seed,
                                        [CLOCK_EPOCH] = trainer->position.epoch,
                                        [CLOCK_STEP] = trainer->position.step,
                                        [CLOCK_FIRST_SAMPLE] = part->first,
                                        [CLOCK_PADDING] = part->padding};
    return program_upload(program_of(trainer, part), trainer->session->device, part, clock);
}

/* What one part of a step enqueues: the same every time, so that the device can record it. */
static Status enqueue_part(void *argument)
{
    Trainer *trainer = argument;
    Session *session = trainer->session;
    TRY(plan_run(trainer->enqueued->plan));
    if (!trainer->last_part) return OK;
    const double started = progress_clock();
    TRY(optimizer_step(session->optimizer));
    if (trainer->options.log_view) TRY(device_synchronize(session->device));
    trainer->view.optimizer_seconds += progress_clock() - started;
    return OK;
}

/* Part `part` as micro-step `index` of `count`; are its results finite? */
static Status check_micro_step(Trainer *trainer, const Batch *batch, int part, int index, int count)
{
    Plan *plan = program_of(trainer, &batch->part[part])->plan;
    TRY(upload_part(trainer, &batch->part[part]));
    plan_set_micro_step(plan, index, count);
    TRY(plan_run(plan));
    return plan_check_finite(plan);
}

/* All parts, for each of them sums over ranks; then the first error. A rank that went on to the agreement at its own
 * first bad part would wait there for ranks that wait for its sums. */
static Status check_parts(Trainer *trainer, const Batch *batch, bool together)
{
    Status first = OK;
    for (int part = 0; part < batch->parts; ++part) {
        Status status =
            check_micro_step(trainer, batch, part, together ? part : 0, together ? batch->parts : 2);
        if (first == OK)
            first = status;
        else
            status_free(status);
    }
    return comm_agree(trainer->session->world, first);
}

/* The sum over ranks carries a NaN to all of them. Whose is it? The step's parts, each on its own and without
 * reducing gradients: OK on a rank whose own results are finite. */
static Status check_own_results(Trainer *trainer, const Batch *batch)
{
    return check_parts(trainer, batch, false);
}

/* And together, as they were. */
static Status check_results(Trainer *trainer, const Batch *batch)
{
    return check_parts(trainer, batch, true);
}

static Status enqueue_micro_step(Trainer *trainer, const Batch *batch, int part, double sums[LOSS_SUMS])
{
    Session *session = trainer->session;
    Program *program = program_of(trainer, &batch->part[part]);
    trainer->enqueued = program;
    trainer->last_part = part == batch->parts - 1;
    TRY(upload_part(trainer, &batch->part[part]));
    plan_set_micro_step(program->plan, part, batch->parts);
    const int which = trainer->last_part ? RECORD_LAST : part > 0 ? RECORD_MIDDLE : RECORD_FIRST;
    TRY(session_repeat(session, &program->recording[which], enqueue_part, trainer, &trainer->record));
    return device_download(session->device, sums, plan_data(program->plan, program->sums),
                           LOSS_SUMS * sizeof *sums);
}

static Status enqueue_step(Trainer *trainer, const Batch *batch, StepReport *report)
{
    Session *session = trainer->session;
    const double rate =
        schedule_learning_rate(&trainer->schedule, trainer->position.epoch, trainer->position.step + 1);
    report->position = trainer->position;
    report->pending = true;
    report->parts = batch->parts;
    report->samples = batch->samples;
    TRY(optimizer_set(session->optimizer, trainer->position.step + 1, rate,
                      trainer->mean ? 1.0 / batch->total : 1.0));
    for (int part = 0; part < batch->parts; ++part)
        TRY(enqueue_micro_step(trainer, batch, part, report->of_part[part]));
    TRY(optimizer_gradient_norm(session->optimizer, &report->gradient_norm));
    return device_mark(session->device, &report->mark);
}

/* Loss or gradient is NaN or infinite: says where, as exactly as can be known. Always an error. The step is computed
 * once more, for the device has gone on since; the parameters are what they were, unless it is the loss alone that is
 * not finite. */
static Status explain_not_finite(Trainer *trainer, const Position *position, double loss)
{
    const Batch *batch;
    trainer->position = *position;
    TRY(loader_start(trainer->session->train.loader, position->epoch, position->batch));
    TRY(loader_next(trainer->session->train.loader, &batch));
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
                          "): training stopped; %s. Lower the learning rate or clip the gradient; the cause",
                          position->step + 1, position->epoch + 1, position->batch + 1,
                          trainer->saver.step > 0 ? "the last checkpoint is kept"
                                                  : "there is no checkpoint yet");
}

/* Waits for a step and takes its report. */
static Status finish_step(Trainer *trainer, StepReport *report)
{
    Session *session = trainer->session;
    if (!report->pending) return OK;
    report->pending = false;
    TRY(collective_wait(session->collective, session->device, report->mark));
    double sums[LOSS_SUMS] = {0};
    for (int part = 0; part < report->parts; ++part)
        for (int i = 0; i < LOSS_SUMS; ++i)
            sums[i] += report->of_part[part][i];
    TRY(collective_health(session->collective));
    trainer->gradient_norm = report->gradient_norm;
    if (!isfinite(sums[LOSS_SUM]) || !isfinite(report->gradient_norm))
        return explain_not_finite(trainer, &report->position, sums[LOSS_SUM]);
    for (int i = 0; i < LOSS_SUMS; ++i)
        trainer->position.sums[i] += sums[i];
    progress_step(&trainer->progress, report->position.epoch, trainer->epochs, report->position.step + 1,
                  report->samples, trainer->position.sums[LOSS_SUM] / trainer->position.sums[LOSS_WEIGHT]);
    return OK;
}

/* Until every step that was enqueued has reported: before anything looks at the parameters. */
static Status finish_steps(Trainer *trainer)
{
    TRY(finish_step(trainer, &trainer->report[trainer->position.step % 2])); /* the earlier */
    return finish_step(trainer, &trainer->report[(trainer->position.step + 1) % 2]);
}

/* ---- epochs ---- */

static bool is_due(int64_t every, int64_t epoch) { return every > 0 && (epoch + 1) % every == 0; }

/* The model is kept where the validation split says that it is the best so far. */
static Status keep_if_best(Trainer *trainer, const EpochMetrics *metrics)
{
    const Experiment *experiment = &trainer->session->experiment;
    const Calibration *validation = &metrics->split[SPLIT_VALIDATION];
    Position *position = &trainer->position;
    bool by[MEASURES_MOST] = {false}, any = false;
    if (!metrics->has[SPLIT_VALIDATION]) return OK;
    for (int i = 0; i < experiment->checkpoint.best_count; ++i) {
        const Measure *measure = experiment->checkpoint.best[i];
        const double value = measure_value(measure, validation, metrics->bleu);
        if (!measure_is_better(measure, value, position->best[i])) continue;
        position->best[i] = value;
        any = by[i] = true;
    }
    return any ? saver_keep_best(&trainer->saver, position, by) : OK;
}

/* Counts the evaluations since the last in which the validation split was the best so far. */
static void count_for_early_stop(Trainer *trainer, const EpochMetrics *metrics)
{
    const Experiment *experiment = &trainer->session->experiment;
    const Measure *measure = experiment->early_stop.measure;
    Position *position = &trainer->position;
    if (experiment->early_stop.patience == 0 || !metrics->has[SPLIT_VALIDATION]) return;
    const double value = measure_value(measure, &metrics->split[SPLIT_VALIDATION], metrics->bleu);
    if (measure->of_translations && isnan(value)) return; /* this evaluation had none */
    ++position->stop_waited;
    if (measure_is_better(measure, value, position->stop_best)) {
        position->stop_best = value;
        position->stop_waited = 0;
    }
    if (position->stop_waited == experiment->early_stop.patience)
        log_info("training ends early: the %s of the validation split was not better in %" PRId64
                 " evaluations (early_stop)",
                 measure->name, position->stop_waited);
}

static bool is_over(const Trainer *trainer)
{
    const Experiment *experiment = &trainer->session->experiment;
    const int64_t patience = experiment->early_stop.patience;
    if (patience > 0 && trainer->position.stop_waited >= patience) return true;
    return trainer->position.epoch >= experiment->epochs || trainer->position.step >= experiment->steps;
}

/* What this job did of the epoch since the last line of metrics. */
typedef struct {
    int64_t batches; /* of the whole epoch */
    int64_t samples;
    double started; /* on the progress clock */
} EpochWork;

/* Every so many evaluations, by their place in training, so that a stop changes nothing; and at its end. */
static Status measure_bleu(Trainer *trainer, bool ends_epoch, double *bleu)
{
    static const double temperature = 1;
    const Experiment *experiment = &trainer->session->experiment;
    const Position *position = &trainer->position;
    if (trainer->translation == NULL) return OK;
    const bool last = is_over(trainer) || (ends_epoch && position->epoch + 1 >= experiment->epochs);
    const int64_t number = ends_epoch ? (position->epoch + 1) / experiment->evaluate.every
                           : last     ? 0
                                      : position->step / experiment->evaluate.every_steps;
    if (!last && number % experiment->evaluate.bleu.every != 0) return OK;
    return split_translation_bleu(trainer->translation, &temperature, 1, bleu);
}

/* The line of metrics last: what of the epoch stands elsewhere is there when somebody reads it. */
static Status write_epoch(const Trainer *trainer, const EpochMetrics *metrics)
{
    const Experiment *experiment = &trainer->session->experiment;
    char *line;
    if (dynamics_line_is_due(&metrics->training)) {
        TRY(dynamics_line(&metrics->training, metrics->epoch, metrics->step, experiment->loss.loss->name,
                          &line));
        Status status = run_folder_append(trainer->run, RUN_DYNAMICS, line);
        free(line);
        TRY(status);
    }
    TRY(epoch_metrics_json(metrics, &line));
    Status status = run_folder_append(trainer->run, RUN_METRICS, line);
    free(line);
    return status;
}

/* A line of metrics, of the epoch up to here, and whether its model is the best. What is in it of seconds is since the
 * line before, so that they add up. */
static Status report_epoch(Trainer *trainer, const EpochWork *work, EpochMoment moment)
{
    Session *session = trainer->session;
    const Task *task = session->data->task;
    const Position *position = &trainer->position;
    const double seconds = progress_clock() - work->started;
    EpochMetrics metrics = {
        .epoch = (double)position->epoch + (double)position->batch / (double)work->batches,
        .step = position->step,
        .learning_rate = schedule_learning_rate(&trainer->schedule, position->epoch, position->step),
        .train_loss = position->sums[LOSS_SUM] / position->sums[LOSS_WEIGHT],
        .train_error = 1.0 - position->sums[LOSS_CORRECT] / position->sums[LOSS_WEIGHT],
        .gradient_norm = trainer->gradient_norm,
        .seconds = seconds,
        .rate = (double)work->samples / seconds,
        .rate_name = task->rate != NULL ? task->rate : "samples_per_second",
        .unit = task->unit,
        .bleu = NAN};
    TRY(epoch_metrics_measure(session, moment, &metrics));
    if (moment.evaluated) {
        TRY(measure_bleu(trainer, moment.epoch_ends, &metrics.bleu));
        TRY(keep_if_best(trainer, &metrics));
    }
    Status status = OK;
    if (session->world->rank == 0) {
        progress_clear(&trainer->progress);
        epoch_metrics_print(&metrics, trainer->epochs);
        status = write_epoch(trainer, &metrics);
    }
    if (moment.evaluated) count_for_early_stop(trainer, &metrics);
    return comm_agree(session->world, status);
}

/* The model after a step, if it is to be kept. */
static Status keep_step(Trainer *trainer)
{
    const int64_t every = trainer->session->experiment.checkpoint.keep_steps;
    if (every == 0 || trainer->position.step % every != 0) return OK;
    TRY(finish_steps(trainer));
    return saver_keep_step(&trainer->saver, &trainer->position);
}

static Status end_epoch(Trainer *trainer, const EpochWork *work)
{
    const Experiment *experiment = &trainer->session->experiment;
    Position *position = &trainer->position;
    const int64_t epoch = position->epoch;
    const EpochMoment moment = {
        .evaluated = is_due(experiment->evaluate.every, epoch), .epoch = epoch, .epoch_ends = true};
    TRY(report_epoch(trainer, work, moment));
    if (is_due(experiment->checkpoint.keep, epoch)) TRY(saver_keep_epoch(&trainer->saver, position));
    TRY(keep_step(trainer));
    for (int i = 0; i < LOSS_SUMS; ++i)
        position->sums[i] = 0;
    ++position->epoch;
    position->batch = 0;
    if (is_over(trainer)) return saver_save(&trainer->saver, position);
    return is_due(experiment->checkpoint.epochs, epoch) ? saver_save_if_worth_it(&trainer->saver, position)
                                                        : OK;
}

/* After a step that does not end the epoch. Where training ends there, the position stays in the epoch: with more steps
 * the run goes on as if it had never stopped. */
static Status look_within_epoch(Trainer *trainer, EpochWork *work)
{
    const Experiment *experiment = &trainer->session->experiment;
    const Position *position = &trainer->position;
    const int64_t every = experiment->evaluate.every_steps;
    if (is_over(trainer) || (every > 0 && position->step % every == 0)) {
        TRY(finish_steps(trainer));
        const EpochMoment moment = {.evaluated = every > 0 || experiment->evaluate.every > 0,
                                    .epoch = position->epoch};
        TRY(report_epoch(trainer, work, moment));
        work->samples = 0;
        work->started = progress_clock();
    }
    TRY(keep_step(trainer));
    return is_over(trainer) ? saver_save(&trainer->saver, position) : OK;
}

/* A signal on any rank, or time to save, as all ranks see it. */
static Status heed_signals(Trainer *trainer)
{
    Session *session = trainer->session;
    const bool overdue = saver_is_overdue(&trainer->saver, session->experiment.checkpoint.minutes);
    bool stop = stop_asked != 0, due = false;
    TRY(comm_any(session->world, stop || overdue, &due));
    if (!due) return OK;
    TRY(comm_any(session->world, stop, &stop));
    TRY(finish_steps(trainer));
    if (trainer->saver.step != trainer->position.step) TRY(saver_save(&trainer->saver, &trainer->position));
    if (!stop) return OK;
    progress_clear(&trainer->progress);
    return fail(STATUS_INTERRUPTED,
                "stopped by a signal after step %" PRId64
                "; saved in %s. The same command goes on from there",
                trainer->position.step, trainer->run->checkpoints);
}

static int64_t batches_of(const Feed *feed, int64_t epoch)
{
    return feed->source->batches(feed->source, epoch);
}

static Status run_epoch(Trainer *trainer)
{
    Feed *feed = &trainer->session->train;
    Position *position = &trainer->position;
    EpochWork work = {.batches = batches_of(feed, position->epoch), .started = progress_clock()};
    TRY(loader_start(feed->loader, position->epoch, position->batch));
    while (!is_over(trainer)) {
        const Batch *batch;
        TRY(loader_next(feed->loader, &batch));
        if (batch == NULL) {
            work.batches = position->batch;
            break;
        }
        TRY(enqueue_step(trainer, batch, &trainer->report[position->step % 2]));
        work.samples += batch->samples;
        ++position->step;
        ++position->batch;
        TRY(finish_step(trainer, &trainer->report[position->step % 2])); /* the one before */
        if (position->batch == work.batches) continue;
        TRY(look_within_epoch(trainer, &work));
        TRY(heed_signals(trainer));
    }
    TRY(finish_steps(trainer));
    if (position->batch == work.batches) TRY(end_epoch(trainer, &work));
    return heed_signals(trainer);
}

/* ---- the run ---- */

/* Of epochs that somebody has written down: the default's are for long runs. */
static void warn_of_late_step(const Config *config, const Schedule *schedule, int64_t epochs)
{
    if (!config_is_set(config, "schedule.epochs")) return;
    const int last = schedule->epoch_count - 1;
    if (last >= 0 && schedule->epochs[last] >= epochs)
        log_warning("schedule.epochs: the step at epoch %" PRId64 " is never taken: there are %" PRId64
                    " epochs, from 0",
                    schedule->epochs[last], epochs);
}

/* How many epochs and steps that will be. Epochs are alike, but for a few batches of text. */
static void plan_length(Trainer *trainer, int64_t batches)
{
    const Experiment *experiment = &trainer->session->experiment;
    const int64_t begun =
        experiment->steps < INT64_MAX ? (experiment->steps - 1) / batches + 1 : experiment->epochs;
    trainer->epochs = begun < experiment->epochs ? begun : experiment->epochs;
    const int64_t steps = trainer->epochs * batches;
    trainer->steps = steps < experiment->steps ? steps : experiment->steps;
}

/* Before the first step, so that nothing runs out of memory later. */
static Status open_translation(Trainer *trainer)
{
    Session *session = trainer->session;
    const Experiment *experiment = &session->experiment;
    SplitTranslationOptions options = split_translation_defaults();
    if (!experiment->evaluate.bleu.wanted) return OK;
    if (session->data->count[SPLIT_VALIDATION] == 0)
        return config_error(experiment->config, "evaluate.bleu", "there is no validation split");
    if (experiment->evaluate.bleu.greedy) options.lines.search.method = SEARCH_GREEDY;
    options.lines.search.beam = experiment->evaluate.bleu.beam;
    return split_translation_open(session, SPLIT_VALIDATION, &options, &trainer->translation);
}

static Status train(Trainer *trainer)
{
    Session *session = trainer->session;
    const Experiment *experiment = &session->experiment;
    const Feed *feed = &session->train;
    plan_length(trainer, batches_of(feed, 0));
    trainer->schedule = experiment->schedule;
    trainer->schedule.total_steps = trainer->steps;
    trainer->record = experiment->record && !trainer->options.log_view;
    trainer->mean = experiment->loss.reduction == REDUCTION_MEAN;
    warn_of_late_step(experiment->config, &trainer->schedule, trainer->epochs);
    if (experiment->early_stop.patience > 0 && session->data->count[SPLIT_VALIDATION] == 0)
        return config_error(experiment->config, "early_stop.patience", "there is no validation split");
    TRY(open_translation(trainer));
    for (int i = 0; i < 2; ++i)
        TRY(comm_agree(session->world, memory_new(&trainer->report[i].of_part, (size_t)feed->source->parts,
                                                  sizeof *trainer->report[i].of_part, "reports of steps")));
    TRY(saver_open(&trainer->saver, session, trainer->run, &trainer->position));
    if (trainer->saver.restored[0] != '\0')
        log_info("going on after step %" PRId64 " (epoch %" PRId64 ")", trainer->position.step,
                 trainer->position.epoch + 1);
    progress_start(&trainer->progress, session->world->rank == 0 && !trainer->options.quiet,
                   session->data->task->unit, trainer->position.step, trainer->steps);
    while (!is_over(trainer))
        TRY(run_epoch(trainer));
    TRY(evaluate_trained(session, trainer->run, trainer->position.step, trainer->options.quiet));
    trainer->view.data_seconds = loader_waited(feed->loader);
    if (trainer->options.log_view) TRY(log_view_print(&trainer->view, session));
    return OK;
}

Status trainer_run(Session *session, RunFolder *run, TrainerOptions options)
{
    Trainer trainer = {.session = session, .run = run, .options = options};
    Status status = train(&trainer);
    /* After an error reports may still be on their way to where they are freed. */
    status_free(device_synchronize(session->device));
    for (int i = 0; i < 2; ++i)
        free(trainer.report[i].of_part);
    split_translation_close(trainer.translation);
    saver_close(&trainer.saver);
    return status;
}
