/* Copies between a device and memory of the host that is not pinned, by way of pinned memory, so that neither they
 * nor their caller wait: a ring in halves, each of which is used again once what was enqueued from it is done.
 * Private to engine/device/. */
#ifndef PLUMB_ENGINE_DEVICE_STAGING_H
#define PLUMB_ENGINE_DEVICE_STAGING_H

#include "engine/base/status.h"

#include <stddef.h>

enum {
    STAGING_BYTES = 2 << 20,
    STAGED_MOST = 256 << 10, /* at once; larger uploads go in parts, larger downloads do not belong here */
    STAGED_COPIES = 256
};

/* The device's queue of work, in order. */
typedef struct {
    Status (*upload)(void *queue, void *to, const void *pinned, size_t bytes);     /* enqueues */
    Status (*download)(void *queue, void *pinned, const void *from, size_t bytes); /* enqueues */
    Status (*mark)(void *queue, int half); /* what is enqueued until now is before the half's mark */
    Status (*wait)(void *queue, int half); /* until all before its last mark is done; without one at once */
    Status (*drain)(void *queue);          /* until all is done */
} StagingQueue;

typedef struct {
    const StagingQueue *methods;
    void *queue;
    char *memory; /* pinned, STAGING_BYTES, of whoever made this */
    size_t used;  /* where the ring's next part begins */
    int half;     /* the one that it is given out from */
    struct {
        void *to;
        const void *from;
        size_t bytes;
    } copy[STAGED_COPIES]; /* downloads that staging_synchronize brings to their place */
    int copies;
} Staging;

/* Enqueues; `host` may be used again when the call returns. */
CHECKED Status staging_upload(Staging *, void *to, const void *host, size_t bytes);
/* Enqueues at most STAGED_MOST bytes; they are in `host` after staging_synchronize, and perhaps before. */
CHECKED Status staging_download(Staging *, void *host, const void *from, size_t bytes);
/* Waits for all that was enqueued. */
CHECKED Status staging_synchronize(Staging *);

#endif
