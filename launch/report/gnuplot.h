/* Figures: gnuplot, run as a child process, draws a script as SVG that can stand in a page. */
#ifndef PLUMB_LAUNCH_REPORT_GNUPLOT_H
#define PLUMB_LAUNCH_REPORT_GNUPLOT_H

#include "engine/base/status.h"

/* Colours that the page decides, so that a figure is readable in light and in dark: a script says
 * rgb GNUPLOT_INK and the SVG says var(--ink). GNUPLOT_RUN_FORMAT takes a number n below GNUPLOT_RUNS and
 * becomes var(--run-n). */
#define GNUPLOT_INK "0x010001"
#define GNUPLOT_MUTED "0x010002"
#define GNUPLOT_GRID "0x010003"
#define GNUPLOT_OVER "0x010004"
#define GNUPLOT_UNDER "0x010005"
#define GNUPLOT_PAGE "0x010006"
#define GNUPLOT_RUN_FORMAT "0x0101%02x"
enum { GNUPLOT_RUNS = 8 };

/* Draws `script` (commands after `set terminal`) on width x height places. `id` is put before every id in the
 * SVG, and must be unique in the page; `label` says in words what is to be seen. *svg is released with
 * free(). STATUS_UNSUPPORTED when gnuplot is not installed, STATUS_INTERNAL with its words when it does not
 * take the script. */
CHECKED Status gnuplot_svg(const char *script, int width, int height, const char *id, const char *label,
                           char **svg);

#endif
