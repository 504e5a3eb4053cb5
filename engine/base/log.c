#include "engine/base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The one piece of global state: who speaks. Set once before threads start. */
static int log_rank = 0;
static bool log_quiet = false;

void log_set_rank(int rank, int size)
{
    (void)size;
    log_rank = rank;
}

void log_set_quiet(bool quiet) { log_quiet = quiet; }

/* A line without its end that stands on the terminal. */
static atomic_bool line_is_open;

void log_open_line(bool open) { atomic_store(&line_is_open, open); }

static void end_open_line(void)
{
    if (!atomic_exchange(&line_is_open, false)) return;
    (void)fputc('\n', stdout);
    (void)fflush(stdout);
}

/* The whole line in one write: neither another thread's lines nor what mpirun says itself comes between its parts. */
__attribute__((format(printf, 3, 0))) static void write_line(FILE *stream, const char *prefix,
                                                             const char *format, va_list arguments)
{
    char usual[1024], *line = usual;
    va_list again;
    end_open_line();
    va_copy(again, arguments);
    const size_t start = strlen(prefix);
    const int written = vsnprintf(NULL, 0, format, arguments);
    size_t length = start + (written > 0 ? (size_t)written : 0);
    if (length + 2 > sizeof usual) line = malloc(length + 2);
    if (line == NULL) { /* the beginning is better than nothing */
        line = usual;
        length = sizeof usual - 2;
    }
    memcpy(line, prefix, start);
    (void)vsnprintf(line + start, length + 1 - start, format, again);
    va_end(again);
    line[length] = '\n';
    (void)fwrite(line, 1, length + 1, stream);
    (void)fflush(stream);
    if (line != usual) free(line);
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
