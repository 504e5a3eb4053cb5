/* plumb report: runs side by side, as one HTML file that needs nothing else; see `plumb report --help`. */
#ifndef PLUMB_LAUNCH_REPORT_REPORT_H
#define PLUMB_LAUNCH_REPORT_REPORT_H

#include "comm/comm.h"
#include "launch/runs/run_summary.h"

typedef struct {
    const char *title; /* NULL: made of the runs */
    int figure_runs;   /* at most so many runs in figures; the tables have all */
} ReportOptions;
ReportOptions report_defaults(void);

/* The page as text, released with free(). STATUS_UNSUPPORTED without gnuplot. */
CHECKED Status report_html(const RunSummary[], int count, const ReportOptions *, char **html);

/* The command. Rank 0 does the work; all ranks get its status. Collective. */
CHECKED Status command_report(World *, int argc, char **argv);
extern const char report_help[];

#endif
