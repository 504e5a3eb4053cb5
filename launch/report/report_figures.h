/* The figures of a report, each an SVG element released with free(). `id` must be unique in the page. */
#ifndef PLUMB_LAUNCH_REPORT_REPORT_FIGURES_H
#define PLUMB_LAUNCH_REPORT_REPORT_FIGURES_H

#include "launch/runs/run_summary.h"

/* Accuracy over confidence, bin by bin, with the gap to the confidence, and below it each bin's share of the
 * samples. colour: the run's number among those drawn, which gives its colour. */
enum { FIGURE_FEW_SAMPLES = 10 }; /* bins with fewer are drawn pale */
CHECKED Status figure_reliability(const RunMeasure *, int colour, const char *id, const char *label,
                                  char **svg);

/* ECE of each run before and after temperature scaling with its interval; a row a run. colours[i]: of run i,
 * or negative for none. */
typedef enum {
    FIGURE_WIDE,
    FIGURE_NARROW
} FigureWidth; /* for a telephone: names above the bars, not beside */
CHECKED Status figure_intervals(const RunSummary *const runs[], const int colours[], int count, FigureWidth,
                                const char *id, char **svg);

/* What is drawn over the epochs, one figure each. */
typedef struct {
    const char *key, *title;
    const char *note; /* may be empty */
    bool percent;
    double (*value)(const RunEpoch *, Split);
    double (*beside)(const RunEpoch *, Split); /* drawn thin and dashed; NULL: nothing */
} Curve;
const Curve *figure_curves(int *count);

/* split: which one to draw where the curve is of one. *svg is NULL when no run has a value. *logarithmic: is
 * its y axis? */
CHECKED Status figure_curve(const Curve *, const RunSummary *const runs[], int count, Split split,
                            const char *id, char **svg, bool *logarithmic);

#endif
