/* The few things that comm/ needs of MPI. Private to comm/. In a build without MPI (mpi_absent.c) mpi_start
 * fails and the others are never reached. All are collective unless they say otherwise. */
#ifndef PLUMB_COMM_MPI_H
#define PLUMB_COMM_MPI_H

#include "comm/comm.h"

/* Fills in everything of the world but the processors; world->implementation is its own from here on. */
CHECKED Status mpi_start(int *argc, char ***argv, World *);
/* Waits for the others as long as comm_collective said, then ends MPI; leaves MPI as it is if they do not
 * come.
 */
void mpi_stop(World *);
/* Did all ranks call this within `seconds`? Nothing else may follow but the end. */
bool mpi_all_fail(World *, double seconds);
_Noreturn void mpi_abort(World *, int code); /* not collective */

/* False after a wait ended without the others: exchanges would only wait again. Not collective. */
bool mpi_in_step(const World *);

/* Small exchanges; `what` names them in errors ("agreement"). They end with an error, never hang, when
 * another rank does not come within the time given to comm_collective. */

/* all: world->size times `bytes`, in order of rank. */
CHECKED Status mpi_gather(World *, const void *mine, size_t bytes, void *all, const char *what);
CHECKED Status mpi_broadcast(World *, void *data, size_t bytes, int root, const char *what);
/* The largest over ranks, in place. */
CHECKED Status mpi_maximum(World *, int64_t *value, const char *what);
/* As mpi_gather over the ranks of this host, in order of local rank. */
CHECKED Status mpi_gather_local(World *, const void *mine, size_t bytes, void *all, const char *what);

CHECKED Status mpi_collective(World *, double timeout_seconds, Collective **);

#endif
