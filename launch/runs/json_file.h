/* A file that holds one JSON object. */
#ifndef PLUMB_LAUNCH_RUNS_JSON_FILE_H
#define PLUMB_LAUNCH_RUNS_JSON_FILE_H

#include "engine/base/status.h"

#include <cJSON.h>

/* The object, released with cJSON_Delete. STATUS_INPUT, naming the file, for anything else; *object is then
 * NULL. */
CHECKED Status json_file_read(const char *path, cJSON **object);

#endif
