#include "launch/runs/run_extension.h"

#include "engine/base/log.h"
#include "launch/settings.h"

#include <cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LIMIT = 1 << 20 };

static Status record_path(const RunFolder *run, char path[PATH_MAX])
{
    return file_join(path, run->path, "extensions.jsonl");
}

static const char *const lengths[] = {"epochs", "steps"};

/* The value of a line "setting: value" of a resolved config; 0 for other lines. */
static int64_t value_of(const char *line, const char *setting)
{
    const size_t length = strlen(setting);
    return strncmp(line, setting, length) == 0 && line[length] == ':' ? strtoll(line + length + 1, NULL, 10)
                                                                      : 0;
}

bool run_extension_is(const char *old_line, const char *new_line, RunExtension *extension)
{
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; ++i) {
        const int64_t from = value_of(old_line, lengths[i]), to = value_of(new_line, lengths[i]);
        if (from <= 0 || to <= from) continue;
        *extension = (RunExtension){lengths[i], from, to};
        return true;
    }
    return false;
}

/* The record first: whatever comes between, the next job finds a run that may go on. */
Status run_extension_begin(const RunFolder *run, const RunExtension *extension)
{
    char path[PATH_MAX], line[160], when[64];
    const time_t now = time(NULL);
    struct tm moment;
    (void)strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &moment));
    (void)snprintf(line, sizeof line,
                   "{\"setting\":\"%s\",\"from\":%" PRId64 ",\"to\":%" PRId64 ",\"when\":\"%s\"}",
                   extension->setting, extension->from, extension->to, when);
    TRY(record_path(run, path));
    TRY(file_append_line(path, line));
    static const char *const finals[] = {"evaluation.json", RUN_BEST_MODELS};
    for (size_t i = 0; i < sizeof finals / sizeof finals[0]; ++i) {
        TRY(file_join(path, run->path, finals[i]));
        (void)unlink(path);
    }
    log_info("%s had %" PRId64 " %s and goes on to %" PRId64, run->path, extension->from, extension->setting,
             extension->to);
    return OK;
}

static Status hash_with(const RunFolder *run, const char *setting, int64_t value, uint64_t *hash)
{
    char path[PATH_MAX], word[64];
    int count;
    const Setting *table = settings_table(&count);
    Config *config;
    TRY(file_join(path, run->path, "config.yaml"));
    (void)snprintf(word, sizeof word, "%s=%" PRId64, setting, value);
    const char *const overrides[] = {word};
    TRY(config_load(table, count, path, 1, overrides, &config));
    const Status status = run_config_hash(config, hash);
    config_free(config);
    return status;
}

static bool is_hash(const char *text, uint64_t hash)
{
    char digits[32];
    (void)snprintf(digits, sizeof digits, "%016" PRIx64, hash);
    return strcmp(digits, text) == 0;
}

Status run_extension_is_config(const RunFolder *run, const Config *config, const char *text, bool *is)
{
    char path[PATH_MAX], *record;
    size_t size;
    uint64_t hash;
    TRY(run_config_hash(config, &hash));
    *is = is_hash(text, hash);
    TRY(record_path(run, path));
    if (*is || !file_exists(path)) return OK;
    TRY(file_read(path, LIMIT, &record, &size));
    Status status = OK;
    char *rest = record;
    for (const char *line; !*is && status == OK && (line = strsep(&rest, "\n")) != NULL;) {
        cJSON *object = cJSON_Parse(line);
        const cJSON *from = cJSON_GetObjectItemCaseSensitive(object, "from");
        const char *setting = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, "setting"));
        /* Runs of older versions could only get more epochs. */
        const bool steps = setting != NULL && strcmp(setting, "steps") == 0;
        if (cJSON_IsNumber(from) && from->valuedouble >= 1) { /* not half a line */
            status = hash_with(run, lengths[steps ? 1 : 0], (int64_t)from->valuedouble, &hash);
            if (status == OK) *is = is_hash(text, hash);
        }
        cJSON_Delete(object);
    }
    free(record);
    return status;
}
