#include "launch/bleu_report.h"

#include "engine/base/memory.h"
#include "nlp/bleu/characters.h"
#include "nlp/utf8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- Texts that grow ---- */

typedef struct {
    char *data;
    size_t size, room;
} Text;

static Status put(Text *text, const char *data, size_t size)
{
    TRY(memory_grow(&text->data, &text->room, text->size + size + 1, 1, "a report"));
    if (size > 0) memcpy(text->data + text->size, data, size);
    text->size += size;
    text->data[text->size] = '\0';
    return OK;
}

static Status say(Text *text, const char *what) { return put(text, what, strlen(what)); }

static Status repeat(Text *text, const char *what, size_t times)
{
    for (size_t i = 0; i < times; ++i)
        TRY(say(text, what));
    return OK;
}

/* Takes a text that is to be released. */
static Status say_and_free(Text *text, char *what)
{
    Status status = say(text, what);
    free(what);
    return status;
}

/* ---- Python's ways to write ---- */

void python_repr(double value, char text[40])
{
    if (!isfinite(value)) {
        (void)snprintf(text, 40, "%s", isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity");
        return;
    }
    int digits = 1;
    for (; digits <= 17; ++digits) {
        (void)snprintf(text, 40, "%.*e", digits - 1, value);
        if (strtod(text, NULL) == value) break;
    }
    const char *e = strchr(text, 'e');
    const int exponent = e != NULL ? atoi(e + 1) : 0;
    if (exponent < -4 || exponent >= 16) return; /* %e has at least two digits there, as repr */
    const int decimals = digits - 1 - exponent;
    (void)snprintf(text, 40, "%.*f", decimals > 1 ? decimals : 1, value);
}

/* A JSON string; ascii: other characters become \uXXXX. */
static Status say_json(Text *text, const char *what, bool ascii)
{
    const char *end = what + strlen(what);
    size_t bytes;
    TRY(say(text, "\""));
    for (const char *at = what; at < end; at += bytes) {
        uint32_t code = character_at(at, end, &bytes);
        char escaped[16] = "";
        static const char named[] = "\"\\\n\r\t\b\f", names[] = "\"\\nrtbf";
        const char *name = code < 0x80 ? strchr(named, (int)code) : NULL;
        if (bytes == 1 && code >= 0x80) code = 0xDC00 + code; /* no UTF-8: as Python has such a file's name */
        if (name != NULL)
            (void)snprintf(escaped, sizeof escaped, "\\%c", names[name - named]);
        else if (code < 0x20 || (ascii && code >= 0x7F && code < 0x10000))
            (void)snprintf(escaped, sizeof escaped, "\\u%04x", code);
        else if (ascii && code >= 0x10000)
            (void)snprintf(escaped, sizeof escaped, "\\u%04x\\u%04x", 0xD800 + ((code - 0x10000) >> 10),
                           0xDC00 + ((code - 0x10000) & 0x3FF));
        TRY(escaped[0] != '\0' ? say(text, escaped) : put(text, at, bytes));
    }
    return say(text, "\"");
}

/* ---- Colours, on a terminal only ---- */

typedef enum { RED = 31, GREEN = 32, YELLOW = 33, CYAN = 36 } Colour;

static bool has_colours(const BleuArguments *arguments)
{
    return arguments->colours && isatty(STDOUT_FILENO);
}

static Status coloured(const BleuArguments *arguments, Colour colour, const char *text, char **out)
{
    if (!has_colours(arguments)) return text_copy(text, out);
    return text_format(out, "\033[%dm%s\033[0m", (int)colour, text);
}

void bleu_print_end(const BleuArguments *arguments)
{
    if (has_colours(arguments)) (void)fputs("\033[0m", stdout);
}

/* Characters that are seen. */
static size_t seen_width(const char *text, size_t size)
{
    size_t width = 0;
    for (size_t i = 0; i < size;) {
        if (text[i] == '\033') {
            while (i < size && text[i++] != 'm') {}
            continue;
        }
        width += utf8_characters(text + i++, 1);
    }
    return width;
}

/* ---- One system ---- */

static Status say_interval(Text *text, const BleuArguments *arguments, const Significance *result)
{
    const int width = (int)arguments->width;
    char *interval;
    TRY(text_format(&interval, "μ = %.*f ± %.*f", width, result->mean, width, result->interval));
    return say_and_free(text, interval);
}

static Status say_member(Text *text, const char *name, const char *value, size_t size, bool string)
{
    TRY(say(text, ",\n "));
    TRY(say_json(text, name, false));
    TRY(say(text, ": "));
    char *copy;
    TRY(text_format(&copy, "%.*s", (int)size, value));
    Status status = string ? say_json(text, copy, false) : say(text, copy);
    free(copy);
    return status;
}

/* The value of a number that has `width` decimals. */
static Status say_rounded(Text *text, const char *name, double value, int width)
{
    char *decimals, number[40];
    TRY(text_format(&decimals, "%.*f", width, value));
    python_repr(strtod(decimals, NULL), number);
    free(decimals);
    return say_member(text, name, number, strlen(number), false);
}

/* Each field of the signature. */
static Status say_fields(Text *text, const char *signature)
{
    for (const char *at = signature; *at != '\0';) {
        const size_t size = strcspn(at, "|"), colon = strcspn(at, ":");
        char name[64];
        (void)snprintf(name, sizeof name, "%.*s", (int)colon, at);
        TRY(say_member(text, name, at + colon + 1, size - colon - 1, true));
        at += size;
        at += *at == '|';
    }
    return OK;
}

static bool shows_interval(const Significance *result) { return result->has_interval && result->mean > 0; }

static Status json_object(const BleuArguments *arguments, const BleuColumn *column, Text *text)
{
    const int width = (int)arguments->width;
    const Significance *result = column->result;
    TRY(say(text, "{\n \"name\": "));
    TRY(say_json(text, column->name, false));
    TRY(say_rounded(text, "score", result->score, width));
    TRY(say_member(text, "signature", column->signature, strlen(column->signature), true));
    if (shows_interval(result)) {
        TRY(say_rounded(text, "confidence_mean", result->mean, width));
        TRY(say_rounded(text, "confidence_var", result->interval, width));
        TRY(say(text, ",\n \"confidence\": \""));
        TRY(say_interval(text, arguments, result));
        TRY(say(text, "\""));
    }
    if (column->details != NULL)
        TRY(say_member(text, "verbose_score", column->details, strlen(column->details), true));
    TRY(say_fields(text, column->signature));
    return say(text, "\n}");
}

static Status score_text(const BleuArguments *arguments, const BleuColumn *column, Text *text)
{
    const Significance *result = column->result;
    char *score;
    if (!arguments->score_only) {
        TRY(say(text, column->name));
        TRY(say(text, "|"));
        TRY(say(text, column->signature));
        TRY(say(text, " = "));
    }
    TRY(text_format(&score, "%.*f", (int)arguments->width, result->score));
    TRY(say_and_free(text, score));
    if (shows_interval(result)) {
        TRY(say(text, " ("));
        TRY(say_interval(text, arguments, result));
        TRY(say(text, ")"));
    }
    if (arguments->score_only || column->details == NULL) return OK;
    TRY(say(text, " "));
    return say(text, column->details);
}

Status bleu_score_line(const BleuArguments *arguments, const BleuColumn *column, bool json, char **line)
{
    Text text = {.data = NULL};
    Status status = json && !arguments->score_only ? json_object(arguments, column, &text)
                                                   : score_text(arguments, column, &text);
    if (status != OK) free(text.data);
    *line = status == OK ? text.data : NULL;
    return status;
}

/* The interval in colour, if the first line has one. */
static Status colour_interval(const BleuArguments *arguments, char **line)
{
    const char *from = strstr(*line, "(μ = "), *to = from != NULL ? strchr(from, ')') : NULL;
    if (to == NULL || !has_colours(arguments)) return OK;
    char *part = NULL, *painted = NULL, *whole = NULL;
    Status status = text_format(&part, "%.*s", (int)(to + 1 - from), from);
    if (status == OK) status = coloured(arguments, CYAN, part, &painted);
    if (status == OK) status = text_format(&whole, "%.*s%s%s", (int)(from - *line), *line, painted, to + 1);
    free(part);
    free(painted);
    if (status != OK) return status;
    free(*line);
    *line = whole;
    return OK;
}

/* Aligned at the first "=" of each line; those without one go before. */
static void print_aligned(char *const line[], int lines)
{
    size_t widest = 0, place[METRIC_KINDS];
    int placed = 0;
    for (int i = 0; i < lines; ++i) {
        const char *equals = strchr(line[i], '=');
        if (equals == NULL) {
            (void)puts(line[i]);
            continue;
        }
        const size_t width = utf8_characters(line[i], (size_t)(equals - line[i]));
        place[placed] = width > 0 ? width - 1 : 0;
        if (place[placed] > widest) widest = place[placed];
        ++placed;
    }
    for (int i = 0; i < placed; ++i)
        (void)printf("%*s%s\n", (int)(widest - place[i]), "", line[i]);
}

static void print_lines(const BleuArguments *arguments, char *const line[], int lines)
{
    if (arguments->format == BLEU_JSON) {
        for (int i = 0; i < lines; ++i)
            (void)printf("%s%s%s", i == 0 && lines > 1 ? "[\n" : "", line[i],
                         i + 1 < lines ? ",\n"
                         : lines > 1   ? "\n]\n"
                                       : "\n");
    } else if (lines == 1) {
        (void)puts(line[0]);
    } else {
        print_aligned(line, lines);
    }
}

Status bleu_print_single(const BleuArguments *arguments, const BleuColumn column[], int columns)
{
    char *line[METRIC_KINDS] = {NULL};
    const bool json = arguments->format == BLEU_JSON;
    Status status = OK;
    for (int c = 0; c < columns && status == OK; ++c)
        status = bleu_score_line(arguments, &column[c], json, &line[c]);
    const bool first_has = status == OK && strstr(line[0], "μ") != NULL;
    for (int c = 0; c < columns && status == OK && first_has && !json; ++c)
        status = colour_interval(arguments, &line[c]);
    if (status == OK) print_lines(arguments, line, columns);
    for (int c = 0; c < columns; ++c)
        free(line[c]);
    return status;
}

/* ---- Several systems: JSON ---- */

static bool is_paired(const BleuArguments *arguments)
{
    return arguments->paired_bootstrap || arguments->paired_randomisation;
}

static Status say_json_number(Text *text, const char *name, double value, bool there, bool last)
{
    char number[40] = "null";
    if (there) python_repr(value, number);
    TRY(say(text, "            \""));
    TRY(say(text, name));
    TRY(say(text, "\": "));
    TRY(say(text, number));
    return say(text, last ? "\n" : ",\n");
}

static Status say_json_score(Text *text, const BleuArguments *arguments, const Significance *result)
{
    if (!is_paired(arguments)) {
        char *score;
        TRY(text_format(&score, "\"%.*f\"", (int)arguments->width, result->score));
        return say_and_free(text, score);
    }
    TRY(say(text, "{\n"));
    TRY(say_json_number(text, "score", result->score, true, false));
    TRY(say_json_number(text, "p_value", result->p, result->has_p, false));
    TRY(say_json_number(text, "mean", result->mean, result->has_interval, false));
    TRY(say_json_number(text, "ci", result->interval, result->has_interval, true));
    return say(text, "        }");
}

static Status json_table(const BleuArguments *arguments, const char *const names[], int systems,
                         const BleuColumn column[], int columns, Text *text)
{
    TRY(say(text, "["));
    for (int s = 0; s < systems; ++s) {
        TRY(say(text, s > 0 ? ",\n    {\n        \"system\": " : "\n    {\n        \"system\": "));
        TRY(say_json(text, names[s], true));
        for (int c = 0; c < columns; ++c) {
            TRY(say(text, ",\n        "));
            TRY(say_json(text, column[c].name, true));
            TRY(say(text, ": "));
            TRY(say_json_score(text, arguments, &column[c].result[s]));
        }
        TRY(say(text, "\n    }"));
    }
    return say(text, "\n]\n");
}

/* ---- Several systems: a table ---- */

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
    Text text = {.data = NULL};
    const int width = (int)arguments->width;
    char *part, *painted;
    TRY(text_format(&part, "%.*f", width, result->score));
    TRY(say_and_free(&text, part));
    if (result->has_interval) {
        TRY(text_format(&part, " (%.*f ± %.*f)", width, result->mean, width, result->interval));
        TRY(say_and_free(&text, part));
    }
    if (result->has_p) {
        TRY(say(&text, lines ? "\n" : " "));
        TRY(text_format(&part, "(p = %.4f)", result->p));
        if (result->p > 0.05) {
            TRY(coloured(arguments, RED, part, &painted));
            free(part);
            part = painted;
        }
        TRY(say_and_free(&text, part));
        if (result->p <= 0.05) TRY(say(&text, "*"));
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
        Status status = coloured(arguments, CYAN, title, &table->cell[c]);
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
        TRY(coloured(arguments, YELLOW, *cell, &painted));
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
        table->width[c] = seen_width(table->cell[c], strlen(table->cell[c])) + 2;
        for (int r = 1; r < table->rows; ++r)
            for (const char *at = table->cell[r * table->columns + c]; at != NULL;) {
                const TextSpan line = next_line(&at);
                const size_t width = seen_width(line.data, line.size);
                if (width > table->width[c]) table->width[c] = width;
            }
    }
}

static Status say_latex(Text *text, TextSpan line)
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
        TRY(found != NULL ? say(text, escaped[found - special]) : put(text, line.data + i, 1));
    }
    return OK;
}

/* At the right in the first column, in the middle in the others. */
static Status say_padded(Text *text, TextSpan line, size_t width, bool first, bool latex)
{
    const size_t spare = width - seen_width(line.data, line.size), before = first ? spare : spare / 2;
    TRY(repeat(text, " ", before + 1));
    TRY(latex ? say_latex(text, line) : put(text, line.data, line.size));
    return repeat(text, " ", spare - before + 1);
}

static Status say_row(Text *text, const Table *table, int row, const Rule *rule, bool latex)
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
        status = say(text, rule->left);
        for (int c = 0; c < table->columns && status == OK; ++c) {
            const TextSpan line = next_line(&at[c]);
            more = more || at[c] != NULL;
            status = say_padded(text, line, table->width[c], c == 0, latex);
            if (status == OK) status = say(text, c + 1 < table->columns ? rule->between : rule->right);
        }
        if (status == OK) status = say(text, "\n");
    }
    free((void *)at);
    return status;
}

static Status say_rule(Text *text, const Table *table, const Rule *rule)
{
    TRY(say(text, rule->left));
    for (int c = 0; c < table->columns; ++c) {
        TRY(repeat(text, rule->fill, table->width[c] + 2));
        TRY(say(text, c + 1 < table->columns ? rule->between : rule->right));
    }
    return say(text, "\n");
}

static Status text_table(const Table *table, Text *text)
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

static Status latex_table(const Table *table, Text *text)
{
    static const Rule cells = {"", "", "&", "\\\\"};
    TRY(say(text, "\\begin{tabular}{r"));
    TRY(repeat(text, "c", (size_t)table->columns - 1));
    TRY(say(text, "}\n\\toprule\n"));
    for (int r = 0; r < table->rows; ++r) {
        TRY(say_row(text, table, r, &cells, true));
        if (r == 0) TRY(say(text, "\\midrule\n"));
    }
    return say(text, "\\bottomrule\n\\end{tabular}\n");
}

/* ---- What stands below a table ---- */

typedef struct {
    char *baseline, *name, *hypothesis, *highlighted;
} Coloured;

static Status paired_text(const BleuArguments *arguments, const Coloured *in, Text *text)
{
    const bool bootstrap = arguments->paired_bootstrap;
    char *title, *body;
    TRY(text_format(&title, "Paired %s test with %lld %s",
                    bootstrap ? "bootstrap resampling" : "approximate randomization",
                    (long long)(bootstrap ? arguments->bootstrap_samples : arguments->randomisation_trials),
                    bootstrap ? "resampling trials" : "trials"));
    const size_t width = strlen(title);
    Status status = repeat(text, "-", width);
    if (status == OK) status = say(text, "\n");
    if (status == OK) status = say(text, title);
    if (status == OK) status = say(text, "\n");
    free(title);
    TRY(status);
    TRY(repeat(text, "-", width));
    TRY(text_format(&body,
                    "\n - Each system is pairwise compared to %s.\n   Actual system score %s provided for "
                    "each metric.\n\n"
                    " - %s: the system and the %s translations are essentially\n"
                    "   generated by the same underlying process. For a given system and the %s,\n"
                    "   the p-value is roughly the probability of the absolute score difference (delta)\n"
                    "   or higher occurring due to chance, under the assumption that the ",
                    in->name, bootstrap ? "/ bootstrap estimated true mean / 95% CI are" : "is",
                    in->hypothesis, in->baseline, in->baseline));
    return say_and_free(text, body);
}

/* The name of the hypothesis as it stands within a sentence: Python's lower(), which leaves colours as they are. */
static Status paired_end(const Coloured *in, Text *text)
{
    char lower[64], *body;
    lower[text_lower((TextSpan){.data = in->hypothesis, .size = strlen(in->hypothesis)}, lower)] = '\0';
    TRY(text_format(
        &body,
        "%s is correct.\n\n"
        " - Assuming a significance threshold of 0.05, the %s can be rejected\n"
        "   for p-values < 0.05 (marked with \"*\"). This means that the delta is unlikely to be attributed\n"
        "   to chance, hence the system is significantly \"different\" than the %s.\n"
        "   Otherwise, the p-values are %s.\n\n"
        " - NOTE: Significance does not tell whether a system is \"better\" than the %s but rather\n"
        "   emphasizes the \"difference\" of the systems in terms of the replicability of the delta.\n\n",
        lower, lower, in->baseline, in->highlighted, in->baseline));
    return say_and_free(text, body);
}

static Status explain_pairs(const BleuArguments *arguments, const char *first, Text *text)
{
    Coloured in = {.baseline = NULL};
    Status status = coloured(arguments, YELLOW, "baseline", &in.baseline);
    if (status == OK)
        status = coloured(arguments, YELLOW, strncmp(first, "Baseline:", 9) == 0 ? first : "", &in.name);
    if (status == OK) status = coloured(arguments, GREEN, "Null hypothesis", &in.hypothesis);
    if (status == OK) status = coloured(arguments, RED, "highlighted in red", &in.highlighted);
    if (status == OK) status = paired_text(arguments, &in, text);
    if (status == OK) status = paired_end(&in, text);
    free(in.baseline);
    free(in.name);
    free(in.hypothesis);
    free(in.highlighted);
    return status;
}

static Status whole_table(const BleuArguments *arguments, const char *const names[], int systems,
                          const BleuColumn column[], int columns, Text *text)
{
    if (arguments->format == BLEU_JSON) return json_table(arguments, names, systems, column, columns, text);
    Table table = {.rows = 0};
    Status status = fill_table(arguments, names, systems, column, columns, &table);
    if (status == OK) {
        find_widths(&table);
        status = arguments->format == BLEU_TEXT ? text_table(&table, text) : latex_table(&table, text);
    }
    table_free(&table);
    TRY(status);
    TRY(say(text, "\n"));
    if (is_paired(arguments)) TRY(explain_pairs(arguments, names[0], text));
    TRY(say(text, "-----------------\nMetric signatures\n-----------------\n"));
    for (int c = 0; c < columns; ++c) {
        char *line;
        TRY(text_format(&line, " - %-10s %s\n", column[c].name, column[c].signature));
        TRY(say_and_free(text, line));
    }
    return OK;
}

Status bleu_print_table(const BleuArguments *arguments, const char *const names[], int systems,
                        const BleuColumn column[], int columns)
{
    Text text = {.data = NULL};
    Status status = whole_table(arguments, names, systems, column, columns, &text);
    if (status == OK) (void)fwrite(text.data, 1, text.size, stdout);
    free(text.data);
    return status;
}
