#include "tests/scratch.h"

#include "engine/base/file.h"

#include <limits.h>
#include <stdio.h>

char scratch[4096];

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

const char *in_scratch(const char *name)
{
    static char paths[8][PATH_MAX];
    static int next;
    char *path = paths[next++ % 8];
    assert_ok(file_join(path, scratch, name));
    return path;
}

void write_plain(const char *path, const void *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}
