#include "engine/data/images/image_source.h"

#include "engine/base/memory.h"
#include "engine/base/random.h"

#include <stdlib.h>
#include <string.h>

enum { DECODERS = 4 };

enum { INDEX, CROP, TARGET, WEIGHT, SAMPLE, TABLE };

typedef struct {
    Source source; /* first */
    Dataset *dataset;
    ImageSourceOptions options;
    BatchShape shape;
    int64_t count;  /* samples of the split */
    int64_t *order; /* [count]; NULL in evaluation: the split's own */
    int64_t epoch;
} ImageSource;

static void add_field(BatchShape *shape, const char *name, DType type, int rank, const int64_t extent[])
{
    shape->field[shape->field_count++] = (Field){name, shape_of(type, rank, extent)};
}

void image_batch_shape(const Dataset *dataset, const ImageSourceOptions *options, BatchShape *shape)
{
    const int64_t rows = sample_batches_rows(&options->batches);
    const int64_t crop[] = {rows, 3};
    const int64_t table[] = {rows, dataset->height, dataset->width, dataset->channels};
    *shape = (BatchShape){.rows = rows};
    add_field(shape, "index", INT64, 1, &rows);
    add_field(shape, "crop", INT32, 2, crop);
    add_field(shape, "target", INT32, 1, &rows);
    add_field(shape, "weight", FLOAT32, 1, &rows);
    add_field(shape, "sample", INT64, 1, &rows);
    if (options->streamed) add_field(shape, "table", UINT8, 4, table);
}

static int32_t offset_up_to(uint32_t bits, int64_t highest)
{
    return (int32_t)((uint64_t)bits * (uint64_t)(highest + 1) >> 32);
}

/* Keyed by the sample, not its place in the order: shuffling differently does not change what it looks like.
 */
static void choose_crop(const ImageSource *images, int64_t sample, int32_t crop[3])
{
    const ImageSourceOptions *options = &images->options;
    if (!options->batches.training) {
        crop[0] = crop[1] = crop[2] = 0;
        return;
    }
    const RandomBlock random =
        random_block(options->batches.seed, RANDOM_AUGMENTATION, (uint64_t)images->epoch, (uint64_t)sample);
    crop[0] = offset_up_to(random.word[0], 2 * options->crop_padding);
    crop[1] = offset_up_to(random.word[1], 2 * options->crop_padding);
    crop[2] = options->flip ? (int32_t)(random.word[2] >> 31) : 0;
}

/* The rows go along with the batch. */
static void bring_rows(const ImageSource *images, BatchPart *part)
{
    const Dataset *dataset = images->dataset;
    const uint8_t *table = dataset->split[images->options.split].table;
    const size_t bytes = (size_t)(dataset->height * dataset->width * dataset->channels);
    int64_t *index = part->field[INDEX];
    uint8_t *rows = part->field[TABLE];
    for (int64_t i = 0; i < images->shape.rows; ++i) {
        memcpy(rows + (size_t)i * bytes, table + (size_t)index[i] * bytes, bytes);
        index[i] = i;
    }
}

static Status fill_part(const ImageSource *images, int64_t number, int p, BatchPart *part)
{
    const ImageSourceOptions *options = &images->options;
    const DataSplit *split = &images->dataset->split[options->split];
    int64_t *index = part->field[INDEX], *samples = part->field[SAMPLE];
    int32_t *crop = part->field[CROP], *target = part->field[TARGET];
    float *weight = part->field[WEIGHT];
    for (int64_t i = 0; i < images->shape.rows; ++i) {
        bool padding;
        const int64_t place = sample_batches_place(&options->batches, images->count, number, p, i, &padding);
        const int64_t sample = images->order != NULL ? images->order[place] : place;
        samples[i] = sample;
        index[i] = split->row[sample];
        target[i] = split->label[sample];
        weight[i] = padding ? 0.0F : 1.0F;
        choose_crop(images, sample, crop + 3 * i);
    }
    if (options->lazy)
        TRY(images->dataset->prepare(images->dataset, options->split, samples, images->shape.rows));
    if (options->streamed) bring_rows(images, part);
    return OK;
}

static Status fill(Source *source, int64_t number, Batch *batch)
{
    const ImageSource *images = (const ImageSource *)source;
    sample_batches_begin(&images->options.batches, images->count, number, batch);
    for (int p = 0; p < batch->parts; ++p)
        TRY(fill_part(images, number, p, &batch->part[p]));
    return OK;
}

static int64_t batches(const Source *source, int64_t epoch)
{
    (void)epoch;
    const ImageSource *images = (const ImageSource *)source;
    return sample_batches_count(&images->options.batches, images->count);
}

static Status start(Source *source, int64_t epoch)
{
    ImageSource *images = (ImageSource *)source;
    images->epoch = epoch;
    if (images->order != NULL)
        random_shuffle(images->options.batches.seed, RANDOM_ORDER, (uint64_t)epoch, images->order,
                       images->count);
    return OK;
}

static void release(Source *source)
{
    ImageSource *images = (ImageSource *)source;
    free(images->order);
    free(images);
}

Status image_source_open(Dataset *dataset, const ImageSourceOptions *options, Source **out)
{
    *out = NULL;
    const int64_t count = dataset->split[options->split].count;
    TRY(sample_batches_check(&options->batches, count, dataset->name, options->split));
    if (options->crop_padding < 0 || options->crop_padding > INT32_MAX / 4)
        return fail(STATUS_INPUT, "a crop padding of %lld", (long long)options->crop_padding);
    ImageSource *images;
    TRY(memory_new(&images, 1, sizeof *images, "a source of images"));
    images->dataset = dataset;
    images->options = *options;
    images->count = count;
    image_batch_shape(dataset, options, &images->shape);
    images->source = (Source){.shape_count = 1,
                              .shape = &images->shape,
                              .parts = options->batches.parts,
                              .workers = options->lazy ? DECODERS : 1,
                              .batches = batches,
                              .start = start,
                              .fill = fill,
                              .free = release};
    if (options->batches.training) {
        Status status = memory_new(&images->order, (size_t)count, sizeof *images->order, "order");
        if (status != OK) {
            release(&images->source);
            return status;
        }
    }
    *out = &images->source;
    return OK;
}
