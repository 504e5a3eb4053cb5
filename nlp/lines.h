/* Lines from a pipe, a file or a terminal as they come, and lines out, in blocks or at once. */
#ifndef PLUMB_NLP_LINES_H
#define PLUMB_NLP_LINES_H

#include "engine/base/status.h"
#include "nlp/vocabulary.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- in ---- */

enum { LINE_MOST_BYTES = 1 << 22 }; /* of a line; what is behind is read and left out */

typedef struct LineReader LineReader;
/* name: of the file, for errors. The descriptor stays the caller's. */
CHECKED Status line_reader_open(int descriptor, const char *name, LineReader **);
void line_reader_close(LineReader *); /* NULL is allowed */

/* A line ends with LF, or CR LF, or with the end of the input; a byte order mark before the first is no part of it. */
typedef struct {
    TextSpan text; /* without its end; until the next call */
    bool cut;      /* it was longer than LINE_MOST_BYTES */
} Line;
/* The next line. *got is false at the end of the input and, unless `wait`, where none is whole yet. */
CHECKED Status line_reader_next(LineReader *, bool wait, Line *, bool *got);
/* Waits until there is something to read, or so many seconds. */
CHECKED Status line_reader_wait(const LineReader *, double seconds);
bool line_reader_ended(const LineReader *); /* there is no further line */

/* Nothing but white space (Unicode's), or nothing at all. */
bool line_is_blank(TextSpan);
/* A copy in which each byte that is no part of UTF-8, and each NUL, has become U+FFFD; *changed: are there any? Release with
 * free(). */
CHECKED Status line_to_utf8(TextSpan, char **copy, size_t *size, bool *changed);

/* ---- out ---- */

enum { LINE_NUMBER_BYTES = 328 }; /* the longest double in full, and a NUL */
/* The number with six decimals, as scores are written; the size without the NUL. */
size_t line_print_number(char text[LINE_NUMBER_BYTES], double);

typedef struct LineWriter LineWriter;
/* at_once: every line goes out as it is written. */
CHECKED Status line_writer_open(int descriptor, const char *name, bool at_once, LineWriter **);
void line_writer_close(LineWriter *); /* NULL is allowed; what was not flushed is lost */
/* The text, in which each LF and CR becomes a space, and LF. */
CHECKED Status line_writer_write(LineWriter *, const char *text, size_t size);
CHECKED Status line_writer_flush(LineWriter *);
/* Has the reader of a pipe gone? From then on nothing is written, and that is no error. SIGPIPE must be ignored. */
bool line_writer_closed(const LineWriter *);

#endif
