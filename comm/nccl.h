/* The collective over NCCL, for memory of GPUs. Private to comm/. */
#ifndef PLUMB_COMM_NCCL_H
#define PLUMB_COMM_NCCL_H

#include "comm/comm.h"

/* As comm_device_collective. All ranks have a device of the kind that NCCL can serve. In a build without
 * nccl.h it fails (nccl_absent.c). */
CHECKED Status nccl_collective(World *, Device *, const CommOptions *, Collective **);

/* NCCL's version as text, or why it cannot be used (false). */
bool nccl_describe(char text[256]);

#endif
