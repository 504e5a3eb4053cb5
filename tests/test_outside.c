/* Images from outside a data set: SVHN, CIFAR-10-C, made noise, folders; and what is said of those that do not fit. */
#include "tests/data_files.h"
#include "tests/golden.h"

#include "engine/data/images/image_file.h"
#include "engine/data/images/noise.h"
#include "engine/data/images/outside.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>

enum { SIDE = 32, BYTES = SIDE * SIDE * 3, OWN = 7 };

/* A data set of so many channels, whose test images are these bytes, in another order. */
typedef struct {
    Dataset dataset;
    uint8_t table[OWN * BYTES];
    int64_t row[OWN];
    int32_t label[OWN];
} Own;

static void own_set(Own *own, int64_t channels)
{
    memset(own, 0, sizeof *own);
    own->dataset =
        (Dataset){.name = "own", .height = SIDE, .width = SIDE, .channels = channels, .classes = 10};
    for (int i = 0; i < OWN * BYTES; ++i)
        own->table[i] = (uint8_t)(i * 31 % 251);
    for (int i = 0; i < OWN; ++i)
        own->row[i] = OWN - 1 - i;
    own->dataset.split[SPLIT_TEST] = (DataSplit){.table = own->table,
                                                 .rows = OWN,
                                                 .count = OWN,
                                                 .row = own->row,
                                                 .label = own->label,
                                                 .mean = {0.5F, 0.25F, 0.125F},
                                                 .deviation = {2, 3, 4}};
}

static Status open_set(Own *own, const char *name, const char *from, bool *made, char note[OUTSIDE_NOTE],
                       Dataset **set)
{
    return outside_open(&own->dataset, name, from, 1, made, note, set);
}

static void check_refused(Own *own, const char *name, const char *from, StatusCode code, const char *text)
{
    Dataset *set;
    bool made;
    char note[OUTSIDE_NOTE];
    assert_fails(open_set(own, name, from, &made, note, &set), code, text);
    assert_null(set);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* SVHN's array holds the same pictures as the sample's PNG files, whichever version of MATLAB's format it is in. */
static void test_svhn(void **state)
{
    (void)state;
    static Own own;
    char sample[PATH_MAX], path[PATH_MAX], name[128], note[OUTSIDE_NOTE];
    own_set(&own, 3);
    (void)snprintf(sample, sizeof sample, "%s", test_data_or_skip("svhn-sample"));
    char *files[64] = {NULL};
    int count = 0;
    DIR *stream = opendir(sample);
    assert_non_null(stream);
    for (const struct dirent *entry; (entry = readdir(stream)) != NULL;)
        if (image_file_name(entry->d_name)) files[count++] = strdup(entry->d_name);
    (void)closedir(stream);
    qsort(files, (size_t)count, sizeof *files, compare_names);
    static const char *const versions[] = {"v5", "v5-compressed", "v7.3"};
    for (int i = 0; i < 3; ++i) {
        Dataset *set;
        bool made;
        (void)snprintf(name, sizeof name, "mat-files/svhn-layout-19.%s.mat", versions[i]);
        Status status = open_set(&own, "svhn", test_data_or_skip(name), &made, note, &set);
        if (status != OK && status_code(status) == STATUS_UNSUPPORTED) {
            print_message("skipped: %s\n", status_message(status));
            status_free(status);
            continue;
        }
        assert_ok(status);
        assert_false(made);
        assert_int_equal(set->split[SPLIT_TEST].count, count);
        assert_float_equal(set->split[SPLIT_TEST].mean[1], 0.25, 0);
        for (int k = 0; k < count; ++k) {
            char *bytes;
            size_t size;
            uint8_t pixels[BYTES];
            path_of(path, sample, files[k]);
            assert_ok(file_read(path, 1 << 20, &bytes, &size));
            assert_ok(image_file_decode(path, (const uint8_t *)bytes, size, SIDE, SIDE, 3, pixels));
            assert_memory_equal(set->split[SPLIT_TEST].table + (size_t)k * BYTES, pixels, BYTES);
            free(bytes);
        }
        dataset_close(set);
    }
    static const char *const bad[][2] = {
        {"svhn-layout-19.truncated.mat", "cut short"},
        {"scipy-testmatrix_7.4_GLNX86.mat", "there is no variable X in it; it holds"},
        {"scipy-testdouble_4.2c_SOL2.mat", "version 4"}};
    for (int i = 0; i < 3; ++i) {
        (void)snprintf(name, sizeof name, "mat-files/%s", bad[i][0]);
        check_refused(&own, "svhn", test_data_or_skip(name), STATUS_INPUT, bad[i][1]);
    }
    static Own grey;
    own_set(&grey, 1);
    check_refused(&grey, "svhn", test_data_or_skip("mat-files/svhn-layout-19.v5.mat"), STATUS_INPUT,
                  "images of 32x32 pixels and 3 channels, but those of own have 32x32 and 1");
    /* The sample as a folder of images, too. */
    Dataset *set;
    bool made;
    assert_ok(open_set(&own, "digits", sample, &made, note, &set));
    assert_int_equal(set->split[SPLIT_TEST].count, count);
    assert_non_null(strstr(note, "svhn-sample"));
    dataset_close(set);
    check_refused(&grey, "digits", sample, STATUS_INPUT, "00_label1.png: an image in colour");
    for (int k = 0; k < count; ++k)
        free(files[k]);
}

static void put_array(const char *folder, const char *name, DType type, int64_t count, int64_t side,
                      int64_t channels)
{
    char path[PATH_MAX];
    const int64_t extent[] = {count, side, side, channels};
    const size_t size = (size_t)(count * side * side * channels) * dtype_size(type);
    uint8_t *bytes = calloc(1, size + 1);
    assert_non_null(bytes);
    for (int64_t i = 0; i < count && type == UINT8; ++i) /* an image of its number */
        memset(bytes + i * side * side * channels, (int)(i % 256), (size_t)(side * side * channels));
    path_of(path, folder, name);
    assert_ok(npy_write(path, type, 4, extent, bytes));
    free(bytes);
}

static void test_cifar10_c(void **state)
{
    (void)state;
    static Own own;
    char folder[4096], path[PATH_MAX], from[PATH_MAX + 64], note[OUTSIDE_NOTE];
    Dataset *set;
    bool made;
    own_set(&own, 3);
    test_scratch_make(folder);
    put_array(folder, "gaussian_noise.npy", UINT8, 20, SIDE, 3);
    for (int severity = 0; severity <= 5; ++severity) { /* 0: not said, which is 5 */
        path_of(path, folder, "gaussian_noise.npy");
        (void)snprintf(from, sizeof from, severity > 0 ? "%s:%d" : "%s", path, severity);
        assert_ok(open_set(&own, "cifar10_c", from, &made, note, &set));
        assert_int_equal(set->split[SPLIT_TEST].count, 4);
        for (int i = 0; i < 4; ++i)
            assert_int_equal(set->split[SPLIT_TEST].table[i * BYTES + 77],
                             4 * ((severity > 0 ? severity : 5) - 1) + i);
        assert_non_null(strstr(note, severity == 3 ? "gaussian_noise.npy, severity 3" : "severity"));
        dataset_close(set);
    }
    assert_ok(open_set(&own, "cifar10_c", folder, &made, note, &set)); /* the folder that has it */
    dataset_close(set);
    check_refused(&own, "cifar10_c", "", STATUS_USAGE, "say where the file gaussian_noise.npy is");
    (void)snprintf(from, sizeof from, "%s:6", path);
    check_refused(&own, "cifar10_c", from, STATUS_USAGE, "the severity is a number from 1 to 5, not \"6\"");
    (void)snprintf(from, sizeof from, "%s/nowhere.npy", folder);
    check_refused(&own, "cifar10_c", from, STATUS_INPUT, "there is no file");
    static const struct {
        const char *name;
        DType type;
        int64_t count, side, channels;
        const char *severity, *text;
    } bad[] = {
        {"odd.npy", UINT8, 21, SIDE, 3, "", "21 images are neither blocks of 10000"},
        {"small.npy", UINT8, 5, 28, 3, "", "images of 28x28 pixels and 3 channels"},
        {"grey.npy", UINT8, 5, SIDE, 1, "", "images of 32x32 pixels and 1 channel,"},
        {"real.npy", FLOAT32, 5, SIDE, 3, "", "an array of type float32"},
        {"two.npy", UINT8, 20000, 1, 1, ":3", "images of 1x1"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; ++i) {
        put_array(folder, bad[i].name, bad[i].type, bad[i].count, bad[i].side, bad[i].channels);
        (void)snprintf(from, sizeof from, "%s/%s%s", folder, bad[i].name, bad[i].severity);
        check_refused(&own, "cifar10_c", from, STATUS_INPUT, bad[i].text);
    }
    /* Two of the published blocks: severities 1 and 2, of images of one pixel here. */
    static Own dot;
    own_set(&dot, 1);
    dot.dataset.height = dot.dataset.width = 1;
    (void)snprintf(from, sizeof from, "%s/two.npy:2", folder);
    assert_ok(open_set(&dot, "cifar10_c", from, &made, note, &set));
    assert_int_equal(set->split[SPLIT_TEST].count, 10000);
    assert_int_equal(set->split[SPLIT_TEST].table[0], 10000 % 256);
    dataset_close(set);
    from[strlen(from) - 1] = '3';
    check_refused(&dot, "cifar10_c", from, STATUS_INPUT,
                  "severity 3 is not there: 20000 images are severities 1 to 2");
    test_scratch_remove(folder);
}

/* ---- noise ---- */

/* Byte for byte what the authors' formula gives for known draws. */
static void test_golden_noise(void **state)
{
    (void)state;
    int cases = 0;
    for (const GoldenCase *golden = NULL;
         (golden = golden_next("cifar10c_gaussian_noise", NULL, golden)) != NULL; ++cases) {
        GoldenArray images = golden_array(golden, "inputs/images"),
                    normal = golden_array(golden, "inputs/normal_draws"),
                    noisy = golden_array(golden, "expected_files/noisy");
        const int severities = golden_length(golden, "params/severities");
        assert_int_equal(noisy.count, severities * images.count);
        /* Draws of their own for each severity, or the same for all. */
        assert_true(normal.count == noisy.count || normal.count == images.count);
        for (int s = 0; s < severities; ++s) {
            const double deviation = noise_deviation((int)golden_number_at(golden, "params/severities", s));
            assert_true(deviation == golden_number_at(golden, "params/s", s));
            for (int64_t i = 0; i < images.count; ++i)
                assert_int_equal(noise_byte((uint8_t)images.values[i], deviation,
                                            normal.values[(s * images.count + i) % normal.count]),
                                 noisy.values[s * images.count + i]);
        }
        golden_count(noisy.count);
        golden_array_free(&images);
        golden_array_free(&normal);
        golden_array_free(&noisy);
    }
    if (cases == 0) skip();
}

/* What a constant byte turns into: mean, deviation and shares of the ends, known exactly for severity 5. */
static void test_moments(void **state)
{
    (void)state;
    static const struct {
        int byte;
        double mean, deviation, none, full;
    } rows[] = {{0, 9.924, 14.718, 0.51564, 0},
                {32, 32.830, 23.156, 0.11205, 0},
                {128, 127.500, 25.502, 0, 0},
                {224, 222.170, 23.156, 0, 0.11205},
                {255, 244.576, 15.060, 0, 0.5}};
    enum { DRAWS = 200000 };
    static uint8_t bytes[DRAWS];
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; ++r) {
        memset(bytes, rows[r].byte, sizeof bytes);
        noise_add(bytes, DRAWS, 5, 1, (int64_t)r);
        double sum = 0, squares = 0, none = 0, full = 0;
        for (int i = 0; i < DRAWS; ++i) {
            sum += bytes[i];
            squares += (double)bytes[i] * bytes[i];
            none += bytes[i] == 0;
            full += bytes[i] == 255;
        }
        const double mean = sum / DRAWS, deviation = sqrt(squares / DRAWS - mean * mean),
                     error = 5 / sqrt((double)DRAWS);
        assert_float_equal(mean, rows[r].mean, rows[r].deviation * error);
        assert_float_equal(deviation, rows[r].deviation, rows[r].deviation * error);
        assert_float_equal(none / DRAWS, rows[r].none, 0.5 * error);
        assert_float_equal(full / DRAWS, rows[r].full, 0.5 * error);
    }
    for (int byte = 0; byte < 256; ++byte) /* without noise no byte changes */
        assert_int_equal(noise_byte((uint8_t)byte, 0.1, 0), byte);
}

static void test_made_noise(void **state)
{
    (void)state;
    static Own own;
    char note[OUTSIDE_NOTE];
    Dataset *set, *again;
    bool made;
    own_set(&own, 3);
    assert_ok(open_set(&own, "gaussian_noise", "", &made, note, &set));
    assert_true(made);
    assert_non_null(strstr(note, "made here"));
    assert_non_null(strstr(note, "severity 5 (s = 0.10)"));
    assert_int_equal(set->split[SPLIT_TEST].count, OWN);
    for (int i = 0; i < OWN; ++i) { /* of image i of the split, which lies in another row of the table */
        double difference = 0;
        for (int k = 0; k < BYTES; ++k)
            difference +=
                fabs((double)set->split[SPLIT_TEST].table[i * BYTES + k] - own.table[own.row[i] * BYTES + k]);
        assert_true(difference / BYTES > 10 && difference / BYTES < 25);
    }
    assert_ok(open_set(&own, "gaussian_noise", "5", &made, note, &again)); /* the same bits */
    assert_memory_equal(set->split[SPLIT_TEST].table, again->split[SPLIT_TEST].table, OWN * BYTES);
    dataset_close(again);
    assert_ok(open_set(&own, "gaussian_noise", "1", &made, note, &again));
    assert_memory_not_equal(set->split[SPLIT_TEST].table, again->split[SPLIT_TEST].table, OWN * BYTES);
    dataset_close(again);
    dataset_close(set);
    check_refused(&own, "gaussian_noise", "0", STATUS_USAGE, "the severity is a number from 1 to 5");
    check_refused(&own, "gaussian_noise", "five", STATUS_USAGE, "not \"five\"");
}

static void test_bad_folders(void **state)
{
    (void)state;
    static Own own;
    char folder[4096];
    own_set(&own, 3);
    test_scratch_make(folder);
    check_refused(&own, "mine", "", STATUS_USAGE, "--ood mine=FOLDER");
    check_refused(&own, "mine", "/nowhere", STATUS_INPUT, "mine: there is no folder /nowhere");
    check_refused(&own, "mine", folder, STATUS_INPUT, "there are no JPEG or PNG files in");
    check_refused(&own, "svhn", folder, STATUS_INPUT, "there is no file");
    make_folder(folder, "inner");
    put_file(folder, "inner/a.png", "text", 4);
    check_refused(&own, "mine", folder, STATUS_INPUT, "inner/a.png: neither a JPEG nor a PNG image");
    test_scratch_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_svhn),         cmocka_unit_test(test_cifar10_c),
        cmocka_unit_test(test_golden_noise), cmocka_unit_test(test_moments),
        cmocka_unit_test(test_made_noise),   cmocka_unit_test(test_bad_folders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
