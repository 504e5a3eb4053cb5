/* Lines and columns of hypotheses and references: what is let through is UTF-8, is all there, and has no white space at its end. */
#include "engine/base/memory.h"
#include "nlp/bleu/characters.h"
#include "nlp/bleu/lines.h"
#include "nlp/utf8.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void require(bool holds)
{
    if (!holds) abort();
}

static void check_columns(const TextLines *lines, ColumnRule rule, int count)
{
    TextColumns columns;
    Status status = text_columns_split("input", lines, rule, count, &columns);
    if (status != OK) {
        require(strncmp(status_message(status), "input:", 6) == 0 && columns.cell == NULL);
        status_free(status);
        return;
    }
    require(columns.count == lines->count && columns.columns >= 1);
    for (int c = 0; c < columns.columns; ++c)
        for (int64_t i = 0; i < columns.count; ++i) {
            const TextSpan cell = columns.cell[c * columns.count + i], line = lines->line[i];
            if (cell.data == NULL) continue;
            require(cell.data >= line.data && cell.data + cell.size <= line.data + line.size);
            if (rule != COLUMNS_OF_REFERENCES)
                require(cell.size == 0 || memchr(cell.data, '\t', cell.size) == NULL);
        }
    text_columns_free(&columns);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    for (int ends = LINES_END_IN_LF; ends <= LINES_END_IN_ANY; ++ends) {
        char *text;
        Status status = memory_new(&text, size + 1, 1, "an input");
        require(status == OK);
        if (size > 0) memcpy(text, bytes, size);
        TextLines lines;
        status = text_lines_split("input", text, size, (LineEnds)ends, &lines);
        require((status == OK) == (utf8_invalid((const char *)bytes, size) == size));
        if (status != OK) {
            require(strncmp(status_message(status), "input:", 6) == 0 && lines.text == NULL);
            status_free(status);
            continue;
        }
        int64_t ended =
            size > 0 && bytes[size - 1] != '\n' && (ends == LINES_END_IN_LF || bytes[size - 1] != '\r');
        for (size_t i = 0; i < size; ++i)
            ended += bytes[i] == '\n' ? ends == LINES_END_IN_LF || i == 0 || bytes[i - 1] != '\r'
                                      : bytes[i] == '\r' && ends == LINES_END_IN_ANY;
        require(lines.count == ended);
        for (int64_t i = 0; i < lines.count; ++i)
            require(text_without_space_at_end(lines.line[i]).size == lines.line[i].size);
        check_columns(&lines, COLUMNS_OF_SYSTEMS, 0);
        check_columns(&lines, COLUMNS_OF_REFERENCES, 2);
        if (size < 4096) check_columns(&lines, COLUMNS_UP_TO, 0); /* its cells are lines x TABs */
        text_lines_free(&lines);
    }
    return 0;
}
