/* Ranks that are connected without MPI: all through rank 0, over TCP. Private to comm/. */
#ifndef PLUMB_COMM_STAR_SOCKETS_H
#define PLUMB_COMM_STAR_SOCKETS_H

#include "comm/transport.h"

/* What sockets.c and sockets_collective.c share. */
typedef struct {
    Star *star;
    int *local_rank;    /* of each rank among those of this host; -1: on another */
    double patience;    /* seconds, for small exchanges */
    int64_t operations; /* of collectives, for errors */
    bool stuck;         /* operations were given up: the ranks are out of step */
} Sockets;

/* world->rank, size and host are set. The ranks find one another through the file. */
CHECKED Status sockets_start(World *, const char *rendezvous);

/* As comm_collective. */
CHECKED Status sockets_collective(World *, double timeout_seconds, Collective **);

#endif
