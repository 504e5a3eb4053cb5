/* Files that are made once for all who need them: ranks, runs of a sweep, and the next start. */
#ifndef PLUMB_NLP_MAKE_ONCE_H
#define PLUMB_NLP_MAKE_ONCE_H

#include "engine/base/status.h"

#include <stdbool.h>

typedef struct {
    /* Is the file there, and whole? A damaged one is made again. */
    bool (*is_made)(void *context, const char *path);
    /* Writes it (atomically). One process and thread at a time. */
    Status (*make)(void *context, const char *path);
    void *context;
} MakeOnce;

/* Makes the file unless it is there or another process makes it at the moment. *made: the file is there. A process that
 * dies while it makes a file leaves that to the others: its lock, PATH.lock, is gone with it. */
CHECKED Status make_once_try(const char *path, const MakeOnce *, bool *made);
/* The same, but waits for the other process. */
CHECKED Status make_once(const char *path, const MakeOnce *);
/* How long to wait before the next try. */
void make_once_wait(void);

#endif
