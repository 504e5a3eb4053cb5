/* Calibration of a network's own translations as JSON for programs and as a table for people. */
#include "launch/evaluate/evaluate_report.h"

#include <stdio.h>

void report_inference_json(cJSON *stage, const InferenceCalibration *inference, bool *ok)
{
    cJSON *object = cJSON_AddObjectToObject(stage, "inference");
    report_add_number(object, "tokens", (double)inference->tokens, ok);
    report_add_number(object, "ece", inference->ece, ok);
    report_add_number(object, "mean_confidence", inference->mean_confidence, ok);
    report_add_number(object, "accuracy", inference->accuracy, ok);
    report_add_bins(object, inference->bin, INFERENCE_BINS, NULL, ok);
}

void report_inference_print(const EvaluationResult *result, FILE *file)
{
    static const char *const stages[EVALUATE_STAGES] = {"before", "T = %.4g by ECE", "T = %.4g by NLL"};
    (void)fprintf(
        file,
        "\ntokens of its own translations, right by TER's alignment, %d bins\n%-*s  %9s  %9s  %12s  %11s\n",
        (int)INFERENCE_BINS, REPORT_TITLE, "", "tokens", "ECE %", "confidence %", "accuracy %");
    for (int stage = 0; stage < (result->has_temperature ? EVALUATE_STAGES : 1); ++stage) {
        const InferenceCalibration *inference = &result->inference[stage];
        char title[REPORT_CELL];
        (void)snprintf(title, sizeof title, stages[stage], evaluation_temperature(result, stage));
        (void)fprintf(file, "%-*s  %9lld  %9.2f  %12.2f  %11.2f\n", REPORT_TITLE, title,
                      (long long)inference->tokens, 100 * inference->ece, 100 * inference->mean_confidence,
                      100 * inference->accuracy);
    }
}
