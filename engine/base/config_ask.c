/* Asking a config: values, errors that name their places, and the resolved text. */
#include "engine/base/config_internal.h"
#include "engine/base/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* ---- Names ---- */

int config_find(const Config *config, const char *name)
{
    for (int i = 0; i < config->count; ++i)
        if (strcmp(config->names[i], name) == 0) return i;
    return -1;
}

bool config_is_key_of_rows(const char *name) { return strstr(name, "[].") != NULL; }

bool config_is_choice(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot != NULL && strcmp(dot, ".name") == 0;
}

bool config_is_usual(const Config *config, int index)
{
    const ConfigValue *usual = &config->defaults[index];
    return usual->present && strcmp(usual->yaml, config->values[index].yaml) == 0;
}

/* ---- Asking ---- */

static int find_or_abort(const Config *config, const char *name)
{
    const int index = config_find(config, name);
    if (index >= 0) return index;
    (void)fprintf(stderr, "defect: the setting %s is not in the table\n", name);
    abort();
}

static const ConfigValue *value_of(const Config *config, const char *name, SettingType type)
{
    const int index = find_or_abort(config, name);
    const char *defect = NULL;
    if (config->table[index].type != type)
        defect = "was asked for as another type";
    else if (!config->values[index].present)
        defect = "has no value and was not required";
    if (defect != NULL) {
        (void)fprintf(stderr, "defect: the setting %s %s\n", name, defect);
        abort();
    }
    config->read[index] = true;
    return &config->values[index];
}

bool config_flag(const Config *config, const char *name)
{
    return value_of(config, name, SETTING_FLAG)->flag;
}

int64_t config_integer(const Config *config, const char *name)
{
    return value_of(config, name, SETTING_INTEGER)->integers[0];
}

double config_real(const Config *config, const char *name)
{
    return value_of(config, name, SETTING_REAL)->reals[0];
}

const char *config_text(const Config *config, const char *name)
{
    return value_of(config, name, SETTING_TEXT)->text;
}

int config_integers(const Config *config, const char *name, const int64_t **values)
{
    const ConfigValue *value = value_of(config, name, SETTING_INTEGERS);
    *values = value->integers;
    return value->count;
}

int config_reals(const Config *config, const char *name, const double **values)
{
    const ConfigValue *value = value_of(config, name, SETTING_REALS);
    *values = value->reals;
    return value->count;
}

int config_texts(const Config *config, const char *name, const char *const **values)
{
    const ConfigValue *value = value_of(config, name, SETTING_TEXTS);
    *values = (const char *const *)value->texts;
    return value->count;
}

int config_rows(const Config *config, const char *name)
{
    return value_of(config, name, SETTING_ROWS)->count;
}

const Config *config_row(const Config *config, const char *name, int row)
{
    return value_of(config, name, SETTING_ROWS)->rows[row];
}

bool config_is_set(const Config *config, const char *name)
{
    const int index = find_or_abort(config, name);
    config->read[index] = true;
    return config->set[index];
}

Status config_require(const Config *config, const char *const names[])
{
    for (int i = 0; names[i] != NULL; ++i) {
        const int index = find_or_abort(config, names[i]);
        if (config->values[index].present) continue;
        if (config->list != NULL)
            return config_error(config, names[i], "must be given (%s)", config->table[index].help);
        return fail(STATUS_INPUT,
                    "%s has no value: write `%s: ...` into %s or add %s=... to the command line (%s)",
                    names[i], names[i], config->file_count > 0 ? config->files[0] : "a config file", names[i],
                    config->table[index].help);
    }
    return OK;
}

Status config_error(const Config *config, const char *name, const char *format, ...)
{
    char *message;
    va_list arguments;
    va_start(arguments, format);
    const int length = vasprintf(&message, format, arguments);
    va_end(arguments);
    if (length < 0) return fail(STATUS_MEMORY, "no memory for a message about %s", name);
    const int index = find_or_abort(config, name);
    const char *full = config->table[index].name;
    const bool is_default = config->list != NULL && !config->set[index];
    const Origin origin = is_default ? config->place : config->values[index].origin;
    Status status;
    if (origin.file != NULL)
        status = fail(STATUS_INPUT, "%s:%d: %s: %s", origin.file, origin.line, full, message);
    else
        status = fail(STATUS_INPUT, "%s%s: %s", full, origin.line < 0 ? " (its default)" : " (command line)",
                      message);
    free(message);
    return status;
}

Status config_error_of(const Config *config, const char *name, Status status)
{
    if (status == OK || (status_code(status) != STATUS_INPUT && status_code(status) != STATUS_USAGE))
        return status;
    Status placed = config_error(config, name, "%s", status_message(status));
    status_free(status);
    return placed;
}

/* Was the choice that it belongs to ("model.name" of "model.width") made by a later layer, for which this one
 * could not know? */
static bool is_of_choice_before(const Config *config, int index)
{
    const char *name = config->names[index], *dot = strrchr(name, '.');
    for (int i = 0; dot != NULL && i < config->count; ++i)
        if (config_is_choice(config->names[i]) &&
            strncmp(config->names[i], name, (size_t)(dot - name) + 1) == 0)
            return config->layer[i] > config->layer[index];
    return false;
}

Status config_check_all_read(const Config *config)
{
    for (int i = 0; i < config->count; ++i)
        if (config->set[i] && !config->read[i] && !is_of_choice_before(config, i))
            return config_error(config, config->names[i],
                                "is set, but nothing uses it in this configuration");
    for (int i = 0; i < config->count; ++i)
        for (int r = 0; r < config->values[i].count && config->values[i].rows != NULL; ++r)
            TRY(config_check_all_read(config->values[i].rows[r]));
    return OK;
}

/* ---- Writing ---- */

static bool among(const char *name, const char *const names[])
{
    for (int i = 0; names != NULL && names[i] != NULL; ++i)
        if (strcmp(names[i], name) == 0) return true;
    return false;
}

/* Numbers as they were hashed before they had a point before their exponent: checkpoints hold such hashes. */
static char *copy_for_hash(char *to, const char *yaml, SettingType type)
{
    const bool numbers = type == SETTING_REAL || type == SETTING_REALS;
    for (; *yaml != '\0'; ++yaml) {
        if (numbers && strncmp(yaml, ".0e", 3) == 0) yaml += 2;
        *to++ = *yaml;
    }
    return to;
}

/* for_hash: without what is usual. */
static Status write_resolved(const Config *config, const char *const except[], bool for_hash, char **yaml)
{
    static const char mark[] = "resolved: true\n";
    size_t size = sizeof mark;
    for (int i = 0; i < config->count; ++i)
        if (config->values[i].present) size += strlen(config->names[i]) + strlen(config->values[i].yaml) + 3;
    char *text;
    TRY(memory_new(&text, size, 1, "resolved config"));
    char *end = stpcpy(text, mark);
    for (int i = 0; i < config->count; ++i)
        if (config->values[i].present && !config_is_key_of_rows(config->names[i]) &&
            !among(config->names[i], except) && !(for_hash && config_is_usual(config, i))) {
            end += sprintf(end, "%s: ", config->names[i]);
            end = for_hash ? copy_for_hash(end, config->values[i].yaml, config->table[i].type)
                           : stpcpy(end, config->values[i].yaml);
            end = stpcpy(end, "\n");
        }
    *yaml = text;
    return OK;
}

Status config_resolved(const Config *config, char **yaml)
{
    *yaml = NULL;
    return write_resolved(config, NULL, false, yaml);
}

Status config_hash(const Config *config, const char *const except[], uint64_t *hash)
{
    char *text;
    TRY(write_resolved(config, except, true, &text));
    *hash = XXH3_64bits(text, strlen(text));
    free(text);
    return OK;
}
