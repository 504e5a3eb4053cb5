#include "tests/op_rows.h"

#include "tests/support.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MOST_ROWS = 512 };

static struct {
    const Op *op;
    OpRow what;
} rows[MOST_ROWS];
static int count;

/* A machine that only runs the suites has no folder of a build: nothing is written there. */
static void write_rows(void)
{
    char path[4096];
    if (mkdir(OP_ROWS_FOLDER, 0777) != 0 && errno != EEXIST) return;
    (void)snprintf(path, sizeof path, OP_ROWS_FOLDER "/%s", program_invocation_short_name);
    FILE *file = fopen(path, "w");
    if (file == NULL) return;
    for (int i = 0; i < count; ++i)
        (void)fprintf(file, "%s %s %s\n", rows[i].op->name,
                      rows[i].what == OP_ROW_REFERENCE ? "reference" : "differences",
                      test_device() == DEVICE_CPU ? "cpu" : "cuda");
    (void)fclose(file);
}

void op_rows_record(const Op *op, OpRow what)
{
    for (int i = 0; i < count; ++i)
        if (rows[i].op == op && rows[i].what == what) return;
    assert_true(count < MOST_ROWS);
    if (count == 0) assert_int_equal(atexit(write_rows), 0);
    rows[count].op = op;
    rows[count++].what = what;
}
