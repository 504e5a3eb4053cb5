#include "launch/runs/bleu_curves.h"

#include "engine/base/file.h"
#include "engine/base/memory.h"

#include <cJSON.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char file_name[] = "temperatures.json";

void bleu_curves_of(const EvaluationResult *result, BleuCurves *curves)
{
    const TemperatureSearch *test = &result->curve[EVALUATE_TEST],
                            *validation = &result->curve[EVALUATE_VALIDATION];
    *curves = (BleuCurves){.count = test->count,
                           .test_accuracy = test->accuracy,
                           .validation_accuracy = result->has_temperature ? validation->accuracy : NAN,
                           .has_validation = result->has_temperature,
                           .chosen_ece = NAN,
                           .chosen_nll = NAN,
                           .step = result->step,
                           .sentences = result->clusters};
    for (int i = 0; i < test->count; ++i) {
        curves->temperature[i] = evaluation_curve_temperature(result, i);
        curves->bleu[i] = result->has_bleu ? result->bleu[i] : NAN;
        curves->test_ece[i] = test->ece[i];
        curves->test_nll[i] = test->nll[i];
        curves->validation_ece[i] = validation->ece[i];
        curves->validation_nll[i] = validation->nll[i];
    }
    if (!result->has_temperature) return;
    curves->chosen_ece = evaluation_temperature(result, EVALUATE_AFTER_ECE);
    curves->chosen_nll = evaluation_temperature(result, EVALUATE_AFTER_NLL);
}

/* ---- writing ---- */

Status bleu_curves_write(const EvaluationResult *result, const char *folder)
{
    char path[PATH_MAX], *text;
    TRY(file_join(path, folder, file_name));
    TRY(evaluation_curves_json(result, &text));
    const Status status = file_write(path, text, strlen(text));
    free(text);
    return status;
}

/* ---- reading ---- */

static double number_of_item(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNumber(item) ? item->valuedouble : NAN;
}

/* null is NaN; false for another number of numbers. */
static bool take_numbers(const cJSON *object, const char *key, int count, double value[])
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(object, key), *item;
    int at = 0;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != count) return false;
    cJSON_ArrayForEach(item, list)
    {
        if (!cJSON_IsNumber(item) && !cJSON_IsNull(item)) return false;
        value[at++] = cJSON_IsNumber(item) ? item->valuedouble : NAN;
    }
    return true;
}

static bool are_temperatures(const double value[], int count)
{
    for (int i = 0; i < count; ++i)
        if (!isfinite(value[i]) || !(value[i] > (i > 0 ? value[i - 1] : 0))) return false;
    return count > 0;
}

static bool take_curves(const cJSON *root, BleuCurves *curves)
{
    const cJSON *test = cJSON_GetObjectItemCaseSensitive(root, "test"),
                *validation = cJSON_GetObjectItemCaseSensitive(root, "validation"),
                *chosen = cJSON_GetObjectItemCaseSensitive(root, "chosen");
    const double step = number_of_item(root, "step"), sentences = number_of_item(root, "sentences");
    const int count = cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(root, "temperature"));
    if (count > TEMPERATURE_MOST) return false;
    curves->count = count;
    curves->step = step >= 0 && step < 1e15 ? (int64_t)step : 0;
    curves->sentences = sentences >= 0 && sentences < 1e15 ? (int64_t)sentences : 0;
    curves->chosen_ece = number_of_item(chosen, "ece");
    curves->chosen_nll = number_of_item(chosen, "nll");
    curves->test_accuracy = number_of_item(test, "accuracy");
    curves->validation_accuracy = number_of_item(validation, "accuracy");
    curves->has_validation = validation != NULL;
    return take_numbers(root, "temperature", count, curves->temperature) &&
           are_temperatures(curves->temperature, count) &&
           take_numbers(test, "ece", count, curves->test_ece) &&
           take_numbers(test, "nll", count, curves->test_nll) &&
           take_numbers(test, "bleu", count, curves->bleu) &&
           (validation == NULL || (take_numbers(validation, "ece", count, curves->validation_ece) &&
                                   take_numbers(validation, "nll", count, curves->validation_nll)));
}

Status bleu_curves_parse(const char *text, size_t size, BleuCurves **out)
{
    TRY(memory_new(out, 1, sizeof **out, "curves against temperature"));
    cJSON *root = cJSON_ParseWithLength(text, size);
    const bool good = cJSON_IsObject(root) && take_curves(root, *out);
    cJSON_Delete(root);
    if (good) return OK;
    free(*out);
    *out = NULL;
    return fail(STATUS_INPUT, "no curves against temperature");
}

Status bleu_curves_read(const char *folder, BleuCurves **out)
{
    enum { MOST_BYTES = 1 << 24 };
    char path[PATH_MAX], *text;
    size_t size;
    *out = NULL;
    TRY(file_join(path, folder, file_name));
    if (!file_exists(path)) return OK;
    TRY(file_read(path, MOST_BYTES, &text, &size));
    Status status = bleu_curves_parse(text, size, out);
    free(text);
    if (status == OK || status_code(status) != STATUS_INPUT) return status;
    status_free(status);
    return fail(STATUS_INPUT,
                "%s is damaged: plumb evaluate %s --temperatures 0.5:2:0.1 --bleu makes it anew", path,
                folder);
}

int bleu_curves_best(const BleuCurves *curves)
{
    int best = 0;
    for (int i = 1; i < curves->count; ++i)
        if (curves->bleu[i] > curves->bleu[best]) best = i;
    return best;
}

int bleu_curves_near(const BleuCurves *curves, double temperature)
{
    int near = 0;
    for (int i = 1; i < curves->count; ++i)
        if (fabs(curves->temperature[i] - temperature) < fabs(curves->temperature[near] - temperature))
            near = i;
    return near;
}
