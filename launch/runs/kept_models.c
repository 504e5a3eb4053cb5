#include "launch/runs/kept_models.h"

#include "engine/base/memory.h"
#include "engine/plan/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *start;
    int digits;
} forms[] = {[KEPT_EPOCH] = {"epoch-", 4}, [KEPT_STEP] = {"kept-", 10}};

void kept_model_stem(KeptKind kind, int64_t number, char stem[64])
{
    (void)snprintf(stem, 64, "%s%0*" PRId64, forms[kind].start, forms[kind].digits, number);
}

/* The number in a file's name; 0 for other files. */
static int64_t number_of(KeptKind kind, const char *name)
{
    char stem[64], whole[128], *end;
    const size_t start = strlen(forms[kind].start);
    if (strncmp(name, forms[kind].start, start) != 0) return 0;
    errno = 0;
    const int64_t number = strtoll(name + start, &end, 10);
    if (errno != 0 || number < 1) return 0;
    kept_model_stem(kind, number, stem);
    (void)snprintf(whole, sizeof whole, "%s.model.safetensors", stem);
    return strcmp(name, whole) == 0 ? number : 0;
}

static int rising(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

Status kept_models_list(const RunFolder *run, KeptKind kind, int64_t **numbers, int *count)
{
    size_t found = 0, capacity = 0;
    Status status = OK;
    *numbers = NULL;
    *count = 0;
    DIR *folder = opendir(run->checkpoints);
    if (folder == NULL) {
        if (errno == ENOENT) return OK;
        return fail(STATUS_IO, "%s: %s", run->checkpoints, strerror(errno));
    }
    const struct dirent *entry;
    while (status == OK && (entry = readdir(folder)) != NULL) {
        const int64_t number = number_of(kind, entry->d_name);
        if (number == 0) continue;
        status = memory_grow(numbers, &capacity, found + 1, sizeof **numbers, "models");
        if (status == OK) (*numbers)[found++] = number;
    }
    (void)closedir(folder);
    if (status != OK) {
        free(*numbers);
        *numbers = NULL;
        return status;
    }
    if (found > 0) qsort(*numbers, found, sizeof **numbers, rising);
    *count = (int)found;
    return OK;
}

Status kept_models_prune(const RunFolder *run, KeptKind kind, int64_t last)
{
    int64_t *numbers;
    int count;
    TRY(kept_models_list(run, kind, &numbers, &count));
    for (int i = 0; i < count - last; ++i) {
        char stem[64];
        kept_model_stem(kind, numbers[i], stem);
        checkpoint_remove(run->checkpoints, stem);
    }
    free(numbers);
    return OK;
}

/* ---- finding one ---- */

bool kept_model_is_file(const char *which)
{
    static const char ending[] = ".safetensors";
    const size_t length = strlen(which), tail = sizeof ending - 1;
    return strchr(which, '/') != NULL || (length > tail && strcmp(which + length - tail, ending) == 0);
}

static Status no_best(const RunFolder *run)
{
    char metrics[PATH_MAX];
    TRY(file_join(metrics, run->path, "metrics.jsonl"));
    if (!file_exists(metrics))
        return fail(STATUS_INPUT, "%s has no best checkpoint yet: no epoch has ended", run->path);
    return fail(STATUS_INPUT,
                "%s has no best checkpoint: it is kept when there is a validation split and "
                "evaluate.every is not 0",
                run->path);
}

/* By which measure the model "best" is the best; "" if it does not say. */
static Status measure_of_best(const RunFolder *run, char measure[64])
{
    char path[PATH_MAX];
    SafeFile *file;
    TRY(file_join(path, run->checkpoints, "best.model.safetensors"));
    TRY(safetensors_open(path, &file));
    const char *text = safetensors_metadata(file, "measure");
    (void)snprintf(measure, 64, "%s", text != NULL ? text : "");
    safetensors_close(file);
    return OK;
}

/* "best", "best-MEASURE": the first measure of checkpoint.best has the former name. */
static Status find_best(const RunFolder *run, const char *which, char stem[64])
{
    static const char start[] = "best-";
    if ((size_t)snprintf(stem, 64, "%s", which) >= 64)
        return fail(STATUS_USAGE, "--checkpoint %s: there is no such measure", which);
    if (checkpoint_exists(run->checkpoints, stem)) return OK;
    if (!checkpoint_exists(run->checkpoints, "best")) return no_best(run);
    char measure[64];
    TRY(measure_of_best(run, measure));
    (void)snprintf(stem, 64, "best");
    if (strcmp(which + sizeof start - 1, measure) == 0) return OK;
    return fail(STATUS_INPUT,
                "%s did not keep the best model by %s: name it in checkpoint.best before training", run->path,
                which + sizeof start - 1);
}

/* A file's name without its ending. */
static Status find_stem(const RunFolder *run, const char *which, char stem[64])
{
    if ((size_t)snprintf(stem, 64, "%s", which) < 64 && checkpoint_exists(run->checkpoints, stem)) return OK;
    return fail(STATUS_INPUT, "%s holds no checkpoint %s", run->checkpoints, which);
}

Status kept_model_find(const RunFolder *run, const char *which, char stem[64])
{
    static const char by_step[] = "step:";
    char *end;
    if (strcmp(which, "last") == 0) {
        TRY(run_folder_latest(run, stem));
        return stem[0] != '\0' ? OK : fail(STATUS_INPUT, "%s holds no checkpoint", run->checkpoints);
    }
    if (strcmp(which, "best") == 0 || strncmp(which, "best-", 5) == 0) return find_best(run, which, stem);
    if (strcmp(which, "average") == 0) {
        (void)snprintf(stem, 64, "average");
        if (checkpoint_exists(run->checkpoints, stem)) return OK;
        return fail(STATUS_INPUT, "%s has no average yet: plumb average %s", run->path, run->path);
    }
    const bool step = strncmp(which, by_step, sizeof by_step - 1) == 0;
    const char *digits = step ? which + sizeof by_step - 1 : which;
    const long long number = strtoll(digits, &end, 10);
    if (strncmp(which, "epoch-", 6) == 0 || strncmp(which, "kept-", 5) == 0 ||
        strncmp(which, "step-", 5) == 0)
        return find_stem(run, which, stem);
    if (*end != '\0' || end == digits || number < 1)
        return fail(STATUS_USAGE, "--checkpoint takes " KEPT_MODEL_NAMES ", not %s", which);
    kept_model_stem(step ? KEPT_STEP : KEPT_EPOCH, number, stem);
    if (checkpoint_exists(run->checkpoints, stem)) return OK;
    return fail(STATUS_INPUT, "%s did not keep the model of %s %lld: set checkpoint.%s before training",
                run->path, step ? "step" : "epoch", number, step ? "keep_steps" : "keep");
}

int64_t kept_model_step(const SafeFile *file)
{
    const char *step = safetensors_metadata(file, "step");
    if (step == NULL || safetensors_metadata(file, "averaged") != NULL) return 0;
    return strtoll(step, NULL, 10);
}
