#include "launch/report/report_temperatures.h"

#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "launch/report/figure_script.h"
#include "launch/report/paper_published.h"
#include "launch/report/paper_runs.h"
#include "launch/report/report_tables.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- figures ---- */

enum { SIDE = 300, HIGH = 240, LEFT = 54, BOTTOM = 42, AROUND = 8 };

const char *figure_temperatures_title(TemperaturesFigure figure)
{
    static const char *const titles[TEMPERATURES_FIGURES] = {
        [TEMPERATURES_BLEU] = "Test BLEU", [TEMPERATURES_ECE] = "ECE", [TEMPERATURES_NLL] = "Test NLL"};
    return titles[figure];
}

static const double *values_of(const BleuCurves *curves, TemperaturesFigure figure, bool validation)
{
    if (figure == TEMPERATURES_BLEU) return validation ? NULL : curves->bleu;
    if (figure == TEMPERATURES_NLL) return validation ? NULL : curves->test_nll;
    if (!validation) return curves->test_ece;
    return curves->has_validation ? curves->validation_ece : NULL;
}

/* A block of data; is there any number in it? */
static bool write_points(FILE *script, const char *block, int number, const BleuCurves *curves,
                         const double value[], double scale)
{
    int written = 0;
    for (int i = 0; i < curves->count; ++i)
        written += isfinite(value[i]);
    if (written == 0) return false;
    (void)fprintf(script, "$%s%d << END\n", block, number);
    for (int i = 0; i < curves->count; ++i)
        if (isfinite(value[i]))
            (void)fprintf(script, "%.9g %.9g\n", curves->temperature[i], scale * value[i]);
    (void)fputs("END\n", script);
    return true;
}

static void plot(FILE *command, int *plotted, const char *block, int number, const char *how,
                 const char *colour)
{
    (void)fprintf(command, "%s $%s%d using 1:2 with %s lc rgb %s", (*plotted)++ == 0 ? "plot" : ",", block,
                  number, how, colour);
}

/* The curve of a run, that of its validation set, the temperature that this one chose, and the paper's best BLEU. */
static void write_run(FILE *script, FILE *command, TemperaturesFigure figure, const TemperatureRun *run,
                      int number, int *plotted)
{
    char buffer[16];
    const char *colour = figure_colour(run->colour, buffer);
    const BleuCurves *curves = run->curves;
    const double scale = figure == TEMPERATURES_ECE ? 100 : 1;
    const double *test = values_of(curves, figure, false), *validation = values_of(curves, figure, true);
    if (!write_points(script, "test", number, curves, test, scale)) return;
    plot(command, plotted, "test", number, "lines lw 1.8", colour);
    if (validation != NULL && write_points(script, "validation", number, curves, validation, scale))
        plot(command, plotted, "validation", number, "lines lw 1.2 dt (6,5)", colour);
    if (isfinite(curves->chosen_ece)) {
        const int chosen = bleu_curves_near(curves, curves->chosen_ece);
        if (isfinite(test[chosen])) {
            (void)fprintf(script, "$chosen%d << END\n%.9g %.9g\nEND\n", number, curves->temperature[chosen],
                          scale * test[chosen]);
            plot(command, plotted, "chosen", number, "points pt 7 ps 0.7", colour);
        }
    }
    if (figure != TEMPERATURES_BLEU || !isfinite(run->paper)) return;
    (void)fprintf(script, "$paper%d << END\n%.9g %.9g\n%.9g %.9g\nEND\n", number, curves->temperature[0],
                  run->paper, curves->temperature[curves->count - 1], run->paper);
    plot(command, plotted, "paper", number, "lines lw 1 dt (2,4)", colour);
}

static void write_axes(FILE *script, TemperaturesFigure figure)
{
    static const char *const names[TEMPERATURES_FIGURES] = {
        [TEMPERATURES_BLEU] = "BLEU", [TEMPERATURES_ECE] = "ECE, %", [TEMPERATURES_NLL] = "NLL"};
    figure_style(script);
    figure_margins(script, LEFT + SIDE + AROUND, AROUND + HIGH + BOTTOM, LEFT, AROUND, AROUND, BOTTOM);
    (void)fprintf(script,
                  "set autoscale xfix\nset xtics offset 0,0.3\nset xlabel 'temperature' offset 0,0.9 "
                  "textcolor rgb " GNUPLOT_MUTED "\nset ylabel '%s' offset 1,0 textcolor rgb " GNUPLOT_MUTED
                  "\n%s",
                  names[figure], figure == TEMPERATURES_ECE ? "set yrange [0:*]\n" : "");
}

Status figure_temperatures(TemperaturesFigure figure, const TemperatureRun runs[], int count, const char *id,
                           char **svg)
{
    FigureScript script;
    char *text = NULL, label[96];
    size_t size;
    int plotted = 0;
    *svg = NULL;
    TRY(figure_script_open(&script));
    FILE *command = open_memstream(&text, &size);
    write_axes(script.file, figure);
    for (int i = 0; i < count && command != NULL; ++i)
        write_run(script.file, command, figure, &runs[i], i, &plotted);
    if (command != NULL) (void)fclose(command);
    if (text != NULL) (void)fprintf(script.file, "%s\n", text);
    free(text);
    if (plotted == 0) {
        (void)fclose(script.file);
        free(script.text);
        return OK;
    }
    (void)snprintf(label, sizeof label, "%s against temperature", figure_temperatures_title(figure));
    return figure_script_draw(&script, LEFT + SIDE + AROUND, AROUND + HIGH + BOTTOM, id, label, svg);
}

/* ---- the section ---- */

/* The best test BLEU over all temperatures that the paper has for a loss (Appendix K). */
static double published_best(const RunSummary *run)
{
    static const struct {
        const char *name;
        int loss;
    } table[] = {{"cross_entropy", PAPER_CROSS_ENTROPY},
                 {"label_smoothing", PAPER_LABEL_SMOOTHING_10},
                 {"focal", PAPER_FOCAL_1}};
    const char *dataset = run_facts_find(&run->setting, "dataset.name"),
               *loss = run_facts_find(&run->setting, "loss.name");
    if (dataset == NULL || loss == NULL || strcmp(dataset, paper_subject[PAPER_WMT14].dataset) != 0)
        return NAN;
    for (size_t i = 0; i < sizeof table / sizeof *table; ++i)
        if (strcmp(loss, table[i].name) == 0)
            return published_bleu(PAPER_WMT14, table[i].loss, EVALUATE_BEFORE);
    return NAN;
}

typedef struct {
    const RunSummary *run;
    const int *colour;
    int count, shown;
    BleuCurves **curves;   /* [count]; NULL where a run has none */
    TemperatureRun *drawn; /* [drawings] */
    int drawings;
} Section;

static void free_section(Section *section)
{
    for (int i = 0; i < section->count && section->curves != NULL; ++i)
        free(section->curves[i]);
    free(section->curves);
    free(section->drawn);
}

/* A damaged file of one run is no error of the page. */
static Status read_section(Section *section)
{
    const size_t count = (size_t)section->count + 1;
    TRY(memory_new(&section->curves, count, sizeof *section->curves, "the report"));
    TRY(memory_new(&section->drawn, count, sizeof *section->drawn, "the report"));
    for (int i = 0; i < section->count; ++i) {
        const RunSummary *run = &section->run[i];
        Status status = bleu_curves_read(run->path, &section->curves[i]);
        if (status != OK) log_warning("%s", status_message(status));
        status_free(status);
        if (section->curves[i] == NULL) continue;
        ++section->shown;
        if (section->colour[i] >= 0)
            section->drawn[section->drawings++] =
                (TemperatureRun){section->curves[i], section->colour[i], published_best(run)};
    }
    return OK;
}

static Status write_figures(FILE *page, const Section *section)
{
    static const char *const notes[TEMPERATURES_FIGURES] = {
        [TEMPERATURES_BLEU] = "a point: at the temperature of the least validation ECE",
        [TEMPERATURES_ECE] = "of the test set; dashed: of the validation set",
        [TEMPERATURES_NLL] = "nats a token"};
    bool dotted = false;
    for (int i = 0; i < section->drawings; ++i)
        dotted = dotted || isfinite(section->drawn[i].paper);
    (void)fputs("<div class=\"panels few\">\n", page);
    for (int figure = 0; figure < TEMPERATURES_FIGURES; ++figure) {
        char id[16], *svg;
        (void)snprintf(id, sizeof id, "k1-%d-", figure);
        TRY(figure_temperatures((TemperaturesFigure)figure, section->drawn, section->drawings, id, &svg));
        if (svg == NULL) continue;
        (void)fprintf(page, "<figure><figcaption>%s <small>%s%s</small></figcaption>\n%s</figure>\n",
                      figure_temperatures_title((TemperaturesFigure)figure), notes[figure],
                      figure == TEMPERATURES_BLEU && dotted ? "; dotted: the paper's best" : "", svg);
        free(svg);
    }
    (void)fputs("</div>\n", page);
    return OK;
}

static void write_number(FILE *page, double value, int decimals)
{
    if (isfinite(value))
        (void)fprintf(page, "<td class=\"number\">%.*f</td>", decimals, value);
    else
        (void)fputs("<td class=\"number\">&ndash;</td>", page);
}

static void write_row(FILE *page, const Section *section, int run)
{
    const BleuCurves *curves = section->curves[run];
    const int best = bleu_curves_best(curves), plain = bleu_curves_near(curves, 1);
    const bool has_plain = fabs(curves->temperature[plain] - 1) < 1e-6,
               has_chosen = isfinite(curves->chosen_ece);
    const int chosen = bleu_curves_near(curves, has_chosen ? curves->chosen_ece : 1);
    /* The chosen one may lie outside the temperatures that were measured. */
    const bool at_chosen = has_chosen && fabs(curves->temperature[chosen] - curves->chosen_ece) < 1e-6;
    (void)fputs("<tr><th scope=\"row\">", page);
    report_name(page, &section->run[run], section->colour[run]);
    (void)fputs("</th>", page);
    write_number(page, curves->bleu[best], 2);
    write_number(page, curves->temperature[best], 2);
    write_number(page, published_best(&section->run[run]), 2);
    write_number(page, has_plain ? curves->bleu[plain] : NAN, 2);
    write_number(page, has_plain ? 100 * curves->test_ece[plain] : NAN, 2);
    write_number(page, curves->chosen_ece, 2);
    write_number(page, at_chosen ? curves->bleu[chosen] : NAN, 2);
    write_number(page, at_chosen ? 100 * curves->test_ece[chosen] : NAN, 2);
    (void)fputs("</tr>\n", page);
}

static void write_table(FILE *page, const Section *section)
{
    static const char *const heads[] = {"Best BLEU",
                                        "at <var>T</var>",
                                        "paper&rsquo;s best",
                                        "BLEU, <var>T</var>&nbsp;=&nbsp;1",
                                        "ECE, %",
                                        "<var>T</var> by validation ECE",
                                        "BLEU there",
                                        "ECE there, %"};
    (void)fputs("<div class=\"wide\"><table class=\"results\">\n<thead><tr><th scope=\"col\">Run</th>", page);
    for (size_t i = 0; i < sizeof heads / sizeof *heads; ++i)
        (void)fprintf(page, "<th scope=\"col\" class=\"number\">%s</th>", heads[i]);
    (void)fputs("</tr></thead>\n<tbody>\n", page);
    for (int i = 0; i < section->count; ++i)
        if (section->curves[i] != NULL) write_row(page, section, i);
    (void)fputs("</tbody>\n</table></div>\n", page);
}

static Status write_section(FILE *page, const char *heading, const Section *section)
{
    if (section->shown == 0) return OK;
    if (heading != NULL) (void)fprintf(page, "<h2 class=\"page\">%s</h2>\n", heading);
    (void)fputs("<p>Test sentences are translated by beam search at each temperature; calibration is that of "
                "the next "
                "token, given the true ones before it.</p>\n",
                page);
    TRY(write_figures(page, section));
    write_table(page, section);
    return OK;
}

static Status write_all(FILE *page, const char *heading, const RunSummary runs[], const int colours[],
                        int count, int *shown)
{
    Section section = {.run = runs, .colour = colours, .count = count};
    Status status = read_section(&section);
    if (status == OK) status = write_section(page, heading, &section);
    *shown = section.shown;
    free_section(&section);
    return status;
}

Status report_temperatures(FILE *page, const RunSummary runs[], const int colours[], int count, int *shown)
{
    return write_all(page, NULL, runs, colours, count, shown);
}

Status report_temperatures_section(FILE *page, const RunSummary runs[], const int colours[], int count)
{
    int shown;
    return write_all(page, "BLEU and calibration against temperature", runs, colours, count, &shown);
}
