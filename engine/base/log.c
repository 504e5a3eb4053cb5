#include "engine/base/log.h"

#include <stdarg.h>
#include <stdio.h>

/* The one piece of global state: who speaks. Set once before threads start. */
static int log_rank = 0;
static bool log_quiet = false;

void log_set_rank(int rank, int size)
{
    (void)size;
    log_rank = rank;
}

void log_set_quiet(bool quiet) { log_quiet = quiet; }

/* One line under the stream's lock, so that lines of different threads do not mix. */
static void write_line(FILE *stream, const char *prefix, const char *format, va_list arguments)
{
    flockfile(stream);
    (void)fputs(prefix, stream);
    (void)vfprintf(stream, format, arguments);
    (void)fputc('\n', stream);
    (void)fflush(stream);
    funlockfile(stream);
}

void log_info(const char *format, ...)
{
    if (log_rank != 0 || log_quiet) return;
    va_list arguments;
    va_start(arguments, format);
    write_line(stdout, "", format, arguments);
    va_end(arguments);
}

void log_warning(const char *format, ...)
{
    if (log_rank != 0) return;
    va_list arguments;
    va_start(arguments, format);
    write_line(stderr, "warning: ", format, arguments);
    va_end(arguments);
}

void log_error(const char *format, ...)
{
    if (log_rank != 0) return;
    va_list arguments;
    va_start(arguments, format);
    write_line(stderr, "error: ", format, arguments);
    va_end(arguments);
}

void log_any_rank(const char *format, ...)
{
    char prefix[32];
    (void)snprintf(prefix, sizeof prefix, "rank %d: ", log_rank);
    va_list arguments;
    va_start(arguments, format);
    write_line(stderr, prefix, format, arguments);
    va_end(arguments);
}
