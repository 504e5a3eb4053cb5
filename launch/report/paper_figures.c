#include "launch/report/paper_figures.h"

#include "engine/base/memory.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST_PANELS = 9 };

Status paper_charts(Chart chart[], int count, PaperPart *part)
{
    Status status = OK;
    chart_legend(chart, count, part->page);
    (void)fputs("<div class=\"curves\">\n", part->page);
    for (int i = 0; i < count && status == OK; ++i) {
        char id[48];
        bool drawn;
        (void)snprintf(id, sizeof id, "%s-%d", part->item->id, i + 1);
        status = chart_write(&chart[i], id, part->page, &part->data, &drawn);
        ++part->wants;
        part->have += drawn;
    }
    (void)fputs("</div>\n", part->page);
    for (int i = 0; i < count; ++i)
        chart_free(&chart[i]);
    return status;
}

const RunSummary *paper_first_seed(const Paper *paper, int subject, int loss, bool (*has)(const RunSummary *),
                                   PaperDrawn *drawn)
{
    const RunSummary *run[PAPER_MOST_SEEDS];
    const int seeds = paper_seeds(paper->runs, subject, loss, has, run, PAPER_MOST_SEEDS);
    if (seeds == 0) return NULL;
    *drawn = (PaperDrawn){paper_seed(run[0]), seeds};
    return run[0];
}

/* ---- over the epochs ---- */

/* Released with free(curve->x). */
static Status read_curve(const RunSummary *run, double scale, double (*value)(const RunEpoch *),
                         SeedCurve *curve)
{
    TRY(memory_new(&curve->x, 2 * (size_t)run->epochs + 1, sizeof *curve->x, "a figure"));
    curve->count = run->epochs;
    curve->y = curve->x + run->epochs;
    for (int i = 0; i < run->epochs; ++i) {
        curve->x[i] = run->epoch[i].epoch;
        curve->y[i] = scale * value(&run->epoch[i]);
    }
    return OK;
}

static Status add_curve(ChartSeries *series, const RunSummary *const run[], int seeds, double scale,
                        double (*value)(const RunEpoch *))
{
    SeedCurve *curve;
    TRY(memory_new(&curve, (size_t)seeds + 1, sizeof *curve, "a figure"));
    Status status = OK;
    for (int s = 0; s < seeds && status == OK; ++s)
        status = read_curve(run[s], scale, value, &curve[s]);
    if (status == OK) status = chart_mean(series, curve, seeds);
    for (int s = 0; s < seeds; ++s)
        free(curve[s].x);
    free(curve);
    return status;
}

/* A series that has no point though there are runs is one that these lack. */
static Status add_series(PaperPart *part, Chart *chart, const char *name, int colour, bool dashed,
                         const RunSummary *const run[], int seeds, double scale,
                         double (*value)(const RunEpoch *))
{
    ChartSeries *series = chart_series(chart, name, colour, dashed);
    TRY(add_curve(series, run, seeds, scale, value));
    if (seeds > 0 && series != NULL && series->count == 0) ++part->lacking;
    return OK;
}

static Status make_curve(const Paper *paper, PaperPart *part, const PaperCurves *curves,
                         const PaperCurve *curve, Chart *chart)
{
    const RunSummary *run[PAPER_MOST_SEEDS];
    *chart = (Chart){.title = curve->title,
                     .note = curve->note,
                     .across = "epoch",
                     .up = curve->up,
                     .log_y = curve->log_y,
                     .from_zero = !curve->log_y};
    for (int l = 0; l < curves->losses; ++l) {
        const PaperLoss *loss = &paper_loss[curves->loss[l]];
        const int seeds = paper_seeds(paper->runs, curves->subject, curves->loss[l], paper_has_epochs, run,
                                      PAPER_MOST_SEEDS);
        if (seeds == 0) part->missing_run[curves->subject][curves->loss[l]] = true;
        TRY(add_series(part, chart, loss->title, loss->colour, false, run, seeds, curve->scale,
                       curve->value));
        if (curve->dashed == NULL) continue;
        char name[64];
        (void)snprintf(name, sizeof name, "%s, training samples", loss->title);
        TRY(add_series(part, chart, name, loss->colour, true, run, seeds, curve->scale, curve->dashed));
    }
    return OK;
}

Status paper_curves(Paper *paper, PaperPart *part)
{
    const PaperCurves *curves = part->item->context;
    Chart *chart;
    TRY(memory_new(&chart, MOST_PANELS, sizeof *chart, "figures"));
    Status status = OK;
    for (int i = 0; i < curves->curves && status == OK; ++i)
        status = make_curve(paper, part, curves, &curves->curve[i], &chart[i]);
    if (status == OK) status = paper_charts(chart, curves->curves, part);
    free(chart);
    return status;
}

/* ---- bars ---- */

static Status make_bars(const Paper *paper, PaperPart *part, int subject, const PaperMeasure *measure,
                        Chart *chart)
{
    for (int l = 0; l < PAPER_MAIN_LOSSES; ++l)
        for (int stage = EVALUATE_BEFORE; stage <= EVALUATE_AFTER_ECE; ++stage) {
            char name[64];
            PaperNumber number;
            const PaperLoss *loss = &paper_loss[paper_main_loss[l]];
            TRY(paper_number(paper->runs, subject, paper_main_loss[l], measure->value, stage, NULL, &number));
            (void)snprintf(name, sizeof name, "%s%s", loss->title,
                           stage == EVALUATE_BEFORE ? "" : " after T");
            ChartSeries *series = chart_series(chart, name, loss->colour, stage != EVALUATE_BEFORE);
            number.over.mean *= 100;
            number.over.deviation *= 100;
            TRY(chart_point(series, (ChartPoint){2 * l + stage, number.over.mean, 100 * number.interval.lower,
                                                 100 * number.interval.upper, number.over}));
            if (number.over.count == 0) part->missing_run[subject][paper_main_loss[l]] = true;
        }
    return OK;
}

Status paper_bars(Paper *paper, PaperPart *part)
{
    static const int measures[] = {MEASURE_ECE, MEASURE_ADA_ECE, MEASURE_CLASSWISE_ECE};
    const PaperBars *bars = part->item->context;
    char title[MOST_PANELS][96];
    int count = 0;
    Chart *chart;
    Status status = memory_new(&chart, MOST_PANELS, sizeof *chart, "figures");
    TRY(status);
    for (int s = 0; s < bars->subjects; ++s)
        for (int m = 0; m < 3 && status == OK; ++m) {
            const PaperSubject *subject = &paper_subject[bars->subject[s]];
            (void)snprintf(title[count], sizeof title[count], "%s, %s: %s", subject->dataset_title,
                           subject->model_title, paper_measure[measures[m]].title);
            chart[count] = (Chart){.title = title[count],
                                   .note = "",
                                   .across = "",
                                   .up = "%",
                                   .kind = CHART_BARS,
                                   .short_legend = true};
            status = make_bars(paper, part, bars->subject[s], &paper_measure[measures[m]], &chart[count]);
            ++count;
        }
    if (status == OK) status = paper_charts(chart, count, part);
    free(chart);
    return status;
}
