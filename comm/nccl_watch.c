#if PLUMB_HAVE_NCCL

#include "comm/nccl_watch.h"
#include "engine/base/memory.h"

#include <stdlib.h>
#include <string.h>

static const double interval = 0.1;
/* What a dead rank does to NCCL may be seen before its end is; the end is what should be told. */
static const double better_word = 2;
/* A call of NCCL's that is under way should not declare_lost the communicator; one that waits for other ranks must. */
static const double call_returns = 1;

struct Watch {
    Star *star;
    const NcclLibrary *library;
    pthread_t thread;
    pthread_mutex_t lock; /* of all that follows */
    bool stopping, waiting;
    bool inside; /* a call of NCCL's, at most until watch_leave */
    ncclComm_t communicator;
    Operation operation;    /* the last one entered */
    double seconds, waited; /* how long it may take, and takes */
    StatusCode failure;     /* 0: none */
    double failed;          /* when */
    char *message;
};

static Status failure_locked(const Watch *watch)
{
    if (watch->failure == 0) return OK;
    return fail(watch->failure, "%s", watch->message != NULL ? watch->message : "out of memory");
}

/* The first failure: tells all ranks. The communicator is then aborted by the watch's own thread, since that
 * may take until every recording that holds operations of it is gone, and those are the rank's own thread's
 * to drop. */
static void trip(Watch *watch, Status status)
{
    (void)pthread_mutex_lock(&watch->lock);
    const bool first = watch->failure == 0;
    if (first) {
        watch->failure = status_code(status);
        watch->failed = seconds_now();
        watch->message = strdup(status_message(status));
    }
    (void)pthread_mutex_unlock(&watch->lock);
    if (first) star_fail(watch->star, status_code(status), status_message(status));
    status_free(status);
}

/* What the hub knows of the cause within a moment, else the status. */
static Status wait_for_better_word(Watch *watch, Status status)
{
    const double until = seconds_now() + better_word;
    while (seconds_now() < until) {
        const Status better = star_failure(watch->star);
        if (better != OK) {
            status_free(status);
            return better;
        }
        pause_for(interval / 2);
    }
    return status;
}

static Status look(Watch *watch, double passed)
{
    TRY(star_failure(watch->star));
    (void)pthread_mutex_lock(&watch->lock);
    const ncclComm_t communicator = watch->communicator;
    const Operation operation = watch->operation;
    const double seconds = watch->seconds;
    /* Time that this process did not run does not count. */
    if (watch->waiting) watch->waited += passed < 1 ? passed : 1;
    const bool late = watch->waiting && watch->waited > seconds;
    ncclResult_t result = ncclSuccess;
    if (communicator != NULL && watch->library->comm_get_async_error(communicator, &result) != ncclSuccess)
        result = ncclSuccess;
    (void)pthread_mutex_unlock(&watch->lock);
    if (result != ncclSuccess && result != ncclInProgress) {
        char what[128];
        operation_text(&operation, what);
        return wait_for_better_word(watch, nccl_status(watch->library, result, communicator, what));
    }
    return late ? star_timeout_error(watch->star, &operation, seconds, false, operation.number) : OK;
}

/* Ends what waits in NCCL; called until there is nothing left to abort. */
static void abort_communicator(Watch *watch)
{
    (void)pthread_mutex_lock(&watch->lock);
    ncclComm_t communicator = NULL;
    if (!watch->inside || seconds_now() - watch->failed > call_returns) {
        communicator = watch->communicator;
        watch->communicator = NULL;
    }
    (void)pthread_mutex_unlock(&watch->lock);
    if (communicator != NULL) (void)watch->library->comm_abort(communicator);
}

static void *run(void *argument)
{
    Watch *watch = argument;
    double last = seconds_now();
    for (;;) {
        pause_for(interval);
        (void)pthread_mutex_lock(&watch->lock);
        const bool stopping = watch->stopping;
        bool failed = watch->failure != 0;
        (void)pthread_mutex_unlock(&watch->lock);
        const double now = seconds_now();
        const Status status = failed || stopping ? OK : look(watch, now - last);
        last = now;
        if (status != OK) {
            trip(watch, status);
            failed = true;
        }
        if (failed) abort_communicator(watch);
        if (stopping) return NULL;
    }
}

Status watch_start(Star *star, const NcclLibrary *library, Watch **out)
{
    *out = NULL;
    Watch *watch;
    TRY(memory_new(&watch, 1, sizeof *watch, "the watch over NCCL"));
    watch->star = star;
    watch->library = library;
    (void)pthread_mutex_init(&watch->lock, NULL);
    const Status status = thread_start(run, watch, &watch->thread);
    if (status != OK) {
        free(watch);
        return status;
    }
    *out = watch;
    return OK;
}

void watch_stop(Watch *watch)
{
    if (watch == NULL) return;
    (void)pthread_mutex_lock(&watch->lock);
    watch->stopping = true;
    (void)pthread_mutex_unlock(&watch->lock);
    (void)pthread_join(watch->thread, NULL);
    (void)pthread_mutex_destroy(&watch->lock);
    free(watch->message);
    free(watch);
}

void watch_communicator(Watch *watch, ncclComm_t communicator)
{
    (void)pthread_mutex_lock(&watch->lock);
    watch->communicator = communicator;
    (void)pthread_mutex_unlock(&watch->lock);
}

Status watch_enter(Watch *watch, WatchKind kind, const char *what, int64_t count, DType type, double seconds)
{
    (void)pthread_mutex_lock(&watch->lock);
    const int64_t number = watch->operation.number + 1;
    const Status status = failure_locked(watch);
    if (status == OK) {
        watch->operation = (Operation){.number = number, .what = what, .count = count, .type = type};
        watch->seconds = seconds;
        watch->waited = 0;
        watch->waiting = true;
        watch->inside = kind == WATCH_CALL;
    }
    (void)pthread_mutex_unlock(&watch->lock);
    if (status == OK) star_progress(watch->star, number);
    return status;
}

void watch_leave(Watch *watch)
{
    (void)pthread_mutex_lock(&watch->lock);
    watch->waiting = watch->inside = false;
    (void)pthread_mutex_unlock(&watch->lock);
}

Status watch_failure(Watch *watch)
{
    (void)pthread_mutex_lock(&watch->lock);
    const Status status = failure_locked(watch);
    (void)pthread_mutex_unlock(&watch->lock);
    return status;
}

Status watch_failed(Watch *watch, Status status)
{
    Status first = watch_failure(watch);
    if (first == OK) {
        trip(watch, wait_for_better_word(watch, status));
        return watch_failure(watch);
    }
    status_free(status);
    return first;
}

#endif
