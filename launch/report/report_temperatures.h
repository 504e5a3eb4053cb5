/* BLEU, calibration error and NLL against temperature: Figure K.1 (Appendix K) of runs that `plumb evaluate RUN --temperatures F:L:S
 * --bleu` has measured. */
#ifndef PLUMB_LAUNCH_REPORT_REPORT_TEMPERATURES_H
#define PLUMB_LAUNCH_REPORT_REPORT_TEMPERATURES_H

#include "launch/runs/bleu_curves.h"
#include "launch/runs/run_summary.h"

#include <stdio.h>

/* One curve of a figure. */
typedef struct {
    const BleuCurves *curves;
    int colour;   /* number among the drawn runs */
    double paper; /* the best BLEU that the paper has for this loss, drawn as a line; NaN: none */
} TemperatureRun;
typedef enum {
    TEMPERATURES_BLEU,
    TEMPERATURES_ECE,
    TEMPERATURES_NLL,
    TEMPERATURES_FIGURES
} TemperaturesFigure;
/* What the figure shows, for its caption. */
const char *figure_temperatures_title(TemperaturesFigure);
/* Of BLEU and NLL the test set; of ECE the test set, and the validation set dashed. *svg is NULL where no run has what is drawn. */
CHECKED Status figure_temperatures(TemperaturesFigure, const TemperatureRun[], int count, const char *id,
                                   char **svg);

/* The figures and a table of the runs that have a temperatures.json, without a heading; nothing where none has. The paper's best BLEUs
 * (26.33 cross-entropy, 26.36 label smoothing, 26.39 focal loss) are marked for runs of those losses on wmt14_en_de. colours: the
 * number of each run among the drawn, or -1. Once a page: ids of the figures begin with "k1-". *shown: how many runs have one. */
CHECKED Status report_temperatures(FILE *page, const RunSummary[], const int colours[], int count,
                                   int *shown);
/* The same under a heading of its own. */
CHECKED Status report_temperatures_section(FILE *page, const RunSummary[], const int colours[], int count);

#endif
