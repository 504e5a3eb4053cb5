/* Temperature scaling as the published code searches it: T starts at 0.1 and grows by 0.1 (added in double
 * precision), 100 values; the first T with the smallest ECE wins, and likewise for NLL. */
#ifndef PLUMB_LOSSES_CALIBRATION_TEMPERATURE_H
#define PLUMB_LOSSES_CALIBRATION_TEMPERATURE_H

#include "engine/base/status.h"
#include "engine/device/collective.h"
#include "losses/calibration/logits.h"

enum { TEMPERATURE_COUNT = 100 };

typedef struct {
    double temperature[TEMPERATURE_COUNT];
    double ece[TEMPERATURE_COUNT], nll[TEMPERATURE_COUNT]; /* of the set searched on */
    double close[TEMPERATURE_COUNT]; /* share of rows whose confidence is within 5e-7 of a bin's edge */
    int best_ece, best_nll;          /* indices */
    /* Rows whose label is a masked class, so that nll is infinite; best_nll is that of the others. */
    int64_t infinite_nll_count;
} TemperatureSearch;

/* One pass over the logits: every row meets all temperatures while it is in cache. Sets of more than 2^24
 * logits are searched in single precision first (curves good to about 1e-6, but that rows close to an edge may
 * be in the other bin), and again in double precision only where two temperatures are too close to call. Collective. bins in [1, CALIBRATION_MAX_BINS]. Checked
 * logits only. threads: 0 means as OpenMP says. */
CHECKED Status temperature_search(Collective *, const Logits *, int bins, int threads, TemperatureSearch *);

/* The same in the precision asked for: FLOAT32 or FLOAT64 (of the exponentials; all sums are exact). */
CHECKED Status temperature_curves(Collective *, const Logits *, int bins, int threads, DType precision,
                                  TemperatureSearch *);

#endif
