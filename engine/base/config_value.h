/* One setting's value: reading it from YAML under its row's type and check, and writing it back. Private to
 * config*.c. */
#ifndef PLUMB_ENGINE_BASE_CONFIG_VALUE_H
#define PLUMB_ENGINE_BASE_CONFIG_VALUE_H

#include "engine/base/config.h"
#include "engine/base/yaml.h"

/* Where a value came from, and so what its errors say. */
typedef struct {
    const char *file; /* NULL: the command line, or the table if line < 0 */
    int line;
} Origin;

typedef struct {
    bool present;
    Origin origin;
    char *yaml; /* canonical text: reads back to the same bits */
    int count;  /* items; 1 for what is no list */
    bool flag;
    char *text;
    int64_t *integers; /* count items; also a lone integer */
    double *reals;     /* count items; also a lone real */
    char **texts;      /* count items */
    Config **rows;     /* count items of a list of maps */
} ConfigValue;

/* Is the text a flag of YAML 1.2's core schema: true, True, TRUE, false, False, FALSE? */
bool config_value_is_flag(const char *text, bool *value);

/* Replaces *value (kept as it was on error). */
CHECKED Status config_value_read(const Setting *, const YamlNode *, Origin, ConfigValue *value);
/* Is the node what the setting's type is written as: one value, a list? */
CHECKED Status config_value_check_kind(const Setting *, Origin, const YamlNode *);
void config_value_clear(ConfigValue *);

/* "FILE:LINE: NAME: message": STATUS_INPUT; "command line: NAME: message": STATUS_USAGE. */
CHECKED __attribute__((format(printf, 3, 4))) Status config_value_error(Origin, const char *name,
                                                                        const char *format, ...);

#endif
