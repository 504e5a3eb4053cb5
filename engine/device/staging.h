/* Copies between a device and memory of the host that is not pinned, by way of pinned memory, so that neither they
 * nor their caller wait. Uploads go through a ring in halves, each of which is used again once what was enqueued from
 * it is done; downloads wait in a part of their own until somebody waits for them. Private to engine/device/. */
#ifndef PLUMB_ENGINE_DEVICE_STAGING_H
#define PLUMB_ENGINE_DEVICE_STAGING_H

#include "engine/device/device.h"

enum {
    STAGING_RING = 2 << 20,
    STAGING_DOWNLOADS = 1 << 20,
    STAGING_BYTES = STAGING_RING + STAGING_DOWNLOADS,
    STAGED_MOST = 256 << 10, /* at once; larger uploads go in parts, larger downloads do not belong here */
    STAGED_COPIES = 256,
    STAGING_MARKS = 4, /* a mark that so many others follow is waited for by waiting for a later one */
    STAGING_EVENTS = 2 + STAGING_MARKS
};

/* The device's queue of work, in order. */
typedef struct {
    Status (*upload)(void *queue, void *to, const void *pinned, size_t bytes);     /* enqueues */
    Status (*download)(void *queue, void *pinned, const void *from, size_t bytes); /* enqueues */
    Status (*record)(void *queue,
                     int event); /* what is enqueued until now comes before that event, of STAGING_EVENTS */
    Status (*wait)(void *queue, int event); /* for it as it was recorded last; if never, at once */
    Status (*drain)(void *queue);           /* until all is done */
} StagingQueue;

typedef struct {
    const StagingQueue *methods;
    void *queue;
    char *memory; /* pinned, STAGING_BYTES, of whoever made this */
    size_t used;  /* where the ring's next part begins */
    int half;     /* the one that it is given out from */
    Mark marks;   /* made so far */
    struct {
        void *to;
        const void *from;
        size_t bytes;
        Mark mark;         /* the first after it */
    } copy[STAGED_COPIES]; /* downloads that are still to be brought to their place, in order */
    int copies;
    size_t downloaded; /* bytes that they take */
} Staging;

/* Enqueues; `host` may be used again when the call returns. */
CHECKED Status staging_upload(Staging *, void *to, const void *host, size_t bytes);
/* Enqueues at most STAGED_MOST bytes; they are in `host` after staging_wait or staging_synchronize, and perhaps
 * before. */
CHECKED Status staging_download(Staging *, void *host, const void *from, size_t bytes);
/* device_mark, device_wait (for marks that were made) */
CHECKED Status staging_mark(Staging *, Mark *);
CHECKED Status staging_wait(Staging *, Mark);
/* Waits for all that was enqueued. */
CHECKED Status staging_synchronize(Staging *);

#endif
