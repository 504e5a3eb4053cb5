/* The tables of a report, written into its page. colours[i]: the number of run i in the figures, negative if
 * it is not in them. */
#ifndef PLUMB_LAUNCH_REPORT_TABLES_H
#define PLUMB_LAUNCH_REPORT_TABLES_H

#include "launch/run_summary.h"

#include <stdio.h>

/* A run's name with the colour that it has in the figures. */
void report_name(FILE *, const RunSummary *, int colour);

/* The measures of calibration before and after temperature scaling, with intervals, best marked. */
void report_results(FILE *, const RunSummary runs[], const int colours[], int count);
/* Measures that few ask for. */
void report_more_measures(FILE *, const RunSummary runs[], const int colours[], int count);
/* State, epochs, time. */
void report_training(FILE *, const RunSummary runs[], const int colours[], int count);
/* The settings that differ between runs, and every config in full. */
CHECKED Status report_settings(FILE *, const RunSummary runs[], const int colours[], int count);
/* Which machine and versions made the runs; runs made alike share a column. */
CHECKED Status report_machines(FILE *, const RunSummary runs[], int count);

#endif
