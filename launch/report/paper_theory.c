/* The figures of the paper that need no run: Figures 3a, B.1, C.1 and C.2. */
#include "launch/report/paper_figures.h"

#include "engine/base/memory.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

Status paper_theory(Paper *paper, const Theory **theory)
{
    *theory = paper->theory;
    if (paper->theory != NULL) return OK;
    Theory *made;
    TRY(memory_new(&made, 1, sizeof *made, "the theory's numbers"));
    theory_figures(made);
    paper->theory = made;
    *theory = made;
    return OK;
}

/* With the names and colours that focal losses have in other figures. */
static ChartSeries *series_of_gamma(Chart *chart, double gamma)
{
    static const struct {
        double gamma;
        int loss;
    } known[] = {{0, PAPER_CROSS_ENTROPY}, {1, PAPER_FOCAL_1}, {2, PAPER_FOCAL_2}, {3, PAPER_FOCAL_3}};
    char name[64];
    for (size_t i = 0; i < sizeof known / sizeof known[0]; ++i)
        if (gamma == known[i].gamma)
            return chart_series(chart, paper_loss[known[i].loss].title, paper_loss[known[i].loss].colour,
                                false);
    (void)snprintf(name, sizeof name, "FL-%g", gamma);
    return chart_series(chart, name, paper_loss[PAPER_BRIER].colour, false);
}

static Status add_curves(Chart *chart, const Theory *theory, const double curve[][THEORY_POINTS])
{
    for (int c = 0; c < THEORY_CURVES; ++c)
        for (int i = 0; i < THEORY_POINTS; ++i)
            TRY(chart_point(series_of_gamma(chart, theory->gamma[c]),
                            chart_at(theory->place[i], curve[c][i], 0)));
    return OK;
}

Status paper_chart_3a(Paper *paper, Chart *chart)
{
    const Theory *theory;
    *chart = (Chart){.title = "(a) g(p, gamma)",
                     .note = "focal loss's gradient over cross-entropy's",
                     .across = "p",
                     .up = "g",
                     .from_zero = true};
    TRY(paper_theory(paper, &theory));
    return add_curves(chart, theory, theory->factor);
}

Status paper_figure_b1(Paper *paper, PaperPart *part)
{
    const Theory *theory;
    Chart chart = {.title = "The p with the least expected focal loss",
                   .note = "",
                   .across = "q",
                   .up = "p",
                   .is_diagram = true};
    TRY(paper_theory(paper, &theory));
    TRY(add_curves(&chart, theory, theory->minimiser));
    return paper_charts(&chart, 1, part);
}

/* ---- appendix C ---- */

static double weight_norm(const LinearRecord *record) { return record->weight_norm; }
static double logit_norm(const LinearRecord *record) { return record->logit_norm; }
static double wrong_confidence(const LinearRecord *record) { return record->wrong_confidence; }

static Status add_records(Chart *chart, const Theory *theory, double (*value)(const LinearRecord *))
{
    for (int r = 0; r < THEORY_LINEAR; ++r)
        for (int i = 0; i < theory->linear[r].records; ++i) {
            const LinearRecord *record = &theory->linear[r].record[i];
            TRY(chart_point(series_of_gamma(chart, theory->linear_gamma[r]),
                            chart_at(record->step, value(record), 0)));
        }
    return OK;
}

Status paper_figure_c1(Paper *paper, PaperPart *part)
{
    const Theory *theory;
    Chart chart[2] = {{.title = "Norm of the weights",
                       .note = "",
                       .across = "step",
                       .up = "|W|",
                       .log_x = true,
                       .from_zero = true},
                      {.title = "Mean norm of the logits",
                       .note = "",
                       .across = "step",
                       .up = "|logits|",
                       .log_x = true,
                       .from_zero = true}};
    TRY(paper_theory(paper, &theory));
    TRY(add_records(&chart[0], theory, weight_norm));
    TRY(add_records(&chart[1], theory, logit_norm));
    return paper_charts(chart, 2, part);
}

/* Points of both classes and, of each loss, the line on which both logits are equal: (w0 - w1) x + b0 - b1 = 0. */
static Status add_plane(Chart *chart, const Theory *theory)
{
    static const char *const names[2] = {"first class", "second class"};
    for (int i = 0; i < LINEAR_TRAIN; ++i) {
        const LinearPoint *point = &theory->data.train[i];
        ChartSeries *series = chart_series(chart, names[point->label], 6, point->label == 1);
        TRY(chart_point(series, chart_at(point->x[0], point->x[1], 0)));
    }
    for (int r = 0; r < THEORY_LINEAR; ++r) {
        const LinearResult *result = &theory->linear[r];
        const double a = result->weight[0][0] - result->weight[1][0],
                     b = result->weight[0][1] - result->weight[1][1], c = result->bias[0] - result->bias[1],
                     reach = 4;
        ChartSeries *series = series_of_gamma(chart, theory->linear_gamma[r]);
        if (series != NULL)
            series->line = 1.2 + 1.6 * (THEORY_LINEAR - 1 - r); /* they lie one upon the other */
        for (int i = 0; i < 2; ++i) {
            const double x = reach * (2 * i - 1), y = -(a * x + c) / b;
            TRY(chart_point(series, chart_at(x, y, 0)));
        }
    }
    return OK;
}

Status paper_figure_c2(Paper *paper, PaperPart *part)
{
    const Theory *theory;
    Chart chart[2] = {{.title = "Confidence of misclassified test points",
                       .note = "",
                       .across = "step",
                       .up = "confidence",
                       .log_x = true},
                      {.title = "Decision boundaries",
                       .note = "and the training points; open: the second class",
                       .across = "",
                       .up = "",
                       .kind = CHART_POINTS,
                       .reach = 4,
                       .short_legend = true}};
    TRY(paper_theory(paper, &theory));
    TRY(add_records(&chart[0], theory, wrong_confidence));
    TRY(add_plane(&chart[1], theory));
    return paper_charts(chart, 2, part);
}
