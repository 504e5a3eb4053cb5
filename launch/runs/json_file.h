/* Files of JSON: one object, or one a line. */
#ifndef PLUMB_LAUNCH_RUNS_JSON_FILE_H
#define PLUMB_LAUNCH_RUNS_JSON_FILE_H

#include "engine/base/status.h"

#include <cJSON.h>

/* The object, released with cJSON_Delete. STATUS_INPUT, naming the file, for anything else; *object is then
 * NULL. */
CHECKED Status json_file_read(const char *path, cJSON **object);

/* A number of full precision; JSON has no NaN, so what is not finite is null. */
void json_add_number(cJSON *object, const char *key, double value);
/* The object as text without line breaks, released with free(), and the object deleted. `what` names it in an error. */
CHECKED Status json_line(cJSON *object, const char *what, char **line);

#endif
