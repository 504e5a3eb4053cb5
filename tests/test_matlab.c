/* Arrays of bytes in MATLAB files: SVHN's layout in every version that is read, and files that are something else. */
#include "tests/data_files.h"

#include "engine/data/images/matlab.h"

#include <dirent.h>
#include <stdio.h>

static const char *const seeds[] = {"plain.mat", "compressed.mat", "big_endian.mat"};

static const char *seed_path(const char *name, char path[PATH_MAX])
{
    (void)snprintf(path, PATH_MAX, TEST_SEEDS "/matlab/%s", name);
    return path;
}

static void test_versions_alike(void **state)
{
    (void)state;
    for (int i = 0; i < 3; ++i) {
        char path[PATH_MAX];
        MatlabArray array;
        assert_ok(matlab_read(seed_path(seeds[i], path), "X", &array));
        static const int64_t extent[] = {2, 2, 3, 2};
        assert_int_equal(array.rank, 4);
        assert_memory_equal(array.extent, extent, sizeof extent);
        assert_int_equal(array.count, 24);
        for (int k = 0; k < 24; ++k)
            assert_int_equal(array.data[k], k);
        free(array.data);
        assert_fails(matlab_read(path, "Z", &array), STATUS_INPUT,
                     "there is no variable Z in it; it holds y, X");
    }
}

/* Cut anywhere, or with any byte changed, the file is refused or read, and never with fewer values. */
static void test_damage(void **state)
{
    (void)state;
    for (int i = 0; i < 3; ++i) {
        char path[PATH_MAX], *bytes;
        size_t size;
        MatlabArray array;
        assert_ok(file_read(seed_path(seeds[i], path), 1 << 20, &bytes, &size));
        for (size_t cut = 0; cut < size; ++cut) {
            assert_fails(matlab_parse("cut.mat", (const uint8_t *)bytes, cut, "X", &array), STATUS_INPUT,
                         "cut.mat: ");
            assert_null(array.data);
        }
        for (size_t k = 0; k < size; ++k) {
            const char before = bytes[k];
            bytes[k] = (char)(before ^ 0x41);
            Status status = matlab_parse("odd.mat", (const uint8_t *)bytes, size, "X", &array);
            if (status == OK) assert_int_equal(array.count, 24);
            status_free(status);
            free(array.data);
            bytes[k] = before;
        }
        free(bytes);
    }
}

static void test_svhn_layout(void **state)
{
    (void)state;
    static const char *const files[] = {"svhn-layout-19.v5.mat", "svhn-layout-19.v5-compressed.mat",
                                        "svhn-layout-19.v7.3.mat"};
    for (int i = 0; i < 3; ++i) {
        char name[128];
        MatlabArray array;
        (void)snprintf(name, sizeof name, "mat-files/%s", files[i]);
        const char *path = test_data_or_skip(name);
        Status status = matlab_read(path, "X", &array);
        if (status != OK && status_code(status) == STATUS_UNSUPPORTED) {
            print_message("skipped: %s\n", status_message(status));
            status_free(status);
            continue;
        }
        assert_ok(status);
        static const int64_t extent[] = {32, 32, 3, 19};
        static const uint8_t first[] = {31, 24, 36, 44};
        int64_t sum = 0;
        assert_int_equal(array.rank, 4);
        assert_memory_equal(array.extent, extent, sizeof extent);
        assert_memory_equal(array.data, first, sizeof first);
        for (int64_t k = 0; k < array.count; ++k)
            sum += array.data[k];
        assert_int_equal(sum, 7067085);
        free(array.data);
        assert_fails(matlab_read(path, "Z", &array), STATUS_INPUT, "there is no variable Z in it; it holds ");
        assert_fails(matlab_read(path, "Z", &array), STATUS_INPUT, i == 2 ? "holds X, y" : ", ");
    }
}

/* No file of other programs crashes the reader, and each is refused by its name. */
static void test_other_files(void **state)
{
    (void)state;
    char folder[PATH_MAX];
    (void)snprintf(folder, sizeof folder, "%s", test_data_or_skip("mat-files"));
    DIR *stream = opendir(folder);
    assert_non_null(stream);
    const struct dirent *entry;
    int refused = 0;
    while ((entry = readdir(stream)) != NULL) {
        char path[PATH_MAX];
        const char *dot = strrchr(entry->d_name, '.');
        if (dot == NULL || strcmp(dot, ".mat") != 0) continue;
        if (strncmp(entry->d_name, "svhn-layout-19.v", 16) == 0) continue;
        MatlabArray array;
        path_of(path, folder, entry->d_name);
        Status status = matlab_read(path, "X", &array);
        assert_true(status != OK);
        assert_true(status_code(status) == STATUS_INPUT || status_code(status) == STATUS_UNSUPPORTED);
        assert_non_null(strstr(status_message(status), entry->d_name));
        if (strstr(entry->d_name, "truncated") != NULL)
            assert_non_null(strstr(status_message(status), "cut short"));
        if (strstr(entry->d_name, "_4.2c_") != NULL)
            assert_non_null(strstr(status_message(status), "version 4"));
        status_free(status);
        ++refused;
    }
    (void)closedir(stream);
    assert_true(refused > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_versions_alike),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_svhn_layout),
        cmocka_unit_test(test_other_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
