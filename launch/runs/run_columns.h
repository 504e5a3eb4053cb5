/* The columns that tables of runs have, on the terminal and in the report. */
#ifndef PLUMB_LAUNCH_RUNS_RUN_COLUMNS_H
#define PLUMB_LAUNCH_RUNS_RUN_COLUMNS_H

#include "launch/runs/run_summary.h"

#include <stdbool.h>

/* One number of a run. Smaller is better for all of them. */
typedef struct {
    const char *title; /* "ECE" */
    const char *key;   /* "ece" */
    bool percent;      /* else as it is */
    int decimals;
    bool by_stage; /* before and after temperature scaling; else once */
    double (*value)(const RunMeasure *);
    Interval (*interval)(const RunMeasure *); /* NULL: has none */
} RunColumn;

const RunColumn *run_columns(int *count);

/* Those, and behind them what papers give beside them: the Brier score. */
enum { RUN_PUBLISHED_COLUMNS = 7 };
const RunColumn *run_published_columns(void);

enum { RUN_TEMPERATURE_DECIMALS = 2 }; /* of a mean; temperatures are searched in steps of 0.1 */

/* best[i]: is the value of run i the smallest of its data set's complete runs, of which there are two or more? */
CHECKED Status run_column_best(const RunColumn *, const RunSummary[], int count, bool after, bool best[]);
/* Are there runs of several data sets? */
bool run_datasets_differ(const RunSummary[], int count);

#endif
