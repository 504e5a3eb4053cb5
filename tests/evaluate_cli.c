#include "tests/evaluate_cli.h"

#include "engine/base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

const char *plumb;

void evaluate_begin(void)
{
    static char output[ROOM];
    plumb = getenv("PLUMB");
    if (plumb == NULL) plumb = TEST_PLUMB;
    (void)scratch_make(NULL);
    assert_int_equal(shell(output, "cp %s ood.npy", example("ood/k10_typical", "ood_logits")), 0);
}

int evaluate_end(int failures)
{
    (void)scratch_remove(NULL);
    return failures;
}

int shell(char output[ROOM], const char *format, ...)
{
    char command[8192], full[16384];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(command, sizeof command, format, arguments);
    va_end(arguments);
    (void)snprintf(full, sizeof full, "cd '%s' && %s", scratch, command);
    FILE *pipe = popen(full, "r");
    assert_non_null(pipe);
    const size_t read = fread(output, 1, ROOM - 1, pipe);
    output[read] = '\0';
    while (fgetc(pipe) != EOF) {}
    const int code = pclose(pipe);
    assert_true(WIFEXITED(code));
    return WEXITSTATUS(code);
}

void assert_runs(int code)
{
    static char problem[ROOM];
    if (code == 0) return;
    (void)shell(problem, "cat problem");
    print_error("exit code %d: %s\n", code, problem);
    assert_int_equal(code, 0);
}

const char *example(const char *id, const char *role)
{
    char path[256];
    (void)snprintf(path, sizeof path, "inputs/%s", role);
    return golden_path(golden_example("", id), path);
}

const char *arguments(void)
{
    static char text[ROOM];
    (void)snprintf(text, sizeof text,
                   "--logits %s --labels %s --validation-logits %s --validation-labels %s --ood-logits %s",
                   example("temperature/k10_overconfident", "test_logits"),
                   example("temperature/k10_overconfident", "test_labels"),
                   example("temperature/k10_overconfident", "val_logits"),
                   example("temperature/k10_overconfident", "val_labels"), "ood.npy");
    return text;
}

cJSON *parse_file(const char *name)
{
    char path[8192], *text;
    (void)snprintf(path, sizeof path, "%s/%s", scratch, name);
    size_t size;
    assert_ok(file_read(path, 1 << 20, &text, &size));
    cJSON *root = cJSON_ParseWithOpts(text, NULL, true);
    assert_non_null(root);
    free(text);
    return root;
}

void assert_number(const cJSON *root, const char *path, double want, double relative)
{
    char copy[256];
    (void)snprintf(copy, sizeof copy, "%s", path);
    const cJSON *item = root;
    for (char *part = strtok(copy, "."); part != NULL; part = strtok(NULL, "."))
        item = cJSON_GetObjectItemCaseSensitive(item, part);
    if (!cJSON_IsNumber(item)) print_error("%s is not there\n", path);
    assert_true(cJSON_IsNumber(item));
    assert_close(&item->valuedouble, &want, 1, relative, 1e-10, path);
}

void assert_interval(const cJSON *stage, const char *metric)
{
    const cJSON *item =
        cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(stage, "interval"), metric);
    assert_int_equal(cJSON_GetArraySize(item), 2);
    const double low = cJSON_GetArrayItem(item, 0)->valuedouble,
                 high = cJSON_GetArrayItem(item, 1)->valuedouble;
    assert_true(low > 0 && low < high && high < 1);
}

void write_array(const char *name, DType type, int rank, int64_t rows, int64_t columns, const void *data)
{
    char path[8192];
    const int64_t extent[] = {rows, columns};
    (void)snprintf(path, sizeof path, "%s/%s", scratch, name);
    assert_ok(npy_write(path, type, rank, extent, data));
}
