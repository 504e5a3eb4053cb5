#include "launch/runs/json_file.h"

#include "engine/base/file.h"

#include <stdlib.h>

enum { JSON_LIMIT = 64 << 20 };

Status json_file_read(const char *path, cJSON **object)
{
    char *text;
    size_t size;
    *object = NULL;
    TRY(file_read(path, JSON_LIMIT, &text, &size));
    *object = cJSON_ParseWithLength(text, size);
    free(text);
    if (cJSON_IsObject(*object)) return OK;
    cJSON_Delete(*object);
    *object = NULL;
    if (size == 0) return fail(STATUS_INPUT, "%s: the file is empty", path);
    return fail(STATUS_INPUT, "%s: not a JSON object; cut short or damaged", path);
}
