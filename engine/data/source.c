#include "engine/data/source.h"

#include "engine/base/log.h"

#include <string.h>

const char *split_name(Split split)
{
    static const char *const names[SPLIT_COUNT] = {"train", "validation", "test"};
    return names[split];
}

void source_free(Source *source)
{
    if (source != NULL) source->free(source);
}

int batch_shape_find(const BatchShape *shape, const char *name)
{
    for (int i = 0; i < shape->field_count; ++i)
        if (strcmp(shape->field[i].name, name) == 0) return i;
    return -1;
}

size_t source_field_bytes(const Source *source, int field)
{
    size_t most = 0;
    for (int i = 0; i < source->shape_count; ++i) {
        const size_t bytes = shape_bytes(source->shape[i].field[field].shape);
        if (bytes > most) most = bytes;
    }
    return most;
}

/* ---- batches of samples ---- */

void share_of_rank(int64_t total, int rank, int size, int64_t *first, int64_t *count)
{
    const int64_t each = total / size, more = total % size; /* the first `more` ranks take one more */
    *first = each * rank + (rank < more ? rank : more);
    *count = each + (rank < more ? 1 : 0);
}

Status sample_batches_check(const SampleBatches *batches, int64_t samples, const char *dataset, Split split)
{
    if (batches->ranks < 1 || batches->rank < 0 || batches->rank >= batches->ranks)
        return fail(STATUS_INTERNAL, "batches: rank %d of %d", batches->rank, batches->ranks);
    if (batches->batch < 1) return fail(STATUS_INPUT, "a batch of %lld samples", (long long)batches->batch);
    if (batches->parts < 1 || batches->batch % ((int64_t)batches->ranks * batches->parts) != 0)
        return fail(STATUS_INPUT, "a batch of %lld samples cannot be shared equally by %d ranks%s",
                    (long long)batches->batch, batches->ranks,
                    batches->parts != 1 ? " and the micro-batches" : "");
    if (samples < 1) return fail(STATUS_INPUT, "%s: the %s split is empty", dataset, split_name(split));
    if (samples > INT64_MAX - batches->batch)
        return fail(STATUS_INPUT, "a batch of %lld samples", (long long)batches->batch);
    if (batches->training && samples < batches->batch && batches->rank == 0)
        log_warning("%s: a batch of %lld samples is larger than the %s split, which has %lld: every step is "
                    "padded with samples of weight 0",
                    dataset, (long long)batches->batch, split_name(split), (long long)samples);
    return OK;
}

int64_t sample_batches_rows(const SampleBatches *batches)
{
    return batches->batch / ((int64_t)batches->ranks * batches->parts);
}

int64_t sample_batches_count(const SampleBatches *batches, int64_t samples)
{
    if (batches->training) return (samples + batches->batch - 1) / batches->batch;
    int64_t first, count;
    share_of_rank(samples, batches->rank, batches->ranks, &first, &count);
    const int64_t rows = sample_batches_rows(batches) * batches->parts;
    return (count + rows - 1) / rows;
}

/* The first place of this rank's rows in the batch, and how many there are that are no padding. */
static void own_rows(const SampleBatches *batches, int64_t samples, int64_t number, int64_t *first,
                     int64_t *count)
{
    const int64_t rows = sample_batches_rows(batches) * batches->parts;
    int64_t end;
    if (batches->training) {
        *first = number * batches->batch + batches->rank * rows;
        end = samples;
    } else {
        share_of_rank(samples, batches->rank, batches->ranks, first, &end);
        end += *first;
        *first += number * rows;
    }
    *count = end - *first;
    if (*count < 0) *count = 0;
    if (*count > rows) *count = rows;
}

void sample_batches_begin(const SampleBatches *batches, int64_t samples, int64_t number, Batch *batch)
{
    const int64_t rows = sample_batches_rows(batches);
    int64_t first, count;
    own_rows(batches, samples, number, &first, &count);
    batch->number = number;
    batch->parts = batches->parts;
    batch->samples = count;
    if (batches->training) {
        batch->samples = samples - number * batches->batch;
        if (batch->samples > batches->batch) batch->samples = batches->batch;
    }
    batch->total = (double)batch->samples;
    for (int p = 0; p < batches->parts; ++p) {
        int64_t here = count - p * rows;
        if (here < 0) here = 0;
        if (here > rows) here = rows;
        batch->part[p].shape = 0;
        batch->part[p].first = first + p * rows;
        batch->part[p].padding = rows - here;
    }
}

int64_t sample_batches_place(const SampleBatches *batches, int64_t samples, int64_t number, int part,
                             int64_t row, bool *padding)
{
    int64_t first, count;
    own_rows(batches, samples, number, &first, &count);
    row += part * sample_batches_rows(batches);
    *padding = row >= count;
    if (!*padding) return first + row;
    return batches->training ? 0 : first;
}
