#include "nlp/document_source.h"

#include "engine/base/memory.h"

#include <stdlib.h>

enum { TOKENS, TARGET, WEIGHT, SAMPLE, FIELDS };
enum { WINDOW = 32 /* batches whose documents are sorted by length together */ };

typedef struct {
    Source source; /* first */
    DocumentSourceOptions options;
    int shapes;
    BatchShape shape[BATCH_MAX_SHAPES];
    int64_t *needed;      /* [count] positions of each document */
    int64_t first, count; /* in evaluation: this rank's share of the split */
    DocumentEpoch epoch;  /* in evaluation: of the share */
} DocumentSource;

int document_batch_shapes(const SampleBatches *batches, const BatchLengths *lengths,
                          BatchShape shape[BATCH_MAX_SHAPES])
{
    const int64_t rows = sample_batches_rows(batches);
    for (int i = 0; i < lengths->count; ++i) {
        const int64_t extent[] = {rows, lengths->length[lengths->count - 1 - i]};
        shape[i] = (BatchShape){.rows = rows,
                                .field_count = FIELDS,
                                .field = {[TOKENS] = {"tokens", shape_of(INT32, 2, extent)},
                                          [TARGET] = {"target", shape_of(INT32, 1, &rows)},
                                          [WEIGHT] = {"weight", shape_of(FLOAT32, 1, &rows)},
                                          [SAMPLE] = {"sample", shape_of(INT64, 1, &rows)}}};
    }
    return lengths->count;
}

/* Which shape has so many positions. */
static int shape_for(const DocumentSource *documents, int64_t length)
{
    for (int i = 0; i < documents->shapes; ++i)
        if (documents->shape[i].field[TOKENS].shape.extent[1] == length) return i;
    return 0;
}

static void fill_part(const DocumentSource *documents, int64_t number, int p, BatchPart *part)
{
    const DocumentSourceOptions *options = &documents->options;
    const BatchShape *shape = &documents->shape[part->shape];
    const int64_t length = shape->field[TOKENS].shape.extent[1];
    int32_t *tokens = part->field[TOKENS], *target = part->field[TARGET];
    float *weight = part->field[WEIGHT];
    int64_t *sample = part->field[SAMPLE];
    for (int64_t i = 0; i < shape->rows; ++i) {
        bool padding;
        int64_t place = sample_batches_place(&options->batches, options->count, number, p, i, &padding);
        /* A document of the batch itself, since others may be longer. */
        if (padding && options->batches.training) place = number * options->batches.batch;
        sample[i] = documents->first + documents->epoch.order[place - documents->first];
        target[i] = options->label[sample[i]];
        weight[i] = padding ? 0.0F : 1.0F;
        document_ids_fill(options->ids, &options->document[sample[i]], 1, length, tokens + i * length);
    }
}

static Status fill(Source *source, int64_t number, Batch *batch)
{
    const DocumentSource *documents = (const DocumentSource *)source;
    const DocumentSourceOptions *options = &documents->options;
    sample_batches_begin(&options->batches, options->count, number, batch);
    for (int p = 0; p < batch->parts; ++p) {
        batch->part[p].shape = shape_for(documents, documents->epoch.length[number]);
        fill_part(documents, number, p, &batch->part[p]);
    }
    return OK;
}

static int64_t batches(const Source *source, int64_t epoch)
{
    (void)epoch;
    const DocumentSource *documents = (const DocumentSource *)source;
    return sample_batches_count(&documents->options.batches, documents->options.count);
}

static Status start(Source *source, int64_t epoch)
{
    DocumentSource *documents = (DocumentSource *)source;
    const DocumentSourceOptions *options = &documents->options;
    const bool training = options->batches.training;
    const DocumentBatchOptions order = {.batch = training ? options->batches.batch
                                                          : sample_batches_rows(&options->batches),
                                        .margin = options->margin,
                                        .window = training ? WINDOW : 0,
                                        .shuffle = training,
                                        .seed = options->batches.seed};
    document_epoch_free(&documents->epoch);
    if (documents->count == 0) return OK; /* more ranks than documents */
    return document_batches(documents->needed + documents->first, documents->count, &options->lengths, &order,
                            epoch, &documents->epoch);
}

static void release(Source *source)
{
    DocumentSource *documents = (DocumentSource *)source;
    document_epoch_free(&documents->epoch);
    free(documents->needed);
    free(documents);
}

Status document_source_open(const DocumentSourceOptions *options, Source **out)
{
    *out = NULL;
    TRY(sample_batches_check(&options->batches, options->count, options->dataset, options->split));
    DocumentSource *documents;
    TRY(memory_new(&documents, 1, sizeof *documents, "a source of documents"));
    documents->options = *options;
    documents->shapes = document_batch_shapes(&options->batches, &options->lengths, documents->shape);
    documents->source = (Source){.shape_count = documents->shapes,
                                 .shape = documents->shape,
                                 .parts = options->batches.parts,
                                 .workers = 1,
                                 .batches = batches,
                                 .start = start,
                                 .fill = fill,
                                 .free = release};
    documents->count = options->count;
    if (!options->batches.training)
        share_of_rank(options->count, options->batches.rank, options->batches.ranks, &documents->first,
                      &documents->count);
    Status status =
        memory_new(&documents->needed, (size_t)options->count, sizeof *documents->needed, "documents");
    if (status != OK) {
        release(&documents->source);
        return status;
    }
    for (int64_t i = 0; i < options->count; ++i)
        documents->needed[i] = document_ids_length(options->ids, options->document[i]);
    *out = &documents->source;
    return OK;
}
