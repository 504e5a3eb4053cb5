#include "tests/scratch.h"

#include "engine/base/file.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char scratch[SCRATCH_SIZE];

int scratch_make(void **state)
{
    (void)state;
    test_scratch_make(scratch);
    return 0;
}

int scratch_remove(void **state)
{
    (void)state;
    test_scratch_remove(scratch);
    return 0;
}

const char *path_in(const char *folder, const char *name)
{
    enum { BUFFERS = 8 };
    static char path[BUFFERS][PATH_MAX];
    static int next;
    char *buffer = path[next++ % BUFFERS];
    assert_ok(file_join(buffer, folder, name));
    return buffer;
}

const char *in_scratch(const char *name) { return path_in(scratch, name); }

void write_plain(const char *path, const void *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

void assert_holds(const char *path, const char *text)
{
    char *data;
    size_t size;
    assert_ok(file_read(path, 1 << 20, &data, &size));
    assert_string_equal(data, text);
    assert_int_equal(size, strlen(text));
    free(data);
}
