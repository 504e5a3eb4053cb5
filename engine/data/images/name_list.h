/* Names of classes and files. */
#ifndef PLUMB_ENGINE_DATA_IMAGES_NAME_LIST_H
#define PLUMB_ENGINE_DATA_IMAGES_NAME_LIST_H

#include "engine/base/status.h"

#include <stdint.h>

/* Names, owned. Zero-initialised it is empty. */
typedef struct {
    char **name;
    int64_t count;
    size_t capacity;
} NameList;
CHECKED Status name_list_append(NameList *, const char *text, size_t length);
/* By bytes, whatever the locale: the order must not depend on the machine. */
void name_list_sort(NameList *);
void name_list_free(NameList *);

#endif
