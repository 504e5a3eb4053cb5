/* Temperature scaling by a search over a grid of temperatures; as the published code has it, T starts at 0.1 and grows by
 * 0.1 (added in double precision), 100 values. The first T with the smallest ECE wins, and likewise for NLL. */
#ifndef PLUMB_LOSSES_CALIBRATION_TEMPERATURE_H
#define PLUMB_LOSSES_CALIBRATION_TEMPERATURE_H

#include "engine/base/status.h"
#include "engine/device/collective.h"
#include "engine/device/device.h"
#include "losses/calibration/logits.h"

enum { TEMPERATURE_COUNT = 100, TEMPERATURE_MOST = 1000 }; /* of the published grid; of any */

/* first, first + step, ..., last: each by adding step to the one before. */
typedef struct {
    double first, last, step;
} TemperatureGrid;
extern const TemperatureGrid temperature_published;
/* STATUS_USAGE if it is no grid of 1 to TEMPERATURE_MOST temperatures above 0. */
CHECKED Status temperature_grid_check(TemperatureGrid);
/* "FIRST:LAST:STEP" */
CHECKED Status temperature_grid_parse(const char *text, TemperatureGrid *);

typedef struct {
    int count;
    double temperature[TEMPERATURE_MOST];
    double ece[TEMPERATURE_MOST], nll[TEMPERATURE_MOST]; /* of the set searched on */
    double accuracy;                /* of the set: the likeliest class is the same at every temperature */
    double close[TEMPERATURE_MOST]; /* share of rows whose confidence is within 5e-7 of a bin's edge */
    int best_ece, best_nll;         /* indices */
    /* Rows whose label is a masked class, so that nll is infinite; best_nll is that of the others. */
    int64_t infinite_nll_count;
} TemperatureSearch;

/* One pass over the logits: every row meets all temperatures while it is in cache. Sets of more than 2^24
 * logits are searched in single precision first, if the grid is the published one (curves good to about 1e-6, but that
 * rows close to an edge may be in the other bin), and again in double precision only where two temperatures are too close
 * to call. Collective. bins in [1, CALIBRATION_MAX_BINS]. Checked logits only. threads: 0 means as OpenMP says. */
CHECKED Status temperature_search(Collective *, const Logits *, TemperatureGrid, int bins, int threads,
                                  TemperatureSearch *);

/* The same in the precision asked for: FLOAT32 (of the published grid only) or FLOAT64 (of the exponentials; all sums are
 * exact). */
CHECKED Status temperature_curves(Collective *, const Logits *, TemperatureGrid, int bins, int threads,
                                  DType precision, TemperatureSearch *);

/* The search in one pass over logits that are not kept: they come batch by batch, as calibration_pass_add has them. Memory
 * depends neither on the number of rows nor, but for a few rows of logits, on that of classes: 16 bytes a temperature and
 * bin, twice with each thread. The curves are those of temperature_curves in FLOAT64, to the bit, and the temperatures
 * chosen are those of temperature_search, whatever the batches and ranks. From a GPU each batch of logits is taken to the
 * host, which does the search. */
typedef struct {
    const char *name;      /* of the set, for messages; outlives the pass */
    int64_t classes;       /* at least 2 */
    const uint8_t *masked; /* [classes]: 1 for classes that are left out; copied. NULL: none */
    TemperatureGrid grid;
    int bins;
    int64_t most_rows; /* in one batch */
} TemperatureSetup;

typedef struct TemperaturePass TemperaturePass;
CHECKED Status temperature_pass_open(Device *, const TemperatureSetup *, TemperaturePass **);
void temperature_pass_close(TemperaturePass *); /* NULL is allowed */
void temperature_pass_begin(TemperaturePass *);
/* Waits for the rows. An error of a row is as logit_rows_check has it. Not collective. */
CHECKED Status temperature_pass_add(TemperaturePass *, const LogitRows *);
/* Collective, once after all rows were added. An error if no rank has a sample. */
CHECKED Status temperature_pass_search(TemperaturePass *, Collective *, TemperatureSearch *);

#endif
