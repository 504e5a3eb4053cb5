/* What the files of the hub share. Private to comm/star/star_hub*.c. */
#ifndef PLUMB_COMM_STAR_STAR_HUB_H
#define PLUMB_COMM_STAR_STAR_HUB_H

#include "comm/star/star_frames.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

enum { UNKNOWN = 64 }; /* connections that have not asked to join, at most */

/* What is sent to one or more ranks: a frame and what follows it. */
typedef struct {
    int references;
    size_t bytes;
    char data[];
} Message;

typedef struct {
    int file;          /* of the connection; -1: none */
    int rank;          /* -1: has not asked to join */
    bool joined;       /* a heartbeat came after its request: the rank has this hub's answer */
    bool left;         /* in order */
    double silence;    /* seconds since something came */
    int64_t progress;  /* as it told */
    int64_t exchanges; /* parts that it gave */
    Frame frame;       /* that is coming in */
    char *payload;     /* and what follows it */
    size_t have;       /* bytes of both that are there */
    Message **queue;   /* to be sent, from `next` on */
    size_t next, queued, capacity;
    size_t sent; /* bytes of the first */
} Member;

/* Parts that wait for those of other ranks. */
typedef struct HubExchange {
    struct HubExchange *following;
    int64_t number;
    int detail, first; /* rank that came first, for errors */
    int arrived;
    char **part;
    size_t *bytes;
} HubExchange;

struct Hub {
    StarOptions options;
    HostName *hosts;
    StarAddress address;
    int listening;
    pthread_t thread;
    Member *member; /* size + UNKNOWN */
    int members, joined;
    struct pollfd *poll;
    HubExchange *exchange; /* oldest first */
    bool started, failed, warned;
    double age; /* seconds that it runs */
    Message *failure;
    atomic_bool closing, idle;
    double closing_seconds;
};

/* All of these are for the hub's thread. */

/* ---- star_hub_queue.c ---- */

Message *hub_message_new(Frame, const void *payload, size_t bytes); /* NULL: no memory */
void hub_message_release(Message *);                                /* NULL is allowed */
/* NULL is allowed. Memory that is short shows as a rank that hears nothing, which then ends with an error. */
void hub_enqueue(Member *, Message *);
void hub_send(Member *, Frame, const void *payload, size_t bytes);
void hub_send_all(Hub *, Message *);
/* Sends what the connection takes; false when it has ended. */
bool hub_member_write(Member *);
void hub_member_close(Member *);

/* ---- star_hub_exchange.c ---- */

/* The part of an exchange that has come from the member; the last one makes the result. */
void hub_take_part(Hub *, Member *);
void hub_exchanges_free(Hub *);

/* ---- star_hub_membership.c ---- */

/* The request to join that has come; false: the connection is none of a rank's. */
bool hub_admit(Hub *, Member *);
/* A frame came after the request. */
void hub_join(Hub *, Member *);
void hub_send_membership(Hub *, Member *caller);
/* Tells all ranks of the failure that the member has told of. */
void hub_relay_failure(Hub *, const Member *);
/* Tells all ranks. The first failure is the cause, others may follow from it. */
__attribute__((format(printf, 4, 5))) void hub_fail(Hub *, int rank, int code, const char *format, ...);
void hub_member_ended(Hub *, Member *);
/* The failure detector: seconds have passed since it looked last. */
void hub_detect_failures(Hub *, double seconds);
/* Warns of ranks that are late for the start, and fails when they are too late. */
void hub_watch_start(Hub *);

#endif
