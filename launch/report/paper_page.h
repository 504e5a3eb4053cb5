/* plumb report --paper: every table and figure of the paper on one page. */
#ifndef PLUMB_LAUNCH_REPORT_PAPER_PAGE_H
#define PLUMB_LAUNCH_REPORT_PAPER_PAGE_H

#include "launch/runs/run_summary.h"

/* The page as text, released with free(). data: the folder that gets each item's numbers, ID.csv and ID.json, to which the page, which
 * is to stand beside the folder, links; NULL: none. title: NULL for the usual one. What is not trained is shown as missing.
 * STATUS_INPUT where no run is one of the paper's; STATUS_UNSUPPORTED without gnuplot. */
CHECKED Status paper_html(const RunSummary[], int count, const char *title, const char *data, char **html);

extern const char paper_style[]; /* CSS, behind report_style */

#endif
