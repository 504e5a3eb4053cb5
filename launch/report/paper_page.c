#include "launch/report/paper_page.h"

#include "engine/base/file.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "launch/report/html.h"
#include "launch/report/paper_items.h"
#include "launch/report/paper_published.h"
#include "launch/report/report_sort.h"
#include "launch/report/report_style.h"
#include "launch/runs/run_table.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- parts ---- */

/* A part with its HTML. */
typedef struct {
    PaperPart part;
    char *html;
    size_t size;
} MadePart;

static Status write_file(const char *folder, const char *id, const char *ending, const char *text)
{
    char name[80], path[PATH_MAX];
    (void)snprintf(name, sizeof name, "%s.%s", id, ending);
    TRY(file_join(path, folder, name));
    return file_write(path, text, strlen(text));
}

static Status finish_data(PaperData *data, const char *id, const char *folder)
{
    char *json;
    TRY(paper_data_close(data, &json));
    Status status = folder == NULL ? OK : write_file(folder, id, "csv", data->csv);
    if (status == OK && folder != NULL) status = write_file(folder, id, "json", json);
    free(json);
    return status;
}

static Status make_part(Paper *paper, const PaperItem *item, const char *folder, MadePart *made)
{
    PaperPart *part = &made->part;
    part->item = item;
    TRY(paper_data_open(&part->data, item->id, item->name, item->column, item->columns));
    part->page = open_memstream(&made->html, &made->size);
    Status status =
        part->page == NULL ? fail(STATUS_MEMORY, "no memory for the page") : item->make(paper, part);
    if (part->page != NULL && fclose(part->page) != 0 && status == OK)
        status = fail(STATUS_MEMORY, "no memory for the page");
    if (status == OK) status = finish_data(&part->data, item->id, folder);
    paper_data_free(&part->data);
    return status == OK ? OK : status_context(status, "%s", item->name);
}

static bool is_trained(const PaperPart *part)
{
    for (int s = 0; s < PAPER_SUBJECTS; ++s)
        for (int l = 0; l < PAPER_LOSSES; ++l)
            if (part->missing_run[s][l]) return false;
    return true;
}

/* "complete", "partly", "missing" */
static const char *state_of(const PaperPart *part)
{
    if (part->have == 0) return "missing";
    return part->have == part->wants && part->lacking == 0 && is_trained(part) ? "complete" : "partly";
}

/* ---- seeds ---- */

/* Of which runs a figure is that has no mean over seeds. */
static void write_drawn(FILE *page, const PaperPart *part)
{
    const char *before = "<p class=\"note\">One seed of several is drawn: ";
    for (int s = 0; s < PAPER_SUBJECTS; ++s)
        for (int l = 0; l < PAPER_LOSSES; ++l) {
            if (part->drawn[s][l].of < 2) continue;
            (void)fprintf(page, "%s%s seed ", before, paper_loss[l].title);
            html_text(page, part->drawn[s][l].seed);
            (void)fprintf(page, " (1 of %d)", part->drawn[s][l].of);
            before = ", ";
        }
    if (before[0] == ',') (void)fputs(".</p>\n", page);
}

/* ---- what is missing ---- */

static const char *sweep_of(const PaperItem *item, int subject, int loss)
{
    if (item->sweep != NULL) return item->sweep;
    return paper_loss[loss].in_focal && subject != PAPER_WMT14 ? "configs/paper_focal.yaml"
                                                               : paper_subject[subject].sweep;
}

static int count_missing(const PaperPart *part, const char *sweep)
{
    int count = 0;
    for (int s = 0; s < PAPER_SUBJECTS; ++s)
        for (int l = 0; l < PAPER_LOSSES; ++l)
            count += part->missing_run[s][l] && strcmp(sweep_of(part->item, s, l), sweep) == 0;
    return count;
}

static void list_missing(FILE *page, const PaperPart *part, const char *sweep)
{
    (void)fputs("<ul>\n", page);
    for (int s = 0; s < PAPER_SUBJECTS; ++s) {
        int named = 0;
        for (int l = 0; l < PAPER_LOSSES; ++l) {
            if (!part->missing_run[s][l] || strcmp(sweep_of(part->item, s, l), sweep) != 0) continue;
            if (named++ == 0)
                (void)fprintf(page, "<li>%s, %s: ", paper_subject[s].dataset_title,
                              paper_subject[s].model_title);
            (void)fprintf(page, "%s%s", named > 1 ? ", " : "", paper_loss[l].title);
        }
        if (named > 0) (void)fputs("</li>\n", page);
    }
    (void)fputs("</ul>\n", page);
}

static void write_missing(FILE *page, const PaperPart *part)
{
    static const char *const sweeps[] = {"configs/paper_cifar.yaml",      "configs/paper_tiny_imagenet.yaml",
                                         "configs/paper_newsgroups.yaml", "configs/paper_sst.yaml",
                                         "configs/paper_focal.yaml",      "configs/paper_ood.yaml",
                                         "configs/paper_wmt14.yaml"};
    for (size_t i = 0; i < sizeof sweeps / sizeof sweeps[0]; ++i) {
        const int count = count_missing(part, sweeps[i]);
        if (count == 0) continue;
        (void)fprintf(page,
                      "<details class=\"missing\"><summary>Missing: %d experiment%s of <code>plumb sweep "
                      "%s</code></summary>\n",
                      count, count == 1 ? "" : "s", sweeps[i]);
        list_missing(page, part, sweeps[i]);
        (void)fputs("</details>\n", page);
    }
    const bool lacks = part->lacking > 0 || (is_trained(part) && part->have < part->wants);
    if (lacks && part->item->needs != NULL)
        (void)fprintf(page, "<p class=\"missing\">Missing: runs have these numbers if %s.</p>\n",
                      part->item->needs);
    else if (lacks)
        (void)fputs("<p class=\"missing\">Missing: some complete runs lack these numbers.</p>\n", page);
}

/* ---- the page's parts ---- */

/* A part of a URL, from any bytes. */
static void write_url(FILE *page, const char *text)
{
    for (const unsigned char *at = (const unsigned char *)text; *at != '\0'; ++at) {
        const bool plain = (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') ||
                           (*at >= '0' && *at <= '9') || strchr("-._~", *at) != NULL;
        (void)fprintf(page, plain ? "%c" : "%%%02X", *at);
    }
}

static void write_links(FILE *page, const char *folder, const char *id)
{
    static const char *const endings[2][2] = {{"csv", "CSV"}, {"json", "JSON"}};
    if (folder == NULL) return;
    const char *slash = strrchr(folder, '/');
    (void)fputs("<p class=\"data\">Data: ", page);
    for (int i = 0; i < 2; ++i) {
        (void)fputs(i > 0 ? ", <a href=\"" : "<a href=\"", page);
        write_url(page, slash != NULL ? slash + 1 : folder);
        (void)fprintf(page, "/%s.%s\">%s</a>", id, endings[i][0], endings[i][1]);
    }
    (void)fputs("</p>\n", page);
}

static void write_section(FILE *page, const MadePart *made, const char *folder)
{
    const PaperItem *item = made->part.item;
    (void)fprintf(page, "<section id=\"%s\">\n<h2>%s <small>%s</small></h2>\n", item->id, item->name,
                  item->title);
    if (item->note[0] != '\0') (void)fprintf(page, "<p class=\"note\">%s</p>\n", item->note);
    write_drawn(page, &made->part);
    if (made->part.have > 0 || item->make == paper_table) (void)fputs(made->html, page);
    write_missing(page, &made->part);
    write_links(page, folder, item->id);
    (void)fputs("</section>\n", page);
}

static void write_index(FILE *page, const MadePart made[], int count)
{
    (void)fputs("<ul class=\"index\">\n", page);
    for (int i = 0; i < count; ++i) {
        const PaperPart *part = &made[i].part;
        const char *state = state_of(part);
        (void)fprintf(page, "<li class=\"%s\"><a href=\"#%s\">%s</a> <span>%s", state, part->item->id,
                      part->item->name, state);
        if (strcmp(state, "partly") == 0 && part->have < part->wants)
            (void)fprintf(page, ", %d of %d", part->have, part->wants);
        (void)fputs("</span></li>\n", page);
    }
    (void)fputs("</ul>\n", page);
}

static void write_head(FILE *page, const PaperRuns *runs, const char *title)
{
    int complete = 0;
    for (int i = 0; i < runs->count; ++i)
        complete += runs->place[i].subject >= 0 && run_summary_before(&runs->run[i]) != NULL;
    (void)fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>",
                page);
    html_text(page, title);
    (void)fprintf(page, "</title>\n<style>\n%s%s</style>\n</head>\n<body>\n<header>\n<h1>", report_style,
                  paper_style);
    html_text(page, title);
    (void)fprintf(page,
                  "</h1>\n<p class=\"facts\">Every table and figure of Mukhoti et al., &ldquo;Calibrating "
                  "Deep Neural Networks using "
                  "Focal Loss&rdquo; (NeurIPS 2020) &middot; %d run%s: %d of the paper&rsquo;s experiments, "
                  "%d complete</p>\n</header>\n<main>\n",
                  runs->count, runs->count == 1 ? "" : "s", runs->known, complete);
}

static void write_finding(FILE *page, const Paper *paper)
{
    const int outside = paper->compared - paper->inside - paper->no_interval;
    if (paper->compared == 0)
        (void)fputs("<p>No published number stands beside one of a run that was trained as the paper says, "
                    "yet.</p>\n",
                    page);
    else
        (void)fprintf(page,
                      "<p>Of <strong>%d</strong> published numbers that stand beside ours, "
                      "<strong>%d</strong> lie inside our "
                      "90&nbsp;%% interval and <strong>%d</strong> outside",
                      paper->compared, paper->inside, outside);
    if (paper->no_interval > 0) (void)fprintf(page, "; for %d there is no interval", paper->no_interval);
    if (paper->compared > 0) (void)fputs(".</p>\n", page);
    (void)fprintf(page,
                  "<p class=\"note\">In tables: ours; below it, small, its 90&nbsp;%% interval; in "
                  "<i>italics</i> the published number, "
                  "<span class=\"inside\">&#10003;</span> inside the interval, <span "
                  "class=\"outside\">&#10007;</span> outside, ? if there is "
                  "none. One run: the interval over its test samples. Several seeds: mean &plusmn; standard "
                  "deviation, and where one run more "
                  "would lie (Student&rsquo;s <var>t</var>); in curves the mean, in a band of one standard "
                  "deviation to "
                  "either side. <span "
                  "class=\"best\"><strong>Bold</strong></span>: the best of its row. "
                  "&Dagger;: not trained as the paper says (point at it, or see the list of runs), and not "
                  "counted. %s</p>\n",
                  published_source);
}

/* ---- runs ---- */

static void write_place(FILE *page, const PaperPlace *place)
{
    if (place->subject < 0) {
        (void)fputs("<td>none of the paper&rsquo;s</td>", page);
        return;
    }
    const PaperSubject *subject = &paper_subject[place->subject];
    (void)fprintf(page, "<td>%s, %s, %s</td>", subject->dataset_title, subject->model_title,
                  paper_loss[place->loss].title);
}

static void write_note(FILE *page, const PaperPlace *place, const char *problem)
{
    (void)fputs("<td>", page);
    if (place->why_not != NULL) html_text(page, place->why_not);
    if (place->differences != NULL) {
        (void)fputs("&Dagger; ", page);
        html_text(page, place->differences);
        (void)fputs(" (the paper&rsquo;s in brackets)", page);
    }
    if (place->subject >= 0 && !place->in_tables)
        (void)fputs("; other runs of the experiment are shown", page);
    if (problem != NULL) {
        (void)fputs(" ", page);
        html_text(page, problem);
    }
    (void)fputs("</td>", page);
}

static void write_runs(FILE *page, const PaperRuns *runs)
{
    (void)fputs("<section id=\"runs\">\n<h2>Runs</h2>\n<div class=\"wide\"><table>\n<thead><tr><th "
                "scope=\"col\">Run</th><th "
                "scope=\"col\">State</th><th scope=\"col\">Experiment</th><th scope=\"col\" "
                "class=\"number\">Seed</th><th "
                "scope=\"col\">Note</th></tr></thead>\n<tbody>\n",
                page);
    for (int i = 0; i < runs->count; ++i) {
        char state[RUN_STATE_TEXT];
        const RunSummary *run = &runs->run[i];
        const char *seed = run_facts_find(&run->setting, "seed");
        run_state_text(run, state, sizeof state);
        (void)fputs("<tr><th scope=\"row\">", page);
        html_text(page, run->name);
        (void)fputs("</th><td>", page);
        html_text(page, state);
        (void)fputs("</td>", page);
        write_place(page, &runs->place[i]);
        (void)fputs("<td class=\"number\">", page);
        html_text(page, seed != NULL ? seed : "\xE2\x80\x93");
        (void)fputs("</td>", page);
        write_note(page, &runs->place[i], run->problem);
        (void)fputs("</tr>\n", page);
    }
    (void)fputs("</tbody>\n</table></div>\n</section>\n", page);
}

static void write_foot(FILE *page)
{
    char when[64];
    struct tm moment;
    const time_t now = time(NULL);
    (void)strftime(when, sizeof when, "%Y-%m-%d %H:%M UTC", gmtime_r(&now, &moment));
    /* All tables sort, not only long ones. */
    (void)fprintf(
        page,
        "</main>\n<footer>\n<p>ECE: mean over the samples of |accuracy &minus; confidence| of their bin (15 "
        "of equal width); "
        "AdaECE: over bins of equal mass; Classwise-ECE: mean over the classes; MCE: the largest gap of a "
        "bin; NLL in nats. "
        "<var>T</var>: temperature.</p>\n<p>Written by plumb %s on %s; figures by gnuplot.</p>\n</footer>\n"
        "<script>\nvar reportSortedRows = 1;\n%s</script>\n</body>\n</html>\n",
        PLUMB_VERSION, when, report_sort_script);
}

/* ---- the page ---- */

/* A page of nothing but gaps is not what was meant. */
static Status check_runs(const PaperRuns *runs)
{
    int first = -1, others = 0;
    for (int i = 0; i < runs->count; ++i) {
        if (runs->place[i].subject >= 0) continue;
        if (others++ == 0) first = i;
    }
    if (runs->known == 0)
        return fail(STATUS_INPUT,
                    "none of the %d runs is an experiment of the paper (%s: %s): configs/paper_*.yaml are, "
                    "by plumb sweep; "
                    "without --paper, plumb report shows any runs",
                    runs->count, runs->run[first].path, runs->place[first].why_not);
    if (others > 0)
        log_warning("%d of %d runs %s no experiment%s of the paper and stand%s in the page's list of runs "
                    "only, such as %s: %s",
                    others, runs->count, others == 1 ? "is" : "are", others == 1 ? "" : "s",
                    others == 1 ? "s" : "", runs->run[first].path, runs->place[first].why_not);
    return OK;
}

static void write_page(FILE *page, const Paper *paper, const MadePart made[], int count, const char *title,
                       const char *folder)
{
    write_head(page, paper->runs, title);
    write_finding(page, paper);
    write_index(page, made, count);
    for (int i = 0; i < count; ++i)
        write_section(page, &made[i], folder);
    write_runs(page, paper->runs);
    write_foot(page);
}

static Status make_page(Paper *paper, MadePart made[], const PaperItem *items, int count, const char *title,
                        const char *folder, char **html)
{
    size_t size;
    if (folder != NULL) TRY(file_make_folder(folder));
    for (int i = 0; i < count; ++i)
        TRY(make_part(paper, &items[i], folder, &made[i]));
    FILE *page = open_memstream(html, &size);
    if (page == NULL) return fail(STATUS_MEMORY, "no memory for the page");
    write_page(page, paper, made, count,
               title != NULL ? title : "Focal loss and calibration: the study again", folder);
    const bool whole = ferror(page) == 0;
    if (fclose(page) == 0 && whole) return OK;
    free(*html);
    *html = NULL;
    return fail(STATUS_MEMORY, "no memory for the page");
}

Status paper_html(const RunSummary summaries[], int count, const char *title, const char *data, char **html)
{
    int item_count;
    const PaperItem *items = paper_items(&item_count);
    PaperRuns runs;
    Paper *paper = NULL;
    MadePart *made = NULL;
    Status status;
    *html = NULL;
    TRY(paper_runs_find(summaries, count, &runs));
    TRY_ELSE(done, check_runs(&runs));
    TRY_ELSE(done, memory_new(&paper, 1, sizeof *paper, "the page"));
    TRY_ELSE(done, memory_new(&made, (size_t)item_count, sizeof *made, "the page"));
    paper->runs = &runs;
    TRY_ELSE(done, make_page(paper, made, items, item_count, title, data, html));
done:
    for (int i = 0; i < item_count && made != NULL; ++i)
        free(made[i].html);
    free(made);
    if (paper != NULL) free(paper->theory);
    free(paper);
    paper_runs_free(&runs);
    return status;
}
