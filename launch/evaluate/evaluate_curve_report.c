/* Calibration against temperature as JSON for programs and as a table for people. */
#include "engine/base/memory.h"
#include "launch/evaluate/evaluate_report.h"

#include <math.h>
#include <stdio.h>

static const char *const set_names[] = {[EVALUATE_TEST] = "test", [EVALUATE_VALIDATION] = "validation"};

static int sets_of(const EvaluationResult *result)
{
    return result->has_temperature ? EVALUATE_VALIDATION + 1 : 1;
}

double evaluation_curve_temperature(const EvaluationResult *result, int index)
{
    return round(result->curve[EVALUATE_TEST].temperature[index] * 1e9) / 1e9;
}

void report_curve_json(cJSON *root, const EvaluationResult *result, bool *ok)
{
    report_curve_fill(cJSON_AddObjectToObject(root, "temperatures"), result, ok);
}

void report_curve_fill(cJSON *curve, const EvaluationResult *result, bool *ok)
{
    const TemperatureSearch *test = &result->curve[EVALUATE_TEST];
    double temperature[TEMPERATURE_MOST];
    for (int i = 0; i < test->count; ++i)
        temperature[i] = evaluation_curve_temperature(result, i);
    report_add_numbers(curve, "temperature", temperature, test->count, ok);
    for (int set = 0; set < sets_of(result); ++set) {
        const TemperatureSearch *of = &result->curve[set];
        cJSON *object = cJSON_AddObjectToObject(curve, set_names[set]);
        report_add_numbers(object, "ece", of->ece, of->count, ok);
        report_add_numbers(object, "nll", of->nll, of->count, ok);
        report_add_number(object, "accuracy", of->accuracy, ok);
        if (set == EVALUATE_TEST && result->has_bleu)
            report_add_numbers(object, "bleu", result->bleu, of->count, ok);
    }
    if (!result->has_bleu) return;
    *ok = *ok && cJSON_AddStringToObject(curve, "search", result->bleu_search) != NULL &&
          cJSON_AddStringToObject(curve, "bleu_signature", result->bleu_signature) != NULL;
}

Status evaluation_curves_json(const EvaluationResult *result, char **text)
{
    bool ok = true;
    *text = NULL;
    cJSON *root = cJSON_CreateObject();
    if (result->checkpoint != NULL)
        ok = cJSON_AddStringToObject(root, "checkpoint", result->checkpoint) != NULL;
    report_add_number(root, "step", (double)result->step, &ok);
    report_add_number(root, "sentences", (double)result->clusters, &ok);
    report_add_number(root, "bins", result->measured[EVALUATE_BEFORE].bins, &ok);
    if (result->has_temperature) {
        cJSON *chosen = cJSON_AddObjectToObject(root, "chosen");
        report_add_temperature(chosen, "ece", evaluation_temperature(result, EVALUATE_AFTER_ECE), &ok);
        report_add_temperature(chosen, "nll", evaluation_temperature(result, EVALUATE_AFTER_NLL), &ok);
    }
    report_curve_fill(root, result, &ok);
    char *printed = ok ? cJSON_PrintUnformatted(root) : NULL;
    cJSON_Delete(root);
    if (printed == NULL) return fail(STATUS_MEMORY, "no memory for curves as JSON");
    const Status status = text_copy(printed, text);
    cJSON_free(printed);
    return status;
}

void report_curve_print(const EvaluationResult *result, FILE *file)
{
    const TemperatureSearch *test = &result->curve[EVALUATE_TEST];
    (void)fprintf(file, "\naccuracy at any temperature, %%:");
    for (int set = 0; set < sets_of(result); ++set)
        (void)fprintf(file, "%s %s %.2f", set > 0 ? "," : "", set_names[set],
                      100 * result->curve[set].accuracy);
    if (result->has_bleu)
        (void)fprintf(file, "\nBLEU by %s: %s", result->bleu_search, result->bleu_signature);
    (void)fprintf(file, "\n%11s", "temperature");
    if (result->has_bleu) (void)fprintf(file, "  %9s", "test BLEU");
    for (int set = 0; set < sets_of(result); ++set)
        (void)fprintf(file, "  %10s ECE %%  %10s NLL", set_names[set], set_names[set]);
    (void)fprintf(file, "\n");
    for (int i = 0; i < test->count; ++i) {
        (void)fprintf(file, "%11.4g", evaluation_curve_temperature(result, i));
        if (result->has_bleu) (void)fprintf(file, "  %9.2f", result->bleu[i]);
        for (int set = 0; set < sets_of(result); ++set)
            (void)fprintf(file, "  %16.2f  %14.4f", 100 * result->curve[set].ece[i],
                          result->curve[set].nll[i]);
        (void)fprintf(file, "\n");
    }
}
