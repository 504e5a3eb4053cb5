/* What the MPI files of comm/ share: the communicators, and waiting with a deadline. Private to comm/. */
#ifndef PLUMB_COMM_MPI_RANKS_H
#define PLUMB_COMM_MPI_RANKS_H

#include "comm/star/star.h"
#include "comm/transport.h"
#include "comm/waiting.h"

#include <mpi.h>

/* Operations are numbered on each channel in the order in which all ranks issue them, so that a rank can say
 * how far it has come. */
enum { CHANNEL_COLLECTIVE, CHANNEL_AGREEMENT, CHANNELS };

/* How far a rank has come: the number of operations that it has issued on each channel. */
typedef struct {
    int64_t issued[CHANNELS];
} MpiProgress;

typedef struct {
    MpiProgress progress;
    double time; /* when it said so; 0: never */
} Heard;

/* Memory of a small exchange that was given up: a late message may still be written to it. */
typedef struct Abandoned {
    struct Abandoned *next;
    char bytes[];
} Abandoned;

typedef struct {
    int rank, size;
    Star *const *star; /* the world's, once there is one: it hears of a rank's death, MPI may not */
    MPI_Comm everyone; /* small exchanges */
    MPI_Comm host;     /* the ranks of this host */
    MPI_Comm probes;   /* of ranks that are waited for */
    MPI_Comm failing;  /* ranks that end with an error meet here */
    MPI_Op sum_bfloat16;
    HostName *hosts;      /* of each rank */
    double patience;      /* seconds, for small exchanges */
    MpiProgress progress; /* of this rank */
    bool stuck; /* operations were given up: the ranks are out of step, and MPI cannot be ended in order */
    Abandoned *abandoned;
    /* Probes; one of each a rank. */
    Heard *heard;
    MpiProgress *sent;
    MPI_Request *sending;
    double last_poll;
} Ranks;

/* The MPI function's result as a status. */
CHECKED Status mpi_status(int code, const char *what);

/* Waits until *request is complete. After `timeout` seconds the others are probed, and the error names the
 * ranks that did not come to the operation; a failure that the star knows of ends the wait at once. After an error
 * the request is still pending. */
CHECKED Status ranks_wait(Ranks *, MPI_Request *, const Operation *, double timeout);
/* Answers other ranks' probes; cheap enough to be called between nodes. */
void ranks_poll(Ranks *);

/* The collective over MPI; as comm_collective. */
CHECKED Status mpi_collective(World *, double timeout_seconds, Collective **);

#endif
