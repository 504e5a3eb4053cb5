#include "nlp/bleu/lines.h"

#include "engine/base/file.h"
#include "engine/base/memory.h"
#include "nlp/bleu/characters.h"
#include "nlp/utf8.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BYTES_SHIFT = 33 }; /* of a file: 8 GiB */

void text_lines_free(TextLines *lines)
{
    free(lines->text);
    free(lines->line);
    *lines = (TextLines){.text = NULL};
}

/* A CR, with the LF behind it, becomes LF. Returns the new size. */
static size_t unify_ends(char *text, size_t size)
{
    size_t made = 0;
    for (size_t i = 0; i < size; ++i) {
        if (text[i] != '\r') {
            text[made++] = text[i];
            continue;
        }
        text[made++] = '\n';
        i += i + 1 < size && text[i + 1] == '\n';
    }
    return made;
}

static Status check_text(const char *name, const char *text, size_t size)
{
    const size_t wrong = utf8_invalid(text, size);
    if (wrong == size) return OK;
    int64_t line = 1;
    size_t start = 0;
    for (size_t i = 0; i < wrong; ++i)
        if (text[i] == '\n') {
            ++line;
            start = i + 1;
        }
    return fail(STATUS_INPUT, "%s:%lld: the byte 0x%02X in column %zu is not UTF-8", name, (long long)line,
                (unsigned char)text[wrong], utf8_characters(text + start, wrong - start) + 1);
}

static Status find_lines(TextLines *lines, size_t size)
{
    size_t room = 0;
    const char *end = lines->text + size;
    for (const char *at = lines->text; at < end;) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        if (stop == NULL) stop = end;
        TRY(memory_grow(&lines->line, &room, (size_t)lines->count + 1, sizeof *lines->line, "lines"));
        lines->line[lines->count++] =
            text_without_space_at_end((TextSpan){.data = at, .size = (size_t)(stop - at)});
        at = stop + 1;
    }
    return OK;
}

Status text_lines_split(const char *name, char *text, size_t size, LineEnds ends, TextLines *lines)
{
    *lines = (TextLines){.text = text};
    if (ends == LINES_END_IN_ANY) size = unify_ends(text, size);
    Status status = check_text(name, text, size);
    if (status == OK) status = find_lines(lines, size);
    if (status != OK) text_lines_free(lines);
    return status;
}

Status text_lines_read(const char *path, TextLines *lines)
{
    *lines = (TextLines){.text = NULL};
    char *text;
    size_t size;
    TRY(file_read(path, (size_t)1 << MOST_BYTES_SHIFT, &text, &size));
    return text_lines_split(path, text, size, LINES_END_IN_LF, lines);
}

/* ---- Columns ---- */

void text_columns_free(TextColumns *columns)
{
    free(columns->cell);
    *columns = (TextColumns){.cell = NULL};
}

static int count_cells(TextSpan line, int most)
{
    int cells = 1;
    for (size_t i = 0; i < line.size && cells < most; ++i)
        cells += line.data[i] == '\t';
    return cells;
}

static int find_columns(const TextLines *lines, ColumnRule rule, int columns)
{
    if (rule == COLUMNS_OF_REFERENCES) return columns;
    int most = 1;
    for (int64_t i = 0; i < lines->count && (rule == COLUMNS_UP_TO || i == 0); ++i) {
        const int cells = count_cells(lines->line[i], INT_MAX);
        if (cells > most) most = cells;
    }
    return most;
}

static void take_cells(TextSpan line, int64_t number, TextColumns *columns, int cells, bool strip)
{
    for (int c = 0; c < cells; ++c) {
        const char *stop = c + 1 < cells ? memchr(line.data, '\t', line.size) : line.data + line.size;
        TextSpan cell = {.data = line.data, .size = (size_t)(stop - line.data)};
        columns->cell[c * columns->count + number] = strip ? text_without_space_at_end(cell) : cell;
        if (c + 1 < cells) line = (TextSpan){.data = stop + 1, .size = line.size - cell.size - 1};
    }
}

Status text_columns_split(const char *name, const TextLines *lines, ColumnRule rule, int count,
                          TextColumns *columns)
{
    *columns = (TextColumns){.columns = find_columns(lines, rule, count), .count = lines->count};
    TRY(memory_new(&columns->cell, (size_t)columns->columns * (size_t)lines->count, sizeof *columns->cell,
                   "columns of text"));
    for (int64_t i = 0; i < lines->count; ++i) {
        const int most = rule == COLUMNS_OF_REFERENCES ? columns->columns : INT_MAX;
        const int cells = count_cells(lines->line[i], most);
        if (cells != columns->columns && rule != COLUMNS_UP_TO) {
            Status status = fail(STATUS_INPUT, "%s:%lld: %d texts with TABs between them, not %d as %s", name,
                                 (long long)i + 1, cells, columns->columns,
                                 rule == COLUMNS_OF_SYSTEMS ? "in the first line" : "--num-refs says");
            text_columns_free(columns);
            return status;
        }
        take_cells(lines->line[i], i, columns, cells, rule == COLUMNS_OF_SYSTEMS && i > 0);
    }
    return OK;
}
