/* Texts as `plumb bleu` prints them: made piece by piece, in Python's and JSON's ways to write, in colour on a terminal. */
#ifndef PLUMB_LAUNCH_BLEU_BLEU_TEXT_H
#define PLUMB_LAUNCH_BLEU_BLEU_TEXT_H

#include "launch/bleu/bleu_options.h"

/* A text that grows. Zeroed it is empty; data is to be released with free(). */
typedef struct {
    char *data;
    size_t size, room;
} ReportText;
CHECKED Status report_put(ReportText *, const char *data, size_t size);
CHECKED Status report_say(ReportText *, const char *what);
CHECKED Status report_repeat(ReportText *, const char *what, size_t times);
CHECKED Status report_say_and_free(ReportText *, char *what); /* takes a text that is to be released */
/* A JSON string; ascii: other characters become \uXXXX. */
CHECKED Status report_say_json(ReportText *, const char *what, bool ascii);

/* Python's repr of a float: the fewest digits that read as the same number. */
void python_repr(double, char text[40]);

typedef enum { RED = 31, GREEN = 32, YELLOW = 33, CYAN = 36 } Colour;
bool report_has_colours(const BleuArguments *); /* on a terminal only */
/* The text in colour, or as it is; release with free(). */
CHECKED Status report_coloured(const BleuArguments *, Colour, const char *text, char **out);
size_t report_seen_width(const char *text, size_t size); /* characters that are seen */

#endif
