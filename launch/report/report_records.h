/* What runs have recorded of their training beside the curves (launch/runs/run_dynamics.h): how large the samples' gradients are at
 * the last layer (the paper's Figure 3b-d), the reliability of the training split (Figure A.1), the best models (Table J.1). */
#ifndef PLUMB_LAUNCH_REPORT_REPORT_RECORDS_H
#define PLUMB_LAUNCH_REPORT_REPORT_RECORDS_H

#include "launch/runs/run_summary.h"

#include <stdio.h>

/* A section each; nothing where no run has recorded such a thing. colours[i]: the number of run i in the figures, negative if it is
 * not in them. */
CHECKED Status report_records(FILE *page, const RunSummary runs[], const int colours[], int count);

#endif
