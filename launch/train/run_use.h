/* How commands use a run that is there, if not as it was trained: the same options of all of them. */
#ifndef PLUMB_LAUNCH_TRAIN_RUN_USE_H
#define PLUMB_LAUNCH_TRAIN_RUN_USE_H

#include "engine/base/status.h"

/* NULL: as the run's config says. */
typedef struct {
    const char *device;  /* --device auto|cpu|cuda */
    const char *compute; /* --compute float32|bfloat16 */
} RunUse;

/* STATUS_USAGE names an option with another value than these. */
CHECKED Status run_use_check(const RunUse *);

/* Puts overrides of the run's config into words, and returns their number. They are constants, nothing is to be released. */
enum { RUN_USE_WORDS = 3 };
int run_use_words(const RunUse *, const char *words[RUN_USE_WORDS]);

#endif
