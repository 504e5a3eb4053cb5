#include "launch/train/experiment.h"

#include "engine/base/safetensors.h"

#include <inttypes.h>
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

static OptimizerOptions read_optimizer(const Config *config)
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

/* A step out of order, or twice, is a slip: the rate falls at every epoch of the list, in whatever order. */
static Status check_epochs(const Config *config, const Schedule *schedule)
{
    for (int i = 1; i < schedule->epoch_count; ++i)
        if (schedule->epochs[i] <= schedule->epochs[i - 1])
            return config_error(config, "schedule.epochs", "must rise, but %" PRId64 " follows %" PRId64,
                                schedule->epochs[i], schedule->epochs[i - 1]);
    return OK;
}

static Status read_schedule(const Config *config, Schedule *schedule)
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
        schedule->final_rate = config_real(config, "schedule.final_rate");
    } else if (strcmp(schedule->name, "inverse_square_root") == 0) {
        schedule->model_width = config_integer(config, "schedule.model_width");
    }
    return OK;
}

static const Measure *read_best(const Config *config, const Task *task)
{
    const char *name = config_text(config, "checkpoint.best");
    return measure_find(strcmp(name, "auto") == 0 ? task->best : name);
}

/* What is read for training alone. */
static Status read_training(const Config *config, Experiment *experiment)
{
    experiment->epochs = config_integer(config, "epochs");
    experiment->init = config_text(config, "init");
    experiment->optimizer = read_optimizer(config);
    experiment->evaluate.every = config_integer(config, "evaluate.every");
    experiment->checkpoint.epochs = config_integer(config, "checkpoint.epochs");
    experiment->checkpoint.keep = config_integer(config, "checkpoint.keep");
    experiment->checkpoint.best = read_best(config, experiment->data->task);
    experiment->checkpoint.minutes = config_real(config, "checkpoint.minutes");
    return read_schedule(config, &experiment->schedule);
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
