#include "launch/report/report_records.h"

#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "launch/report/figure_script.h"
#include "launch/report/html.h"
#include "launch/report/report_figures.h"
#include "launch/report/report_tables.h"
#include "launch/runs/run_columns.h"
#include "launch/runs/run_dynamics.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_EPOCHS = 12, NORMS_WIDTH = 380, NORMS_HEIGHT = 254 };

typedef struct {
    const RunSummary *run;
    const int *colour;
    int count;
    RunRecords *records; /* [count] */
    double epoch[MOST_EPOCHS];
    int epochs; /* after which a drawn run has looked at its gradients, rising */
} Records;

/* Of a run that is drawn: what it has of gradients after the epoch; or NULL. */
static const RunDynamics *gradients_of(const Records *all, int run, double epoch)
{
    for (int i = 0; i < all->records[run].dynamics_count && all->colour[run] >= 0; ++i) {
        const RunDynamics *dynamics = &all->records[run].dynamics[i];
        if (dynamics->epoch == epoch && dynamics->gradient_bins > 0) return dynamics;
    }
    return NULL;
}

static void note_epoch(Records *all, double epoch)
{
    int at = 0;
    while (at < all->epochs && all->epoch[at] < epoch)
        ++at;
    if ((at < all->epochs && all->epoch[at] == epoch) || all->epochs == MOST_EPOCHS) return;
    for (int i = all->epochs; i > at; --i)
        all->epoch[i] = all->epoch[i - 1];
    all->epoch[at] = epoch;
    ++all->epochs;
}

/* A damaged file of one run is no error of the page. */
static Status read_all(Records *all)
{
    TRY(memory_new(&all->records, (size_t)all->count + 1, sizeof *all->records, "the report"));
    for (int i = 0; i < all->count; ++i) {
        Status status = run_records_read(all->run[i].path, &all->records[i]);
        if (status != OK && status_code(status) == STATUS_MEMORY) return status;
        if (status != OK) log_warning("%s", status_message(status));
        status_free(status);
        for (int k = 0; k < all->records[i].dynamics_count; ++k)
            if (gradients_of(all, i, all->records[i].dynamics[k].epoch) != NULL)
                note_epoch(all, all->records[i].dynamics[k].epoch);
    }
    return OK;
}

/* ---- gradients ---- */

/* The axis is logarithmic: the lowest bin and the highest have no end there, and are drawn as wide as the others. */
static double start_of(const RunNormBin *bin)
{
    return bin->lower > 0 ? bin->lower : bin->upper / exp2(0.25);
}
static double end_of(const RunNormBin *bin)
{
    return isinf(bin->upper) ? bin->lower * exp2(0.25) : bin->upper;
}

/* Shares of the samples as steps, from 0 to 0. */
static void write_steps(FILE *script, int number, const RunDynamics *dynamics)
{
    const RunNormBin *bin = dynamics->gradient_bin;
    const int count = dynamics->gradient_bins;
    (void)fprintf(script, "$run%d << END\n%.6g 0\n", number, start_of(&bin[0]));
    for (int i = 0; i < count; ++i)
        (void)fprintf(script, "%.6g %.6g\n", start_of(&bin[i]),
                      100 * bin[i].count / dynamics->gradient_samples);
    (void)fprintf(script, "%.6g 0\nEND\n", end_of(&bin[count - 1]));
}

static void write_norms(FILE *script, const Records *all, double epoch)
{
    const char *before = "plot";
    char buffer[16];
    figure_style(script);
    figure_margins(script, NORMS_WIDTH, NORMS_HEIGHT, 46, 14, 10, 44);
    (void)fputs(
        "set logscale x\nset format x '%g'\nset yrange [0:*]\nset format y '%g%%'\nset xtics offset 0,0.3\n"
        "set xlabel 'norm of the gradient' offset 0,0.9 textcolor rgb " GNUPLOT_MUTED "\n",
        script);
    for (int i = 0; i < all->count; ++i) {
        const RunDynamics *dynamics = gradients_of(all, i, epoch);
        if (dynamics != NULL) write_steps(script, i, dynamics);
    }
    for (int i = 0; i < all->count; ++i) {
        if (gradients_of(all, i, epoch) == NULL) continue;
        (void)fprintf(script, "%s $run%d using 1:2 with steps lw 1.6 lc rgb %s", before, i,
                      figure_colour(all->colour[i], buffer));
        before = ",";
    }
    (void)fputc('\n', script);
}

static Status write_gradients(FILE *page, const Records *all)
{
    if (all->epochs == 0) return OK;
    (void)fputs("<h2 class=\"page\">Gradients at the last layer</h2>\n<p>How large the gradient of each "
                "training sample's loss is "
                "with respect to the last linear layer, in evaluation mode: the share of the samples in each "
                "bin, four bins to a "
                "factor of 2.</p>\n<ul class=\"legend\">",
                page);
    for (int i = 0; i < all->count; ++i) {
        if (all->colour[i] < 0) continue;
        (void)fputs("<li>", page);
        report_name(page, &all->run[i], all->colour[i]);
        (void)fputs("</li>", page);
    }
    (void)fputs("</ul>\n<div class=\"curves\">\n", page);
    for (int i = 0; i < all->epochs; ++i) {
        FigureScript script;
        char id[32], label[80], *svg;
        TRY(figure_script_open(&script));
        write_norms(script.file, all, all->epoch[i]);
        (void)snprintf(id, sizeof id, "gradients%d", i);
        (void)snprintf(label, sizeof label, "Histogram of gradient norms after epoch %.0f", all->epoch[i]);
        TRY(figure_script_draw(&script, NORMS_WIDTH, NORMS_HEIGHT, id, label, &svg));
        (void)fprintf(page, "<figure><figcaption>After epoch %.0f</figcaption>\n%s</figure>\n", all->epoch[i],
                      svg);
        free(svg);
    }
    (void)fputs("</div>\n", page);
    return OK;
}

/* ---- reliability ---- */

static Status write_diagram(FILE *page, const Records *all, int run, int number)
{
    const RunDynamics *dynamics = &all->records[run].dynamics[number];
    const RunMeasure *measure = &dynamics->reliability;
    char id[48], label[120], *svg;
    (void)snprintf(id, sizeof id, "train%d-%d", run, number);
    (void)snprintf(label, sizeof label,
                   "Reliability diagram of the training split after epoch %.0f: ECE %.2f %%", dynamics->epoch,
                   100 * measure->ece);
    TRY(figure_reliability(measure, all->colour[run], id, label, &svg));
    (void)fputs("<figure><figcaption>", page);
    report_name(page, &all->run[run], all->colour[run]);
    (void)fprintf(page,
                  "</figcaption>\n<p>Epoch %.0f: <strong>ECE %.2f&nbsp;%%</strong>, error "
                  "%.2f&nbsp;%%</p>\n%s</figure>\n",
                  dynamics->epoch, 100 * measure->ece, 100 * measure->error, svg);
    free(svg);
    return OK;
}

static Status write_reliability(FILE *page, const Records *all)
{
    bool any = false;
    for (int i = 0; i < all->count; ++i) {
        for (int k = 0; k < all->records[i].dynamics_count && all->colour[i] >= 0; ++k) {
            if (all->records[i].dynamics[k].reliability.bins == 0) continue;
            if (!any)
                (void)fputs("<h2 class=\"page\">Reliability of the training samples</h2>\n<p>As above, but "
                            "of the training "
                            "split in evaluation mode, while training.</p>\n<div class=\"panels\">\n",
                            page);
            any = true;
            TRY(write_diagram(page, all, i, k));
        }
    }
    if (any) (void)fputs("</div>\n", page);
    return OK;
}

/* ---- the best models ---- */

static void write_number(FILE *page, const RunColumn *column, const RunMeasure *measure)
{
    const double value = measure != NULL ? column->value(measure) : NAN;
    if (isnan(value))
        (void)fputs("<td class=\"number\">&ndash;</td>", page);
    else
        (void)fprintf(page, "<td class=\"number\">%.*f</td>", column->decimals,
                      (column->percent ? 100 : 1) * value);
}

/* chosen: by which measure; NULL: it is the last model. */
static void write_model(FILE *page, const Records *all, int run, const RunSummary *evaluated,
                        const char *chosen, double epoch)
{
    int count;
    const RunColumn *columns = run_columns(&count);
    (void)fputs("<tr><th scope=\"row\">", page);
    report_name(page, &all->run[run], all->colour[run]);
    (void)fputs("</th><td>", page);
    html_text(page, chosen != NULL ? chosen : "the last");
    (void)fprintf(
        page, isnan(epoch) ? "</td><td class=\"number\">&ndash;</td>" : "</td><td class=\"number\">%.0f</td>",
        epoch);
    if (evaluated->has_temperature)
        (void)fprintf(page, "<td class=\"number\">%.1f</td>", evaluated->temperature_ece);
    else
        (void)fputs("<td class=\"number\">&ndash;</td>", page);
    for (int i = 0; i < count; ++i) {
        write_number(page, &columns[i], run_summary_before(evaluated));
        if (columns[i].by_stage) write_number(page, &columns[i], run_summary_after(evaluated));
    }
    (void)fputs("</tr>\n", page);
}

static void write_models_head(FILE *page)
{
    int count;
    const RunColumn *columns = run_columns(&count);
    (void)fputs(
        "<div class=\"wide\"><table class=\"results\">\n<thead><tr><th scope=\"col\">Run</th><th "
        "scope=\"col\">Lowest</th>"
        "<th scope=\"col\" class=\"number\">Epoch</th><th scope=\"col\" class=\"number\"><var>T</var></th>",
        page);
    for (int i = 0; i < count; ++i) {
        const char *unit = columns[i].percent ? "<span class=\"unit\"> %</span>" : "";
        (void)fprintf(page, "<th scope=\"col\" class=\"number\">%s%s</th>", columns[i].title, unit);
        if (columns[i].by_stage) (void)fputs("<th scope=\"col\" class=\"number stage\">after</th>", page);
    }
    (void)fputs("</tr></thead>\n<tbody>\n", page);
}

static void write_best_models(FILE *page, const Records *all)
{
    int models = 0;
    for (int i = 0; i < all->count; ++i)
        models += all->records[i].best_count;
    if (models == 0) return;
    (void)fputs("<h2>Early stopping in hindsight</h2>\n<p>Test measures of the models that had the lowest "
                "error, NLL or ECE on the "
                "validation split (<code>checkpoint.best</code>), and of the last. After: at the temperature "
                "<var>T</var> with the "
                "smallest ECE of that model on the validation split.</p>\n",
                page);
    write_models_head(page);
    for (int i = 0; i < all->count; ++i) {
        const RunSummary *run = &all->run[i];
        for (int k = 0; k < all->records[i].best_count; ++k) {
            const RunBestModel *model = &all->records[i].best[k];
            write_model(page, all, i, &model->evaluated, model->measure, model->epoch);
        }
        if (all->records[i].best_count > 0 && run_summary_before(run) != NULL)
            write_model(page, all, i, run, NULL, run->epochs > 0 ? run->epoch[run->epochs - 1].epoch : NAN);
    }
    (void)fputs("</tbody>\n</table></div>\n", page);
}

Status report_records(FILE *page, const RunSummary runs[], const int colours[], int count)
{
    Records all = {.run = runs, .colour = colours, .count = count};
    Status status = read_all(&all);
    if (status == OK) {
        write_best_models(page, &all);
        status = write_reliability(page, &all);
    }
    if (status == OK) status = write_gradients(page, &all);
    for (int i = 0; i < count && all.records != NULL; ++i)
        run_records_free(&all.records[i]);
    free(all.records);
    return status;
}
