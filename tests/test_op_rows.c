/* No op without rows: every op of the table, and those of the losses, is compared with a float64 program and finite differences,
 * on both devices, by one of the suites that record so (op_rows.h). CTest runs them before this one. */
#include "tests/support.h"

#include "engine/ops/ops.h"
#include "losses/loss_output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Ops without a gradient. */
static const char *const without_gradient[] = {"attention_step", "augment", "best_tokens", "place_sequences",
                                               "row_norms"};

/* Lines "OP WHAT DEVICE" of all suites, between newlines; to be released with free(). */
static char *read_record(void)
{
    enum { ROOM = 1 << 20 };
    static const char *const suites[] = {OP_ROW_SUITES};
    char *text = calloc(1, ROOM);
    assert_non_null(text);
    size_t size = 1;
    text[0] = '\n';
    const char *absent = NULL;
    for (size_t i = 0; i < sizeof suites / sizeof suites[0]; ++i) {
        char path[4096];
        (void)snprintf(path, sizeof path, OP_ROWS_FOLDER "/%s", suites[i]);
        FILE *file = fopen(path, "r");
        if (file == NULL) {
            absent = suites[i];
            continue;
        }
        size += fread(text + size, 1, ROOM - size - 1, file);
        (void)fclose(file);
    }
    if (absent == NULL) return text;
    free(text);
    print_message("skipped: %s has not run (ctest -R test_op_rows runs it before)\n", absent);
    skip();
    return NULL;
}

static int missing(const char *record, const char *op, const char *what, const char *device, bool say)
{
    char line[256];
    (void)snprintf(line, sizeof line, "\n%s %s %s\n", op, what, device);
    if (strstr(record, line) != NULL) return 0;
    if (say) print_error("no row tests the op %s: %s on %s\n", op, what, device);
    return 1;
}

static int missing_rows(const char *record, const char *op, bool say)
{
    bool differentiable = true;
    for (size_t i = 0; i < sizeof without_gradient / sizeof without_gradient[0]; ++i)
        if (strcmp(op, without_gradient[i]) == 0) differentiable = false;
    int absent = 0;
    static const char *const devices[] = {"cpu", "cuda"};
    for (int i = 0; i < 2; ++i) {
        absent += missing(record, op, "reference", devices[i], say);
        if (differentiable) absent += missing(record, op, "differences", devices[i], say);
    }
    return absent;
}

static void test_every_op_has_rows(void **state)
{
    (void)state;
    char *record = read_record();
    int count, absent = missing_rows(record, op_loss_head.name, true) +
                        missing_rows(record, op_loss_output.name, true);
    const Op *const *table = ops_table(&count);
    for (int i = 0; i < count; ++i)
        absent += missing_rows(record, table[i]->name, true);
    absent += missing_rows(record, "no such op", false) == 4 ? 0 : 1; /* that this finds what is missing */
    free(record);
    assert_int_equal(absent, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_op_has_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
