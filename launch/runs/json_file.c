#include "launch/runs/json_file.h"

#include "engine/base/file.h"
#include "engine/base/memory.h"

#include <math.h>
#include <stdio.h>
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

void json_add_number(cJSON *object, const char *key, double value)
{
    char text[40];
    if (isfinite(value))
        (void)snprintf(text, sizeof text, "%.17g", value);
    else
        (void)snprintf(text, sizeof text, "null");
    cJSON_AddRawToObject(object, key, text);
}

Status json_line(cJSON *object, const char *what, char **line)
{
    char *text = cJSON_PrintUnformatted(object);
    cJSON_Delete(object);
    if (text == NULL) return fail(STATUS_MEMORY, "no memory for %s", what);
    Status status = text_copy(text, line);
    cJSON_free(text);
    return status;
}
