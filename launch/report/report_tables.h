/* The tables of a report, written into its page. colours[i]: the number of run i in the figures, negative if
 * it is not in them. */
#ifndef PLUMB_LAUNCH_REPORT_REPORT_TABLES_H
#define PLUMB_LAUNCH_REPORT_REPORT_TABLES_H

#include "launch/runs/run_columns.h"
#include "launch/runs/run_summary.h"

#include <stdbool.h>
#include <stdio.h>

/* A run's name with the colour that it has in the figures. */
void report_name(FILE *, const RunSummary *, int colour);

/* Over that of each run, and that of means over seeds: two rows of column heads where there is an "after". */
void report_results_head(FILE *, const RunColumn columns[], int count, bool stages, bool seeds);

/* The measures of calibration before and after temperature scaling, with intervals, best marked. */
CHECKED Status report_results(FILE *, const RunSummary runs[], const int colours[], int count);
/* Their means and standard deviations over seeds; nothing where no runs differ in their seed alone. */
CHECKED Status report_seeds(FILE *, const RunSummary runs[], int count);
/* Measures that few ask for. */
void report_more_measures(FILE *, const RunSummary runs[], const int colours[], int count);
/* State, epochs, time. */
void report_training(FILE *, const RunSummary runs[], const int colours[], int count);
/* The settings that differ between runs, and every config in full. */
CHECKED Status report_settings(FILE *, const RunSummary runs[], const int colours[], int count);
/* Which machine and versions made the runs; runs made alike share a column. */
CHECKED Status report_machines(FILE *, const RunSummary runs[], int count);

#endif
