/* Appendix K: BLEU and calibration of translation against temperature, as plumb evaluate RUN --temperatures --bleu measured them. */
#include "launch/report/paper_translation.h"

#include "engine/base/log.h"
#include "launch/report/paper_figures.h"
#include "launch/runs/bleu_curves.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

const int paper_translation_loss[PAPER_TRANSLATION_LOSSES] = {PAPER_CROSS_ENTROPY, PAPER_LABEL_SMOOTHING_10,
                                                              PAPER_FOCAL_1};

/* Released with free(); NULL where the run has none, or a damaged file, of which a warning tells. */
static BleuCurves *read_curves(const RunSummary *run)
{
    BleuCurves *curves = NULL;
    Status status = bleu_curves_read(run->path, &curves);
    if (status == OK) return curves;
    log_warning("%s", status_message(status));
    status_free(status);
    return NULL;
}

/* ---- numbers ---- */

double paper_bleu(const RunSummary *run, int stage, const void *context, Interval *interval)
{
    (void)stage, (void)context, (void)interval;
    BleuCurves *curves = read_curves(run);
    const double bleu = curves != NULL ? curves->bleu[bleu_curves_near(curves, 1)] : NAN;
    free(curves);
    return bleu;
}

double paper_best_bleu(const RunSummary *run, int stage, const void *context, Interval *interval)
{
    (void)stage, (void)context, (void)interval;
    BleuCurves *curves = read_curves(run);
    const double bleu = curves != NULL ? curves->bleu[bleu_curves_best(curves)] : NAN;
    free(curves);
    return bleu;
}

double paper_best_bleu_temperature(const RunSummary *run, int stage, const void *context, Interval *interval)
{
    (void)stage, (void)context, (void)interval;
    BleuCurves *curves = read_curves(run);
    const double temperature = curves != NULL ? curves->temperature[bleu_curves_best(curves)] : NAN;
    free(curves);
    return temperature;
}

/* ---- the figure ---- */

static Status add_points(Chart *chart, const char *name, int colour, bool dashed, const BleuCurves *curves,
                         const double value[], double scale)
{
    ChartSeries *series = chart_series(chart, name, colour, dashed);
    for (int i = 0; i < curves->count; ++i)
        TRY(chart_point(series, (ChartPoint){curves->temperature[i], scale * value[i], NAN, NAN}));
    return OK;
}

static Status add_loss(Chart chart[2], const PaperLoss *loss, const BleuCurves *curves)
{
    char validation[64];
    TRY(add_points(&chart[0], loss->title, loss->colour, false, curves, curves->bleu, 1));
    TRY(add_points(&chart[1], loss->title, loss->colour, false, curves, curves->test_ece, 100));
    if (!curves->has_validation) return OK;
    (void)snprintf(validation, sizeof validation, "%s, validation", loss->title);
    return add_points(&chart[1], validation, loss->colour, true, curves, curves->validation_ece, 100);
}

Status paper_figure_k1(Paper *paper, PaperPart *part)
{
    Chart chart[2] = {{.title = "Test BLEU", .note = "", .across = "temperature", .up = "BLEU"},
                      {.title = "ECE of tokens",
                       .note = "dashed: validation",
                       .across = "temperature",
                       .up = "%",
                       .from_zero = true,
                       .short_legend = true}};
    for (int l = 0; l < PAPER_TRANSLATION_LOSSES; ++l) {
        const RunSummary *run;
        const int loss = paper_translation_loss[l];
        if (paper_seeds(paper->runs, PAPER_WMT14, loss, paper_is_complete, &run, 1) == 0) {
            part->missing_run[PAPER_WMT14][loss] = true;
            continue;
        }
        BleuCurves *curves = read_curves(run);
        if (curves == NULL) {
            ++part->lacking;
            continue;
        }
        const Status status = add_loss(chart, &paper_loss[loss], curves);
        free(curves);
        TRY(status);
    }
    return paper_charts(chart, 2, part);
}
