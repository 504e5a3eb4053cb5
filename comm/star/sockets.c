#include "comm/star/sockets.h"
#include "comm/star/rendezvous.h"
#include "engine/base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const double patience_default = 600; /* seconds, until comm_collective says otherwise */
static const double start_seconds = 300, heartbeat_timeout = 30;

static Sockets *sockets_of(const World *world) { return world->implementation; }

/* ---- small exchanges ---- */

/* The parts of all ranks, which have `bytes` together; release with free(). */
static Status exchange(World *world, const void *mine, size_t bytes, size_t together, char **whole,
                       const char *what)
{
    Sockets *self = sockets_of(world);
    const Operation operation = {.what = what, .count = -1};
    int64_t number;
    size_t got = 0;
    *whole = NULL;
    Status status = star_send(self->star, STAR_GATHER, mine, bytes, &number);
    if (status == OK) status = star_receive(self->star, number, &operation, self->patience, whole, &got);
    if (status == OK && got != together) {
        free(*whole);
        *whole = NULL;
        status = fail(STATUS_INTERNAL, "%s: the ranks are out of step: %zu bytes came, not %zu", what, got,
                      together);
    }
    if (status != OK) self->stuck = true;
    return status;
}

static Status gather(World *world, const void *mine, size_t bytes, void *all, const char *what)
{
    char *whole;
    TRY(exchange(world, mine, bytes, bytes * (size_t)world->size, &whole, what));
    if (whole != NULL) memcpy(all, whole, bytes * (size_t)world->size);
    free(whole);
    return OK;
}

static Status gather_local(World *world, const void *mine, size_t bytes, void *all, const char *what)
{
    char *whole;
    TRY(exchange(world, mine, bytes, bytes * (size_t)world->size, &whole, what));
    for (int rank = 0; rank < world->size && whole != NULL; ++rank) {
        const int local_rank = sockets_of(world)->local_rank[rank];
        if (local_rank >= 0)
            memcpy((char *)all + (size_t)local_rank * bytes, whole + (size_t)rank * bytes, bytes);
    }
    free(whole);
    return OK;
}

static Status broadcast(World *world, void *data, size_t bytes, int root, const char *what)
{
    char *whole;
    TRY(exchange(world, data, world->rank == root ? bytes : 0, bytes, &whole, what));
    if (whole != NULL) memcpy(data, whole, bytes);
    free(whole);
    return OK;
}

static Status maximum(World *world, int64_t *value, const char *what)
{
    char *whole;
    TRY(exchange(world, value, sizeof *value, sizeof *value * (size_t)world->size, &whole, what));
    for (int rank = 0; rank < world->size; ++rank) {
        int64_t other;
        memcpy(&other, whole + (size_t)rank * sizeof other, sizeof other);
        if (other > *value) *value = other;
    }
    free(whole);
    return OK;
}

/* ---- start and end ---- */

static bool in_step(const World *world) { return !sockets_of(world)->stuck; }

static bool all_fail(World *world, double seconds) { return star_all_fail(sockets_of(world)->star, seconds); }

static void stop(World *world)
{
    Sockets *self = sockets_of(world);
    int64_t nothing = 0;
    /* So that nobody finds the others gone who is still at work. */
    if (world_in_step(world)) status_free(maximum(world, &nothing, "the end of all ranks"));
    free(self->local_rank);
    free(self);
    world->implementation = NULL;
}

/* The others have been told. */
static void abort_all(World *world, int code)
{
    (void)world;
    _exit(code);
}

static void describe(char text[256], bool *threads)
{
    (void)snprintf(text, 256, "sockets (TCP), without MPI");
    *threads = true;
}

static const Transport transport = {.describe = describe,
                                    .gather = gather,
                                    .gather_local = gather_local,
                                    .broadcast = broadcast,
                                    .maximum = maximum,
                                    .collective = sockets_collective,
                                    .in_step = in_step,
                                    .all_fail = all_fail,
                                    .stop = stop,
                                    .abort = abort_all};

/* Which ranks are on this host? Names alone may be equal in containers of different hosts. */
static Status find_neighbours(World *world)
{
    typedef struct {
        char host[sizeof world->host], boot[64];
    } Home;
    Sockets *self = sockets_of(world);
    Home mine, *all;
    memset(&mine, 0, sizeof mine);
    memcpy(mine.host, world->host, sizeof mine.host);
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (file != NULL && fgets(mine.boot, sizeof mine.boot, file) == NULL) mine.boot[0] = '\0';
    if (file != NULL) (void)fclose(file);
    TRY(memory_new(&all, (size_t)world->size, sizeof *all, "the hosts of the ranks"));
    const Status status = gather(world, &mine, sizeof mine, all, "the hosts of the ranks");
    world->local_size = 0;
    for (int rank = 0; rank < world->size && status == OK; ++rank) {
        const bool here = memcmp(&all[rank], &all[world->rank], sizeof *all) == 0;
        self->local_rank[rank] = here ? world->local_size : -1;
        if (rank == world->rank) world->local_rank = world->local_size;
        world->local_size += here;
    }
    free(all);
    return status;
}

static Status find_in_file(void *path, StarAddress *address) { return rendezvous_read(path, address); }

static Status connect(World *world, const char *path)
{
    const StarOptions options = {.rank = world->rank,
                                 .size = world->size,
                                 .host = world->host,
                                 .start_seconds = start_seconds,
                                 .heartbeat_timeout = heartbeat_timeout};
    Hub *hub = NULL;
    if (world->rank == 0) {
        StarAddress address;
        TRY(hub_start(&options, &hub, &address));
        const Status status = rendezvous_write(path, &address);
        if (status != OK) {
            hub_stop(hub, 0);
            return status;
        }
    }
    const Status status = star_open(&options, hub, find_in_file, (void *)(uintptr_t)path, &world->star);
    if (world->rank == 0) rendezvous_remove(path);
    return status;
}

Status sockets_start(World *world, const char *rendezvous)
{
    Sockets *self;
    Status status;
    TRY(memory_new(&self, 1, sizeof *self, "the ranks"));
    self->patience = patience_default;
    TRY_ELSE(failed,
             memory_new(&self->local_rank, (size_t)world->size, sizeof *self->local_rank, "the ranks"));
    TRY_ELSE(failed, connect(world, rendezvous));
    self->star = world->star;
    world->implementation = self;
    world->transport = &transport;
    return find_neighbours(world);
failed:
    free(self->local_rank);
    free(self);
    return status;
}
