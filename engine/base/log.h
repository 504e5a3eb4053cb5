/* The log: lines for people. Rank 0 speaks; other ranks only through log_any_rank. */
#ifndef PLUMB_ENGINE_BASE_LOG_H
#define PLUMB_ENGINE_BASE_LOG_H

#include <stdbool.h>

/* Called once by each rank before it logs; until then the process counts as rank 0 of 1. */
void log_set_rank(int rank, int size);
/* Silences log_info (tests, `--quiet`). Warnings and errors are always written. */
void log_set_quiet(bool quiet);
/* A line without its end, such as a progress bar, stands on the standard output (or stands there no more): what is logged
 * next begins on a line of its own. */
void log_open_line(bool open);

/* One line each; the newline is added. info goes to standard output, the others to standard error. */
__attribute__((format(printf, 1, 2))) void log_info(const char *format, ...);
__attribute__((format(printf, 1, 2))) void log_warning(const char *format, ...);
__attribute__((format(printf, 1, 2))) void log_error(const char *format, ...);
/* Written whatever the rank, as "rank R: ...", to standard error. */
__attribute__((format(printf, 1, 2))) void log_any_rank(const char *format, ...);

#endif
