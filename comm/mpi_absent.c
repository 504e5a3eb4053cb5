/* A build without MPI. */
#include "comm/transport.h"

#if !PLUMB_HAVE_MPI

Status mpi_start(int *argc, char ***argv, World *world)
{
    (void)argc, (void)argv, (void)world;
    return fail(STATUS_UNSUPPORTED, "this plumb was built without MPI (PLUMB_MPI=OFF)");
}

#endif
