/* Tables of the paper: rows of data sets and networks, columns of losses. */
#include "launch/report/html.h"
#include "launch/report/paper_items.h"
#include "launch/report/paper_published.h"

#include <math.h>
#include <string.h>

const char *const paper_table_columns[PAPER_TABLE_COLUMNS] = {"dataset",
                                                              "network",
                                                              "row",
                                                              "loss",
                                                              "measure",
                                                              "unit",
                                                              "stage",
                                                              "value",
                                                              "deviation",
                                                              "seeds",
                                                              "lower",
                                                              "upper",
                                                              "temperature",
                                                              "published",
                                                              "published_temperature",
                                                              "published_inside",
                                                              "trained_otherwise"};

static const char *const stage_key[EVALUATE_STAGES] = {
    [EVALUATE_BEFORE] = "before", [EVALUATE_AFTER_ECE] = "after_ece", [EVALUATE_AFTER_NLL] = "after_nll"};

/* ---- one cell ---- */

typedef struct {
    PaperNumber number;
    double published, published_temperature;
    const char *verdict, *differences;
} Cell;

/* Says whether the published number lies inside our 90 % interval; NULL where one of the two is missing. Counts it, if the runs
 * were trained as the paper says and no table before counted it. */
static const char *compare(Paper *paper, const PaperRow *row, int loss, const PaperColumn *column,
                           const Cell *cell)
{
    const Interval *interval = &cell->number.interval;
    if (isnan(cell->published) || cell->number.over.count == 0) return NULL;
    const bool inside = cell->published >= interval->lower && cell->published <= interval->upper;
    bool *counted = &paper->counted[column->measure - paper_measure][row->subject][loss][column->stage];
    const bool as_paper = paper->runs->group[row->subject][loss].differences == NULL;
    if (as_paper && !*counted) {
        ++paper->compared;
        paper->inside += inside;
        paper->no_interval += isnan(interval->lower);
    }
    *counted = *counted || as_paper;
    return isnan(interval->lower) ? "no interval" : inside ? "inside" : "outside";
}

static Status make_cell(Paper *paper, const PaperRow *row, int loss, const PaperColumn *column, Cell *cell)
{
    const PaperMeasure *measure = column->measure;
    TRY(paper_number(paper->runs, row->subject, loss, measure->value, column->stage, row->context,
                     &cell->number));
    cell->published =
        measure->published != NULL ? measure->published(row->subject, loss, column->stage) : NAN;
    cell->published_temperature = isnan(cell->published) || column->stage == EVALUATE_BEFORE
                                      ? NAN
                                      : published_temperature(row->subject, loss);
    cell->verdict = compare(paper, row, loss, column, cell);
    cell->differences = paper->runs->group[row->subject][loss].differences;
    return OK;
}

/* Without a colour where the runs were trained otherwise than the paper says: then the mark is not counted. */
static void write_mark(FILE *page, const Cell *cell)
{
    static const struct {
        const char *verdict, *mark, *class;
    } marks[] = {{"inside", "&#10003;", "inside"},
                 {"outside", "&#10007;", "outside"},
                 {"no interval", "?", "unknown"}};
    for (size_t i = 0; cell->verdict != NULL && i < sizeof marks / sizeof marks[0]; ++i)
        if (strcmp(cell->verdict, marks[i].verdict) == 0)
            (void)fprintf(page, "&nbsp;<span class=\"%s\" title=\"%s our 90 %% interval\">%s</span>",
                          cell->differences != NULL ? "unknown" : marks[i].class,
                          i == 2 ? "there is no number for" : marks[i].verdict, marks[i].mark);
}

static void write_published(FILE *page, const Cell *cell, double scale, int decimals)
{
    if (isnan(cell->published)) return;
    (void)fprintf(page, "<small class=\"published\"><i>%.*f</i>", decimals, scale * cell->published);
    if (!isnan(cell->published_temperature))
        (void)fprintf(page, " <i>(%.1f)</i>", cell->published_temperature);
    write_mark(page, cell);
    (void)fputs("</small>", page);
}

static void write_cell(FILE *page, const Cell *cell, const PaperMeasure *measure, bool first, bool best)
{
    const PaperNumber *number = &cell->number;
    const double scale = measure->percent ? 100 : 1;
    const int decimals = measure->decimals;
    const char *class = first ? "number group" : "number";
    if (number->over.count == 0) {
        (void)fprintf(page, "<td class=\"%s\">&ndash;", class);
        write_published(page, cell, scale, decimals);
        (void)fputs("</td>", page);
        return;
    }
    (void)fprintf(page, "<td class=\"%s%s\" data-value=\"%.9g\">%s%.*f%s", class, best ? " best" : "",
                  scale * number->over.mean, best ? "<strong>" : "", decimals, scale * number->over.mean,
                  best ? "</strong>" : "");
    if (!isnan(number->temperature))
        (void)fprintf(page, " <span class=\"unit\">(%.1f)</span>", number->temperature);
    if (cell->differences != NULL) {
        (void)fputs("<sup title=\"", page);
        html_text(page, cell->differences);
        (void)fputs("\">&Dagger;</sup>", page);
    }
    if (number->over.count > 1)
        (void)fprintf(page, "<small>&plusmn;&nbsp;%.*f</small><small>n&nbsp;=&nbsp;%d</small>", decimals,
                      scale * number->over.deviation, number->over.count);
    if (!isnan(number->interval.lower))
        (void)fprintf(page, "<small>%.*f&ndash;%.*f</small>", decimals, scale * number->interval.lower,
                      decimals, scale * number->interval.upper);
    write_published(page, cell, scale, decimals);
    (void)fputs("</td>", page);
}

static void write_data(PaperData *data, const PaperRow *row, int loss, const PaperColumn *column,
                       const Cell *cell)
{
    const PaperSubject *subject = &paper_subject[row->subject];
    const PaperNumber *number = &cell->number;
    const double scale = column->measure->percent ? 100 : 1;
    paper_data_text(data, subject->dataset);
    paper_data_text(data, subject->model);
    paper_data_text(data, row->title[0] != '\0' ? row->title : NULL);
    paper_data_text(data, paper_loss[loss].key);
    paper_data_text(data, column->measure->key);
    paper_data_text(data, column->measure->percent ? "percent" : NULL);
    paper_data_text(data, stage_key[column->stage]);
    paper_data_number(data, scale * number->over.mean);
    paper_data_number(data, scale * number->over.deviation);
    paper_data_number(data, number->over.count);
    paper_data_number(data, scale * number->interval.lower);
    paper_data_number(data, scale * number->interval.upper);
    paper_data_number(data, number->temperature);
    paper_data_number(data, scale * cell->published);
    paper_data_number(data, cell->published_temperature);
    paper_data_text(data, cell->verdict);
    paper_data_text(data, number->over.count > 0 ? cell->differences : NULL);
}

/* ---- a table ---- */

static void write_head(FILE *page, const PaperTable *table, const PaperBlock *block)
{
    const bool two = block->columns > 1;
    const char *rows = two ? " rowspan=\"2\"" : "";
    (void)fprintf(
        page,
        "<div class=\"wide\"><table class=\"results paper\">\n<thead>\n<tr><th scope=\"col\"%s>Data "
        "set, network</th>",
        rows);
    for (int l = 0; l < table->losses; ++l) {
        if (two)
            (void)fprintf(page, "<th scope=\"col\" colspan=\"%d\" class=\"group centre\">", block->columns);
        else
            (void)fputs("<th scope=\"col\" class=\"number group\">", page);
        (void)fprintf(page, "%s</th>", paper_loss[table->loss[l]].title);
    }
    (void)fputs("</tr>\n", page);
    if (two) {
        (void)fputs("<tr>", page);
        for (int l = 0; l < table->losses; ++l)
            for (int c = 0; c < block->columns; ++c)
                (void)fprintf(page, "<th scope=\"col\" class=\"number stage%s\">%s</th>",
                              c == 0 ? " group" : "", block->column[c].title);
        (void)fputs("</tr>\n", page);
    }
    (void)fputs("</thead>\n<tbody>\n", page);
}

typedef struct {
    Cell cell[PAPER_LOSSES][PAPER_MOST_COLUMNS];
} RowCells;

/* The best of a column's kind in the row, if there are two or more. */
static double find_best(const RowCells *cells, const PaperTable *table, int c, int better)
{
    double best = NAN;
    int found = 0;
    for (int l = 0; l < table->losses; ++l) {
        const PaperNumber *number = &cells->cell[l][c].number;
        if (better == 0 || number->over.count == 0) continue;
        ++found;
        if (isnan(best) || better * number->over.mean > better * best) best = number->over.mean;
    }
    return found > 1 ? best : NAN;
}

static void write_row(FILE *page, const PaperTable *table, const PaperBlock *block, const PaperRow *row,
                      const RowCells *cells)
{
    const PaperSubject *subject = &paper_subject[row->subject];
    double best[PAPER_MOST_COLUMNS];
    for (int c = 0; c < block->columns; ++c)
        best[c] = find_best(cells, table, c, block->column[c].measure->better);
    (void)fprintf(page, "<tr><th scope=\"row\">%s<small>%s</small>", subject->dataset_title,
                  subject->model_title);
    if (row->title[0] != '\0') (void)fprintf(page, "<small>%s</small>", row->title);
    (void)fputs("</th>", page);
    for (int l = 0; l < table->losses; ++l)
        for (int c = 0; c < block->columns; ++c) {
            const Cell *cell = &cells->cell[l][c];
            write_cell(page, cell, block->column[c].measure, c == 0,
                       cell->number.over.count > 0 && cell->number.over.mean == best[c]);
        }
    (void)fputs("</tr>\n", page);
}

static Status make_row(Paper *paper, PaperPart *part, const PaperTable *table, const PaperBlock *block,
                       const PaperRow *row)
{
    RowCells cells = {0};
    for (int l = 0; l < table->losses; ++l)
        for (int c = 0; c < block->columns; ++c) {
            Cell *cell = &cells.cell[l][c];
            TRY(make_cell(paper, row, table->loss[l], &block->column[c], cell));
            write_data(&part->data, row, table->loss[l], &block->column[c], cell);
            const bool have = cell->number.over.count > 0;
            ++part->wants;
            part->have += have;
            if (have) continue;
            if (paper->runs->group[row->subject][table->loss[l]].complete == 0)
                part->missing_run[row->subject][table->loss[l]] = true;
            else
                ++part->lacking;
        }
    write_row(part->page, table, block, row, &cells);
    return OK;
}

Status paper_table(Paper *paper, PaperPart *part)
{
    const PaperTable *table = part->item->context;
    for (int b = 0; b < table->blocks; ++b) {
        const PaperBlock *block = &table->block[b];
        if (block->caption != NULL)
            (void)fprintf(part->page, "<p class=\"caption\">%s</p>\n", block->caption);
        write_head(part->page, table, block);
        for (int r = 0; r < table->rows; ++r)
            TRY(make_row(paper, part, table, block, &table->row[r]));
        (void)fputs("</tbody>\n</table></div>\n", part->page);
    }
    return OK;
}
