/* Settings: strict, typed, documented in one table.
 *
 * A config file is a YAML map whose nested keys are joined by dots: `loss: {name: focal}` sets
 * `loss.name`. `base: FILE` or `base: [FILE, ...]` (relative to the file it stands in) is read first and
 * overridden. Command line words `key=value` (the value as in a file) override all; a key may stand there
 * once. Each setting is one row
 * of a table; an unknown key is an error naming file, line and the nearest known key, and so is a key that
 * was set but that nothing read (config_check_all_read): no silent typo in a sweep of a thousand runs. What a
 * file says of a choice of its own that is overridden (its model.width, where a later file or word sets
 * model.name) may go unread. */
#ifndef PLUMB_ENGINE_BASE_CONFIG_H
#define PLUMB_ENGINE_BASE_CONFIG_H

#include "engine/base/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum {
    SETTING_FLAG,
    SETTING_INTEGER,
    SETTING_REAL,
    SETTING_TEXT,
    SETTING_INTEGERS,
    SETTING_REALS,
    SETTING_TEXTS, /* a list of texts, or one text, which is a list of one */
    SETTING_ROWS /* a list of maps; what a map may hold are the rows of the table behind this one, which are named
                    "THIS[].KEY". Such a list is given as a whole, also on the command line:
                    'optimizer.groups=[{parameters: "*.bias", weight_decay: 0}]' */
} SettingType;

typedef struct {
    const char *name; /* "optimizer.learning_rate" */
    SettingType type;
    const char *default_value; /* as in a file ("0.1", "[150, 250]"); NULL: must be set before it is read */
    const char *check; /* numbers: "low..high" (either end may be empty; "(" or ")" at an end excludes it, "["
                          or "]" or nothing includes it: "(0..1]"); text: "sum|mean"; applies to each item of
                          a list; NULL: anything */
    const char *help;  /* one line */
} Setting;

typedef struct Config Config;

/* Reads `path`, its bases and the overrides. `path` may be NULL: defaults and overrides only.
 * The table must outlive the config. STATUS_INPUT for anything wrong, STATUS_USAGE for an override; also for
 * a setting that two of them give. */
CHECKED Status config_load(const Setting table[], int count, const char *path, int override_count,
                           const char *const overrides[], Config **);

/* An override, and where it stands, which errors name. */
typedef struct {
    const char *word; /* "key=value" */
    const char *file; /* that it stands in; NULL: the command line */
    int line;         /* of the file */
} ConfigOverride;
/* The same with overrides from other places than the command line. STATUS_INPUT for those that are of a file.
 */
CHECKED Status config_load_with(const Setting table[], int count, const char *path, int override_count,
                                const ConfigOverride overrides[], Config **);
void config_free(Config *); /* NULL is allowed */

/* Values. Asking for a name that the table lacks or with another type is a defect: it aborts.
 * Each marks the setting as read. Text and lists are owned by the config. A setting without a
 * default is checked with config_require first: asking for a value that is not there aborts too. */
bool config_flag(const Config *, const char *name);
int64_t config_integer(const Config *, const char *name);
double config_real(const Config *, const char *name);
const char *config_text(const Config *, const char *name);
int config_integers(const Config *, const char *name, const int64_t **values); /* returns the count */
int config_reals(const Config *, const char *name, const double **values);
int config_texts(const Config *, const char *name, const char *const **values);
/* The maps of a list of maps: how many, and each as a config of its own, whose names are the keys. Its settings are read
 * with the functions here, config_error and config_is_set too, and are part of config_check_all_read. */
int config_rows(const Config *, const char *name);
const Config *config_row(const Config *, const char *name, int row);
bool config_is_set(const Config *, const char *name); /* by a file or an override; marks as read */

/* An error naming the first of the NULL-terminated names that has no value, and how to set it. */
CHECKED Status config_require(const Config *, const char *const names[]);

/* STATUS_INPUT "FILE:LINE: NAME: message" for a setting whose value is wrong for a reason only the caller
 * knows. */
CHECKED __attribute__((format(printf, 3, 4))) Status config_error(const Config *, const char *name,
                                                                  const char *format, ...);

/* STATUS_INPUT or STATUS_USAGE about what a setting led to, as an error of that setting (STATUS_INPUT); any other status as it
 * is. */
CHECKED Status config_error_of(const Config *, const char *name, Status);

/* An error naming the first setting (file, line) that was set but never read: it has no effect here. Settings of
 * "GROUP." may be, if "GROUP.name" was set later. */
CHECKED Status config_check_all_read(const Config *);

/* The resolved config as YAML (every setting with its value), in table order; release with free(). It can
 * be loaded again and gives the same values to the bit; its first line, `resolved: true`, says that values
 * which equal their defaults do not count as set. config_hash: of what is not at its default, without the
 * settings named in `except` (NULL-terminated); settings that a later version adds leave it as it is. */
CHECKED Status config_resolved(const Config *, char **yaml);
CHECKED Status config_hash(const Config *, const char *const except[], uint64_t *hash);

/* The known name nearest to `name` by edit distance, or NULL when none is near. */
const char *config_nearest(const char *name, const char *const known[], int count);
/* STATUS_INPUT for a pattern of fnmatch(3) that fits none of the names of parameters: it names the nearest. */
CHECKED Status config_pattern_fits(const char *pattern, const char *const names[], int count);
/* Which of the known names the setting has: how every table of ours (networks, losses, data sets) is looked up. STATUS_INPUT
 * names file and line, what there is none of ("network"), and the nearest known name or, where none is near, what prints
 * all ("plumb list models"). */
CHECKED Status config_choose(const Config *, const char *setting, const char *what, const char *listing,
                             const char *const known[], int count, int *index);

#endif
