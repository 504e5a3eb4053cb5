/* Calibration against temperature as JSON for programs and as a table for people. */
#include "launch/evaluate/evaluate_report.h"

#include <math.h>
#include <stdio.h>

static const char *const set_names[] = {[EVALUATE_TEST] = "test", [EVALUATE_VALIDATION] = "validation"};

static int sets_of(const EvaluationResult *result)
{
    return result->has_temperature ? EVALUATE_VALIDATION + 1 : 1;
}

/* 1.8, not 1.8000000000000005: temperatures are sums of steps. */
static double as_meant(double temperature) { return round(temperature * 1e9) / 1e9; }

static void add_numbers(cJSON *object, const char *name, const double value[], int count, bool *ok)
{
    cJSON *list = cJSON_AddArrayToObject(object, name);
    for (int i = 0; i < count; ++i) {
        cJSON *item = isfinite(value[i]) ? cJSON_CreateNumber(value[i]) : cJSON_CreateNull();
        if (cJSON_AddItemToArray(list, item)) continue;
        cJSON_Delete(item);
        *ok = false;
    }
}

void report_curve_json(cJSON *root, const EvaluationResult *result, bool *ok)
{
    const TemperatureSearch *test = &result->curve[EVALUATE_TEST];
    double temperature[TEMPERATURE_MOST];
    cJSON *curve = cJSON_AddObjectToObject(root, "temperatures");
    for (int i = 0; i < test->count; ++i)
        temperature[i] = as_meant(test->temperature[i]);
    add_numbers(curve, "temperature", temperature, test->count, ok);
    for (int set = 0; set < sets_of(result); ++set) {
        const TemperatureSearch *of = &result->curve[set];
        cJSON *object = cJSON_AddObjectToObject(curve, set_names[set]);
        add_numbers(object, "ece", of->ece, of->count, ok);
        add_numbers(object, "nll", of->nll, of->count, ok);
    }
}

void report_curve_print(const EvaluationResult *result, FILE *file)
{
    const TemperatureSearch *test = &result->curve[EVALUATE_TEST];
    (void)fprintf(file, "\n%11s", "temperature");
    for (int set = 0; set < sets_of(result); ++set)
        (void)fprintf(file, "  %10s ECE %%  %10s NLL", set_names[set], set_names[set]);
    (void)fprintf(file, "\n");
    for (int i = 0; i < test->count; ++i) {
        (void)fprintf(file, "%11.4g", as_meant(test->temperature[i]));
        for (int set = 0; set < sets_of(result); ++set)
            (void)fprintf(file, "  %16.2f  %14.4f", 100 * result->curve[set].ece[i],
                          result->curve[set].nll[i]);
        (void)fprintf(file, "\n");
    }
}
