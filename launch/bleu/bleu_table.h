/* Scores of several systems as a table for people or for LaTeX, laid out as Python's package tabulate does for sacreBLEU. */
#ifndef PLUMB_LAUNCH_BLEU_BLEU_TABLE_H
#define PLUMB_LAUNCH_BLEU_BLEU_TABLE_H

#include "launch/bleu/bleu_report.h"
#include "launch/bleu/bleu_text.h"

/* arguments->format is BLEU_TEXT or BLEU_LATEX. */
CHECKED Status bleu_table_say(const BleuArguments *, const char *const names[], int systems,
                              const BleuColumn[], int columns, ReportText *);

#endif
