#include "launch/runs/run_table.h"

#include "engine/base/memory.h"
#include "launch/runs/run_columns.h"
#include "launch/runs/seed_groups.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* "3 of 4 epochs", "3 epochs" */
static void epochs_text(const RunSummary *run, char *text, size_t size)
{
    const double done = run->epochs > 0 ? run->epoch[run->epochs - 1].epoch : 0;
    if (run->epochs_planned > 0)
        (void)snprintf(text, size, "%.6g of %" PRId64 " epochs", done, run->epochs_planned);
    else
        (void)snprintf(text, size, "%.6g epochs", done);
}

static void unfinished_text(const RunSummary *run, const char *epochs, char *text, size_t size)
{
    const RunEpoch *last = run->epochs > 0 ? &run->epoch[run->epochs - 1] : NULL;
    const RunEpochSplit *test = last != NULL ? &last->split[SPLIT_TEST] : NULL;
    if (test != NULL && test->measured && !isnan(test->error) && !isnan(test->ece))
        (void)snprintf(text, size, "unfinished: %s done; so far: test error %.2f %%, ECE %.2f %%", epochs,
                       100 * test->error, 100 * test->ece);
    else
        (void)snprintf(text, size, "unfinished: %s done", epochs);
}

static void failed_text(const RunSummary *run, const char *epochs, char *text, size_t size)
{
    const bool known = run->failure != NULL && run->failure[0] != '\0', begun = run->epochs > 0;
    (void)snprintf(text, size, "failed%s%s%s%s", begun ? " after " : "", begun ? epochs : "",
                   known ? ": " : "", known ? run->failure : "");
}

void run_state_text(const RunSummary *run, char *text, size_t size)
{
    char epochs[80];
    epochs_text(run, epochs, sizeof epochs);
    if (run->state == RUN_COMPLETE)
        (void)snprintf(text, size, "complete");
    else if (run->state == RUN_MISSING)
        (void)snprintf(text, size, "not begun");
    else if (run->state == RUN_DAMAGED)
        (void)snprintf(text, size, "evaluation damaged");
    else if (run->state == RUN_FAILED)
        failed_text(run, epochs, text, size);
    else
        unfinished_text(run, epochs, text, size);
}

/* ---- the grid of a table ---- */

enum { CELL = 48, NAME_LIMIT = 60, PLAIN_WIDTH = 160 };
typedef char Cell[CELL];

typedef struct {
    const char *title;    /* of the group that begins here; NULL: goes on */
    const char *subtitle; /* "before" */
    Cell *cell;           /* [runs]; empty where a run has no value */
    int width, group_width;
} GridColumn;

typedef struct {
    const char *label;     /* of the names */
    const RunSummary *run; /* NULL: every row has numbers */
    int runs, count;       /* rows and columns */
    GridColumn column[3 + RUN_PUBLISHED_COLUMNS * 5];
    char (*name)[NAME_LIMIT * 4 + 1]; /* [runs] */
    int name_width;
    bool *best; /* [runs] of one column: the best of its data set */
} Grid;

/* How many places a terminal gives the text: one a code point. */
static int text_width(const char *text)
{
    int width = 0;
    for (; *text != '\0'; ++text)
        width += ((unsigned char)*text & 0xC0) != 0x80;
    return width;
}

/* Folder names may hold anything but must not steer the terminal: control characters become '?'. */
static void printable(const char *text, char *out, size_t size, int limit)
{
    const size_t length = strlen(text);
    size_t used = 0;
    int width = 0;
    for (size_t i = 0; i < length && used + 1 < size; ++i) {
        const unsigned char byte = (unsigned char)text[i], next = (unsigned char)text[i + 1];
        if ((byte & 0xC0) != 0x80 && ++width > limit) break;
        if (byte == 0xC2 && next >= 0x80 && next < 0xA0) ++i; /* a control character of Latin-1 */
        out[used++] =
            byte < 0x20 || byte == 0x7F || (byte == 0xC2 && next >= 0x80 && next < 0xA0) ? '?' : text[i];
    }
    out[used] = '\0';
}

static Status grid_column(Grid *grid, const char *title, const char *subtitle, GridColumn **column)
{
    *column = &grid->column[grid->count++];
    (*column)->title = title;
    (*column)->subtitle = subtitle;
    return memory_new(&(*column)->cell, (size_t)grid->runs + 1, sizeof(Cell), "table");
}

static void measure_column(const Grid *grid, GridColumn *column)
{
    column->width = text_width(column->subtitle);
    for (int i = 0; i < grid->runs; ++i) {
        const int width = text_width(column->cell[i]);
        if (width > column->width) column->width = width;
    }
}

static Status add_values(Grid *grid, const RunColumn *column, const char *title, bool after,
                         const char *subtitle)
{
    GridColumn *values;
    TRY(grid_column(grid, title, subtitle, &values));
    TRY(run_column_best(column, grid->run, grid->runs, after, grid->best));
    for (int i = 0; i < grid->runs; ++i) {
        const RunMeasure *measure =
            after ? run_summary_after(&grid->run[i]) : run_summary_before(&grid->run[i]);
        if (measure == NULL) continue;
        const double value = column->value(measure);
        if (isnan(value))
            (void)snprintf(values->cell[i], CELL, "- ");
        else
            (void)snprintf(values->cell[i], CELL, "%.*f%c", column->decimals,
                           column->percent ? 100 * value : value, grid->best[i] ? '*' : ' ');
    }
    measure_column(grid, values);
    return OK;
}

static Status add_intervals(Grid *grid, const RunColumn *column, bool after)
{
    GridColumn *values;
    TRY(grid_column(grid, NULL, "", &values));
    for (int i = 0; i < grid->runs; ++i) {
        const RunMeasure *measure =
            after ? run_summary_after(&grid->run[i]) : run_summary_before(&grid->run[i]);
        if (measure == NULL || !measure->has_intervals) continue;
        const Interval interval = column->interval(measure);
        if (isnan(interval.lower)) continue;
        const double scale = column->percent ? 100 : 1;
        (void)snprintf(values->cell[i], CELL, "[%.*f, %.*f]", column->decimals, scale * interval.lower,
                       column->decimals, scale * interval.upper);
    }
    measure_column(grid, values);
    if (values->width == 0) { /* nobody has any */
        free(values->cell);
        *values = (GridColumn){.cell = NULL};
        --grid->count;
    }
    return OK;
}

static Status add_arrow(Grid *grid)
{
    GridColumn *arrow;
    TRY(grid_column(grid, NULL, "->", &arrow));
    for (int i = 0; i < grid->runs; ++i)
        if (run_summary_after(&grid->run[i]) != NULL) (void)snprintf(arrow->cell[i], CELL, "->");
    measure_column(grid, arrow);
    return OK;
}

static Status add_temperatures(Grid *grid)
{
    GridColumn *values;
    TRY(grid_column(grid, "T", "", &values));
    for (int i = 0; i < grid->runs; ++i)
        if (run_summary_after(&grid->run[i]) != NULL)
            (void)snprintf(values->cell[i], CELL, "%.1f", grid->run[i].temperature_ece);
    measure_column(grid, values);
    return OK;
}

/* "node7 GPU 2,3", "node7 CPU 0-3": the host, and what of it the run had. */
static void where_text(const RunSummary *run, Cell cell)
{
    const char *host = run_facts_find(&run->environment, "host");
    const char *gpus = run_facts_find(&run->environment, "visible_gpus");
    const char *processors = run_facts_find(&run->environment, "bound_to_processors"), *kind = "",
               *which = "";
    char text[4 * CELL];
    if (gpus != NULL && gpus[0] != '\0') {
        kind = strchr(gpus, '-') != NULL ? " " : " GPU "; /* UUIDs say it themselves */
        which = gpus;
    } else if (processors != NULL) {
        kind = " CPU ";
        which = processors;
    }
    (void)snprintf(text, sizeof text, "%.24s%s%.100s", host != NULL ? host : "", kind, which);
    printable(text, cell, CELL, CELL);
}

/* Where runs ran, if not all in one place. */
static Status add_where(Grid *grid)
{
    GridColumn *where;
    bool differ = false;
    const char *first = NULL;
    TRY(grid_column(grid, "ran on", "", &where));
    for (int i = 0; i < grid->runs; ++i) {
        if (run_summary_before(&grid->run[i]) == NULL) continue;
        where_text(&grid->run[i], where->cell[i]);
        if (first == NULL) first = where->cell[i];
        differ = differ || strcmp(where->cell[i], first) != 0;
    }
    if (differ) {
        measure_column(grid, where);
        return OK;
    }
    free(where->cell);
    *where = (GridColumn){.cell = NULL};
    --grid->count;
    return OK;
}

static bool any_after(const RunSummary runs[], int count)
{
    for (int i = 0; i < count; ++i)
        if (run_summary_after(&runs[i]) != NULL) return true;
    return false;
}

/* Groups are as wide as their title and their columns. */
static void measure_groups(Grid *grid)
{
    GridColumn *head = NULL;
    for (int i = 0; i < grid->count; ++i) {
        GridColumn *column = &grid->column[i];
        if (column->title != NULL) {
            head = column;
            head->group_width = column->width;
        } else if (head != NULL) {
            head->group_width += 1 + column->width;
        }
        const bool ends = i + 1 == grid->count || grid->column[i + 1].title != NULL;
        const int title = head != NULL ? text_width(head->title) : 0;
        if (!ends || head == NULL || title <= head->group_width) continue;
        head->width += title - head->group_width; /* numbers are flush right: room goes before the first */
        head->group_width = title;
    }
}

static Status add_names(Grid *grid, const char *(*name_of)(const void *, int), const void *named)
{
    TRY(memory_new(&grid->name, (size_t)grid->runs + 1, sizeof *grid->name, "table"));
    for (int i = 0; i < grid->runs; ++i) {
        printable(name_of(named, i), grid->name[i], sizeof grid->name[i], NAME_LIMIT);
        const int width = text_width(grid->name[i]);
        if (width > grid->name_width) grid->name_width = width;
    }
    const int label = text_width(grid->label);
    if (label > grid->name_width) grid->name_width = label;
    return OK;
}

static void grid_free(Grid *grid)
{
    for (int i = 0; i < grid->count; ++i)
        free(grid->column[i].cell);
    free(grid->name);
    free(grid->best);
}

static const char *run_name(const void *runs, int i) { return ((const RunSummary *)runs)[i].name; }

/* intervals: of how many of the columns that have them. */
static Status grid_make(const RunSummary runs[], int count, int intervals, Grid *grid)
{
    const bool stages = any_after(runs, count);
    *grid = (Grid){.label = "run", .run = runs, .runs = count};
    TRY(add_names(grid, run_name, runs));
    TRY(memory_new(&grid->best, (size_t)count + 1, sizeof *grid->best, "table"));
    int count_of_columns;
    const RunColumn *columns = run_columns(&count_of_columns);
    for (int i = 0; i < count_of_columns; ++i) {
        const RunColumn *column = &columns[i];
        const bool with = column->interval != NULL && intervals-- > 0;
        const bool both = stages && column->by_stage;
        if (i == 1 && stages) TRY(add_temperatures(grid));
        TRY(add_values(grid, column, column->title, false, both ? "before " : column->percent ? "% " : ""));
        if (with) TRY(add_intervals(grid, column, false));
        if (!both) continue;
        TRY(add_arrow(grid));
        TRY(add_values(grid, column, NULL, true, "after "));
        if (with) TRY(add_intervals(grid, column, true));
    }
    TRY(add_where(grid));
    measure_groups(grid);
    return OK;
}

/* ---- over seeds ---- */

static const char *group_name(const void *groups, int i) { return ((const SeedGroup *)groups)[i].name; }

/* A statistic of fewer seeds than the group has says of how many. */
static void seed_cell(const SeedStatistic *statistic, const SeedGroup *group, double scale, int decimals,
                      Cell cell)
{
    char deviation[CELL / 3] = "", seeds[CELL / 3] = "";
    if (statistic->count > 1)
        (void)snprintf(deviation, sizeof deviation, " +- %.*f", decimals, scale * statistic->deviation);
    if (statistic->count > 0 && statistic->count < group->count)
        (void)snprintf(seeds, sizeof seeds, " (n=%d)", statistic->count);
    if (statistic->count > 0)
        (void)snprintf(cell, CELL, "%.*f%s%s", decimals, scale * statistic->mean, deviation, seeds);
    else
        (void)snprintf(cell, CELL, "-");
}

static Status add_seed_counts(Grid *grid, const SeedGroup groups[])
{
    GridColumn *values;
    TRY(grid_column(grid, "n", "", &values));
    for (int i = 0; i < grid->runs; ++i)
        (void)snprintf(values->cell[i], CELL, "%d", groups[i].count);
    measure_column(grid, values);
    return OK;
}

static Status add_seed_temperatures(Grid *grid, const SeedGroup groups[])
{
    GridColumn *values;
    TRY(grid_column(grid, "T", "", &values));
    for (int i = 0; i < grid->runs; ++i)
        if (groups[i].temperature.count > 0)
            seed_cell(&groups[i].temperature, &groups[i], 1, RUN_TEMPERATURE_DECIMALS, values->cell[i]);
    measure_column(grid, values);
    return OK;
}

static Status add_seed_values(Grid *grid, const SeedGroup groups[], int number, const char *title, bool after,
                              const char *subtitle)
{
    GridColumn *values;
    const RunColumn *column = &run_published_columns()[number];
    TRY(grid_column(grid, title, subtitle, &values));
    for (int i = 0; i < grid->runs; ++i) {
        if (after && groups[i].temperature.count == 0) continue;
        seed_cell(after ? &groups[i].after[number] : &groups[i].before[number], &groups[i],
                  column->percent ? 100 : 1, column->decimals, values->cell[i]);
    }
    measure_column(grid, values);
    return OK;
}

static Status add_seed_arrow(Grid *grid, const SeedGroup groups[])
{
    GridColumn *arrow;
    TRY(grid_column(grid, NULL, "->", &arrow));
    for (int i = 0; i < grid->runs; ++i)
        if (groups[i].temperature.count > 0) (void)snprintf(arrow->cell[i], CELL, "->");
    measure_column(grid, arrow);
    return OK;
}

static Status grid_make_seeds(const SeedGroup groups[], int count, Grid *grid)
{
    bool stages = false;
    for (int i = 0; i < count; ++i)
        stages = stages || groups[i].temperature.count > 0;
    *grid = (Grid){.label = "runs", .runs = count};
    TRY(add_names(grid, group_name, groups));
    TRY(add_seed_counts(grid, groups));
    for (int i = 0; i < RUN_PUBLISHED_COLUMNS; ++i) {
        const RunColumn *column = &run_published_columns()[i];
        const bool both = stages && column->by_stage;
        if (i == 1 && stages) TRY(add_seed_temperatures(grid, groups));
        TRY(add_seed_values(grid, groups, i, column->title, false,
                            both              ? "before"
                            : column->percent ? "%"
                                              : ""));
        if (!both) continue;
        TRY(add_seed_arrow(grid, groups));
        TRY(add_seed_values(grid, groups, i, NULL, true, "after"));
    }
    measure_groups(grid);
    return OK;
}

/* ---- printing ---- */

enum { BETWEEN_GROUPS = 2 };

/* The end of the groups from `first` on that fit into the width; at least one group. */
static int block_end(const Grid *grid, int first, int limit, int *width)
{
    int end = first;
    *width = grid->name_width;
    while (end < grid->count) {
        int next = end + 1;
        while (next < grid->count && grid->column[next].title == NULL)
            ++next;
        const int wider = *width + BETWEEN_GROUPS + grid->column[end].group_width;
        if (end > first && wider > limit) break;
        *width = wider;
        end = next;
    }
    return end;
}

static void print_padded(FILE *stream, const char *text, int width, bool right)
{
    const int pad = width - text_width(text);
    (void)fprintf(stream, "%*s%s%*s", right && pad > 0 ? pad : 0, "", text, !right && pad > 0 ? pad : 0, "");
}

static void print_row(FILE *stream, const Grid *grid, int first, int end, const char *name, int row)
{
    print_padded(stream, name, grid->name_width, false);
    for (int i = first; i < end; ++i) {
        const GridColumn *column = &grid->column[i];
        (void)fprintf(stream, "%*s", column->title != NULL ? BETWEEN_GROUPS : 1, "");
        print_padded(stream, row < 0 ? column->subtitle : column->cell[row], column->width, true);
    }
    (void)fputc('\n', stream);
}

static void print_block(FILE *stream, const Grid *grid, int first, int end, int width)
{
    char text[RUN_STATE_TEXT], shown[RUN_STATE_TEXT];
    print_padded(stream, "", grid->name_width, false);
    for (int i = first; i < end; ++i) {
        const GridColumn *column = &grid->column[i];
        if (column->title == NULL) continue;
        const bool alone = i + 1 >= grid->count || grid->column[i + 1].title != NULL;
        (void)fprintf(stream, "%*s", BETWEEN_GROUPS, "");
        /* Over one column of numbers the title stands to the right like them; over several it is centred. */
        const int centre = alone ? column->group_width - (column->subtitle[0] != '\0')
                                 : (column->group_width + text_width(column->title)) / 2;
        char title[CELL];
        (void)snprintf(title, sizeof title, "%*s", centre, column->title);
        print_padded(stream, title, column->group_width, false);
    }
    (void)fputc('\n', stream);
    print_row(stream, grid, first, end, grid->label, -1);
    for (int i = 0; i < width; ++i)
        (void)fputc('-', stream);
    (void)fputc('\n', stream);
    for (int i = 0; i < grid->runs; ++i) {
        if (grid->run == NULL || run_summary_before(&grid->run[i]) != NULL) {
            print_row(stream, grid, first, end, grid->name[i], i);
        } else if (first == 0) {
            run_state_text(&grid->run[i], text, sizeof text);
            printable(text, shown, sizeof shown, PLAIN_WIDTH);
            print_padded(stream, grid->name[i], grid->name_width, false);
            (void)fprintf(stream, "  %s\n", shown);
        }
    }
}

static void print_notes(FILE *stream, const RunSummary runs[], int count, bool intervals)
{
    int measured = 0;
    bool has_intervals = false;
    for (int i = 0; i < count; ++i) {
        if (run_summary_before(&runs[i]) == NULL) continue;
        ++measured;
        has_intervals = has_intervals || run_summary_before(&runs[i])->has_intervals;
    }
    if (measured == 0) return;
    (void)fprintf(stream, "%sAll in percent but NLL (nats) and T.",
                  measured < 2                       ? ""
                  : run_datasets_differ(runs, count) ? "* best of its column, of runs on one data set. "
                                                     : "* best of its column. ");
    if (intervals && has_intervals)
        (void)fprintf(stream, " [90 %% intervals, bootstrap: resamples have\nlarger calibration errors, so "
                              "one may lie above its value.]");
    (void)fputc('\n', stream);
    if (any_after(runs, count))
        (void)fprintf(stream,
                      "before -> after: logits divided by T, the temperature with the best ECE on the "
                      "validation split.\n");
}

static void print_problems(FILE *stream, const Grid *grid)
{
    enum { LONGEST = 4096 };
    char text[LONGEST];
    for (int i = 0; i < grid->runs; ++i) {
        if (grid->run[i].problem == NULL) continue;
        printable(grid->run[i].problem, text, sizeof text, LONGEST);
        (void)fprintf(stream, "%s: %s\n", grid->name[i], text);
    }
}

static int stream_width(FILE *stream)
{
    struct winsize size;
    const int descriptor = fileno(stream);
    if (descriptor < 0 || isatty(descriptor) == 0) return PLAIN_WIDTH;
    if (ioctl(descriptor, TIOCGWINSZ, &size) != 0 || size.ws_col < 40) return 80;
    return size.ws_col;
}

static void print_blocks(FILE *stream, const Grid *grid, int limit)
{
    int width = 0;
    for (int first = 0; first < grid->count;) {
        const int end = block_end(grid, first, limit, &width);
        if (first > 0) (void)fputc('\n', stream);
        print_block(stream, grid, first, end, width);
        first = end;
    }
}

static void print_left_out(FILE *stream, const char *name, int incomplete, int repeated)
{
    if (incomplete + repeated == 0) return;
    (void)fprintf(stream, "%s is without", name);
    if (incomplete > 0)
        (void)fprintf(stream, " %d run%s not complete", incomplete,
                      incomplete == 1 ? " that is" : "s that are");
    if (repeated > 0)
        (void)fprintf(stream, "%s %d of a seed that it has already", incomplete > 0 ? " and" : "", repeated);
    (void)fputs(".\n", stream);
}

static Status print_seeds(FILE *stream, const RunSummary runs[], int count, int limit)
{
    Grid grid = {.count = 0};
    SeedGroup *groups = NULL;
    int group_count = 0;
    Status status;
    TRY_ELSE(done, seed_groups_find(runs, count, &groups, &group_count));
    if (group_count == 0) goto done;
    TRY_ELSE(done, grid_make_seeds(groups, group_count, &grid));
    (void)fputc('\n', stream);
    print_blocks(stream, &grid, limit);
    (void)fprintf(stream,
                  "mean +- sample standard deviation over n runs that differ in nothing but their seed.\n");
    for (int i = 0; i < group_count; ++i)
        print_left_out(stream, grid.name[i], groups[i].incomplete, groups[i].repeated);
done:
    grid_free(&grid);
    seed_groups_free(groups, group_count);
    return status;
}

Status run_table_print(const RunSummary runs[], int count, FILE *stream)
{
    Grid grid = {.count = 0};
    Status status = OK;
    const int limit = stream_width(stream);
    int width = 0, intervals = 3;
    for (;; --intervals) {
        TRY_ELSE(done, grid_make(runs, count, intervals, &grid));
        if (block_end(&grid, 0, limit, &width) == grid.count || intervals == 0) break;
        grid_free(&grid);
    }
    print_blocks(stream, &grid, limit);
    print_notes(stream, runs, count, intervals > 0);
    TRY_ELSE(done, print_seeds(stream, runs, count, limit));
    print_problems(stream, &grid);
    if (fflush(stream) != 0 || ferror(stream) != 0)
        status = fail(STATUS_IO, "the table of runs could not be written: %s", strerror(errno));
done:
    grid_free(&grid);
    return status;
}
