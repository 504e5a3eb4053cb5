#include "launch/bleu/bleu_table.h"

#include "engine/base/memory.h"
#include "nlp/bleu/characters.h"

#include <stdlib.h>
#include <string.h>

/* The characters of a table, from its left to its right. */
typedef struct {
    const char *left, *fill, *between, *right;
} Rule;

/* Cells of one or more lines: the row of names first, then a row a system; the systems' column first. */
typedef struct {
    char **cell; /* [rows][columns] */
    int rows, columns;
    size_t *width; /* [columns] */
} Table;

static void table_free(Table *table)
{
    for (int i = 0; table->cell != NULL && i < table->rows * table->columns; ++i)
        free(table->cell[i]);
    free((void *)table->cell);
    free(table->width);
}

static Status table_cell(const BleuArguments *arguments, const Significance *result, bool lines, char **cell)
{
    ReportText text = {.data = NULL};
    const int width = (int)arguments->width;
    char *part, *painted;
    TRY(text_format(&part, "%.*f", width, result->score));
    TRY(report_say_and_free(&text, part));
    if (result->has_interval) {
        TRY(text_format(&part, " (%.*f ± %.*f)", width, result->mean, width, result->interval));
        TRY(report_say_and_free(&text, part));
    }
    if (result->has_p) {
        TRY(report_say(&text, lines ? "\n" : " "));
        TRY(text_format(&part, "(p = %.4f)", result->p));
        if (result->p > 0.05) {
            TRY(report_coloured(arguments, RED, part, &painted));
            free(part);
            part = painted;
        }
        TRY(report_say_and_free(&text, part));
        if (result->p <= 0.05) TRY(report_say(&text, "*"));
    }
    *cell = text.data;
    return OK;
}

static Status fill_table(const BleuArguments *arguments, const char *const names[], int systems,
                         const BleuColumn column[], int columns, Table *table)
{
    *table = (Table){.rows = systems + 1, .columns = columns + 1};
    TRY(memory_new(&table->cell, (size_t)(table->rows * table->columns), sizeof *table->cell, "a table"));
    TRY(memory_new(&table->width, (size_t)table->columns, sizeof *table->width, "a table"));
    bool intervals = false;
    for (int c = 0; c < table->columns; ++c) {
        char *title;
        intervals = intervals || (c > 0 && column[c - 1].result[0].has_interval);
        TRY(text_format(&title, "%s%s", c > 0 ? column[c - 1].name : "System",
                        intervals ? " (μ ± 95% CI)" : ""));
        Status status = report_coloured(arguments, CYAN, title, &table->cell[c]);
        free(title);
        TRY(status);
        for (int s = 0; s < systems; ++s) {
            char **cell = &table->cell[(s + 1) * table->columns + c];
            TRY(c == 0
                    ? text_copy(names[s], cell)
                    : table_cell(arguments, &column[c - 1].result[s], arguments->format == BLEU_TEXT, cell));
        }
    }
    /* The first system's row, if it is the baseline. */
    for (int c = 0; c < table->columns && strncmp(names[0], "Baseline:", 9) == 0; ++c) {
        char **cell = &table->cell[table->columns + c], *painted;
        TRY(report_coloured(arguments, YELLOW, *cell, &painted));
        free(*cell);
        *cell = painted;
    }
    return OK;
}

/* The next line of a cell, without white space around it if it is the only one. Moves *at behind it; NULL: no further one. */
static TextSpan next_line(const char **at)
{
    if (*at == NULL) return (TextSpan){.size = 0};
    const size_t size = strcspn(*at, "\n");
    const TextSpan line = {.data = *at, .size = size};
    *at = (*at)[size] == '\n' ? *at + size + 1 : NULL;
    return text_without_space_at_start(text_without_space_at_end(line));
}

static void find_widths(Table *table)
{
    for (int c = 0; c < table->columns; ++c) {
        table->width[c] = report_seen_width(table->cell[c], strlen(table->cell[c])) + 2;
        for (int r = 1; r < table->rows; ++r)
            for (const char *at = table->cell[r * table->columns + c]; at != NULL;) {
                const TextSpan line = next_line(&at);
                const size_t width = report_seen_width(line.data, line.size);
                if (width > table->width[c]) table->width[c] = width;
            }
    }
}

static Status say_latex(ReportText *text, TextSpan line)
{
    static const char special[] = "&%$#_^{}~\\<>";
    static const char *const escaped[] = {"\\&",
                                          "\\%",
                                          "\\$",
                                          "\\#",
                                          "\\_",
                                          "\\^{}",
                                          "\\{",
                                          "\\}",
                                          "\\textasciitilde{}",
                                          "\\textbackslash{}",
                                          "\\ensuremath{<}",
                                          "\\ensuremath{>}"};
    for (size_t i = 0; i < line.size; ++i) {
        const char *found = line.data[i] != '\0' ? strchr(special, line.data[i]) : NULL;
        TRY(found != NULL ? report_say(text, escaped[found - special]) : report_put(text, line.data + i, 1));
    }
    return OK;
}

/* At the right in the first column, in the middle in the others. */
static Status say_padded(ReportText *text, TextSpan line, size_t width, bool first, bool latex)
{
    const size_t spare = width - report_seen_width(line.data, line.size), before = first ? spare : spare / 2;
    TRY(report_repeat(text, " ", before + 1));
    TRY(latex ? say_latex(text, line) : report_put(text, line.data, line.size));
    return report_repeat(text, " ", spare - before + 1);
}

static Status say_row(ReportText *text, const Table *table, int row, const Rule *rule, bool latex)
{
    const char *const *cell = (const char *const *)&table->cell[row * table->columns];
    const char **at;
    TRY(memory_new(&at, (size_t)table->columns, sizeof *at, "a table"));
    Status status = OK;
    bool more = true;
    for (int c = 0; c < table->columns; ++c)
        at[c] = cell[c];
    while (more && status == OK) {
        more = false;
        status = report_say(text, rule->left);
        for (int c = 0; c < table->columns && status == OK; ++c) {
            const TextSpan line = next_line(&at[c]);
            more = more || at[c] != NULL;
            status = say_padded(text, line, table->width[c], c == 0, latex);
            if (status == OK) status = report_say(text, c + 1 < table->columns ? rule->between : rule->right);
        }
        if (status == OK) status = report_say(text, "\n");
    }
    free((void *)at);
    return status;
}

static Status say_rule(ReportText *text, const Table *table, const Rule *rule)
{
    TRY(report_say(text, rule->left));
    for (int c = 0; c < table->columns; ++c) {
        TRY(report_repeat(text, rule->fill, table->width[c] + 2));
        TRY(report_say(text, c + 1 < table->columns ? rule->between : rule->right));
    }
    return report_say(text, "\n");
}

static Status text_table(const Table *table, ReportText *text)
{
    static const Rule top = {"╒", "═", "╤", "╕"}, under_names = {"╞", "═", "╪", "╡"},
                      between = {"├", "─", "┼", "┤"}, bottom = {"╘", "═", "╧", "╛"},
                      cells = {"│", "", "│", "│"};
    TRY(say_rule(text, table, &top));
    for (int r = 0; r < table->rows; ++r) {
        TRY(say_row(text, table, r, &cells, false));
        if (r + 1 < table->rows) TRY(say_rule(text, table, r == 0 ? &under_names : &between));
    }
    return say_rule(text, table, &bottom);
}

static Status latex_table(const Table *table, ReportText *text)
{
    static const Rule cells = {"", "", "&", "\\\\"};
    TRY(report_say(text, "\\begin{tabular}{r"));
    TRY(report_repeat(text, "c", (size_t)table->columns - 1));
    TRY(report_say(text, "}\n\\toprule\n"));
    for (int r = 0; r < table->rows; ++r) {
        TRY(say_row(text, table, r, &cells, true));
        if (r == 0) TRY(report_say(text, "\\midrule\n"));
    }
    return report_say(text, "\\bottomrule\n\\end{tabular}\n");
}

Status bleu_table_say(const BleuArguments *arguments, const char *const names[], int systems,
                      const BleuColumn column[], int columns, ReportText *text)
{
    Table table = {.rows = 0};
    Status status = fill_table(arguments, names, systems, column, columns, &table);
    if (status == OK) {
        find_widths(&table);
        status = arguments->format == BLEU_TEXT ? text_table(&table, text) : latex_table(&table, text);
    }
    table_free(&table);
    return status;
}
