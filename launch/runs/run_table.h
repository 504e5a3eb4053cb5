/* Runs side by side: the table on the terminal. */
#ifndef PLUMB_LAUNCH_RUNS_RUN_TABLE_H
#define PLUMB_LAUNCH_RUNS_RUN_TABLE_H

#include "launch/runs/run_summary.h"

#include <stdio.h>

/* "complete", "unfinished: 3 of 10 epochs done; ...", "failed after 3 of 10 epochs: ..."; cut short to fit. */
enum { RUN_STATE_TEXT = 1200 }; /* what is enough but for the longest of errors */
void run_state_text(const RunSummary *, char *text, size_t size);

/* An aligned table, as wide as the terminal has room for (intervals go first), best values marked. Runs that
 * are not complete are listed as such. Behind it, where runs differ in nothing but their seed, one of means and
 * standard deviations. STATUS_IO when the stream takes no more. */
CHECKED Status run_table_print(const RunSummary[], int count, FILE *);

#endif
