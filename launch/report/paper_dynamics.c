/* Figures 3b-d and A.1, of what runs recorded at chosen epochs (dynamics.jsonl). */
#include "engine/base/log.h"
#include "launch/report/paper_figures.h"
#include "launch/report/report_figures.h"
#include "launch/runs/run_dynamics.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { SUBJECT = PAPER_CIFAR10_RESNET50 };

/* What the experiment's first run recorded after that epoch; NULL where it has nothing, else the part says whose it is. The records
 * are released with run_records_free in any case. A damaged file is no error of the page. */
static const RunDynamics *read_dynamics(const Paper *paper, PaperPart *part, int loss, double epoch,
                                        RunRecords *records)
{
    PaperDrawn drawn = {.seed = NULL};
    const RunSummary *run = paper_first_seed(paper, SUBJECT, loss, paper_has_epochs, &drawn);
    *records = (RunRecords){.dynamics = NULL};
    if (run == NULL) {
        part->missing_run[SUBJECT][loss] = true;
        return NULL;
    }
    Status status = run_records_read(run->path, records);
    if (status != OK) log_warning("%s", status_message(status));
    status_free(status);
    for (int i = 0; i < records->dynamics_count; ++i)
        if (records->dynamics[i].epoch == epoch) {
            part->drawn[SUBJECT][loss] = drawn;
            return &records->dynamics[i];
        }
    ++part->lacking;
    return NULL;
}

/* ---- Figure 3 ---- */

/* A histogram as steps: x where a bin begins, y its share in percent. The lowest bin begins at 0, which a logarithmic axis lacks. */
static Status add_histogram(ChartSeries *series, const RunDynamics *dynamics)
{
    const double width = pow(2, 0.25);
    double end = NAN;
    for (int i = 0; i < dynamics->gradient_bins; ++i) {
        const RunNormBin *bin = &dynamics->gradient_bin[i];
        const double begin = bin->lower > 0 ? bin->lower : bin->upper / width;
        if (isnan(end)) TRY(chart_point(series, chart_at(begin, 0, 1)));
        TRY(chart_point(series, chart_at(begin, 100 * bin->count / dynamics->gradient_samples, 1)));
        end = isfinite(bin->upper) ? bin->upper : bin->lower * width;
    }
    return chart_point(series, chart_at(end, 0, 1));
}

static Status add_loss(const Paper *paper, PaperPart *part, int loss, double epoch, Chart *chart)
{
    RunRecords records;
    Status status = OK;
    const RunDynamics *dynamics = read_dynamics(paper, part, loss, epoch, &records);
    if (dynamics != NULL) {
        ChartSeries *series = chart_series(chart, paper_loss[loss].title, paper_loss[loss].colour, false);
        series->seed = part->drawn[SUBJECT][loss].seed;
        status = add_histogram(series, dynamics);
    }
    run_records_free(&records);
    return status;
}

Status paper_figure_3(Paper *paper, PaperPart *part)
{
    static const int losses[] = {PAPER_CROSS_ENTROPY, PAPER_FOCAL_1, PAPER_FOCAL_3};
    static const struct {
        double epoch;
        const char *title;
    } panels[] = {{10, "(b) Gradient norms, epoch 10"},
                  {100, "(c) Gradient norms, epoch 100"},
                  {200, "(d) Gradient norms, epoch 200"}};
    Chart chart[4];
    TRY(paper_chart_3a(paper, &chart[0]));
    for (int p = 0; p < 3; ++p) {
        chart[p + 1] = (Chart){.title = panels[p].title,
                               .note = "of training samples, at the last linear layer",
                               .across = "norm",
                               .up = "share of samples, %",
                               .kind = CHART_STEPS,
                               .log_x = true,
                               .from_zero = true};
        for (int l = 0; l < 3; ++l)
            TRY(add_loss(paper, part, losses[l], panels[p].epoch, &chart[p + 1]));
    }
    return paper_charts(chart, 4, part);
}

/* ---- Figure A.1 ---- */

static void write_bins(const RunMeasure *measure, const char *panel, const char *seed, PaperData *data)
{
    double samples = 0;
    for (int i = 0; i < measure->bins; ++i)
        samples += (double)measure->bin[i].count;
    for (int i = 0; i < 2 * measure->bins; ++i) {
        const CalibrationBin *bin = &measure->bin[i / 2];
        paper_data_text(data, panel);
        paper_data_text(data, i % 2 == 0 ? "accuracy" : "share");
        paper_data_number(data, i % 2 == 0 ? bin->confidence : (bin->lower + bin->upper) / 2);
        paper_data_number(data, i % 2 == 0 ? bin->accuracy : (double)bin->count / fmax(samples, 1));
        paper_data_number(data, NAN);
        paper_data_number(data, NAN);
        paper_data_number(data, NAN);
        paper_data_number(data, 1);
        paper_data_text(data, seed);
    }
}

static Status write_reliability(PaperPart *part, const RunMeasure *measure, const char *title, int number)
{
    char id[48], *svg;
    if (measure->bins == 0) {
        (void)fprintf(part->page, "<div class=\"absent\"><p><strong>%s</strong></p><p>missing</p></div>\n",
                      title);
        return OK;
    }
    (void)snprintf(id, sizeof id, "%s-%d", part->item->id, number);
    TRY(figure_reliability(measure, 0, id, title, &svg));
    (void)fprintf(part->page,
                  "<figure><figcaption>%s <small>ECE %.2f&nbsp;%%</small></figcaption>\n%s</figure>\n", title,
                  100 * measure->ece, svg);
    free(svg);
    write_bins(measure, title, part->drawn[SUBJECT][PAPER_CROSS_ENTROPY].seed, &part->data);
    ++part->have;
    return OK;
}

Status paper_figure_a1(Paper *paper, PaperPart *part)
{
    static const int epochs[] = {100, 200, 300, 350};
    (void)fputs("<div class=\"panels\">\n", part->page);
    for (int i = 0; i < 4; ++i) {
        char title[32];
        RunRecords records;
        (void)snprintf(title, sizeof title, "Epoch %d", epochs[i]);
        ++part->wants;
        const RunDynamics *dynamics = read_dynamics(paper, part, PAPER_CROSS_ENTROPY, epochs[i], &records);
        const RunMeasure nothing = {.bins = 0};
        const Status status =
            write_reliability(part, dynamics != NULL ? &dynamics->reliability : &nothing, title, i + 1);
        run_records_free(&records);
        TRY(status);
    }
    (void)fputs("</div>\n", part->page);
    return OK;
}
