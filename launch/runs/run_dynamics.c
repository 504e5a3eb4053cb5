#include "launch/runs/run_dynamics.h"

#include "engine/base/file.h"
#include "engine/base/memory.h"
#include "launch/runs/run_folder.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RECORDS_LIMIT = 256 << 20, PLACE = PATH_MAX + 32 };

static const cJSON *item_of(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

static double number_of(const cJSON *object, const char *key)
{
    const cJSON *item = item_of(object, key);
    return cJSON_IsNumber(item) && isfinite(item->valuedouble) ? item->valuedouble : NAN;
}

/* ---- dynamics.jsonl ---- */

static Status read_norm_bins(const char *place, const cJSON *bins, RunDynamics *dynamics)
{
    const int count = cJSON_GetArraySize(bins);
    double end = 0;
    if (!cJSON_IsArray(bins))
        return fail(STATUS_INPUT, "%s: gradient_norms.bins is not a list of bins", place);
    TRY(memory_new(&dynamics->gradient_bin, (size_t)count + 1, sizeof *dynamics->gradient_bin, "bins"));
    const cJSON *item = bins->child;
    for (int i = 0; i < count; ++i, item = item->next) {
        RunNormBin *bin = &dynamics->gradient_bin[i];
        *bin = (RunNormBin){number_of(item, "lower"), number_of(item, "upper"), number_of(item, "count")};
        if (cJSON_IsNull(item_of(item, "upper"))) bin->upper = INFINITY;
        const bool endless = bin->lower == 0 && isinf(bin->upper);
        if (!(bin->lower >= end) || !(bin->upper > bin->lower) || endless ||
            !(bin->count >= 0 && bin->count < 0x1p53))
            return fail(STATUS_INPUT, "%s: bin %d of gradient_norms is not a bin that follows the one before",
                        place, i);
        end = bin->upper;
        dynamics->gradient_bins = i + 1;
    }
    return OK;
}

static Status read_gradients(const char *place, const cJSON *object, RunDynamics *dynamics)
{
    if (!cJSON_IsObject(object)) return OK;
    dynamics->gradient_samples = number_of(object, "samples");
    dynamics->gradient_mean = number_of(object, "mean");
    if (!(dynamics->gradient_samples > 0))
        return fail(STATUS_INPUT, "%s: gradient_norms lacks its number of samples", place);
    return read_norm_bins(place, item_of(object, "bins"), dynamics);
}

static Status read_reliability(const char *place, const cJSON *object, RunDynamics *dynamics)
{
    RunMeasure *measure = &dynamics->reliability;
    double samples = 0, confidence = 0;
    if (!cJSON_IsObject(object)) return OK;
    measure->error = number_of(object, "error");
    measure->ece = number_of(object, "ece");
    TRY(run_measure_read_bins(place, "train_reliability", item_of(object, "bins"), measure));
    for (int i = 0; i < measure->bins; ++i) {
        samples += (double)measure->bin[i].count;
        confidence += (double)measure->bin[i].count * measure->bin[i].confidence;
    }
    measure->mean_confidence = confidence / samples;
    return OK;
}

static Status read_line(const char *place, const cJSON *object, RunDynamics *dynamics)
{
    *dynamics = (RunDynamics){.epoch = number_of(object, "epoch"),
                              .gradient_samples = NAN,
                              .gradient_mean = NAN,
                              .reliability = {.error = NAN, .ece = NAN, .mean_confidence = NAN}};
    if (!(dynamics->epoch > 0 && dynamics->epoch < 0x1p53))
        return fail(STATUS_INPUT, "%s: not an object with an epoch; damaged", place);
    TRY(read_gradients(place, item_of(object, "gradient_norms"), dynamics));
    return read_reliability(place, item_of(object, "train_reliability"), dynamics);
}

Status run_records_parse_dynamics(RunRecords *records, const char *path, const char *text, size_t size)
{
    char place[PLACE];
    size_t capacity = 0;
    int line = 0;
    Status status = OK;
    for (size_t at = 0; at < size && status == OK;) {
        const char *end = memchr(text + at, '\n', size - at);
        if (end == NULL) break; /* half a line: the run is writing it, or died while it did */
        const size_t length = (size_t)(end - (text + at));
        (void)snprintf(place, sizeof place, "%s:%d", path, ++line);
        TRY(memory_grow(&records->dynamics, &capacity, (size_t)records->dynamics_count + 1,
                        sizeof *records->dynamics, "lines of dynamics.jsonl"));
        cJSON *object = cJSON_ParseWithLength(text + at, length);
        RunDynamics *dynamics = &records->dynamics[records->dynamics_count++];
        status = read_line(place, object, dynamics);
        if (status != OK) dynamics->gradient_bins = dynamics->reliability.bins = 0;
        cJSON_Delete(object);
        at += length + 1;
    }
    return status;
}

/* ---- best_models.json ---- */

static Status read_text(const char *path, const cJSON *object, const char *key, char text[], size_t size)
{
    const char *value = cJSON_GetStringValue(item_of(object, key));
    if (value != NULL && (size_t)snprintf(text, size, "%s", value) < size) return OK;
    return fail(STATUS_INPUT, "%s: a model without a usable \"%s\"", path, key);
}

static Status read_best_model(const char *path, const cJSON *object, RunBestModel *model)
{
    model->epoch = number_of(object, "epoch");
    TRY(read_text(path, object, "measure", model->measure, sizeof model->measure));
    TRY(read_text(path, object, "checkpoint", model->checkpoint, sizeof model->checkpoint));
    return run_summary_read_evaluation(&model->evaluated, path, item_of(object, "evaluation"));
}

static Status read_best_models(const char *path, const cJSON *root, RunRecords *records)
{
    const cJSON *models = item_of(root, "models");
    const int count = cJSON_IsArray(models) ? cJSON_GetArraySize(models) : 0;
    if (!cJSON_IsArray(models)) return fail(STATUS_INPUT, "%s: not a list of models; damaged", path);
    TRY(memory_new(&records->best, (size_t)count + 1, sizeof *records->best, "best models"));
    const cJSON *item = models->child;
    for (int i = 0; i < count; ++i, item = item->next) {
        records->best_count = i + 1;
        TRY(read_best_model(path, item, &records->best[i]));
    }
    return OK;
}

Status run_records_parse_best_models(RunRecords *records, const char *path, const char *text, size_t size)
{
    cJSON *root = cJSON_ParseWithLength(text, size);
    const Status status = read_best_models(path, root, records);
    cJSON_Delete(root);
    return status;
}

/* ---- both ---- */

Status run_records_read(const char *folder, RunRecords *records)
{
    static const struct {
        const char *file;
        Status (*parse)(RunRecords *, const char *path, const char *text, size_t size);
    } files[] = {{RUN_DYNAMICS, run_records_parse_dynamics},
                 {RUN_BEST_MODELS, run_records_parse_best_models}};
    *records = (RunRecords){.dynamics = NULL};
    Status first = OK;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; ++i) {
        char path[PATH_MAX], *text = NULL;
        size_t size = 0;
        Status status = file_join(path, folder, files[i].file);
        if (status == OK && !file_exists(path)) continue;
        if (status == OK) status = file_read(path, RECORDS_LIMIT, &text, &size);
        if (status == OK) status = files[i].parse(records, path, text, size);
        free(text);
        if (first == OK)
            first = status;
        else
            status_free(status);
    }
    return first;
}

void run_records_free(RunRecords *records)
{
    for (int i = 0; i < records->dynamics_count; ++i) {
        free(records->dynamics[i].gradient_bin);
        free(records->dynamics[i].reliability.bin);
    }
    for (int i = 0; i < records->best_count; ++i)
        run_summary_free_evaluation(&records->best[i].evaluated);
    free(records->dynamics);
    free(records->best);
    *records = (RunRecords){.dynamics = NULL};
}
