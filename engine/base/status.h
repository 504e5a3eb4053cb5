/* Status and error trail.
 *
 * Every function that can fail returns a Status: NULL for success, else an owned error that carries a
 * code, one message made where the facts were (file, line, key, tensor, rank), and the trail of calls it
 * came through. Whoever stops passing it on releases it with status_free. Nothing below launch/ prints
 * or exits.
 *
 *     Status model_load(...) {
 *         TRY(file_read(path, &text));                        // pass an error up
 *         if (count < 0) return fail(STATUS_INPUT, "%s: count %lld is negative", path, count);
 *         return OK;
 *     }
 *
 * Where something must be released on the way out, keep one `Status status` and one label:
 *
 *         TRY_ELSE(done, plan_run(plan));
 *     done:
 *         plan_free(plan);
 *         return status;
 */
#ifndef PLUMB_ENGINE_BASE_STATUS_H
#define PLUMB_ENGINE_BASE_STATUS_H

#include <stddef.h>

/* What kind of failure; the program's exit code is the enumerator's value. */
typedef enum {
    STATUS_INTERNAL = 1,      /* a defect of the program itself */
    STATUS_USAGE = 2,         /* command line */
    STATUS_INPUT = 3,         /* config, data file, checkpoint: the user's files are not what they must be */
    STATUS_IO = 4,            /* the operating system refused: full disk, permissions, missing file */
    STATUS_MEMORY = 5,        /* host or device memory */
    STATUS_NUMERIC = 6,       /* NaN or infinity where none may be */
    STATUS_COMMUNICATION = 7, /* another rank died, hangs or disagrees */
    STATUS_UNSUPPORTED = 8,   /* correct, but not on this device or build */
    STATUS_BUSY = 9,          /* somebody else holds the run directory */
    STATUS_INTERRUPTED = 75   /* a signal asked us to stop; state is saved, the same command continues */
} StatusCode;

typedef struct StatusError *Status;
#define OK ((Status)NULL)
#define CHECKED __attribute__((warn_unused_result))

/* A new error. Never returns NULL: when memory is short a static "out of memory" error is returned. */
CHECKED __attribute__((format(printf, 2, 3), returns_nonnull)) Status fail(StatusCode code,
                                                                           const char *format, ...);

/* Adds a frame to the trail of `status`; used by TRY. Returns `status`, which must not be
 * OK. (returns_nonnull tells compilers that what a failed call did not set is not read.) */
CHECKED __attribute__((returns_nonnull)) Status status_trail(Status status, const char *function,
                                                             const char *file, int line);

/* Puts "text: " before the message: the facts that only a caller knows. Consumes and returns `status`. */
CHECKED __attribute__((format(printf, 2, 3))) Status status_context(Status status, const char *format, ...);

StatusCode status_code(Status status);     /* status must not be OK */
const char *status_message(Status status); /* one or more lines, no newline at the end; owned by status */
const char *status_trace(Status status);   /* "function (file:line)" frames, innermost first, one a line */
void status_free(Status status);           /* OK is allowed */

#define TRY(call)                                                                                            \
    do {                                                                                                     \
        Status try_status_ = (call);                                                                         \
        if (try_status_ != OK) return status_trail(try_status_, __func__, __FILE__, __LINE__);               \
    } while (0)

/* Needs `Status status` in scope. */
#define TRY_ELSE(label, call)                                                                                \
    do {                                                                                                     \
        status = (call);                                                                                     \
        if (status != OK) {                                                                                  \
            status = status_trail(status, __func__, __FILE__, __LINE__);                                     \
            goto label;                                                                                      \
        }                                                                                                    \
    } while (0)

#endif
