/* The temperature that a run's evaluation chose. */
#ifndef PLUMB_LAUNCH_RUNS_RUN_TEMPERATURE_H
#define PLUMB_LAUNCH_RUNS_RUN_TEMPERATURE_H

#include "launch/runs/run_folder.h"

/* Of evaluation.json: chosen on the validation split, by its calibration error. STATUS_INPUT if there was no evaluation, or no
 * temperature in it. Warns where the evaluation was of another model than `checkpoint`, which is of this step of training (0: it
 * does not say). option: how the user asked for it, for messages. Any rank. */
CHECKED Status run_temperature(const RunFolder *, const char *option, const char *checkpoint, int64_t step,
                               double *temperature);

#endif
