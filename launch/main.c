/* The program: starts the ranks, runs one command, and turns its status into one message and an exit code. */
#include "engine/base/log.h"
#include "launch/command.h"

#include <stdio.h>

int main(int argc, char **argv)
{
    World *world = NULL;
    Status status = comm_start(&argc, &argv, &world);
    if (status != OK) comm_abort(world, status);
    status = command_run(world, argc, argv);
    /* A rank that others may still wait for must not end quietly. */
    if (status != OK && status_code(status) == STATUS_COMMUNICATION) comm_abort(world, status);
    status = comm_agree(world, status);
    int code = 0;
    if (status != OK) {
        code = (int)status_code(status);
        log_error("%s", status_message(status));
        if (status_code(status) == STATUS_INTERNAL) log_error("%s", status_trace(status));
        status_free(status);
    }
    if (fflush(stdout) != 0 && code == 0) code = STATUS_IO;
    comm_stop(world);
    return code;
}
