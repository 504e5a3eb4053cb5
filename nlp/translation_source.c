#include "nlp/translation_source.h"

#include "engine/base/memory.h"

#include <stdlib.h>
#include <string.h>

enum { SOURCE, SOURCE_LENGTH, TARGET_INPUT, TARGET_LENGTH, TARGET, WEIGHT, SAMPLE, FIELDS };

/* How a batch of a shape is shared: each rank has `parts` parts of `rows` rows. */
typedef struct {
    int64_t rows;
    int parts;
} Rows;

typedef struct {
    Source source; /* first */
    TranslationSourceOptions options;
    BatchShape shape[BATCH_MAX_SHAPES];
    Rows rows[BATCH_MAX_SHAPES];
    int *shape_of;                   /* [count] */
    int64_t pairs[BATCH_MAX_SHAPES]; /* of each shape */
    TokenEpoch epoch;                /* in evaluation: of this rank's share, the same every time */
} TranslationSource;

static Rows rows_of(const TokenShape *shape, const TokenShare *share)
{
    const int64_t longest = shape->source > shape->target ? shape->source : shape->target;
    const int ranks = share->training ? share->ranks : 1; /* in evaluation a rank's batches are its own */
    const int64_t own = (shape->pairs + ranks - 1) / ranks;
    const int64_t fit = share->part_tokens > longest ? share->part_tokens / longest : 1;
    if (!share->training) return (Rows){.rows = own < fit ? own : fit, .parts = 1};
    const int64_t parts = (own + fit - 1) / fit;
    return (Rows){.rows = (own + parts - 1) / parts, .parts = (int)parts};
}

int translation_batch_shapes(const TokenShapes *shapes, const TokenShare *share,
                             BatchShape shape[BATCH_MAX_SHAPES])
{
    for (int i = 0; i < shapes->count; ++i) {
        const int64_t n = rows_of(&shapes->shape[i], share).rows;
        const int64_t source[] = {n, shapes->shape[i].source}, target[] = {n, shapes->shape[i].target};
        const int64_t rows = n * target[1];
        shape[i] = (BatchShape){.rows = rows,
                                .field_count = FIELDS,
                                .field = {[SOURCE] = {"source", shape_of(INT32, 2, source)},
                                          [SOURCE_LENGTH] = {"source_length", shape_of(INT32, 1, &n)},
                                          [TARGET_INPUT] = {"target_input", shape_of(INT32, 2, target)},
                                          [TARGET_LENGTH] = {"target_length", shape_of(INT32, 1, &n)},
                                          [TARGET] = {"target", shape_of(INT32, 1, &rows)},
                                          [WEIGHT] = {"weight", shape_of(FLOAT32, 1, &rows)},
                                          [SAMPLE] = {"sample", shape_of(INT64, 1, &n)}}};
    }
    return shapes->count;
}

/* ---- rows ---- */

static void fill_rest(int32_t row[], int64_t from, int64_t to)
{
    for (int64_t i = from; i < to; ++i)
        row[i] = SUBWORD_PADDING;
}

static void fill_row(const TranslationSource *translation, int64_t item, int64_t row, const TokenShape *shape,
                     BatchPart *part)
{
    const TranslationSourceOptions *options = &translation->options;
    int32_t *source = (int32_t *)part->field[SOURCE] + row * shape->source;
    int32_t *input = (int32_t *)part->field[TARGET_INPUT] + row * shape->target;
    int32_t *target = (int32_t *)part->field[TARGET] + row * shape->target;
    float *weight = (float *)part->field[WEIGHT] + row * shape->target;
    int64_t sources = 0, targets = 0;
    if (item >= 0) {
        const int64_t pair = options->pair[item];
        sources = encoded_length(options->corpus, SOURCE_SIDE, pair) + 1;
        targets = encoded_length(options->corpus, TARGET_SIDE, pair) + 1;
        encoded_ids(options->corpus, SOURCE_SIDE, pair, source);
        source[sources - 1] = SUBWORD_END;
        encoded_ids(options->corpus, TARGET_SIDE, pair, target);
        target[targets - 1] = SUBWORD_END;
        input[0] = SUBWORD_START;
        memcpy(input + 1, target, (size_t)(targets - 1) * sizeof *input);
    }
    fill_rest(source, sources, shape->source);
    fill_rest(input, targets, shape->target);
    fill_rest(target, targets, shape->target);
    for (int64_t i = 0; i < shape->target; ++i)
        weight[i] = i < targets ? 1.0F : 0.0F;
    ((int32_t *)part->field[SOURCE_LENGTH])[row] = (int32_t)sources;
    ((int32_t *)part->field[TARGET_LENGTH])[row] = (int32_t)targets;
    ((int64_t *)part->field[SAMPLE])[row] = item >= 0 ? item : 0;
}

static int64_t tokens_of(const TranslationSource *translation, int64_t first, int64_t end)
{
    const TranslationSourceOptions *options = &translation->options;
    int64_t tokens = 0;
    for (int64_t i = first; i < end; ++i)
        tokens +=
            1 + encoded_length(options->corpus, TARGET_SIDE, options->pair[translation->epoch.order[i]]);
    return tokens;
}

static Status fill(Source *source, int64_t number, Batch *batch)
{
    const TranslationSource *translation = (const TranslationSource *)source;
    const TokenEpoch *epoch = &translation->epoch;
    const int index = epoch->shape[number];
    const TokenShape *shape = &translation->options.shapes->shape[index];
    const Rows rows = translation->rows[index];
    const int64_t first = epoch->first[number], end = epoch->first[number + 1];
    const TokenShare *share = &translation->options.share;
    const int64_t own = first + (share->training ? share->rank * rows.rows * rows.parts : 0);
    batch->number = number;
    batch->samples = tokens_of(translation, first, end);
    batch->total = (double)batch->samples;
    batch->parts = rows.parts;
    for (int p = 0; p < rows.parts; ++p) {
        BatchPart *part = &batch->part[p];
        const int64_t start = own + p * rows.rows;
        part->shape = index;
        part->first = start;
        part->padding = 0;
        for (int64_t row = 0; row < rows.rows; ++row) {
            const bool real = start + row < end;
            fill_row(translation, real ? epoch->order[start + row] : -1, row, shape, part);
            part->padding += !real;
        }
    }
    return OK;
}

/* ---- order ---- */

static int64_t batches(const Source *source, int64_t epoch)
{
    (void)epoch; /* all have as many */
    const TranslationSource *translation = (const TranslationSource *)source;
    return translation->options.share.training
               ? token_epoch_batches(translation->options.shapes, translation->pairs)
               : translation->epoch.batches;
}

static Status start(Source *source, int64_t epoch)
{
    TranslationSource *translation = (TranslationSource *)source;
    const TranslationSourceOptions *options = &translation->options;
    if (!options->share.training) return OK;
    token_epoch_free(&translation->epoch);
    return token_epoch_make(options->shapes, translation->shape_of, options->count, options->share.seed,
                            epoch, &translation->epoch);
}

/* This rank's share of the split, the longest shapes first; within a shape in the split's order. */
static Status plan_evaluation(TranslationSource *translation)
{
    const TranslationSourceOptions *options = &translation->options;
    TokenEpoch *epoch = &translation->epoch;
    int64_t *sorted, first, count;
    share_of_rank(options->count, options->share.rank, options->share.ranks, &first, &count);
    TRY(memory_new(&sorted, (size_t)options->count, sizeof *sorted, "the order of sentences"));
    epoch->order = sorted;
    int64_t at = 0;
    for (int shape = 0; shape < options->shapes->count; ++shape)
        for (int64_t i = 0; i < options->count; ++i)
            if (translation->shape_of[i] == shape) sorted[at++] = i;
    memmove(sorted, sorted + first, (size_t)count * sizeof *sorted);
    TRY(memory_new(&epoch->first, (size_t)count + 1, sizeof *epoch->first, "the order of batches"));
    TRY(memory_new(&epoch->shape, (size_t)count + 1, sizeof *epoch->shape, "the order of batches"));
    for (int64_t i = 0; i < count;) {
        const int shape = translation->shape_of[sorted[i]];
        epoch->shape[epoch->batches] = shape;
        epoch->first[epoch->batches++] = i;
        const int64_t last = i + translation->rows[shape].rows;
        while (i < last && i < count && translation->shape_of[sorted[i]] == shape)
            ++i;
    }
    epoch->first[epoch->batches] = count;
    return OK;
}

static void release(Source *source)
{
    TranslationSource *translation = (TranslationSource *)source;
    token_epoch_free(&translation->epoch);
    free(translation->shape_of);
    free(translation);
}

static Status find_shapes(TranslationSource *translation)
{
    const TranslationSourceOptions *options = &translation->options;
    TRY(memory_new(&translation->shape_of, (size_t)options->count, sizeof *translation->shape_of,
                   "sentences"));
    for (int64_t i = 0; i < options->count; ++i) {
        const PairLength length = {
            .source = (int32_t)encoded_length(options->corpus, SOURCE_SIDE, options->pair[i]) + 1,
            .target = (int32_t)encoded_length(options->corpus, TARGET_SIDE, options->pair[i]) + 1};
        const int shape = token_shape_for(options->shapes, length);
        if (shape < 0)
            return fail(STATUS_INTERNAL, "sentence %lld fits no shape", (long long)options->pair[i]);
        translation->shape_of[i] = shape;
        ++translation->pairs[shape];
    }
    return OK;
}

Status translation_source_open(const TranslationSourceOptions *options, Source **out)
{
    TranslationSource *translation;
    *out = NULL;
    if (options->count < 1) return fail(STATUS_INPUT, "there is no sentence to make batches of");
    TRY(memory_new(&translation, 1, sizeof *translation, "a source of sentences"));
    translation->options = *options;
    translation->source = (Source){
        .shape_count = translation_batch_shapes(options->shapes, &options->share, translation->shape),
        .shape = translation->shape,
        .workers = 1,
        .batches = batches,
        .start = start,
        .fill = fill,
        .free = release};
    for (int i = 0; i < options->shapes->count; ++i) {
        translation->rows[i] = rows_of(&options->shapes->shape[i], &options->share);
        if (translation->rows[i].parts > translation->source.parts)
            translation->source.parts = translation->rows[i].parts;
    }
    Status status = find_shapes(translation);
    if (status == OK && !options->share.training) status = plan_evaluation(translation);
    if (status != OK) {
        release(&translation->source);
        return status;
    }
    *out = &translation->source;
    return OK;
}
