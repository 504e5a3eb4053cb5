#include "launch/train/run_session.h"

#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "engine/plan/checkpoint.h"
#include "launch/runs/kept_models.h"
#include "launch/settings.h"
#include "launch/train/saver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the config ---- */

/* "NAME=PATH", which is read as YAML; release with free(). */
static Status path_override(const char *name, const char *path, char **word)
{
    TRY(memory_new(word, strlen(name) + 2 * strlen(path) + 4, 1, "a setting"));
    char *end = *word + sprintf(*word, "%s=\"", name);
    for (; *path != '\0'; ++path) {
        if (*path == '"' || *path == '\\') *end++ = '\\';
        *end++ = *path;
    }
    *end++ = '"';
    *end = '\0';
    return OK;
}

/* The run's config with these words, instead of *config. */
static Status reload(const char *path, int count, const char *const words[], Config **config)
{
    int settings;
    const Setting *table = settings_table(&settings);
    config_free(*config);
    *config = NULL;
    return config_load(table, settings, path, count, words, config);
}

/* What a run holds of its data is taken from there: its subwords. */
static Status own_file_override(const RunFolder *run, const Config *config, char **word)
{
    const Task *task;
    char path[PATH_MAX];
    *word = NULL;
    TRY(task_find(config, &task));
    if (task->run_file == NULL) return OK;
    const char *setting, *name = task->run_file(config, &setting);
    TRY(file_join(path, run->path, name));
    return file_exists(path) ? path_override(setting, path, word) : OK;
}

Status run_config_load(const World *world, const RunFolder *run, const RunUse *use, const char *data,
                       const char *cache, Config **config)
{
    char path[PATH_MAX], batch[64], found[PATH_MAX], *folder = NULL, *made = NULL, *own = NULL;
    TRY(file_join(path, run->path, "config.yaml"));
    /* The batch of training need not fit this number of ranks; evaluation does not depend on it. */
    (void)snprintf(batch, sizeof batch, "evaluate_batch=%d",
                   128 / world->size * world->size > 0 ? 128 / world->size * world->size : world->size);
    const char *words[5 + RUN_USE_WORDS] = {batch, "micro_batches=1"};
    const int plain = 2 + run_use_words(use, words + 2);
    int count = plain;
    TRY(reload(path, count, words, config));
    if (data == NULL && run_folder_find_data(run, config_text(*config, "dataset.folder"),
                                             config_text(*config, "dataset.name"), found))
        data = found;
    Status status = own_file_override(run, *config, &own);
    if (status == OK && data != NULL) status = path_override("dataset.folder", data, &folder);
    if (status == OK && cache != NULL) status = path_override("dataset.cache", cache, &made);
    if (own != NULL) words[count++] = own;
    if (folder != NULL) words[count++] = folder;
    if (made != NULL) words[count++] = made;
    if (status == OK && count > plain) status = reload(path, count, words, config);
    free(own);
    free(folder);
    free(made);
    return status;
}

/* ---- checkpoints ---- */

/* The newest checkpoint or, where that is damaged, the one before. */
static Status load_last(Session *session, const RunFolder *run, const char *stem, SafeFile **file)
{
    char older[64];
    Status status = saver_load(session, run->checkpoints, stem, file);
    if (status == OK) return OK;
    Status found = run_folder_before(run, stem, older);
    const bool none = found != OK || older[0] == '\0';
    status_free(found);
    if (none) return status;
    Status second = saver_load(session, run->checkpoints, older, file);
    if (second != OK) {
        status_free(second);
        return status;
    }
    log_warning("%s", status_message(status));
    log_warning("taking the checkpoint before, %s", older);
    status_free(status);
    return OK;
}

/* A file from anywhere: its names must be the network's. */
static Status load_file(Session *session, const char *path, SafeFile **file)
{
    TRY(safetensors_open(path, file));
    if (safetensors_metadata(*file, "vocabulary") != NULL) {
        Status status = task_check_vocabulary(session->data, *file);
        if (status != OK) return status_context(status, "%s", path);
    }
    return checkpoint_load_weights(session->store, path, "", NULL);
}

/* *file: what was loaded, for safetensors_close, also after an error. */
static Status load_checkpoint(Session *session, const RunFolder *run, const char *which, SafeFile **file)
{
    char stem[64];
    if (kept_model_is_file(which)) return load_file(session, which, file);
    TRY(kept_model_find(run, which, stem));
    return strcmp(which, "last") == 0 ? load_last(session, run, stem, file)
                                      : saver_load(session, run->checkpoints, stem, file);
}

/* While a job trains, checkpoints come and go: ranks that read one after the other may find different ones. *step: 0 where the file
 * does not say of which one it is. */
Status run_checkpoint_load(Session *session, const RunFolder *run, const char *which, int64_t *step)
{
    SafeFile *file = NULL;
    Status status = comm_agree(session->world, load_checkpoint(session, run, which, &file));
    if (status == OK) {
        *step = kept_model_step(file);
        const char *checksum = safetensors_metadata(file, "checksum");
        if (checksum == NULL) checksum = "";
        status = comm_check_equal(session->world, checksum, strlen(checksum), "the checkpoint");
    }
    safetensors_close(file);
    return status;
}
