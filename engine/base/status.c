#include "engine/base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct StatusError {
    StatusCode code;
    char *message;
    char *trace;
};

/* What fail() returns when there is no memory to describe the failure. It is shared, so it is never
 * changed or freed. */
static struct StatusError out_of_memory = {STATUS_MEMORY, NULL, NULL};

Status fail(StatusCode code, const char *format, ...)
{
    struct StatusError *error = malloc(sizeof *error);
    if (error == NULL) return &out_of_memory;
    error->code = code;
    error->trace = NULL;
    va_list arguments;
    va_start(arguments, format);
    const int length = vasprintf(&error->message, format, arguments);
    va_end(arguments);
    if (length < 0) {
        free(error);
        return &out_of_memory;
    }
    return error;
}

Status status_trail(Status status, const char *function, const char *file, int line)
{
    if (status == &out_of_memory) return status;
    char *trace;
    const char *before = status->trace != NULL ? status->trace : "";
    const char *newline = status->trace != NULL ? "\n" : "";
    /* Without memory for one more frame the error itself still arrives. */
    if (asprintf(&trace, "%s%s%s (%s:%d)", before, newline, function, file, line) < 0) return status;
    free(status->trace);
    status->trace = trace;
    return status;
}

Status status_context(Status status, const char *format, ...)
{
    if (status == OK || status == &out_of_memory) return status;
    char *context, *message;
    va_list arguments;
    va_start(arguments, format);
    const int length = vasprintf(&context, format, arguments);
    va_end(arguments);
    if (length < 0) return status;
    const int joined = asprintf(&message, "%s: %s", context, status->message);
    free(context);
    if (joined < 0) return status;
    free(status->message);
    status->message = message;
    return status;
}

StatusCode status_code(Status status) { return status->code; }

const char *status_message(Status status)
{
    return status->message != NULL ? status->message : "out of memory";
}

const char *status_trace(Status status) { return status->trace != NULL ? status->trace : ""; }

void status_free(Status status)
{
    if (status == OK || status == &out_of_memory) return;
    free(status->message);
    free(status->trace);
    free(status);
}
