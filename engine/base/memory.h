/* Host memory that reports failure as a Status. */
#ifndef PLUMB_ENGINE_BASE_MEMORY_H
#define PLUMB_ENGINE_BASE_MEMORY_H

#include "engine/base/status.h"

#include <stddef.h>

enum { MEMORY_ALIGNMENT = 64 }; /* a cache line, and the widest vector register */

/* Zeroed memory for count items of `size` bytes, aligned to MEMORY_ALIGNMENT; release with free().
 * count * size is checked for overflow. `what` names it in the error. *out is NULL on failure. */
CHECKED Status memory_new(void *out, size_t count, size_t size, const char *what);

/* Makes room for at least `needed` items in the growing array *items of *capacity items (doubling).
 * New items are zero. */
CHECKED Status memory_grow(void *items, size_t *capacity, size_t needed, size_t size, const char *what);

/* Bytes that this process can still have without swapping: what the system calls available, and what its control group (as a batch
 * system or a container sets one) leaves. SIZE_MAX where neither can be read. */
size_t memory_available(void);

/* A copy of text, or of printf-style text; release with free(). */
CHECKED Status text_copy(const char *text, char **out);
CHECKED __attribute__((format(printf, 2, 3))) Status text_format(char **out, const char *format, ...);

/* The bytes of a UTF-8 byte order mark at the start of a text: 3, or 0. Some editors write such a mark; it is no part
 * of the text. */
size_t text_mark_bytes(const char *text, size_t size);

#endif
