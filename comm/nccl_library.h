/* NCCL, found when the program runs: one binary starts with and without it. Private to comm/; needs nccl.h,
 * and is empty in a build without. */
#ifndef PLUMB_COMM_NCCL_LIBRARY_H
#define PLUMB_COMM_NCCL_LIBRARY_H

#include "engine/base/status.h"

#include <nccl.h>
#include <stdbool.h>

/* The functions that are used, as nccl.h has them. */
typedef struct {
    ncclResult_t (*get_version)(int *version);
    ncclResult_t (*get_unique_id)(ncclUniqueId *);
    ncclResult_t (*comm_init_rank)(ncclComm_t *, int ranks, ncclUniqueId, int rank);
    ncclResult_t (*comm_destroy)(ncclComm_t);
    ncclResult_t (*comm_abort)(ncclComm_t);
    ncclResult_t (*comm_get_async_error)(ncclComm_t, ncclResult_t *);
    const char *(*get_error_string)(ncclResult_t);
    const char *(*get_last_error)(ncclComm_t);
    ncclResult_t (*all_reduce)(const void *from, void *to, size_t count, ncclDataType_t, ncclRedOp_t,
                               ncclComm_t, cudaStream_t);
    ncclResult_t (*all_gather)(const void *from, void *to, size_t count, ncclDataType_t, ncclComm_t,
                               cudaStream_t);
    ncclResult_t (*broadcast)(const void *from, void *to, size_t count, ncclDataType_t, int root, ncclComm_t,
                              cudaStream_t);
    int version;      /* as NCCL_VERSION_CODE; 0: not loaded */
    bool host_memory; /* it moves host memory too: a stand-in for tests */
} NcclLibrary;

/* Loads libnccl.so.2 from where the system finds libraries. The error says what is missing. It is never
 * unloaded: it has threads of its own. */
CHECKED Status nccl_load(NcclLibrary *);

/* The result as a status: what was done, what NCCL calls the error, and its last message. communicator may be
 * NULL. */
CHECKED Status nccl_status(const NcclLibrary *, ncclResult_t, ncclComm_t communicator, const char *what);

/* "2.28.9" */
void nccl_version_text(int version, char text[32]);

#endif
