/* A table of settings of every type, for suites of configs, and files of them. */
#ifndef PLUMB_TESTS_CONFIG_SETTINGS_H
#define PLUMB_TESTS_CONFIG_SETTINGS_H

#include "engine/base/config.h"
#include "engine/base/file.h"
#include "tests/scratch.h"

#include <stdio.h>
#include <string.h>

static const Setting table[] = {
    {"seed", SETTING_INTEGER, "1", "0..", "seed"},
    {"epochs", SETTING_INTEGER, "350", "1..1000", "passes"},
    {"init", SETTING_TEXT, "", NULL, "weights"},
    {"loss.name", SETTING_TEXT, NULL, NULL, "loss"},
    {"loss.reduction", SETTING_TEXT, "sum", "sum|mean", "sum or mean"},
    {"loss.alpha", SETTING_REAL, "0.05", "[0..0.1]", "smoothing"},
    {"loss.thresholds", SETTING_REALS, "[0.2]", "(0..1)", "thresholds"},
    {"loss.width", SETTING_REAL, "0.4", "(0..", "width"},
    {"schedule.epochs", SETTING_INTEGERS, "[150, 250]", "0..", "epochs"},
    {"model.blocks", SETTING_INTEGERS, "[]", "1..", "blocks"},
    {"optimizer.learning_rate", SETTING_REAL, "0.1", "..10", "rate"},
    {"best", SETTING_TEXTS, "auto", "auto|error|nll|a, b", "one or several"},
    {"optimizer.nesterov", SETTING_FLAG, "false", NULL, "nesterov"},
    {"optimizer.groups", SETTING_ROWS, "[]", NULL, "groups"},
    {"optimizer.groups[].parameters", SETTING_TEXT, NULL, NULL, "which"},
    {"optimizer.groups[].rule", SETTING_TEXT, "", "|sgd|adam", "how"},
    {"optimizer.groups[].factor", SETTING_REAL, "1", "0..", "of the rate"},
    {"optimizer.groups[].frozen", SETTING_FLAG, "false", NULL, "no step"},
    {"optimizer.groups[].widths", SETTING_INTEGERS, "[]", "1..", "a list in a list"},
    {"free", SETTING_REAL, NULL, NULL, "any number"},
};
enum { COUNT = sizeof table / sizeof *table };

static inline Status load(const char *path, Config **config)
{
    return config_load(table, COUNT, path, 0, NULL, config);
}

static inline Status load_override(const char *word, Config **config)
{
    return config_load(table, COUNT, NULL, 1, &word, config);
}

/* Writes scratch/name, in a folder that need not be there, and gives its path, valid until the eighth call from now. */
static inline const char *put(const char *name, const char *text)
{
    const char *path = in_scratch(name);
    char folder[4096];
    (void)snprintf(folder, sizeof folder, "%s", path);
    *strrchr(folder, '/') = '\0';
    assert_ok(file_make_folder(folder));
    assert_ok(file_write(path, text, strlen(text)));
    return path;
}

#endif
