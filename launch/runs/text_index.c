#include "launch/runs/text_index.h"

#include "engine/base/memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

typedef struct TextEntry {
    const char *text; /* NULL: free */
    uint64_t hash;
    int number;
} TextEntry;

/* The entry of the text, or the free one that it would have. There is a free one. */
static TextEntry *find(const TextIndex *index, const char *text, uint64_t hash)
{
    size_t at = (size_t)hash & (index->capacity - 1);
    while (index->entry[at].text != NULL &&
           (index->entry[at].hash != hash || strcmp(index->entry[at].text, text) != 0))
        at = (at + 1) & (index->capacity - 1);
    return &index->entry[at];
}

static Status grow(TextIndex *index)
{
    enum { FIRST = 64 };
    TextIndex larger = {.capacity = index->capacity > 0 ? 2 * index->capacity : FIRST, .used = index->used};
    TRY(memory_new(&larger.entry, larger.capacity, sizeof *larger.entry, "an index of texts"));
    for (size_t i = 0; i < index->capacity; ++i)
        if (index->entry[i].text != NULL)
            *find(&larger, index->entry[i].text, index->entry[i].hash) = index->entry[i];
    free(index->entry);
    *index = larger;
    return OK;
}

Status text_index_add(TextIndex *index, const char *text, int *number)
{
    if (2 * (index->used + 1) > index->capacity) TRY(grow(index));
    const uint64_t hash = XXH3_64bits(text, strlen(text));
    TextEntry *entry = find(index, text, hash);
    if (entry->text == NULL) {
        *entry = (TextEntry){.text = text, .hash = hash, .number = *number};
        ++index->used;
    }
    *number = entry->number;
    return OK;
}

void text_index_free(TextIndex *index)
{
    free(index->entry);
    *index = (TextIndex){.entry = NULL};
}
