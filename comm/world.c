#include "comm/comm.h"
#include "comm/nccl.h"
#include "comm/processors.h"
#include "comm/transport.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What comm.h shows, and what only this file needs. */
typedef struct {
    World world;
    int threads;
} FullWorld;

static FullWorld *full(World *world) { return (FullWorld *)(void *)world; }

/* ---- who started us? ---- */

static long number_from_environment(const char *name)
{
    const char *text = getenv(name);
    if (text == NULL || *text == '\0') return -1;
    char *end;
    const long value = strtol(text, &end, 10);
    return *end == '\0' && value >= 0 && value < 1 << 30 ? value : -1;
}

/* How many ranks the launcher started: 1 also when there is none; 0: ask MPI. A job of one then needs no MPI,
 * which saves it MPI's start and stop. */
static Status launched_ranks(long *ranks)
{
    *ranks = number_from_environment("OMPI_COMM_WORLD_SIZE"); /* mpirun of Open MPI */
    if (*ranks > 0) return OK;
    *ranks = number_from_environment("PMI_SIZE"); /* mpiexec of MPICH and Intel MPI, srun --mpi=pmi2 */
    if (*ranks > 0) return OK;
    /* A batch script of Slurm sees SLURM_PROCID and SLURM_NTASKS as if it were one task of many; only within
     * a step of srun there is also the step's id. */
    const bool step = getenv("SLURM_STEP_ID") != NULL && number_from_environment("SLURM_PROCID") >= 0;
    const long tasks = step ? number_from_environment("SLURM_STEP_NUM_TASKS") : -1;
    *ranks = tasks > 0 ? tasks : 1;
    if (getenv("PMIX_RANK") != NULL || getenv("PMI_RANK") != NULL || getenv("PMI_FD") != NULL) {
        if (tasks < 1) *ranks = 0;
        return OK;
    }
    if (tasks > 1)
        return fail(
            STATUS_USAGE,
            "srun started %ld tasks, but without a way for MPI to connect them; use srun --mpi=pmix, or "
            "mpirun inside the job",
            tasks);
    return OK;
}

static Status exchange_processors(World *world, const Processors *mine, Processors all[])
{
    all[0] = *mine;
    if (world->local_size == 1) return OK;
    return world->transport->gather_local(world, mine, sizeof *mine, all, "share of processors");
}

static Status start(int *argc, char ***argv, FullWorld *self)
{
    World *world = &self->world;
    long ranks;
    TRY(launched_ranks(&ranks));
    world->size = world->local_size = 1;
    if (gethostname(world->host, sizeof world->host - 1) != 0) (void)strcpy(world->host, "localhost");
    if (ranks != 1) {
        TRY(mpi_start(argc, argv, world));
        if (ranks > 1 && world->size != ranks)
            return fail(
                STATUS_USAGE,
                "the launcher started %ld ranks, but MPI knows %d: mpirun and the MPI library that plumb "
                "was built with are of different kinds",
                ranks, world->size);
    }
    log_set_rank(world->rank, world->size);

    Processors *all;
    const Processors mine = processors_find();
    TRY(memory_new(&all, (size_t)world->local_size, sizeof *all, "the processors of the host's ranks"));
    const Status status = exchange_processors(world, &mine, all);
    if (status == OK) self->threads = processors_take(all, world->local_rank, world->local_size);
    free(all);
    return status;
}

Status comm_start(int *argc, char ***argv, World **world)
{
    *world = NULL;
    FullWorld *self;
    TRY(memory_new(&self, 1, sizeof *self, "the world"));
    const Status status = start(argc, argv, self);
    if (status != OK) {
        /* No stop: the other ranks may not have failed. Ending without it makes mpirun end them. */
        free(self);
        return status_trail(status, __func__, __FILE__, __LINE__);
    }
    *world = &self->world;
    return OK;
}

void comm_stop(World *world)
{
    if (world == NULL) return;
    if (world->transport != NULL) world->transport->stop(world);
    if (world->star != NULL) star_close(world->star);
    free(full(world));
}

int comm_threads(const World *world) { return ((const FullWorld *)(const void *)world)->threads; }

Status comm_collective(World *world, double timeout_seconds, Collective **collective)
{
    *collective = NULL;
    if (!(timeout_seconds > 0))
        return fail(STATUS_INPUT, "the time to wait for other ranks is %g s; it must be positive",
                    timeout_seconds);
    if (world->size == 1) return collective_self(collective);
    return world->transport->collective(world, timeout_seconds, collective);
}

Status comm_device_collective(World *world, Device *device, const CommOptions *options,
                              Collective **collective)
{
    *collective = NULL;
    if (world->size == 1) return collective_self(collective);
    const bool gpu = device_kind(device) == DEVICE_CUDA;
    if (strcmp(options->kind, "nccl") == 0 || (gpu && strcmp(options->kind, "auto") == 0))
        return nccl_collective(world, device, options, collective);
    if (gpu)
        return fail(STATUS_INPUT,
                    "MPI moves host memory only, and the device is %s: set collective to auto or nccl",
                    device_name(device));
    return comm_collective(world, options->timeout_seconds, collective);
}

static Status find_known(void *context, StarAddress *address)
{
    *address = *(const StarAddress *)context;
    return OK;
}

Status world_open_star(World *world, double timeout_seconds)
{
    static const double longest_silence = 30; /* seconds */
    if (world->star != NULL) return OK;
    StarAddress address = {.port = 0};
    Hub *hub = NULL;
    const StarOptions options = {.rank = world->rank,
                                 .size = world->size,
                                 .host = world->host,
                                 .start_seconds = timeout_seconds,
                                 .silence_seconds =
                                     timeout_seconds < longest_silence ? timeout_seconds : longest_silence};
    Status status = comm_agree(world, world->rank == 0 ? hub_start(&options, &hub, &address) : OK);
    if (status == OK)
        status = world->transport->broadcast(world, &address, sizeof address, 0, "rank 0's address");
    if (status == OK) return comm_agree(world, star_open(&options, hub, find_known, &address, &world->star));
    if (hub != NULL) hub_stop(hub, 0);
    return status;
}

bool world_in_step(const World *world)
{
    const Status failure = world->star != NULL ? star_failure(world->star) : OK;
    const bool failed = failure != OK;
    status_free(failure);
    return !failed && world->transport->in_step(world);
}

int comm_finish(World *world, Status status)
{
    static const double grace = 4; /* seconds for the others to come to the same end */
    int code = 0;
    if (status != OK) {
        code = (int)status_code(status);
        if (world->size > 1 && !(world_in_step(world) && world->transport->all_fail(world, grace)))
            comm_abort(world, status);
        if (world->rank == 0) log_error("%s", status_message(status));
        if (world->rank == 0 && code == STATUS_INTERNAL) log_error("%s", status_trace(status));
        status_free(status);
    }
    comm_stop(world);
    return code;
}

_Noreturn void comm_abort(World *world, Status status)
{
    int code = STATUS_INTERNAL;
    if (status != OK) {
        code = (int)status_code(status);
        log_any_rank("%s", status_message(status));
    }
    (void)fflush(NULL);
    if (world != NULL && world->star != NULL) {
        star_fail(world->star, (StatusCode)code, status != OK ? status_message(status) : "");
        star_end(world->star);
    }
    if (world != NULL && world->transport != NULL) world->transport->abort(world, code);
    exit(code);
}
