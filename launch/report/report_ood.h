/* Samples from elsewhere, of which the folder of a run may tell (ood.json): a table and the ROC curves. */
#ifndef PLUMB_LAUNCH_REPORT_REPORT_OOD_H
#define PLUMB_LAUNCH_REPORT_REPORT_OOD_H

#include "launch/runs/run_summary.h"

#include <stdio.h>

/* A section of the page; nothing where no run has such a file. colours[i]: the number of run i in the figures, negative if it is
 * not in them. */
CHECKED Status report_ood(FILE *page, const RunSummary runs[], const int colours[], int count);

#endif
