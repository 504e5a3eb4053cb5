/* Runs that differ in nothing but their seed, and their numbers over the seeds. */
#ifndef PLUMB_LAUNCH_RUNS_SEED_GROUPS_H
#define PLUMB_LAUNCH_RUNS_SEED_GROUPS_H

#include "launch/runs/run_columns.h"
#include "launch/runs/run_summary.h"

/* A number over seeds. */
typedef struct {
    int count;        /* of the seeds that have it */
    double mean;      /* NaN if none has */
    double deviation; /* sample standard deviation, sqrt(sum (x - mean)^2 / (count - 1)); NaN below two */
} SeedStatistic;

/* Of count values, of which those that are NaN do not count. */
SeedStatistic seed_statistic(const double value[], int count);

typedef struct {
    char *name;     /* what its runs' names have in common, and * for the rest: "focal-seed*" */
    int *member;    /* [count] rising numbers of complete runs, one a seed */
    int count;      /* two or more */
    int incomplete; /* runs of the group that have no evaluation (yet) */
    int repeated; /* complete runs of a seed that a member has already: left out, for they are no new sample */
    SeedStatistic temperature; /* that "after" is at */
    SeedStatistic before[RUN_PUBLISHED_COLUMNS], after[RUN_PUBLISHED_COLUMNS];
} SeedGroup;

/* The groups with two complete seeds or more, in the order of their first run. Alike are runs whose resolved
 * settings are, but for `seed` and for those that a run may change when it goes on (evaluate.bins counts: the
 * calibration errors are made with it); and, where batch norm's statistics are of each rank alone, those that
 * as many ranks made. Released with seed_groups_free. Not collective. */
CHECKED Status seed_groups_find(const RunSummary[], int count, SeedGroup **groups, int *group_count);
void seed_groups_free(SeedGroup *, int count); /* NULL is allowed */

#endif
