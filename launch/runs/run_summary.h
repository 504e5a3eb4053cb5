/* What is known of a run from its folder alone: its state, config, machine, epochs and evaluation. Reports
 * and tables are made of these. Reading takes no lock: a run may go on meanwhile. */
#ifndef PLUMB_LAUNCH_RUNS_RUN_SUMMARY_H
#define PLUMB_LAUNCH_RUNS_RUN_SUMMARY_H

#include "engine/base/status.h"
#include "engine/data/images/dataset.h"
#include "launch/evaluate/evaluate.h"

#include <cJSON.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum {
    RUN_COMPLETE,   /* evaluation.json is there and readable */
    RUN_UNFINISHED, /* begun, and going on or interrupted; some epochs may be there */
    RUN_FAILED,     /* its last job failed: see failure; some epochs may be there */
    RUN_DAMAGED,    /* evaluation.json is there but not what it must be: see problem */
    RUN_MISSING     /* its sweep lists it; nothing was written yet */
} RunState;

/* All numbers are fractions, as in the files; NaN where a file has none. */
typedef struct {
    double error, top5_error, nll, brier, ece, mce, ada_ece, classwise_ece, mean_confidence, mean_entropy;
    double s99_fraction, s99_accuracy;
    bool has_intervals;
    BootstrapIntervals interval;
    int bins;
    CalibrationBin *bin; /* [bins] */
} RunMeasure;

/* What a line of metrics.jsonl calls the training split as evaluation sees it. */
#define EPOCH_TRAIN_SPLIT "train_split"

typedef struct {
    bool measured;
    double error, nll, nll_correct, nll_misclassified, entropy, entropy_correct, entropy_misclassified, ece,
        ada_ece, classwise_ece;
} RunEpochSplit;

typedef struct {
    double epoch; /* done; with a fraction in the course of one */
    double step, learning_rate, train_loss, train_error, seconds, samples_per_second;
    bool tokens; /* are what samples_per_second counts */
    double weight_norm, feature_norm,
        logit_norm; /* at the last linear layer; the others are means over the training split */
    double bleu;    /* of translation: of the validation split, 0 to 100 */
    RunEpochSplit
        split[SPLIT_COUNT]; /* as evaluation sees them; the training split where evaluate.train was on */
} RunEpoch;

typedef struct {
    char *name, *value;
} RunFact;

typedef struct {
    RunFact *fact;
    int count;
} RunFacts;

typedef struct {
    char *path, *name; /* name: the shortest end of path that no other run of the list has */
    RunState state;
    char
        *problem; /* NULL, or what is wrong with a file, naming it; what could be read is here all the same */

    char *failure; /* the first line of why the last job failed; NULL or empty where that is not known */

    bool has_temperature; /* was a validation split there to choose it on? */
    double temperature_ece, temperature_nll;
    double samples, classes;
    bool has_measure[EVALUATE_STAGES];
    RunMeasure measure[EVALUATE_STAGES];

    int epochs;             /* done */
    int64_t epochs_planned; /* of the config; 0: unknown, or it counts steps */
    RunEpoch *epoch;        /* [epochs], rising */
    char *config;           /* text of config.yaml; NULL if absent */
    RunFacts setting;       /* its settings, in order */
    RunFacts environment;
} RunSummary;

/* Of the runs that run_search finds, with its errors. A damaged file of one run is no error: that run's
 * `problem`. Not collective. */
CHECKED Status run_summaries_load(const char *const paths[], int count, RunSummary **summaries,
                                  int *summary_count);
void run_summaries_free(RunSummary *, int count); /* NULL is allowed */

/* What an evaluation.json says, and the evaluations of best_models.json: fills in of the summary what comes of it. The bins are there to
 * be freed after an error, too. `path` is named in errors. */
CHECKED Status run_summary_read_evaluation(RunSummary *, const char *path, const cJSON *evaluation);
void run_summary_free_evaluation(RunSummary *);
/* "bins" of a stage of it, and of train_reliability in dynamics.jsonl: the measure's bins; `part` is named in errors. */
CHECKED Status run_measure_read_bins(const char *path, const char *part, const cJSON *bins, RunMeasure *);

/* The value of a setting or of the environment; NULL if it has none. */
const char *run_facts_find(const RunFacts *, const char *name);

/* The stage that a reader of tables wants as "after": at the temperature of the best validation ECE. NULL
 * without. */
const RunMeasure *run_summary_before(const RunSummary *);
const RunMeasure *run_summary_after(const RunSummary *);

#endif
