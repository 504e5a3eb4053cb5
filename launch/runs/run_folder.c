#include "launch/runs/run_folder.h"

#include "comm/processors.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "engine/plan/checkpoint.h"
#include "launch/runs/json_file.h"
#include "launch/runs/run_extension.h"
#include "launch/settings.h"

#include <cJSON.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

enum { METRICS_LIMIT = 1 << 30 };

/* Settings that a run may change when it goes on: they do not touch its result. */
static const char *const harmless[] = {"device",
                                       "threads",
                                       "evaluate_batch",
                                       "evaluate.every",
                                       "evaluate.every_steps",
                                       "evaluate.bins",
                                       "evaluate.bootstrap",
                                       "evaluate.train_every",
                                       "evaluate.norms",
                                       "evaluate.gradient_norms",
                                       "evaluate.train_reliability",
                                       "evaluate.best_models",
                                       "checkpoint.epochs",
                                       "checkpoint.minutes",
                                       "checkpoint.keep",
                                       "checkpoint.keep_steps",
                                       "checkpoint.keep_last",
                                       "comm.timeout_seconds",
                                       "comm.step_seconds",
                                       "dataset.folder",
                                       "dataset.cache",
                                       NULL};

Status run_config_hash(const Config *config, uint64_t *hash) { return config_hash(config, harmless, hash); }

static bool is_listed(const char *name, size_t length)
{
    for (int i = 0; harmless[i] != NULL; ++i)
        if (strlen(harmless[i]) == length && memcmp(name, harmless[i], length) == 0) return true;
    return false;
}

bool run_setting_is_harmless(const char *name) { return is_listed(name, strlen(name)); }

/* A line "name: value". */
static bool is_harmless(const char *line)
{
    return line[strcspn(line, ":\n")] == ':' && is_listed(line, strcspn(line, ":\n"));
}

/* ---- config ---- */

/* A config.yaml as this version writes it: the one that did may have known fewer settings. */
static Status read_config(const char *path, char **resolved)
{
    int count;
    const Setting *table = settings_table(&count);
    Config *config;
    TRY(config_load(table, count, path, 0, NULL, &config));
    const Status status = config_resolved(config, resolved);
    config_free(config);
    return status;
}

/* They have one setting a line, in the table's order: the first line that differs is what differs. *longer: what the
 * run gets more of, epochs or steps; NULL: it may not. */
static Status compare_configs(const char *path, const char *old, const char *new, RunExtension *longer)
{
    if (longer != NULL) longer->setting = NULL;
    while (*old != '\0' || *new != '\0') {
        const size_t a = strcspn(old, "\n"), b = strcspn(new, "\n");
        const bool differ = a != b || memcmp(old, new, a) != 0;
        const bool more =
            differ && longer != NULL && longer->setting == NULL && run_extension_is(old, new, longer);
        if (differ && !more && !(is_harmless(old) && is_harmless(new)))
            return fail(STATUS_INPUT,
                        "%s was begun with another config: it has\n    %.*s\nand this command\n    "
                        "%.*s\nGive another folder, or the config it was begun with",
                        path, (int)a, old, (int)b, new);
        old += a + (old[a] == '\n');
        new += b + (new[b] == '\n');
    }
    return OK;
}

static Status check_config(const RunFolder *run, const Config *config, RunExtension *longer)
{
    if (longer != NULL) longer->setting = NULL;
    char path[PATH_MAX], stem[64];
    char *resolved = NULL, *old = NULL;
    TRY(file_join(path, run->path, "config.yaml"));
    TRY(run_folder_latest(run, stem));
    /* What failed before it trained, perhaps for its config, does not hold anybody to that. */
    if (!file_exists(path) || (stem[0] == '\0' && !run_folder_is_complete(run))) return OK;
    Status status = read_config(path, &old);
    if (status == OK) status = config_resolved(config, &resolved);
    if (status == OK) status = compare_configs(run->path, old, resolved, longer);
    free(old);
    free(resolved);
    return status;
}

Status run_folder_check_config(const RunFolder *run, const Config *config)
{
    return check_config(run, config, NULL);
}

/* The value in a resolved config, up to the end of its line; "" if it is not there. */
static const char *find_value(const char *yaml, const char *name)
{
    const size_t length = strlen(name);
    for (const char *line = yaml; *line != '\0'; line += strcspn(line, "\n"), line += *line == '\n')
        if (strncmp(line, name, length) == 0 && line[length] == ':') return line + length + 2;
    return "";
}

static Status compare_harmless(const char *old, const char *new, char **differences)
{
    TRY(text_copy("", differences));
    for (int i = 0; harmless[i] != NULL; ++i) {
        const char *had = find_value(old, harmless[i]), *wanted = find_value(new, harmless[i]);
        const size_t a = strcspn(had, "\n"), b = strcspn(wanted, "\n");
        if (a == b && memcmp(had, wanted, a) == 0) continue;
        char *longer;
        Status status =
            text_format(&longer, "%s%s%s: %.*s (it has %.*s)", *differences,
                        (*differences)[0] != '\0' ? ", " : "", harmless[i], (int)b, wanted, (int)a, had);
        free(*differences);
        *differences = status == OK ? longer : NULL;
        TRY(status);
    }
    return OK;
}

Status run_folder_too_late(const RunFolder *run, const Config *config, char **settings)
{
    char path[PATH_MAX], *resolved = NULL, *old = NULL;
    *settings = NULL;
    TRY(file_join(path, run->path, "config.yaml"));
    if (!file_exists(path)) return text_copy("", settings);
    TRY(read_config(path, &old));
    Status status = config_resolved(config, &resolved);
    if (status == OK) status = compare_harmless(old, resolved, settings);
    free(old);
    free(resolved);
    return status;
}

static Status settle_config(const RunFolder *run, const Config *config)
{
    char path[PATH_MAX], *resolved;
    RunExtension longer;
    TRY(check_config(run, config, &longer));
    if (longer.setting != NULL) TRY(run_extension_begin(run, &longer));
    if (run_folder_is_complete(run)) return OK;
    TRY(file_join(path, run->path, "config.yaml"));
    TRY(config_resolved(config, &resolved));
    Status status = file_write(path, resolved, strlen(resolved));
    free(resolved);
    return status;
}

/* ---- environment ---- */

/* Where the data were, whatever the folder that somebody later measures the run from. */
static void add_folders(cJSON *object, const Config *config)
{
    char here[PATH_MAX], data[PATH_MAX];
    const char *folder = config_text(config, "dataset.folder");
    if (getcwd(here, sizeof here) != NULL) cJSON_AddStringToObject(object, "working_folder", here);
    if (folder[0] != '\0' && realpath(folder, data) != NULL)
        cJSON_AddStringToObject(object, "dataset_folder", data);
}

static Status write_environment(const RunFolder *run, const Config *config, const World *world)
{
    char path[PATH_MAX], when[64], processor[200] = "";
    const char *gpus = getenv("CUDA_VISIBLE_DEVICES");
    struct utsname system;
    cpu_set_t bound;
    const time_t now = time(NULL);
    struct tm moment;
    TRY(file_join(path, run->path, "environment.json"));
    (void)uname(&system);
    (void)strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &moment));
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[256];
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || colon == NULL) continue;
        (void)snprintf(processor, sizeof processor, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
        break;
    }
    if (file != NULL) (void)fclose(file);
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "plumb", PLUMB_VERSION);
    cJSON_AddStringToObject(object, "started", when);
    cJSON_AddStringToObject(object, "host", world->host);
    cJSON_AddStringToObject(object, "processor", processor);
    cJSON_AddNumberToObject(object, "processors", (double)sysconf(_SC_NPROCESSORS_ONLN));
    cJSON_AddNumberToObject(object, "ranks", world->size);
    cJSON_AddNumberToObject(object, "threads_a_rank", comm_threads(world));
    if (sched_getaffinity(0, sizeof bound, &bound) == 0) {
        char processors[200];
        processors_text(&bound, processors, sizeof processors);
        cJSON_AddStringToObject(object, "bound_to_processors", processors);
    }
    if (gpus != NULL) cJSON_AddStringToObject(object, "visible_gpus", gpus);
    cJSON_AddStringToObject(object, "system", system.sysname);
    cJSON_AddStringToObject(object, "release", system.release);
    cJSON_AddStringToObject(object, "compiler", __VERSION__);
    add_folders(object, config);
    char *text = cJSON_Print(object);
    cJSON_Delete(object);
    if (text == NULL) return fail(STATUS_MEMORY, "%s: no memory for its text", path);
    Status status = file_write(path, text, strlen(text));
    cJSON_free(text);
    return status;
}

/* A text of environment.json; false if it has none. */
static bool environment_text(const RunFolder *run, const char *key, char text[PATH_MAX])
{
    char path[PATH_MAX];
    cJSON *object = NULL;
    Status status = file_join(path, run->path, "environment.json");
    if (status == OK) status = json_file_read(path, &object);
    const char *value = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));
    const bool found = status == OK && value != NULL && strlen(value) < PATH_MAX;
    if (found) memcpy(text, value, strlen(value) + 1);
    cJSON_Delete(object);
    status_free(status);
    return found;
}

bool run_folder_find_data(const RunFolder *run, const char *folder, const char *name, char found[PATH_MAX])
{
    char here[PATH_MAX], data[PATH_MAX];
    if (folder[0] == '/') return false;
    if (folder[0] != '\0') return environment_text(run, "dataset_folder", found) && file_exists(found);
    if (!environment_text(run, "working_folder", here)) return false;
    Status status = file_join(data, here, "data");
    if (status == OK) status = file_join(found, data, name);
    const bool there = status == OK && file_exists(found);
    status_free(status);
    return there;
}

/* ---- failures ---- */

static void write_failure(const RunFolder *run, const char *message)
{
    char path[PATH_MAX];
    Status status = file_join(path, run->path, "failure.txt");
    if (status == OK && !file_exists(path)) status = file_write(path, message, strlen(message));
    status_free(status);
}

void run_folder_note_failure(const RunFolder *run, const char *message)
{
    char path[PATH_MAX];
    FileLock *lock = NULL;
    if (run->path[0] == '\0') return; /* it could not even be attached */
    if (run->lock == NULL) {
        Status status = file_join(path, run->path, "lock");
        if (status == OK) status = file_lock(path, &lock);
        const bool mine = status == OK;
        status_free(status);
        if (!mine) return;
    }
    write_failure(run, message);
    file_unlock(lock);
}

void run_folder_forget_failure(const RunFolder *run)
{
    char path[PATH_MAX];
    Status status = file_join(path, run->path, "failure.txt");
    if (status == OK) (void)unlink(path);
    status_free(status);
}

/* ---- opening ---- */

Status run_folder_check(const char *path)
{
    char config[PATH_MAX];
    if (!file_exists(path)) return fail(STATUS_IO, "there is no run %s", path);
    TRY(file_join(config, path, "config.yaml"));
    if (file_exists(config)) return OK;
    return fail(STATUS_INPUT, "%s is no run: a run is a folder that plumb train made, with a config.yaml",
                path);
}

Status run_folder_attach(const char *path, RunFolder *run)
{
    *run = (RunFolder){.lock = NULL};
    if (strlen(path) >= sizeof run->path) return fail(STATUS_USAGE, "the path of the run is too long");
    memcpy(run->path, path, strlen(path) + 1);
    return file_join(run->checkpoints, path, "checkpoints");
}

/* What is written in the course of a run, before it begins. */
static Status check_writable(const RunFolder *run)
{
    char path[PATH_MAX];
    TRY(file_join(path, run->checkpoints, "step"));
    TRY(file_check_writable(path));
    TRY(file_join(path, run->path, RUN_METRICS));
    return file_check_writable(path);
}

Status run_folder_open(const char *path, const Config *config, const World *world, RunFolder *run)
{
    char lock[PATH_MAX];
    TRY(run_folder_attach(path, run));
    TRY(file_make_folder(path));
    TRY(file_make_folder(run->checkpoints));
    TRY(file_join(lock, path, "lock"));
    TRY(file_lock(lock, &run->lock));
    Status status = settle_config(run, config);
    if (status == OK && !run_folder_is_complete(run)) status = check_writable(run);
    if (status == OK && !run_folder_is_complete(run))
        status = write_environment(run, config, world); /* a record of the training */
    if (status == OK) run_folder_forget_failure(run);
    if (status != OK) run_folder_close(run);
    return status;
}

void run_folder_close(RunFolder *run)
{
    file_unlock(run->lock);
    run->lock = NULL;
}

bool run_folder_is_complete(const RunFolder *run)
{
    char path[PATH_MAX];
    Status status = file_join(path, run->path, "evaluation.json");
    const bool complete = status == OK && file_exists(path);
    status_free(status);
    return complete;
}

static Status write_text(const RunFolder *run, const char *file, const char *text)
{
    char path[PATH_MAX];
    TRY(file_join(path, run->path, file));
    return file_write(path, text, strlen(text));
}

Status run_folder_write_best_models(const RunFolder *run, const char *json)
{
    return write_text(run, RUN_BEST_MODELS, json);
}

Status run_folder_write_evaluation(const RunFolder *run, const char *json)
{
    return write_text(run, "evaluation.json", json);
}

/* ---- lines ---- */

Status run_folder_append(const RunFolder *run, const char *file, const char *line)
{
    char path[PATH_MAX];
    TRY(file_join(path, run->path, file));
    return file_append_line(path, line);
}

static bool is_before(const char *line, size_t length, int64_t step)
{
    cJSON *object = cJSON_ParseWithLength(line, length);
    const cJSON *at = cJSON_GetObjectItemCaseSensitive(object, "step");
    const bool before = cJSON_IsNumber(at) && at->valuedouble <= (double)step;
    cJSON_Delete(object);
    return before;
}

static Status rewind_file(const RunFolder *run, const char *file, int64_t step)
{
    char path[PATH_MAX];
    char *text;
    size_t size;
    TRY(file_join(path, run->path, file));
    if (!file_exists(path)) return OK;
    TRY(file_read(path, METRICS_LIMIT, &text, &size));
    size_t kept = 0;
    for (size_t at = 0; at < size;) {
        const char *end = memchr(text + at, '\n', size - at);
        if (end == NULL) break; /* half a line: the job died while it wrote */
        const size_t length = (size_t)(end - (text + at)) + 1;
        if (is_before(text + at, length - 1, step)) {
            memmove(text + kept, text + at, length);
            kept += length;
        }
        at += length;
    }
    Status status = kept < size ? file_write(path, text, kept) : OK;
    free(text);
    return status;
}

Status run_folder_rewind(const RunFolder *run, int64_t step)
{
    TRY(rewind_file(run, RUN_DYNAMICS, step));
    return rewind_file(run, RUN_METRICS, step);
}

/* ---- checkpoints ---- */

/* The stem of a training checkpoint's file, or false: "step-0000000352.model.safetensors". */
static bool training_stem(const char *name, char stem[64], bool *is_model)
{
    long long step;
    int end = 0;
    if (sscanf(name, "step-%10lld%n", &step, &end) != 1 || end == 0) return false;
    *is_model = strcmp(name + end, ".model.safetensors") == 0;
    if (!*is_model && strcmp(name + end, ".optimizer.safetensors") != 0) return false;
    (void)snprintf(stem, 64, "%.*s", end, name);
    return true;
}

Status run_folder_latest(const RunFolder *run, char stem[64]) { return run_folder_before(run, NULL, stem); }

Status run_folder_before(const RunFolder *run, const char *before, char stem[64])
{
    stem[0] = '\0';
    DIR *folder = opendir(run->checkpoints);
    if (folder == NULL) {
        if (errno == ENOENT) return OK;
        return fail(STATUS_IO, "%s: %s", run->checkpoints, strerror(errno));
    }
    const struct dirent *entry;
    while ((entry = readdir(folder)) != NULL) {
        char found[64];
        bool is_model;
        if (training_stem(entry->d_name, found, &is_model) && is_model && strcmp(found, stem) > 0 &&
            (before == NULL || strcmp(found, before) < 0))
            memcpy(stem, found, sizeof found);
    }
    (void)closedir(folder);
    return OK;
}

/* ".NAME.HOST.PID.N.tmp", of an atomic write that did not come to its end. We hold the run's lock: nobody
 * else writes here. */
static bool is_leftover(const char *name)
{
    static const char ending[] = ".tmp";
    const size_t length = strlen(name), tail = sizeof ending - 1;
    return name[0] == '.' && length > tail && strcmp(name + length - tail, ending) == 0;
}

Status run_folder_prune(const RunFolder *run, const char *keep)
{
    char older[64];
    TRY(run_folder_before(run, keep, older));
    DIR *folder = opendir(run->checkpoints);
    if (folder == NULL) return fail(STATUS_IO, "%s: %s", run->checkpoints, strerror(errno));
    const struct dirent *entry;
    while ((entry = readdir(folder)) != NULL) {
        char found[64];
        bool is_model;
        if (training_stem(entry->d_name, found, &is_model) && strcmp(found, keep) != 0 &&
            strcmp(found, older) != 0)
            checkpoint_remove(run->checkpoints, found);
        else if (is_leftover(entry->d_name))
            (void)unlinkat(dirfd(folder), entry->d_name, 0);
    }
    (void)closedir(folder);
    return OK;
}
