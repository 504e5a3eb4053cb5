#include "launch/runs/run_search.h"

#include "engine/base/file.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "launch/runs/json_file.h"
#include "launch/runs/text_index.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { FOLDER_DEPTH = 4 };

Status run_search_begun(const char *folder, bool *begun)
{
    /* environment.json alone does not make a run. */
    static const char *const files[] = {"config.yaml", "metrics.jsonl", "evaluation.json", "failure.txt"};
    *begun = false;
    for (size_t i = 0; i < sizeof files / sizeof files[0] && !*begun; ++i) {
        char path[PATH_MAX];
        TRY(file_join(path, folder, files[i]));
        *begun = file_exists(path);
    }
    return OK;
}

/* ---- the list ---- */

typedef struct {
    char *path;
    char *real; /* without links and dots: what all paths to the folder have in common */
} FoundRun;

typedef struct {
    FoundRun *run;
    TextIndex known; /* their real paths */
    size_t capacity;
    int count;
    int repeats;           /* runs of this path that were found before */
    char repeat[PATH_MAX]; /* the first of them */
    const char *repeat_of; /* as it was found before */
} RunList;

/* A run that has not begun has no folder yet, but its sweep has. */
static Status find_real(const char *path, char **real)
{
    *real = realpath(path, NULL);
    if (*real != NULL) return OK;
    const char *slash = strrchr(path, '/');
    if (slash == NULL) return text_copy(path, real);
    char *parent, *real_parent;
    TRY(text_format(&parent, "%.*s", (int)(slash - path), path));
    real_parent = realpath(parent, NULL);
    Status status = text_format(real, "%s%s", real_parent != NULL ? real_parent : parent, slash);
    free(real_parent);
    free(parent);
    return status;
}

static void note_repeat(RunList *list, const char *path, const FoundRun *earlier)
{
    if (list->repeats++ > 0) return;
    (void)snprintf(list->repeat, sizeof list->repeat, "%s", path);
    list->repeat_of = earlier->path;
}

static Status add_run(RunList *list, const char *path)
{
    FoundRun run = {.path = NULL};
    Status status = OK;
    TRY_ELSE(failed, text_copy(path, &run.path));
    for (size_t length = strlen(run.path); length > 1 && run.path[length - 1] == '/'; --length)
        run.path[length - 1] = '\0';
    TRY_ELSE(failed, find_real(run.path, &run.real));
    TRY_ELSE(failed, memory_grow(&list->run, &list->capacity, (size_t)list->count + 1, sizeof run, "runs"));
    int number = list->count;
    TRY_ELSE(failed, text_index_add(&list->known, run.real, &number));
    if (number < list->count) {
        note_repeat(list, run.path, &list->run[number]);
        goto failed;
    }
    list->run[list->count++] = run;
    return OK;
failed:
    free(run.path);
    free(run.real);
    return status;
}

static Status cut_list(RunList *list, int count)
{
    while (list->count > count) {
        FoundRun *run = &list->run[--list->count];
        free(run->path);
        free(run->real);
    }
    text_index_free(&list->known); /* its texts may be gone */
    for (int i = 0; i < count; ++i) {
        int number = i;
        TRY(text_index_add(&list->known, list->run[i].real, &number));
    }
    return OK;
}

/* ---- the search ---- */

static Status check_format(const cJSON *object, const char *path, const char *advice)
{
    const cJSON *format = cJSON_GetObjectItemCaseSensitive(object, "format");
    if (!cJSON_IsNumber(format) || !(format->valuedouble > SWEEP_LIST_FORMAT)) return OK;
    return fail(STATUS_UNSUPPORTED,
                "%s: of format %.6g, but this plumb knows formats up to %d: a newer version wrote it. "
                "Update plumb, or give %s",
                path, format->valuedouble, SWEEP_LIST_FORMAT, advice);
}

Status run_search_check_format(const char *folder)
{
    char path[PATH_MAX];
    cJSON *object;
    TRY(file_join(path, folder, "sweep.json"));
    if (!file_exists(path)) return OK;
    Status status = json_file_read(path, &object);
    if (status != OK) {
        status_free(status);
        return OK;
    }
    status = check_format(object, path, "another --folder");
    cJSON_Delete(object);
    return status;
}

/* sweep.json: {"runs": [NAME, ...]}, the folders of a sweep's runs in the order in which it states them. */
static Status add_listed(RunList *list, const char *folder, const char *path)
{
    cJSON *object;
    TRY(json_file_read(path, &object));
    const cJSON *names = cJSON_GetObjectItemCaseSensitive(object, "runs");
    Status status = check_format(object, path, "the folders of the runs themselves");
    if (status == OK && !cJSON_IsArray(names)) status = fail(STATUS_INPUT, "%s: has no list of runs", path);
    for (const cJSON *item = status == OK ? names->child : NULL; item != NULL && status == OK;
         item = item->next) {
        char run[PATH_MAX];
        const char *name = cJSON_IsString(item) ? item->valuestring : "";
        /* A name is a folder in this one, never a way out of it. */
        if (name[0] == '\0' || name[0] == '.' || strchr(name, '/') != NULL)
            status = fail(STATUS_INPUT, "%s: \"%s\" is not the name of a run's folder", path, name);
        if (status == OK) status = file_join(run, folder, name);
        if (status == OK) status = add_run(list, run);
    }
    cJSON_Delete(object);
    return status;
}

/* A folder below the one that was given is left out with a warning if it cannot be read, as lost+found. */
static Status leave_out(Status status, bool given)
{
    if (given || status_code(status) != STATUS_IO) return status;
    log_warning("%s; it is left out", status_message(status));
    status_free(status);
    return OK;
}

static int is_visible_folder(const struct dirent *entry) { return entry->d_name[0] != '.'; }

static Status find_runs(RunList *list, const char *folder, int depth)
{
    char path[PATH_MAX];
    bool found;
    struct stat about;
    if (stat(folder, &about) != 0) return fail(STATUS_IO, "%s: %s", folder, strerror(errno));
    if (!S_ISDIR(about.st_mode)) return fail(STATUS_INPUT, "%s is not a folder of a run or of runs", folder);
    TRY(run_search_begun(folder, &found));
    if (found) return add_run(list, folder);
    TRY(file_join(path, folder, "sweep.json"));
    if (file_exists(path)) {
        const int before = list->count, repeats = list->repeats;
        Status status = add_listed(list, folder, path);
        if (status == OK || status_code(status) == STATUS_MEMORY || status_code(status) == STATUS_UNSUPPORTED)
            return status;
        log_warning("%s; its runs are taken by name", status_message(status));
        status_free(status);
        TRY(cut_list(list, before));
        list->repeats = repeats;
    }
    if (depth == 0) return OK;
    struct dirent **entry;
    const int entries = scandir(folder, &entry, is_visible_folder, versionsort);
    if (entries < 0)
        return leave_out(fail(STATUS_IO, "%s: %s", folder, strerror(errno)), depth == FOLDER_DEPTH);
    Status status = OK;
    for (int i = 0; i < entries; ++i) {
        if (status == OK) status = file_join(path, folder, entry[i]->d_name);
        if (status == OK && stat(path, &about) == 0 && S_ISDIR(about.st_mode))
            status = find_runs(list, path, depth - 1);
        free(entry[i]);
    }
    free(entry);
    return status;
}

/* ---- all paths ---- */

static void warn_of_repeats(const RunList *list, const char *path)
{
    if (list->repeats == 0) return;
    const bool one = list->repeats == 1, same = strcmp(list->repeat, list->repeat_of) == 0;
    log_warning("%s: %d run%s found before and count%s once%s%s%s%s", path, list->repeats,
                one ? " was" : "s were", one ? "s" : "", same ? "" : ": ", same ? "" : list->repeat,
                same ? "" : " is ", same ? "" : list->repeat_of);
}

static Status search_path(RunList *list, const char *path)
{
    const int before = list->count;
    list->repeats = 0;
    TRY(find_runs(list, path, FOLDER_DEPTH));
    if (list->count == before && list->repeats == 0)
        return fail(STATUS_INPUT, "%s holds no run: a run has a config.yaml, a sweep's folder has runs in it",
                    path);
    warn_of_repeats(list, path);
    return OK;
}

static Status take_paths(RunList *list, char ***runs, int *run_count)
{
    if (list->count == 0) return fail(STATUS_USAGE, "no folder of runs was given");
    TRY(memory_new(runs, (size_t)list->count, sizeof **runs, "runs"));
    for (int i = 0; i < list->count; ++i) {
        (*runs)[i] = list->run[i].path;
        list->run[i].path = NULL;
    }
    *run_count = list->count;
    return OK;
}

Status run_search(const char *const paths[], int count, char ***runs, int *run_count)
{
    RunList list = {.run = NULL};
    Status status = OK;
    *runs = NULL;
    *run_count = 0;
    for (int i = 0; i < count && status == OK; ++i)
        status = search_path(&list, paths[i]);
    if (status == OK) status = take_paths(&list, runs, run_count);
    status_free(cut_list(&list, 0)); /* never fails: no run is left */
    free(list.run);
    return status;
}

void run_search_free(char **runs, int count)
{
    if (runs == NULL) return;
    for (int i = 0; i < count; ++i)
        free(runs[i]);
    free(runs);
}
