/* Calibrators as JSON:
 *
 *     {"format": "plumb calibrator", "version": 1, "method": "vector_scaling", "on": "logits", "classes": 3,
 *      "weights": [...], "biases": [...], "fit": {"samples": 5000, "objective": 0.41, ...}}
 *
 * weights of a matrix are row after row. Maps are "by_class": [{"x": [...], "y": [...]}, ...]. */
#include "losses/calibration/calibrator_fit.h"

#include "engine/base/file.h"
#include "engine/base/memory.h"

#include <cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char format_name[] = "plumb calibrator";
enum { VERSION = 1, MOST_CLASSES = 1 << 24 };
static const char *const on_names[] = {"logits", "log_probabilities", "probabilities"};
static const char *const scheme_names[] = {"equal_width", "equal_mass"};

/* ---- writing ---- */

/* 17 digits: the number that is read is the number that was written. */
static void add_number(cJSON *object, const char *key, double value, bool *ok)
{
    char text[40];
    (void)snprintf(text, sizeof text, "%.17g", value);
    *ok = *ok && (isfinite(value) ? cJSON_AddRawToObject(object, key, text)
                                  : cJSON_AddNullToObject(object, key)) != NULL;
}

static void add_numbers(cJSON *object, const char *key, const double *number, int64_t count, bool *ok)
{
    cJSON *list = cJSON_AddArrayToObject(object, key);
    *ok = *ok && list != NULL;
    for (int64_t i = 0; i < count && *ok; ++i) {
        char text[40];
        (void)snprintf(text, sizeof text, "%.17g", number[i]);
        cJSON *item = cJSON_CreateRaw(text);
        if (cJSON_AddItemToArray(list, item)) continue;
        cJSON_Delete(item);
        *ok = false;
    }
}

static void add_maps(cJSON *root, const Calibrator *calibrator, bool *ok)
{
    cJSON *list = cJSON_AddArrayToObject(root, "by_class");
    *ok = *ok && list != NULL;
    for (int64_t k = 0; k < calibrator->classes && *ok; ++k) {
        const CalibratorMap *map = &calibrator->map[k];
        cJSON *item = cJSON_CreateObject();
        add_numbers(item, "x", map->x, map->count, ok);
        add_numbers(item, "y", map->y, map->count, ok);
        if (cJSON_AddItemToArray(list, item)) continue;
        cJSON_Delete(item);
        *ok = false;
    }
}

static void add_settings(cJSON *root, const Calibrator *calibrator, bool *ok)
{
    const CalibratorKind *kind = calibrator_kind(calibrator->settings.method);
    const char *on =
        on_names[kind->rows == ROWS_OF_PROBABILITIES ? 2 : calibrator->settings.on_log_probabilities];
    *ok = *ok && cJSON_AddStringToObject(root, "on", on) != NULL;
    for (int i = 0; i < 3 && kind->keys[i] != NULL; ++i) {
        const char *key = kind->keys[i];
        if (strcmp(key, "lambda") == 0) add_number(root, key, calibrator->settings.lambda, ok);
        if (strcmp(key, "mu") == 0) add_number(root, key, calibrator->settings.mu, ok);
        if (strcmp(key, "bins") == 0) add_number(root, key, calibrator->settings.bins, ok);
        if (strcmp(key, "scheme") == 0)
            *ok = *ok &&
                  cJSON_AddStringToObject(root, key, scheme_names[calibrator->settings.equal_mass]) != NULL;
    }
}

Status calibrator_write(const Calibrator *calibrator, char **text)
{
    const CalibratorKind *kind = calibrator_kind(calibrator->settings.method);
    const int64_t weights = kind->weights(calibrator->classes), biases = kind->biases(calibrator->classes);
    bool ok = true;
    cJSON *root = cJSON_CreateObject();
    *text = NULL;
    ok = ok && cJSON_AddStringToObject(root, "format", format_name) != NULL;
    add_number(root, "version", VERSION, &ok);
    ok = ok && cJSON_AddStringToObject(root, "method", kind->name) != NULL;
    add_number(root, "classes", (double)calibrator->classes, &ok);
    add_settings(root, calibrator, &ok);
    if (weights > 0) add_numbers(root, "weights", calibrator->weight, weights, &ok);
    if (biases > 0) add_numbers(root, "biases", calibrator->bias, biases, &ok);
    if (kind->has_maps) add_maps(root, calibrator, &ok);
    cJSON *fit = cJSON_AddObjectToObject(root, "fit");
    add_number(fit, "samples", (double)calibrator->samples, &ok);
    add_number(fit, "objective", calibrator->objective, &ok);
    add_number(fit, "gap", calibrator->gap, &ok);
    ok = ok && cJSON_AddBoolToObject(fit, "finished", calibrator->finished) != NULL;
    add_number(fit, "missing_classes", (double)calibrator->missing, &ok);
    add_number(fit, "first_missing_class", (double)calibrator->first_missing, &ok);
    char *printed = ok ? cJSON_Print(root) : NULL;
    cJSON_Delete(root);
    if (printed == NULL) return fail(STATUS_MEMORY, "no memory for the calibrator as JSON");
    const Status status = text_format(text, "%s\n", printed);
    cJSON_free(printed);
    return status;
}

/* ---- reading ---- */

static const cJSON *item_of(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

static double number_or(const cJSON *object, const char *key, double otherwise)
{
    const cJSON *item = item_of(object, key);
    return cJSON_IsNumber(item) && isfinite(item->valuedouble) ? item->valuedouble : otherwise;
}

/* The same of a count, which no file makes overflow. */
static int64_t count_or(const cJSON *object, const char *key, int64_t otherwise)
{
    const double number = number_or(object, key, (double)otherwise);
    return number >= -1 && number <= 0x1p53 ? (int64_t)number : otherwise;
}

static bool word_is(const cJSON *object, const char *key, const char *word)
{
    const cJSON *item = item_of(object, key);
    return cJSON_IsString(item) && strcmp(item->valuestring, word) == 0;
}

/* count < 0: as many as there are, at least one. */
static Status read_numbers(const char *name, const cJSON *object, const char *key, int64_t count,
                           double *number)
{
    const cJSON *list = item_of(object, key), *item;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != count)
        return fail(STATUS_INPUT, "%s: '%s' is a list of %lld numbers", name, key, (long long)count);
    int64_t i = 0;
    cJSON_ArrayForEach(item, list)
    {
        if (!cJSON_IsNumber(item) || !isfinite(item->valuedouble))
            return fail(STATUS_INPUT, "%s: '%s' has no number at place %lld", name, key, (long long)i);
        number[i++] = item->valuedouble;
    }
    return OK;
}

/* Ascending x in [0, 1], y in [0, 1]; of histograms the last x is 1. */
static Status check_map(const char *name, int64_t k, bool to_one, const CalibratorMap *map)
{
    bool good = !to_one || map->x[map->count - 1] == 1;
    for (int64_t i = 0; i < map->count; ++i)
        good = good && map->x[i] >= 0 && map->x[i] <= 1 && map->y[i] >= 0 && map->y[i] <= 1 &&
               (i == 0 || map->x[i] > map->x[i - 1]);
    if (good) return OK;
    return fail(STATUS_INPUT, "%s: the map of class %lld is none: 'x' ascends in 0..1%s, and 'y' is in 0..1",
                name, (long long)k, to_one ? " up to 1" : "");
}

static Status read_maps(const char *name, const cJSON *root, Calibrator *calibrator)
{
    const cJSON *list = item_of(root, "by_class"), *item;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != calibrator->classes)
        return fail(STATUS_INPUT, "%s: 'by_class' is a list of %lld maps", name,
                    (long long)calibrator->classes);
    int64_t k = 0;
    cJSON_ArrayForEach(item, list)
    {
        CalibratorMap *map = &calibrator->map[k];
        map->count = cJSON_GetArraySize(item_of(item, "x"));
        if (map->count < 1) return fail(STATUS_INPUT, "%s: class %lld has no map", name, (long long)k);
        TRY(memory_new(&map->x, (size_t)map->count, sizeof *map->x, "a map of probabilities"));
        TRY(memory_new(&map->y, (size_t)map->count, sizeof *map->y, "a map of probabilities"));
        TRY(read_numbers(name, item, "x", map->count, map->x));
        TRY(read_numbers(name, item, "y", map->count, map->y));
        TRY(check_map(name, k, calibrator->settings.method == CALIBRATOR_HISTOGRAM, map));
        /* Bins of equal width are found by their number. */
        const bool equal_width =
            calibrator->settings.method == CALIBRATOR_HISTOGRAM && !calibrator->settings.equal_mass;
        if (equal_width && map->count != calibrator->settings.bins)
            return fail(STATUS_INPUT, "%s: class %lld has %lld bins, not %d", name, (long long)k,
                        (long long)map->count, calibrator->settings.bins);
        ++k;
    }
    return OK;
}

static Status read_head(const char *name, const cJSON *root, CalibratorSettings *settings, int64_t *classes)
{
    if (!cJSON_IsObject(root) || !word_is(root, "format", format_name))
        return fail(STATUS_INPUT, "%s is no calibrator: plumb evaluate --save-calibrator writes them", name);
    const double version = number_or(root, "version", 0);
    if (!(version >= 1)) return fail(STATUS_INPUT, "%s: the calibrator has no version", name);
    if (version > VERSION)
        return fail(
            STATUS_INPUT,
            "%s: the calibrator is of version %g, and this plumb reads up to version %d: use a newer plumb",
            name, version, VERSION);
    const cJSON *method = item_of(root, "method");
    int found = -1;
    for (int i = 0; i < CALIBRATOR_METHODS && cJSON_IsString(method); ++i)
        if (strcmp(method->valuestring, calibrator_name((CalibratorMethod)i)) == 0) found = i;
    if (found < 0)
        return fail(STATUS_INPUT, "%s: the calibrator's method is %s, which this plumb does not know", name,
                    cJSON_IsString(method) ? method->valuestring : "not given");
    const double number = number_or(root, "classes", 0), bins = number_or(root, "bins", 0);
    if (!(number >= 2 && number <= MOST_CLASSES) || number != floor(number))
        return fail(STATUS_INPUT, "%s: 'classes' is a whole number from 2", name);
    *classes = (int64_t)number;
    *settings = (CalibratorSettings){.method = (CalibratorMethod)found,
                                     .on_log_probabilities = word_is(root, "on", on_names[1]),
                                     .lambda = number_or(root, "lambda", 0),
                                     .mu = number_or(root, "mu", 0),
                                     .bins = bins >= 0 && bins <= 1e9 ? (int)bins : 0,
                                     .equal_mass = word_is(root, "scheme", scheme_names[1])};
    bool known = false;
    for (int i = 0; i < 3; ++i)
        known = known || word_is(root, "on", on_names[i]);
    return known ? OK : fail(STATUS_INPUT, "%s: 'on' is logits, log_probabilities or probabilities", name);
}

/* What was fitted is there before memory for it: a few bytes cannot ask for gigabytes. */
static Status check_room(const char *name, const cJSON *root, const CalibratorKind *kind, int64_t classes)
{
    if (classes > 1 << 15 && kind->weights(classes) > classes)
        return fail(STATUS_INPUT, "%s: a matrix for %lld classes", name, (long long)classes);
    if (kind->weights(classes) > 0 && cJSON_GetArraySize(item_of(root, "weights")) != kind->weights(classes))
        return fail(STATUS_INPUT, "%s: 'weights' is a list of %lld numbers", name,
                    (long long)kind->weights(classes));
    if (kind->has_maps && cJSON_GetArraySize(item_of(root, "by_class")) != classes)
        return fail(STATUS_INPUT, "%s: 'by_class' is a list of %lld maps", name, (long long)classes);
    return OK;
}

static Status read_root(const char *name, const cJSON *root, Calibrator *calibrator)
{
    CalibratorSettings settings;
    int64_t classes;
    TRY(read_head(name, root, &settings, &classes));
    const CalibratorKind *kind = calibrator_kind(settings.method);
    TRY(check_room(name, root, kind, classes));
    TRY(calibrator_new(&settings, classes, calibrator));
    if (calibrator->weight != NULL)
        TRY(read_numbers(name, root, "weights", kind->weights(classes), calibrator->weight));
    if (calibrator->bias != NULL)
        TRY(read_numbers(name, root, "biases", kind->biases(classes), calibrator->bias));
    if (kind->has_maps) TRY(read_maps(name, root, calibrator));
    const cJSON *fit = item_of(root, "fit");
    calibrator->samples = count_or(fit, "samples", 0);
    calibrator->objective = number_or(fit, "objective", NAN);
    calibrator->gap = number_or(fit, "gap", INFINITY);
    calibrator->finished = cJSON_IsTrue(item_of(fit, "finished"));
    calibrator->missing = count_or(fit, "missing_classes", 0);
    calibrator->first_missing = count_or(fit, "first_missing_class", -1);
    return OK;
}

Status calibrator_parse(const char *name, const char *text, Calibrator *calibrator)
{
    *calibrator = (Calibrator){.classes = 0};
    cJSON *root = cJSON_ParseWithOpts(text, NULL, true);
    if (root == NULL) return fail(STATUS_INPUT, "%s is no calibrator: it is not JSON", name);
    const Status status = read_root(name, root, calibrator);
    cJSON_Delete(root);
    return status;
}

Status calibrator_read(const char *path, Calibrator *calibrator)
{
    char *text;
    size_t size;
    *calibrator = (Calibrator){.classes = 0};
    TRY(file_read(path, (size_t)1 << 32, &text, &size));
    const Status status = calibrator_parse(path, text, calibrator);
    free(text);
    return status;
}
