/* Texts of golden cases for the suites of BLEU. */
#ifndef PLUMB_TESTS_BLEU_LINES_H
#define PLUMB_TESTS_BLEU_LINES_H

#include "tests/golden.h"
#include "tests/support.h"

#include "engine/base/memory.h"
#include "nlp/bleu/lines.h"

#include <string.h>

/* The lines of a file as they are: the reader would take white space off their ends. Release with text_lines_free. */
static inline TextLines read_lines(const GoldenCase *golden, const char *path)
{
    TextLines lines = {.text = golden_read_text(golden_path(golden, path))};
    assert_ok(memory_new(&lines.line, strlen(lines.text) + 1, sizeof *lines.line, "lines"));
    for (char *at = lines.text, *stop; *at != '\0'; at = stop + 1) {
        stop = strchr(at, '\n');
        assert_non_null(stop); /* each line has its end */
        lines.line[lines.count++] = (TextSpan){.data = at, .size = (size_t)(stop - at)};
    }
    return lines;
}

static inline TextLines read_text(const char *text, LineEnds ends)
{
    TextLines lines;
    char *copy;
    assert_ok(text_copy(text, &copy));
    assert_ok(text_lines_split("text", copy, strlen(text), ends, &lines));
    return lines;
}

#endif
