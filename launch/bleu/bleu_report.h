/* What `plumb bleu` prints, which is what sacreBLEU 2.6.0 prints. */
#ifndef PLUMB_LAUNCH_BLEU_BLEU_REPORT_H
#define PLUMB_LAUNCH_BLEU_BLEU_REPORT_H

#include "launch/bleu/bleu_options.h"
#include "nlp/bleu/significance.h"

/* One metric's scores. */
typedef struct {
    char *name, *signature, *details; /* details: behind a single system's score, or NULL */
    Significance *result;             /* [systems] */
} BleuColumn;

/* "BLEU|SIGNATURE = 58.0 DETAILS", the score alone, or a JSON object; release with free(). */
CHECKED Status bleu_score_line(const BleuArguments *, const BleuColumn *, bool json, char **line);
/* One system: a line a metric, or JSON. */
CHECKED Status bleu_print_single(const BleuArguments *, const BleuColumn[], int columns);
/* Several: a table, or JSON. names[systems] */
CHECKED Status bleu_print_table(const BleuArguments *, const char *const names[], int systems,
                                const BleuColumn[], int columns);

/* On a terminal: what sets its colours back, as sacreBLEU ends its output there. */
void bleu_print_end(const BleuArguments *);

#endif
