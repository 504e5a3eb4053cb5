#include "engine/base/memory.h"

#include <stdarg.h>
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
