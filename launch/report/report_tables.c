#include "launch/report/report_tables.h"

#include "engine/base/memory.h"
#include "launch/report/gnuplot.h"
#include "launch/report/html.h"
#include "launch/runs/run_table.h"
#include "launch/runs/text_index.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void report_name(FILE *page, const RunSummary *run, int colour)
{
    if (colour >= 0) (void)fprintf(page, "<span class=\"swatch c%d\"></span>", colour % GNUPLOT_RUNS);
    html_text(page, run->name);
}

static void write_row_head(FILE *page, const RunSummary *run, int colour)
{
    (void)fputs("<tr><th scope=\"row\">", page);
    report_name(page, run, colour);
    (void)fputs("</th>", page);
}

static const RunMeasure *measure_of(const RunSummary *run, bool after)
{
    return after ? run_summary_after(run) : run_summary_before(run);
}

/* ---- results ---- */

static void write_cell(FILE *page, const RunColumn *column, const RunMeasure *measure, bool is_best,
                       const char *class, bool worse)
{
    const double scale = column->percent ? 100 : 1;
    const double value = measure != NULL ? column->value(measure) : NAN;
    if (isnan(value)) {
        (void)fprintf(page, "<td class=\"%s\">&ndash;</td>", class);
        return;
    }
    (void)fprintf(page, is_best ? "<td class=\"%s best\"><strong>%.*f</strong>" : "<td class=\"%s\">%.*f",
                  class, column->decimals, scale * value);
    if (worse) (void)fputs("<sup>&dagger;</sup>", page);
    if (column->interval != NULL && measure->has_intervals) {
        const Interval interval = column->interval(measure);
        if (!isnan(interval.lower))
            (void)fprintf(page, "<small>%.*f&ndash;%.*f</small>", column->decimals, scale * interval.lower,
                          column->decimals, scale * interval.upper);
    }
    (void)fputs("</td>", page);
}

static bool scaling_hurts(const RunSummary *run)
{
    const RunMeasure *before = run_summary_before(run), *after = run_summary_after(run);
    return before != NULL && after != NULL &&
           evaluation_scaling_hurts(before->ece, after->ece, run->temperature_ece);
}

void report_results_head(FILE *page, const RunColumn columns[], int column_count, bool stages, bool seeds)
{
    const char *rows = stages ? " rowspan=\"2\"" : "";
    (void)fprintf(page, "<thead>\n<tr><th scope=\"col\"%s>Run%s</th>", rows, seeds ? "s" : "");
    if (seeds) (void)fprintf(page, "<th scope=\"col\"%s class=\"number group\"><var>n</var></th>", rows);
    for (int i = 0; i < column_count; ++i) {
        const RunColumn *column = &columns[i];
        const char *unit = column->percent ? "<span class=\"unit\"> %</span>" : "";
        if (stages && i == 1)
            (void)fputs("<th scope=\"col\" rowspan=\"2\" class=\"number group\"><var>T</var></th>", page);
        if (stages && column->by_stage)
            (void)fprintf(page, "<th scope=\"col\" colspan=\"2\" class=\"group centre\">%s%s</th>",
                          column->title, unit);
        else
            (void)fprintf(page, "<th scope=\"col\"%s class=\"number group\">%s%s</th>", rows, column->title,
                          unit);
    }
    (void)fputs("</tr>\n", page);
    if (stages) {
        (void)fputs("<tr>", page);
        for (int i = 0; i < column_count; ++i)
            if (columns[i].by_stage)
                (void)fputs("<th scope=\"col\" class=\"number group stage\">before</th>"
                            "<th scope=\"col\" class=\"number stage\">after</th>",
                            page);
        (void)fputs("</tr>\n", page);
    }
    (void)fputs("</thead>\n", page);
}

static void write_results_notes(FILE *page, const RunSummary runs[], int count, bool stages)
{
    int measured = 0, hurt = 0;
    bool intervals = false;
    for (int i = 0; i < count; ++i) {
        const RunMeasure *before = run_summary_before(&runs[i]);
        measured += before != NULL;
        hurt += scaling_hurts(&runs[i]);
        intervals = intervals || (before != NULL && before->has_intervals);
    }
    (void)fputs("<p class=\"note\">", page);
    if (measured > 1)
        (void)fprintf(page, "<span class=\"best\"><strong>Bold</strong></span>: the best of its column%s. ",
                      run_datasets_differ(runs, count) ? ", of runs on one data set" : "");
    if (intervals)
        (void)fputs("Small: 90&nbsp;% bootstrap interval over the test samples; calibration errors of "
                    "resamples are biased "
                    "upwards, so it may lie above its value. ",
                    page);
    if (stages)
        (void)fputs(
            "After: logits divided by <var>T</var>, the temperature with the smallest ECE on the validation "
            "split. ",
            page);
    (void)fputs("NLL in nats.", page);
    if (hurt > 0) (void)fputs(" &dagger;&nbsp;Temperature scaling made the test ECE worse.", page);
    (void)fputs("</p>\n", page);
}

/* [columns][2 stages][count]: which values are the best of their data set. Release with free(). */
static Status find_best(const RunColumn columns[], int column_count, const RunSummary runs[], int count,
                        bool **best)
{
    TRY(memory_new(best, (size_t)column_count * 2 * (size_t)count + 1, sizeof **best, "report"));
    for (int k = 0; k < 2 * column_count; ++k) {
        const Status status =
            run_column_best(&columns[k / 2], runs, count, k % 2 != 0, *best + (size_t)k * (size_t)count);
        if (status == OK) continue;
        free(*best);
        return status;
    }
    return OK;
}

Status report_results(FILE *page, const RunSummary runs[], const int colours[], int count)
{
    int column_count, width = 1;
    const RunColumn *columns = run_columns(&column_count);
    bool stages = false;
    char text[RUN_STATE_TEXT];
    bool *best;
    TRY(find_best(columns, column_count, runs, count, &best));
    for (int i = 0; i < count; ++i)
        stages = stages || run_summary_after(&runs[i]) != NULL;
    for (int i = 0; i < column_count; ++i)
        width += stages && columns[i].by_stage ? 2 : 1;
    (void)fputs("<div class=\"wide\"><table class=\"results\">\n", page);
    report_results_head(page, columns, column_count, stages, false);
    (void)fputs("<tbody>\n", page);
    for (int i = 0; i < count; ++i) {
        const RunMeasure *before = run_summary_before(&runs[i]), *after = run_summary_after(&runs[i]);
        write_row_head(page, &runs[i], colours[i]);
        if (before == NULL) {
            run_state_text(&runs[i], text, sizeof text);
            (void)fprintf(page, "<td class=\"state group\" colspan=\"%d\">", width - !stages);
            html_text(page, text);
            (void)fputs("</td></tr>\n", page);
            continue;
        }
        for (int k = 0; k < column_count; ++k) {
            const RunColumn *column = &columns[k];
            if (stages && k == 1) {
                if (after != NULL)
                    (void)fprintf(page, "<td class=\"number group\">%.1f</td>", runs[i].temperature_ece);
                else
                    (void)fputs("<td class=\"number group\">&ndash;</td>", page);
            }
            write_cell(page, column, before, best[2 * k * count + i], "number group", false);
            if (!stages || !column->by_stage) continue;
            write_cell(page, column, after, best[(2 * k + 1) * count + i], "number",
                       strcmp(column->key, "ece") == 0 && scaling_hurts(&runs[i]));
        }
        (void)fputs("</tr>\n", page);
    }
    (void)fputs("</tbody>\n</table></div>\n", page);
    write_results_notes(page, runs, count, stages);
    free(best);
    return OK;
}

/* ---- more measures ---- */

typedef struct {
    const char *title;
    bool percent, by_stage;
    int decimals;
    double (*value)(const RunMeasure *);
} Measure;

static double top5_error(const RunMeasure *measure) { return measure->top5_error; }
static double brier(const RunMeasure *measure) { return measure->brier; }
static double mean_confidence(const RunMeasure *measure) { return measure->mean_confidence; }
static double mean_entropy(const RunMeasure *measure) { return measure->mean_entropy; }
static double s99_fraction(const RunMeasure *measure) { return measure->s99_fraction; }
static double s99_accuracy(const RunMeasure *measure) { return measure->s99_accuracy; }

static const Measure more_measures[] = {{"Top-5 error", true, false, 2, top5_error},
                                        {"Brier score", false, true, 4, brier},
                                        {"Mean confidence", true, true, 2, mean_confidence},
                                        {"Mean entropy", false, true, 3, mean_entropy},
                                        {"Share with confidence &ge; 0.99", true, true, 2, s99_fraction},
                                        {"Accuracy among them", true, true, 2, s99_accuracy}};
enum { MORE_MEASURES = sizeof more_measures / sizeof more_measures[0] };

static void write_measure(FILE *page, const Measure *measure, const RunMeasure *of)
{
    const double value = of != NULL ? measure->value(of) : NAN;
    if (isnan(value))
        (void)fputs("&ndash;", page);
    else
        (void)fprintf(page, "%.*f", measure->decimals, measure->percent ? 100 * value : value);
}

void report_more_measures(FILE *page, const RunSummary runs[], const int colours[], int count)
{
    (void)fputs("<details><summary>More measures</summary>\n<div class=\"wide\"><table>\n<thead><tr>"
                "<th scope=\"col\">Run</th>",
                page);
    for (int i = 0; i < MORE_MEASURES; ++i)
        (void)fprintf(page, "<th scope=\"col\" class=\"number\">%s%s</th>", more_measures[i].title,
                      more_measures[i].percent ? "<span class=\"unit\">, %</span>" : "");
    (void)fputs("</tr></thead>\n<tbody>\n", page);
    for (int i = 0; i < count; ++i) {
        if (run_summary_before(&runs[i]) == NULL) continue;
        write_row_head(page, &runs[i], colours[i]);
        for (int k = 0; k < MORE_MEASURES; ++k) {
            (void)fputs("<td class=\"number\">", page);
            write_measure(page, &more_measures[k], measure_of(&runs[i], false));
            if (more_measures[k].by_stage && run_summary_after(&runs[i]) != NULL) {
                (void)fputs(" &rarr; ", page);
                write_measure(page, &more_measures[k], measure_of(&runs[i], true));
            }
            (void)fputs("</td>", page);
        }
        (void)fputs("</tr>\n", page);
    }
    (void)fputs(
        "</tbody>\n</table></div>\n<p class=\"note\">Before &rarr; after temperature scaling. Brier score: "
        "sum of squared differences over the classes, mean over the samples.</p>\n</details>\n",
        page);
}

/* ---- training ---- */

static void write_duration(FILE *page, double seconds)
{
    const double minute = 60, hour = 3600;
    if (!(seconds > 0))
        (void)fputs("&ndash;", page);
    else if (seconds < 2 * minute)
        (void)fprintf(page, "%.0f&nbsp;s", seconds);
    else if (seconds < 2 * hour)
        (void)fprintf(page, "%.1f&nbsp;min", seconds / minute);
    else
        (void)fprintf(page, "%.1f&nbsp;h", seconds / hour);
}

static void write_number(FILE *page, const char *format, double value)
{
    (void)fputs("<td class=\"number\">", page);
    if (isnan(value))
        (void)fputs("&ndash;", page);
    else
        (void)fprintf(page, format, value); /* NOLINT: formats are constants of this file */
    (void)fputs("</td>", page);
}

static void write_training_row(FILE *page, const RunSummary *run, int colour)
{
    static const RunEpoch nothing = {.epoch = 0, .train_loss = NAN, .train_error = NAN};
    const RunEpoch *last = run->epochs > 0 ? &run->epoch[run->epochs - 1] : &nothing;
    static const char *const states[] = {[RUN_COMPLETE] = "complete",
                                         [RUN_UNFINISHED] = "unfinished",
                                         [RUN_FAILED] = "failed",
                                         [RUN_DAMAGED] = "damaged",
                                         [RUN_MISSING] = "not begun"};
    double seconds = 0, samples = 0, measured = 0;
    for (int i = 0; i < run->epochs; ++i) {
        const RunEpoch *epoch = &run->epoch[i];
        if (isnan(epoch->seconds)) continue;
        seconds += epoch->seconds;
        if (isnan(epoch->samples_per_second)) continue;
        samples += epoch->samples_per_second * epoch->seconds;
        measured += epoch->seconds;
    }
    const char *ranks = run_facts_find(&run->environment, "ranks");
    write_row_head(page, run, colour);
    (void)fprintf(page, "<td>%s</td><td class=\"number\">%.6g", states[run->state], last->epoch);
    if (run->epochs_planned > 0) (void)fprintf(page, " of %lld", (long long)run->epochs_planned);
    (void)fputs("</td>", page);
    write_number(page, "%.4g", last->train_loss);
    write_number(page, "%.2f", 100 * last->train_error);
    (void)fprintf(page, "<td class=\"number\" data-value=\"%.6g\">", seconds);
    write_duration(page, seconds);
    (void)fputs("</td>", page);
    write_number(page, "%.0f", measured > 0 ? samples / measured : NAN);
    (void)fputs("<td class=\"number\">", page);
    html_text(page, ranks != NULL ? ranks : "\xE2\x80\x93");
    (void)fputs("</td></tr>\n", page);
}

/* What the speed of the runs counts: of translation it is tokens. */
static const char *counted(const RunSummary runs[], int count)
{
    bool samples = false, tokens = false;
    for (int i = 0; i < count; ++i) {
        if (runs[i].epochs == 0) continue;
        samples = samples || !runs[i].epoch[0].tokens;
        tokens = tokens || runs[i].epoch[0].tokens;
    }
    return !tokens ? "Samples" : samples ? "Samples or tokens" : "Tokens";
}

void report_training(FILE *page, const RunSummary runs[], const int colours[], int count)
{
    (void)fprintf(
        page,
        "<div class=\"wide\"><table>\n<thead><tr><th scope=\"col\">Run</th><th scope=\"col\">State</th>"
        "<th scope=\"col\" class=\"number\">Epochs</th><th scope=\"col\" class=\"number\">Training loss</th>"
        "<th scope=\"col\" class=\"number\">Training error<span class=\"unit\">, %%</span></th>"
        "<th scope=\"col\" class=\"number\">Time</th><th scope=\"col\" class=\"number\">%s/s</th>"
        "<th scope=\"col\" class=\"number\">Ranks</th></tr></thead>\n<tbody>\n",
        counted(runs, count));
    for (int i = 0; i < count; ++i)
        write_training_row(page, &runs[i], colours[i]);
    (void)fputs("</tbody>\n</table></div>\n", page);
}

/* ---- settings ---- */

typedef struct {
    const char **name;
    size_t capacity;
    int count;
} Names;

/* The names that any run's facts have, in the order in which they are met. */
static Status collect_names(const RunSummary runs[], int count,
                            const RunFacts *(*facts_of)(const RunSummary *), Names *names)
{
    for (int i = 0; i < count; ++i) {
        const RunFacts *facts = facts_of(&runs[i]);
        for (int k = 0; k < facts->count; ++k) {
            bool known = false;
            for (int n = 0; n < names->count && !known; ++n)
                known = strcmp(names->name[n], facts->fact[k].name) == 0;
            if (known) continue;
            TRY(memory_grow(&names->name, &names->capacity, (size_t)names->count + 1, sizeof *names->name,
                            "names"));
            names->name[names->count++] = facts->fact[k].name;
        }
    }
    return OK;
}

static const RunFacts *settings_of(const RunSummary *run) { return &run->setting; }
static const RunFacts *environment_of(const RunSummary *run) { return &run->environment; }

static bool differs(const RunSummary runs[], int count, const char *name)
{
    const char *first = NULL;
    bool have_first = false;
    for (int i = 0; i < count; ++i) {
        if (runs[i].setting.count == 0) continue; /* no config is not another value */
        const char *value = run_facts_find(&runs[i].setting, name);
        if (!have_first) {
            first = value;
            have_first = true;
        } else if ((first == NULL) != (value == NULL) || (value != NULL && strcmp(first, value) != 0)) {
            return true;
        }
    }
    return false;
}

static void write_value(FILE *page, const char *value)
{
    (void)fputs("<td>", page);
    if (value == NULL || value[0] == '\0') {
        (void)fputs("&ndash;", page);
    } else {
        (void)fputs("<code>", page);
        html_text(page, value);
        (void)fputs("</code>", page);
    }
    (void)fputs("</td>", page);
}

static void write_differences(FILE *page, const RunSummary runs[], const int colours[], int count,
                              const Names *names)
{
    (void)fputs("<div class=\"wide\"><table>\n<thead><tr><th scope=\"col\">Run</th>", page);
    for (int n = 0; n < names->count; ++n) {
        (void)fputs("<th scope=\"col\"><code>", page);
        html_text(page, names->name[n]);
        (void)fputs("</code></th>", page);
    }
    (void)fputs("</tr></thead>\n<tbody>\n", page);
    for (int i = 0; i < count; ++i) {
        if (runs[i].setting.count == 0) continue;
        write_row_head(page, &runs[i], colours[i]);
        for (int n = 0; n < names->count; ++n)
            write_value(page, run_facts_find(&runs[i].setting, names->name[n]));
        (void)fputs("</tr>\n", page);
    }
    (void)fputs("</tbody>\n</table></div>\n", page);
}

Status report_settings(FILE *page, const RunSummary runs[], const int colours[], int count)
{
    Names names = {.name = NULL};
    int configs = 0, kept = 0;
    for (int i = 0; i < count; ++i)
        configs += runs[i].config != NULL;
    Status status = collect_names(runs, count, settings_of, &names);
    for (int n = 0; status == OK && n < names.count; ++n)
        if (differs(runs, count, names.name[n])) names.name[kept++] = names.name[n];
    names.count = kept;
    if (status == OK && configs > 1) {
        if (kept > 0) {
            (void)fprintf(page, "<p>The runs differ in %d setting%s; all others are alike.</p>\n", kept,
                          kept == 1 ? "" : "s");
            write_differences(page, runs, colours, count, &names);
        } else {
            (void)fputs("<p>The runs have the same settings.</p>\n", page);
        }
    }
    free(names.name);
    for (int i = 0; i < count; ++i) {
        if (runs[i].config == NULL) continue;
        (void)fputs("<details><summary>", page);
        report_name(page, &runs[i], colours[i]);
        (void)fputs(": every setting</summary>\n<pre>", page);
        html_text(page, runs[i].config);
        (void)fputs("</pre></details>\n", page);
    }
    return status;
}

/* ---- machines ---- */

/* When a run was started says nothing of how it was made. */
static bool is_moment(const char *name) { return strcmp(name, "started") == 0; }

/* Nor do the processors and GPUs of the machine that it had. */
static bool is_share(const char *name)
{
    return strcmp(name, "bound_to_processors") == 0 || strcmp(name, "visible_gpus") == 0;
}

/* All that runs which were made alike have in common, as text. */
static Status describe_machine(const RunSummary *run, const Names *names, char **text)
{
    size_t size;
    FILE *stream = open_memstream(text, &size);
    if (stream == NULL) return fail(STATUS_MEMORY, "no memory for the report");
    for (int n = 0; n < names->count; ++n) {
        const char *value =
            is_moment(names->name[n]) ? NULL : run_facts_find(&run->environment, names->name[n]);
        (void)fprintf(stream, "%s\n", value != NULL ? value : "\t");
    }
    if (fclose(stream) == 0) return OK;
    free(*text);
    *text = NULL;
    return fail(STATUS_MEMORY, "no memory for the report");
}

/* first[i]: the first run that was made like run i; -1 where nothing is known. */
static Status group_machines(const RunSummary runs[], int count, const Names *names, int first[])
{
    TextIndex index = {.entry = NULL};
    char **text;
    Status status;
    TRY(memory_new(&text, (size_t)count + 1, sizeof *text, "machines"));
    for (int i = 0; i < count; ++i) {
        first[i] = runs[i].environment.count == 0 ? -1 : i;
        if (first[i] < 0) continue;
        TRY_ELSE(done, describe_machine(&runs[i], names, &text[i]));
        TRY_ELSE(done, text_index_add(&index, text[i], &first[i]));
    }
    status = OK;
done:
    text_index_free(&index);
    for (int i = 0; i < count; ++i)
        free(text[i]);
    free(text);
    return status;
}

static void write_machine_runs(FILE *page, const RunSummary runs[], const int first[], int count, int group)
{
    enum { NAMED = 8 };
    int members = 0;
    for (int i = 0; i < count; ++i) {
        if (first[i] != group) continue;
        if (members++ >= NAMED) continue;
        (void)fputs(members > 1 ? ", " : "", page);
        html_text(page, runs[i].name);
    }
    if (members > NAMED) (void)fprintf(page, " and %d more", members - NAMED);
}

/* "threads_a_rank" as words. */
static void write_fact_name(FILE *page, const char *name)
{
    char words[80];
    (void)snprintf(words, sizeof words, "%s", name);
    for (char *at = words; *at != '\0'; ++at)
        if (*at == '_') *at = ' ';
    html_text(page, words);
}

/* Runs of one machine were begun one after another. */
static const char *earliest(const RunSummary runs[], const int first[], int count, int group,
                            const char *name)
{
    const char *least = NULL;
    for (int i = 0; i < count; ++i) {
        const char *value = first[i] == group ? run_facts_find(&runs[i].environment, name) : NULL;
        if (value != NULL && (least == NULL || strcmp(value, least) < 0)) least = value;
    }
    return least;
}

static void write_machines(FILE *page, const RunSummary runs[], const int first[], int count,
                           const Names *names)
{
    (void)fputs("<div class=\"wide\"><table class=\"machines\">\n<tbody>\n<tr><th scope=\"row\">runs</th>",
                page);
    for (int i = 0; i < count; ++i) {
        if (first[i] != i) continue;
        (void)fputs("<td>", page);
        write_machine_runs(page, runs, first, count, i);
        (void)fputs("</td>", page);
    }
    (void)fputs("</tr>\n", page);
    for (int n = 0; n < names->count; ++n) {
        (void)fputs("<tr><th scope=\"row\">", page);
        write_fact_name(page, names->name[n]);
        (void)fputs("</th>", page);
        for (int i = 0; i < count; ++i) {
            if (first[i] != i) continue;
            const char *value = is_moment(names->name[n])
                                    ? earliest(runs, first, count, i, names->name[n])
                                    : run_facts_find(&runs[i].environment, names->name[n]);
            (void)fputs("<td>", page);
            html_text(page, value != NULL ? value : "\xE2\x80\x93");
            (void)fputs("</td>", page);
        }
        (void)fputs("</tr>\n", page);
    }
    (void)fputs("</tbody>\n</table></div>\n", page);
}

Status report_machines(FILE *page, const RunSummary runs[], int count)
{
    Names names = {.name = NULL};
    int *first = NULL;
    Status status = memory_new(&first, (size_t)count + 1, sizeof *first, "machines");
    if (status == OK) status = collect_names(runs, count, environment_of, &names);
    int kept = 0;
    for (int n = 0; n < names.count; ++n)
        if (!is_share(names.name[n])) names.name[kept++] = names.name[n];
    names.count = kept;
    if (status == OK) status = group_machines(runs, count, &names, first);
    if (status == OK) {
        if (names.count > 0)
            write_machines(page, runs, first, count, &names);
        else
            (void)fputs("<p>No run has an <code>environment.json</code>.</p>\n", page);
    }
    free(names.name);
    free(first);
    return status;
}
