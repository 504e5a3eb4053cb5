/* What gnuplot scripts of figures have in common. */
#ifndef PLUMB_LAUNCH_REPORT_FIGURE_SCRIPT_H
#define PLUMB_LAUNCH_REPORT_FIGURE_SCRIPT_H

#include "launch/report/gnuplot.h"

#include <stdio.h>

typedef struct {
    char *text;
    size_t size;
    FILE *file; /* to write to */
} FigureScript;

CHECKED Status figure_script_open(FigureScript *);
/* Closes the script, draws it by gnuplot_svg and frees it. */
CHECKED Status figure_script_draw(FigureScript *, int width, int height, const char *id, const char *label,
                                  char **svg);

/* A run's colour as gnuplot takes it, in `buffer` or constant; colours come again after GNUPLOT_RUNS. Negative: muted. */
const char *figure_colour(int number, char buffer[16]);

/* The look that all figures share: two axes, outward ticks, a faint grid. */
void figure_style(FILE *script);

/* Margins in pixels of the figure, so that figures side by side have equal axes. */
void figure_margins(FILE *script, int width, int height, int left, int right, int top, int bottom);

#endif
