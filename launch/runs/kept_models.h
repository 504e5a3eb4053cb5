/* The models that a run keeps beside its checkpoints (checkpoint.keep, checkpoint.keep_steps): files epoch-NNNN.model.safetensors and
 *
 * kept-NNNNNNNNNN.model.safetensors, of an epoch and of a step; and which of a run's models a name means. */
#ifndef PLUMB_LAUNCH_RUNS_KEPT_MODELS_H
#define PLUMB_LAUNCH_RUNS_KEPT_MODELS_H

#include "engine/base/safetensors.h"
#include "launch/runs/run_folder.h"

typedef enum { KEPT_EPOCH, KEPT_STEP } KeptKind;

/* "epoch-0010", "kept-0000001000" */
void kept_model_stem(KeptKind, int64_t number, char stem[64]);
/* Their numbers, rising; release with free(). Any rank. */
CHECKED Status kept_models_list(const RunFolder *, KeptKind, int64_t **numbers, int *count);
/* Removes all but the last so many. Rank 0. */
CHECKED Status kept_models_prune(const RunFolder *, KeptKind, int64_t last);

/* What --checkpoint may name. */
#define KEPT_MODEL_NAMES                                                                                     \
    "best, best-MEASURE, last, average, an epoch's number, step:NUMBER or a file.safetensors"
/* Is it the path of a file, and not a name in the run? */
bool kept_model_is_file(const char *which);
/* The stem of the model that `which` names: all of KEPT_MODEL_NAMES but a file, or the stem itself ("kept-0000001000"). STATUS_USAGE for what is no such name,
 * STATUS_INPUT for a model that is not there, which says why. Any rank. */
CHECKED Status kept_model_find(const RunFolder *, const char *which, char stem[64]);
/* The step of training that a model's file is of; 0: of none, as an average is, or the file does not say. */
int64_t kept_model_step(const SafeFile *);

#endif
