#include "tests/listening.h"

#include "engine/base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int standard_error;

void start_listening(void)
{
    FILE *file = fopen(path_in(scratch, "stderr"), "w");
    assert_non_null(file);
    standard_error = dup(STDERR_FILENO);
    assert_true(standard_error >= 0 && dup2(fileno(file), STDERR_FILENO) >= 0);
    assert_int_equal(fclose(file), 0);
}

char *heard(void)
{
    char *text;
    size_t size;
    assert_true(dup2(standard_error, STDERR_FILENO) >= 0);
    assert_int_equal(close(standard_error), 0);
    assert_ok(file_read(path_in(scratch, "stderr"), 1 << 20, &text, &size));
    assert_int_equal(unlink(path_in(scratch, "stderr")), 0);
    return text;
}

int lines_of(const char *text)
{
    int lines = 0;
    for (; *text != '\0'; ++text)
        lines += *text == '\n';
    return lines;
}
