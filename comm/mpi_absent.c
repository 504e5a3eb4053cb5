/* A build without MPI: worlds of one only. */
#include "comm/mpi.h"

#if !PLUMB_HAVE_MPI

#include <stdlib.h>

#define ABSENT                                                                                               \
    fail(STATUS_UNSUPPORTED, "this plumb was built without MPI (PLUMB_MPI=OFF) and runs alone only")

Status mpi_start(int *argc, char ***argv, World *world)
{
    (void)argc, (void)argv, (void)world;
    return ABSENT;
}

void mpi_stop(World *world) { (void)world; }

bool mpi_in_step(const World *world)
{
    (void)world;
    return true;
}

_Noreturn void mpi_abort(World *world, int code)
{
    (void)world;
    exit(code);
}

Status mpi_gather(World *world, const void *mine, size_t bytes, void *all, const char *what)
{
    (void)world, (void)mine, (void)bytes, (void)all, (void)what;
    return ABSENT;
}

Status mpi_gather_local(World *world, const void *mine, size_t bytes, void *all, const char *what)
{
    return mpi_gather(world, mine, bytes, all, what);
}

Status mpi_broadcast(World *world, void *data, size_t bytes, int root, const char *what)
{
    (void)world, (void)data, (void)bytes, (void)root, (void)what;
    return ABSENT;
}

Status mpi_maximum(World *world, int64_t *value, const char *what)
{
    (void)world, (void)value, (void)what;
    return ABSENT;
}

bool mpi_all_fail(World *world, double seconds)
{
    (void)world, (void)seconds;
    return true;
}

Status mpi_collective(World *world, double timeout_seconds, Collective **collective)
{
    (void)world, (void)timeout_seconds, (void)collective;
    return ABSENT;
}

#endif
