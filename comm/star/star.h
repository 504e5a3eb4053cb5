/* Connections of all ranks with rank 0 over TCP. Private to comm/.
 *
 * In rank 0 a thread (the hub) gets heartbeats from every rank. It is the failure detector: a rank whose connection
 * ends, or whose heartbeats stay out, is lost, and all others are told at once, whatever they are doing: a rank that does not end by itself
 * within some seconds is ended. Small data are exchanged and sums made through the hub too, where nothing
 * better connects the ranks. Threads of its own do all this: it goes on while a rank computes or waits for
 * its GPU. Any thread may ask about failures and tell of one; the rest is for the rank's own. */
#ifndef PLUMB_COMM_STAR_STAR_H
#define PLUMB_COMM_STAR_STAR_H

#include "comm/waiting.h"

typedef struct Hub Hub;
typedef struct Star Star;

/* Where the hub listens, and what it and the ranks know each other by. */
typedef struct {
    uint64_t secret[2]; /* a rank shows the first, the hub answers with the second */
    int32_t port, hosts;
    char host[16][48]; /* numeric addresses of the hub's host; hosts of them */
} StarAddress;

typedef struct {
    int rank, size;
    const char *host;         /* this rank's */
    double start_seconds;     /* how long all may take to come */
    double heartbeat_timeout; /* seconds without a heartbeat, after which a rank is lost */
} StarOptions;

/* In rank 0, before star_open. */
CHECKED Status hub_start(const StarOptions *, Hub **, StarAddress *);

/* Ends it when all ranks have left, or after so many seconds. */
void hub_stop(Hub *, double seconds);

/* Connects all ranks. hub: of rank 0, taken over (also on failure); else NULL. `find` tells the hub's
 * address; it is asked again while nothing answers there. Collective. */
CHECKED Status star_open(const StarOptions *, Hub *, Status (*find)(void *context, StarAddress *),
                         void *context, Star **);
/* Collective when nothing failed. In rank 0 it waits for the others to leave, as long as start_seconds. */
void star_close(Star *);

HostName *star_hosts(Star *); /* of each rank */

/* ---- failures ---- */

/* OK, or what has gone wrong for all: a rank is lost or has failed. Whoever gets it must end soon. */
CHECKED Status star_failure(Star *);
/* Tells all ranks that this one has failed. The first failure stands. */
void star_fail(Star *, StatusCode, const char *message);
/* Before this process ends by itself: the other ranks have been told, and it is not ended meanwhile. */
void star_end(Star *);

/* How far this rank has come in whatever its owner counts; heartbeats carry it. */
void star_progress(Star *, int64_t number);
/* The error of a rank that waited for an operation, in vain: of ranks that have not made
 * star_progress(number), or, of exchanges, not given their part of the exchange `number`. */
CHECKED Status star_timeout_error(Star *, const Operation *, double seconds, bool of_exchanges,
                                  int64_t number);

/* ---- exchanges ----
 *
 * All ranks make the same, in the same order; several may be under way. */

enum { STAR_GATHER = -1 };
/* Gives this rank's part; *number is then that of the exchange. kind: STAR_GATHER, or the DType of values to
 * be summed over ranks, in their order. */
CHECKED Status star_send(Star *, int kind, const void *part, size_t bytes, int64_t *number);
/* Takes the result of an exchange; waits `seconds` at most, and then it can be taken later. Those of earlier
 * ones that were not taken are dropped. The parts of all ranks one after the other, or the sum; release with
 * free(). */
CHECKED Status star_receive(Star *, int64_t number, const Operation *, double seconds, char **result,
                            size_t *bytes);
/* Would star_receive return at once? */
bool star_ready(Star *, int64_t number);
/* Did all ranks call this within `seconds`, whatever exchanges they were at? No exchange may follow. */
bool star_all_fail(Star *, double seconds);

#endif
