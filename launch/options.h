/* The words after a command: options, the same way for all commands (`--name VALUE` or `--name=VALUE`; flags
 * take none; `--` ends them), and what is left, to which `-` alone belongs. */
#ifndef PLUMB_LAUNCH_OPTIONS_H
#define PLUMB_LAUNCH_OPTIONS_H

#include "engine/base/status.h"

#include <stdbool.h>
#include <stdint.h>

/* The values of an option that may come several times, in their order; the array has room for all words of the command. */
typedef struct {
    const char **value;
    int count;
} OptionList;

/* One row of a command's table. Where the option is not given, what it points to stays as it was. */
typedef struct {
    const char *name;  /* "run", of --run */
    const char *takes; /* "a directory"; NULL: it is a flag or a number */
    /* One of these: */
    const char **text;
    bool *flag;
    int64_t *number; /* from low to high */
    int64_t low, high;
    OptionList *list; /* may come several times */
} Option;

/* argv[0] is the command's name. Puts the words that are no options into words[argc], in their order.
 * STATUS_USAGE names an option that is unknown (and the nearest known), comes twice, lacks its value, or has
 * one that it does not take. */
CHECKED Status options_parse(const Option[], int count, int argc, char **argv, const char *words[],
                             int *word_count);

/* For commands that take one file and settings: parts the words into that file and the `key=value` words,
 * which stay in words[0 .. *count - 1]. `what` names the file in messages: "CONFIG". */
CHECKED Status options_file_and_settings(const char *command, const char *what, const char *words[],
                                         int *count, const char **file);

#endif
