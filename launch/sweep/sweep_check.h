/* What can be found wrong with the runs of a sweep before the first one starts. */
#ifndef PLUMB_LAUNCH_SWEEP_SWEEP_CHECK_H
#define PLUMB_LAUNCH_SWEEP_SWEEP_CHECK_H

#include "engine/base/status.h"
#include "launch/sweep/sweep_plan.h"

#include <stdbool.h>

/* Every run's config (session_check_config), that it is the one which its folder below `folder` was trained with,
 * and, of runs that are not complete, that the data and starting weights are there: once for all runs that describe
 * them alike. Warns of settings that come too late for complete runs. The error names the run, and the sweep's file
 * and line or the command line for a setting that comes from there. `elsewhere`: the runs are started by a launcher
 * of the user's; then the number of ranks is not known, and files that are not on this host are only a warning. *gpus: does
 * a run that is not complete use GPUs where there are some? */
CHECKED Status sweep_check(const SweepPlan *, const char *folder, bool elsewhere, bool *gpus);

#endif
