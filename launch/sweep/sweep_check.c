#include "launch/sweep/sweep_check.h"

#include "engine/base/file.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "launch/runs/run_folder.h"
#include "launch/settings.h"
#include "launch/train/session.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const SweepPlan *plan;
    const char *folder;
    bool elsewhere;
    bool gpus;    /* a run that is to be done may use them */
    char **files; /* descriptions of those that have been opened */
    size_t file_count, file_capacity;
    int late_runs; /* complete ones, for which settings come too late */
    char *late;    /* those of the first such run */
} Check;

/* ---- files ---- */

/* All that the opening of a run's data and starting weights depends on, as text. */
static Status describe_files(const Experiment *experiment, bool goes_on, char **text)
{
    char *data;
    TRY(experiment->data->task->identity(experiment->data, &data));
    Status status = text_format(text, "%s %s %d", data, experiment->init, goes_on);
    free(data);
    return status;
}

static Status open_once(Check *check, const Experiment *experiment, bool goes_on)
{
    char *text;
    TRY(describe_files(experiment, goes_on, &text));
    bool known = false;
    for (size_t i = 0; i < check->file_count && !known; ++i)
        known = strcmp(check->files[i], text) == 0;
    Status status = known ? OK
                          : memory_grow(&check->files, &check->file_capacity, check->file_count + 1,
                                        sizeof *check->files, "sweep");
    if (known || status != OK) {
        free(text);
        return status;
    }
    check->files[check->file_count++] = text;
    if (!goes_on) TRY(experiment_check_init(experiment));
    return experiment->data->task->load(experiment->data, experiment->config);
}

/* A run that goes on needs no files of starting values. */
static Status check_files(Check *check, const Config *config, const char *run, bool goes_on)
{
    Experiment experiment;
    const TaskShare share = {
        .ranks = check->elsewhere ? 1 : check->plan->ranks, .training = true, .goes_on = goes_on};
    Status status = experiment_read(config, share, &experiment);
    if (status == OK) status = open_once(check, &experiment, goes_on);
    experiment_free(&experiment);
    if (status == OK || !check->elsewhere) return status;
    log_warning("run %s: %s\n(as seen from here; the runs start where PLUMB_MPIRUN puts them)", run,
                status_message(status));
    status_free(status);
    return OK;
}

/* ---- runs ---- */

static Status note_late_settings(Check *check, const RunFolder *folder, const Config *config)
{
    char *settings;
    TRY(run_folder_too_late(folder, config, &settings));
    if (settings[0] != '\0' && check->late_runs++ == 0)
        check->late = settings;
    else
        free(settings);
    return OK;
}

static Status check_with(Check *check, const SweepRun *run, const Config *config)
{
    char path[PATH_MAX], latest[64];
    RunFolder folder;
    TRY(session_check_config(config, check->elsewhere ? 1 : check->plan->ranks));
    TRY(file_join(path, check->folder, run->name));
    TRY(run_folder_attach(path, &folder));
    TRY(run_folder_check_config(&folder, config));
    if (run_folder_is_complete(&folder)) return note_late_settings(check, &folder, config);
    check->gpus = check->gpus || strcmp(config_text(config, "device"), "cpu") != 0;
    TRY(run_folder_latest(&folder, latest));
    return check_files(check, config, run->name, latest[0] != '\0');
}

static Status check_run(Check *check, const SweepRun *run)
{
    int settings;
    const Setting *table = settings_table(&settings);
    Config *config;
    TRY(config_load_with(table, settings, run->config, run->override_count, run->override, &config));
    Status status = check_with(check, run, config);
    config_free(config);
    return status;
}

Status sweep_check(const SweepPlan *plan, const char *folder, bool elsewhere, bool *gpus)
{
    Check check = {.plan = plan, .folder = folder, .elsewhere = elsewhere};
    Status status = OK;
    for (int i = 0; i < plan->run_count && status == OK; ++i) {
        status = check_run(&check, &plan->run[i]);
        if (status != OK) status = status_context(status, "run %s", plan->run[i].name);
    }
    if (status == OK && check.late_runs > 0)
        log_warning("%d runs are complete and stay as they are; settings that come too late: %s",
                    check.late_runs, check.late);
    *gpus = check.gpus;
    free(check.late);
    for (size_t i = 0; i < check.file_count; ++i)
        free(check.files[i]);
    free(check.files);
    return status;
}
