/* What all that waits for other ranks shares: the clock, threads, and the error that names who is missing.
 * Private to comm/. */
#ifndef PLUMB_COMM_WAITING_H
#define PLUMB_COMM_WAITING_H

#include "engine/base/dtype.h"
#include "engine/base/status.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum { HOST_NAME = 256 };
enum { PROBE_SECONDS = 3 }; /* in which a rank that lives answers a probe, however busy its host is */
typedef char HostName[HOST_NAME];

/* Something that all ranks do, in the same order. */
typedef struct {
    int channel;    /* each is numbered on its own */
    int64_t number; /* from 1 */
    const char *what;
    int64_t count; /* elements; -1: the text says it all */
    DType type;
} Operation;

/* Of a rank that is waited for. */
typedef struct {
    bool answers;   /* something was heard of it while it was waited for */
    bool came;      /* it has begun the operation itself */
    double silence; /* seconds since it was heard of last; negative: not known */
} PeerState;

double seconds_now(void); /* monotonic */
void pause_for(double seconds);

/* A wait, and how long it has lasted. Time that this process did not run, because its job was stopped and went on
 * later, counts for nobody: whoever waits looks at least twice a second. */
typedef struct {
    double last, passed;
} Wait;
Wait wait_begin(void);
double wait_passed(Wait *);
/* A thread that leaves all signals to the others. */
CHECKED Status thread_start(void *(*run)(void *), void *argument, pthread_t *);

/* "operation 7 (sum of 100 float32)" */
void operation_text(const Operation *, char text[128]);

/* The error of a rank that waited: it names those that did not come and whether they are alive. peers
 * and host have an entry a rank; the rank's own is not looked at. */
CHECKED Status timeout_error(int rank, int size, HostName host[], const Operation *, double seconds,
                             const PeerState peers[]);

#endif
