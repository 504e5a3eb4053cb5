/* What an evaluation of a split yields, by name: what `checkpoint.best` may name, and in which direction it is better. */
#ifndef PLUMB_LAUNCH_TRAIN_MEASURES_H
#define PLUMB_LAUNCH_TRAIN_MEASURES_H

#include "losses/calibration/calibration.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct {
    const char *name; /* "error"; as in metrics.jsonl */
    size_t offset;    /* of the double in Calibration */
    bool higher_is_better;
    /* Without an offset: of what a search makes of the split, where the config wants one (evaluate.bleu). */
    bool of_translations;
} Measure;

enum { MEASURES_MOST = 16 };

/* NULL if there is none of that name. */
const Measure *measure_find(const char *name);
/* bleu: of the split's translations; NaN where there are none. */
double measure_value(const Measure *, const Calibration *, double bleu);
/* What any value is better than. */
double measure_worst(const Measure *);
/* NaN is never better. */
bool measure_is_better(const Measure *, double value, double than);

#endif
