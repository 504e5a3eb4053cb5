/* Appendix K of the paper. */
#ifndef PLUMB_LAUNCH_REPORT_PAPER_TRANSLATION_H
#define PLUMB_LAUNCH_REPORT_PAPER_TRANSLATION_H

#include "launch/report/paper_items.h"

enum { PAPER_TRANSLATION_LOSSES = 3 };
extern const int paper_translation_loss[PAPER_TRANSLATION_LOSSES];

/* Each a PaperValue: test BLEU at temperature 1, the best over the temperatures, and the temperature of that one. */
double paper_bleu(const RunSummary *, int stage, const void *context, Interval *);
double paper_best_bleu(const RunSummary *, int stage, const void *context, Interval *);
double paper_best_bleu_temperature(const RunSummary *, int stage, const void *context, Interval *);

CHECKED Status paper_figure_k1(Paper *, PaperPart *);

#endif
