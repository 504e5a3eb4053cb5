#include "launch/bleu/bleu_report.h"

#include "engine/base/memory.h"
#include "launch/bleu/bleu_table.h"
#include "launch/bleu/bleu_text.h"
#include "nlp/bleu/characters.h"
#include "nlp/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void bleu_print_end(const BleuArguments *arguments)
{
    if (report_has_colours(arguments)) (void)fputs("\033[0m", stdout);
}

/* ---- One system ---- */

static Status say_interval(ReportText *text, const BleuArguments *arguments, const Significance *result)
{
    const int width = (int)arguments->width;
    char *interval;
    TRY(text_format(&interval, "μ = %.*f ± %.*f", width, result->mean, width, result->interval));
    return report_say_and_free(text, interval);
}

static Status say_member(ReportText *text, const char *name, const char *value, size_t size, bool string)
{
    TRY(report_say(text, ",\n "));
    TRY(report_say_json(text, name, false));
    TRY(report_say(text, ": "));
    char *copy;
    TRY(text_format(&copy, "%.*s", (int)size, value));
    Status status = string ? report_say_json(text, copy, false) : report_say(text, copy);
    free(copy);
    return status;
}

/* The value of a number that has `width` decimals. */
static Status say_rounded(ReportText *text, const char *name, double value, int width)
{
    char *decimals, number[40];
    TRY(text_format(&decimals, "%.*f", width, value));
    python_repr(strtod(decimals, NULL), number);
    free(decimals);
    return say_member(text, name, number, strlen(number), false);
}

/* Each field of the signature. */
static Status say_fields(ReportText *text, const char *signature)
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

static Status json_object(const BleuArguments *arguments, const BleuColumn *column, ReportText *text)
{
    const int width = (int)arguments->width;
    const Significance *result = column->result;
    TRY(report_say(text, "{\n \"name\": "));
    TRY(report_say_json(text, column->name, false));
    TRY(say_rounded(text, "score", result->score, width));
    TRY(say_member(text, "signature", column->signature, strlen(column->signature), true));
    if (shows_interval(result)) {
        TRY(say_rounded(text, "confidence_mean", result->mean, width));
        TRY(say_rounded(text, "confidence_var", result->interval, width));
        TRY(report_say(text, ",\n \"confidence\": \""));
        TRY(say_interval(text, arguments, result));
        TRY(report_say(text, "\""));
    }
    if (column->details != NULL)
        TRY(say_member(text, "verbose_score", column->details, strlen(column->details), true));
    TRY(say_fields(text, column->signature));
    return report_say(text, "\n}");
}

static Status score_text(const BleuArguments *arguments, const BleuColumn *column, ReportText *text)
{
    const Significance *result = column->result;
    char *score;
    if (!arguments->score_only) {
        TRY(report_say(text, column->name));
        TRY(report_say(text, "|"));
        TRY(report_say(text, column->signature));
        TRY(report_say(text, " = "));
    }
    TRY(text_format(&score, "%.*f", (int)arguments->width, result->score));
    TRY(report_say_and_free(text, score));
    if (shows_interval(result)) {
        TRY(report_say(text, " ("));
        TRY(say_interval(text, arguments, result));
        TRY(report_say(text, ")"));
    }
    if (arguments->score_only || column->details == NULL) return OK;
    TRY(report_say(text, " "));
    return report_say(text, column->details);
}

Status bleu_score_line(const BleuArguments *arguments, const BleuColumn *column, bool json, char **line)
{
    ReportText text = {.data = NULL};
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
    if (to == NULL || !report_has_colours(arguments)) return OK;
    char *part = NULL, *painted = NULL, *whole = NULL;
    Status status = text_format(&part, "%.*s", (int)(to + 1 - from), from);
    if (status == OK) status = report_coloured(arguments, CYAN, part, &painted);
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

static Status say_json_number(ReportText *text, const char *name, double value, bool there, bool last)
{
    char number[40] = "null";
    if (there) python_repr(value, number);
    TRY(report_say(text, "            \""));
    TRY(report_say(text, name));
    TRY(report_say(text, "\": "));
    TRY(report_say(text, number));
    return report_say(text, last ? "\n" : ",\n");
}

static Status say_json_score(ReportText *text, const BleuArguments *arguments, const Significance *result)
{
    if (!is_paired(arguments)) {
        char *score;
        TRY(text_format(&score, "\"%.*f\"", (int)arguments->width, result->score));
        return report_say_and_free(text, score);
    }
    TRY(report_say(text, "{\n"));
    TRY(say_json_number(text, "score", result->score, true, false));
    TRY(say_json_number(text, "p_value", result->p, result->has_p, false));
    TRY(say_json_number(text, "mean", result->mean, result->has_interval, false));
    TRY(say_json_number(text, "ci", result->interval, result->has_interval, true));
    return report_say(text, "        }");
}

static Status json_table(const BleuArguments *arguments, const char *const names[], int systems,
                         const BleuColumn column[], int columns, ReportText *text)
{
    TRY(report_say(text, "["));
    for (int s = 0; s < systems; ++s) {
        TRY(report_say(text, s > 0 ? ",\n    {\n        \"system\": " : "\n    {\n        \"system\": "));
        TRY(report_say_json(text, names[s], true));
        for (int c = 0; c < columns; ++c) {
            TRY(report_say(text, ",\n        "));
            TRY(report_say_json(text, column[c].name, true));
            TRY(report_say(text, ": "));
            TRY(say_json_score(text, arguments, &column[c].result[s]));
        }
        TRY(report_say(text, "\n    }"));
    }
    return report_say(text, "\n]\n");
}

/* ---- What stands below a table ---- */

typedef struct {
    char *baseline, *name, *hypothesis, *highlighted;
} Coloured;

static Status paired_text(const BleuArguments *arguments, const Coloured *in, ReportText *text)
{
    const bool bootstrap = arguments->paired_bootstrap;
    char *title, *body;
    TRY(text_format(&title, "Paired %s test with %lld %s",
                    bootstrap ? "bootstrap resampling" : "approximate randomization",
                    (long long)(bootstrap ? arguments->bootstrap_samples : arguments->randomisation_trials),
                    bootstrap ? "resampling trials" : "trials"));
    const size_t width = strlen(title);
    Status status = report_repeat(text, "-", width);
    if (status == OK) status = report_say(text, "\n");
    if (status == OK) status = report_say(text, title);
    if (status == OK) status = report_say(text, "\n");
    free(title);
    TRY(status);
    TRY(report_repeat(text, "-", width));
    TRY(text_format(&body,
                    "\n - Each system is pairwise compared to %s.\n   Actual system score %s provided for "
                    "each metric.\n\n"
                    " - %s: the system and the %s translations are essentially\n"
                    "   generated by the same underlying process. For a given system and the %s,\n"
                    "   the p-value is roughly the probability of the absolute score difference (delta)\n"
                    "   or higher occurring due to chance, under the assumption that the ",
                    in->name, bootstrap ? "/ bootstrap estimated true mean / 95% CI are" : "is",
                    in->hypothesis, in->baseline, in->baseline));
    return report_say_and_free(text, body);
}

/* The name of the hypothesis as it stands within a sentence: Python's lower(), which leaves colours as they are. */
static Status paired_end(const Coloured *in, ReportText *text)
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
    return report_say_and_free(text, body);
}

static Status explain_pairs(const BleuArguments *arguments, const char *first, ReportText *text)
{
    Coloured in = {.baseline = NULL};
    Status status = report_coloured(arguments, YELLOW, "baseline", &in.baseline);
    if (status == OK)
        status =
            report_coloured(arguments, YELLOW, strncmp(first, "Baseline:", 9) == 0 ? first : "", &in.name);
    if (status == OK) status = report_coloured(arguments, GREEN, "Null hypothesis", &in.hypothesis);
    if (status == OK) status = report_coloured(arguments, RED, "highlighted in red", &in.highlighted);
    if (status == OK) status = paired_text(arguments, &in, text);
    if (status == OK) status = paired_end(&in, text);
    free(in.baseline);
    free(in.name);
    free(in.hypothesis);
    free(in.highlighted);
    return status;
}

static Status whole_table(const BleuArguments *arguments, const char *const names[], int systems,
                          const BleuColumn column[], int columns, ReportText *text)
{
    if (arguments->format == BLEU_JSON) return json_table(arguments, names, systems, column, columns, text);
    TRY(bleu_table_say(arguments, names, systems, column, columns, text));
    TRY(report_say(text, "\n"));
    if (is_paired(arguments)) TRY(explain_pairs(arguments, names[0], text));
    TRY(report_say(text, "-----------------\nMetric signatures\n-----------------\n"));
    for (int c = 0; c < columns; ++c) {
        char *line;
        TRY(text_format(&line, " - %-10s %s\n", column[c].name, column[c].signature));
        TRY(report_say_and_free(text, line));
    }
    return OK;
}

Status bleu_print_table(const BleuArguments *arguments, const char *const names[], int systems,
                        const BleuColumn column[], int columns)
{
    ReportText text = {.data = NULL};
    Status status = whole_table(arguments, names, systems, column, columns, &text);
    if (status == OK) (void)fwrite(text.data, 1, text.size, stdout);
    free(text.data);
    return status;
}
