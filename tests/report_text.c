#include "tests/report_text.h"

#include "tests/support.h"

#include "launch/report/report.h"
#include "launch/runs/run_table.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *table_of(const RunSummary runs[], int count)
{
    char *text;
    size_t size;
    FILE *stream = open_memstream(&text, &size);
    assert_non_null(stream);
    assert_ok(run_table_print(runs, count, stream));
    assert_int_equal(fclose(stream), 0);
    return text;
}

const char *line_of(const char *text, const char *name, size_t *length)
{
    static char line[1000];
    const size_t name_length = strlen(name);
    for (const char *at = text; *at != '\0'; at += strcspn(at, "\n"), at += *at == '\n') {
        if (strncmp(at, name, name_length) != 0) continue;
        size_t used = 0;
        *length = strcspn(at, "\n");
        for (size_t i = 0; i < *length && used + 1 < sizeof line; ++i)
            if (at[i] != ' ' || at[i + 1] != ' ') line[used++] = at[i];
        line[used] = '\0';
        return line;
    }
    print_error("no line of %s in\n%s", name, text);
    assert_true(false);
    return NULL;
}

void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) print_error("\"%s\" is not in\n%.3000s\n", part, text);
    assert_non_null(strstr(text, part));
}

void assert_lacks(const char *text, const char *part)
{
    const bool lacks = strstr(text, part) == NULL;
    if (!lacks) print_error("\"%s\" is in\n%.3000s\n", part, text);
    assert_true(lacks);
}

int count_of(const char *text, const char *part)
{
    int count = 0;
    for (const char *at = strstr(text, part); at != NULL; at = strstr(at + 1, part))
        ++count;
    return count;
}

static bool is_void(const char *name)
{
    return strcmp(name, "meta") == 0 || strcmp(name, "br") == 0 || strcmp(name, "link") == 0;
}

void assert_well_formed(const char *html)
{
    enum { DEPTH = 100, NAME = 32 };
    char stack[DEPTH][NAME];
    int depth = 0;
    assert_int_equal(strncmp(html, "<!DOCTYPE html>\n", 16), 0);
    for (const char *at = html + 16; *at != '\0'; ++at) {
        if (*at == '&') {
            const size_t length = strspn(at + 1, "#abcdefghijklmnopqrstuvwxyz0123456789");
            if (length == 0 || at[1 + length] != ';') print_error("bare &: %.60s\n", at);
            assert_true(length > 0 && at[1 + length] == ';');
        }
        if (*at != '<') continue;
        const bool closes = at[1] == '/';
        const char *name_at = at + 1 + closes;
        char name[NAME] = "";
        size_t length = 0;
        while (isalnum((unsigned char)name_at[length]) && length + 1 < NAME)
            ++length;
        memcpy(name, name_at, length);
        if (length == 0) print_error("bare <: %.60s\n", at);
        assert_true(length > 0);
        const char *end = name_at + length;
        char quote = '\0';
        for (; *end != '\0' && (quote != '\0' || *end != '>'); ++end) {
            assert_true(quote != '\0' || *end != '<');
            if (quote == '\0' && (*end == '"' || *end == '\'')) {
                assert_true(end[-1] == '=' || end[-1] == ' ');
                quote = *end;
            } else if (*end == quote) {
                quote = '\0';
            }
        }
        assert_true(*end == '>');
        if (closes) {
            assert_true(depth > 0);
            if (strcmp(stack[depth - 1], name) != 0)
                print_error("<%s> closed by </%s>: %.80s\n", stack[depth - 1], name, at);
            assert_string_equal(stack[depth - 1], name);
            --depth;
        } else if (end[-1] != '/' && !is_void(name)) {
            assert_true(depth < DEPTH);
            memcpy(stack[depth++], name, NAME);
        }
        at = end;
        if (!closes && strcmp(name, "style") == 0) { at = strstr(at, "</style>") - 1; }
    }
    assert_int_equal(depth, 0);
}

/* No id twice; every reference inside the page leads somewhere. */
static void assert_ids(const char *html)
{
    static const char *const references[] = {"href='#", "href=\"#", "url(#"};
    char attribute[200];
    for (const char *at = strstr(html, " id="); at != NULL; at = strstr(at + 1, " id=")) {
        const int length = (int)strcspn(at + 5, "'\"");
        (void)snprintf(attribute, sizeof attribute, "%.*s", length + 6, at);
        if (count_of(html, attribute) != 1) print_error("twice:%s\n", attribute);
        assert_int_equal(count_of(html, attribute), 1);
    }
    for (size_t i = 0; i < sizeof references / sizeof references[0]; ++i) {
        for (const char *at = strstr(html, references[i]); at != NULL; at = strstr(at + 1, references[i])) {
            const char *name = at + strlen(references[i]);
            const int length = (int)strcspn(name, "'\")");
            char with_single[200], with_double[200];
            (void)snprintf(with_single, sizeof with_single, " id='%.*s'", length, name);
            (void)snprintf(with_double, sizeof with_double, " id=\"%.*s\"", length, name);
            assert_true(strstr(html, with_single) != NULL || strstr(html, with_double) != NULL);
        }
    }
}

static void assert_stands_alone(const char *html)
{
    static const char *const outside[] = {"http:",    "https:", "src=\"",  "src='", "<img",
                                          "<script ", "<link",  "@import", "file:", "xlink:href='h"};
    for (size_t i = 0; i < sizeof outside / sizeof outside[0]; ++i)
        assert_lacks(html, outside[i]);
}

char *page_of(const RunSummary runs[], int count, int figures)
{
    char *html;
    ReportOptions options = report_defaults();
    if (figures > 0) options.figure_runs = figures;
    assert_ok(report_html(runs, count, &options, &html));
    assert_well_formed(html);
    assert_ids(html);
    assert_stands_alone(html);
    return html;
}
