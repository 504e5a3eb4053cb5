#include "launch/report/html.h"
#include "launch/report/report_tables.h"
#include "launch/runs/run_columns.h"
#include "launch/runs/seed_groups.h"

#include <stdlib.h>

static void write_statistic(FILE *page, const SeedStatistic *statistic, const SeedGroup *group, double scale,
                            int decimals, const char *class)
{
    if (statistic->count == 0) {
        (void)fprintf(page, "<td class=\"%s\">&ndash;</td>", class);
        return;
    }
    (void)fprintf(page, "<td class=\"%s\">%.*f", class, decimals, scale * statistic->mean);
    if (statistic->count > 1)
        (void)fprintf(page, "<small>&plusmn;&nbsp;%.*f</small>", decimals, scale * statistic->deviation);
    if (statistic->count < group->count) (void)fprintf(page, "<small>n = %d</small>", statistic->count);
    (void)fputs("</td>", page);
}

static void write_left_out(FILE *page, const SeedGroup *group)
{
    if (group->incomplete > 0)
        (void)fprintf(page, "<small>%d run%s not complete</small>", group->incomplete,
                      group->incomplete == 1 ? "" : "s");
    if (group->repeated > 0)
        (void)fprintf(page, "<small>%d run%s of a seed that is there already</small>", group->repeated,
                      group->repeated == 1 ? "" : "s");
}

static void write_group(FILE *page, const SeedGroup *group, bool stages)
{
    const RunColumn *columns = run_published_columns();
    (void)fputs("<tr><th scope=\"row\">", page);
    html_text(page, group->name);
    write_left_out(page, group);
    (void)fprintf(page, "</th><td class=\"number group\">%d</td>", group->count);
    for (int i = 0; i < RUN_PUBLISHED_COLUMNS; ++i) {
        const RunColumn *column = &columns[i];
        const double scale = column->percent ? 100 : 1;
        if (stages && i == 1)
            write_statistic(page, &group->temperature, group, 1, RUN_TEMPERATURE_DECIMALS, "number group");
        write_statistic(page, &group->before[i], group, scale, column->decimals, "number group");
        if (stages && column->by_stage)
            write_statistic(page, &group->after[i], group, scale, column->decimals, "number");
    }
    (void)fputs("</tr>\n", page);
}

static void write_groups(FILE *page, const SeedGroup groups[], int count)
{
    bool stages = false;
    for (int i = 0; i < count; ++i)
        stages = stages || groups[i].temperature.count > 0;
    (void)fputs("<h2>Over seeds</h2>\n<p>Mean and, below it, sample standard deviation over the <var>n</var> "
                "complete runs that differ in nothing but their seed.</p>\n"
                "<div class=\"wide\"><table class=\"results\">\n",
                page);
    report_results_head(page, run_published_columns(), RUN_PUBLISHED_COLUMNS, stages, true);
    (void)fputs("<tbody>\n", page);
    for (int i = 0; i < count; ++i)
        write_group(page, &groups[i], stages);
    (void)fputs("</tbody>\n</table></div>\n", page);
}

Status report_seeds(FILE *page, const RunSummary runs[], int count)
{
    SeedGroup *groups;
    int group_count;
    TRY(seed_groups_find(runs, count, &groups, &group_count));
    if (group_count > 0) write_groups(page, groups, group_count);
    seed_groups_free(groups, group_count);
    return OK;
}
