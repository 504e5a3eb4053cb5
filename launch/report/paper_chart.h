/* One panel of a figure, from numbers: drawn by gnuplot, and given as data. */
#ifndef PLUMB_LAUNCH_REPORT_PAPER_CHART_H
#define PLUMB_LAUNCH_REPORT_PAPER_CHART_H

#include "launch/report/paper_data.h"
#include "launch/runs/seed_groups.h"

#include <stdbool.h>

typedef struct {
    double x, y;
    double lower, upper; /* NaN: none */
    SeedStatistic seeds; /* that y is the mean of; a count of 0: no number of runs */
} ChartPoint;

typedef struct {
    char name[64];
    int colour;       /* of GNUPLOT_RUNS */
    bool dashed;      /* bars: pale; points: open */
    const char *seed; /* of the one run that is drawn; NULL: of none, or of all */
    double line;      /* CHART_POINTS: the width of a line instead; 0: points */
    ChartPoint *point;
    size_t capacity;
    int count;
} ChartSeries;

typedef enum {
    CHART_LINES, /* with a band from lower to upper */
    CHART_STEPS, /* x: where a step begins */
    CHART_BARS,  /* one beside another, in the order of the series; x is the place among them */
    CHART_POINTS
} ChartKind;

enum { CHART_MOST_SERIES = 20 };
typedef struct {
    const char *title, *note; /* plain text; note: "" for none */
    const char *across, *up;  /* axes; "": none */
    ChartKind kind;
    bool log_x, log_y;
    bool from_zero;    /* does the y axis begin at 0? */
    bool is_diagram;   /* both axes from 0 to 1, with a diagonal */
    double reach;      /* both axes from -reach to reach; 0: not */
    bool short_legend; /* without dashed series: a note tells of them */
    ChartSeries series[CHART_MOST_SERIES];
    int count;
} Chart;

/* The series of that name, begun if it is not there. NULL if there are CHART_MOST_SERIES others. */
ChartSeries *chart_series(Chart *, const char *name, int colour, bool dashed);
/* A point without a band: a number of one run, or (runs 0) of none. */
ChartPoint chart_at(double x, double y, int runs);
/* A point whose y is NaN is left out; series may be NULL. */
CHECKED Status chart_point(ChartSeries *, ChartPoint);

/* One run's curve, x rising; values that are NaN are not there. */
typedef struct {
    double *x, *y; /* [count] */
    int count;
} SeedCurve;
/* The mean over the runs at every x that one of them has, with one standard deviation to either side. */
CHECKED Status chart_mean(ChartSeries *, const SeedCurve[], int runs);

void chart_free(Chart *); /* its points */

/* A <figure> in the page, or a box that says it is missing if there is no point; the points are appended to the data, whose columns are
 * chart_columns. id: of the SVG, unique in the page. *drawn: is there one? */
CHECKED Status chart_write(const Chart *, const char *id, FILE *page, PaperData *, bool *drawn);
enum { CHART_COLUMNS = 9 };
extern const char *const chart_columns[CHART_COLUMNS];

/* A legend of the series' names and colours, each once. */
void chart_legend(const Chart *, int charts, FILE *page);

#endif
