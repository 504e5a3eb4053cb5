#include "launch/predict/prediction_line.h"

#include "engine/base/memory.h"
#include "nlp/lines.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cJSON.h>

/* "FILE" or "FILE:LINE" whatever its length, and valid UTF-8; release with free(). */
static Status input_name(InputPlace place, char **name)
{
    char *whole;
    size_t size;
    bool changed;
    if (place.line > 0)
        TRY(text_format(&whole, "%s:%lld", place.file, (long long)place.line));
    else
        TRY(text_copy(place.file, &whole));
    Status status = line_to_utf8(text_span(whole), name, &size, &changed);
    free(whole);
    return status;
}

/* The classes by falling probability, the first `count` of them; among equals the lower number comes first. */
static Status find_top(const double probability[], int64_t classes, int64_t count, int64_t **top)
{
    TRY(memory_new(top, (size_t)count, sizeof **top, "classes"));
    for (int64_t n = 0; n < count; ++n) {
        /* Behind the one before: less probable, or as probable and later. */
        const int64_t last = n > 0 ? (*top)[n - 1] : -1;
        const double most = n > 0 ? probability[last] : INFINITY;
        int64_t best = -1;
        for (int64_t k = 0; k < classes; ++k) {
            const bool behind = probability[k] < most || (probability[k] == most && k > last);
            if (behind && (best < 0 || probability[k] > probability[best])) best = k;
        }
        if (best < 0) return fail(STATUS_NUMERIC, "a probability is no number");
        (*top)[n] = best;
    }
    return OK;
}

/* ---- text ---- */

/* A TAB ends a column. */
static void put_text(FILE *to, const char *text)
{
    for (; *text != '\0'; ++text)
        (void)fputc(*text == '\t' ? ' ' : *text, to);
}

static void put_number(FILE *to, double number)
{
    char text[LINE_NUMBER_BYTES];
    (void)line_print_number(text, number);
    (void)fprintf(to, "\t%s", text);
}

static Status text_line(const Predictor *predictor, const char *name, const Predictions *all, int64_t row,
                        const int64_t top[], int64_t count, char **text, size_t *size)
{
    char number[PREDICTOR_NUMBER];
    FILE *to = open_memstream(text, size);
    if (to == NULL) return fail(STATUS_MEMORY, "no memory for a prediction");
    put_text(to, name);
    for (int64_t n = 0; n < count; ++n) {
        (void)fputc('\t', to);
        put_text(to, predictor_label(predictor, top[n], number));
        put_number(to, all->trained[row * all->classes + top[n]]);
        if (all->calibrated != NULL) put_number(to, all->calibrated[row * all->classes + top[n]]);
    }
    const bool whole = ferror(to) == 0;
    if (fclose(to) == 0 && whole) return OK;
    free(*text);
    return fail(STATUS_MEMORY, "no memory for a prediction");
}

/* ---- JSON ---- */

/* Consumes the object. */
static Status print_json(cJSON *object, bool ok, char **text, size_t *size)
{
    *text = ok ? cJSON_PrintUnformatted(object) : NULL;
    cJSON_Delete(object);
    if (*text == NULL) return fail(STATUS_MEMORY, "no memory for a prediction");
    *size = strlen(*text);
    return OK;
}

/* Nine digits are enough for the same float; cJSON writes fifteen, and may then not go on to the seventeen of a double. */
static bool add_logits(cJSON *root, const float logits[], int64_t classes)
{
    char *text;
    size_t size;
    FILE *to = open_memstream(&text, &size);
    if (to == NULL) return false;
    for (int64_t k = 0; k < classes; ++k)
        (void)fprintf(to, "%s%.9g", k == 0 ? "[" : ",", (double)logits[k]);
    (void)fputc(']', to);
    const bool whole = ferror(to) == 0;
    const bool ok = fclose(to) == 0 && whole && cJSON_AddRawToObject(root, "logits", text) != NULL;
    free(text);
    return ok;
}

static bool add_class(cJSON *object, const Predictor *predictor, const Predictions *all, int64_t row,
                      int64_t k)
{
    char number[PREDICTOR_NUMBER];
    const int64_t at = row * all->classes + k;
    return cJSON_AddNumberToObject(object, "class", (double)k) != NULL &&
           cJSON_AddStringToObject(object, "label", predictor_label(predictor, k, number)) != NULL &&
           cJSON_AddNumberToObject(object, "confidence", all->trained[at]) != NULL &&
           (all->calibrated == NULL ||
            cJSON_AddNumberToObject(object, "calibrated", all->calibrated[at]) != NULL);
}

static bool add_top(cJSON *root, const Predictor *predictor, const Predictions *all, int64_t row,
                    const int64_t top[], int64_t count)
{
    cJSON *list = cJSON_AddArrayToObject(root, "top");
    bool ok = list != NULL;
    for (int64_t n = 0; n < count && ok; ++n) {
        cJSON *object = cJSON_CreateObject();
        ok = cJSON_AddItemToArray(list, object) != 0 && add_class(object, predictor, all, row, top[n]);
    }
    return ok;
}

static Status json_line(const PredictionForm *form, const Predictor *predictor, const char *name,
                        const Predictions *all, int64_t row, const int64_t top[], int64_t count, char **text,
                        size_t *size)
{
    cJSON *root = cJSON_CreateObject();
    bool ok =
        cJSON_AddStringToObject(root, "input", name) != NULL && add_class(root, predictor, all, row, top[0]);
    if (form->top > 0) ok = ok && add_top(root, predictor, all, row, top, count);
    if (form->logits) ok = ok && add_logits(root, all->logits + row * all->classes, all->classes);
    return print_json(root, ok, text, size);
}

/* ---- both ---- */

Status prediction_line(const PredictionForm *form, const Predictor *predictor, InputPlace place,
                       const Predictions *all, int64_t row, char **text, size_t *size)
{
    const double *decides = (all->calibrated != NULL ? all->calibrated : all->trained) + row * all->classes;
    const int64_t wished = form->top > 0 ? form->top : 1,
                  count = wished < all->classes ? wished : all->classes;
    char *name = NULL;
    int64_t *top = NULL;
    Status status;
    TRY_ELSE(done, input_name(place, &name));
    TRY_ELSE(done, find_top(decides, all->classes, count, &top));
    status = form->json ? json_line(form, predictor, name, all, row, top, count, text, size)
                        : text_line(predictor, name, all, row, top, count, text, size);
done:
    free(name);
    free(top);
    return status;
}

Status prediction_failed_line(const PredictionForm *form, InputPlace place, bool calibrated,
                              const char *message, char **text, size_t *size)
{
    char *name, *why = NULL;
    bool changed;
    TRY(input_name(place, &name));
    Status status = OK;
    if (form->json) {
        size_t bytes;
        cJSON *root = cJSON_CreateObject();
        status = line_to_utf8(text_span(message), &why, &bytes, &changed);
        const bool ok = status == OK && cJSON_AddStringToObject(root, "input", name) != NULL &&
                        cJSON_AddStringToObject(root, "error", why) != NULL;
        if (status == OK)
            status = print_json(root, ok, text, size);
        else
            cJSON_Delete(root);
    } else {
        for (char *at = name; *at != '\0'; ++at)
            if (*at == '\t') *at = ' ';
        status = text_format(text, "%s\t\t%s", name, calibrated ? "\t" : "");
        if (status == OK) *size = strlen(*text);
    }
    free(name);
    free(why);
    return status;
}
