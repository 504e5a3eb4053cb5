/* Runs side by side: the columns that tables of runs have, here and in the report, and the table on the
 * terminal. */
#ifndef PLUMB_LAUNCH_RUNS_RUN_TABLE_H
#define PLUMB_LAUNCH_RUNS_RUN_TABLE_H

#include "launch/runs/run_summary.h"

#include <stdbool.h>
#include <stdio.h>

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

/* Of a column: the smallest value over the complete runs; NaN if fewer than two have one. */
double run_column_best(const RunColumn *, const RunSummary[], int count, bool after);

/* "complete", "unfinished: 3 of 10 epochs done; ...", "failed after 3 of 10 epochs: ..."; cut short to fit. */
enum { RUN_STATE_TEXT = 1200 }; /* what is enough but for the longest of errors */
void run_state_text(const RunSummary *, char *text, size_t size);

/* An aligned table, as wide as the terminal has room for (intervals go first), best values marked. Runs that
 * are not complete are listed as such. Behind it, where runs differ in nothing but their seed, one of means and
 * standard deviations. STATUS_IO when the stream takes no more. */
CHECKED Status run_table_print(const RunSummary[], int count, FILE *);

#endif
