#include "launch/report/report.h"

#include "engine/base/memory.h"
#include "launch/report/html.h"
#include "launch/report/report_figures.h"
#include "launch/report/report_ood.h"
#include "launch/report/report_records.h"
#include "launch/report/report_sort.h"
#include "launch/report/report_style.h"
#include "launch/report/report_tables.h"
#include "launch/report/report_temperatures.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_INTERVALS = 40 };

ReportOptions report_defaults(void) { return (ReportOptions){.figure_runs = 8}; }

/* ---- what all sections share ---- */

typedef struct {
    const RunSummary *run;
    int count;
    int *colour;              /* [count]: number among the drawn, or -1 */
    const RunSummary **drawn; /* [drawn_count] */
    int drawn_count, drawable;
} Pages;

static bool has_figures(const RunSummary *run) { return run_summary_before(run) != NULL || run->epochs > 0; }

static Status choose_drawn(const RunSummary runs[], int count, int limit, Pages *pages)
{
    *pages = (Pages){.run = runs, .count = count};
    TRY(memory_new(&pages->colour, (size_t)count + 1, sizeof *pages->colour, "report"));
    TRY(memory_new(&pages->drawn, (size_t)count + 1, sizeof *pages->drawn, "report"));
    for (int i = 0; i < count; ++i) {
        pages->colour[i] = -1;
        if (!has_figures(&runs[i])) continue;
        if (pages->drawable++ >= limit) continue;
        pages->colour[i] = pages->drawn_count;
        pages->drawn[pages->drawn_count++] = &runs[i];
    }
    return OK;
}

static void free_pages(Pages *pages)
{
    free(pages->colour);
    free(pages->drawn);
}

/* ---- head ---- */

/* The value that all runs share; NULL if they differ. */
static const char *shared_setting(const Pages *pages, const char *name)
{
    const char *shared = NULL;
    for (int i = 0; i < pages->count; ++i) {
        const char *value = run_facts_find(&pages->run[i].setting, name);
        if (value == NULL) continue;
        if (shared != NULL && strcmp(shared, value) != 0) return NULL;
        shared = value;
    }
    return shared;
}

static void write_shared(FILE *page, const Pages *pages, const char *name)
{
    const char *value = shared_setting(pages, name);
    if (value == NULL || value[0] == '\0') return;
    (void)fputs(" &middot; ", page);
    html_text(page, value);
}

static void write_thousands(FILE *page, double number)
{
    char digits[32];
    const int length = snprintf(digits, sizeof digits, "%.0f", number);
    for (int i = 0; i < length; ++i) {
        if (i > 0 && (length - i) % 3 == 0) (void)fputc(',', page);
        (void)fputc(digits[i], page);
    }
}

static void write_facts(FILE *page, const Pages *pages)
{
    int states[RUN_MISSING + 1] = {0};
    double samples = NAN, classes = NAN;
    bool same = true;
    for (int i = 0; i < pages->count; ++i) {
        const RunSummary *run = &pages->run[i];
        ++states[run->state];
        if (run->state != RUN_COMPLETE) continue;
        same = same && (isnan(samples) || (samples == run->samples && classes == run->classes));
        samples = run->samples;
        classes = run->classes;
    }
    (void)fprintf(page, "<p class=\"facts\">%d run%s", pages->count, pages->count == 1 ? "" : "s");
    if (states[RUN_COMPLETE] < pages->count) (void)fprintf(page, ", %d complete", states[RUN_COMPLETE]);
    if (states[RUN_UNFINISHED] > 0) (void)fprintf(page, ", %d unfinished", states[RUN_UNFINISHED]);
    if (states[RUN_FAILED] > 0) (void)fprintf(page, ", %d failed", states[RUN_FAILED]);
    if (states[RUN_DAMAGED] > 0) (void)fprintf(page, ", %d damaged", states[RUN_DAMAGED]);
    if (states[RUN_MISSING] > 0) (void)fprintf(page, ", %d not begun", states[RUN_MISSING]);
    write_shared(page, pages, "dataset.name");
    write_shared(page, pages, "model.name");
    if (same && !isnan(samples) && !isnan(classes)) {
        (void)fputs(" &middot; ", page);
        write_thousands(page, samples);
        (void)fputs(" test samples of ", page);
        write_thousands(page, classes);
        (void)fputs(" classes", page);
    }
    (void)fputs("</p>\n", page);
}

static void write_percent_of(FILE *page, const RunSummary *run, const RunMeasure *measure)
{
    (void)fprintf(page, "%.2f&nbsp;%% (", 100 * measure->ece);
    html_text(page, run->name);
    (void)fputs(")", page);
}

/* What the table says, in one sentence. */
static void write_finding(FILE *page, const Pages *pages)
{
    const RunSummary *least = NULL, *most = NULL;
    for (int i = 0; i < pages->count; ++i) {
        const RunSummary *run = &pages->run[i];
        const RunMeasure *measure = run_summary_before(run);
        if (measure == NULL) continue;
        if (least == NULL || measure->ece < run_summary_before(least)->ece) least = run;
        if (most == NULL || measure->ece > run_summary_before(most)->ece) most = run;
    }
    if (least == most) return;
    const RunMeasure *worst = run_summary_before(most);
    (void)fputs("<p>Before temperature scaling the expected calibration error ranges from ", page);
    write_percent_of(page, least, run_summary_before(least));
    (void)fputs(" to ", page);
    write_percent_of(page, most, worst);
    if (!isnan(worst->mean_confidence))
        (void)fprintf(page, ", whose mean confidence of %.1f&nbsp;%% stands %s an accuracy of %.1f&nbsp;%%",
                      100 * worst->mean_confidence,
                      worst->mean_confidence > 1 - worst->error ? "above" : "below",
                      100 * (1 - worst->error));
    (void)fputs(".</p>\n", page);
}

static void write_problems(FILE *page, const Pages *pages)
{
    bool any = false;
    for (int i = 0; i < pages->count; ++i) {
        const char *problem = pages->run[i].problem;
        if (problem == NULL) continue;
        if (!any)
            (void)fputs(
                "<div class=\"problems\"><p><strong>Files that could not be read</strong></p>\n<ul>\n", page);
        any = true;
        (void)fputs("<li>", page);
        html_text(page, problem);
        (void)fputs("</li>\n", page);
    }
    if (any) (void)fputs("</ul></div>\n", page);
}

static void write_head(FILE *page, const Pages *pages, const char *title)
{
    (void)fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>",
                page);
    html_text(page, title);
    (void)fprintf(page, "</title>\n<style>\n%s</style>\n</head>\n<body>\n<header>\n<h1>", report_style);
    html_text(page, title);
    (void)fputs("</h1>\n", page);
    write_facts(page, pages);
    (void)fputs("</header>\n<main>\n", page);
    write_problems(page, pages);
}

/* ---- figures ---- */

static void write_figure_limit(FILE *page, const Pages *pages)
{
    if (pages->drawable > pages->drawn_count)
        (void)fprintf(
            page,
            "<p class=\"note\">The figures show the first %d of %d runs; <code>--figures N</code> shows "
            "more.</p>\n",
            pages->drawn_count, pages->drawable);
}

static void write_legend(FILE *page, const Pages *pages)
{
    (void)fputs("<ul class=\"legend\">", page);
    for (int i = 0; i < pages->drawn_count; ++i) {
        (void)fputs("<li>", page);
        report_name(page, pages->drawn[i], i);
        (void)fputs("</li>", page);
    }
    (void)fputs("</ul>\n", page);
}

/* `id` is put before the ids inside the figure, so each figure of the page has its own. */
static void write_svg(FILE *page, char *svg)
{
    if (svg != NULL) (void)fputs(svg, page);
    free(svg);
}

/* Drawn for wide screens and for narrow ones; the page's style shows one of them. */
static Status write_interval_figure(FILE *page, const RunSummary *const runs[], const int colours[],
                                    int count)
{
    char *wide, *narrow;
    TRY(figure_intervals(runs, colours, count, FIGURE_WIDE, "intervals", &wide));
    Status status = figure_intervals(runs, colours, count, FIGURE_NARROW, "intervals-narrow", &narrow);
    if (status != OK) {
        free(wide);
        return status;
    }
    (void)fputs("<figure class=\"single\"><figcaption>Expected calibration error "
                "<small><span class=\"dot\"></span>before, <span class=\"dot full\"></span>after temperature "
                "scaling; bars: 90&nbsp;% intervals</small></figcaption>\n<div class=\"if-wide\">",
                page);
    write_svg(page, wide);
    (void)fputs("</div>\n<div class=\"if-narrow\">", page);
    write_svg(page, narrow);
    (void)fputs("</div>\n</figure>\n", page);
    return OK;
}

static Status write_intervals(FILE *page, const Pages *pages)
{
    const RunSummary **shown;
    int *colours, count = 0, complete = 0;
    Status status = memory_new(&shown, (size_t)pages->count + 1, sizeof *shown, "report");
    TRY(status);
    status = memory_new(&colours, (size_t)pages->count + 1, sizeof *colours, "report");
    for (int i = 0; status == OK && i < pages->count; ++i) {
        if (run_summary_before(&pages->run[i]) == NULL) continue;
        if (complete++ >= MOST_INTERVALS) continue;
        colours[count] = pages->colour[i];
        shown[count++] = &pages->run[i];
    }
    if (status == OK && count > 0) {
        status = write_interval_figure(page, shown, colours, count);
        if (status == OK && complete > count)
            (void)fprintf(page, "<p class=\"note\">The first %d of %d runs.</p>\n", count, complete);
    }
    free(shown);
    free(colours);
    return status;
}

static Status write_diagram(FILE *page, const Pages *pages, int number, bool after)
{
    char id[48], label[160], *svg;
    const RunSummary *run = pages->drawn[number];
    const RunMeasure *measure = after ? run_summary_after(run) : run_summary_before(run);
    if (measure == NULL) return OK;
    (void)snprintf(id, sizeof id, "r%d-%s", number, after ? "after" : "before");
    (void)snprintf(label, sizeof label,
                   "Reliability diagram %s temperature scaling: ECE %.2f %%, accuracy %.2f %%",
                   after ? "after" : "before", 100 * measure->ece, 100 * (1 - measure->error));
    TRY(figure_reliability(measure, number, id, label, &svg));
    (void)fprintf(page, "<p><strong>ECE %.2f&nbsp;%%</strong> ", 100 * measure->ece);
    if (after)
        (void)fprintf(page, "after, <var>T</var>&nbsp;=&nbsp;%.1f</p>\n", run->temperature_ece);
    else
        (void)fputs("before</p>\n", page);
    write_svg(page, svg);
    return OK;
}

static Status write_reliability(FILE *page, const Pages *pages)
{
    int shown = 0;
    for (int i = 0; i < pages->drawn_count; ++i)
        shown += run_summary_before(pages->drawn[i]) != NULL;
    if (shown == 0) return OK;
    (void)fputs(
        "<h2 class=\"page\">Reliability</h2>\n"
        "<p>Test samples are put into bins by confidence. A bar is the accuracy in its bin; where "
        "bars end on the "
        "diagonal, confidence is what it says. Above: as trained. Below: after temperature scaling. "
        "The strip under "
        "a diagram shows the share of the samples in each bin.</p>\n"
        "<ul class=\"legend\"><li><span class=\"key bar\"></span>accuracy (pale: fewer than 10 samples)</li>"
        "<li><span class=\"key over\"></span>overconfident: mean confidence above accuracy</li>"
        "<li><span class=\"key under\"></span>underconfident: mean confidence below accuracy</li>"
        "<li><span class=\"key consistency\"></span>where nine of ten calibrated networks would lie</li>"
        "<li><span class=\"key solid\"></span>accuracy of all samples</li>"
        "<li><span class=\"key dashed\"></span>mean confidence of all samples</li></ul>\n",
        page);
    write_figure_limit(page, pages);
    (void)fprintf(page, "<div class=\"panels%s\">\n", shown < 4 ? " few" : "");
    for (int i = 0; i < pages->drawn_count; ++i) {
        if (run_summary_before(pages->drawn[i]) == NULL) continue;
        (void)fputs("<figure><figcaption>", page);
        report_name(page, pages->drawn[i], i);
        (void)fputs("</figcaption>\n", page);
        TRY(write_diagram(page, pages, i, false));
        TRY(write_diagram(page, pages, i, true));
        (void)fputs("</figure>\n", page);
    }
    (void)fputs("</div>\n", page);
    return OK;
}

static bool any_measured(const Pages *pages, Split split)
{
    for (int i = 0; i < pages->drawn_count; ++i)
        for (int k = 0; k < pages->drawn[i]->epochs; ++k)
            if (pages->drawn[i]->epoch[k].split[split].measured) return true;
    return false;
}

/* The test split, or validation when no epoch was measured on the test split. */
static Split curve_split(const Pages *pages)
{
    return any_measured(pages, SPLIT_TEST) ? SPLIT_TEST : SPLIT_VALIDATION;
}

static void write_curve_caption(FILE *page, const Curve *curve, bool logarithmic)
{
    (void)fprintf(page, "<figure><figcaption>%s", curve->title);
    if (curve->note[0] != '\0' || logarithmic) (void)fputs(" <small>", page);
    (void)fputs(curve->note, page);
    if (logarithmic) (void)fprintf(page, "%slogarithmic", curve->note[0] != '\0' ? "; " : "");
    if (curve->note[0] != '\0' || logarithmic) (void)fputs("</small>", page);
    (void)fputs("</figcaption>\n", page);
}

static Status write_curves(FILE *page, const Pages *pages)
{
    int count;
    const Curve *curves = figure_curves(&count);
    const Split split = curve_split(pages);
    (void)fprintf(
        page, "<p>All but the training loss and norms are of the %s samples, at each evaluation.%s</p>\n",
        split_name(split),
        any_measured(pages, SPLIT_TRAIN) ? " Dashed: of the training samples, as evaluation sees them." : "");
    write_figure_limit(page, pages);
    write_legend(page, pages);
    (void)fputs("<div class=\"curves\">\n", page);
    for (int i = 0; i < count; ++i) {
        char id[48], *svg;
        bool logarithmic;
        (void)snprintf(id, sizeof id, "c%d", i);
        TRY(figure_curve(&curves[i], pages->drawn, pages->drawn_count, split, id, &svg, &logarithmic));
        if (svg == NULL) continue;
        write_curve_caption(page, &curves[i], logarithmic);
        write_svg(page, svg);
        (void)fputs("</figure>\n", page);
    }
    (void)fputs("</div>\n", page);
    return OK;
}

/* ---- the page ---- */

static void write_foot(FILE *page, const Pages *pages)
{
    const char *bins = shared_setting(pages, "evaluate.bins");
    char when[64];
    struct tm moment;
    const time_t now = time(NULL);
    (void)strftime(when, sizeof when, "%Y-%m-%d %H:%M UTC", gmtime_r(&now, &moment));
    (void)fputs(
        "</main>\n<footer>\n<p>ECE: mean over the samples of |accuracy &minus; confidence| of their bin",
        page);
    if (bins != NULL) {
        (void)fputs(" (", page);
        html_text(page, bins);
        (void)fputs(" bins of equal width)", page);
    }
    (void)fputs("; AdaECE: over bins of equal mass; Classwise-ECE: mean over the classes; MCE: the largest "
                "gap of a bin. "
                "NLL: negative log-likelihood.</p>\n",
                page);
    (void)fprintf(page, "<p>Written by plumb %s on %s; figures by gnuplot.</p>\n</footer>\n", PLUMB_VERSION,
                  when);
    if (pages->count > REPORT_SORTED_ROWS) (void)fprintf(page, "<script>\n%s</script>\n", report_sort_script);
    (void)fputs("</body>\n</html>\n", page);
}

static bool any_epoch(const Pages *pages)
{
    for (int i = 0; i < pages->drawn_count; ++i)
        if (pages->drawn[i]->epochs > 0) return true;
    return false;
}

static bool any_measure(const Pages *pages)
{
    for (int i = 0; i < pages->count; ++i)
        if (run_summary_before(&pages->run[i]) != NULL) return true;
    return false;
}

static Status write_page(FILE *page, const Pages *pages, const char *title)
{
    write_head(page, pages, title);
    write_finding(page, pages);
    (void)fputs("<h2>Results</h2>\n", page);
    TRY(report_results(page, pages->run, pages->colour, pages->count));
    if (any_measure(pages)) {
        TRY(write_intervals(page, pages));
        report_more_measures(page, pages->run, pages->colour, pages->count);
        TRY(report_seeds(page, pages->run, pages->count));
    }
    TRY(write_reliability(page, pages));
    TRY(report_ood(page, pages->run, pages->colour, pages->count));
    TRY(report_temperatures_section(page, pages->run, pages->colour, pages->count));
    (void)fputs("<h2 class=\"page\">Training</h2>\n", page);
    if (any_epoch(pages)) TRY(write_curves(page, pages));
    report_training(page, pages->run, pages->colour, pages->count);
    TRY(report_records(page, pages->run, pages->colour, pages->count));
    (void)fputs("<h2>Settings</h2>\n", page);
    TRY(report_settings(page, pages->run, pages->colour, pages->count));
    (void)fputs("<h2>Machine and versions</h2>\n", page);
    TRY(report_machines(page, pages->run, pages->count));
    write_foot(page, pages);
    return OK;
}

Status report_html(const RunSummary runs[], int count, const ReportOptions *options, char **html)
{
    Pages pages;
    size_t size;
    Status status;
    *html = NULL;
    FILE *page = open_memstream(html, &size);
    if (page == NULL) return fail(STATUS_MEMORY, "no memory for the report");
    status = choose_drawn(runs, count, options->figure_runs, &pages);
    if (status == OK)
        status = write_page(page, &pages, options->title != NULL ? options->title : "Calibration report");
    free_pages(&pages);
    const bool whole = ferror(page) == 0;
    if ((fclose(page) != 0 || !whole) && status == OK)
        status = fail(STATUS_MEMORY, "no memory for the report");
    if (status != OK) {
        free(*html);
        *html = NULL;
    }
    return status;
}
