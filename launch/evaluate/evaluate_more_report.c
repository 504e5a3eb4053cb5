/* The measures of evaluate_more.h, as JSON and as a table. */
#include "launch/evaluate/evaluate_report.h"

#include <math.h>
#include <string.h>

static const char *const scheme_names[2] = {"equal_width", "equal_mass"};

/* ---- JSON ---- */

static void add_smooth(cJSON *root, const MoreMeasures *more, bool *ok)
{
    double at[MORE_POINTS];
    cJSON *object = cJSON_AddObjectToObject(root, "smooth_ece");
    report_add_number(object, "value", more->smooth.value, ok);
    report_add_number(object, "bandwidth", more->smooth.bandwidth, ok);
    *ok = *ok &&
          cJSON_AddStringToObject(object, "definition", more->relplot ? "relplot" : "continuous") != NULL;
    cJSON *curve = cJSON_AddObjectToObject(object, "curve");
    for (int i = 0; i < MORE_POINTS; ++i)
        at[i] = (double)i / (MORE_POINTS - 1);
    report_add_numbers(curve, "confidence", at, MORE_POINTS, ok);
    report_add_numbers(curve, "accuracy", more->accuracy, MORE_POINTS, ok);
    report_add_numbers(curve, "density", more->density, MORE_POINTS, ok);
    if (more->replicates < 1) return;
    report_add_numbers(curve, "lower", more->lower, MORE_POINTS, ok);
    report_add_numbers(curve, "upper", more->upper, MORE_POINTS, ok);
    report_add_number(curve, "level", MORE_LEVEL, ok);
    report_add_number(curve, "resamples", (double)more->replicates, ok);
}

static void add_binned(cJSON *root, const char *key, const BinnedError error[2], bool *ok)
{
    cJSON *of = cJSON_AddObjectToObject(root, key);
    for (int scheme = 0; scheme < 2; ++scheme) {
        cJSON *object = cJSON_AddObjectToObject(of, scheme_names[scheme]);
        report_add_number(object, "plug_in_p1", error[scheme].plug_in[1], ok);
        report_add_number(object, "plug_in_p2", error[scheme].plug_in[2], ok);
        report_add_number(object, "debiased_p1", error[scheme].debiased[1], ok);
        report_add_number(object, "debiased_p2", error[scheme].debiased[2], ok);
    }
}

static void add_parts(cJSON *root, const char *key, const BrierParts *parts, bool *ok)
{
    cJSON *object = cJSON_AddObjectToObject(root, key);
    report_add_number(object, "brier", parts->brier, ok);
    report_add_number(object, "reliability", parts->reliability, ok);
    report_add_number(object, "resolution", parts->resolution, ok);
    report_add_number(object, "uncertainty", parts->uncertainty, ok);
    report_add_number(object, "within_bin_variance", parts->within_variance, ok);
    report_add_number(object, "within_bin_covariance", parts->within_covariance, ok);
    report_add_number(object, "generalised_resolution", parts->generalised_resolution, ok);
}

static void add_kernel(cJSON *root, const KernelError *kernel, bool *ok)
{
    cJSON *object = cJSON_AddObjectToObject(root, "kernel_calibration_error");
    *ok = *ok && cJSON_AddStringToObject(object, "kernel", kernel_names[kernel->form]) != NULL;
    report_add_number(object, "width", kernel->width, ok);
    report_add_number(object, "median_distance", kernel->median_distance, ok);
    report_add_number(object, "samples", (double)kernel->samples, ok);
    report_add_number(object, "biased_squared", kernel->biased, ok);
    report_add_number(object, "unbiased_squared", kernel->unbiased, ok);
    cJSON *bound = cJSON_AddObjectToObject(object, "distribution_free");
    report_add_number(bound, "p_biased", kernel->bound_biased, ok);
    report_add_number(bound, "p_unbiased", kernel->bound_unbiased, ok);
    cJSON *asymptotic = cJSON_AddObjectToObject(object, "asymptotic");
    report_add_number(asymptotic, "statistic", kernel->statistic, ok);
    report_add_number(asymptotic, "p", kernel->p, ok);
    report_add_number(asymptotic, "resamples", (double)kernel->resamples, ok);
    cJSON *tests = cJSON_AddArrayToObject(object, "blocks");
    for (int i = 0; i < KERNEL_BLOCK_TESTS; ++i) {
        const BlockTest *test = &kernel->block[i];
        cJSON *item = cJSON_CreateObject();
        report_add_number(item, "size", (double)test->size, ok);
        report_add_number(item, "blocks", (double)test->blocks, ok);
        report_add_number(item, "estimate", test->estimate, ok);
        report_add_number(item, "standard_error", test->standard_error, ok);
        report_add_number(item, "z", test->z, ok);
        report_add_number(item, "p", test->p, ok);
        report_add_item(tests, item, ok);
    }
}

static void add_worst(cJSON *root, const EvaluationResult *result, const MoreMeasures *more, bool *ok)
{
    cJSON *list = cJSON_AddArrayToObject(root, "worst_classes");
    for (int i = 0; i < more->worst_count; ++i) {
        const ClassMeasure *of = &more->worst[i];
        cJSON *item = cJSON_CreateObject();
        report_add_number(item, "class", (double)of->k, ok);
        if (result->class_name != NULL)
            *ok = *ok && cJSON_AddStringToObject(item, "name", result->class_name[of->k]) != NULL;
        report_add_number(item, "ece", of->error, ok);
        report_add_number(item, "samples", (double)of->samples, ok);
        report_add_number(item, "share", (double)of->samples / (double)result->samples, ok);
        report_add_number(item, "mean_probability", of->mean_probability, ok);
        report_add_number(item, "accuracy", of->accuracy, ok);
        report_add_item(list, item, ok);
    }
}

void report_more_json(cJSON *stage, const EvaluationResult *result, const MoreMeasures *more, bool *ok)
{
    const int bins = result->measured[EVALUATE_BEFORE].bins;
    cJSON *object = cJSON_AddObjectToObject(stage, "more");
    add_smooth(object, more, ok);
    cJSON *binned = cJSON_AddObjectToObject(object, "binned_errors");
    report_add_number(binned, "bins", bins, ok);
    add_binned(binned, "top_label", more->top, ok);
    if (more->has_classes) add_binned(binned, "marginal", more->classes, ok);
    cJSON *brier = cJSON_AddObjectToObject(object, "brier_decomposition");
    report_add_number(brier, "bins", bins, ok);
    add_parts(brier, "top_label", &more->brier_top, ok);
    if (!more->has_classes) return;
    add_parts(brier, "multiclass_by_confidence", &more->brier_by_confidence, ok);
    add_parts(brier, "multiclass_class_by_class", &more->brier_by_class, ok);
    cJSON *joint = cJSON_AddObjectToObject(object, "joint_error");
    report_add_number(joint, "bins", MORE_JOINT_BINS, ok);
    report_add_number(joint, "value", more->joint, ok);
    add_kernel(object, &more->kernel, ok);
    add_worst(object, result, more, ok);
}

/* ---- the table ---- */

typedef struct {
    const char *title;
    size_t offset; /* in MoreMeasures */
    bool percent, of_classes;
} Row;

#define PERCENT(field) offsetof(MoreMeasures, field), true, false
#define PLAIN(field) offsetof(MoreMeasures, field), false, false
#define PERCENT_CLASSES(field) offsetof(MoreMeasures, field), true, true
#define PLAIN_CLASSES(field) offsetof(MoreMeasures, field), false, true
static const Row rows[] = {
    {"SmoothECE %", PERCENT(smooth.value)},
    {"top label, equal width, p = 1, debiased %", PERCENT(top[0].debiased[1])},
    {"top label, equal width, p = 2, debiased %", PERCENT(top[0].debiased[2])},
    {"top label, equal mass, p = 1, debiased %", PERCENT(top[1].debiased[1])},
    {"top label, equal mass, p = 2, debiased %", PERCENT(top[1].debiased[2])},
    {"marginal, equal width, p = 1, debiased %", PERCENT_CLASSES(classes[0].debiased[1])},
    {"marginal, equal width, p = 2, debiased %", PERCENT_CLASSES(classes[0].debiased[2])},
    {"marginal, equal mass, p = 1, debiased %", PERCENT_CLASSES(classes[1].debiased[1])},
    {"marginal, equal mass, p = 2, debiased %", PERCENT_CLASSES(classes[1].debiased[2])},
    {"joint bins of all probabilities %", PERCENT_CLASSES(joint)},
    {"kernel calibration error, squared", PLAIN_CLASSES(kernel.unbiased)},
    {"  p of a calibrated network, asymptotic", PLAIN_CLASSES(kernel.p)},
    {"Brier score of the top label", PLAIN(brier_top.brier)},
    {"  reliability", PLAIN(brier_top.reliability)},
    {"  - resolution", PLAIN(brier_top.resolution)},
    {"  + uncertainty", PLAIN(brier_top.uncertainty)},
    {"  + variance within bins", PLAIN(brier_top.within_variance)},
    {"  - covariance within bins", PLAIN(brier_top.within_covariance)},
    {"Brier score, class by class", PLAIN_CLASSES(brier_by_class.brier)},
    {"  reliability", PLAIN_CLASSES(brier_by_class.reliability)},
    {"  - resolution", PLAIN_CLASSES(brier_by_class.resolution)},
    {"  + uncertainty", PLAIN_CLASSES(brier_by_class.uncertainty)},
    {"  + variance within bins", PLAIN_CLASSES(brier_by_class.within_variance)},
    {"  - covariance within bins", PLAIN_CLASSES(brier_by_class.within_covariance)},
};

static void print_row(const Row *row, const EvaluationResult *result, int stages, FILE *file)
{
    (void)fprintf(file, "%-42s", row->title);
    for (int stage = 0; stage < stages; ++stage) {
        char cell[REPORT_CELL];
        double value;
        memcpy(&value, (const char *)&result->more[stage] + row->offset, sizeof value);
        value *= row->percent ? 100 : 1;
        report_format_number(value, report_decimals(value, row->percent ? 2 : 4), cell, sizeof cell);
        (void)fprintf(file, "  %16s", cell);
    }
    (void)fputc('\n', file);
}

/* Has some bin a single sample? BinnedError says what then is not known. */
static bool lacks_debiased(const EvaluationResult *result, int stages)
{
    for (int stage = 0; stage < stages; ++stage)
        for (int scheme = 0; scheme < 2; ++scheme) {
            const MoreMeasures *more = &result->more[stage];
            if (isnan(more->top[scheme].debiased[1])) return true;
            if (more->has_classes && isnan(more->classes[scheme].debiased[1])) return true;
        }
    return false;
}

static void print_worst(const EvaluationResult *result, FILE *file)
{
    const MoreMeasures *more = &result->more[EVALUATE_BEFORE];
    if (!more->has_classes) return;
    (void)fprintf(file, "\n%-*s  %9s  %9s  %9s  %15s  %10s\n", REPORT_TITLE, "classes by their ECE", "ECE %",
                  "samples", "share %", "mean probab. %", "accuracy %");
    for (int i = 0; i < more->worst_count; ++i) {
        const ClassMeasure *of = &more->worst[i];
        char name[REPORT_CELL], accuracy[REPORT_CELL];
        (void)snprintf(name, sizeof name, "%lld", (long long)of->k);
        report_format_number(100 * of->accuracy, 2, accuracy, sizeof accuracy);
        (void)fprintf(file, "%-*s  %9.2f  %9lld  %9.2f  %15.2f  %10s\n", REPORT_TITLE,
                      result->class_name != NULL ? result->class_name[of->k] : name, 100 * of->error,
                      (long long)of->samples, 100 * (double)of->samples / (double)result->samples,
                      100 * of->mean_probability, accuracy);
    }
}

void report_more_print(const EvaluationResult *result, FILE *file)
{
    const int stages = result->has_temperature ? EVALUATE_STAGES : 1;
    const MoreMeasures *more = &result->more[EVALUATE_BEFORE];
    (void)fprintf(file, "\nmore measures: %d bins; SmoothECE %s", result->measured[EVALUATE_BEFORE].bins,
                  more->relplot ? "as relplot has it" : "by its continuous definition");
    if (more->has_classes)
        (void)fprintf(file, "; %s kernel of width %.4g, %lld samples", kernel_names[more->kernel.form],
                      more->kernel.width, (long long)more->kernel.samples);
    (void)fputc('\n', file);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; ++i)
        if (more->has_classes || !rows[i].of_classes) print_row(&rows[i], result, stages, file);
    if (lacks_debiased(result, stages))
        (void)fputs(
            "-: p = 1 is debiased by the spread within each bin, and a bin of a single sample shows none\n",
            file);
    print_worst(result, file);
}
