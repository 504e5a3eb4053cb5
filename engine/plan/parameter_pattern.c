#include "engine/plan/parameter_pattern.h"

#include "engine/base/config.h"
#include "engine/base/memory.h"

#include <fnmatch.h>
#include <stdlib.h>

bool parameter_pattern_takes(const char *pattern, const char *name)
{
    return pattern[0] == '\0' || fnmatch(pattern, name, 0) == 0;
}

Status parameter_pattern_check(const Store *store, const char *pattern)
{
    const char **names;
    int count = 0;
    if (pattern[0] == '\0') return OK;
    TRY(memory_new(&names, (size_t)store_count(store) + 1, sizeof *names, "names of parameters"));
    for (int i = 0; i < store_count(store); ++i)
        if (store_at(store, i)->role == ROLE_PARAMETER) names[count++] = store_at(store, i)->name;
    const Status status = config_pattern_fits(pattern, names, count);
    free(names);
    return status;
}

Status parameter_pattern_list_others(const Store *store, const char *pattern, char **others)
{
    enum { NAMED = 3 };
    int count = 0;
    TRY(text_format(others, "%s", ""));
    for (int i = 0; i < store_count(store); ++i) {
        const StoreEntry *entry = store_at(store, i);
        if (entry->role != ROLE_PARAMETER || parameter_pattern_takes(pattern, entry->name) ||
            count++ >= NAMED)
            continue;
        char *before = *others;
        *others = NULL;
        const Status status = text_format(others, "%s%s%s", before, count > 1 ? ", " : "", entry->name);
        free(before);
        TRY(status);
    }
    if (count <= NAMED) return OK;
    char *before = *others;
    *others = NULL;
    const Status status =
        text_format(others, "%s and %d other%s", before, count - NAMED, count - NAMED == 1 ? "" : "s");
    free(before);
    return status;
}
