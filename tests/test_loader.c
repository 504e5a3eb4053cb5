/* Batches: the same whatever the ranks and threads, each sample once an epoch, resumable anywhere. */
#include "tests/support.h"

#include "engine/data/images/reader.h"
#include "engine/data/loader.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { COUNT = 103, BATCH = 12, BATCHES = 9, PADDING = 4 };

static const LoaderOptions usual = {
    .batch = BATCH, .rank = 0, .ranks = 1, .seed = 7, .shuffle = true, .crop_padding = PADDING, .flip = true};

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

static void keep(Epoch *epoch, const Batch *batch)
{
    const int64_t at = epoch->batches * batch->count;
    const size_t count = (size_t)batch->count;
    epoch->part = batch->count;
    assert_true(at + batch->count <= 4 * COUNT);
    memcpy(epoch->sample + at, batch->sample, count * sizeof(int64_t));
    memcpy(epoch->row + at, batch->row, count * sizeof(int64_t));
    memcpy(epoch->crop + at, batch->crop, count * sizeof epoch->crop[0]);
    memcpy(epoch->label + at, batch->label, count * sizeof(int32_t));
    memcpy(epoch->weight + at, batch->weight, count * sizeof(float));
    ++epoch->batches;
}

static Epoch *read_on(Loader *loader)
{
    Epoch *epoch = calloc(1, sizeof *epoch);
    assert_non_null(epoch);
    const Batch *batch;
    for (;;) {
        assert_ok(loader_next(loader, &batch));
        if (batch == NULL) break;
        keep(epoch, batch);
    }
    assert_ok(loader_next(loader, &batch)); /* the end stays the end */
    assert_null(batch);
    return epoch;
}

static Epoch *read_epoch(Dataset *dataset, LoaderOptions options, int64_t number, int64_t first_batch)
{
    Loader *loader;
    assert_ok(loader_open(dataset, SPLIT_TRAIN, options, &loader));
    assert_int_equal(loader_batches(loader), (COUNT + options.batch - 1) / options.batch);
    assert_ok(loader_start(loader, number, first_batch));
    Epoch *epoch = read_on(loader);
    assert_int_equal(epoch->batches, loader_batches(loader) - first_batch);
    loader_close(loader);
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
    LoaderOptions other = usual;
    other.seed = 8;
    Epoch *seeded = read_epoch(dataset, other, 0, 0);
    assert_same(first, 0, same, 0, BATCHES * BATCH);
    assert_memory_not_equal(first->sample, next->sample, COUNT * sizeof(int64_t));
    assert_memory_not_equal(first->sample, seeded->sample, COUNT * sizeof(int64_t));
    /* Another batch size cuts the same order. */
    other = usual;
    other.batch = 5;
    Epoch *smaller = read_epoch(dataset, other, 0, 0);
    assert_same(first, 0, smaller, 0, COUNT);
    free(first);
    free(same);
    free(next);
    free(seeded);
    free(smaller);
    dataset_close(dataset);
}

static void without_shuffle_the_order_is_the_splits(void **state)
{
    (void)state;
    Dataset *dataset = make_dataset();
    LoaderOptions options = usual;
    options.shuffle = false;
    options.crop_padding = 0;
    options.flip = false;
    Epoch *epoch = read_epoch(dataset, options, 2, 0);
    for (int64_t i = 0; i < COUNT; ++i) {
        assert_int_equal(epoch->sample[i], i);
        for (int k = 0; k < 3; ++k)
            assert_int_equal(epoch->crop[i][k], 0);
    }
    free(epoch);
    dataset_close(dataset);
}

static void ranks_share_the_global_batch(void **state)
{
    (void)state;
    Dataset *dataset = make_dataset();
    Epoch *whole = read_epoch(dataset, usual, 5, 0);
    for (int ranks = 1; ranks <= BATCH; ++ranks) {
        LoaderOptions options = usual;
        options.ranks = ranks;
        if (BATCH % ranks != 0) {
            Loader *loader;
            assert_fails(loader_open(dataset, SPLIT_TRAIN, options, &loader), STATUS_INPUT,
                         "cannot be shared equally");
            assert_null(loader);
            continue;
        }
        const int64_t part = BATCH / ranks;
        for (int rank = 0; rank < ranks; ++rank) {
            options.rank = rank;
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
    LoaderOptions options = usual;
    options.ranks = 3;
    options.rank = 2;
    Loader *loader;
    assert_ok(loader_open(dataset, SPLIT_TRAIN, options, &loader));
    assert_ok(loader_start(loader, 0, 4));
    for (int64_t b = 4; b < BATCHES; ++b) {
        const Batch *batch;
        assert_ok(loader_next(loader, &batch));
        assert_int_equal(batch->count, 4);
        assert_int_equal(batch->first, b * BATCH + 8);
    }
    loader_close(loader);
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
    Loader *loader;
    assert_ok(loader_open(dataset, SPLIT_TRAIN, usual, &loader));
    for (int64_t taken = 0; taken <= BATCHES; ++taken) {
        assert_ok(loader_start(loader, 77 + taken, 0));
        const Batch *batch;
        for (int64_t b = 0; b < taken; ++b)
            assert_ok(loader_next(loader, &batch));
        assert_ok(loader_start(loader, 2, taken % 4));
        Epoch *rest = read_on(loader);
        assert_same(whole, taken % 4 * BATCH, rest, 0, (BATCHES - taken % 4) * BATCH);
        free(rest);
    }
    assert_fails(loader_start(loader, 2, BATCHES + 1), STATUS_INTERNAL, "batch 10 of 9");
    loader_close(loader);
    free(whole);
    dataset_close(dataset);
}

static void a_batch_stays_until_the_next_call(void **state)
{
    (void)state;
    Dataset *dataset = make_dataset();
    Epoch *whole = read_epoch(dataset, usual, 0, 0);
    Loader *loader;
    assert_ok(loader_open(dataset, SPLIT_TRAIN, usual, &loader));
    assert_ok(loader_start(loader, 0, 0));
    for (int64_t b = 0; b < BATCHES; ++b) {
        const Batch *batch;
        assert_ok(loader_next(loader, &batch));
        (void)usleep(3000); /* the thread fills the ring meanwhile */
        assert_memory_equal(batch->sample, whole->sample + b * BATCH, BATCH * sizeof(int64_t));
        assert_memory_equal(batch->crop, whole->crop + b * BATCH, BATCH * sizeof whole->crop[0]);
    }
    assert_true(loader_waited(loader) >= 0 && loader_waited(loader) < 60); /* seconds */
    loader_close(loader);
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

static void augmentation_is_of_the_sample_not_its_place(void **state)
{
    (void)state;
    Dataset *dataset = make_dataset();
    LoaderOptions straight = usual;
    straight.shuffle = false;
    Epoch *shuffled = read_epoch(dataset, usual, 4, 0), *ordered = read_epoch(dataset, straight, 4, 0),
          *later = read_epoch(dataset, straight, 5, 0);
    for (int64_t i = 0; i < COUNT; ++i)
        assert_memory_equal(shuffled->crop[i], ordered->crop[shuffled->sample[i]], sizeof shuffled->crop[i]);
    assert_memory_not_equal(ordered->crop, later->crop, COUNT * sizeof ordered->crop[0]);
    free(shuffled);
    free(ordered);
    free(later);
    dataset_close(dataset);
}

static void each_augmentation_can_be_off(void **state)
{
    (void)state;
    Dataset *dataset = make_dataset();
    LoaderOptions options = usual;
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
    Loader *loader;
    assert_ok(loader_open(dataset, SPLIT_TRAIN, usual, &loader));
    assert_ok(loader_start(loader, 0, 0));
    int64_t batches = 0;
    for (;; ++batches) {
        const Batch *batch;
        assert_ok(loader_next(loader, &batch));
        if (batch == NULL) break;
        for (int64_t i = 0; i < batch->count; ++i)
            assert_true(atomic_load(&prepared[batch->sample[i]]) > 0);
    }
    assert_int_equal(batches, BATCHES);
    loader_close(loader);
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
    Loader *loader;
    assert_ok(loader_open(dataset, SPLIT_TRAIN, usual, &loader));
    for (int64_t bad = 0; bad < BATCHES; ++bad) {
        atomic_store(&bad_sample, (int)whole->sample[bad * BATCH + 2]);
        assert_ok(loader_start(loader, 0, 0));
        const Batch *batch;
        for (int64_t b = 0; b < bad; ++b) {
            assert_ok(loader_next(loader, &batch));
            assert_non_null(batch);
        }
        assert_fails(loader_next(loader, &batch), STATUS_INPUT, "is damaged");
        assert_null(batch);
        assert_fails(loader_next(loader, &batch), STATUS_INTERNAL, "after an error");
    }
    atomic_store(&bad_sample, -1);
    assert_ok(loader_start(loader, 0, 0));
    Epoch *cured = read_on(loader);
    assert_same(whole, 0, cured, 0, BATCHES * BATCH);
    /* Errors that nobody asked for are released with the loader. */
    atomic_store(&bad_sample, (int)whole->sample[BATCH + 1]);
    assert_ok(loader_start(loader, 0, 0));
    const Batch *batch;
    assert_ok(loader_next(loader, &batch));
    (void)usleep(3000);
    loader_close(loader);
    free(cured);
    free(whole);
    dataset_close(dataset);
}

/* ---- Edges ---- */

static void misuse_is_refused(void **state)
{
    (void)state;
    Dataset *dataset = make_dataset();
    Loader *loader;
    const Batch *batch;
    assert_ok(loader_open(dataset, SPLIT_TRAIN, usual, &loader));
    assert_fails(loader_next(loader, &batch), STATUS_INTERNAL, "before an epoch was started");
    loader_close(loader);
    loader_close(NULL);
    LoaderOptions options = usual;
    options.ranks = 24; /* more ranks than samples in a batch */
    assert_fails(loader_open(dataset, SPLIT_TRAIN, options, &loader), STATUS_INPUT, "by 24 ranks");
    options = usual;
    options.batch = 0;
    assert_fails(loader_open(dataset, SPLIT_TRAIN, options, &loader), STATUS_INPUT, "a batch of 0 samples");
    options = usual;
    options.crop_padding = -1;
    assert_fails(loader_open(dataset, SPLIT_TRAIN, options, &loader), STATUS_INPUT, "crop padding of -1");
    options = usual;
    options.rank = 1;
    assert_fails(loader_open(dataset, SPLIT_TRAIN, options, &loader), STATUS_INTERNAL, "rank 1 of 1");
    dataset->split[SPLIT_VALIDATION].count = 0;
    assert_fails(loader_open(dataset, SPLIT_VALIDATION, usual, &loader), STATUS_INPUT,
                 "the validation split is empty");
    dataset_close(dataset);
}

static void a_split_may_be_smaller_than_a_batch(void **state)
{
    (void)state;
    Dataset *dataset = make_dataset();
    LoaderOptions options = usual;
    options.ranks = 4;
    for (options.rank = 0; options.rank < 4; ++options.rank) {
        Loader *loader;
        assert_ok(loader_open(dataset, SPLIT_TEST, options, &loader));
        assert_int_equal(loader_batches(loader), 1);
        assert_ok(loader_start(loader, 0, 0));
        const Batch *batch;
        assert_ok(loader_next(loader, &batch));
        assert_non_null(batch);
        for (int64_t i = 0; i < 3; ++i) {
            assert_int_equal(batch->sample[i], 0);
            assert_float_equal(batch->weight[i], options.rank == 0 && i == 0 ? 1 : 0, 0);
        }
        assert_ok(loader_next(loader, &batch));
        assert_null(batch);
        loader_close(loader);
    }
    dataset_close(dataset);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_sample_comes_once),
        cmocka_unit_test(order_is_of_seed_and_epoch),
        cmocka_unit_test(without_shuffle_the_order_is_the_splits),
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
