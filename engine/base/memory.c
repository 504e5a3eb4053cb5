#include "engine/base/memory.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Status memory_new(void *out, size_t count, size_t size, const char *what)
{
    void *memory = NULL;
    memcpy(out, &memory, sizeof memory); /* `out` is the address of a pointer of any type */
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > (size_t)PTRDIFF_MAX - MEMORY_ALIGNMENT)
        return fail(STATUS_MEMORY, "%s: %zu items of %zu bytes are more than any memory holds", what, count,
                    size);
    /* At least one unit, so that an empty array is not NULL. */
    const size_t units = bytes / MEMORY_ALIGNMENT + (bytes % MEMORY_ALIGNMENT != 0 || bytes == 0);
    memory = aligned_alloc(MEMORY_ALIGNMENT, units * MEMORY_ALIGNMENT);
    if (memory == NULL) return fail(STATUS_MEMORY, "%s: no memory for %zu bytes", what, bytes);
    memset(memory, 0, units * MEMORY_ALIGNMENT);
    memcpy(out, &memory, sizeof memory);
    /* cppcheck-suppress memleak ; it went out through memcpy */
    return OK;
}

Status memory_grow(void *items, size_t *capacity, size_t needed, size_t size, const char *what)
{
    if (needed <= *capacity) return OK;
    size_t larger = *capacity > SIZE_MAX / 2 ? needed : *capacity * 2;
    if (larger < needed) larger = needed;
    if (larger < 8) larger = 8;
    void *old, *grown;
    memcpy(&old, items, sizeof old);
    TRY(memory_new(&grown, larger, size, what));
    if (old != NULL) memcpy(grown, old, *capacity * size);
    free(old);
    memcpy(items, &grown, sizeof grown);
    *capacity = larger;
    return OK;
}

/* The number behind `key` in a small file, or of one that holds nothing else (key ""); false if there is none. */
static bool number_of_file(const char *path, const char *key, size_t *number)
{
    char line[256];
    FILE *file = fopen(path, "re");
    bool found = false;
    if (file == NULL) return false;
    while (!found && fgets(line, sizeof line, file) != NULL) {
        unsigned long long value;
        if (strncmp(line, key, strlen(key)) != 0) continue;
        found = sscanf(line + strlen(key), "%llu", &value) == 1;
        if (found) *number = (size_t)value;
    }
    (void)fclose(file);
    return found;
}

/* Of the control group in which this process sees itself, in either of the two layouts that Linux has. */
static size_t left_of_group(void)
{
    static const char *const files[][2] = {
        {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"},
        {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"}};
    for (int i = 0; i < 2; ++i) {
        size_t most, used;
        if (number_of_file(files[i][0], "", &most) && number_of_file(files[i][1], "", &used))
            return most > used ? most - used : 0;
    }
    return SIZE_MAX;
}

size_t memory_available(void)
{
    size_t kilobytes, of_system = SIZE_MAX;
    if (number_of_file("/proc/meminfo", "MemAvailable:", &kilobytes)) of_system = kilobytes * 1024;
    const size_t of_group = left_of_group();
    return of_system < of_group ? of_system : of_group;
}

Status text_copy(const char *text, char **out)
{
    *out = strdup(text);
    if (*out == NULL) return fail(STATUS_MEMORY, "no memory for a text of %zu bytes", strlen(text) + 1);
    return OK;
}

Status text_format(char **out, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const int length = vasprintf(out, format, arguments);
    va_end(arguments);
    if (length < 0) {
        *out = NULL;
        return fail(STATUS_MEMORY, "no memory for a text");
    }
    return OK;
}

size_t text_mark_bytes(const char *text, size_t size)
{
    static const char mark[] = "\xef\xbb\xbf";
    const size_t length = sizeof mark - 1;
    return size >= length && memcmp(text, mark, length) == 0 ? length : 0;
}
