/* What evaluation found, as JSON for programs and as a table for people. */
#include "engine/base/memory.h"
#include "launch/evaluate/evaluate.h"

#include <cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The numbers of a stage, one row each. */
typedef enum { PERCENT, PLAIN } Unit;
typedef struct {
    const char *key;   /* in JSON */
    const char *title; /* in the table */
    Unit unit;
    size_t offset;   /* in Calibration */
    size_t interval; /* in BootstrapIntervals, plus 1; 0: none */
} Metric;

#define METRIC(field) offsetof(Calibration, field), 0
#define METRIC_INTERVAL(field) offsetof(Calibration, field), offsetof(BootstrapIntervals, field) + 1
static const Metric metrics[] = {
    {"error", "error", PERCENT, METRIC(error)},
    {"top5_error", "top-5 error", PERCENT, METRIC(top5_error)},
    {"nll", "NLL", PLAIN, METRIC(nll)},
    {"brier", "Brier score", PLAIN, METRIC(brier)},
    {"ece", "ECE", PERCENT, METRIC_INTERVAL(ece)},
    {"mce", "MCE", PERCENT, METRIC(mce)},
    {"ada_ece", "AdaECE", PERCENT, METRIC_INTERVAL(ada_ece)},
    {"classwise_ece", "Classwise-ECE", PERCENT, METRIC_INTERVAL(classwise_ece)},
    {"classwise_ece_all", "  over all classes", PERCENT, METRIC(classwise_ece_all)},
    {"ece_debiased", "ECE, debiased", PERCENT, METRIC(ece_debiased)},
    {"ece_l2", "ECE, L2 norm", PERCENT, METRIC(ece_l2)},
    {"ece_l2_debiased", "  debiased", PERCENT, METRIC(ece_l2_debiased)},
    {"mean_confidence", "mean confidence", PERCENT, METRIC(mean_confidence)},
    {"mean_entropy", "mean entropy (nats)", PLAIN, METRIC(mean_entropy)},
};
enum { METRICS = sizeof metrics / sizeof *metrics };

static const char *const stage_keys[EVALUATE_STAGES] = {"before", "after_ece", "after_nll"};

static double value_of(const Metric *metric, const Calibration *measured)
{
    double value;
    memcpy(&value, (const char *)measured + metric->offset, sizeof value);
    return value;
}

static Interval interval_of(const Metric *metric, const BootstrapIntervals *intervals)
{
    Interval interval;
    memcpy(&interval, (const char *)intervals + metric->interval - 1, sizeof interval);
    return interval;
}

static double temperature_of(const EvaluationResult *result, int stage)
{
    if (stage == EVALUATE_BEFORE) return 1;
    const TemperatureSearch *search = &result->search;
    return search->temperature[stage == EVALUATE_AFTER_ECE ? search->best_ece : search->best_nll];
}

static bool is_end_of_grid(double temperature) { return temperature < 0.15 || temperature > 9.95; }

void evaluation_note(const EvaluationResult *result, char note[256])
{
    note[0] = '\0';
    if (!result->has_temperature) return;
    const double before = result->measured[EVALUATE_BEFORE].ece;
    const double ece = result->measured[EVALUATE_AFTER_ECE].ece,
                 nll = result->measured[EVALUATE_AFTER_NLL].ece;
    const bool worse_ece = ece > before, worse_nll = nll > before;
    const double temperature_ece = temperature_of(result, EVALUATE_AFTER_ECE);
    const double temperature_nll = temperature_of(result, EVALUATE_AFTER_NLL);
    if (worse_ece && worse_nll && temperature_ece != temperature_nll)
        (void)snprintf(
            note, 256,
            "temperature scaling made the test ECE worse: %.2f%% before, %.2f%% at T = %.1f (by ECE), "
            "%.2f%% at T = %.1f (by NLL)",
            100 * before, 100 * ece, temperature_ece, 100 * nll, temperature_nll);
    else if (worse_ece || worse_nll)
        (void)snprintf(
            note, 256,
            "temperature scaling by validation %s made the test ECE worse: %.2f%% before, %.2f%% at T = %.1f",
            worse_ece ? "ECE" : "NLL", 100 * before, 100 * (worse_ece ? ece : nll),
            worse_ece ? temperature_ece : temperature_nll);
    else if (is_end_of_grid(temperature_ece) || is_end_of_grid(temperature_nll))
        (void)snprintf(note, 256,
                       "T = %.1f is the end of the grid of temperatures: the best one may lie beyond it",
                       is_end_of_grid(temperature_ece) ? temperature_ece : temperature_nll);
}

/* ---- JSON ---- */

/* cJSON reports a lack of memory by returning NULL; `ok` collects that. A number that is not finite becomes
 * null, as JSON has none. */
static void add_number(cJSON *object, const char *key, double value, bool *ok)
{
    const cJSON *item =
        isfinite(value) ? cJSON_AddNumberToObject(object, key, value) : cJSON_AddNullToObject(object, key);
    *ok = *ok && item != NULL;
}

static void add_stage(cJSON *root, const EvaluationResult *result, int stage, bool *ok)
{
    if (stage != EVALUATE_BEFORE && !result->has_temperature) {
        *ok = *ok && cJSON_AddNullToObject(root, stage_keys[stage]) != NULL;
        return;
    }
    const Calibration *measured = &result->measured[stage];
    cJSON *object = cJSON_AddObjectToObject(root, stage_keys[stage]);
    for (int i = 0; i < METRICS; ++i)
        add_number(object, metrics[i].key, value_of(&metrics[i], measured), ok);
    cJSON *s99 = cJSON_AddObjectToObject(object, "s99");
    add_number(s99, "fraction", measured->s99_fraction, ok);
    add_number(s99, "accuracy", measured->s99_accuracy, ok);
    cJSON *bins = cJSON_AddArrayToObject(object, "bins");
    for (int b = 0; b < measured->bins; ++b) {
        const CalibrationBin *bin = &measured->bin[b];
        cJSON *item = cJSON_CreateObject();
        add_number(item, "lower", bin->lower, ok);
        add_number(item, "upper", bin->upper, ok);
        add_number(item, "count", (double)bin->count, ok);
        add_number(item, "confidence", bin->confidence, ok);
        add_number(item, "accuracy", bin->accuracy, ok);
        if (!cJSON_AddItemToArray(bins, item)) {
            cJSON_Delete(item);
            *ok = false;
        }
    }
    if (!result->has_intervals) {
        *ok = *ok && cJSON_AddNullToObject(object, "interval") != NULL;
        return;
    }
    cJSON *intervals = cJSON_AddObjectToObject(object, "interval");
    for (int i = 0; i < METRICS; ++i) {
        if (metrics[i].interval == 0) continue;
        const Interval interval = interval_of(&metrics[i], &result->interval[stage]);
        const double ends[] = {interval.lower, interval.upper};
        cJSON *item = cJSON_CreateDoubleArray(ends, 2);
        if (!cJSON_AddItemToObject(intervals, metrics[i].key, item)) {
            cJSON_Delete(item);
            *ok = false;
        }
    }
}

Status evaluation_json(const EvaluationResult *result, char **text)
{
    bool ok = true;
    *text = NULL;
    cJSON *root = cJSON_CreateObject();
    add_number(root, "samples", (double)result->samples, &ok);
    add_number(root, "classes", (double)result->classes, &ok);
    if (result->has_temperature) {
        cJSON *temperature = cJSON_AddObjectToObject(root, "temperature");
        add_number(temperature, "ece", temperature_of(result, EVALUATE_AFTER_ECE), &ok);
        add_number(temperature, "nll", temperature_of(result, EVALUATE_AFTER_NLL), &ok);
    } else {
        ok = ok && cJSON_AddNullToObject(root, "temperature") != NULL;
    }
    for (int stage = 0; stage < EVALUATE_STAGES; ++stage)
        add_stage(root, result, stage, &ok);
    cJSON *losses = cJSON_AddObjectToObject(root, "losses");
    for (int i = 0; i < EVALUATED_LOSSES; ++i)
        add_number(losses, evaluated_loss_names[i], result->loss.value[i], &ok);
    if (result->has_ood) {
        cJSON *ood = cJSON_AddObjectToObject(root, "ood");
        add_number(ood, "auroc_entropy", result->ood.auroc_entropy, &ok);
        add_number(ood, "auroc_confidence", result->ood.auroc_confidence, &ok);
    }
    char note[256];
    evaluation_note(result, note);
    if (note[0] != '\0') ok = ok && cJSON_AddStringToObject(root, "note", note) != NULL;
    char *printed = ok ? cJSON_Print(root) : NULL;
    cJSON_Delete(root);
    if (printed == NULL) return fail(STATUS_MEMORY, "no memory for the evaluation as JSON");
    const Status status = text_format(text, "%s\n", printed);
    cJSON_free(printed);
    return status;
}

/* ---- the table ---- */

enum { TITLE_WIDTH = 22, CELL = 32 };

/* One number, with its interval if it has one: "4.51", "4.51 [4.20, 4.83]". */
static void format_cell(const Metric *metric, const EvaluationResult *result, int stage, char cell[CELL])
{
    const double value = value_of(metric, &result->measured[stage]);
    if (metric->unit == PLAIN)
        (void)snprintf(cell, CELL, "%.4f", value);
    else if (metric->interval == 0 || !result->has_intervals)
        (void)snprintf(cell, CELL, "%.2f", 100 * value);
    else {
        const Interval interval = interval_of(metric, &result->interval[stage]);
        (void)snprintf(cell, CELL, "%.2f [%.2f, %.2f]", 100 * value, 100 * interval.lower,
                       100 * interval.upper);
    }
}

static void print_row(FILE *file, int width, int stages, const char *title, char cells[EVALUATE_STAGES][CELL])
{
    (void)fprintf(file, "%-*s", TITLE_WIDTH, title);
    for (int stage = 0; stage < stages; ++stage)
        (void)fprintf(file, "  %*s", width, cells[stage]);
    (void)fputc('\n', file);
}

static void print_stages(const EvaluationResult *result, FILE *file)
{
    const int stages = result->has_temperature ? EVALUATE_STAGES : 1, width = result->has_intervals ? 22 : 16;
    char cells[EVALUATE_STAGES][CELL];
    if (result->has_temperature) {
        (void)snprintf(cells[0], CELL, "before");
        (void)snprintf(cells[1], CELL, "T = %.1f by ECE", temperature_of(result, EVALUATE_AFTER_ECE));
        (void)snprintf(cells[2], CELL, "T = %.1f by NLL", temperature_of(result, EVALUATE_AFTER_NLL));
        print_row(file, width, stages, "", cells);
    }
    for (int i = 0; i < METRICS; ++i) {
        char title[64];
        (void)snprintf(title, sizeof title, "%s%s", metrics[i].title, metrics[i].unit == PERCENT ? " %" : "");
        for (int stage = 0; stage < stages; ++stage)
            format_cell(&metrics[i], result, stage, cells[stage]);
        print_row(file, width, stages, title, cells);
    }
    for (int stage = 0; stage < stages; ++stage)
        (void)snprintf(cells[stage], CELL, "%.2f", 100 * result->measured[stage].s99_fraction);
    print_row(file, width, stages, "S99, samples %", cells);
    for (int stage = 0; stage < stages; ++stage) {
        const double accuracy = result->measured[stage].s99_accuracy;
        (void)snprintf(cells[stage], CELL, "%s", "-");
        if (isfinite(accuracy)) (void)snprintf(cells[stage], CELL, "%.2f", 100 * accuracy);
    }
    print_row(file, width, stages, "  accuracy %", cells);
}

void evaluation_print(const EvaluationResult *result, FILE *file)
{
    (void)fprintf(file, "%lld samples, %lld classes, %d bins%s\n\n", (long long)result->samples,
                  (long long)result->classes, result->measured[EVALUATE_BEFORE].bins,
                  result->has_intervals ? ", [90% intervals by the bootstrap: resamples have "
                                          "larger\ncalibration errors, so one may lie above its value]"
                                        : "");
    print_stages(result, file);
    (void)fprintf(file, "\nlosses, mean over the samples\n");
    for (int i = 0; i < EVALUATED_LOSSES; ++i)
        (void)fprintf(file, "%-*s  %.6f\n", TITLE_WIDTH, evaluated_loss_names[i], result->loss.value[i]);
    if (result->has_ood)
        (void)fprintf(file, "\nout of distribution\n%-*s  %.2f\n%-*s  %.2f\n", TITLE_WIDTH,
                      "AUROC by entropy %", 100 * result->ood.auroc_entropy, TITLE_WIDTH,
                      "AUROC by confidence %", 100 * result->ood.auroc_confidence);
    char note[256];
    evaluation_note(result, note);
    if (note[0] != '\0') (void)fprintf(file, "\nnote: %s\n", note);
}
