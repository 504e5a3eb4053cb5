#include "launch/report/paper_chart.h"

#include "engine/base/memory.h"
#include "launch/report/figure_script.h"
#include "launch/report/html.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    WIDTH = 380,
    HEIGHT = 280,
    LEFT = 64,
    RIGHT = 22,
    TOP = 10,
    BOTTOM = 44,
    SHORT_BOTTOM = 12,
    NAME_LIMIT = 48
};

const char *const chart_columns[CHART_COLUMNS] = {"panel", "series",    "x",     "y",   "lower",
                                                  "upper", "deviation", "seeds", "seed"};

/* ---- points ---- */

ChartSeries *chart_series(Chart *chart, const char *name, int colour, bool dashed)
{
    for (int i = 0; i < chart->count; ++i)
        if (strcmp(chart->series[i].name, name) == 0 && chart->series[i].dashed == dashed)
            return &chart->series[i];
    if (chart->count == CHART_MOST_SERIES) return NULL;
    ChartSeries *series = &chart->series[chart->count++];
    *series = (ChartSeries){.colour = colour, .dashed = dashed};
    (void)snprintf(series->name, sizeof series->name, "%s", name);
    return series;
}

ChartPoint chart_at(double x, double y, int runs)
{
    return (ChartPoint){x, y, NAN, NAN, {.count = runs, .mean = y, .deviation = NAN}};
}

Status chart_point(ChartSeries *series, ChartPoint point)
{
    if (series == NULL || !isfinite(point.y) || !isfinite(point.x)) return OK;
    TRY(memory_grow(&series->point, &series->capacity, (size_t)series->count + 1, sizeof point, "a figure"));
    series->point[series->count++] = point;
    return OK;
}

/* Another grid of temperatures has the same ones but for rounding. */
static bool is_same_place(double a, double b) { return fabs(a - b) <= 1e-9 * fmax(fabs(a), fabs(b)); }

Status chart_mean(ChartSeries *series, const SeedCurve curve[], int runs)
{
    int *at;
    double *found;
    TRY(memory_new(&at, (size_t)runs + 1, sizeof *at, "a figure"));
    Status status = memory_new(&found, (size_t)runs + 1, sizeof *found, "a figure");
    while (status == OK) {
        double x = INFINITY;
        for (int r = 0; r < runs; ++r)
            if (at[r] < curve[r].count && curve[r].x[at[r]] < x) x = curve[r].x[at[r]];
        if (!isfinite(x)) break;
        for (int r = 0; r < runs; ++r) {
            const bool here = at[r] < curve[r].count && is_same_place(curve[r].x[at[r]], x);
            found[r] = here ? curve[r].y[at[r]] : NAN;
            at[r] += here;
        }
        const SeedStatistic over = seed_statistic(found, runs);
        status = chart_point(
            series, (ChartPoint){x, over.mean, over.mean - over.deviation, over.mean + over.deviation, over});
    }
    free(at);
    free(found);
    return status;
}

void chart_free(Chart *chart)
{
    for (int i = 0; i < chart->count; ++i)
        free(chart->series[i].point);
    chart->count = 0;
}

/* ---- the script ---- */

static void write_label(FILE *script, const char *command, const char *text, const char *offset)
{
    if (text[0] == '\0') return;
    (void)fprintf(script, "set %s ", command);
    html_gnuplot_string(script, text, NAME_LIMIT);
    (void)fprintf(script, " offset %s textcolor rgb " GNUPLOT_MUTED "\n", offset);
}

static void write_axes(FILE *script, const Chart *chart)
{
    const bool bars = chart->kind == CHART_BARS;
    figure_style(script);
    figure_margins(script, WIDTH, HEIGHT, LEFT, RIGHT, TOP, bars ? SHORT_BOTTOM : BOTTOM);
    (void)fputs("set xtics offset 0,0.3\nset format y '%g'\n", script);
    write_label(script, "xlabel", chart->across, "0,0.9");
    write_label(script, "ylabel", chart->up, "0.6,0");
    if (bars) (void)fprintf(script, "unset xtics\nset xrange [-0.8:%.1f]\n", chart->count - 0.2);
    if (chart->is_diagram)
        (void)fputs(
            "set xrange [0:1]\nset yrange [0:1]\nset arrow 1 from 0,0 to 1,1 nohead back lw 1 dt (8,5) lc "
            "rgb " GNUPLOT_INK "\n",
            script);
    else if (chart->reach > 0)
        (void)fprintf(script, "set clip two\nset xrange [-%g:%g]\nset yrange [-%g:%g]\n", chart->reach,
                      chart->reach, chart->reach, chart->reach);
    else if (chart->from_zero || bars)
        (void)fputs("set yrange [0:*]\n", script);
    if (chart->log_x) (void)fputs("set logscale x\nset format x '%g'\n", script);
    if (chart->log_y) (void)fputs("set logscale y\n", script);
}

static bool has_band(const ChartSeries *series)
{
    for (int i = 0; i < series->count; ++i)
        if (!isnan(series->point[i].lower) && !isnan(series->point[i].upper)) return true;
    return false;
}

static void write_block(FILE *script, const ChartSeries *series, int number)
{
    (void)fprintf(script, "$s%d << END\n", number);
    for (int i = 0; i < series->count; ++i) {
        const ChartPoint *point = &series->point[i];
        (void)fprintf(script, "%.9g %.9g %.9g %.9g\n", point->x, point->y,
                      isnan(point->lower) ? point->y : point->lower,
                      isnan(point->upper) ? point->y : point->upper);
    }
    (void)fputs("END\n", script);
}

/* How one series is drawn. */
static void write_plot(FILE *script, const Chart *chart, int number, const char *before)
{
    char buffer[16];
    const ChartSeries *series = &chart->series[number];
    const char *colour = figure_colour(series->colour, buffer);
    switch (chart->kind) {
    case CHART_BARS:
        (void)fprintf(script,
                      "%s $s%d using 1:2:(0.78) with boxes lc rgb %s fs transparent solid %s noborder",
                      before, number, colour, series->dashed ? "0.4" : "0.9");
        if (has_band(series))
            (void)fprintf(script,
                          ", $s%d using 1:3:(0):($4-$3) with vectors heads size screen 0.008,90 lw 1.2 lc "
                          "rgb " GNUPLOT_INK,
                          number);
        break;
    case CHART_STEPS:
        (void)fprintf(script, "%s $s%d using 1:2 with steps lw 1.8 dt %s lc rgb %s", before, number,
                      series->dashed ? "(6,4)" : "solid", colour);
        break;
    case CHART_POINTS:
        if (series->line > 0)
            (void)fprintf(script, "%s $s%d using 1:2 with lines lw %.1f lc rgb %s", before, number,
                          series->line, colour);
        else
            (void)fprintf(script, "%s $s%d using 1:2 with points pt %d ps 0.4 lc rgb %s", before, number,
                          series->dashed ? 6 : 7, colour);
        break;
    case CHART_LINES:
        if (has_band(series))
            (void)fprintf(
                script, "%s $s%d using 1:3:4 with filledcurves lc rgb %s fs transparent solid 0.18 noborder",
                before, number, colour);
        (void)fprintf(script, "%s $s%d using 1:2 with lines lw %s dt %s lc rgb %s",
                      has_band(series) ? "," : before, number, series->dashed ? "1.2" : "1.8",
                      series->dashed ? "(6,4)" : "solid", colour);
        break;
    }
}

static Status draw(const Chart *chart, const char *id, char **svg)
{
    FigureScript script;
    const char *before = "plot";
    TRY(figure_script_open(&script));
    write_axes(script.file, chart);
    for (int i = 0; i < chart->count; ++i)
        if (chart->series[i].count > 0) write_block(script.file, &chart->series[i], i);
    for (int i = 0; i < chart->count; ++i) {
        if (chart->series[i].count == 0) continue;
        write_plot(script.file, chart, i, before);
        before = ",";
    }
    (void)fputc('\n', script.file);
    return figure_script_draw(&script, WIDTH, HEIGHT, id, chart->title, svg);
}

/* ---- into the page ---- */

static void write_caption(FILE *page, const Chart *chart)
{
    (void)fputs("<figcaption>", page);
    html_text(page, chart->title);
    if (chart->note[0] != '\0') {
        (void)fputs(" <small>", page);
        html_text(page, chart->note);
        (void)fputs("</small>", page);
    }
    (void)fputs("</figcaption>\n", page);
}

static void write_points(const Chart *chart, PaperData *data)
{
    for (int i = 0; i < chart->count; ++i)
        for (int k = 0; k < chart->series[i].count; ++k) {
            const ChartPoint *point = &chart->series[i].point[k];
            paper_data_text(data, chart->title);
            paper_data_text(data, chart->series[i].name);
            paper_data_number(data, point->x);
            paper_data_number(data, point->y);
            paper_data_number(data, point->lower);
            paper_data_number(data, point->upper);
            paper_data_number(data, point->seeds.count > 1 ? point->seeds.deviation : NAN);
            paper_data_number(data, point->seeds.count > 0 ? point->seeds.count : NAN);
            paper_data_text(data, chart->series[i].seed);
        }
}

Status chart_write(const Chart *chart, const char *id, FILE *page, PaperData *data, bool *drawn)
{
    char *svg;
    *drawn = false;
    for (int i = 0; i < chart->count; ++i)
        *drawn = *drawn || chart->series[i].count > 0;
    if (!*drawn) {
        (void)fputs("<div class=\"absent\"><p><strong>", page);
        html_text(page, chart->title);
        (void)fputs("</strong></p><p>missing</p></div>\n", page);
        return OK;
    }
    TRY(draw(chart, id, &svg));
    (void)fputs("<figure>", page);
    write_caption(page, chart);
    (void)fputs(svg, page);
    (void)fputs("</figure>\n", page);
    free(svg);
    write_points(chart, data);
    return OK;
}

/* Was a series of this name and look listed before? */
static bool is_listed(const Chart *chart, int charts, const ChartSeries *series)
{
    for (int c = 0; c < charts; ++c)
        for (int i = 0; i < chart[c].count; ++i) {
            const ChartSeries *other = &chart[c].series[i];
            if (other == series) return false;
            if (other->count > 0 && strcmp(other->name, series->name) == 0) return true;
        }
    return false;
}

void chart_legend(const Chart *chart, int charts, FILE *page)
{
    (void)fputs("<ul class=\"legend\">", page);
    for (int c = 0; c < charts; ++c)
        for (int i = 0; i < chart[c].count; ++i) {
            const ChartSeries *series = &chart[c].series[i];
            if (series->count == 0 || (series->dashed && chart[c].short_legend) ||
                is_listed(chart, charts, series))
                continue;
            (void)fprintf(page, "<li><span class=\"%s c%d\"></span>",
                          series->dashed && chart[c].kind != CHART_POINTS ? "swatch dashed" : "swatch",
                          series->colour % GNUPLOT_RUNS);
            html_text(page, series->name);
            (void)fputs("</li>", page);
        }
    (void)fputs("</ul>\n", page);
}
