#include "comm/launcher.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static long number_from_environment(const char *name)
{
    const char *text = getenv(name);
    if (text == NULL || *text == '\0') return -1;
    char *end;
    const long value = strtol(text, &end, 10);
    return *end == '\0' && value >= 0 && value < 1 << 30 ? value : -1;
}

/* A batch script of Slurm sees SLURM_PROCID and SLURM_NTASKS as if it were one task of many; only within a
 * step of srun there is also the step's id. */
static bool in_slurm_step(void)
{
    return getenv("SLURM_STEP_ID") != NULL && number_from_environment("SLURM_PROCID") >= 0;
}

static long slurm_tasks(void)
{
    return in_slurm_step() ? number_from_environment("SLURM_STEP_NUM_TASKS") : -1;
}

/* How many ranks a launcher of MPI started: 1 also when there is none; 0: ask MPI. A job of one then needs no
 * MPI, which saves it MPI's start and stop. */
static long mpi_ranks(void)
{
    long ranks = number_from_environment("OMPI_COMM_WORLD_SIZE"); /* mpirun of Open MPI */
    if (ranks > 0) return ranks;
    ranks = number_from_environment("PMI_SIZE"); /* mpiexec of MPICH and Intel MPI, srun --mpi=pmi2 */
    if (ranks > 0) return ranks;
    if (getenv("PMIX_RANK") == NULL && getenv("PMI_RANK") == NULL && getenv("PMI_FD") == NULL) return 1;
    return slurm_tasks() > 0 ? slurm_tasks() : 0;
}

/* Rank and size as whatever started the ranks tells them; false: nothing did. */
static bool find_rank(Launch *launch)
{
    static const struct {
        const char *rank, *size;
    } names[] = {{"RANK", "WORLD_SIZE"}, /* torchrun, and by hand */
                 {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS"},
                 {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
                 {"PMI_RANK", "PMI_SIZE"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; ++i) {
        const long rank = number_from_environment(names[i].rank),
                   size = number_from_environment(names[i].size);
        if (rank < 0 || size < 1) continue;
        launch->rank = (int)rank;
        launch->size = (int)size;
        return true;
    }
    return false;
}

/* A folder gets a file for each job. */
static Status place_file(const char *wish, Launch *launch)
{
    struct stat found;
    int length;
    if (wish[0] != '\0' && (stat(wish, &found) != 0 || !S_ISDIR(found.st_mode))) {
        length = snprintf(launch->rendezvous, sizeof launch->rendezvous, "%s", wish);
    } else {
        const char *job = getenv("SLURM_JOB_ID"), *step = getenv("SLURM_STEP_ID");
        const char *again = getenv("SLURM_RESTART_COUNT");
        if (job == NULL || !in_slurm_step())
            return fail(
                STATUS_USAGE,
                "PLUMB_RENDEZVOUS is the folder %s: only jobs of Slurm have names by which a file can be "
                "made there; say which file",
                wish);
        length = snprintf(launch->rendezvous, sizeof launch->rendezvous, "%s%s.plumb-job-%s.%s.%s", wish,
                          wish[0] != '\0' ? "/" : "", job, step, again != NULL ? again : "0");
    }
    if (length < 0 || length >= (int)sizeof launch->rendezvous)
        return fail(STATUS_USAGE, "the path in PLUMB_RENDEZVOUS is too long");
    return OK;
}

Status launch_find(Launch *launch)
{
    *launch = (Launch){.kind = LAUNCHED_ALONE, .size = 1};
    const char *wish = getenv("PLUMB_RENDEZVOUS");
    if (wish != NULL && *wish == '\0') wish = NULL;
    const long of_mpi = mpi_ranks();
    const bool sockets = wish != NULL || (slurm_tasks() > 1 && (of_mpi == 1 || !PLUMB_HAVE_MPI));
    if (!sockets && of_mpi != 1) {
        launch->kind = LAUNCHED_MPI;
        launch->size = (int)of_mpi;
        if (PLUMB_HAVE_MPI) return OK;
        return fail(STATUS_UNSUPPORTED,
                    "this plumb was built without MPI (PLUMB_MPI=OFF): set PLUMB_RENDEZVOUS to "
                    "a file that all ranks see, and they connect without it");
    }
    if (!find_rank(launch) || launch->size == 1) {
        *launch = (Launch){.kind = LAUNCHED_ALONE, .size = 1};
        return OK;
    }
    if (launch->rank >= launch->size)
        return fail(STATUS_USAGE, "this is rank %d of only %d", launch->rank, launch->size);
    if (!sockets)
        return fail(
            STATUS_USAGE,
            "RANK and WORLD_SIZE say that this is rank %d of %d: set PLUMB_RENDEZVOUS to a file that all "
            "ranks see, for them to find one another, or start them with mpirun",
            launch->rank, launch->size);
    launch->kind = LAUNCHED_SOCKETS;
    return place_file(wish != NULL ? wish : "", launch);
}
