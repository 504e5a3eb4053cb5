/* The input of a translator: bytes that come in pieces are lines, whatever the pieces are; lines become UTF-8. */
#include "nlp/lines.h"
#include "nlp/utf8.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void require(bool holds)
{
    if (!holds) abort();
}

static void check_text(TextSpan line)
{
    char *copy;
    size_t size;
    bool changed;
    require(line_to_utf8(line, &copy, &size, &changed) == OK);
    require(utf8_invalid(copy, size) == size);
    require(memchr(copy, '\0', size + 1) == copy + size);
    require(changed == (utf8_invalid(line.data, line.size) < line.size ||
                        (line.size > 0 && memchr(line.data, '\0', line.size) != NULL)));
    require(changed || (size == line.size && (size == 0 || memcmp(copy, line.data, size) == 0)));
    require(memchr(line.size > 0 ? line.data : "", '\n', line.size) == NULL);
    (void)line_is_blank(line);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    int ends[2];
    LineReader *reader;
    size_t put = 0, taken = size >= 3 && memcmp(bytes, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0, lines = 0, want = 0;
    for (size_t i = 0; i < size; ++i)
        want += bytes[i] == '\n';
    want += size > 0 && bytes[size - 1] != '\n';
    require(pipe(ends) == 0);
    require(line_reader_open(ends[0], "the input", &reader) == OK);
    while (!line_reader_ended(reader)) {
        Line line;
        bool got;
        if (put < size) {
            const size_t piece = 1 + bytes[put] % 37;
            const size_t count = piece < size - put ? piece : size - put;
            require(write(ends[1], bytes + put, count) == (ssize_t)count);
            put += count;
        } else if (ends[1] >= 0) {
            (void)close(ends[1]);
            ends[1] = -1;
        }
        for (;;) {
            require(line_reader_next(reader, false, &line, &got) == OK);
            if (!got) break;
            require(taken + line.text.size <= size &&
                    memcmp(bytes + taken, line.text.data, line.text.size) == 0);
            taken += line.text.size;
            taken += taken + 1 < size && bytes[taken] == '\r' && bytes[taken + 1] == '\n' ? 2 : 1;
            ++lines;
            check_text(line.text);
        }
    }
    require(lines == want);
    line_reader_close(reader);
    (void)close(ends[0]);
    if (ends[1] >= 0) (void)close(ends[1]);
    return 0;
}
