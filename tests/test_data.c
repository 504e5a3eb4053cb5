/* Data sets of idx and CIFAR files: what is read, how it is split, and what is refused. */
#include "tests/data_files.h"
#include "tests/golden.h"

#include "engine/data/images/reader.h"

#include <math.h>
#include <stdio.h>
#include <zlib.h>

/* ---- Splits ---- */

static void shuffle_gives_the_published_validation_images(void **state)
{
    (void)state;
    for (const GoldenCase *golden = NULL; (golden = golden_next("data_split", NULL, golden)) != NULL;) {
        const int64_t count = (int64_t)golden_number(golden, "params/n");
        const int64_t held_out = llround(golden_number(golden, "params/valid_fraction") * (double)count);
        assert_true(golden_number(golden, "params/seed") == 1); /* the published code's */
        /* Through the whole way of a data set, with images of one byte. */
        enum { TESTS = 10000 };
        ImageTable *table;
        const ImageTableSize size = {"tiny", count, TESTS, 1, 1, 1, 10};
        assert_ok(image_table_new(size, &table));
        const DatasetOptions options = {.validation = -1};
        assert_ok(image_table_split(table, &options, (HoldOut){.usual = held_out}));
        const DataSplit *split = table->dataset.split;
        GoldenArray published = golden_array(golden, "expected_files/validation_indices");
        assert_int_equal(published.count, held_out);
        assert_int_equal(split[SPLIT_VALIDATION].count, held_out);
        assert_int_equal(split[SPLIT_TRAIN].count, count - held_out);
        assert_int_equal(split[SPLIT_TEST].count, TESTS);
        for (int64_t i = 0; i < held_out; ++i)
            assert_int_equal(split[SPLIT_VALIDATION].row[i], (int64_t)published.values[i]);
        const int first = golden_length(golden, "expected/first_train_indices");
        const int last = golden_length(golden, "expected/last_train_indices");
        for (int i = 0; i < first; ++i)
            assert_int_equal(split[SPLIT_TRAIN].row[i],
                             (int64_t)golden_number_at(golden, "expected/first_train_indices", i));
        for (int i = 0; i < last; ++i)
            assert_int_equal(split[SPLIT_TRAIN].row[count - held_out - last + i],
                             (int64_t)golden_number_at(golden, "expected/last_train_indices", i));
        for (int64_t i = 0; i < TESTS; ++i)
            assert_int_equal(split[SPLIT_TEST].row[i], count + i);
        golden_array_free(&published);
        image_table_free(table);
    }
}

static void every_training_row_is_in_one_split(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    static const char *const names[] = {"a", "b", "c", "d", "e", "f", "g"};
    for (int by_class = 0; by_class < 2; ++by_class) {
        ImageTable *table;
        assert_ok(image_table_new((ImageTableSize){"tiny", COUNT, 1, 1, 1, 1, 7}, &table));
        for (int i = 0; i < COUNT; ++i)
            table->label[i] = i % 7;
        const DatasetOptions options = {.validation = 38};
        assert_ok(image_table_split(table, &options,
                                    (HoldOut){.usual = 1, .class_name = by_class != 0 ? names : NULL}));
        const DataSplit *split = table->dataset.split;
        int seen[COUNT] = {0}, held_out[7] = {0};
        assert_int_equal(split[SPLIT_VALIDATION].count, 38);
        for (int64_t i = 0; i < 38; ++i) {
            ++seen[split[SPLIT_VALIDATION].row[i]];
            ++held_out[split[SPLIT_VALIDATION].label[i]];
        }
        assert_int_equal(split[SPLIT_TRAIN].count, COUNT - 38);
        for (int64_t i = 0; i < COUNT - 38; ++i) {
            ++seen[split[SPLIT_TRAIN].row[i]];
            assert_int_equal(split[SPLIT_TRAIN].label[i], split[SPLIT_TRAIN].row[i] % 7);
        }
        for (int i = 0; i < COUNT; ++i)
            assert_int_equal(seen[i], 1);
        for (int c = 0; c < 7 && by_class != 0; ++c) /* 38 = 7 * 5 + 3 */
            assert_int_equal(held_out[c], c < 3 ? 6 : 5);
        image_table_free(table);
    }
}

static void holding_out_everything_is_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"cat", "dog"};
    ImageTable *table;
    assert_ok(image_table_new((ImageTableSize){"tiny", 10, 4, 1, 1, 1, 2}, &table));
    for (int i = 0; i < 10; ++i)
        table->label[i] = i < 7 ? 0 : 1;
    DatasetOptions options = {.validation = 10};
    assert_fails(image_table_split(table, &options, (HoldOut){.usual = 1}), STATUS_INPUT,
                 "only 10 to train on");
    options.validation = 6;
    assert_fails(image_table_split(table, &options, (HoldOut){.usual = 1, .class_name = names}), STATUS_INPUT,
                 "class dog has 3 training samples");
    options = (DatasetOptions){.validation = 2, .validation_is_test = true};
    assert_fails(image_table_split(table, &options, (HoldOut){.usual = 1}), STATUS_INPUT,
                 "no samples can be held out");
    image_table_free(table);
}

/* ---- idx ---- */

enum { TRAIN = 40, TEST = 8, SIDE = 28, PIXELS = SIDE * SIDE };

static uint8_t pixel_at(int row, int pixel) { return (uint8_t)(row * 31 + pixel * 7); }

static void put_idx(const char *folder, const char *name, bool zip, int rank, int count, const uint8_t *data,
                    size_t size)
{
    uint8_t *file = malloc(16 + size);
    assert_non_null(file);
    const size_t header = 4 + 4 * (size_t)rank;
    const int extents[3] = {count, SIDE, SIDE};
    memcpy(file, (uint8_t[4]){0, 0, 8, (uint8_t)rank}, 4);
    for (int i = 0; i < rank; ++i)
        memcpy(file + 4 + 4 * i, (uint8_t[4]){0, 0, (uint8_t)(extents[i] >> 8), (uint8_t)extents[i]}, 4);
    memcpy(file + header, data, size);
    if (zip) {
        char path[PATH_MAX], zipped[128];
        (void)snprintf(zipped, sizeof zipped, "%s.gz", name);
        path_of(path, folder, zipped);
        gzFile out = gzopen(path, "wb");
        assert_non_null(out);
        assert_int_equal(gzwrite(out, file, (unsigned)(header + size)), (int)(header + size));
        assert_int_equal(gzclose(out), Z_OK);
    } else {
        put_file(folder, name, file, header + size);
    }
    free(file);
}

static void put_mnist(const char *folder, bool zip)
{
    uint8_t pixels[TRAIN * PIXELS], labels[TRAIN];
    for (int part = 0; part < 2; ++part) {
        const int count = part == 0 ? TRAIN : TEST, first = part == 0 ? 0 : TRAIN;
        for (int i = 0; i < count; ++i) {
            labels[i] = (uint8_t)((first + i) % 10);
            for (int p = 0; p < PIXELS; ++p)
                pixels[i * PIXELS + p] = pixel_at(first + i, p);
        }
        put_idx(folder, part == 0 ? "train-images-idx3-ubyte" : "t10k-images-idx3-ubyte", zip, 3, count,
                pixels, (size_t)count * PIXELS);
        put_idx(folder, part == 0 ? "train-labels-idx1-ubyte" : "t10k-labels-idx1-ubyte", zip, 1, count,
                labels, (size_t)count);
    }
}

/* What graphs are checked against before there are files is what the files hold. */
static void assert_as_published(const Dataset *dataset)
{
    const DatasetKind *kind;
    assert_ok(dataset_find(dataset->name, &kind));
    assert_int_equal(dataset->height, kind->height);
    assert_int_equal(dataset->width, kind->width);
    assert_int_equal(dataset->channels, kind->channels);
    assert_int_equal(dataset->classes, kind->classes);
}

static void idx_files_are_read(void **state)
{
    (void)state;
    for (int zip = 0; zip < 2; ++zip) {
        char folder[4096];
        test_scratch_make(folder);
        put_mnist(folder, zip != 0);
        Dataset *dataset;
        const DatasetOptions options = {.folder = folder, .validation = -1};
        assert_ok(dataset_open(zip != 0 ? "fashion_mnist" : "mnist", &options, &dataset));
        assert_string_equal(dataset->name, zip != 0 ? "fashion_mnist" : "mnist");
        assert_as_published(dataset);
        assert_int_equal(dataset->height, SIDE);
        assert_int_equal(dataset->width, SIDE);
        assert_int_equal(dataset->channels, 1);
        assert_int_equal(dataset->classes, 10);
        assert_null(dataset->prepare);
        static const int64_t counts[SPLIT_COUNT] = {TRAIN - TRAIN / 10, TRAIN / 10, TEST};
        for (int s = 0; s < SPLIT_COUNT; ++s) {
            const DataSplit *split = &dataset->split[s];
            assert_int_equal(split->count, counts[s]);
            assert_int_equal(split->rows, TRAIN + TEST);
            assert_float_equal(split->mean[0], zip != 0 ? 0.2860F : 0.1307F, 0);
            assert_float_equal(split->deviation[0], zip != 0 ? 0.3530F : 0.3081F, 0);
            for (int64_t i = 0; i < split->count; ++i) {
                const int row = (int)split->row[i];
                assert_int_equal(split->label[i], row % 10);
                for (int p = 0; p < PIXELS; ++p)
                    assert_int_equal(split->table[row * PIXELS + p], pixel_at(row, p));
            }
        }
        dataset_close(dataset);
        test_scratch_remove(folder);
    }
}

static void bad_idx_files_are_refused(void **state)
{
    (void)state;
    static const char images[] = "train-images-idx3-ubyte", labels[] = "train-labels-idx1-ubyte",
                      test_images[] = "t10k-images-idx3-ubyte", test_labels[] = "t10k-labels-idx1-ubyte";
    static const Spoiled table[] = {
        {images, REMOVE, 0, 0, "launch/get_data.sh mnist"},
        {labels, REMOVE, 0, 0, "is missing from"},
        {test_images, REMOVE, 0, 0, "is missing from"},
        {test_labels, REMOVE, 0, 0, "launch/get_data.sh mnist"},
        {images, EMPTY, 0, 0, "is empty"},
        {test_labels, EMPTY, 0, 0, "is empty"},
        {images, CUT, 1, 0, "is cut short"},
        {images, CUT, TRAIN * PIXELS + 4, 0, "the header alone takes 16"},
        {labels, CUT, 7, 0, "is cut short"},
        {labels, CUT, TRAIN + 5, 0, "the header alone takes 8"},
        {images, ADD, 1, 0, "more than belongs to it"},
        {labels, ADD, 300, 0, "more than belongs to it"},
        {images, ADD, 65 << 20, 0, "larger than"},
        {images, SET, 0, 1, "wrong magic number 0x01000803"},
        {images, SET, 2, 9, "wrong magic number 0x00000903"},
        {images, SET, 3, 1, "wrong magic number 0x00000801"},
        {labels, SET, 3, 3, "wrong magic number 0x00000803"},
        {images, SET, 4, 0xff, "is cut short"},
        {images, SET, 7, 0, "dimension 0 is 0"},
        {labels, SET, 7, TRAIN - 1, "more than belongs to it"},
        {labels, SET, 8 + 5, 10, "label 10 of sample 5 is outside 0..9"},
        {test_labels, SET, 8 + TEST - 1, 255, "label 255 of sample 7 is outside 0..9"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; ++i) {
        char folder[4096];
        test_scratch_make(folder);
        put_mnist(folder, false);
        spoil(folder, &table[i]);
        assert_spoiled("mnist", folder, &table[i]);
        test_scratch_remove(folder);
    }
}

static void images_and_labels_must_match(void **state)
{
    (void)state;
    char folder[4096];
    test_scratch_make(folder);
    put_mnist(folder, false);
    static const uint8_t labels[TRAIN];
    put_idx(folder, "train-labels-idx1-ubyte", false, 1, TRAIN - 3, labels, TRAIN - 3);
    Dataset *dataset;
    const DatasetOptions options = {.folder = folder, .validation = -1};
    assert_fails(dataset_open("mnist", &options, &dataset), STATUS_INPUT, "holds 40 images, but");
    test_scratch_remove(folder);
}

static void zipped_files_must_be_whole(void **state)
{
    (void)state;
    static const Spoiled table[] = {
        {"train-images-idx3-ubyte.gz", CUT, 20, 0, "cut short"},
        {"train-labels-idx1-ubyte.gz", SET, 0, 0, "not a gzip file"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; ++i) {
        char folder[4096];
        test_scratch_make(folder);
        put_mnist(folder, true);
        spoil(folder, &table[i]);
        assert_spoiled("fashion_mnist", folder, &table[i]);
        test_scratch_remove(folder);
    }
}

static void other_sizes_of_image_are_refused(void **state)
{
    (void)state;
    char folder[4096];
    test_scratch_make(folder);
    put_mnist(folder, false);
    uint8_t file[16 + 2 * 14 * 56] = {0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 14, 0, 0, 0, 56};
    put_file(folder, "t10k-images-idx3-ubyte", file, sizeof file);
    Dataset *dataset;
    const DatasetOptions options = {.folder = folder, .validation = -1};
    assert_fails(dataset_open("mnist", &options, &dataset), STATUS_INPUT, "images of 14x56 pixels");
    test_scratch_remove(folder);
}

/* ---- CIFAR ---- */

enum { PER_FILE = 20, PLANE = 1024, RECORD10 = 1 + 3 * PLANE, RECORD100 = 2 + 3 * PLANE };

static uint8_t cifar_pixel(int row, int channel, int pixel)
{
    return (uint8_t)(row * 13 + channel * 101 + pixel);
}

/* `count` records from training row `first_row`; fine labels are row % 100, others row % 10 or row % 20. */
static void put_records(const char *folder, const char *name, bool fine, int first_row, int count)
{
    const size_t record = fine ? RECORD100 : RECORD10;
    uint8_t *file = malloc(record * (size_t)count);
    assert_non_null(file);
    for (int i = 0; i < count; ++i) {
        uint8_t *at = file + record * (size_t)i;
        const int row = first_row + i;
        *at++ = (uint8_t)(fine ? row % 20 : row % 10);
        if (fine) *at++ = (uint8_t)(row % 100);
        for (int channel = 0; channel < 3; ++channel)
            for (int pixel = 0; pixel < PLANE; ++pixel)
                *at++ = cifar_pixel(row, channel, pixel);
    }
    put_file(folder, name, file, record * (size_t)count);
    free(file);
}

static void put_cifar10(const char *folder)
{
    for (int i = 0; i < 5; ++i) {
        char name[32];
        (void)snprintf(name, sizeof name, "data_batch_%d.bin", i + 1);
        put_records(folder, name, false, i * PER_FILE, PER_FILE);
    }
    put_records(folder, "test_batch.bin", false, 5 * PER_FILE, PER_FILE);
}

static void put_cifar100(const char *folder)
{
    put_records(folder, "train.bin", true, 0, 5 * PER_FILE);
    put_records(folder, "test.bin", true, 5 * PER_FILE, PER_FILE);
}

static void check_cifar(const char *name, const char *folder, int classes)
{
    Dataset *dataset;
    const DatasetOptions options = {.folder = folder, .validation = -1};
    assert_ok(dataset_open(name, &options, &dataset));
    assert_as_published(dataset);
    assert_int_equal(dataset->classes, classes);
    assert_int_equal(dataset->channels, 3);
    static const int64_t counts[SPLIT_COUNT] = {90, 10, PER_FILE};
    for (int s = 0; s < SPLIT_COUNT; ++s) {
        const DataSplit *split = &dataset->split[s];
        assert_int_equal(split->count, counts[s]);
        assert_float_equal(split->mean[2], 0.4465F, 0);
        assert_float_equal(split->deviation[1], 0.1994F, 0);
        for (int64_t i = 0; i < split->count; ++i) {
            const int row = (int)split->row[i];
            assert_int_equal(split->label[i], row % classes);
            assert_true((row >= 100) == (s == SPLIT_TEST));
            for (int pixel = 0; pixel < PLANE; ++pixel)
                for (int channel = 0; channel < 3; ++channel)
                    assert_int_equal(split->table[(row * PLANE + pixel) * 3 + channel],
                                     cifar_pixel(row, channel, pixel));
        }
    }
    dataset_close(dataset);
}

static void cifar_files_are_read(void **state)
{
    (void)state;
    char folder[4096], inside[PATH_MAX];
    test_scratch_make(folder);
    make_folder(folder, "cifar-10-batches-bin");
    path_of(inside, folder, "cifar-10-batches-bin");
    put_cifar10(inside);
    make_folder(folder, "cifar-100-binary");
    path_of(inside, folder, "cifar-100-binary");
    put_cifar100(inside);
    check_cifar("cifar10", folder, 10); /* as the archive unpacks */
    check_cifar("cifar100", folder, 100);
    check_cifar("cifar100", inside, 100); /* the folder of the files themselves */
    put_cifar10(folder);
    check_cifar("cifar10", folder, 10);
    test_scratch_remove(folder);
}

static void published_normalisation_is_for_cifar100s_test_images(void **state)
{
    (void)state;
    char folder[4096];
    test_scratch_make(folder);
    put_cifar10(folder);
    put_cifar100(folder);
    const DatasetOptions options = {.folder = folder, .validation = -1, .published_test_normalisation = true};
    Dataset *dataset;
    assert_ok(dataset_open("cifar100", &options, &dataset));
    assert_float_equal(dataset->split[SPLIT_TRAIN].mean[0], 0.4914F, 0);
    assert_float_equal(dataset->split[SPLIT_VALIDATION].deviation[0], 0.2023F, 0);
    assert_float_equal(dataset->split[SPLIT_TEST].mean[0], 0.485F, 0);
    assert_float_equal(dataset->split[SPLIT_TEST].mean[2], 0.406F, 0);
    assert_float_equal(dataset->split[SPLIT_TEST].deviation[2], 0.225F, 0);
    dataset_close(dataset);
    assert_ok(dataset_open("cifar10", &options, &dataset));
    assert_float_equal(dataset->split[SPLIT_TEST].mean[0], 0.4914F, 0);
    dataset_close(dataset);
    test_scratch_remove(folder);
}

static void normalisation_is_known_without_the_files(void **state)
{
    (void)state;
    char folder[4096];
    test_scratch_make(folder);
    put_cifar10(folder);
    put_cifar100(folder);
    static const char *const names[] = {"cifar10", "cifar100"};
    for (int i = 0; i < 4; ++i) {
        const DatasetOptions options = {
            .folder = folder, .validation = -1, .published_test_normalisation = i / 2 == 1};
        const DatasetKind *kind;
        Dataset *dataset;
        assert_ok(dataset_find(names[i % 2], &kind));
        assert_ok(dataset_open(names[i % 2], &options, &dataset));
        for (int split = 0; split < SPLIT_COUNT; ++split) {
            const Normalisation known = dataset_normalisation(kind, &options, (Split)split);
            assert_memory_equal(known.mean, dataset->split[split].mean, sizeof known.mean);
            assert_memory_equal(known.deviation, dataset->split[split].deviation, sizeof known.deviation);
        }
        dataset_close(dataset);
    }
    test_scratch_remove(folder);
}

static void bad_cifar_files_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *dataset;
        Spoiled spoiled;
    } table[] = {
        {"cifar10", {"data_batch_1.bin", REMOVE, 0, 0, "launch/get_data.sh cifar10"}},
        {"cifar10", {"data_batch_4.bin", REMOVE, 0, 0, "is missing from"}},
        {"cifar10", {"test_batch.bin", REMOVE, 0, 0, "launch/get_data.sh cifar10"}},
        {"cifar10", {"data_batch_2.bin", EMPTY, 0, 0, "is empty"}},
        {"cifar10", {"data_batch_2.bin", CUT, 1, 0, "whole number of records of 3073 bytes"}},
        {"cifar10", {"data_batch_2.bin", CUT, RECORD10, 0, "holds 19 records"}},
        {"cifar10", {"test_batch.bin", CUT, RECORD10, 0, "19, but it should be 1 times"}},
        {"cifar10", {"data_batch_5.bin", ADD, 1, 0, "whole number of records of 3073 bytes"}},
        {"cifar10", {"data_batch_5.bin", ADD, RECORD10, 0, "holds 21 records"}},
        {"cifar10", {"data_batch_5.bin", ADD, 10000 * RECORD10, 0, "larger than the 30730000 bytes"}},
        {"cifar10", {"data_batch_3.bin", SET, 4 * RECORD10, 10, "record 4: label 10 is outside 0..9"}},
        {"cifar10", {"test_batch.bin", SET, 19 * RECORD10, 255, "record 19: label 255 is outside 0..9"}},
        {"cifar100", {"train.bin", REMOVE, 0, 0, "launch/get_data.sh cifar100"}},
        {"cifar100", {"train.bin", CUT, 1000, 0, "whole number of records of 3074 bytes"}},
        {"cifar100", {"train.bin", CUT, RECORD100, 0, "holds 99 records"}},
        {"cifar100", {"train.bin", SET, 7 * RECORD100, 20, "record 7: label 20 is outside 0..19"}},
        {"cifar100", {"test.bin", SET, 7 * RECORD100 + 1, 100, "record 7: label 100 is outside 0..99"}},
        {"cifar100", {"test.bin", EMPTY, 0, 0, "is empty"}},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; ++i) {
        char folder[4096];
        test_scratch_make(folder);
        if (strcmp(table[i].dataset, "cifar10") == 0)
            put_cifar10(folder);
        else
            put_cifar100(folder);
        spoil(folder, &table[i].spoiled);
        assert_spoiled(table[i].dataset, folder, &table[i].spoiled);
        test_scratch_remove(folder);
    }
}

static void cifar10_files_are_not_cifar100s(void **state)
{
    (void)state;
    char folder[4096];
    test_scratch_make(folder);
    put_records(folder, "train.bin", false, 0, 50);
    put_records(folder, "test.bin", false, 0, 10);
    Dataset *dataset;
    const DatasetOptions options = {.folder = folder, .validation = -1};
    assert_fails(dataset_open("cifar100", &options, &dataset), STATUS_INPUT, "of another format");
    test_scratch_remove(folder);
}

/* ---- Options ---- */

static void limits_take_the_first_samples(void **state)
{
    (void)state;
    char folder[4096];
    test_scratch_make(folder);
    put_cifar10(folder);
    Dataset *all, *some;
    DatasetOptions options = {.folder = folder, .validation = 30};
    assert_ok(dataset_open("cifar10", &options, &all));
    assert_int_equal(all->split[SPLIT_VALIDATION].count, 30);
    assert_int_equal(all->split[SPLIT_TRAIN].count, 70);
    options.train_limit = 17;
    options.validation_limit = 1000; /* more than there are: all */
    options.test_limit = 1;
    assert_ok(dataset_open("cifar10", &options, &some));
    static const int64_t counts[SPLIT_COUNT] = {17, 30, 1};
    for (int s = 0; s < SPLIT_COUNT; ++s) {
        assert_int_equal(some->split[s].count, counts[s]);
        assert_memory_equal(some->split[s].row, all->split[s].row, (size_t)counts[s] * sizeof(int64_t));
        assert_memory_equal(some->split[s].label, all->split[s].label, (size_t)counts[s] * sizeof(int32_t));
    }
    dataset_close(some);
    options = (DatasetOptions){.folder = folder, .validation = 0};
    assert_ok(dataset_open("cifar10", &options, &some));
    assert_int_equal(some->split[SPLIT_VALIDATION].count, 0);
    assert_int_equal(some->split[SPLIT_TRAIN].count, 100);
    dataset_close(some);
    options = (DatasetOptions){.folder = folder, .validation = -1, .validation_is_test = true};
    assert_ok(dataset_open("cifar10", &options, &some));
    assert_int_equal(some->split[SPLIT_TRAIN].count, 100);
    assert_int_equal(some->split[SPLIT_VALIDATION].count, PER_FILE);
    assert_memory_equal(some->split[SPLIT_VALIDATION].row, some->split[SPLIT_TEST].row,
                        PER_FILE * sizeof(int64_t));
    dataset_close(some);
    dataset_close(all);
    options = (DatasetOptions){.folder = folder, .validation = -1, .test_limit = -4};
    assert_fails(dataset_open("cifar10", &options, &some), STATUS_INPUT, "limit of -4 test samples");
    options = (DatasetOptions){.folder = folder, .validation = 100};
    assert_fails(dataset_open("cifar10", &options, &some), STATUS_INPUT, "only 100 to train on");
    test_scratch_remove(folder);
}

static void unknown_names_are_corrected(void **state)
{
    (void)state;
    Dataset *dataset;
    const DatasetOptions options = {.validation = -1};
    assert_fails(dataset_open("cifar11", &options, &dataset), STATUS_INPUT, "did you mean cifar10?");
    assert_fails(dataset_open("tinyimagenet", &options, &dataset), STATUS_INPUT,
                 "did you mean tiny_imagenet?");
    assert_fails(dataset_open("spreadsheet", &options, &dataset), STATUS_INPUT, "no data set spreadsheet");
    int count;
    const DatasetKind *kinds = dataset_kinds(&count);
    assert_int_equal(count, 6);
    for (int i = 0; i < count; ++i) {
        const DatasetKind *found;
        assert_true(strlen(kinds[i].help) > 10);
        assert_ok(dataset_find(kinds[i].name, &found));
        assert_ptr_equal(found, &kinds[i]);
    }
    dataset_close(NULL);
}

static void the_usual_place_is_searched(void **state)
{
    (void)state;
    char folder[4096], before[PATH_MAX], inside[PATH_MAX];
    assert_non_null(getcwd(before, sizeof before));
    test_scratch_make(folder);
    assert_int_equal(chdir(folder), 0);
    Dataset *dataset;
    const DatasetOptions options = {.folder = "", .validation = -1};
    assert_fails(dataset_open("cifar10", &options, &dataset), STATUS_INPUT,
                 "no data_batch_1.bin in data/cifar10, data/cifar10/cifar-10-batches-bin, "
                 "data/cifar10/cifar-10-batches-py\nrun "
                 "launch/get_data.sh cifar10, or");
    make_folder(folder, "data/cifar10/cifar-10-batches-bin");
    path_of(inside, folder, "data/cifar10/cifar-10-batches-bin");
    put_cifar10(inside);
    check_cifar("cifar10", "", 10);
    const DatasetOptions elsewhere = {.folder = "no/such", .validation = -1};
    assert_fails(
        dataset_open("fashion_mnist", &elsewhere, &dataset), STATUS_INPUT,
        "run launch/get_data.sh fashion_mnist no/such, install the package dataset-fashion-mnist, or "
        "set dataset.folder to where its files are");
    assert_int_equal(chdir(before), 0);
    test_scratch_remove(folder);
}

/* ---- Real data ---- */

/* Mean and deviation of pixel / 255 over training and validation rows of one channel. */
static void moments(const Dataset *dataset, int64_t channel, double *mean, double *deviation)
{
    double sum = 0, squares = 0;
    const int64_t area = dataset->height * dataset->width;
    int64_t count = 0;
    for (int s = SPLIT_TRAIN; s <= SPLIT_VALIDATION; ++s) {
        const DataSplit *split = &dataset->split[s];
        for (int64_t i = 0; i < split->count; ++i) {
            const uint8_t *image = split->table + split->row[i] * area * dataset->channels;
            int64_t image_sum = 0, image_squares = 0;
            for (int64_t p = 0; p < area; ++p) {
                const int64_t value = image[p * dataset->channels + channel];
                image_sum += value;
                image_squares += value * value;
            }
            sum += (double)image_sum;
            squares += (double)image_squares;
        }
        count += split->count * area;
    }
    *mean = sum / (double)count / 255;
    *deviation = sqrt(squares / (double)count / (255.0 * 255.0) - *mean * *mean);
}

static void check_balance(const Dataset *dataset, int64_t train_count, int64_t test_count)
{
    int64_t of_class[2][10] = {{0}};
    for (int s = 0; s < SPLIT_COUNT; ++s)
        for (int64_t i = 0; i < dataset->split[s].count; ++i)
            ++of_class[s == SPLIT_TEST][dataset->split[s].label[i]];
    for (int c = 0; c < 10; ++c) {
        assert_int_equal(of_class[0][c], train_count / 10);
        assert_int_equal(of_class[1][c], test_count / 10);
    }
}

static void fashion_mnist_of_the_distribution(void **state)
{
    (void)state;
    if (access("/usr/share/datasets/fashion-mnist", R_OK) != 0) {
        print_message("skipped: the package dataset-fashion-mnist is not installed\n");
        skip();
    }
    char folder[4096], before[PATH_MAX];
    assert_non_null(getcwd(before, sizeof before));
    test_scratch_make(folder);
    assert_int_equal(chdir(folder), 0); /* where there is no data/fashion_mnist */
    Dataset *dataset;
    const DatasetOptions options = {.folder = "", .validation = -1};
    assert_ok(dataset_open("fashion_mnist", &options, &dataset));
    assert_int_equal(dataset->split[SPLIT_TRAIN].count, 54000);
    assert_int_equal(dataset->split[SPLIT_VALIDATION].count, 6000);
    assert_int_equal(dataset->split[SPLIT_TEST].count, 10000);
    check_balance(dataset, 60000, 10000);
    double mean, deviation;
    moments(dataset, 0, &mean, &deviation);
    assert_float_equal(mean, (double)dataset->split[SPLIT_TRAIN].mean[0], 1e-4);
    assert_float_equal(deviation, (double)dataset->split[SPLIT_TRAIN].deviation[0], 1e-4);
    dataset_close(dataset);
    assert_int_equal(chdir(before), 0);
    test_scratch_remove(folder);
}

static void cifar10_as_published(void **state)
{
    (void)state;
    Dataset *dataset;
    const DatasetOptions options = {.folder = test_data_or_skip("cifar10"), .validation = -1};
    assert_ok(dataset_open("cifar10", &options, &dataset));
    assert_int_equal(dataset->split[SPLIT_TRAIN].count, 45000);
    assert_int_equal(dataset->split[SPLIT_VALIDATION].count, 5000);
    assert_int_equal(dataset->split[SPLIT_TEST].count, 10000);
    check_balance(dataset, 50000, 10000);
    for (int64_t channel = 0; channel < 3; ++channel) {
        /* The published deviations are means of single images' and smaller: only the means are compared. */
        double mean, deviation;
        moments(dataset, channel, &mean, &deviation);
        assert_float_equal(mean, (double)dataset->split[SPLIT_TRAIN].mean[channel], 1e-3);
    }
    dataset_close(dataset);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shuffle_gives_the_published_validation_images),
        cmocka_unit_test(every_training_row_is_in_one_split),
        cmocka_unit_test(holding_out_everything_is_refused),
        cmocka_unit_test(idx_files_are_read),
        cmocka_unit_test(bad_idx_files_are_refused),
        cmocka_unit_test(images_and_labels_must_match),
        cmocka_unit_test(zipped_files_must_be_whole),
        cmocka_unit_test(other_sizes_of_image_are_refused),
        cmocka_unit_test(cifar_files_are_read),
        cmocka_unit_test(published_normalisation_is_for_cifar100s_test_images),
        cmocka_unit_test(normalisation_is_known_without_the_files),
        cmocka_unit_test(bad_cifar_files_are_refused),
        cmocka_unit_test(cifar10_files_are_not_cifar100s),
        cmocka_unit_test(limits_take_the_first_samples),
        cmocka_unit_test(unknown_names_are_corrected),
        cmocka_unit_test(the_usual_place_is_searched),
        cmocka_unit_test(fashion_mnist_of_the_distribution),
        cmocka_unit_test(cifar10_as_published),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
