/* The page of plumb theory. */
#include "engine/base/memory.h"
#include "launch/report/figure_script.h"
#include "launch/report/html.h"
#include "launch/report/report_style.h"
#include "launch/report/theory.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { WIDTH = 380, HEIGHT = 280, LEFT = 50, RIGHT = 22, TOP = 10, BOTTOM = 44 };

/* The axes of a figure; extra: further commands. */
static void write_axes(FILE *script, const char *across, const char *up, const char *extra)
{
    figure_style(script);
    figure_margins(script, WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM);
    (void)fprintf(script,
                  "set xtics offset 0,0.3\nset format y '%%g'\nset xlabel '%s' offset 0,0.9 textcolor "
                  "rgb " GNUPLOT_MUTED "\nset ylabel '%s' offset 1.5,0 textcolor rgb " GNUPLOT_MUTED "\n%s",
                  across, up, extra);
}

/* Draws a script into the page, as a figure with its caption. */
static Status place(FILE *page, FigureScript *script, const char *id, const char *title, const char *note)
{
    char *svg;
    TRY(figure_script_draw(script, WIDTH, HEIGHT, id, title, &svg));
    (void)fputs("<figure><figcaption>", page);
    html_text(page, title);
    (void)fputs(" <small>", page);
    html_text(page, note);
    (void)fputs("</small></figcaption>\n", page);
    (void)fputs(svg, page);
    (void)fputs("</figure>\n", page);
    free(svg);
    return OK;
}

static void write_legend(FILE *page, const double gamma[], int count)
{
    (void)fputs("<ul class=\"legend\">", page);
    for (int i = 0; i < count; ++i) {
        (void)fprintf(page, "<li><span class=\"swatch c%d\"></span>", i);
        if (gamma[i] == 0)
            (void)fputs("cross-entropy", page);
        else
            (void)fprintf(page, "focal loss, &gamma;&nbsp;=&nbsp;%g", gamma[i]);
        (void)fputs("</li>", page);
    }
    (void)fputs("</ul>\n", page);
}

/* ---- Figures 3a and B.1 ---- */

static Status write_curves(FILE *page, const Theory *theory, const double curve[][THEORY_POINTS],
                           const char *id, const char *title, const char *note, const char *across,
                           const char *up)
{
    FigureScript script;
    char buffer[16];
    TRY(figure_script_open(&script));
    write_axes(script.file, across, up, "set xrange [0:1]\nset yrange [0:*]\n");
    for (int c = 0; c < THEORY_CURVES; ++c) {
        (void)fprintf(script.file, "$c%d << END\n", c);
        for (int i = 0; i < THEORY_POINTS; ++i)
            (void)fprintf(script.file, "%.6g %.8g\n", theory->place[i], curve[c][i]);
        (void)fputs("END\n", script.file);
    }
    for (int c = 0; c < THEORY_CURVES; ++c)
        (void)fprintf(script.file, "%s $c%d using 1:2 with lines lw 1.8 lc rgb %s", c == 0 ? "plot" : ",", c,
                      figure_colour(c, buffer));
    (void)fputc('\n', script.file);
    return place(page, &script, id, title, note);
}

/* ---- Proposition 1 ---- */

static Status write_network(FILE *page, const TheoryNetwork *network)
{
    FigureScript script;
    char buffer[16], note[160];
    double largest = 0;
    TRY(figure_script_open(&script));
    write_axes(script.file, "p of the label", "norm of focal / of cross-entropy",
               "set xrange [0:1]\nset yrange [0:*]\nset samples 400\n");
    for (int g = 0; g < THEORY_GAMMAS; ++g) {
        (void)fprintf(script.file, "$n%d << END\n", g);
        for (int i = 0; i < THEORY_SAMPLES; ++i)
            (void)fprintf(script.file, "%.6g %.8g\n", network->probability[i],
                          network->plain_norm[i] > 0 ? network->focal_norm[g][i] / network->plain_norm[i]
                                                     : 0);
        (void)fputs("END\n", script.file);
        largest = fmax(largest, network->deviation[g]);
    }
    for (int g = 0; g < THEORY_GAMMAS; ++g)
        (void)fprintf(script.file,
                      "%s (x > 0 && x < 1 ? (1-x)**%g - %g*x*(1-x)**%g*log(x) : NaN) with lines lw 1 lc rgb "
                      "%s, $n%d using 1:2 with "
                      "points pt 7 ps 0.5 lc "
                      "rgb %s",
                      g == 0 ? "plot" : ",", network->gamma[g], network->gamma[g], network->gamma[g] - 1,
                      figure_colour(g + 1, buffer), g, figure_colour(g + 1, buffer));
    (void)fputc('\n', script.file);
    (void)snprintf(note, sizeof note, "points: %s of %s, sample by sample; lines: g. Largest deviation %.0e",
                   network->layer, network->network, largest);
    return place(page, &script, "network", "Proposition 1 on a network", note);
}

/* ---- appendix C ---- */

static double weight_norm(const LinearRecord *record) { return record->weight_norm; }
static double logit_norm(const LinearRecord *record) { return record->logit_norm; }
static double wrong_confidence(const LinearRecord *record) { return record->wrong_confidence; }

static Status write_records(FILE *page, const Theory *theory, double (*value)(const LinearRecord *),
                            const char *id, const char *title, const char *up)
{
    FigureScript script;
    char buffer[16];
    TRY(figure_script_open(&script));
    write_axes(script.file, "step", up, "set logscale x\nset format x '%g'\n");
    for (int r = 0; r < THEORY_LINEAR; ++r) {
        (void)fprintf(script.file, "$r%d << END\n", r);
        for (int i = 0; i < theory->linear[r].records; ++i) {
            const LinearRecord *record = &theory->linear[r].record[i];
            if (isfinite(value(record))) (void)fprintf(script.file, "%d %.8g\n", record->step, value(record));
        }
        (void)fputs("END\n", script.file);
    }
    for (int r = 0; r < THEORY_LINEAR; ++r)
        (void)fprintf(script.file, "%s $r%d using 1:2 with lines lw 1.8 lc rgb %s", r == 0 ? "plot" : ",", r,
                      figure_colour(r, buffer));
    (void)fputc('\n', script.file);
    return place(page, &script, id, title, "");
}

static void write_points(FILE *script, const char *name, const LinearPoint points[], int count, int label)
{
    (void)fprintf(script, "$%s%d << END\n", name, label);
    for (int i = 0; i < count; ++i)
        if (points[i].label == label) (void)fprintf(script, "%.5g %.5g\n", points[i].x[0], points[i].x[1]);
    (void)fputs("END\n", script);
}

/* Where both logits are equal: (w0 - w1) x + b0 - b1 = 0. */
static Status write_boundaries(FILE *page, const Theory *theory)
{
    FigureScript script;
    char buffer[16];
    TRY(figure_script_open(&script));
    write_axes(script.file, "", "", "set xrange [-4:4]\nset yrange [-4:4]\nunset xlabel\nunset ylabel\n");
    for (int label = 0; label < 2; ++label) {
        write_points(script.file, "test", theory->data.test, LINEAR_TEST, label);
        write_points(script.file, "train", theory->data.train, LINEAR_TRAIN, label);
    }
    (void)fputs("plot $test0 using 1:2 with points pt 7 ps 0.15 lc rgb " GNUPLOT_MUTED
                ", $test1 using 1:2 with points pt 6 ps 0.2 lc rgb " GNUPLOT_MUTED
                ", $train0 using 1:2 with points pt 7 ps 0.4 lc rgb " GNUPLOT_INK
                ", $train1 using 1:2 with points pt 6 ps 0.4 lc rgb " GNUPLOT_INK,
                script.file);
    for (int r = 0; r < THEORY_LINEAR; ++r) {
        const LinearResult *result = &theory->linear[r];
        const double a = result->weight[0][0] - result->weight[1][0],
                     b = result->weight[0][1] - result->weight[1][1], c = result->bias[0] - result->bias[1];
        (void)fprintf(script.file, ", (%.8g)*x + (%.8g) with lines lw %.1f lc rgb %s", -a / b, -c / b,
                      1.2 + 1.6 * (THEORY_LINEAR - 1 - r), figure_colour(r, buffer));
    }
    (void)fputc('\n', script.file);
    return place(page, &script, "boundaries", "C.2 Decision boundaries",
                 "large: training points; small: test points; open: the second class");
}

/* ---- the page ---- */

static void write_head(FILE *page)
{
    (void)fprintf(page,
                  "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                  "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>Theory "
                  "of focal loss</title>\n"
                  "<style>\n%s</style>\n</head>\n<body>\n<header>\n<h1>Theory of focal loss</h1>\n"
                  "<p class=\"facts\">Calibrating Deep Neural Networks using Focal Loss (Mukhoti et al., "
                  "2020), as numbers</p>\n"
                  "</header>\n<main>\n",
                  report_style);
}

static void write_thresholds(FILE *page, const Theory *theory)
{
    (void)fputs("<h2>Proposition 2</h2>\n<p>The &gamma; at which "
                "<var>g</var>(<var>p</var><sub>0</sub>,&nbsp;&gamma;)&nbsp;=&nbsp;1: "
                "above <var>p</var><sub>0</sub> focal loss's gradient is the smaller one.</p>\n<div "
                "class=\"wide\"><table>\n<thead>"
                "<tr><th scope=\"col\" class=\"number\"><var>p</var><sub>0</sub></th><th scope=\"col\" "
                "class=\"number\">by Lambert's "
                "W</th><th scope=\"col\" class=\"number\">by search</th><th scope=\"col\" "
                "class=\"number\">difference</th></tr>"
                "</thead>\n<tbody>\n",
                page);
    for (int i = 0; i < THEORY_THRESHOLDS; ++i)
        (void)fprintf(
            page,
            "<tr><td class=\"number\">%.2f</td><td class=\"number\">%.10f</td><td class=\"number\">%.10f</td>"
            "<td class=\"number\">%.1e</td></tr>\n",
            theory->threshold[i].p0, theory->threshold[i].lambert, theory->threshold[i].search,
            fabs(theory->threshold[i].lambert - theory->threshold[i].search));
    (void)fputs("</tbody>\n</table></div>\n", page);
}

static Status write_linear(FILE *page, const Theory *theory)
{
    (void)fprintf(page,
                  "<h2>Appendix C: a linear classifier</h2>\n<p>Two classes with normal distributions of "
                  "unit variance about "
                  "&plusmn;(1,&nbsp;0.5); %d training points, drawn so that they can be separated (0.1 or "
                  "more on their own side of "
                  "the line between the classes), and %d test points, which overlap. Gradient descent on the "
                  "mean loss from zero "
                  "weights, learning rate 0.5, %d steps. The recipe is this program's own, with seed 1: the "
                  "paper's text does not "
                  "fix one.</p>\n",
                  LINEAR_TRAIN, LINEAR_TEST, LINEAR_STEPS);
    write_legend(page, theory->linear_gamma, THEORY_LINEAR);
    (void)fputs("<div class=\"curves\">\n", page);
    TRY(write_records(page, theory, weight_norm, "weights", "C.1 Norm of the weights", "|W|"));
    TRY(write_records(page, theory, logit_norm, "logits", "C.1 Mean norm of the logits", "|logits|"));
    TRY(write_records(page, theory, wrong_confidence, "confidence",
                      "C.2 Confidence of misclassified test points", "confidence"));
    TRY(write_boundaries(page, theory));
    (void)fputs("</div>\n", page);
    return OK;
}

static Status write_page(FILE *page, const Theory *theory)
{
    write_head(page);
    (void)fputs("<h2>Gradients and minimisers</h2>\n<p>Focal loss's gradient is "
                "<var>g</var>(<var>p</var>,&nbsp;&gamma;) times "
                "cross-entropy's (Proposition 1). Where the positive class has probability <var>q</var>, the "
                "expected focal loss is "
                "least at a <var>p</var> nearer to &frac12;: it does not let confidence grow as far.</p>\n",
                page);
    write_legend(page, theory->gamma, THEORY_CURVES);
    (void)fputs("<div class=\"curves\">\n", page);
    TRY(write_curves(page, theory, theory->factor, "factor", "3a g(p, gamma)", "", "p", "g"));
    TRY(write_curves(page, theory, theory->minimiser, "minimiser", "B.1 Minimiser of the expected loss", "",
                     "q", "p"));
    TRY(write_network(page, &theory->network));
    (void)fputs("</div>\n", page);
    write_thresholds(page, theory);
    TRY(write_linear(page, theory));
    (void)fprintf(page,
                  "</main>\n<footer>\n<p>Written by plumb %s theory; figures by gnuplot. <code>--json "
                  "FILE</code> has all numbers."
                  "</p>\n</footer>\n</body>\n</html>\n",
                  PLUMB_VERSION);
    return OK;
}

Status theory_html(const Theory *theory, char **html)
{
    size_t size;
    *html = NULL;
    FILE *page = open_memstream(html, &size);
    if (page == NULL) return fail(STATUS_MEMORY, "no memory for the page");
    Status status = write_page(page, theory);
    const bool whole = ferror(page) == 0;
    if ((fclose(page) != 0 || !whole) && status == OK) status = fail(STATUS_MEMORY, "no memory for the page");
    if (status != OK) {
        free(*html);
        *html = NULL;
    }
    return status;
}
