/* What the files of a rank's side of the star share. Private to comm/star/star*.c. */
#ifndef PLUMB_COMM_STAR_STAR_PRIVATE_H
#define PLUMB_COMM_STAR_STAR_PRIVATE_H

#include "comm/star/star_frames.h"

typedef struct Result {
    struct Result *next;
    int64_t number;
    char *data;
    size_t bytes;
} Result;

struct Star {
    StarOptions options;
    StarAddress address; /* of the hub */
    Hub *hub;            /* in rank 0 */
    HostName *hosts;
    int file;
    pthread_t thread;
    pthread_mutex_t sending; /* one frame at a time */
    int64_t exchanges;

    pthread_mutex_t lock; /* of all that follows */
    pthread_cond_t changed;
    bool started, closing, ending, all_fail;
    int64_t progress;
    Result *first, *last;
    MemberState *membership; /* as told last */
    int64_t membership_updates;
    StatusCode failure; /* 0: none */
    char *message;
    double failed; /* when */
};

/* ---- star_thread.c ---- */

/* The thread of a Star: receives, sends heartbeats, and ends a process that does not end after a failure. */
void *star_thread(void *star);
/* The first failure stands. Any thread. */
void star_note_failure(Star *, StatusCode, const char *message);
/* A failure to send is a failure to receive too, and is noted there. Any thread. */
void star_send_frame(Star *, Frame, const void *data, size_t bytes);

/* ---- star_wait.c ---- */

/* The first failure as a status. lock is held. */
CHECKED Status star_failure_locked(const Star *);
/* Until a change, or for a moment; true when the wait has lasted so many seconds. lock is held. */
bool star_wait_for_change(Star *, Wait *, double seconds);

#endif
