#include "launch/report/evaluation_page.h"

#include "engine/base/file.h"
#include "engine/base/memory.h"
#include "launch/report/figure_script.h"
#include "launch/report/html.h"
#include "launch/report/report_figures.h"
#include "launch/report/report_style.h"
#include "launch/report/report_temperatures.h"

#include <math.h>
#include <stdlib.h>

/* ---- the curve of SmoothECE ---- */

/* Pixels, as of the reliability diagram beside it: a square, and a strip below for the density. */
enum {
    LEFT = 50,
    RIGHT = 8,
    TOP = 8,
    SIDE = 230,
    BETWEEN = 14,
    STRIP = 56,
    BOTTOM = 42,
    WIDTH = LEFT + SIDE + RIGHT,
    HEIGHT = TOP + SIDE + BETWEEN + STRIP + BOTTOM
};

/* Points whose numbers are there: x, accuracy, lower, upper, density; where there is no band the curve stands for it. Where hardly
 * a sample is, the curve says nothing. */
static void write_points(FILE *script, const MoreMeasures *more)
{
    const double least = 1e-3;
    (void)fputs("$curve << END\n", script);
    int written = 0;
    for (int i = 0; i < MORE_POINTS; ++i) {
        const double accuracy = more->accuracy[i];
        if (isnan(accuracy) || more->density[i] < least) continue;
        const bool has_band = !isnan(more->lower[i]) && !isnan(more->upper[i]);
        (void)fprintf(script, "%.6f %.6f %.6f %.6f\n", (double)i / (MORE_POINTS - 1), accuracy,
                      has_band ? more->lower[i] : accuracy, has_band ? more->upper[i] : accuracy);
        ++written;
    }
    if (written == 0) (void)fputs("-1 -1 -1 -1\n", script); /* outside the axes */
    (void)fputs("END\n$density << END\n", script);
    for (int i = 0; i < MORE_POINTS; ++i)
        (void)fprintf(script, "%.6f %.6f\n", (double)i / (MORE_POINTS - 1), more->density[i]);
    (void)fputs("END\n", script);
}

static Status figure_smooth(const MoreMeasures *more, const char *id, const char *label, char **svg)
{
    FigureScript script;
    char buffer[16];
    const char *colour = figure_colour(0, buffer);
    TRY(figure_script_open(&script));
    write_points(script.file, more);
    figure_style(script.file);
    (void)fputs("set multiplot\nset xrange [0:1]\nset xtics 0,0.2,1\n", script.file);
    figure_margins(script.file, WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM + STRIP + BETWEEN);
    (void)fputs("set yrange [0:1]\nset ytics 0,0.2,1 format '%.1f'\nset format x ''\n"
                "set ylabel 'accuracy' offset 1,0 textcolor rgb " GNUPLOT_MUTED "\n"
                "set arrow 1 from 0,0 to 1,1 nohead front lw 1 dt (8,5) lc rgb " GNUPLOT_INK "\n",
                script.file);
    (void)fprintf(script.file,
                  "plot $curve using 1:3:4 with filledcurves lc rgb %s fs transparent solid 0.25 noborder, "
                  "$curve using 1:2 with lines lw 2 lc rgb %s\n",
                  colour, colour);
    figure_margins(script.file, WIDTH, HEIGHT, LEFT, RIGHT, TOP + SIDE + BETWEEN, BOTTOM);
    (void)fputs(
        "unset arrow 1\nset format x '%.1f'\nset xtics offset 0,0.3\nset xlabel 'confidence' offset 0,0.9 "
        "textcolor rgb " GNUPLOT_MUTED "\nset yrange [0:*]\nunset ytics\nset ylabel 'density' offset 1,0 "
        "textcolor rgb " GNUPLOT_MUTED "\n",
        script.file);
    (void)fprintf(script.file,
                  "plot $density using 1:2 with filledcurves y1=0 lc rgb %s fs solid 0.85 noborder\n",
                  colour);
    return figure_script_draw(&script, WIDTH, HEIGHT, id, label, svg);
}

/* ---- the page ---- */

typedef struct {
    FILE *file;
    int figures; /* so far, for their ids */
} Page;

static Status write_figure(Page *page, Status drawn, char *svg)
{
    TRY(drawn);
    (void)fputs(svg, page->file);
    free(svg);
    return OK;
}

static Status write_panel(Page *page, const char *title, const Calibration *measured,
                          const MoreMeasures *more)
{
    const RunMeasure bins = {.bins = measured->bins,
                             .bin = (CalibrationBin *)(uintptr_t)measured->bin,
                             .mean_confidence = measured->mean_confidence,
                             .error = measured->error};
    char id[32], label[160], *svg = NULL;
    (void)fputs("<figure><figcaption>", page->file);
    html_text(page->file, title);
    (void)fputs("</figcaption>\n", page->file);
    (void)snprintf(id, sizeof id, "figure-%d-", page->figures++);
    (void)snprintf(label, sizeof label, "Reliability diagram: ECE %.2f %%, accuracy %.2f %%",
                   100 * measured->ece, 100 * (1 - measured->error));
    const Status reliability = figure_reliability(&bins, 0, id, label, &svg);
    TRY(write_figure(page, reliability, svg));
    if (more != NULL) {
        (void)snprintf(id, sizeof id, "figure-%d-", page->figures++);
        (void)snprintf(label, sizeof label, "Curve of SmoothECE: %.2f %%, bandwidth %.4f",
                       100 * more->smooth.value, more->smooth.bandwidth);
        const Status smooth = figure_smooth(more, id, label, &svg);
        TRY(write_figure(page, smooth, svg));
    }
    (void)fputs("</figure>\n", page->file);
    return OK;
}

static Status write_panels(Page *page, const EvaluationResult *result)
{
    static const char *const after[EVALUATE_STAGES] = {"before", "by ECE", "by NLL"};
    for (int stage = 0; stage < (result->has_temperature ? EVALUATE_STAGES : 1); ++stage) {
        char title[64];
        (void)snprintf(title, sizeof title, "before");
        if (stage > 0)
            (void)snprintf(title, sizeof title, "T = %.4g %s", evaluation_temperature(result, stage),
                           after[stage]);
        TRY(write_panel(page, title, &result->measured[stage],
                        result->has_more ? &result->more[stage] : NULL));
    }
    for (int i = 0; i < result->recalibrations; ++i) {
        const Recalibration *recalibrated = &result->recalibrated[i];
        char name[EVALUATION_NAME];
        evaluation_recalibration_name(recalibrated, name);
        TRY(write_panel(page, name, &recalibrated->measured, result->has_more ? &recalibrated->more : NULL));
    }
    return OK;
}

/* ECE, NLL and, where it was asked for, BLEU against temperature. */
static Status write_temperatures(Page *page, const EvaluationResult *result)
{
    BleuCurves *curves;
    TRY(memory_new(&curves, 1, sizeof *curves, "curves against temperature"));
    bleu_curves_of(result, curves);
    const TemperatureRun run = {.curves = curves, .paper = NAN};
    Status status = OK;
    (void)fputs("<h2 class=\"page\">Temperatures</h2>\n<p>Dashed: of the validation set; a point: where its "
                "ECE is the "
                "least.</p>\n<div class=\"panels few\">\n",
                page->file);
    for (int figure = 0; figure < TEMPERATURES_FIGURES && status == OK; ++figure) {
        char id[32], *svg = NULL;
        (void)snprintf(id, sizeof id, "figure-%d-", page->figures++);
        status = figure_temperatures((TemperaturesFigure)figure, &run, 1, id, &svg);
        if (svg != NULL)
            (void)fprintf(page->file, "<figure><figcaption>%s</figcaption>\n%s</figure>\n",
                          figure_temperatures_title((TemperaturesFigure)figure), svg);
        free(svg);
    }
    (void)fputs("</div>\n", page->file);
    free(curves);
    return status;
}

static Status write_table(Page *page, const EvaluationResult *result)
{
    char *text = NULL;
    size_t size = 0;
    FILE *memory = open_memstream(&text, &size);
    if (memory == NULL) return fail(STATUS_MEMORY, "no memory for a table");
    evaluation_print(result, memory);
    const bool whole = fclose(memory) == 0;
    (void)fputs("<pre>", page->file);
    if (whole) html_text(page->file, text);
    (void)fputs("</pre>\n", page->file);
    free(text);
    return whole ? OK : fail(STATUS_MEMORY, "no memory for a table");
}

static Status write_page(Page *page, const char *title, const EvaluationResult *result)
{
    (void)fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>",
                page->file);
    html_text(page->file, title);
    (void)fprintf(page->file,
                  "</title>\n<style>\n%spre{overflow-x:auto;font-size:.85em}</style>\n</head>\n<body>\n"
                  "<header>\n<h1>",
                  report_style);
    html_text(page->file, title);
    (void)fputs("</h1>\n</header>\n<main>\n<h2 class=\"page\">Reliability</h2>\n"
                "<p>A bar is the accuracy of the samples in a bin of confidence; a calibrated network's bars "
                "end on the "
                "diagonal, and in nine of ten samples of this size within the marks.",
                page->file);
    if (result->has_more)
        (void)fputs(" The curve is the accuracy without bins, at the bandwidth that SmoothECE chooses, with "
                    "the band of "
                    "nine of ten resamples; below it the density of the samples.",
                    page->file);
    (void)fputs("</p>\n<div class=\"panels few\">\n", page->file);
    TRY(write_panels(page, result));
    (void)fputs("</div>\n", page->file);
    if (result->has_curve) TRY(write_temperatures(page, result));
    (void)fputs("<h2 class=\"page\">Measures</h2>\n", page->file);
    TRY(write_table(page, result));
    (void)fprintf(page->file,
                  "</main>\n<footer>\n<p>Written by plumb %s; figures by gnuplot.</p>\n</footer>\n</body>\n"
                  "</html>\n",
                  PLUMB_VERSION);
    return OK;
}

Status evaluation_page_write(const char *path, const char *title, const EvaluationResult *result)
{
    char *text = NULL;
    size_t size = 0;
    Page page = {.file = open_memstream(&text, &size)};
    if (page.file == NULL) return fail(STATUS_MEMORY, "no memory for a page");
    Status status = write_page(&page, title, result);
    const bool whole = ferror(page.file) == 0;
    if ((fclose(page.file) != 0 || !whole) && status == OK)
        status = fail(STATUS_MEMORY, "no memory for a page");
    if (status == OK) status = file_write(path, text, size);
    free(text);
    return status;
}
