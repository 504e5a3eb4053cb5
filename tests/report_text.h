/* What reports say, and that it is well made. Texts are released with free(). */
#ifndef PLUMB_TESTS_REPORT_TEXT_H
#define PLUMB_TESTS_REPORT_TEXT_H

#include "launch/runs/run_summary.h"

#include <stddef.h>

void assert_has(const char *text, const char *part);
void assert_lacks(const char *text, const char *part);
int count_of(const char *text, const char *part);

/* What the terminal shows. */
char *table_of(const RunSummary[], int count);
/* The line of a text that begins with `name`, runs of spaces made one; *length: as it stands. */
const char *line_of(const char *text, const char *name, size_t *length);

/* The page, with at most so many runs in its figures (0: the default); its HTML is checked. */
char *page_of(const RunSummary[], int count, int figures);
/* Every element is closed by its own end tag, every & begins a reference, every attribute is quoted, no <
 * stands in text. Enough for what a report may get wrong; CSS is skipped. */
void assert_well_formed(const char *html);

#endif
