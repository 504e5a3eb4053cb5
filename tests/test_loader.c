/* Batches: the same whatever the ranks and threads, each sample once an epoch, resumable anywhere. */
#include "tests/support.h"

#include "engine/data/images/image_source.h"
#include "engine/data/images/reader.h"
#include "engine/data/loader.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { COUNT = 103, BATCH = 12, BATCHES = 9, PADDING = 4 };

static const ImageSourceOptions usual = {
    .batches = {.batch = BATCH, .parts = 1, .rank = 0, .ranks = 1, .seed = 7, .training = true},
    .split = SPLIT_TRAIN,
    .crop_padding = PADDING,
    .flip = true};

/* A source and the loader that fills from it. */
typedef struct {
    Source *source;
    Loader *loader;
} Images;

static Status open_images(Dataset *dataset, ImageSourceOptions options, Images *images)
{
    *images = (Images){NULL, NULL};
    options.lazy = dataset->prepare != NULL;
    TRY(image_source_open(dataset, &options, &images->source));
    return loader_open(images->source, &images->loader);
}

static void close_images(Images *images)
{
    loader_close(images->loader);
    source_free(images->source);
}

static const void *field(const Images *images, const BatchPart *part, const char *name)
{
    return part->field[batch_shape_find(&images->source->shape[part->shape], name)];
}

static int64_t batches_of(const Images *images) { return images->source->batches(images->source, 0); }

/* COUNT training samples, one validation and one test sample; the label of row r is r % 10. */
static Dataset *make_dataset(void)
{
    ImageTable *table;
    assert_ok(image_table_new((ImageTableSize){"numbers", COUNT + 1, 1, 1, 1, 1, 10}, &table));
    for (int64_t row = 0; row < table->rows; ++row)
        table->label[row] = (int32_t)(row % 10);
    const DatasetOptions options = {.validation = 1};
    assert_ok(image_table_split(table, &options, (HoldOut){.usual = 1}));
    return &table->dataset;
}

/* A copy of an epoch, from batch `first` on: what one rank was given. */
typedef struct {
    int64_t batches, part;
    int64_t sample[4 * COUNT], row[4 * COUNT];
    int32_t crop[4 * COUNT][3], label[4 * COUNT];
    float weight[4 * COUNT];
} Epoch;

static void keep(const Images *images, Epoch *epoch, const Batch *batch)
{
    const int64_t rows = images->source->shape[0].rows;
    epoch->part = rows * batch->parts;
    for (int p = 0; p < batch->parts; ++p) {
        const BatchPart *part = &batch->part[p];
        const int64_t at = epoch->batches * epoch->part + p * rows;
        const size_t count = (size_t)rows;
        assert_true(at + rows <= 4 * COUNT);
        memcpy(epoch->sample + at, field(images, part, "sample"), count * sizeof(int64_t));
        memcpy(epoch->row + at, field(images, part, "index"), count * sizeof(int64_t));
        memcpy(epoch->crop + at, field(images, part, "crop"), count * sizeof epoch->crop[0]);
        memcpy(epoch->label + at, field(images, part, "target"), count * sizeof(int32_t));
        memcpy(epoch->weight + at, field(images, part, "weight"), count * sizeof(float));
    }
    ++epoch->batches;
}

static Epoch *read_on(const Images *images)
{
    Epoch *epoch = calloc(1, sizeof *epoch);
    assert_non_null(epoch);
    const Batch *batch;
    for (;;) {
        assert_ok(loader_next(images->loader, &batch));
        if (batch == NULL) break;
        keep(images, epoch, batch);
    }
    assert_ok(loader_next(images->loader, &batch)); /* the end stays the end */
    assert_null(batch);
    return epoch;
}

static Epoch *read_epoch(Dataset *dataset, ImageSourceOptions options, int64_t number, int64_t first_batch)
{
    Images images;
    assert_ok(open_images(dataset, options, &images));
    if (options.batches.training)
        assert_int_equal(batches_of(&images),
                         (dataset->split[options.split].count + options.batches.batch - 1) /
                             options.batches.batch);
    assert_ok(loader_start(images.loader, number, first_batch));
    Epoch *epoch = read_on(&images);
    assert_int_equal(epoch->batches, batches_of(&images) - first_batch);
    close_images(&images);
    return epoch;
}

static void assert_same(const Epoch *a, int64_t a_first, const Epoch *b, int64_t b_first, int64_t count)
{
    const size_t n = (size_t)count;
    assert_memory_equal(a->sample + a_first, b->sample + b_first, n * sizeof(int64_t));
    assert_memory_equal(a->row + a_first, b->row + b_first, n * sizeof(int64_t));
    assert_memory_equal(a->crop + a_first, b->crop + b_first, n * sizeof a->crop[0]);
    assert_memory_equal(a->label + a_first, b->label + b_first, n * sizeof(int32_t));
    assert_memory_equal(a->weight + a_first, b->weight + b_first, n * sizeof(float));
}

/* ---- Order ---- */

static void each_sample_comes_once(void **state)
{
    (void)state;
    Dataset *dataset = make_dataset();
    Epoch *epoch = read_epoch(dataset, usual, 3, 0);
    int seen[COUNT] = {0};
    bool sorted = true;
    for (int64_t i = 0; i < BATCHES * BATCH; ++i) {
        const DataSplit *split = &dataset->split[SPLIT_TRAIN];
        const int64_t sample = epoch->sample[i];
        assert_true(sample >= 0 && sample < COUNT);
        assert_int_equal(epoch->row[i], split->row[sample]);
        assert_int_equal(epoch->label[i], split->row[sample] % 10);
        if (i < COUNT) {
            ++seen[sample];
            sorted = sorted && sample == i;
            assert_float_equal(epoch->weight[i], 1, 0);
        } else { /* the ragged end: the first sample of the order, at weight 0 */
            assert_int_equal(sample, epoch->sample[0]);
            assert_float_equal(epoch->weight[i], 0, 0);
        }
    }
    for (int i = 0; i < COUNT; ++i)
        assert_int_equal(seen[i], 1);
    assert_false(sorted);
    free(epoch);
    dataset_close(dataset);
}

static void order_is_of_seed_and_epoch(void **state)
{
    (void)state;
    Dataset *dataset = make_dataset();
    Epoch *first = read_epoch(dataset, usual, 0, 0), *same = read_epoch(dataset, usual, 0, 0),
          *next = read_epoch(dataset, usual, 1, 0);
    ImageSourceOptions other = usual;
    other.batches.seed = 8;
    Epoch *seeded = read_epoch(dataset, other, 0, 0);
    assert_same(first, 0, same, 0, BATCHES * BATCH);
    assert_memory_not_equal(first->sample, next->sample, COUNT * sizeof(int64_t));
    assert_memory_not_equal(first->sample, seeded->sample, COUNT * sizeof(int64_t));
    /* Another batch size cuts the same order. */
    other = usual;
    other.batches.batch = 5;
    Epoch *smaller = read_epoch(dataset, other, 0, 0);
    assert_same(first, 0, smaller, 0, COUNT);
    free(first);
    free(same);
    free(next);
    free(seeded);
    free(smaller);
    dataset_close(dataset);
}

/* In evaluation each rank takes its contiguous share in the split's order, and nothing is cropped. */
static void evaluation_takes_the_splits_order(void **state)
{
    (void)state;
    Dataset *dataset = make_dataset();
    ImageSourceOptions options = usual;
    options.batches.training = false;
    for (options.batches.ranks = 1; options.batches.ranks <= 3; ++options.batches.ranks) {
        int64_t next = 0;
        for (options.batches.rank = 0; options.batches.rank < options.batches.ranks; ++options.batches.rank) {
            Epoch *epoch = read_epoch(dataset, options, 2, 0);
            int64_t first, count, real = 0;
            share_of_rank(COUNT, options.batches.rank, options.batches.ranks, &first, &count);
            assert_int_equal(first, next);
            for (int64_t i = 0; i < epoch->batches * epoch->part; ++i) {
                const int64_t batch_first = first + i / epoch->part * epoch->part;
                assert_int_equal(epoch->sample[i], epoch->weight[i] > 0 ? first + i : batch_first);
                real += epoch->weight[i] > 0;
                for (int k = 0; k < 3; ++k)
                    assert_int_equal(epoch->crop[i][k], 0);
            }
            assert_int_equal(real, count);
            next += count;
            free(epoch);
        }
        assert_int_equal(next, COUNT);
    }
    dataset_close(dataset);
}

/* Micro-batches: the pieces of a rank's share, one after the other. */
static void parts_are_the_same_batch(void **state)
{
    (void)state;
    Dataset *dataset = make_dataset();
    Epoch *whole = read_epoch(dataset, usual, 5, 0);
    ImageSourceOptions options = usual;
    options.batches.parts = 3;
    options.batches.ranks = 2;
    for (options.batches.rank = 0; options.batches.rank < 2; ++options.batches.rank) {
        Images images;
        assert_ok(open_images(dataset, options, &images));
        assert_ok(loader_start(images.loader, 5, 0));
        for (int64_t b = 0; b < BATCHES; ++b) {
            const Batch *batch;
            assert_ok(loader_next(images.loader, &batch));
            assert_int_equal(batch->parts, 3);
            const int64_t left = COUNT - b * BATCH;
            assert_int_equal(batch->samples, left < BATCH ? left : BATCH);
            assert_true(batch->total == (double)batch->samples);
            for (int p = 0; p < 3; ++p) {
                const int64_t at = b * BATCH + options.batches.rank * 6 + p * 2;
                const BatchPart *part = &batch->part[p];
                assert_int_equal(part->first, at);
                assert_memory_equal(field(&images, part, "sample"), whole->sample + at, 2 * sizeof(int64_t));
                assert_memory_equal(field(&images, part, "weight"), whole->weight + at, 2 * sizeof(float));
                int64_t padding = 0;
                while (padding < 2 && whole->weight[at + 1 - padding] == 0)
                    ++padding;
                assert_int_equal(part->padding, padding);
            }
        }
        close_images(&images);
    }
    free(whole);
    dataset_close(dataset);
}

/* Where pixels are streamed the rows come along, and the indices count them. */
static void rows_come_along_where_they_are_streamed(void **state)
{
    (void)state;
    Dataset *dataset = make_dataset();
    for (int64_t row = 0; row < dataset->split[SPLIT_TRAIN].rows; ++row)
        ((uint8_t *)(uintptr_t)dataset->split[SPLIT_TRAIN].table)[row] = (uint8_t)row;
    Epoch *resident = read_epoch(dataset, usual, 1, 0);
    ImageSourceOptions options = usual;
    options.streamed = true;
    Images images;
    assert_ok(open_images(dataset, options, &images));
    assert_ok(loader_start(images.loader, 1, 0));
    for (int64_t b = 0; b < BATCHES; ++b) {
        const Batch *batch;
        assert_ok(loader_next(images.loader, &batch));
        const uint8_t *rows = field(&images, &batch->part[0], "table");
        const int64_t *index = field(&images, &batch->part[0], "index");
        for (int64_t i = 0; i < BATCH; ++i) {
            assert_int_equal(index[i], i);
            assert_int_equal(rows[i], resident->row[b * BATCH + i]);
        }
    }
    close_images(&images);
    free(resident);
    dataset_close(dataset);
}

static void ranks_share_the_global_batch(void **state)
{
    (void)state;
    Dataset *dataset = make_dataset();
    Epoch *whole = read_epoch(dataset, usual, 5, 0);
    for (int ranks = 1; ranks <= BATCH; ++ranks) {
        ImageSourceOptions options = usual;
        options.batches.ranks = ranks;
        if (BATCH % ranks != 0) {
            Images images;
            assert_fails(open_images(dataset, options, &images), STATUS_INPUT, "cannot be shared equally");
            assert_null(images.source);
            continue;
        }
        const int64_t part = BATCH / ranks;
        for (int rank = 0; rank < ranks; ++rank) {
            options.batches.rank = rank;
            Epoch *own = read_epoch(dataset, options, 5, 0);
            assert_int_equal(own->part, part);
            for (int64_t b = 0; b < BATCHES; ++b)
                assert_same(whole, b * BATCH + rank * part, own, b * part, part);
            free(own);
        }
    }
    free(whole);
    dataset_close(dataset);
}

static void first_is_the_place_in_the_order(void **state)
{
    (void)state;
    Dataset *dataset = make_dataset();
    ImageSourceOptions options = usual;
    options.batches.ranks = 3;
    options.batches.rank = 2;
    Images images;
    assert_ok(open_images(dataset, options, &images));
    assert_ok(loader_start(images.loader, 0, 4));
    for (int64_t b = 4; b < BATCHES; ++b) {
        const Batch *batch;
        assert_ok(loader_next(images.loader, &batch));
        assert_int_equal(images.source->shape[0].rows, 4);
        assert_int_equal(batch->part[0].first, b * BATCH + 8);
    }
    close_images(&images);
    dataset_close(dataset);
}

/* ---- Resuming ---- */

static void an_epoch_can_start_anywhere(void **state)
{
    (void)state;
    Dataset *dataset = make_dataset();
    Epoch *whole = read_epoch(dataset, usual, 2, 0);
    for (int64_t first = 0; first <= BATCHES; ++first) {
        Epoch *rest = read_epoch(dataset, usual, 2, first);
        assert_same(whole, first * BATCH, rest, 0, (BATCHES - first) * BATCH);
        free(rest);
    }
    /* The same loader, restarted in the middle, whatever it had prepared. */
    Images images;
    assert_ok(open_images(dataset, usual, &images));
    for (int64_t taken = 0; taken <= BATCHES; ++taken) {
        assert_ok(loader_start(images.loader, 77 + taken, 0));
        const Batch *batch;
        for (int64_t b = 0; b < taken; ++b)
            assert_ok(loader_next(images.loader, &batch));
        assert_ok(loader_start(images.loader, 2, taken % 4));
        Epoch *rest = read_on(&images);
        assert_same(whole, taken % 4 * BATCH, rest, 0, (BATCHES - taken % 4) * BATCH);
        free(rest);
    }
    assert_fails(loader_start(images.loader, 2, BATCHES + 1), STATUS_INTERNAL, "batch 10 of 9");
    close_images(&images);
    free(whole);
    dataset_close(dataset);
}

static void a_batch_stays_until_the_next_call(void **state)
{
    (void)state;
    Dataset *dataset = make_dataset();
    Epoch *whole = read_epoch(dataset, usual, 0, 0);
    Images images;
    assert_ok(open_images(dataset, usual, &images));
    assert_ok(loader_start(images.loader, 0, 0));
    for (int64_t b = 0; b < BATCHES; ++b) {
        const Batch *batch;
        assert_ok(loader_next(images.loader, &batch));
        (void)usleep(3000); /* the thread fills the ring meanwhile */
        assert_memory_equal(field(&images, &batch->part[0], "sample"), whole->sample + b * BATCH,
                            BATCH * sizeof(int64_t));
        assert_memory_equal(field(&images, &batch->part[0], "crop"), whole->crop + b * BATCH,
                            BATCH * sizeof whole->crop[0]);
    }
    assert_true(loader_waited(images.loader) >= 0 && loader_waited(images.loader) < 60); /* seconds */
    close_images(&images);
    free(whole);
    dataset_close(dataset);
}

/* ---- Augmentation ---- */

static void crops_and_flips_are_uniform(void **state)
{
    (void)state;
    enum { EPOCHS = 200, SIDES = 2 * PADDING + 1 };
    Dataset *dataset = make_dataset();
    int64_t top[SIDES] = {0}, left[SIDES] = {0}, both[SIDES][SIDES] = {{0}}, flipped = 0;
    for (int64_t number = 0; number < EPOCHS; ++number) {
        Epoch *epoch = read_epoch(dataset, usual, number, 0);
        for (int64_t i = 0; i < COUNT; ++i) {
            const int32_t *crop = epoch->crop[i];
            assert_in_range(crop[0], 0, 2 * PADDING);
            assert_in_range(crop[1], 0, 2 * PADDING);
            assert_in_range(crop[2], 0, 1);
            ++top[crop[0]];
            ++left[crop[1]];
            ++both[crop[0]][crop[1]];
            flipped += crop[2];
        }
        free(epoch);
    }
    /* Within five standard deviations of a fair draw. */
    const double draws = (double)EPOCHS * COUNT, expected = draws / SIDES;
    for (int i = 0; i < SIDES; ++i) {
        assert_float_equal((double)top[i], expected, 250);
        assert_float_equal((double)left[i], expected, 250);
        for (int k = 0; k < SIDES; ++k)
            assert_float_equal((double)both[i][k], expected / SIDES, 80);
    }
    assert_float_equal((double)flipped, draws / 2, 360);
    dataset_close(dataset);
}

/* A smaller split is shuffled differently. */
static void augmentation_is_of_the_sample_not_its_place(void **state)
{
    (void)state;
    enum { FEWER = COUNT - 10 };
    Dataset *dataset = make_dataset();
    Epoch *all = read_epoch(dataset, usual, 4, 0), *later = read_epoch(dataset, usual, 5, 0);
    int32_t crop[COUNT][3], later_crop[COUNT][3];
    for (int64_t i = 0; i < COUNT; ++i) {
        memcpy(crop[all->sample[i]], all->crop[i], sizeof crop[0]);
        memcpy(later_crop[later->sample[i]], later->crop[i], sizeof crop[0]);
    }
    assert_memory_not_equal(crop, later_crop, sizeof crop);
    dataset->split[SPLIT_TRAIN].count = FEWER;
    Epoch *fewer = read_epoch(dataset, usual, 4, 0);
    assert_memory_not_equal(all->sample, fewer->sample, FEWER * sizeof(int64_t));
    for (int64_t i = 0; i < FEWER; ++i)
        assert_memory_equal(fewer->crop[i], crop[fewer->sample[i]], sizeof crop[0]);
    free(all);
    free(later);
    free(fewer);
    dataset_close(dataset);
}

static void each_augmentation_can_be_off(void **state)
{
    (void)state;
    Dataset *dataset = make_dataset();
    ImageSourceOptions options = usual;
    options.flip = false;
    Epoch *unflipped = read_epoch(dataset, options, 0, 0);
    options = usual;
    options.crop_padding = 0;
    Epoch *uncropped = read_epoch(dataset, options, 0, 0);
    int flips = 0, moved = 0;
    for (int64_t i = 0; i < COUNT; ++i) {
        assert_int_equal(unflipped->crop[i][2], 0);
        moved += unflipped->crop[i][0] != PADDING;
        assert_int_equal(uncropped->crop[i][0], 0);
        assert_int_equal(uncropped->crop[i][1], 0);
        flips += uncropped->crop[i][2];
    }
    assert_true(flips > 20 && flips < COUNT - 20);
    assert_true(moved > 50);
    free(unflipped);
    free(uncropped);
    dataset_close(dataset);
}

/* ---- Preparing ---- */

static atomic_int prepared[COUNT];
static atomic_int bad_sample;

static Status count_prepared(Dataset *dataset, Split split, const int64_t sample[], int64_t count)
{
    if (split != SPLIT_TRAIN || dataset->prepare == NULL) return fail(STATUS_INTERNAL, "wrong split");
    for (int64_t i = 0; i < count; ++i) {
        if (sample[i] == atomic_load(&bad_sample))
            return fail(STATUS_INPUT, "sample %lld is damaged", (long long)sample[i]);
        (void)atomic_fetch_add(&prepared[sample[i]], 1);
    }
    return OK;
}

static void samples_are_prepared_before_they_are_given(void **state)
{
    (void)state;
    Dataset *dataset = make_dataset();
    dataset->prepare = count_prepared;
    atomic_store(&bad_sample, -1);
    memset(prepared, 0, sizeof prepared);
    Images images;
    assert_ok(open_images(dataset, usual, &images));
    assert_ok(loader_start(images.loader, 0, 0));
    int64_t batches = 0;
    for (;; ++batches) {
        const Batch *batch;
        assert_ok(loader_next(images.loader, &batch));
        if (batch == NULL) break;
        const int64_t *sample = field(&images, &batch->part[0], "sample");
        for (int64_t i = 0; i < BATCH; ++i)
            assert_true(atomic_load(&prepared[sample[i]]) > 0);
    }
    assert_int_equal(batches, BATCHES);
    close_images(&images);
    /* Two threads give the same batches as one. */
    Epoch *two = read_epoch(dataset, usual, 6, 0);
    dataset->prepare = NULL;
    Epoch *one = read_epoch(dataset, usual, 6, 0);
    assert_same(one, 0, two, 0, BATCHES * BATCH);
    free(one);
    free(two);
    dataset_close(dataset);
}

static void an_error_comes_with_its_batch(void **state)
{
    (void)state;
    Dataset *dataset = make_dataset();
    Epoch *whole = read_epoch(dataset, usual, 0, 0);
    dataset->prepare = count_prepared;
    Images images;
    assert_ok(open_images(dataset, usual, &images));
    for (int64_t bad = 0; bad < BATCHES; ++bad) {
        atomic_store(&bad_sample, (int)whole->sample[bad * BATCH + 2]);
        assert_ok(loader_start(images.loader, 0, 0));
        const Batch *batch;
        for (int64_t b = 0; b < bad; ++b) {
            assert_ok(loader_next(images.loader, &batch));
            assert_non_null(batch);
        }
        assert_fails(loader_next(images.loader, &batch), STATUS_INPUT, "is damaged");
        assert_null(batch);
        assert_fails(loader_next(images.loader, &batch), STATUS_INTERNAL, "after an error");
    }
    atomic_store(&bad_sample, -1);
    assert_ok(loader_start(images.loader, 0, 0));
    Epoch *cured = read_on(&images);
    assert_same(whole, 0, cured, 0, BATCHES * BATCH);
    /* Errors that nobody asked for are released with the loader. */
    atomic_store(&bad_sample, (int)whole->sample[BATCH + 1]);
    assert_ok(loader_start(images.loader, 0, 0));
    const Batch *batch;
    assert_ok(loader_next(images.loader, &batch));
    (void)usleep(3000);
    close_images(&images);
    free(cured);
    free(whole);
    dataset_close(dataset);
}

/* ---- Edges ---- */

static void misuse_is_refused(void **state)
{
    (void)state;
    Dataset *dataset = make_dataset();
    Images images;
    const Batch *batch;
    assert_ok(open_images(dataset, usual, &images));
    assert_fails(loader_next(images.loader, &batch), STATUS_INTERNAL, "before an epoch was started");
    close_images(&images);
    loader_close(NULL);
    ImageSourceOptions options = usual;
    options.batches.ranks = 24; /* more ranks than samples in a batch */
    assert_fails(open_images(dataset, options, &images), STATUS_INPUT, "by 24 ranks");
    options = usual;
    options.batches.batch = 0;
    assert_fails(open_images(dataset, options, &images), STATUS_INPUT, "a batch of 0 samples");
    options = usual;
    options.crop_padding = -1;
    assert_fails(open_images(dataset, options, &images), STATUS_INPUT, "crop padding of -1");
    options = usual;
    options.batches.rank = 1;
    assert_fails(open_images(dataset, options, &images), STATUS_INTERNAL, "rank 1 of 1");
    dataset->split[SPLIT_VALIDATION].count = 0;
    options = usual;
    options.split = SPLIT_VALIDATION;
    assert_fails(open_images(dataset, options, &images), STATUS_INPUT, "the validation split is empty");
    dataset_close(dataset);
}

static void a_split_may_be_smaller_than_a_batch(void **state)
{
    (void)state;
    Dataset *dataset = make_dataset();
    ImageSourceOptions options = usual;
    options.split = SPLIT_TEST;
    options.batches.ranks = 4;
    for (int rank = 0; rank < 4; ++rank) {
        options.batches.rank = rank;
        Epoch *epoch = read_epoch(dataset, options, 0, 0);
        assert_int_equal(epoch->batches, 1);
        for (int64_t i = 0; i < 3; ++i) {
            assert_int_equal(epoch->sample[i], 0);
            assert_float_equal(epoch->weight[i], rank == 0 && i == 0 ? 1 : 0, 0);
        }
        free(epoch);
    }
    dataset_close(dataset);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_sample_comes_once),
        cmocka_unit_test(order_is_of_seed_and_epoch),
        cmocka_unit_test(evaluation_takes_the_splits_order),
        cmocka_unit_test(parts_are_the_same_batch),
        cmocka_unit_test(rows_come_along_where_they_are_streamed),
        cmocka_unit_test(ranks_share_the_global_batch),
        cmocka_unit_test(first_is_the_place_in_the_order),
        cmocka_unit_test(an_epoch_can_start_anywhere),
        cmocka_unit_test(a_batch_stays_until_the_next_call),
        cmocka_unit_test(crops_and_flips_are_uniform),
        cmocka_unit_test(augmentation_is_of_the_sample_not_its_place),
        cmocka_unit_test(each_augmentation_can_be_off),
        cmocka_unit_test(samples_are_prepared_before_they_are_given),
        cmocka_unit_test(an_error_comes_with_its_batch),
        cmocka_unit_test(misuse_is_refused),
        cmocka_unit_test(a_split_may_be_smaller_than_a_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
