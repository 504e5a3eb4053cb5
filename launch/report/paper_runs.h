/* Which experiments of the paper runs are. "The paper" is here and in the neighbouring files Mukhoti, Kulharia, Sanyal, Golodetz,
 * Torr and Dokania, "Calibrating Deep Neural Networks using Focal Loss", NeurIPS 2020. */
#ifndef PLUMB_LAUNCH_REPORT_PAPER_RUNS_H
#define PLUMB_LAUNCH_REPORT_PAPER_RUNS_H

#include "launch/runs/run_summary.h"
#include "launch/runs/seed_groups.h"

#include <stdbool.h>

/* A data set and a network: a row of the paper's Table 1, in its order; behind these the subject of appendix K. */
typedef struct {
    const char *dataset, *dataset_title; /* dataset.name */
    const char *model, *model_title;     /* model.name */
    const char *sweep;                   /* the file that trains it */
} PaperSubject;
enum {
    PAPER_CIFAR100_RESNET50,
    PAPER_CIFAR100_RESNET110,
    PAPER_CIFAR100_WIDE_RESNET,
    PAPER_CIFAR100_DENSENET,
    PAPER_CIFAR10_RESNET50,
    PAPER_CIFAR10_RESNET110,
    PAPER_CIFAR10_WIDE_RESNET,
    PAPER_CIFAR10_DENSENET,
    PAPER_TINY_IMAGENET,
    PAPER_NEWSGROUPS,
    PAPER_SST,
    PAPER_TABLE_SUBJECTS, /* those before it stand in tables */
    PAPER_WMT14 = PAPER_TABLE_SUBJECTS,
    PAPER_SUBJECTS
};
extern const PaperSubject paper_subject[PAPER_SUBJECTS];

typedef struct {
    const char *key;   /* as the sweeps name it: "flsd_53" */
    const char *title; /* as the paper does: "FLSD-53" */
    int colour;        /* in figures */
    bool in_focal;     /* is it trained by configs/paper_focal.yaml and not by its subject's own sweep? */
} PaperLoss;
enum {
    PAPER_CROSS_ENTROPY,
    PAPER_BRIER,
    PAPER_MMCE,
    PAPER_LABEL_SMOOTHING,
    PAPER_FOCAL_1,
    PAPER_FOCAL_2,
    PAPER_FOCAL_3,
    PAPER_FLSC_531,
    PAPER_FLSC_532,
    PAPER_FLSD_52,
    PAPER_FLSD_53,
    PAPER_LABEL_SMOOTHING_10, /* of appendix K */
    PAPER_LOSSES
};
extern const PaperLoss paper_loss[PAPER_LOSSES];

/* Those of the paper's Table 1. */
enum { PAPER_MAIN_LOSSES = 6 };
extern const int paper_main_loss[PAPER_MAIN_LOSSES];

/* What a run is to the paper. */
typedef struct {
    int subject, loss; /* negative: none of the paper's */
    char *why_not;     /* of those: why, naming the setting; else NULL */
    char *differences; /* NULL: trained as the paper says; else the settings that differ: "epochs 5 (350)" */
    bool in_tables;    /* it is one of the group that stands for its experiment */
} PaperPlace;

/* The runs that stand for one experiment: alike but for the seed. Those trained as the paper says come before others. */
typedef struct {
    int *run; /* [count], rising */
    int count, complete;
    const char *differences; /* as PaperPlace, of all of them */
} PaperGroup;

typedef struct {
    const RunSummary *run;
    int count;
    PaperPlace *place; /* [count] */
    PaperGroup group[PAPER_SUBJECTS][PAPER_LOSSES];
    int known; /* runs that are the paper's */
} PaperRuns;

/* The summaries must outlive the result, which is released with paper_runs_free. No run of the paper's is no error here. */
CHECKED Status paper_runs_find(const RunSummary[], int count, PaperRuns *);
void paper_runs_free(PaperRuns *);

#define PAPER_LEVEL 0.9 /* of all intervals */

/* One number of a complete run, NaN if it has none. *interval is NaN before the call; the 90 % interval over test samples goes there.
 * context: whatever the function needs. */
typedef double (*PaperValue)(const RunSummary *, int stage, const void *context, Interval *interval);

/* A number of an experiment: that of a run, or the mean over seeds. */
typedef struct {
    SeedStatistic over; /* count 0: missing */
    Interval
        interval; /* 90 %: of one run, over its test samples; of several seeds, where one run more would lie. NaN: none */
    double temperature; /* mean, of stages after scaling; NaN */
} PaperNumber;
CHECKED Status paper_number(const PaperRuns *, int subject, int loss, PaperValue, int stage,
                            const void *context, PaperNumber *);

/* The runs of an experiment, one for each seed; those that have what `has` asks for. Fills run[] of at most `most`, returns how many. */
enum { PAPER_MOST_SEEDS = 64 }; /* that a figure takes */
int paper_seeds(const PaperRuns *, int subject, int loss, bool (*has)(const RunSummary *),
                const RunSummary *run[], int most);
const char *paper_seed(const RunSummary *); /* the run's, as its config has it; never NULL */
bool paper_is_complete(const RunSummary *);
bool paper_has_epochs(const RunSummary *);

#endif
