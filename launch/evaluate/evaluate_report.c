/* What evaluation found, as JSON for programs and as a table for people. */
#include "launch/evaluate/evaluate_report.h"
#include "engine/base/memory.h"
#include "launch/evaluate/evaluate.h"
#include "launch/evaluate/ood_sets.h"

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

static bool has_value(const Metric *metric, const Calibration *measured)
{
    return metric->offset != offsetof(Calibration, ada_ece) || calibration_has_ada_ece(measured);
}

/* ---- JSON ---- */

void report_add_number(cJSON *object, const char *key, double value, bool *ok)
{
    const cJSON *item =
        isfinite(value) ? cJSON_AddNumberToObject(object, key, value) : cJSON_AddNullToObject(object, key);
    *ok = *ok && item != NULL;
}

void report_add_temperature(cJSON *object, const char *key, double value, bool *ok)
{
    char text[32];
    (void)snprintf(text, sizeof text, "%.12g", value);
    *ok = *ok && cJSON_AddRawToObject(object, key, text) != NULL;
}

void report_add_item(cJSON *list, cJSON *item, bool *ok)
{
    if (cJSON_AddItemToArray(list, item)) return;
    cJSON_Delete(item);
    *ok = false;
}

void report_add_numbers(cJSON *object, const char *key, const double number[], int count, bool *ok)
{
    cJSON *list = cJSON_AddArrayToObject(object, key);
    *ok = *ok && list != NULL;
    for (int i = 0; i < count && *ok; ++i)
        report_add_item(list, isfinite(number[i]) ? cJSON_CreateNumber(number[i]) : cJSON_CreateNull(), ok);
}

void report_add_bins(cJSON *object, const CalibrationBin bin[], int bins, const double (*consistency)[2],
                     bool *ok)
{
    cJSON *list = cJSON_AddArrayToObject(object, "bins");
    for (int b = 0; b < bins; ++b) {
        cJSON *item = cJSON_CreateObject();
        report_add_number(item, "lower", bin[b].lower, ok);
        report_add_number(item, "upper", bin[b].upper, ok);
        report_add_number(item, "count", (double)bin[b].count, ok);
        report_add_number(item, "confidence", bin[b].confidence, ok);
        report_add_number(item, "accuracy", bin[b].accuracy, ok);
        if (consistency != NULL) {
            report_add_number(item, "consistency_lower", consistency[b][0], ok);
            report_add_number(item, "consistency_upper", consistency[b][1], ok);
        }
        report_add_item(list, item, ok);
    }
}

/* How the intervals were made. */
static void add_bootstrap(cJSON *root, const EvaluationResult *result, bool *ok)
{
    if (!result->has_intervals) {
        *ok = *ok && cJSON_AddNullToObject(root, "bootstrap") != NULL;
        return;
    }
    const int64_t groups = result->interval[EVALUATE_BEFORE].groups;
    cJSON *object = cJSON_AddObjectToObject(root, "bootstrap");
    report_add_number(object, "resamples", (double)result->replicates, ok);
    report_add_number(object, "level", 0.9, ok);
    report_add_number(object, "groups", groups > 0 ? (double)groups : NAN,
                      ok); /* null: single samples are drawn */
}

/* What the files had beside what is measured. */
static void add_ignored(cJSON *root, const EvaluationResult *result, bool *ok)
{
    static const char *const sets[EVALUATE_SETS] = {"test", "validation", NULL};
    if (result->ignored[EVALUATE_TEST] == 0 && result->ignored[EVALUATE_VALIDATION] == 0) return;
    cJSON *object = cJSON_AddObjectToObject(root, "ignored");
    report_add_number(object, "label", (double)result->ignore_label, ok);
    for (int set = 0; set < EVALUATE_SETS; ++set)
        if (sets[set] != NULL) report_add_number(object, sets[set], (double)result->ignored[set], ok);
}

static void add_class_names(cJSON *root, const EvaluationResult *result, bool *ok)
{
    if (result->class_name == NULL) return;
    cJSON *list = cJSON_AddArrayToObject(root, "class_names");
    for (int64_t k = 0; k < result->classes && *ok; ++k)
        report_add_item(list, cJSON_CreateString(result->class_name[k]), ok);
}

static void add_notes(cJSON *root, const EvaluationResult *result, bool *ok)
{
    EvaluationNotes notes;
    evaluation_notes(result, &notes);
    cJSON *list = cJSON_AddArrayToObject(root, "notes");
    for (int i = 0; i < notes.count; ++i)
        report_add_item(list, cJSON_CreateString(notes.text[i]), ok);
    *ok = *ok && list != NULL;
    char all[EVALUATION_MOST_NOTES * (sizeof notes.text[0] + 2)] =
        ""; /* as one text, for readers of earlier files */
    for (int i = 0, used = 0; i < notes.count; ++i)
        used += snprintf(all + used, sizeof all - (size_t)used, "%s%s", i > 0 ? "; " : "", notes.text[i]);
    if (notes.count > 0) *ok = *ok && cJSON_AddStringToObject(root, "note", all) != NULL;
}

/* One set of measures, with or without intervals. */
typedef struct {
    const Calibration *measured;
    const BootstrapIntervals *interval; /* NULL: there are none */
    const MoreMeasures *more;           /* likewise */
} Measured;

static bool has_interval(const Metric *metric, const Measured *of)
{
    if (metric->interval == 0 || of->interval == NULL || !has_value(metric, of->measured)) return false;
    return metric->offset != offsetof(Calibration, classwise_ece) || of->interval->has_classwise;
}

static Measured stage_of(const EvaluationResult *result, int stage)
{
    return (Measured){&result->measured[stage], result->has_intervals ? &result->interval[stage] : NULL,
                      result->has_more ? &result->more[stage] : NULL};
}

static void add_intervals(cJSON *object, const Measured *of, bool *ok)
{
    if (of->interval == NULL) {
        *ok = *ok && cJSON_AddNullToObject(object, "interval") != NULL;
        return;
    }
    cJSON *intervals = cJSON_AddObjectToObject(object, "interval");
    for (int i = 0; i < METRICS; ++i) {
        if (metrics[i].interval == 0) continue;
        if (!has_interval(&metrics[i], of)) {
            *ok = *ok && cJSON_AddNullToObject(intervals, metrics[i].key) != NULL;
            continue;
        }
        const Interval interval = interval_of(&metrics[i], of->interval);
        const double ends[] = {interval.lower, interval.upper};
        cJSON *item = cJSON_CreateDoubleArray(ends, 2);
        if (!cJSON_AddItemToObject(intervals, metrics[i].key, item)) {
            cJSON_Delete(item);
            *ok = false;
        }
    }
}

static void add_measured(cJSON *object, const EvaluationResult *result, const Measured *of, bool *ok)
{
    const Calibration *measured = of->measured;
    for (int i = 0; i < METRICS; ++i)
        report_add_number(object, metrics[i].key,
                          has_value(&metrics[i], measured) ? value_of(&metrics[i], measured) : NAN, ok);
    cJSON *s99 = cJSON_AddObjectToObject(object, "s99");
    report_add_number(s99, "fraction", measured->s99_fraction, ok);
    report_add_number(s99, "accuracy", measured->s99_accuracy, ok);
    report_add_bins(object, measured->bin, measured->bins, of->more != NULL ? of->more->consistency : NULL,
                    ok);
    if (of->more != NULL) report_more_json(object, result, of->more, ok);
    add_intervals(object, of, ok);
}

static void add_stage(cJSON *root, const EvaluationResult *result, int stage, bool *ok)
{
    if (stage != EVALUATE_BEFORE && !result->has_temperature) {
        *ok = *ok && cJSON_AddNullToObject(root, stage_keys[stage]) != NULL;
        return;
    }
    const Measured of = stage_of(result, stage);
    cJSON *object = cJSON_AddObjectToObject(root, stage_keys[stage]);
    add_measured(object, result, &of, ok);
    if (result->has_weighted) report_add_number(object, "weighted_ece", result->weighted_ece[stage], ok);
    if (result->has_inference) report_inference_json(object, &result->inference[stage], ok);
}

static void add_recalibrations(cJSON *root, const EvaluationResult *result, bool *ok)
{
    if (result->recalibrations == 0) return;
    cJSON *list = cJSON_AddArrayToObject(root, "recalibrated");
    for (int i = 0; i < result->recalibrations; ++i) {
        const Recalibration *recalibrated = &result->recalibrated[i];
        const Measured of = {&recalibrated->measured, result->has_intervals ? &recalibrated->interval : NULL,
                             result->has_more ? &recalibrated->more : NULL};
        char name[EVALUATION_NAME];
        cJSON *item = cJSON_CreateObject();
        evaluation_recalibration_name(recalibrated, name);
        *ok = *ok &&
              cJSON_AddStringToObject(item, "method", calibrator_name(recalibrated->settings.method)) != NULL;
        *ok = *ok && cJSON_AddStringToObject(item, "name", name) != NULL;
        *ok = *ok && cJSON_AddBoolToObject(item, "given", recalibrated->is_given) != NULL;
        report_add_number(item, "validation_samples", (double)recalibrated->samples, ok);
        report_add_number(item, "objective", recalibrated->objective, ok);
        report_add_number(item, "accuracy_before", 1 - result->measured[EVALUATE_BEFORE].error, ok);
        report_add_number(item, "accuracy", 1 - recalibrated->measured.error, ok);
        report_add_number(item, "missing_classes", (double)recalibrated->missing, ok);
        add_measured(item, result, &of, ok);
        report_add_item(list, item, ok);
    }
}

static void add_stages(cJSON *root, const EvaluationResult *result, bool *ok)
{
    if (result->has_temperature) {
        cJSON *temperature = cJSON_AddObjectToObject(root, "temperature");
        report_add_temperature(temperature, "ece", evaluation_temperature(result, EVALUATE_AFTER_ECE), ok);
        report_add_temperature(temperature, "nll", evaluation_temperature(result, EVALUATE_AFTER_NLL), ok);
    } else {
        *ok = *ok && cJSON_AddNullToObject(root, "temperature") != NULL;
    }
    for (int stage = 0; stage < EVALUATE_STAGES; ++stage)
        add_stage(root, result, stage, ok);
}

static void add_unmasked(cJSON *root, const EvaluationResult *all, bool *ok)
{
    if (all == NULL) return;
    cJSON *object = cJSON_AddObjectToObject(root, "unmasked");
    report_add_number(object, "classes", (double)all->classes, ok);
    add_stages(object, all, ok);
}

Status evaluation_json(const EvaluationResult *result, char **text)
{
    bool ok = true;
    *text = NULL;
    cJSON *root = cJSON_CreateObject();
    report_add_number(root, "samples", (double)result->samples, &ok);
    if (result->clusters > 0) report_add_number(root, "sentences", (double)result->clusters, &ok);
    report_add_number(root, "classes", result->classes > 0 ? (double)result->classes : NAN, &ok);
    if (result->checkpoint != NULL) {
        ok = ok && cJSON_AddStringToObject(root, "checkpoint", result->checkpoint) != NULL;
        report_add_number(root, "step", result->step > 0 ? (double)result->step : NAN, &ok);
    }
    add_ignored(root, result, &ok);
    add_class_names(root, result, &ok);
    add_stages(root, result, &ok);
    add_unmasked(root, result->unmasked, &ok);
    add_recalibrations(root, result, &ok);
    if (result->group_kinds > 0) report_groups_json(root, result, &ok);
    if (result->has_curve) report_curve_json(root, result, &ok);
    cJSON *losses = cJSON_AddObjectToObject(root, "losses");
    for (int i = 0; i < EVALUATED_LOSSES; ++i)
        report_add_number(losses, evaluated_loss_names[i],
                          evaluation_has_loss(result, i) ? result->loss.value[i] : NAN, &ok);
    if (result->has_ood) {
        cJSON *ood = cJSON_AddObjectToObject(root, "ood");
        report_add_number(ood, "auroc_entropy", result->ood.auroc_entropy, &ok);
        report_add_number(ood, "auroc_confidence", result->ood.auroc_confidence, &ok);
    }
    if (result->outside != NULL && ok) {
        cJSON *sets;
        Status status = ood_result_list(result->outside, &sets);
        ok = status == OK && cJSON_AddItemToObject(root, "ood_sets", sets);
        if (!ok) cJSON_Delete(sets);
        status_free(status);
    }
    add_bootstrap(root, result, &ok);
    add_notes(root, result, &ok);
    char *printed = ok ? cJSON_Print(root) : NULL;
    cJSON_Delete(root);
    if (printed == NULL) return fail(STATUS_MEMORY, "no memory for the evaluation as JSON");
    const Status status = text_format(text, "%s\n", printed);
    cJSON_free(printed);
    return status;
}

/* ---- the table ---- */

int report_decimals(double value, int decimals)
{
    enum { DIGITS = 3, MOST = 12 };
    const double size = fabs(value);
    if (!(size > 0) || size >= 0.1) return decimals;
    const int wanted = DIGITS - 1 - (int)floor(log10(size));
    return wanted < decimals ? decimals : wanted > MOST ? MOST : wanted;
}

void report_format_number(double value, int decimals, char *text, size_t size)
{
    const double wide = 1e9;
    if (isnan(value))
        (void)snprintf(text, size, "-");
    else if (isinf(value))
        (void)snprintf(text, size, "infinite");
    else
        (void)snprintf(text, size, fabs(value) < wide ? "%.*f" : "%.*e", decimals, value);
}

/* One number, with its interval if it has one: "4.51", "4.51 [4.20, 4.83]". */
static void format_cell(const Metric *metric, const Measured *of, char cell[REPORT_CELL])
{
    const double scale = metric->unit == PLAIN ? 1 : 100;
    const double value = scale * value_of(metric, of->measured);
    const int decimals = report_decimals(value, metric->unit == PLAIN ? 4 : 2);
    report_format_number(has_value(metric, of->measured) ? value : NAN, decimals, cell, REPORT_CELL);
    if (!has_interval(metric, of)) return;
    const Interval interval = interval_of(metric, of->interval);
    const size_t used = strlen(cell);
    (void)snprintf(cell + used, REPORT_CELL - used, " [%.*f, %.*f]", decimals, scale * interval.lower,
                   decimals, scale * interval.upper);
}

static void print_row(FILE *file, int width, int stages, const char *title,
                      char cells[EVALUATE_STAGES][REPORT_CELL])
{
    (void)fprintf(file, "%-*s", REPORT_TITLE, title);
    for (int stage = 0; stage < stages; ++stage)
        (void)fprintf(file, "  %*s", width, cells[stage]);
    (void)fputc('\n', file);
}

static void print_stages(const EvaluationResult *result, FILE *file)
{
    const int stages = result->has_temperature ? EVALUATE_STAGES : 1, width = result->has_intervals ? 22 : 16;
    char cells[EVALUATE_STAGES][REPORT_CELL];
    if (result->has_temperature) {
        (void)snprintf(cells[0], REPORT_CELL, "before");
        (void)snprintf(cells[1], REPORT_CELL, "T = %.4g by ECE",
                       evaluation_temperature(result, EVALUATE_AFTER_ECE));
        (void)snprintf(cells[2], REPORT_CELL, "T = %.4g by NLL",
                       evaluation_temperature(result, EVALUATE_AFTER_NLL));
        print_row(file, width, stages, "", cells);
    }
    for (int i = 0; i < METRICS; ++i) {
        char title[64];
        /* Of so few classes one of five is always right. */
        const bool no_more_than_five = result->classes > 0 && result->classes <= 5;
        if (no_more_than_five && metrics[i].offset == offsetof(Calibration, top5_error)) continue;
        (void)snprintf(title, sizeof title, "%s%s", metrics[i].title, metrics[i].unit == PERCENT ? " %" : "");
        for (int stage = 0; stage < stages; ++stage) {
            const Measured of = stage_of(result, stage);
            format_cell(&metrics[i], &of, cells[stage]);
        }
        print_row(file, width, stages, title, cells);
    }
    for (int stage = 0; stage < stages && result->has_weighted; ++stage)
        (void)snprintf(cells[stage], REPORT_CELL, "%.2f", 100 * result->weighted_ece[stage]);
    if (result->has_weighted) print_row(file, width, stages, "weighted ECE %", cells);
    for (int stage = 0; stage < stages; ++stage)
        (void)snprintf(cells[stage], REPORT_CELL, "%.2f", 100 * result->measured[stage].s99_fraction);
    print_row(file, width, stages, "S99, samples %", cells);
    for (int stage = 0; stage < stages; ++stage) {
        const double accuracy = result->measured[stage].s99_accuracy;
        (void)snprintf(cells[stage], REPORT_CELL, "%s", "-");
        if (isfinite(accuracy)) (void)snprintf(cells[stage], REPORT_CELL, "%.2f", 100 * accuracy);
    }
    print_row(file, width, stages, "  accuracy %", cells);
}

/* A row for each calibrator, under that of the network itself. */
static void print_recalibration(const char *title, int width, const Calibration *measured,
                                const MoreMeasures *more, FILE *file)
{
    static const size_t offsets[] = {offsetof(Calibration, nll), offsetof(Calibration, brier),
                                     offsetof(Calibration, ece), offsetof(Calibration, ada_ece),
                                     offsetof(Calibration, classwise_ece)};
    const Measured of = {measured, NULL, NULL};
    (void)fprintf(file, "%-*s  %11.2f", width, title, 100 * (1 - measured->error));
    for (size_t i = 0; i < sizeof offsets / sizeof *offsets; ++i) {
        char cell[REPORT_CELL] = "";
        for (int metric = 0; metric < METRICS; ++metric)
            if (metrics[metric].offset == offsets[i]) format_cell(&metrics[metric], &of, cell);
        (void)fprintf(file, "  %11s", cell);
    }
    if (more != NULL) (void)fprintf(file, "  %11.2f", 100 * more->smooth.value);
    (void)fputc('\n', file);
}

static void print_recalibrations(const EvaluationResult *result, FILE *file)
{
    char name[EVALUATION_NAME];
    int width = REPORT_TITLE;
    if (result->recalibrations == 0) return;
    for (int i = 0; i < result->recalibrations; ++i) {
        evaluation_recalibration_name(&result->recalibrated[i], name);
        if ((int)strlen(name) > width) width = (int)strlen(name);
    }
    (void)fprintf(file, "\n%-*s  %11s  %11s  %11s  %11s  %11s  %11s%s\n", width, "recalibrated", "accuracy %",
                  "NLL", "Brier", "ECE %", "AdaECE %", "Classwise %",
                  result->has_more ? "  SmoothECE %" : "");
    print_recalibration("before", width, &result->measured[EVALUATE_BEFORE],
                        result->has_more ? &result->more[EVALUATE_BEFORE] : NULL, file);
    for (int i = 0; i < result->recalibrations; ++i) {
        evaluation_recalibration_name(&result->recalibrated[i], name);
        print_recalibration(name, width, &result->recalibrated[i].measured,
                            result->has_more ? &result->recalibrated[i].more : NULL, file);
    }
}

static void print_head(const EvaluationResult *result, FILE *file)
{
    static const double much = 0x1p28; /* bytes */
    const BootstrapIntervals *intervals = &result->interval[EVALUATE_BEFORE];
    (void)fprintf(file, "%lld samples, ", (long long)result->samples);
    if (result->classes > 0) (void)fprintf(file, "%lld classes, ", (long long)result->classes);
    (void)fprintf(file, "%d bins", result->measured[EVALUATE_BEFORE].bins);
    if (result->ignored[EVALUATE_TEST] > 0)
        (void)fprintf(file, ", %lld samples of label %lld left out",
                      (long long)result->ignored[EVALUATE_TEST], (long long)result->ignore_label);
    if (result->ignored[EVALUATE_VALIDATION] > 0)
        (void)fprintf(file, ", of validation %lld of label %lld",
                      (long long)result->ignored[EVALUATE_VALIDATION], (long long)result->ignore_label);
    if (result->has_intervals) {
        (void)fprintf(
            file,
            ", [90%% intervals by the bootstrap%s: resamples have larger\ncalibration errors, so one may "
            "lie above its value",
            result->clusters > 0 ? " over sentences" : "");
        if (intervals->groups > 0 && result->clusters != intervals->groups)
            (void)fprintf(file, "; %lld resamples of %lld groups of %s chosen at\nrandom, not of single ones",
                          (long long)result->replicates, (long long)intervals->groups,
                          result->clusters > 0 ? "sentences" : "samples");
        if (intervals->bytes > much)
            (void)fprintf(file, "; %.1f GB of memory a rank", 1e-9 * intervals->bytes);
        (void)fprintf(file, "]");
    }
    (void)fprintf(file, "\n\n");
}

void evaluation_print(const EvaluationResult *result, FILE *file)
{
    print_head(result, file);
    print_stages(result, file);
    if (result->unmasked != NULL) {
        (void)fprintf(file, "\nthe same samples with all %lld classes, of which none is left out\n\n",
                      (long long)result->unmasked->classes);
        print_stages(result->unmasked, file);
    }
    if (result->has_more) report_more_print(result, file);
    report_groups_print(result, file);
    if (result->has_inference) report_inference_print(result, file);
    if (result->has_curve) report_curve_print(result, file);
    print_recalibrations(result, file);
    if (result->classes > 0 && !result->streamed) (void)fprintf(file, "\nlosses, mean over the samples\n");
    for (int i = 0; i < EVALUATED_LOSSES && result->classes > 0 && !result->streamed; ++i) {
        char text[REPORT_CELL];
        const double value = result->loss.value[i];
        report_format_number(evaluation_has_loss(result, i) ? value : NAN, report_decimals(value, 6), text,
                             sizeof text);
        (void)fprintf(file, "%-*s  %s\n", REPORT_TITLE, evaluated_loss_names[i], text);
    }
    if (result->has_ood)
        (void)fprintf(file, "\nout of distribution\n%-*s  %.2f\n%-*s  %.2f\n", REPORT_TITLE,
                      "AUROC by entropy %", 100 * result->ood.auroc_entropy, REPORT_TITLE,
                      "AUROC by confidence %", 100 * result->ood.auroc_confidence);
    if (result->outside != NULL) ood_result_print(result->outside, file);
    EvaluationNotes notes;
    evaluation_notes(result, &notes);
    for (int i = 0; i < notes.count; ++i)
        (void)fprintf(file, "%snote: %s\n", i == 0 ? "\n" : "", notes.text[i]);
}
