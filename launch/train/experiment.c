#include "launch/train/experiment.h"

#include "engine/base/memory.h"
#include "engine/base/safetensors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static bool is_text(const Config *config, const char *name, const char *text)
{
    return strcmp(config_text(config, name), text) == 0;
}

static DType read_type(const Config *config, const char *name)
{
    return is_text(config, name, "bfloat16") ? BFLOAT16 : FLOAT32;
}

static DeviceWish read_device(const Config *config)
{
    if (is_text(config, "device", "cpu")) return DEVICE_WISH_CPU;
    return is_text(config, "device", "cuda") ? DEVICE_WISH_CUDA : DEVICE_WISH_AUTO;
}

static CommOptions read_comm(const Config *config)
{
    return (CommOptions){.kind = config_text(config, "collective"),
                         .timeout_seconds = config_real(config, "comm.timeout_seconds"),
                         .step_seconds = config_real(config, "comm.step_seconds"),
                         .deterministic = config_flag(config, "deterministic")};
}

static PlanOptions read_plan(const Config *config)
{
    PlanOptions options = PLAN_DEFAULTS;
    options.share_memory = config_flag(config, "plan.share_memory");
    options.bucket_bytes = config_integer(config, "comm.bucket_bytes");
    options.gradient_type = read_type(config, "comm.gradients");
    return options;
}

/* What the rules take by which any parameter steps. */
static unsigned all_take(const OptimizerOptions *options)
{
    unsigned takes = optimizer_takes(options->name);
    for (int g = 0; g < options->group_count; ++g)
        if (options->groups[g].name != NULL) takes |= optimizer_takes(options->groups[g].name);
    return takes;
}

static Status check_sparse(const Config *row, const OptimizerGroup *group, const OptimizerOptions *options,
                           int64_t micro_batches)
{
    const char *rule = group->name != NULL ? group->name : options->name;
    const bool momentum = group->name == NULL && options->momentum != 0;
    if (momentum || (optimizer_takes(rule) & OPTIMIZER_STEPS_ALL_ROWS) != 0)
        return config_error(
            row, "sparse",
            "%s steps also the rows that a batch does not use; give the group the rule sgd or adagrad",
            momentum ? "momentum" : rule);
    if (group->weight_decay != 0)
        return config_error(row, "sparse",
                            "weight decay steps also the rows that a batch does not use; give the group "
                            "weight_decay: 0");
    if (micro_batches > 1)
        return config_error(row, "sparse",
                            "the rows of %" PRId64
                            " micro-batches cannot be gathered; set micro_batches to 1, or sparse: "
                            "false, which takes the same steps",
                            micro_batches);
    return OK;
}

static Status read_group(const Config *config, const Config *row, const OptimizerOptions *options,
                         OptimizerGroup *group)
{
    static const char *const required[] = {"parameters", NULL};
    TRY(config_require(row, required));
    *group = (OptimizerGroup){.parameters = config_text(row, "parameters"),
                              .learning_rate_factor = 1,
                              .frozen = config_flag(row, "frozen")};
    if (group->frozen) return OK;
    const char *rule = config_text(row, "rule");
    group->name = rule[0] != '\0' ? rule : NULL;
    group->learning_rate_factor = config_real(row, "learning_rate_factor");
    group->weight_decay = config_real(row, "weight_decay");
    if (group->weight_decay == -1)
        group->weight_decay = options->weight_decay;
    else if (group->weight_decay < 0)
        return config_error(row, "weight_decay", "%g is negative; only -1 has a meaning: as the optimizer's",
                            group->weight_decay);
    group->sparse = config_flag(row, "sparse");
    return group->sparse ? check_sparse(row, group, options, config_integer(config, "micro_batches")) : OK;
}

static Status read_groups(const Config *config, OptimizerOptions *options, OptimizerGroup **groups)
{
    const int count = config_rows(config, "optimizer.groups");
    if (count == 0) return OK;
    TRY(memory_new(groups, (size_t)count, sizeof **groups, "optimizer.groups"));
    for (int g = 0; g < count; ++g)
        TRY(read_group(config, config_row(config, "optimizer.groups", g), options, &(*groups)[g]));
    options->groups = *groups;
    options->group_count = count;
    return OK;
}

static Status read_optimizer(const Config *config, Experiment *experiment)
{
    OptimizerOptions options = {.name = config_text(config, "optimizer.name"),
                                .weight_decay = config_real(config, "optimizer.weight_decay"),
                                .clip_norm = config_real(config, "optimizer.clip_norm")};
    if ((optimizer_takes(options.name) & OPTIMIZER_TAKES_MOMENTUM) != 0) {
        options.momentum = config_real(config, "optimizer.momentum");
        options.nesterov = config_flag(config, "optimizer.nesterov");
        if (options.nesterov && options.momentum == 0)
            return config_error(config, "optimizer.nesterov",
                                "needs momentum: set optimizer.momentum above 0");
    }
    TRY(read_groups(config, &options, &experiment->groups));
    const unsigned takes = all_take(&options);
    if ((takes & OPTIMIZER_TAKES_EPSILON) != 0) options.epsilon = config_real(config, "optimizer.epsilon");
    if ((takes & OPTIMIZER_TAKES_BETAS) != 0) {
        options.beta1 = config_real(config, "optimizer.beta1");
        options.beta2 = config_real(config, "optimizer.beta2");
    }
    experiment->optimizer = options;
    return OK;
}

/* A step out of order, or twice, is a slip: the rate falls at every epoch of the list, in whatever order. */
static Status check_epochs(const Config *config, const Schedule *schedule)
{
    for (int i = 1; i < schedule->epoch_count; ++i)
        if (schedule->epochs[i] <= schedule->epochs[i - 1])
            return config_error(config, "schedule.epochs", "must rise, but %" PRId64 " follows %" PRId64,
                                schedule->epochs[i], schedule->epochs[i - 1]);
    return OK;
}

static Status read_schedule(const Config *config, const ModelOptions *model, Schedule *schedule)
{
    *schedule = (Schedule){.name = config_text(config, "schedule.name"),
                           .learning_rate = config_real(config, "optimizer.learning_rate"),
                           .warmup_steps = config_integer(config, "schedule.warmup_steps")};
    const unsigned takes = schedule_takes(schedule->name);
    if ((takes & SCHEDULE_TAKES_EPOCHS) != 0) {
        schedule->epoch_count = config_integers(config, "schedule.epochs", &schedule->epochs);
        schedule->factor = config_real(config, "schedule.factor");
        schedule->one_epoch_early = config_flag(config, "compat.early_schedule");
        TRY(check_epochs(config, schedule));
    }
    if ((takes & SCHEDULE_TAKES_FINAL_RATE) != 0)
        schedule->final_rate = config_real(config, "schedule.final_rate");
    if ((takes & SCHEDULE_TAKES_DECAY) != 0) schedule->decay = config_real(config, "schedule.decay");
    if ((takes & SCHEDULE_TAKES_MODEL_WIDTH) != 0)
        schedule->model_width =
            model->model_width > 0 ? model->model_width : config_integer(config, "schedule.model_width");
    return OK;
}

static const Measure *measure_of(const char *name, const Task *task)
{
    return measure_find(strcmp(name, "auto") == 0 ? task->best : name);
}

/* Those whose models are kept as "best" (the first) and "best-NAME". */
static Status read_best(const Config *config, const Task *task, const Measure *best[MEASURES_MOST],
                        int *count)
{
    const char *const *names;
    *count = 0;
    const int named = config_texts(config, "checkpoint.best", &names);
    if (named == 0)
        return config_error(config, "checkpoint.best", "names no measure; leave it away for the task's own");
    for (int i = 0; i < named; ++i) {
        const Measure *measure = measure_of(names[i], task);
        for (int k = 0; k < *count; ++k)
            if (best[k] == measure)
                return config_error(config, "checkpoint.best", "%s is named twice", measure->name);
        best[(*count)++] = measure;
    }
    return OK;
}

/* BLEU is measured where the config says by which search. */
static Status check_measure(const Config *config, const char *setting, const Measure *measure,
                            const Experiment *experiment)
{
    if (!measure->of_translations || experiment->evaluate.bleu.wanted) return OK;
    if (!experiment->data->task->translates)
        return config_error(config, setting, "bleu is a measure of translations, not of %s",
                            experiment->data->task->unit);
    return config_error(config, setting, "bleu needs translations: set evaluate.bleu to greedy or beam");
}

static void read_bleu(const Config *config, Experiment *experiment)
{
    if (!experiment->data->task->translates) return;
    const char *search = config_text(config, "evaluate.bleu");
    experiment->evaluate.bleu.wanted = strcmp(search, "none") != 0;
    if (!experiment->evaluate.bleu.wanted) return;
    experiment->evaluate.bleu.greedy = strcmp(search, "greedy") == 0;
    experiment->evaluate.bleu.beam =
        experiment->evaluate.bleu.greedy ? 1 : (int)config_integer(config, "evaluate.bleu_beam");
    experiment->evaluate.bleu.every = config_integer(config, "evaluate.bleu_every");
}

static Status read_early_stop(const Config *config, Experiment *experiment)
{
    experiment->early_stop.patience = config_integer(config, "early_stop.patience");
    if (experiment->early_stop.patience == 0) return OK;
    experiment->early_stop.measure =
        measure_of(config_text(config, "early_stop.measure"), experiment->data->task);
    TRY(check_measure(config, "early_stop.measure", experiment->early_stop.measure, experiment));
    if (experiment->evaluate.every == 0 && experiment->evaluate.every_steps == 0)
        return config_error(config, "early_stop.patience",
                            "needs evaluations: set evaluate.every or evaluate.every_steps");
    return OK;
}

/* The default of epochs is no limit for somebody who counts steps. */
static void read_length(const Config *config, Experiment *experiment)
{
    const int64_t steps = config_integer(config, "steps");
    experiment->steps = steps > 0 ? steps : INT64_MAX;
    experiment->epochs =
        steps > 0 && !config_is_set(config, "epochs") ? INT64_MAX : config_integer(config, "epochs");
}

static Status read_ood(const Config *config, OodChoices *choices)
{
    static const char *const required[] = {"name", NULL};
    const int count = config_rows(config, "evaluate.ood");
    if (count > OOD_MOST_SETS)
        return config_error(config, "evaluate.ood", "at most %d sets", (int)OOD_MOST_SETS);
    for (int i = 0; i < count; ++i) {
        const Config *row = config_row(config, "evaluate.ood", i);
        TRY(config_require(row, required));
        choices->choice[i] = (OodChoice){config_text(row, "name"), config_text(row, "from")};
        choices->count = i + 1;
        TRY(config_error_of(row, "name", ood_choice_check(choices, i)));
    }
    return OK;
}

static EpochList read_epochs(const Config *config, const char *name)
{
    EpochList list;
    list.count = config_integers(config, name, &list.epoch);
    return list;
}

/* Logits that are too many to be kept are too many to be looked at one by one. */
static void read_dynamics(const Config *config, Experiment *experiment)
{
    experiment->evaluate.norms = config_flag(config, "evaluate.norms");
    experiment->evaluate.best_models = config_flag(config, "evaluate.best_models");
    if (experiment->data->task->streams) return;
    experiment->evaluate.gradient_norms = read_epochs(config, "evaluate.gradient_norms");
    experiment->evaluate.train_reliability = read_epochs(config, "evaluate.train_reliability");
}

/* What is read for training alone. */
static Status read_training(const Config *config, Experiment *experiment)
{
    read_length(config, experiment);
    experiment->init = config_text(config, "init");
    experiment->init_parameters = experiment->init[0] != '\0' ? config_text(config, "init_parameters") : "";
    TRY(read_optimizer(config, experiment));
    experiment->evaluate.every = config_integer(config, "evaluate.every");
    experiment->evaluate.train = config_flag(config, "evaluate.train");
    if (experiment->evaluate.train)
        experiment->evaluate.train_every = config_integer(config, "evaluate.train_every");
    experiment->evaluate.every_steps = config_integer(config, "evaluate.every_steps");
    read_dynamics(config, experiment);
    if (experiment->data->task->outside != NULL) TRY(read_ood(config, &experiment->evaluate.ood));
    experiment->checkpoint.epochs = config_integer(config, "checkpoint.epochs");
    experiment->checkpoint.keep = config_integer(config, "checkpoint.keep");
    experiment->checkpoint.keep_steps = config_integer(config, "checkpoint.keep_steps");
    if (experiment->checkpoint.keep > 0 || experiment->checkpoint.keep_steps > 0)
        experiment->checkpoint.keep_last = config_integer(config, "checkpoint.keep_last");
    read_bleu(config, experiment);
    TRY(read_best(config, experiment->data->task, experiment->checkpoint.best,
                  &experiment->checkpoint.best_count));
    for (int i = 0; i < experiment->checkpoint.best_count; ++i)
        TRY(check_measure(config, "checkpoint.best", experiment->checkpoint.best[i], experiment));
    TRY(read_early_stop(config, experiment));
    experiment->checkpoint.minutes = config_real(config, "checkpoint.minutes");
    return read_schedule(config, &experiment->model, &experiment->schedule);
}

static Status check_fit(const Config *config, const Experiment *experiment)
{
    const Model *model = experiment->model.model;
    const Task *task = experiment->data->task;
    if (model->input != task->input)
        return config_error(config, "model.name", "the network %s does not take %s, which %s holds",
                            model->name, task->unit, experiment->data->dataset);
    return OK;
}

Status experiment_read(const Config *config, TaskShare share, Experiment *experiment)
{
    const Task *task;
    *experiment = (Experiment){.config = config};
    TRY(model_read(config, &experiment->model));
    TRY(loss_read(config, &experiment->loss));
    TRY(task_find(config, &task));
    TRY(task->describe(config, share, &experiment->model, &experiment->data));
    TRY(check_fit(config, experiment));
    experiment->seed = (uint64_t)config_integer(config, "seed");
    experiment->compute = read_type(config, "compute");
    experiment->fuse = config_flag(config, "plan.fuse");
    experiment->record = config_flag(config, "graph");
    experiment->trains = share.training;
    experiment->device = read_device(config);
    experiment->threads = (int)config_integer(config, "threads");
    experiment->share_gpus = config_flag(config, "share_gpus");
    experiment->numerics = (DeviceNumerics){.deterministic = config_flag(config, "deterministic"),
                                            .tf32 = config_flag(config, "tf32")};
    experiment->comm = read_comm(config);
    experiment->plan = read_plan(config);
    experiment->evaluate.bins = (int)config_integer(config, "evaluate.bins");
    experiment->evaluate.bootstrap = config_integer(config, "evaluate.bootstrap");
    return share.training ? read_training(config, experiment) : OK;
}

void experiment_free(Experiment *experiment)
{
    task_data_free(experiment->data);
    experiment->data = NULL;
    free(experiment->groups);
    experiment->groups = NULL;
}

bool experiment_wants_norms(const Experiment *experiment)
{
    return (experiment->evaluate.train && experiment->evaluate.norms) ||
           experiment->evaluate.gradient_norms.count > 0;
}

Status experiment_check_init(const Experiment *experiment)
{
    if (experiment->init[0] == '\0') return OK;
    SafeFile *file;
    const Status status = safetensors_open(experiment->init, &file);
    if (status != OK) return status_context(status, "init");
    safetensors_close(file);
    return OK;
}
