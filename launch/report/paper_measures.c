#include "launch/report/paper_items.h"

#include "engine/base/file.h"
#include "engine/base/log.h"
#include "launch/report/paper_published.h"
#include "launch/report/paper_translation.h"
#include "launch/runs/json_file.h"
#include "launch/runs/run_dynamics.h"
#include "losses/calibration/intervals.h"

#include <limits.h>
#include <math.h>
#include <string.h>

/* ---- of evaluation.json ---- */

static const RunMeasure *measured(const RunSummary *run, int stage)
{
    static const RunMeasure nothing = {.error = NAN,
                                       .nll = NAN,
                                       .brier = NAN,
                                       .ece = NAN,
                                       .mce = NAN,
                                       .ada_ece = NAN,
                                       .classwise_ece = NAN,
                                       .s99_fraction = NAN,
                                       .s99_accuracy = NAN};
    return run->has_measure[stage] ? &run->measure[stage] : &nothing;
}

static double error_of(const RunSummary *run, int stage, const void *context, Interval *interval)
{
    (void)context;
    const double error = measured(run, stage)->error;
    *interval = interval_of_proportion(round(error * run->samples), run->samples, PAPER_LEVEL);
    return error;
}

static double with_interval(const RunMeasure *measure, double value, Interval of, Interval *interval)
{
    if (measure->has_intervals) *interval = of;
    return value;
}

static double ece_of(const RunSummary *run, int stage, const void *context, Interval *interval)
{
    (void)context;
    const RunMeasure *measure = measured(run, stage);
    return with_interval(measure, measure->ece, measure->interval.ece, interval);
}

static double ada_ece_of(const RunSummary *run, int stage, const void *context, Interval *interval)
{
    (void)context;
    const RunMeasure *measure = measured(run, stage);
    return with_interval(measure, measure->ada_ece, measure->interval.ada_ece, interval);
}

static double classwise_ece_of(const RunSummary *run, int stage, const void *context, Interval *interval)
{
    (void)context;
    const RunMeasure *measure = measured(run, stage);
    return with_interval(measure, measure->classwise_ece, measure->interval.classwise_ece, interval);
}

static double nll_of(const RunSummary *run, int stage, const void *context, Interval *interval)
{
    return (void)context, (void)interval, measured(run, stage)->nll;
}

static double mce_of(const RunSummary *run, int stage, const void *context, Interval *interval)
{
    return (void)context, (void)interval, measured(run, stage)->mce;
}

static double brier_of(const RunSummary *run, int stage, const void *context, Interval *interval)
{
    return (void)context, (void)interval, measured(run, stage)->brier;
}

static double s99_share_of(const RunSummary *run, int stage, const void *context, Interval *interval)
{
    (void)context;
    const double share = measured(run, stage)->s99_fraction;
    *interval = interval_of_proportion(round(share * run->samples), run->samples, PAPER_LEVEL);
    return share;
}

static double s99_accuracy_of(const RunSummary *run, int stage, const void *context, Interval *interval)
{
    (void)context;
    const RunMeasure *measure = measured(run, stage);
    const double samples = round(measure->s99_fraction * run->samples);
    *interval = interval_of_proportion(round(measure->s99_accuracy * samples), samples, PAPER_LEVEL);
    return measure->s99_accuracy;
}

/* ---- of other files of a run ---- */

static const cJSON *item_of(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

static double number_of(const cJSON *object, const char *key)
{
    const cJSON *item = item_of(object, key);
    return cJSON_IsNumber(item) ? item->valuedouble : NAN;
}

static void read_interval(const cJSON *intervals, const char *key, Interval *interval)
{
    const cJSON *pair = item_of(intervals, key), *low = cJSON_GetArrayItem(pair, 0),
                *high = cJSON_GetArrayItem(pair, 1);
    if (cJSON_IsNumber(low) && cJSON_IsNumber(high))
        *interval = (Interval){low->valuedouble, high->valuedouble};
}

/* The object of the list whose text at `key` is `value`. */
static const cJSON *find_in(const cJSON *list, const char *key, const char *value)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, list)
    {
        const char *text = cJSON_GetStringValue(item_of(item, key));
        if (text != NULL && strcmp(text, value) == 0) return item;
    }
    return NULL;
}

/* NULL where the run has no such file, or one that is damaged, of which a warning tells. */
static cJSON *read_file(const RunSummary *run, const char *name)
{
    char path[PATH_MAX];
    cJSON *root = NULL;
    Status status = file_join(path, run->path, name);
    if (status == OK && file_exists(path)) status = json_file_read(path, &root);
    if (status != OK) log_warning("%s", status_message(status));
    status_free(status);
    return root;
}

static const char *const stage_key[EVALUATE_STAGES] = {
    [EVALUATE_BEFORE] = "before", [EVALUATE_AFTER_ECE] = "after_ece", [EVALUATE_AFTER_NLL] = "after_nll"};

/* By entropy, as the published code. */
static double auroc_of(const RunSummary *run, int stage, const void *context, Interval *interval)
{
    const char *const *names = context;
    cJSON *root = read_file(run, "ood.json");
    const cJSON *set = NULL;
    for (int i = 0; names[i] != NULL && set == NULL; ++i)
        set = find_in(item_of(root, "sets"), "name", names[i]);
    const cJSON *measure = item_of(set, stage_key[stage]);
    const double area = number_of(measure, "auroc_entropy");
    read_interval(item_of(measure, "interval"), "auroc_entropy", interval);
    cJSON_Delete(root);
    return area;
}

/* Of the model that was the best by a measure of the validation split; context: which, NULL: of the last model. */
static double early_of(const RunSummary *run, int stage, const char *by, PaperValue value_of,
                       Interval *interval)
{
    RunRecords records = {.dynamics = NULL};
    double value = NAN;
    if (by == NULL) return value_of(run, stage, NULL, interval);
    Status status = run_records_read(run->path, &records);
    if (status != OK) log_warning("%s", status_message(status));
    status_free(status);
    for (int i = 0; i < records.best_count; ++i)
        if (strcmp(records.best[i].measure, by) == 0)
            value = value_of(&records.best[i].evaluated, stage, NULL, interval);
    run_records_free(&records);
    return value;
}

static double early_error_of(const RunSummary *run, int stage, const void *context, Interval *interval)
{
    return early_of(run, stage, context, error_of, interval);
}

static double early_ece_of(const RunSummary *run, int stage, const void *context, Interval *interval)
{
    return early_of(run, stage, context, ece_of, interval);
}

const PaperMeasure paper_measure[PAPER_MEASURES] = {
    [MEASURE_ERROR] = {"error", "Error", true, 2, -1, error_of, published_error},
    [MEASURE_ECE] = {"ece", "ECE", true, 2, -1, ece_of, published_ece},
    [MEASURE_ADA_ECE] = {"ada_ece", "AdaECE", true, 2, -1, ada_ece_of, NULL},
    [MEASURE_CLASSWISE_ECE] = {"classwise_ece", "Classwise-ECE", true, 2, -1, classwise_ece_of, NULL},
    [MEASURE_NLL] = {"nll", "NLL", false, 3, -1, nll_of, NULL},
    [MEASURE_MCE] = {"mce", "MCE", true, 2, -1, mce_of, NULL},
    [MEASURE_BRIER] = {"brier", "Brier score", false, 4, -1, brier_of, NULL},
    [MEASURE_S99_SHARE] = {"s99_share", "Share", true, 2, 0, s99_share_of, NULL},
    [MEASURE_S99_ACCURACY] = {"s99_accuracy", "Accuracy", true, 2, 1, s99_accuracy_of, NULL},
    [MEASURE_AUROC] = {"auroc_entropy", "AUROC", true, 2, 1, auroc_of, NULL},
    [MEASURE_BLEU] = {"bleu", "BLEU", false, 2, 1, paper_bleu, NULL},
    [MEASURE_BEST_BLEU] = {"best_bleu", "Best BLEU", false, 2, 1, paper_best_bleu, published_bleu},
    [MEASURE_BEST_BLEU_TEMPERATURE] = {"best_bleu_temperature", "T of the best BLEU", false, 1, 0,
                                       paper_best_bleu_temperature, NULL},
    [MEASURE_EARLY_ERROR] = {"error", "Error", true, 2, -1, early_error_of, NULL},
    [MEASURE_EARLY_ECE] = {"ece", "ECE", true, 2, -1, early_ece_of, NULL},
};
