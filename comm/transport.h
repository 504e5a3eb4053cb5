/* What connects the ranks: MPI, or sockets. Private to comm/. */
#ifndef PLUMB_COMM_TRANSPORT_H
#define PLUMB_COMM_TRANSPORT_H

#include "comm/comm.h"
#include "comm/star/star.h"

/* The few things that comm/ needs of it. All are collective unless they say otherwise. The small exchanges
 * end with an error, never hang, when another rank does not come within the time given to comm_collective;
 * `what` names them in errors ("agreement"). */
typedef struct Transport {
    /* all: world->size times `bytes`, in order of rank. */
    Status (*gather)(World *, const void *mine, size_t bytes, void *all, const char *what);
    /* The same over the ranks of this host, in order of local rank. */
    Status (*gather_local)(World *, const void *mine, size_t bytes, void *all, const char *what);
    Status (*broadcast)(World *, void *data, size_t bytes, int root, const char *what);
    /* The largest over ranks, in place. */
    Status (*maximum)(World *, int64_t *value, const char *what);
    /* For host memory, as comm_collective. */
    Status (*collective)(World *, double timeout_seconds, Collective **);
    /* A line about itself; *threads: does it allow a rank to have threads? Not collective. */
    void (*describe)(char text[256], bool *threads);
    /* False after a wait ended without the others: exchanges would only wait again. Not collective. */
    bool (*in_step)(const World *);
    /* Did all ranks call this within `seconds`? Nothing else may follow but the end. */
    bool (*all_fail)(World *, double seconds);
    /* Waits for the others as long as comm_collective said, then ends; leaves things as they are if they do
     * not come. */
    void (*stop)(World *);
    /* Ends all ranks with this code; does not return. Not collective. */
    void (*abort)(World *, int code);
} Transport;

/* Each fills in everything of the world but the processors; world->implementation is its own from here on. */

/* Fails in a build without MPI (mpi_absent.c). */
CHECKED Status mpi_start(int *argc, char ***argv, World *);

/* ---- agreement.c ---- */

/* False when the ranks cannot agree on anything any more. Not collective. */
bool world_in_step(const World *);

/* ---- world.c ---- */

/* Lets the ranks look after each other from now on: one that is killed or stopped ends all, also while others
 * compute or wait for their GPUs. Collective; once is enough. */
CHECKED Status world_open_star(World *, double timeout_seconds);
/* What waits for all ranks is left to comm_stop: a rank that fails alone does not come to it. Part of what is
 * released; `release` is called in the order of leaving it. */
typedef struct AtStop {
    struct AtStop *next;
    void (*release)(struct AtStop *);
} AtStop;
void world_leave_to_stop(World *, AtStop *);

#endif
