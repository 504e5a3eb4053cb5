/* Which collective serves which device. */
#include "comm/comm.h"
#include "comm/nccl.h"
#include "comm/transport.h"

#include <string.h>

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
