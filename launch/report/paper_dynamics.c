/* Figures 3b-d and A.1, of what runs recorded at chosen epochs (dynamics.jsonl). */
#include "engine/base/file.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "launch/report/paper_figures.h"
#include "launch/report/report_figures.h"

#include <cJSON.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DYNAMICS_LIMIT = 256 << 20, SUBJECT = PAPER_CIFAR10_RESNET50 };

static double number_of(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNumber(item) ? item->valuedouble : NAN;
}

/* The object `key` of that epoch, detached; NULL if there is none. */
static cJSON *find_line(const char *text, double epoch, const char *key)
{
    for (const char *at = text, *end; (end = strchr(at, '\n')) != NULL; at = end + 1) {
        cJSON *line = cJSON_ParseWithLength(at, (size_t)(end - at));
        cJSON *object =
            number_of(line, "epoch") == epoch ? cJSON_DetachItemFromObjectCaseSensitive(line, key) : NULL;
        cJSON_Delete(line);
        if (object != NULL) return object;
    }
    return NULL;
}

/* *object is released with cJSON_Delete; NULL where the first run of the experiment has nothing of the kind. */
static Status read_dynamics(const Paper *paper, PaperPart *part, int loss, double epoch, const char *key,
                            cJSON **object)
{
    const RunSummary *run;
    char path[PATH_MAX], *text;
    size_t size;
    *object = NULL;
    if (paper_seeds(paper->runs, SUBJECT, loss, paper_has_epochs, &run, 1) == 0) {
        part->missing_run[SUBJECT][loss] = true;
        return OK;
    }
    TRY(file_join(path, run->path, "dynamics.jsonl"));
    if (!file_exists(path)) {
        ++part->lacking;
        return OK;
    }
    Status status = file_read(path, DYNAMICS_LIMIT, &text, &size);
    if (status != OK) { /* no error of the page */
        log_warning("%s", status_message(status));
        status_free(status);
        return OK;
    }
    *object = find_line(text, epoch, key);
    free(text);
    part->lacking += *object == NULL;
    return OK;
}

/* ---- Figure 3 ---- */

/* A histogram as steps: x where a bin begins, y its share in percent. The lowest bin begins at 0, which a logarithmic axis lacks. */
static Status add_histogram(ChartSeries *series, const cJSON *object)
{
    const double samples = number_of(object, "samples"), width = pow(2, 0.25);
    double end = NAN;
    const cJSON *bin;
    cJSON_ArrayForEach(bin, cJSON_GetObjectItemCaseSensitive(object, "bins"))
    {
        const double lower = number_of(bin, "lower"), upper = number_of(bin, "upper");
        const double begin = lower > 0 ? lower : upper / width;
        if (isnan(end)) TRY(chart_point(series, (ChartPoint){begin, 0, NAN, NAN}));
        TRY(chart_point(series, (ChartPoint){begin, 100 * number_of(bin, "count") / samples, NAN, NAN}));
        end = isnan(upper) ? lower * width : upper;
    }
    return chart_point(series, (ChartPoint){end, 0, NAN, NAN});
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
        for (int l = 0; l < 3; ++l) {
            const PaperLoss *loss = &paper_loss[losses[l]];
            cJSON *object;
            TRY(read_dynamics(paper, part, losses[l], panels[p].epoch, "gradient_norms", &object));
            const Status status =
                object == NULL
                    ? OK
                    : add_histogram(chart_series(&chart[p + 1], loss->title, loss->colour, false), object);
            cJSON_Delete(object);
            TRY(status);
        }
    }
    return paper_charts(chart, 4, part);
}

/* ---- Figure A.1 ---- */

static bool is_fraction(double value) { return value >= 0 && value <= 1; }

/* Bins as evaluation.json has them; *bins is 0 for a list that is none. */
static Status read_bins(const cJSON *object, RunMeasure *measure)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(object, "bins"), *item;
    double confidence = 0, samples = 0;
    *measure = (RunMeasure){
        .ece = number_of(object, "ece"), .error = number_of(object, "error"), .mean_confidence = NAN};
    if (cJSON_GetArraySize(list) < 1 || !is_fraction(measure->error)) return OK;
    TRY(memory_new(&measure->bin, (size_t)cJSON_GetArraySize(list), sizeof *measure->bin, "bins"));
    cJSON_ArrayForEach(item, list)
    {
        CalibrationBin *bin = &measure->bin[measure->bins++];
        const double count = number_of(item, "count");
        bin->lower = number_of(item, "lower");
        bin->upper = number_of(item, "upper");
        bin->confidence = number_of(item, "confidence");
        bin->accuracy = number_of(item, "accuracy");
        if (!is_fraction(bin->lower) || !is_fraction(bin->upper) || !is_fraction(bin->confidence) ||
            !is_fraction(bin->accuracy) || !(count >= 0 && count < 0x1p53)) {
            measure->bins = 0;
            return OK;
        }
        bin->count = (int64_t)count;
        samples += count;
        confidence += count * bin->confidence;
    }
    if (samples > 0) measure->mean_confidence = confidence / samples;
    return OK;
}

static void write_bins(const RunMeasure *measure, const char *panel, PaperData *data)
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
    write_bins(measure, title, &part->data);
    ++part->have;
    return OK;
}

Status paper_figure_a1(Paper *paper, PaperPart *part)
{
    static const int epochs[] = {100, 200, 300, 350};
    (void)fputs("<div class=\"panels\">\n", part->page);
    for (int i = 0; i < 4; ++i) {
        char title[32];
        cJSON *object;
        RunMeasure measure;
        (void)snprintf(title, sizeof title, "Epoch %d", epochs[i]);
        ++part->wants;
        TRY(read_dynamics(paper, part, PAPER_CROSS_ENTROPY, epochs[i], "train_reliability", &object));
        Status status = read_bins(object, &measure);
        cJSON_Delete(object);
        if (status == OK) status = write_reliability(part, &measure, title, i + 1);
        free(measure.bin);
        TRY(status);
    }
    (void)fputs("</div>\n", part->page);
    return OK;
}
