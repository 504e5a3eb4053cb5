/* A build without NCCL's header. */
#include "comm/nccl.h"

#if !PLUMB_HAVE_NCCL

Status nccl_collective(World *world, Device *device, const CommOptions *options, Collective **collective)
{
    (void)world, (void)device, (void)options;
    *collective = NULL;
    return fail(STATUS_UNSUPPORTED, "this plumb was built without NCCL (PLUMB_NCCL=OFF), which moves data "
                                    "between GPUs: use one rank, or device: cpu");
}

#endif
