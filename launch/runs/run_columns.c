#include "launch/runs/run_columns.h"

#include <math.h>

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

double run_column_best(const RunColumn *column, const RunSummary runs[], int count, bool after)
{
    double best = INFINITY;
    int values = 0;
    for (int i = 0; i < count; ++i) {
        const RunMeasure *measure = after ? run_summary_after(&runs[i]) : run_summary_before(&runs[i]);
        if (measure == NULL || isnan(column->value(measure))) continue;
        ++values;
        best = fmin(best, column->value(measure));
    }
    return values < 2 ? NAN : best;
}
