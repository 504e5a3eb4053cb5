/* The program: starts the ranks, runs one command, and turns its status into one message and an exit code. */
#include "engine/base/log.h"
#include "launch/command.h"

#include <stdio.h>

/* A binary built for a newer processor would die of an illegal instruction somewhere; say so at once. */
static bool processor_suffices(void)
{
#if defined(__AVX512F__)
    if (!__builtin_cpu_supports("avx512f")) return false;
#endif
#if defined(__AVX2__)
    if (!__builtin_cpu_supports("avx2")) return false;
#endif
    return true;
}

int main(int argc, char **argv)
{
    if (!processor_suffices()) {
        log_error(
            "this plumb was built for a newer processor: build it here, or with -DPLUMB_ARCH=x86-64-v3");
        return STATUS_UNSUPPORTED;
    }
    World *world = NULL;
    Status status = comm_start(&argc, &argv, &world);
    if (status != OK) comm_abort(world, status);
    status = command_run(world, argc, argv);
    if (fflush(stdout) != 0 && status == OK)
        status = fail(STATUS_IO, "the standard output cannot be written");
    return comm_finish(world, status);
}
