#include "comm/waiting.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { NAMED_RANKS = 8 }; /* an error names so many; more are counted */

double seconds_now(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void pause_for(double seconds)
{
    const long whole = (long)seconds;
    const struct timespec time = {.tv_sec = whole, .tv_nsec = (long)((seconds - (double)whole) * 1e9)};
    (void)nanosleep(&time, NULL);
}

Wait wait_begin(void) { return (Wait){.last = seconds_now()}; }

double wait_passed(Wait *wait)
{
    const double now = seconds_now(), since = now - wait->last;
    wait->last = now;
    wait->passed += since < 1 ? since : 1;
    return wait->passed;
}

Status thread_start(void *(*run)(void *), void *argument, pthread_t *thread)
{
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    const int error = pthread_create(thread, NULL, run, argument);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error == 0 ? OK : fail(STATUS_IO, "a thread cannot be started: %s", strerror(error));
}

/* Appends to text, cutting what does not fit. */
__attribute__((format(printf, 3, 4))) static void append(char *text, size_t size, const char *format, ...)
{
    const size_t length = strlen(text);
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text + length, size - length, format, arguments);
    va_end(arguments);
}

void operation_text(const Operation *operation, char text[128])
{
    if (operation->count < 0)
        (void)snprintf(text, 128, "%s", operation->what);
    else
        (void)snprintf(text, 128, "operation %lld (%s of %lld %s)", (long long)operation->number,
                       operation->what, (long long)operation->count, dtype_name(operation->type));
}

Status timeout_error(int rank, int size, HostName host[], const Operation *operation, double seconds,
                     const PeerState peers[])
{
    char what[128], missing[4096] = "";
    int named = 0, unnamed = 0;
    operation_text(operation, what);
    for (int i = 0; i < size; ++i) {
        const PeerState *of = &peers[i];
        if (i == rank || (of->answers && of->came)) continue;
        if (named == NAMED_RANKS) {
            ++unnamed;
            continue;
        }
        append(missing, sizeof missing, "%srank %d on host %s %s", named > 0 ? "; " : "", i, host[i],
               of->answers ? "answers, but has not come to it" : "does not answer");
        if (!of->answers && of->silence >= 0)
            append(missing, sizeof missing, " (last heard of %.0f s ago)", of->silence);
        ++named;
    }
    if (unnamed > 0) append(missing, sizeof missing, "; %d more", unnamed);
    if (named == 0) append(missing, sizeof missing, "all ranks have come to it, but data are missing");
    return fail(STATUS_COMMUNICATION, "rank %d on host %s waited %.3g s for %s: %s", rank, host[rank],
                seconds, what, missing);
}
