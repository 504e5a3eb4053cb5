/* Watches over a rank that waits for others inside NCCL or for its GPU, where nothing else would end the
 * waiting. Private to comm/nccl*.c. */
#ifndef PLUMB_COMM_NCCL_WATCH_H
#define PLUMB_COMM_NCCL_WATCH_H

#include "comm/nccl_library.h"
#include "comm/star/star.h"

/* A thread that looks every moment whether another rank is lost, NCCL has failed behind the rank's back, or
 * what the rank waits for takes too long. If so it tells all ranks and aborts the communicator, which ends
 * the rank's waiting. The calls below are made by the rank's own thread. */
typedef struct Watch Watch;

CHECKED Status watch_start(Star *, const NcclLibrary *, Watch **);
void watch_stop(Watch *);

/* What is to be aborted; NULL: nothing. */
void watch_communicator(Watch *, ncclComm_t);
/* A call of NCCL's with the communicator, or a wait for the GPU. */
typedef enum { WATCH_CALL, WATCH_WAIT } WatchKind;
/* Around everything that may wait for other ranks; all make the same, in the same order. count: elements; -1:
 * the text says it all. Fails with the first failure, if there was one, and is then not left. */
CHECKED Status watch_enter(Watch *, WatchKind, const char *what, int64_t count, DType, double seconds);
void watch_leave(Watch *);

/* The first failure, if there was one; then the communicator is not to be used any more. */
CHECKED Status watch_failure(Watch *);
/* The rank has met a failure itself: it becomes the first, unless it follows from one. Consumes the status
 * and returns the first failure; the communicator is aborted soon. */
CHECKED Status watch_failed(Watch *, Status);

#endif
