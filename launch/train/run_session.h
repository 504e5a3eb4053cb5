/* What a session needs of a run that is there: its config for other work than training, and a checkpoint. */
#ifndef PLUMB_LAUNCH_TRAIN_RUN_SESSION_H
#define PLUMB_LAUNCH_TRAIN_RUN_SESSION_H

#include "launch/runs/run_folder.h"
#include "launch/train/run_use.h"
#include "launch/train/session.h"

/* The run's config for an evaluation by these ranks, which may be others than those that trained. data: the folder of the data
 * now; NULL: where the run's folder says, if they are there. cache: the folder for what is made of them; NULL: the run's. What a run keeps of its data (Task.run_file) is taken from there.
 * Release with config_free. Not collective. */
CHECKED Status run_config_load(const World *, const RunFolder *, const RunUse *, const char *data,
                               const char *cache, Config **);

/* Loads one of KEPT_MODEL_NAMES (launch/runs/kept_models.h); of a "last" one that is damaged the one before, with a warning. *step:
 * of training; 0 where the file does not say. STATUS_INPUT for another vocabulary, and where ranks found different ones.
 * Collective. */
CHECKED Status run_checkpoint_load(Session *, const RunFolder *, const char *which, int64_t *step);

#endif
