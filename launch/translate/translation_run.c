#include "launch/translate/translation_run.h"

#include "engine/base/safetensors.h"
#include "engine/plan/checkpoint.h"
#include "launch/runs/kept_models.h"
#include "launch/runs/run_temperature.h"
#include "launch/settings.h"
#include "launch/train/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- opening ---- */

static Status read_config(TranslationRun *run, const RunUse *use)
{
    char path[PATH_MAX];
    int settings;
    const Setting *table = settings_table(&settings);
    TRY(file_join(path, run->folder.path, "config.yaml"));
    const char *words[RUN_USE_WORDS];
    const int count = run_use_words(use, words);
    TRY(config_load(table, settings, path, count, words, &run->config));
    const Task *task;
    TRY(task_find(run->config, &task));
    if (!task->translates)
        return fail(STATUS_INPUT, "%s translates nothing: it is a run on %s (%s); plumb predict is for it",
                    run->folder.path, task->name, config_text(run->config, "dataset.name"));
    const TaskShare share = {.rank = run->world->rank, .ranks = run->world->size, .training = false};
    return experiment_read(run->config, share, &run->experiment);
}

static Status read_subwords(TranslationRun *run)
{
    static const SubwordsKind kinds[] = {SUBWORDS_PIECES, SUBWORDS_WORDS};
    char path[PATH_MAX];
    for (int i = 0; i < 2; ++i) {
        TRY(file_join(path, run->folder.path, subwords_file_name(kinds[i])));
        if (file_exists(path)) return subwords_read(path, kinds[i], &run->subwords);
    }
    return fail(STATUS_INPUT, "%s holds no subwords (%s or %s): the run has not begun to train",
                run->folder.path, subwords_file_name(SUBWORDS_PIECES), subwords_file_name(SUBWORDS_WORDS));
}

static Status open_here(TranslationRun *run, const char *path, const RunUse *use)
{
    TRY(run_folder_check(path));
    TRY(run_folder_attach(path, &run->folder));
    TRY(read_config(run, use));
    TRY(read_subwords(run));
    run->network = run->experiment.model.transformer;
    run->network.vocabulary = subwords_size(run->subwords);
    run->experiment.data->vocabulary_hash = subwords_hash(run->subwords);
    return session_open_device(run->world, &run->experiment, &run->device);
}

Status translation_run_open(World *world, const char *path, const RunUse *use, TranslationRun *run)
{
    *run = (TranslationRun){.world = world};
    return comm_agree(world, open_here(run, path, use));
}

void translation_run_close(TranslationRun *run)
{
    device_close(run->device);
    subwords_free(run->subwords);
    experiment_free(&run->experiment);
    config_free(run->config);
    *run = (TranslationRun){.world = NULL};
}

int64_t translation_run_longest(const TranslationRun *run, int64_t wished)
{
    const Positions *positions = &run->network.positions;
    if (wished == 0) wished = config_integer(run->config, "dataset.longest_sentence");
    return positions->kind == POSITIONS_LEARNED && positions->most < wished ? positions->most : wished;
}

/* ---- checkpoints ---- */

static Status find_stem(const TranslationRun *run, const char *which, char stem[64])
{
    return kept_model_find(&run->folder, which, stem);
}

static Status find_path(const TranslationRun *run, const char *which, char path[PATH_MAX])
{
    char stem[64], name[128];
    if (kept_model_is_file(which)) {
        if ((size_t)snprintf(path, PATH_MAX, "%s", which) >= PATH_MAX)
            return fail(STATUS_USAGE, "the path of --checkpoint is too long");
        return OK;
    }
    TRY(find_stem(run, which, stem));
    (void)snprintf(name, sizeof name, "%s.model.safetensors", stem);
    return file_join(path, run->folder.checkpoints, name);
}

/* Files of other programs do not say which vocabulary theirs is. */
static Status load(TranslationRun *run, const char *which, Store *store, char checksum[64])
{
    char path[PATH_MAX];
    SafeFile *file;
    TRY(find_path(run, which, path));
    TRY(safetensors_open(path, &file));
    const bool foreign = kept_model_is_file(which) && safetensors_metadata(file, "vocabulary") == NULL;
    Status status = foreign ? OK : task_check_vocabulary(run->experiment.data, file);
    const char *its = safetensors_metadata(file, "checksum");
    (void)snprintf(checksum, 64, "%s", its != NULL ? its : "");
    safetensors_close(file);
    if (status != OK)
        return status_context(status, "%s, with %s/%s", path, run->folder.path,
                              subwords_file_name(subwords_kind(run->subwords)));
    return checkpoint_load_weights(store, path, "", NULL);
}

Status translation_run_load(TranslationRun *run, const char *checkpoint, Store *store)
{
    char checksum[64] = "";
    TRY(comm_agree(run->world, load(run, checkpoint, store, checksum)));
    return comm_check_equal(run->world, checksum, sizeof checksum, "the checkpoint");
}

/* ---- the temperature ---- */

/* Of which step a checkpoint is; 0: of none. */
static Status find_step(const TranslationRun *run, const char *which, int64_t *step)
{
    char path[PATH_MAX];
    SafeFile *file;
    TRY(find_path(run, which, path));
    TRY(safetensors_open(path, &file));
    *step = kept_model_step(file);
    safetensors_close(file);
    return OK;
}

Status translation_run_temperature(const TranslationRun *run, const char *checkpoint, double *temperature)
{
    int64_t step;
    TRY(find_step(run, checkpoint, &step));
    return run_temperature(&run->folder, "--temperature calibrated", checkpoint, step, temperature);
}
