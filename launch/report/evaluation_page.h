/* plumb evaluate --html: one evaluation as a page, in the look of a report. */
#ifndef PLUMB_LAUNCH_REPORT_EVALUATION_PAGE_H
#define PLUMB_LAUNCH_REPORT_EVALUATION_PAGE_H

#include "launch/evaluate/evaluate.h"

/* The table, a reliability diagram with consistency bars for each stage and calibrator, and, where all measures were made, the
 * curve of SmoothECE with its band. title: what was evaluated. STATUS_UNSUPPORTED when gnuplot is not installed. */
CHECKED Status evaluation_page_write(const char *path, const char *title, const EvaluationResult *);

#endif
