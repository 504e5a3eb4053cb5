/* A build without NCCL's header. */
#include "comm/nccl.h"

#include <stdio.h>

#if !PLUMB_HAVE_NCCL

Status nccl_collective(World *world, Device *device, const CommOptions *options, Collective **collective)
{
    (void)world, (void)device, (void)options;
    *collective = NULL;
    return fail(STATUS_UNSUPPORTED, "this plumb was built without NCCL (PLUMB_NCCL=OFF), which moves data "
                                    "between GPUs: use one rank, or device: cpu");
}

bool nccl_describe(char text[256])
{
    (void)snprintf(text, 256, "none (built with PLUMB_NCCL=OFF)");
    return false;
}

#endif
