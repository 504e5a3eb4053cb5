/* The figures of the paper that are made of runs and of theory. */
#ifndef PLUMB_LAUNCH_REPORT_PAPER_FIGURES_H
#define PLUMB_LAUNCH_REPORT_PAPER_FIGURES_H

#include "launch/report/paper_chart.h"
#include "launch/report/paper_items.h"

/* What is drawn over the epochs. */
typedef struct {
    const char *title, *note, *up;
    double scale;
    bool log_y;
    double (*value)(const RunEpoch *);
    double (*dashed)(const RunEpoch *); /* NULL: nothing */
} PaperCurve;

/* Losses of one subject, a panel a curve. */
typedef struct {
    int subject;
    const int *loss;
    int losses;
    const PaperCurve *curve;
    int curves;
} PaperCurves;
CHECKED Status paper_curves(Paper *, PaperPart *); /* context: PaperCurves */

/* ECE, AdaECE and Classwise-ECE of the losses, before and after scaling, with 90 % intervals; three panels a subject. */
typedef struct {
    int subject[3];
    int subjects;
} PaperBars;
CHECKED Status paper_bars(Paper *, PaperPart *); /* context: PaperBars */

/* Panel (a) of Figure 3. */
CHECKED Status paper_chart_3a(Paper *, Chart *);

CHECKED Status paper_figure_3(Paper *, PaperPart *);
CHECKED Status paper_figure_a1(Paper *, PaperPart *);
CHECKED Status paper_figure_b1(Paper *, PaperPart *);
CHECKED Status paper_figure_c1(Paper *, PaperPart *);
CHECKED Status paper_figure_c2(Paper *, PaperPart *);
CHECKED Status paper_figure_h1(Paper *, PaperPart *);
CHECKED Status paper_roc(Paper *, PaperPart *); /* behind Table 3 */

/* For what has no mean over seeds: the experiment's first run that has what `has` asks for; NULL: there is none. *drawn is for the part,
 * if the run is drawn. */
const RunSummary *paper_first_seed(const Paper *, int subject, int loss, bool (*has)(const RunSummary *),
                                   PaperDrawn *drawn);

/* Charts into the part: a legend, then a figure each, which count as what the part has and wants. Frees their points. */
CHECKED Status paper_charts(Chart chart[], int count, PaperPart *);

#endif
