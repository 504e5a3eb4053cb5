#include "launch/report/figure_script.h"

#include <stdbool.h>
#include <stdlib.h>

Status figure_script_open(FigureScript *script)
{
    *script = (FigureScript){.text = NULL};
    script->file = open_memstream(&script->text, &script->size);
    return script->file != NULL ? OK : fail(STATUS_MEMORY, "no memory for a figure");
}

Status figure_script_draw(FigureScript *script, int width, int height, const char *id, const char *label,
                          char **svg)
{
    const bool whole = ferror(script->file) == 0;
    Status status = fclose(script->file) == 0 && whole ? OK : fail(STATUS_MEMORY, "no memory for a figure");
    if (status == OK) status = gnuplot_svg(script->text, width, height, id, label, svg);
    free(script->text);
    return status;
}

const char *figure_colour(int number, char buffer[16])
{
    if (number < 0) return GNUPLOT_MUTED;
    (void)snprintf(buffer, 16, GNUPLOT_RUN_FORMAT, (unsigned)(number % GNUPLOT_RUNS));
    return buffer;
}

void figure_style(FILE *script)
{
    (void)fputs("set border 3 lw 0.8 lc rgb " GNUPLOT_MUTED "\n"
                "set tics out nomirror scale 0.5 textcolor rgb " GNUPLOT_MUTED "\n"
                "set grid back lt 1 lw 0.6 lc rgb " GNUPLOT_GRID "\n"
                "unset key\n"
                "set style fill solid 1 noborder\n",
                script);
}

void figure_margins(FILE *script, int width, int height, int left, int right, int top, int bottom)
{
    (void)fprintf(script,
                  "set lmargin at screen %.6f\nset rmargin at screen %.6f\n"
                  "set tmargin at screen %.6f\nset bmargin at screen %.6f\n",
                  (double)left / width, 1 - (double)right / width, 1 - (double)top / height,
                  (double)bottom / height);
}
