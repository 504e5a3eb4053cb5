/* A run's directory: its state is its files.
 *
 *   config.yaml                  the resolved config
 *   environment.json             machine, versions, ranks
 *   metrics.jsonl                one object an epoch
 *   dynamics.jsonl               one object for each epoch after which the training split was looked at (launch/train/dynamics_line.h)
 *   checkpoints/                 step-NNNNNNNNNN.*, best.*, best-MEASURE.*, epoch-NNNN.*, kept-NNNNNNNNNN.* (kept_models.h),
 *                                average.*
 *   test.logits.npy, test.labels.npy, validation.*
 *                                predictions of the end
 *   extensions.jsonl             when the run was given more epochs (run_extension.h)
 *   best_models.json             the final evaluation of the models best.* and best-MEASURE.*
 *   evaluation.json              the final evaluation; its presence says that the run is complete
 *   failure.txt                  why the last job on the run failed; gone once another begins
 *   lock                         held while a job works on the run
 *
 * All functions are called by rank 0 alone unless said otherwise. */
#ifndef PLUMB_LAUNCH_RUNS_RUN_FOLDER_H
#define PLUMB_LAUNCH_RUNS_RUN_FOLDER_H

#include "comm/comm.h"
#include "engine/base/config.h"
#include "engine/base/file.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    char path[PATH_MAX], checkpoints[PATH_MAX];
    FileLock *lock;
} RunFolder;

/* Creates or reopens `path`, takes its lock, and checks that a config already there is this one (but for
 * settings that do not change the result, and for more epochs, with which the run is no longer complete). The config of a complete run stays as it is: what the run was made
 * with. STATUS_BUSY when another job holds it; STATUS_IO when it cannot be written. */
CHECKED Status run_folder_open(const char *path, const Config *, const World *, RunFolder *);
/* That there is such a folder, and that plumb train made it. Any rank. */
CHECKED Status run_folder_check(const char *path);
/* For reading only: no lock. Any rank. */
CHECKED Status run_folder_attach(const char *path, RunFolder *);
void run_folder_close(RunFolder *);

/* Where the data of a run are whose config says `folder` (dataset.folder) and `name` (dataset.name), as an absolute path:
 * relative ones were meant from where the run trained. False: nothing is known, or nothing there; then it is as the config
 * says. Any rank. */
bool run_folder_find_data(const RunFolder *, const char *folder, const char *name, char found[PATH_MAX]);

/* Leaves word of why a job failed, unless one is there already. `run` is open; or attached only, for a job
 * that could not speak for itself, and then nothing is written while another works on the run. A failure
 * that cannot be noted is not: the user must hear of the first one. */
void run_folder_note_failure(const RunFolder *, const char *message);
/* Another job is to try. */
void run_folder_forget_failure(const RunFolder *);

bool run_folder_is_complete(const RunFolder *);

/* The files that grow while the run trains: lines that are objects with a "step". */
#define RUN_METRICS "metrics.jsonl"
#define RUN_DYNAMICS "dynamics.jsonl"
CHECKED Status run_folder_append(const RunFolder *, const char *file, const char *line);
/* Of all of them: drops lines of steps after `step` (they will come again) and half-written ones. */
CHECKED Status run_folder_rewind(const RunFolder *, int64_t step);

#define RUN_BEST_MODELS "best_models.json"
CHECKED Status run_folder_write_best_models(const RunFolder *, const char *json);
/* The mark of completeness; the last thing a run writes. */
CHECKED Status run_folder_write_evaluation(const RunFolder *, const char *json);

/* STATUS_INPUT if the run has trained with another config (settings that do not touch the result aside). */
CHECKED Status run_folder_check_config(const RunFolder *, const Config *);
/* Of a complete run: the settings, among those that do not touch the result, which it was made with otherwise
 * than the config says, and which therefore come too late: "evaluate.bins: 20 (it has 15), ..."; empty if there
 * are none. Release with free(). */
CHECKED Status run_folder_too_late(const RunFolder *, const Config *, char **settings);
/* The newest training checkpoint's stem ("step-0000000352"), empty if there is none. Any rank. */
CHECKED Status run_folder_latest(const RunFolder *, char stem[64]);
/* The newest one that is older than the stem `before`, or empty. Any rank. */
CHECKED Status run_folder_before(const RunFolder *, const char *before, char stem[64]);
/* Removes every training checkpoint, and every left-over of interrupted writes, but `keep` and the newest one that is
 * older, which is for the case that `keep` is damaged. */
CHECKED Status run_folder_prune(const RunFolder *, const char *keep);

/* May a run change this setting when it goes on? Those do not touch what is trained. */
bool run_setting_is_harmless(const char *name);

/* A hash of all settings that change the result and are not at their defaults. */
CHECKED Status run_config_hash(const Config *, uint64_t *hash);

#endif
