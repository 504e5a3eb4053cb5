#include "engine/plan/checkpoint_average.h"

#include "engine/base/memory.h"
#include "engine/base/safetensors.h"
#include "engine/plan/checkpoint.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *const *paths;
    SafeFile **file;
    int count;
} Models;

static const SafeFile *newest(const Models *models) { return models->file[models->count - 1]; }

/* ---- that they are of one network ---- */

static Status check_metadata(const Models *models, int i)
{
    static const char *const keys[] = {"plumb.format", "vocabulary"};
    for (size_t k = 0; k < sizeof keys / sizeof keys[0]; ++k) {
        const char *a = safetensors_metadata(models->file[i], keys[k]);
        const char *b = safetensors_metadata(newest(models), keys[k]);
        if ((a == NULL) != (b == NULL) || (a != NULL && strcmp(a, b) != 0))
            return fail(STATUS_INPUT, "%s and %s are not of one run: %s is %s and %s", models->paths[i],
                        models->paths[models->count - 1], keys[k], a != NULL ? a : "absent",
                        b != NULL ? b : "absent");
    }
    return OK;
}

static bool same_form(const SafeTensor *a, const SafeTensor *b)
{
    bool same = a->type == b->type && a->rank == b->rank;
    for (int i = 0; same && i < a->rank; ++i)
        same = a->extent[i] == b->extent[i];
    return same;
}

static Status check_tensors(const Models *models, int i)
{
    const SafeFile *one = models->file[i], *last = newest(models);
    for (int t = 0; t < safetensors_count(last); ++t) {
        const SafeTensor *want = safetensors_at(last, t), *have = safetensors_find(one, want->name);
        if (have == NULL || !same_form(have, want))
            return fail(STATUS_INPUT, "%s %s %s. Is it of another network than %s?", models->paths[i],
                        have == NULL ? "has no tensor" : "has another shape or type of", want->name,
                        models->paths[models->count - 1]);
    }
    if (safetensors_count(one) != safetensors_count(last))
        return fail(STATUS_INPUT, "%s holds tensors that %s does not have", models->paths[i],
                    models->paths[models->count - 1]);
    return OK;
}

/* ---- the mean ---- */

static Status average_tensor(const Models *models, const SafeTensor *tensor, float *mean)
{
    const size_t elements = tensor->bytes / sizeof(float);
    double *sum;
    TRY(memory_new(&sum, elements + 1, sizeof *sum, tensor->name));
    for (int i = 0; i < models->count; ++i) {
        const float *values = safetensors_find(models->file[i], tensor->name)->data;
        for (size_t e = 0; e < elements; ++e)
            sum[e] += (double)values[e];
    }
    Status status = OK;
    for (size_t e = 0; e < elements && status == OK; ++e) {
        mean[e] = (float)(sum[e] / models->count);
        if (!isfinite(sum[e]))
            status =
                fail(STATUS_INPUT, "%s is not finite in all of the models: element %zu", tensor->name, e);
    }
    free(sum);
    return status;
}

/* A tensor of the result: the mean in memory of its own, *owned, or the newest's. */
static Status make_tensor(const Models *models, const SafeTensor *tensor, SafeTensor *out, void **owned)
{
    *out = *tensor;
    *owned = NULL;
    if (tensor->type == FLOAT64 || tensor->type == BFLOAT16)
        return fail(STATUS_UNSUPPORTED, "%s: %s is %s; models of plumb are float32",
                    models->paths[models->count - 1], tensor->name, dtype_name(tensor->type));
    if (tensor->type != FLOAT32) return OK;
    TRY(memory_new(owned, tensor->bytes + 1, 1, tensor->name));
    out->data = *owned;
    return average_tensor(models, tensor, *owned);
}

/* ---- the file ---- */

/* "100 200 300"; release with free(). */
static Status steps_text(const Models *models, char **text)
{
    TRY(text_copy("", text));
    for (int i = 0; i < models->count; ++i) {
        const char *step = safetensors_metadata(models->file[i], "step");
        char *longer;
        const Status status =
            text_format(&longer, "%s%s%s", *text, i > 0 ? " " : "", step != NULL ? step : "?");
        free(*text);
        *text = status == OK ? longer : NULL;
        TRY(status);
    }
    return OK;
}

static Status write_file(const Models *models, const SafeTensor tensors[], const char *output)
{
    static const char *const keys[] = {"plumb.format", "step", "epoch", "vocabulary"};
    enum { KEYS = sizeof keys / sizeof keys[0] };
    SafeMetadata metadata[KEYS + 1];
    int rows = 0;
    char *steps;
    TRY(steps_text(models, &steps));
    for (int k = 0; k < KEYS; ++k) {
        const char *value = safetensors_metadata(newest(models), keys[k]);
        if (value != NULL) metadata[rows++] = (SafeMetadata){keys[k], value};
    }
    metadata[rows++] = (SafeMetadata){"averaged", steps};
    const Status status =
        safetensors_write(output, tensors, safetensors_count(newest(models)), metadata, rows);
    free(steps);
    return status;
}

static Status make_and_write(const Models *models, const char *output)
{
    const int tensors = safetensors_count(newest(models));
    SafeTensor *tensor;
    void **owned = NULL;
    TRY(memory_new(&tensor, (size_t)tensors + 1, sizeof *tensor, "the mean"));
    Status status = memory_new(&owned, (size_t)tensors + 1, sizeof *owned, "the mean");
    for (int t = 0; t < tensors && status == OK; ++t)
        status = make_tensor(models, safetensors_at(newest(models), t), &tensor[t], &owned[t]);
    if (status == OK) status = write_file(models, tensor, output);
    for (int t = 0; t < tensors && owned != NULL; ++t)
        free(owned[t]);
    free(owned);
    free(tensor);
    return status;
}

Status checkpoint_average(const char *const paths[], int count, const char *output)
{
    Models models = {.paths = paths, .count = count};
    if (count < 1) return fail(STATUS_INTERNAL, "a mean of no models");
    TRY(memory_new(&models.file, (size_t)count, sizeof(SafeFile *), "models"));
    Status status = OK;
    for (int i = 0; i < count && status == OK; ++i)
        status = safetensors_open(paths[i], &models.file[i]);
    for (int i = 0; i < count && status == OK; ++i) {
        status = check_metadata(&models, i);
        if (status == OK) status = check_tensors(&models, i);
    }
    if (status == OK) status = make_and_write(&models, output);
    for (int i = 0; i < count; ++i)
        safetensors_close(models.file[i]);
    free(models.file);
    return status;
}
