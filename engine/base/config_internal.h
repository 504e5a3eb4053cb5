/* What a config is made of. Private to config.c and config_ask.c. */
#ifndef PLUMB_ENGINE_BASE_CONFIG_INTERNAL_H
#define PLUMB_ENGINE_BASE_CONFIG_INTERNAL_H

#include "engine/base/config_value.h"

struct Config {
    const Setting *table;
    const char **names; /* of the table's rows; in a map of a list of maps the keys */
    int count;
    const char *list; /* whose map this is ("optimizer.groups"); NULL: none, but all settings */
    Origin place;     /* of that map */
    ConfigValue *values;
    ConfigValue *defaults;
    bool *set;  /* by a file or an override */
    int *layer; /* by which: higher ones override lower ones */
    int layers;
    bool *read;   /* asked for; written through a const Config */
    char **files; /* names that origins point to */
    int file_count;
};

int config_find(const Config *, const char *name); /* its row of the table, or -1 */
/* "optimizer.groups[].frozen" is a key of the maps of "optimizer.groups", no setting. */
bool config_is_key_of_rows(const char *name);
/* "model.name", on which depends what of "model." has a meaning. */
bool config_is_choice(const char *name);
bool config_is_usual(const Config *, int index); /* Has it its default value? */

#endif
