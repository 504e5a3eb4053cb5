/* Groups of samples as JSON for programs and as a table for people. */
#include "launch/evaluate/evaluate_report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const stage_keys[EVALUATE_STAGES] = {"before", "after_ece", "after_nll"};

static int stages_of(const EvaluationResult *result) { return result->has_temperature ? EVALUATE_STAGES : 1; }

static void add_group(cJSON *object, const EvaluationResult *result, int kind, int group, bool *ok)
{
    report_add_number(object, "samples", (double)result->group[kind][EVALUATE_BEFORE][group].samples, ok);
    for (int stage = 0; stage < stages_of(result); ++stage) {
        const GroupMeasures *measures = &result->group[kind][stage][group];
        cJSON *at = cJSON_AddObjectToObject(object, stage_keys[stage]);
        report_add_number(at, "error", measures->error, ok);
        report_add_number(at, "mean_confidence", measures->mean_confidence, ok);
        report_add_number(at, "ece", measures->ece, ok);
        report_add_number(at, "nll", measures->nll, ok);
    }
}

void report_groups_json(cJSON *root, const EvaluationResult *result, bool *ok)
{
    cJSON *groups = cJSON_AddObjectToObject(root, "groups");
    for (int kind = 0; kind < result->group_kinds; ++kind) {
        const GroupKind *of = &result->group_kind[kind];
        cJSON *object = cJSON_AddObjectToObject(groups, of->name);
        for (int g = 0; g < of->groups; ++g)
            add_group(cJSON_AddObjectToObject(object, of->group[g]), result, kind, g, ok);
    }
}

static void print_number(double value, FILE *file)
{
    if (isnan(value))
        (void)fprintf(file, "  %10s", "-");
    else
        (void)fprintf(file, "  %10.2f", 100 * value);
}

void report_groups_print(const EvaluationResult *result, FILE *file)
{
    enum { TITLE = 28 };
    for (int kind = 0; kind < result->group_kinds; ++kind) {
        const GroupKind *of = &result->group_kind[kind];
        (void)fprintf(file, "\n%-*s  %10s  %10s  %10s  %10s  %10s", TITLE, of->name, "samples", "error %",
                      "NLL", "confidence", "ECE %");
        for (int stage = 1; stage < stages_of(result); ++stage)
            (void)fprintf(file, "  by %s T=%.4g", stage == EVALUATE_AFTER_ECE ? "ECE" : "NLL",
                          evaluation_temperature(result, stage));
        (void)fprintf(file, "\n");
        for (int g = 0; g < of->groups; ++g) {
            const GroupMeasures *before = &result->group[kind][EVALUATE_BEFORE][g];
            if (before->samples == 0) continue;
            (void)fprintf(file, "%-*s  %10lld", TITLE, of->group[g], (long long)before->samples);
            print_number(before->error, file);
            char nll[REPORT_CELL];
            report_format_number(before->nll, 4, nll, sizeof nll);
            (void)fprintf(file, "  %10s", nll);
            print_number(before->mean_confidence, file);
            for (int stage = 0; stage < stages_of(result); ++stage)
                print_number(result->group[kind][stage][g].ece, file);
            (void)fprintf(file, "\n");
        }
    }
}
