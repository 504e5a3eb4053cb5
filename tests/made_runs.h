/* Folders of runs, made up: what a training would leave, without one. */
#ifndef PLUMB_TESTS_MADE_RUNS_H
#define PLUMB_TESTS_MADE_RUNS_H

#include "launch/runs/run_summary.h"
#include "tests/scratch.h"

enum { MADE_BINS = 15, MADE_EPOCHS = 4 };

/* scratch_make with the log quiet. */
int make_quiet_scratch(void **state);

void put_file(const char *folder, const char *name, const char *text);

/* evaluation.json, released with cJSON_free. The other measures follow from these: NLL is ten times the ECE, AdaECE
 * 0.001 above it, Classwise-ECE a quarter and MCE three times of it, the Brier score twice the error.
 * after < 0: no validation split. */
char *evaluation_text(double error, double before, double after);
void put_evaluation(const char *folder, double error, double before, double after);
/* metrics.jsonl of the first so many epochs. */
void put_metrics(const char *folder, int epochs);

/* A run that has only begun; returns its folder, as path_in does. */
const char *new_run(const char *parent, const char *name, const char *loss);
/* One with all epochs and its evaluation. */
void complete_run(const char *parent, const char *name, const char *loss, double error, double before,
                  double after);

/* The runs under a path, of which there must be so many. */
RunSummary *load_runs(const char *path, int expected);

#endif
