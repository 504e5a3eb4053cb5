/* A set of texts that finds a text among thousands at once. */
#ifndef PLUMB_LAUNCH_RUNS_TEXT_INDEX_H
#define PLUMB_LAUNCH_RUNS_TEXT_INDEX_H

#include "engine/base/status.h"

#include <stddef.h>

typedef struct {
    struct TextEntry *entry; /* [capacity], open addressing */
    size_t capacity, used;
} TextIndex;

/* Begin with a zeroed index. *number is that of an equal text which was given before, else this `number`, which the
 * index keeps. The texts stay the caller's and must outlive the index. */
CHECKED Status text_index_add(TextIndex *, const char *text, int *number);
void text_index_free(TextIndex *);

#endif
