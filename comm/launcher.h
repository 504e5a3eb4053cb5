/* Who started this process, and as which rank of how many? Private to comm/. */
#ifndef PLUMB_COMM_LAUNCHER_H
#define PLUMB_COMM_LAUNCHER_H

#include "engine/base/status.h"

#include <limits.h>

typedef enum {
    LAUNCHED_ALONE,   /* or as the only rank */
    LAUNCHED_MPI,     /* MPI connects the ranks */
    LAUNCHED_SOCKETS, /* they find one another through a file */
} LaunchKind;

typedef struct {
    LaunchKind kind;
    int rank, size;            /* of LAUNCHED_MPI: size only, 0: ask MPI */
    char rendezvous[PATH_MAX]; /* of LAUNCHED_SOCKETS */
} Launch;

/* As the environment says. mpirun, mpiexec and srun --mpi=... are MPI's. PLUMB_RENDEZVOUS, a file or a folder
 * that all ranks see, connects them without MPI: ranks of torchrun or a script (RANK, WORLD_SIZE), of srun
 * (SLURM_PROCID, ...; the file may then be left to the working folder), or of an mpirun that plumb was not
 * built for. */
CHECKED Status launch_find(Launch *);

#endif
