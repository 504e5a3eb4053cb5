/* Golden values: that a suite reads each kind, that sets are whole, and what the reader does. */
#include "tests/golden.h"
#include "tests/golden_kinds.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- every kind has a row ---- */

static void test_every_kind_has_a_row(void **state)
{
    (void)state;
    int rows, unknown = 0;
    const GoldenKind *table = golden_kinds(&rows);
    int *cases = calloc((size_t)rows, sizeof *cases);
    assert_non_null(cases);
    for (const GoldenCase *golden = NULL; (golden = golden_any(golden)) != NULL;) {
        const GoldenKind *row = golden_kind(golden);
        if (row != NULL) {
            ++cases[row - table];
            continue;
        }
        print_error("%s of %s: tests/golden_kinds.c has no row for its kind, %s\n", golden->id,
                    golden->folder, golden->kind);
        ++unknown;
    }
    for (int i = 0; i < rows; ++i)
        if (table[i].suite == NULL && cases[i] > 0)
            print_message("no suite reads %d cases %s%s%s yet (%s)\n", cases[i], table[i].kind,
                          table[i].mark != NULL ? " with " : "", table[i].mark != NULL ? table[i].mark : "",
                          table[i].why);
    free(cases);
    assert_int_equal(unknown, 0);
}

static void test_rows_name_a_suite_or_a_reason(void **state)
{
    (void)state;
    int rows;
    const GoldenKind *table = golden_kinds(&rows);
    for (int i = 0; i < rows; ++i)
        assert_true((table[i].suite == NULL) != (table[i].why == NULL));
}

/* ---- sets are whole ---- */

/* A file as "files" of the manifest describes it. */
static int check_file(const char *path, const cJSON *entry)
{
    struct stat status;
    const cJSON *bytes = cJSON_GetObjectItemCaseSensitive(entry, "bytes");
    const cJSON *shape = cJSON_GetObjectItemCaseSensitive(entry, "shape");
    if (stat(path, &status) != 0 || !cJSON_IsNumber(bytes) || (double)status.st_size != bytes->valuedouble) {
        print_error("%s is absent or has another size than its manifest says\n", path);
        return 1;
    }
    if (shape == NULL) return 0;
    Npy npy;
    assert_ok(npy_open(path, &npy));
    bool same = npy.rank == cJSON_GetArraySize(shape);
    for (int i = 0; same && i < npy.rank; ++i)
        same = (double)npy.extent[i] == cJSON_GetArrayItem(shape, i)->valuedouble;
    npy_close(&npy);
    if (!same) print_error("%s has another shape than its manifest says\n", path);
    return same ? 0 : 1;
}

/* Files that the roles name, which may be tables. */
static int count_unlisted(const GoldenCase *golden, const cJSON *roles, const cJSON *files)
{
    if (cJSON_IsString(roles)) {
        if (cJSON_GetObjectItemCaseSensitive(files, roles->valuestring) != NULL) return 0;
        if (strncmp(roles->valuestring, "../", 3) == 0) return 0; /* data beside the set */
        print_error("%s: the manifest does not list %s\n", golden->id, roles->valuestring);
        return 1;
    }
    int unlisted = 0;
    const cJSON *role;
    cJSON_ArrayForEach(role, roles) unlisted += count_unlisted(golden, role, files);
    return unlisted;
}

static void check_set(const char *folder)
{
    char path[4200];
    (void)snprintf(path, sizeof path, "%s/manifest.json", folder);
    char *text = golden_read_text(path);
    cJSON *manifest = cJSON_Parse(text);
    free(text);
    assert_non_null(manifest);
    const cJSON *files = cJSON_GetObjectItemCaseSensitive(manifest, "files"), *item;
    int wrong = 0;
    cJSON_ArrayForEach(item, files)
    {
        (void)snprintf(path, sizeof path, "%s/%s", folder, item->string);
        wrong += check_file(path, item);
    }
    const cJSON *kinds = cJSON_GetObjectItemCaseSensitive(manifest, "kinds"), *golden;
    double expected = 0, cases = 0;
    cJSON_ArrayForEach(item, kinds) expected += item->valuedouble;
    cJSON_ArrayForEach(golden, cJSON_GetObjectItemCaseSensitive(manifest, "cases"))
    {
        const GoldenCase one = {.id = cJSON_GetObjectItemCaseSensitive(golden, "id")->valuestring,
                                .folder = folder};
        wrong += count_unlisted(&one, cJSON_GetObjectItemCaseSensitive(golden, "inputs"), files);
        wrong += count_unlisted(&one, cJSON_GetObjectItemCaseSensitive(golden, "expected_files"), files);
        ++cases;
    }
    cJSON_Delete(manifest);
    assert_int_equal(wrong, 0);
    assert_true(cases == expected);
}

static void test_sets_are_whole(void **state)
{
    (void)state;
    const char *folder = NULL;
    int sets = 0;
    for (const GoldenCase *golden = NULL; (golden = golden_any(golden)) != NULL;) {
        if (golden->folder == folder) continue;
        folder = golden->folder;
        check_set(folder);
        ++sets;
    }
    assert_true(sets > 0);
}

/* ---- the reader, on a set made here ---- */

static const char *const made_manifest =
    "{\"kinds\": {\"layer\": 2, \"data_split\": 1, \"ood\": 1}, \"cases\": [\n"
    "{\"id\": \"layers/a\", \"kind\": \"layer\", \"layer\": \"relu\", \"params\": {\"kernel\": 3, \"bias\": "
    "true, \"list\": [1, \"inf\", 7]},"
    " \"inputs\": {\"x\": \"a/x.npy\"}, \"expected\": {\"T=1\": {\"value\": 2.5, \"none\": \"nan\", "
    "\"most\": \"inf\", \"least\": \"-inf\"}},"
    " \"expected_files\": {\"T=1\": {\"y\": \"a/x.npy\"}}, \"tolerance\": {\"f32\": {\"rtol\": 0.1, "
    "\"atol\": 1}, \"f64\": {\"y\": {\"atol\": 0}}}},\n"
    "{\"id\": \"split/b\", \"kind\": \"data_split\", \"params\": {}, \"inputs\": {}, \"expected\": {}, "
    "\"expected_files\": {}, \"tolerance\": {}},\n"
    "{\"id\": \"layers/c\", \"kind\": \"layer\", \"layer\": \"relu\", \"params\": {}, \"inputs\": {}, "
    "\"expected\": {}, \"expected_files\": {},"
    " \"tolerance\": {}}], \"files\": {\"a/x.npy\": {\"bytes\": 176, \"shape\": [2, 3]}}}\n";
static const char *const made_text_manifest =
    "{\"kinds\": {\"layer\": 1}, \"cases\": [{\"id\": \"layers/a\", \"kind\": \"layer\", \"params\": "
    "{\"kernel\": 5}, \"inputs\": {},"
    " \"expected\": {}, \"expected_files\": {}, \"tolerance\": {}}], \"files\": {}}\n";

static void write_file(const char *folder, const char *name, const char *text)
{
    char path[4200];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* This program again (`made`), with a set made here in its environment: a program reads its sets once. */
static void test_another_folder(void **state)
{
    (void)state;
    char folder[4096], path[4200], program[4096], command[9000];
    const ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    assert_true(length > 0);
    program[length] = '\0';
    test_scratch_make(folder);
    for (int i = 0; i < 2; ++i) {
        (void)snprintf(path, sizeof path, "%s/%s", folder, i == 0 ? "text" : "a");
        assert_int_equal(mkdir(path, 0700), 0);
    }
    write_file(folder, "manifest.json", made_manifest);
    write_file(folder, "text/manifest.json", made_text_manifest);
    (void)snprintf(path, sizeof path, "%s/a/x.npy", folder);
    assert_ok(npy_write(path, FLOAT64, 2, (const int64_t[]){2, 3}, (const double[]){1, 2, 3, 4, 5, NAN}));
    (void)snprintf(command, sizeof command, "PLUMB_TEST_GOLDEN='%s' '%s' made", folder, program);
    assert_int_equal(system(command), 0);
    test_scratch_remove(folder);
}

static void test_made_cases(void **state)
{
    (void)state;
    const GoldenCase *first = golden_next("layer", NULL, NULL), *second = golden_next("layer", NULL, first);
    const GoldenCase *third = golden_next("layer", NULL, second);
    assert_string_equal(first->id, "layers/a");
    assert_string_equal(first->set, "");
    assert_string_equal(second->id, "layers/c");
    assert_string_equal(third->set, "text");
    assert_null(golden_next("layer", NULL, third));
    assert_ptr_equal(golden_next("layer", "params/kernel", first), third);
    assert_null(golden_next("ood", NULL, NULL));
    assert_ptr_equal(golden_find("text", "layers/a"), third);
    assert_null(golden_find("text", "layers/c"));
}

static void test_made_values(void **state)
{
    (void)state;
    const GoldenCase *golden = golden_find("", "layers/a");
    assert_true(golden_number(golden, "params/kernel") == 3 && golden_number(golden, "params/bias") == 1);
    assert_true(golden_number_or(golden, "params/stride", 7) == 7);
    assert_true(golden_length(golden, "params/list") == 3 &&
                golden_number_at(golden, "params/list", 1) == INFINITY);
    assert_true(golden_number(golden, "expected/T=1/value") == 2.5);
    assert_true(isnan(golden_number(golden, "expected/T=1/none")));
    assert_true(golden_number(golden, "expected/T=1/most") == INFINITY);
    assert_true(golden_number(golden, "expected/T=1/least") == -INFINITY);
    assert_string_equal(golden_text(golden, "layer"), "relu");
    assert_false(golden_has(golden, "expected/T=2"));
    GoldenArray x = golden_array(golden, "inputs/x");
    assert_true(x.rank == 2 && x.extent[0] == 2 && x.extent[1] == 3 && x.count == 6 && x.type == FLOAT64);
    assert_true(x.values[4] == 5 && isnan(x.values[5]));
    const int64_t before = golden_checked();
    assert_int_equal(golden_check(golden, "expected_files/T=1/y", x.values, 6, "f64"), 6);
    x.values[0] += 1.05;
    x.values[4] -= 1.45;
    assert_int_equal(golden_check(golden, "expected_files/T=1/y", x.values, 6, "f32"), 6);
    assert_int_equal(golden_checked() - before, 12);
    golden_array_free(&x);
}

static void test_closeness(void **state)
{
    (void)state;
    const GoldenTolerance tolerance = {0.1, 1};
    assert_true(golden_is_close(12, 10, tolerance) && golden_is_close(8, 10, tolerance));
    assert_false(golden_is_close(12.001, 10, tolerance) || golden_is_close(7.999, 10, tolerance));
    assert_false(golden_is_close(NAN, 10, tolerance) || golden_is_close(10, NAN, tolerance));
    assert_true(golden_is_close(NAN, NAN, tolerance) && golden_is_close(INFINITY, INFINITY, tolerance));
    assert_false(golden_is_close(-INFINITY, INFINITY, tolerance));
    assert_false(golden_is_close(INFINITY, 10, tolerance) || golden_is_close(10, INFINITY, tolerance));
}

int main(int count, char **words)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_kind_has_a_row), cmocka_unit_test(test_rows_name_a_suite_or_a_reason),
        cmocka_unit_test(test_sets_are_whole),       cmocka_unit_test(test_closeness),
        cmocka_unit_test(test_another_folder),
    };
    const struct CMUnitTest made[] = {
        cmocka_unit_test(test_made_cases),
        cmocka_unit_test(test_made_values),
        cmocka_unit_test(test_every_kind_has_a_row),
    };
    if (count > 1 && strcmp(words[1], "made") == 0) return cmocka_run_group_tests(made, NULL, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
