#include "launch/runs/run_columns.h"

#include "engine/base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double error_of(const RunMeasure *measure) { return measure->error; }
static double nll_of(const RunMeasure *measure) { return measure->nll; }
static double ece_of(const RunMeasure *measure) { return measure->ece; }
static double ada_ece_of(const RunMeasure *measure) { return measure->ada_ece; }
static double classwise_ece_of(const RunMeasure *measure) { return measure->classwise_ece; }
static double mce_of(const RunMeasure *measure) { return measure->mce; }
static double brier_of(const RunMeasure *measure) { return measure->brier; }
static Interval ece_interval(const RunMeasure *measure) { return measure->interval.ece; }
static Interval ada_ece_interval(const RunMeasure *measure) { return measure->interval.ada_ece; }
static Interval classwise_ece_interval(const RunMeasure *measure) { return measure->interval.classwise_ece; }

static const RunColumn columns[] = {
    {"Error", "error", true, 2, false, error_of, NULL},
    {"NLL", "nll", false, 3, true, nll_of, NULL},
    {"ECE", "ece", true, 2, true, ece_of, ece_interval},
    {"AdaECE", "ada_ece", true, 2, true, ada_ece_of, ada_ece_interval},
    {"Classwise-ECE", "classwise_ece", true, 2, true, classwise_ece_of, classwise_ece_interval},
    {"MCE", "mce", true, 2, true, mce_of, NULL},
    {"Brier", "brier", false, 4, true, brier_of, NULL},
};
enum { COLUMNS = RUN_PUBLISHED_COLUMNS - 1 };
_Static_assert(sizeof columns / sizeof columns[0] == RUN_PUBLISHED_COLUMNS, "the header counts the columns");

const RunColumn *run_columns(int *count)
{
    *count = COLUMNS;
    return columns;
}

const RunColumn *run_published_columns(void) { return columns; }

static const char *dataset_of(const RunSummary *run)
{
    const char *name = run_facts_find(&run->setting, "dataset.name");
    return name != NULL ? name : "";
}

bool run_datasets_differ(const RunSummary runs[], int count)
{
    for (int i = 1; i < count; ++i)
        if (strcmp(dataset_of(&runs[i]), dataset_of(&runs[0])) != 0) return true;
    return false;
}

/* What was found of the runs of one data set. */
typedef struct {
    const char *name;
    double smallest;
    int values;
} Found;

typedef struct {
    Found *of;
    size_t count, capacity;
} Datasets;

static Status find_dataset(Datasets *datasets, const char *name, Found **found)
{
    size_t i = 0;
    while (i < datasets->count && strcmp(datasets->of[i].name, name) != 0)
        ++i;
    if (i == datasets->count) {
        TRY(memory_grow(&datasets->of, &datasets->capacity, i + 1, sizeof *datasets->of, "data sets"));
        datasets->of[datasets->count++] = (Found){.name = name, .smallest = INFINITY};
    }
    *found = &datasets->of[i];
    return OK;
}

static double value_of(const RunColumn *column, const RunSummary *run, bool after)
{
    const RunMeasure *measure = after ? run_summary_after(run) : run_summary_before(run);
    return measure != NULL ? column->value(measure) : NAN;
}

Status run_column_best(const RunColumn *column, const RunSummary runs[], int count, bool after, bool best[])
{
    Datasets datasets = {.of = NULL};
    Found *found;
    Status status = OK;
    for (int i = 0; i < count; ++i) {
        const double value = value_of(column, &runs[i], after);
        if (isnan(value)) continue;
        TRY_ELSE(done, find_dataset(&datasets, dataset_of(&runs[i]), &found));
        found->smallest = fmin(found->smallest, value);
        ++found->values;
    }
    for (int i = 0; i < count; ++i) {
        const double value = value_of(column, &runs[i], after);
        best[i] = false;
        if (isnan(value)) continue;
        TRY_ELSE(done, find_dataset(&datasets, dataset_of(&runs[i]), &found));
        best[i] = found->values > 1 && value == found->smallest;
    }
done:
    free(datasets.of);
    return status;
}
