/* What a run has recorded of its training beside metrics.jsonl: dynamics.jsonl (launch/train/dynamics_line.h) and best_models.json
 * (launch/train/evaluate_best.h). Reading takes no lock. */
#ifndef PLUMB_LAUNCH_RUNS_RUN_DYNAMICS_H
#define PLUMB_LAUNCH_RUNS_RUN_DYNAMICS_H

#include "launch/runs/run_summary.h"

/* Norms of gradients from `lower` to `upper`; the highest bin that there may be ends at INFINITY. */
typedef struct {
    double lower, upper, count;
} RunNormBin;

/* After an epoch. What a line lacks has no bins. */
typedef struct {
    double epoch;
    double gradient_samples, gradient_mean; /* NaN: no value */
    int gradient_bins;
    RunNormBin *gradient_bin; /* [gradient_bins], rising */
    RunMeasure reliability;   /* of the training split: error, ece, mean_confidence and bins */
} RunDynamics;

/* A model that was the best by a measure of the validation split. */
typedef struct {
    char measure[32], checkpoint[64];
    double epoch;
    RunSummary evaluated; /* what an evaluation fills in, nothing else */
} RunBestModel;

typedef struct {
    RunDynamics *dynamics; /* [dynamics_count], in the order of epochs */
    int dynamics_count;
    RunBestModel *best; /* [best_count], in the order of checkpoint.best */
    int best_count;
} RunRecords;

/* Of the run in `folder`; a file that is not there is no error. STATUS_INPUT names file and line; the records then hold what came
 * before. Release with run_records_free in any case. */
CHECKED Status run_records_read(const char *folder, RunRecords *);
void run_records_free(RunRecords *);
/* The same of the text of one of the files, size bytes, which `path` names in errors, into records that are empty or hold the other one's. */
CHECKED Status run_records_parse_dynamics(RunRecords *, const char *path, const char *text, size_t size);
CHECKED Status run_records_parse_best_models(RunRecords *, const char *path, const char *text, size_t size);

#endif
