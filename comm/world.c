#include "comm/comm.h"
#include "comm/launcher.h"
#include "comm/nccl.h"
#include "comm/processors.h"
#include "comm/star/sockets.h"
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

static Status exchange_processors(World *world, const Processors *mine, Processors all[])
{
    all[0] = *mine;
    if (world->local_size == 1) return OK;
    return world->transport->gather_local(world, mine, sizeof *mine, all, "share of processors");
}

static Status start(int *argc, char ***argv, FullWorld *self)
{
    World *world = &self->world;
    Launch launch;
    TRY(launch_find(&launch));
    world->size = world->local_size = 1;
    if (gethostname(world->host, sizeof world->host - 1) != 0) (void)strcpy(world->host, "localhost");
    if (launch.kind == LAUNCHED_SOCKETS) {
        world->rank = launch.rank;
        world->size = launch.size;
        log_set_rank(world->rank, world->size);
        TRY(sockets_start(world, launch.rendezvous));
    } else if (launch.kind == LAUNCHED_MPI) {
        TRY(mpi_start(argc, argv, world));
        if (launch.size > 1 && world->size != launch.size)
            return fail(
                STATUS_USAGE,
                "the launcher started %d ranks, but MPI knows %d: mpirun and the MPI library that plumb "
                "was built with are of different kinds (PLUMB_RENDEZVOUS, a file that all ranks see, "
                "connects them without MPI)",
                launch.size, world->size);
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
        /* No stop: the other ranks may not have failed. Ending without it makes mpirun end them; over sockets
         * they are told. */
        if (self->world.star == NULL) {
            free(self);
        } else {
            star_fail(self->world.star, status_code(status), status_message(status));
            star_end(self->world.star);
        }
        return status_trail(status, __func__, __FILE__, __LINE__);
    }
    *world = &self->world;
    return OK;
}

void comm_stop(World *world)
{
    if (world == NULL) return;
    while (world->at_stop != NULL) {
        AtStop *first = world->at_stop;
        world->at_stop = first->next;
        first->release(first);
    }
    if (world->transport != NULL) world->transport->stop(world);
    if (world->star != NULL) star_close(world->star);
    free(full(world));
}

int comm_threads(const World *world) { return ((const FullWorld *)(const void *)world)->threads; }

void comm_libraries(const World *world, CommLibraries *libraries)
{
    *libraries = (CommLibraries){.threads = true};
    if (world->transport != NULL)
        world->transport->describe(libraries->transport, &libraries->threads);
    else
        (void)snprintf(libraries->transport, sizeof libraries->transport, "none (one rank alone)");
    libraries->has_nccl = nccl_describe(libraries->nccl);
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
                                 .heartbeat_timeout =
                                     timeout_seconds < longest_silence ? timeout_seconds : longest_silence};
    Status status = comm_agree(world, world->rank == 0 ? hub_start(&options, &hub, &address) : OK);
    if (status == OK)
        status = world->transport->broadcast(world, &address, sizeof address, 0, "rank 0's address");
    if (status == OK) return comm_agree(world, star_open(&options, hub, find_known, &address, &world->star));
    if (hub != NULL) hub_stop(hub, 0);
    return status;
}

void world_leave_to_stop(World *world, AtStop *what)
{
    AtStop **at = &world->at_stop;
    while (*at != NULL)
        at = &(*at)->next;
    what->next = NULL;
    *at = what;
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
