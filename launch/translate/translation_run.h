/* A run that translates, opened for use: its settings, its subwords, a device, and a checkpoint for a store. */
#ifndef PLUMB_LAUNCH_TRANSLATE_TRANSLATION_RUN_H
#define PLUMB_LAUNCH_TRANSLATE_TRANSLATION_RUN_H

#include "comm/comm.h"
#include "engine/plan/store.h"
#include "launch/runs/run_folder.h"
#include "launch/train/experiment.h"
#include "launch/train/run_use.h"
#include "nlp/subwords.h"

typedef struct {
    World *world;
    RunFolder folder;
    Config *config;
    Experiment experiment;
    Subwords *subwords;
    Transformer network; /* with its vocabulary */
    Device *device;
} TranslationRun;

/* STATUS_INPUT for a folder that is no run, and for a run of another task, which it names. Collective. Release with
 * translation_run_close, also after an error. */
CHECKED Status translation_run_open(World *, const char *path, const RunUse *, TranslationRun *);
void translation_run_close(TranslationRun *);

/* Tokens of a sentence with its end token: as many as wished for, 0: as training allowed; but no more than the network has
 * positions, where these are learned. */
int64_t translation_run_longest(const TranslationRun *, int64_t wished);

/* Loads one of KEPT_MODEL_NAMES (launch/runs/kept_models.h), trained with the run's subwords, into a store of
 * the network. Collective: all ranks have the same one. */
CHECKED Status translation_run_load(TranslationRun *, const char *checkpoint, Store *);

/* The temperature that the run's evaluation chose on the validation split, by its calibration error. STATUS_INPUT if there
 * was no evaluation, or no temperature in it. Warns where the evaluation was of another model than `checkpoint`. */
CHECKED Status translation_run_temperature(const TranslationRun *, const char *checkpoint,
                                           double *temperature);

#endif
