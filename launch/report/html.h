/* Text into HTML, and into gnuplot scripts: names of folders and settings may be any bytes. */
#ifndef PLUMB_LAUNCH_REPORT_HTML_H
#define PLUMB_LAUNCH_REPORT_HTML_H

#include <stdio.h>

/* Writes any bytes as text of an element or of a quoted attribute: markup is escaped, and what HTML or UTF-8
 * does not allow becomes U+FFFD. */
void html_text(FILE *, const char *text);

/* Writes a single-quoted string of gnuplot, in which nothing is expanded; an apostrophe becomes U+2019. Of
 * more than `limit` characters those in the middle become "...". */
void html_gnuplot_string(FILE *, const char *text, int limit);

/* Characters (code points; a byte that is no UTF-8 counts as one). */
int html_length(const char *text);

#endif
