#include "engine/data/images/name_list.h"

#include "engine/base/memory.h"

#include <stdlib.h>
#include <string.h>

void name_list_free(NameList *list)
{
    for (int64_t i = 0; i < list->count; ++i)
        free(list->name[i]);
    free(list->name);
    *list = (NameList){.name = NULL};
}

Status name_list_append(NameList *list, const char *text, size_t length)
{
    TRY(memory_grow(&list->name, &list->capacity, (size_t)list->count + 1, sizeof *list->name, "names"));
    char *name = strndup(text, length);
    if (name == NULL) return fail(STATUS_MEMORY, "no memory for a name");
    list->name[list->count++] = name;
    return OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void name_list_sort(NameList *list)
{
    if (list->count > 0) qsort(list->name, (size_t)list->count, sizeof *list->name, compare_names);
}
