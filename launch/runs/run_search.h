/* Folders of runs: which runs are in them. */
#ifndef PLUMB_LAUNCH_RUNS_RUN_SEARCH_H
#define PLUMB_LAUNCH_RUNS_RUN_SEARCH_H

#include "engine/base/status.h"

#include <stdbool.h>

/* Of sweep.json: {"sweep": NAME, "format": 1, "runs": [NAME, ...]}. Files without a format are of version 0.1. */
enum { SWEEP_LIST_FORMAT = 1 };

/* Each path is a run's folder, or a folder of runs (a sweep's: in the order of its sweep.json, else by name;
 * folders of folders are searched a few levels deep). *runs gets the runs' folders, released with
 * run_search_free. A folder to which several paths lead is there once, and a warning says so; so does one for each
 * folder below a path that cannot be read. STATUS_IO or STATUS_INPUT when a path is absent, cannot be read or holds
 * no run; STATUS_UNSUPPORTED when a newer version of plumb wrote its sweep.json. Not collective. */
CHECKED Status run_search(const char *const paths[], int count, char ***runs, int *run_count);
void run_search_free(char **runs, int count); /* NULL is allowed */

/* STATUS_UNSUPPORTED when a newer version of plumb wrote folder's sweep.json, which a sweep is about to write again. OK where there
 * is none, or a damaged one. */
CHECKED Status run_search_check_format(const char *folder);

/* Is there anything that a run has written? A sweep lists runs that are yet to begin. */
CHECKED Status run_search_begun(const char *folder, bool *begun);

#endif
