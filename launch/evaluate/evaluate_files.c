#include "launch/evaluate/evaluate_files.h"

#include "engine/base/file.h"
#include "engine/base/memory.h"

#include <stdlib.h>
#include <string.h>

/* ---- logits and probabilities ---- */

void file_set_close(FileSet *files)
{
    npy_close(&files->values);
    npy_close(&files->labels);
    free(files->value_copy);
    free(files->label_copy);
    free(files->number);
    *files = (FileSet){.ignored = 0};
}

static Status check_shapes(const SetFiles *names, const FileSet *files)
{
    const Npy *values = &files->values, *labels = &files->labels;
    const char *what = names->probabilities ? "probabilities" : "logits";
    if (values->rank != 2)
        return fail(STATUS_INPUT, "%s: %s have 2 dimensions, samples and classes; this array has %d%s",
                    names->values, what, values->rank,
                    values->rank == 1 ? " (one number a sample, of class 1 of two: save array.reshape(-1, 1))"
                                      : "");
    if (values->type != FLOAT32 && values->type != FLOAT64)
        return fail(STATUS_INPUT, "%s: %s are float16, float32 or float64, not %s", names->values, what,
                    values->stored);
    if (values->extent[0] < 1) return fail(STATUS_INPUT, "%s: there are no samples", names->values);
    if (values->extent[1] < 1) return fail(STATUS_INPUT, "%s: there are no classes", names->values);
    if (names->labels == NULL) return OK;
    if (labels->type != UINT8 && labels->type != INT32 && labels->type != INT64)
        return fail(STATUS_INPUT,
                    "%s: labels are integers, not %s (if they are whole numbers: save array.astype('int64'))",
                    names->labels, labels->stored);
    if (labels->rank != 1)
        return fail(
            STATUS_INPUT,
            "%s: labels have 1 dimension; this array has %d (of one column save array.reshape(-1), of "
            "one-hot rows array.argmax(1))",
            names->labels, labels->rank);
    if (labels->extent[0] != values->extent[0])
        return fail(STATUS_INPUT, "%s has %lld labels, but %s has %lld rows of %s", names->labels,
                    (long long)labels->extent[0], names->values, (long long)values->extent[0], what);
    return OK;
}

/* The rows that count: number[i] is the file's row of this rank's row i. */
static Status leave_out(const World *world, int64_t ignored_label, FileSet *files)
{
    Logits all = files->set, *set = &files->set;
    all.labels = files->labels.data;
    int64_t kept = 0, at = 0;
    for (int64_t row = 0; row < files->labels.extent[0]; ++row)
        kept += logits_label(&all, row) != ignored_label;
    files->ignored = files->labels.extent[0] - kept;
    if (files->ignored == 0) return OK;
    if (kept == 0)
        return fail(STATUS_INPUT, "%s: all labels are %lld, and samples of that label are left out",
                    set->label_name, (long long)ignored_label);
    set->total = kept;
    share_of_rank(kept, world->rank, world->size, &set->first, &set->count);
    TRY(memory_new(&files->number, (size_t)set->count, sizeof *files->number, "row numbers"));
    for (int64_t row = 0; row < files->labels.extent[0]; ++row) {
        if (logits_label(&all, row) == ignored_label) continue;
        if (at >= set->first && at < set->first + set->count) files->number[at - set->first] = row;
        ++at;
    }
    set->number = files->number;
    return OK;
}

static Status copy_labels(FileSet *files)
{
    Logits *set = &files->set;
    const size_t size = dtype_size(set->label_type);
    if (files->number == NULL) {
        set->labels = (const char *)files->labels.data + (size_t)set->first * size;
        return OK;
    }
    TRY(memory_new(&files->label_copy, (size_t)set->count, size, "labels"));
    for (int64_t row = 0; row < set->count; ++row)
        memcpy((char *)files->label_copy + (size_t)row * size,
               (const char *)files->labels.data + (size_t)files->number[row] * size, size);
    set->labels = files->label_copy;
    return OK;
}

/* The second column of one: [0, z], or [1 - p, p], which double precision has exactly enough of. */
static Status copy_column(bool probabilities, FileSet *files)
{
    Logits *set = &files->set;
    double *to;
    TRY(memory_new(&files->value_copy, (size_t)set->count, 2 * sizeof(double), "two columns"));
    to = files->value_copy;
    for (int64_t row = 0; row < set->count; ++row) {
        const int64_t from = logits_row_number(set, row);
        const double value = files->values.type == FLOAT32 ? (double)((const float *)files->values.data)[from]
                                                           : ((const double *)files->values.data)[from];
        to[2 * row] = probabilities ? 1 - value : 0;
        to[2 * row + 1] = value;
    }
    set->type = FLOAT64;
    set->classes = 2;
    set->values = to;
    return OK;
}

static Status copy_values(bool probabilities, FileSet *files)
{
    Logits *set = &files->set;
    if (files->values.extent[1] == 1) return copy_column(probabilities, files);
    const size_t row_bytes = (size_t)set->classes * dtype_size(set->type);
    if (files->number == NULL) {
        set->values = (const char *)files->values.data + (size_t)set->first * row_bytes;
        return OK;
    }
    TRY(memory_new(&files->value_copy, (size_t)set->count, row_bytes, "rows that count"));
    for (int64_t row = 0; row < set->count; ++row)
        memcpy((char *)files->value_copy + (size_t)row * row_bytes,
               (const char *)files->values.data + (size_t)files->number[row] * row_bytes, row_bytes);
    set->values = files->value_copy;
    return OK;
}

Status file_set_open(const World *world, const SetFiles *names, FileSet *files)
{
    *files = (FileSet){.ignored = 0};
    TRY(npy_open(names->values, &files->values));
    if (names->labels != NULL) TRY(npy_open(names->labels, &files->labels));
    TRY(check_shapes(names, files));
    files->set = (Logits){.name = names->values,
                          .label_name = names->labels,
                          .type = files->values.type,
                          .probabilities = names->probabilities,
                          .label_type = files->labels.type,
                          .total = files->values.extent[0],
                          .classes = files->values.extent[1]};
    Logits *set = &files->set;
    share_of_rank(set->total, world->rank, world->size, &set->first, &set->count);
    if (names->labels != NULL) {
        TRY(leave_out(world, names->ignore_label, files));
        TRY(copy_labels(files));
    }
    return copy_values(names->probabilities, files);
}

/* ---- confidences ---- */

void confidence_files_close(ConfidenceFiles *files)
{
    free(files->confidence);
    free(files->correct);
    *files = (ConfidenceFiles){.total = 0};
}

static bool is_list(const Npy *array)
{
    return array->rank == 1 || (array->rank == 2 && array->extent[1] == 1);
}

static Status check_confidences(const char *confidence, const Npy *values, const char *correct,
                                const Npy *right)
{
    if (!is_list(values))
        return fail(STATUS_INPUT, "%s: confidences have 1 dimension, the samples; this array has %d",
                    confidence, values->rank);
    if (values->type != FLOAT32 && values->type != FLOAT64)
        return fail(STATUS_INPUT, "%s: confidences are float16, float32 or float64, not %s", confidence,
                    values->stored);
    if (values->count < 1) return fail(STATUS_INPUT, "%s: there are no samples", confidence);
    if (!is_list(right))
        return fail(STATUS_INPUT, "%s: what is right has 1 dimension, the samples; this array has %d",
                    correct, right->rank);
    if (right->type != UINT8 && right->type != INT32 && right->type != INT64)
        return fail(STATUS_INPUT, "%s: what is right is bool or integers, not %s", correct, right->stored);
    if (right->count != values->count)
        return fail(STATUS_INPUT, "%s has %lld samples, but %s has %lld", correct, (long long)right->count,
                    confidence, (long long)values->count);
    return OK;
}

static Status take_confidences(const World *world, const char *confidence, const Npy *values,
                               const char *correct, const Npy *right, ConfidenceFiles *files)
{
    TRY(check_confidences(confidence, values, correct, right));
    int64_t first, count;
    share_of_rank(values->count, world->rank, world->size, &first, &count);
    TRY(memory_new(&files->confidence, (size_t)count, sizeof *files->confidence, "confidences"));
    TRY(memory_new(&files->correct, (size_t)count, 1, "what is right"));
    const Logits labels = {.label_type = right->type, .labels = right->data};
    for (int64_t i = 0; i < count; ++i) {
        const int64_t row = first + i, hit = logits_label(&labels, row);
        const double value = values->type == FLOAT32 ? (double)((const float *)values->data)[row]
                                                     : ((const double *)values->data)[row];
        if (!(value >= 0 && value <= 1))
            return fail(STATUS_INPUT, "%s: the confidence of row %lld is %g; it must be in 0..1", confidence,
                        (long long)row, value);
        if (hit != 0 && hit != 1)
            return fail(STATUS_INPUT,
                        "%s: row %lld is %lld; it must be 1 where the prediction is right, else 0", correct,
                        (long long)row, (long long)hit);
        files->confidence[i] = value;
        files->correct[i] = (uint8_t)hit;
    }
    files->total = values->count;
    files->set = (ConfidenceSet){
        .name = confidence, .confidence = files->confidence, .correct = files->correct, .count = count};
    return OK;
}

Status confidence_files_open(const World *world, const char *confidence, const char *correct,
                             ConfidenceFiles *files)
{
    Npy values = {.count = 0}, right = {.count = 0};
    *files = (ConfidenceFiles){.total = 0};
    Status status;
    TRY_ELSE(done, npy_open(confidence, &values));
    TRY_ELSE(done, npy_open(correct, &right));
    TRY_ELSE(done, take_confidences(world, confidence, &values, correct, &right, files));
done:
    npy_close(&values);
    npy_close(&right);
    return status;
}
