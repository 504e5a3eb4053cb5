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

static SeedCurve curve_of(BleuCurves *curves, double value[])
{
    return (SeedCurve){curves->temperature, value, curves->count};
}

/* Of all seeds that were measured. */
static Status add_loss(Chart chart[2], const PaperLoss *loss, BleuCurves *const curves[], int seeds)
{
    SeedCurve bleu[PAPER_MOST_SEEDS], test[PAPER_MOST_SEEDS], validation[PAPER_MOST_SEEDS];
    char name[64];
    for (int s = 0; s < seeds; ++s) {
        bleu[s] = curve_of(curves[s], curves[s]->bleu);
        test[s] = curve_of(curves[s], curves[s]->test_ece);
        validation[s] = curve_of(curves[s], curves[s]->validation_ece);
        if (!curves[s]->has_validation) validation[s].count = 0;
        for (int i = 0; i < curves[s]->count; ++i) {
            curves[s]->test_ece[i] *= 100;
            curves[s]->validation_ece[i] *= 100;
        }
    }
    (void)snprintf(name, sizeof name, "%s, validation", loss->title);
    TRY(chart_mean(chart_series(&chart[0], loss->title, loss->colour, false), bleu, seeds));
    TRY(chart_mean(chart_series(&chart[1], loss->title, loss->colour, false), test, seeds));
    return chart_mean(chart_series(&chart[1], name, loss->colour, true), validation, seeds);
}

static Status read_loss(const Paper *paper, PaperPart *part, int loss, Chart chart[2])
{
    const RunSummary *run[PAPER_MOST_SEEDS];
    BleuCurves *curves[PAPER_MOST_SEEDS];
    const int seeds = paper_seeds(paper->runs, PAPER_WMT14, loss, paper_is_complete, run, PAPER_MOST_SEEDS);
    int measured = 0;
    for (int s = 0; s < seeds; ++s) {
        curves[measured] = read_curves(run[s]);
        measured += curves[measured] != NULL;
    }
    if (seeds == 0)
        part->missing_run[PAPER_WMT14][loss] = true;
    else if (measured == 0)
        ++part->lacking;
    const Status status = measured > 0 ? add_loss(chart, &paper_loss[loss], curves, measured) : OK;
    while (measured > 0)
        free(curves[--measured]);
    return status;
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
    for (int l = 0; l < PAPER_TRANSLATION_LOSSES; ++l)
        TRY(read_loss(paper, part, paper_translation_loss[l], chart));
    return paper_charts(chart, 2, part);
}
