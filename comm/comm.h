/* Ranks. Started by mpirun, by srun, by hand, or alone (a world of one needs nothing). */
#ifndef PLUMB_COMM_COMM_H
#define PLUMB_COMM_COMM_H

#include "engine/base/status.h"
#include "engine/device/collective.h"

#include <stdbool.h>

typedef struct World {
    int rank, size;             /* of all ranks */
    int local_rank, local_size; /* of those on this host */
    char host[256];
    const struct Transport *transport; /* what connects them; NULL for one rank alone */
    struct Star *star;                 /* looks after them; NULL while nobody needs that */
    struct AtStop *at_stop;            /* what all ranks do together as they stop */
    void *implementation;
} World;

/* Starts MPI if the process was launched by mpirun, srun or a PMI launcher; connects the ranks by sockets if
 * nothing of that kind could (comm/launcher.h says when); else a world of one. Sets the log's rank. Chooses
 * this rank's share of the host's processors: threads (see comm_threads) and, unless the launcher or
 * OMP_NUM_THREADS chose, their affinity. Collective. */
CHECKED Status comm_start(int *argc, char ***argv, World **);
/* Collective when status is OK on all ranks. Frees the world. */
void comm_stop(World *);
/* CPU threads that this rank should use. */
int comm_threads(const World *);

/* A host-memory collective over the world (MPI or sockets; self for size 1). timeout_seconds: how long a rank
 * waits for the others before it calls them dead; also of agreement from now on (600 before). After such an
 * error the ranks are out of step and late data may still arrive: end with comm_abort. Release through its
 * free. Collective. */
CHECKED Status comm_collective(World *, double timeout_seconds, Collective **);

typedef struct {
    const char *kind;       /* "auto": as fits the device; "mpi": of host memory; "nccl": between GPUs */
    double timeout_seconds; /* as for comm_collective */
    double step_seconds;    /* and for work that GPUs do together; 0: the same */
    bool deterministic;     /* sums in the same order in every run with the same ranks and machines */
} CommOptions;
/* A collective for memory of that device. Every rank gives a device of the same kind. An error on one rank is
 * an error on all. Release through its free, before the device. Collective. */
CHECKED Status comm_device_collective(World *, Device *, const CommOptions *, Collective **);

/* What connects the ranks, in a line ("Open MPI v4.1.4, threads: multiple"), and NCCL's version or why it
 * cannot be used. *threads: does it allow a rank to have threads? Not collective. */
typedef struct {
    char transport[256], nccl[256];
    bool threads, has_nccl;
} CommLibraries;
void comm_libraries(const World *, CommLibraries *);

/* ---- agreement: collective, small, host memory ---- */

/* If any rank's status is an error all ranks get one: the lowest failing rank's message, prefixed with "rank
 * R: " if not all failed alike. Consumes `mine`. Use it after each phase in which one rank may fail alone. */
CHECKED Status comm_agree(World *, Status mine);
/* Is it true on any rank? (a signal arrived; it is time to save) */
CHECKED Status comm_any(World *, bool mine, bool *any);
/* An error naming a rank whose bytes differ from rank 0's; `what` says what they are ("config",
 * "parameters"). */
CHECKED Status comm_check_equal(World *, const void *data, size_t bytes, const char *what);
/* all: world->size times `bytes`, in order of rank; `what` says what they are. */
CHECKED Status comm_gather(World *, const void *mine, size_t bytes, void *all, const char *what);
CHECKED Status comm_barrier(World *);

/* The end of the program: says what went wrong, stops the world and returns the exit code (0, or the
 * status'). An error that all ranks have is written once, by rank 0; one that a rank has alone is written by
 * that rank and ends all ranks (comm_abort) within a few seconds. Every rank calls it; consumes the status.
 */
int comm_finish(World *, Status);

/* The last resort, for a failure that the other ranks cannot know of: writes the message and ends all ranks
 * with the status' code. Does not return. */
_Noreturn void comm_abort(World *, Status);

#endif
