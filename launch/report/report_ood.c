#include "launch/report/report_ood.h"

#include "engine/base/file.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "launch/report/figure_script.h"
#include "launch/report/html.h"
#include "launch/report/report_tables.h"
#include "launch/runs/json_file.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_NAMES = 32, ROC_SIDE = 300, ROC_LEFT = 46, ROC_BOTTOM = 42, ROC_AROUND = 8 };

/* The sets of all runs. */
typedef struct {
    const RunSummary *run;
    const int *colour;
    int count;
    cJSON **root;                 /* [count]; NULL where a run has none */
    const char *name[MOST_NAMES]; /* of the sets, each once */
    const char *what[MOST_NAMES];
    int names;
} Sets;

static const cJSON *item_of(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

static const cJSON *list_of(const Sets *sets, int run) { return item_of(sets->root[run], "sets"); }

static const char *text_of(const cJSON *object, const char *key)
{
    const cJSON *item = item_of(object, key);
    return cJSON_IsString(item) ? item->valuestring : "";
}

/* The run's set of that name, or NULL. */
static const cJSON *set_of(const Sets *sets, int run, const char *name)
{
    const cJSON *set;
    cJSON_ArrayForEach(set, list_of(sets, run))
    {
        if (strcmp(text_of(set, "name"), name) == 0) return set;
    }
    return NULL;
}

static void note_names(Sets *sets, int run)
{
    const cJSON *set;
    cJSON_ArrayForEach(set, list_of(sets, run))
    {
        const char *name = text_of(set, "name");
        int i = 0;
        while (i < sets->names && strcmp(sets->name[i], name) != 0)
            ++i;
        if (i < sets->names || i == MOST_NAMES || name[0] == '\0') continue;
        sets->name[i] = name;
        sets->what[i] = text_of(set, "what");
        sets->names = i + 1;
    }
}

/* A damaged file of one run is no error of the page. */
static Status read_sets(Sets *sets)
{
    TRY(memory_new(&sets->root, (size_t)sets->count + 1, sizeof *sets->root, "the report"));
    for (int i = 0; i < sets->count; ++i) {
        char path[PATH_MAX];
        TRY(file_join(path, sets->run[i].path, "ood.json"));
        if (!file_exists(path)) continue;
        Status status = json_file_read(path, &sets->root[i]);
        if (status != OK) log_warning("%s", status_message(status));
        status_free(status);
        note_names(sets, i);
    }
    return OK;
}

/* ---- the table ---- */

static void write_area(FILE *page, const cJSON *stage, const char *key)
{
    const cJSON *area = item_of(stage, key), *interval = item_of(item_of(stage, "interval"), key);
    const cJSON *low = cJSON_GetArrayItem(interval, 0), *high = cJSON_GetArrayItem(interval, 1);
    (void)fputs("<td class=\"number\">", page);
    if (!cJSON_IsNumber(area))
        (void)fputs("&ndash;", page);
    else
        (void)fprintf(page, "%.2f", 100 * area->valuedouble);
    if (cJSON_IsNumber(area) && cJSON_IsNumber(low) && cJSON_IsNumber(high))
        (void)fprintf(page, " <small>[%.2f,&nbsp;%.2f]</small>", 100 * low->valuedouble,
                      100 * high->valuedouble);
    (void)fputs("</td>", page);
}

static void write_row(FILE *page, const Sets *sets, int run, const cJSON *set)
{
    static const char *const keys[] = {"auroc_entropy", "auroc_confidence"};
    static const char *const stages[] = {"before", "after_ece"};
    (void)fputs("<tr><th scope=\"row\">", page);
    report_name(page, &sets->run[run], sets->colour[run]);
    (void)fputs("</th><td>", page);
    html_text(page, text_of(set, "name"));
    (void)fputs("</td>", page);
    for (int k = 0; k < 2; ++k)
        for (int s = 0; s < 2; ++s)
            write_area(page, item_of(set, stages[s]), keys[k]);
    (void)fputs("</tr>\n", page);
}

static void write_table(FILE *page, const Sets *sets)
{
    (void)fputs("<div class=\"wide\"><table class=\"results\">\n<thead><tr><th scope=\"col\">Run</th><th "
                "scope=\"col\">Samples from"
                "</th><th scope=\"col\" class=\"number\">AUROC by entropy, %</th><th scope=\"col\" "
                "class=\"number\">after "
                "scaling</th><th scope=\"col\" class=\"number\">by confidence, %</th><th scope=\"col\" "
                "class=\"number\">after "
                "scaling</th></tr></thead>\n<tbody>\n",
                page);
    for (int i = 0; i < sets->count; ++i) {
        const cJSON *set;
        cJSON_ArrayForEach(set, list_of(sets, i)) write_row(page, sets, i, set);
    }
    (void)fputs("</tbody>\n</table></div>\n<ul class=\"note\">", page);
    for (int i = 0; i < sets->names; ++i) {
        (void)fputs("<li>", page);
        html_text(page, sets->name[i]);
        (void)fputs(": ", page);
        html_text(page, sets->what[i]);
        (void)fputs("</li>", page);
    }
    (void)fputs("</ul>\n", page);
}

/* ---- curves ---- */

/* A block of data, if the curve is there. */
static bool write_points(FILE *script, const char *block, int number, const cJSON *set, const char *stage)
{
    const cJSON *curve = item_of(item_of(item_of(set, stage), "roc"), "entropy");
    const cJSON *right = item_of(curve, "false_positive_rate"), *up = item_of(curve, "true_positive_rate");
    const int count = cJSON_GetArraySize(right);
    if (count < 2 || cJSON_GetArraySize(up) != count) return false;
    (void)fprintf(script, "$%s%d << END\n", block, number);
    const cJSON *x = right->child, *y = up->child;
    for (; x != NULL && y != NULL; x = x->next, y = y->next)
        (void)fprintf(script, "%.6g %.6g\n", x->valuedouble, y->valuedouble);
    (void)fputs("END\n", script);
    return true;
}

/* Data of all runs first, since a plot command names only what is there. Returns how many curves there are. */
static int write_script(FILE *script, FILE *plot, const Sets *sets, const char *name)
{
    static const struct {
        const char *stage, *block, *dash;
    } parts[] = {{"before", "before", "solid"}, {"after_ece", "after", "(6,5)"}};
    int curves = 0;
    char buffer[16];
    for (int i = 0; i < sets->count; ++i) {
        const cJSON *set = sets->colour[i] >= 0 ? set_of(sets, i, name) : NULL;
        for (int p = 0; p < 2 && set != NULL; ++p) {
            if (!write_points(script, parts[p].block, i, set, parts[p].stage)) continue;
            (void)fprintf(plot, "%s $%s%d using 1:2 with lines lw 1.6 dt %s lc rgb %s",
                          curves++ == 0 ? "plot" : ",", parts[p].block, i, parts[p].dash,
                          figure_colour(sets->colour[i], buffer));
        }
    }
    return curves;
}

static void write_axes(FILE *script)
{
    const int width = ROC_LEFT + ROC_SIDE + ROC_AROUND, height = ROC_AROUND + ROC_SIDE + ROC_BOTTOM;
    figure_style(script);
    figure_margins(script, width, height, ROC_LEFT, ROC_AROUND, ROC_AROUND, ROC_BOTTOM);
    (void)fputs("set xrange [0:1]\nset yrange [0:1]\nset xtics 0,0.2,1 format '%.1f' offset 0,0.3\nset ytics "
                "0,0.2,1 format '%.1f'\n"
                "set xlabel 'test samples taken for foreign' offset 0,0.9 textcolor rgb " GNUPLOT_MUTED "\n"
                "set ylabel 'foreign samples found' offset 1,0 textcolor rgb " GNUPLOT_MUTED "\n"
                "set arrow 1 from 0,0 to 1,1 nohead back lw 1 dt (8,5) lc rgb " GNUPLOT_GRID "\n",
                script);
}

static Status draw_curves(const Sets *sets, int index, char **svg)
{
    FigureScript script;
    char *command = NULL, id[32], label[160];
    size_t size;
    *svg = NULL;
    TRY(figure_script_open(&script));
    FILE *plot = open_memstream(&command, &size);
    write_axes(script.file);
    const int curves = plot != NULL ? write_script(script.file, plot, sets, sets->name[index]) : 0;
    if (plot != NULL) (void)fclose(plot);
    if (command != NULL) (void)fprintf(script.file, "%s\n", command);
    free(command);
    if (curves == 0) {
        (void)fclose(script.file);
        free(script.text);
        return OK;
    }
    (void)snprintf(id, sizeof id, "ood%d", index);
    (void)snprintf(label, sizeof label, "ROC curves of telling test samples from %.63s by entropy",
                   sets->name[index]);
    return figure_script_draw(&script, ROC_LEFT + ROC_SIDE + ROC_AROUND, ROC_AROUND + ROC_SIDE + ROC_BOTTOM,
                              id, label, svg);
}

static Status write_curves(FILE *page, const Sets *sets)
{
    (void)fputs("<div class=\"panels few\">\n", page);
    for (int i = 0; i < sets->names; ++i) {
        char *svg;
        TRY(draw_curves(sets, i, &svg));
        if (svg == NULL) continue;
        (void)fputs("<figure><figcaption>", page);
        html_text(page, sets->name[i]);
        (void)fputs(" <small>by entropy; dashed: after temperature scaling</small></figcaption>\n", page);
        (void)fputs(svg, page);
        (void)fputs("</figure>\n", page);
        free(svg);
    }
    (void)fputs("</div>\n", page);
    return OK;
}

static Status write_section(FILE *page, const Sets *sets)
{
    if (sets->names == 0) return OK;
    (void)fputs("<h2 class=\"page\">Out of distribution</h2>\n<p>How well the networks tell their own test "
                "samples from samples of "
                "elsewhere, of which they should be unsure: the area under the ROC curve is the probability "
                "that a foreign sample has "
                "the higher entropy (or the lower confidence); 50&nbsp;% is chance. Brackets: 90&nbsp;% "
                "intervals by DeLong's "
                "variance.</p>\n",
                page);
    write_table(page, sets);
    return write_curves(page, sets);
}

Status report_ood(FILE *page, const RunSummary runs[], const int colours[], int count)
{
    Sets sets = {.run = runs, .colour = colours, .count = count};
    Status status = read_sets(&sets);
    if (status == OK) status = write_section(page, &sets);
    for (int i = 0; i < count && sets.root != NULL; ++i)
        cJSON_Delete(sets.root[i]);
    free(sets.root);
    return status;
}
