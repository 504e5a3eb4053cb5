/* A run that is given more epochs or steps than it was begun with: it goes on where it ended, with its optimizer's state, and its folder
 * says so in extensions.jsonl, one object a time: {"setting": "epochs", "from": 10, "to": 20,
 * "when": "2026-11-29T14:00:00Z"}. */
#ifndef PLUMB_LAUNCH_RUNS_RUN_EXTENSION_H
#define PLUMB_LAUNCH_RUNS_RUN_EXTENSION_H

#include "launch/runs/run_folder.h"

/* What got larger: "epochs" or "steps". */
typedef struct {
    const char *setting; /* NULL: nothing did */
    int64_t from, to;
} RunExtension;

/* Does the line of a resolved config give one of these settings a larger value than the other's? Both are greater than
 * 0. */
bool run_extension_is(const char *old_line, const char *new_line, RunExtension *);

/* Notes it, and then that the run is no longer complete. Rank 0, which holds the lock. */
CHECKED Status run_extension_begin(const RunFolder *, const RunExtension *);

/* Is this the hash (run_config_hash, as 16 hexadecimal digits) of the config, or of the same with one of the numbers of
 * epochs or steps that the run once had? Any rank. */
CHECKED Status run_extension_is_config(const RunFolder *, const Config *, const char *hash, bool *is);

#endif
