/* What the files that report an evaluation share. Internal to launch/evaluate/. */
#ifndef PLUMB_LAUNCH_EVALUATE_EVALUATE_REPORT_H
#define PLUMB_LAUNCH_EVALUATE_EVALUATE_REPORT_H

#include "launch/evaluate/evaluate.h"

#include <cJSON.h>

enum { REPORT_TITLE = 22, REPORT_CELL = 64 };

/* cJSON reports a lack of memory by returning NULL; `ok` collects that. A number that is not finite becomes
 * null, as JSON has none. */
void report_add_number(cJSON *object, const char *key, double value, bool *ok);
/* A temperature of the grid, whose double is a sum of steps: 1.8, not 1.8000000000000005. */
void report_add_temperature(cJSON *object, const char *key, double value, bool *ok);
/* Takes the item, which may be NULL. */
void report_add_item(cJSON *list, cJSON *item, bool *ok);
void report_add_numbers(cJSON *object, const char *key, const double number[], int count, bool *ok);
/* consistency: ends of each bin's consistency bar; NULL: none. */
void report_add_bins(cJSON *object, const CalibrationBin bin[], int bins, const double (*consistency)[2],
                     bool *ok);
/* So many decimals, but of a small number three digits, whatever their place. */
int report_decimals(double value, int decimals);
/* "-": it has no value. */
void report_format_number(double value, int decimals, char *text, size_t size);

/* The measures of evaluate_more.h: one object in that of a stage, and a table of all stages. */
void report_more_json(cJSON *stage, const EvaluationResult *, const MoreMeasures *, bool *ok);
void report_more_print(const EvaluationResult *, FILE *);
/* The groups of evaluate_groups.h: one object in that of the result, and a table a kind. */
void report_groups_json(cJSON *root, const EvaluationResult *, bool *ok);
void report_groups_print(const EvaluationResult *, FILE *);
/* Calibration of the network's own translations: one object in that of a stage, and a table. */
void report_inference_json(cJSON *stage, const InferenceCalibration *, bool *ok);
void report_inference_print(const EvaluationResult *, FILE *);
/* Accuracy, ECE, NLL and, where it was asked for, BLEU against temperature. */
void report_curve_fill(cJSON *curve, const EvaluationResult *, bool *ok);
void report_curve_json(cJSON *root, const EvaluationResult *, bool *ok);
void report_curve_print(const EvaluationResult *, FILE *);

#endif
