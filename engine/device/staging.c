#include "engine/device/staging.h"

#include <string.h>

enum { HALF = STAGING_BYTES / 2, LINE = 64 };

/* The next part of the ring. What lies in it is used before it is given out again: the halves' marks say so, and
 * downloads that wait for staging_synchronize are brought to their place before the ring goes on to another half. */
static Status take(Staging *staging, size_t bytes, char **part)
{
    const size_t rounded = (bytes + LINE - 1) / LINE * LINE;
    const size_t end = staging->half == 0 ? HALF : STAGING_BYTES;
    if (staging->used + rounded > end && staging->copies > 0) {
        TRY(staging_synchronize(staging)); /* the ring begins anew */
    } else if (staging->used + rounded > end) {
        const int other = !staging->half;
        TRY(staging->methods->mark(staging->queue, staging->half));
        TRY(staging->methods->wait(staging->queue, other));
        staging->half = other;
        staging->used = other ? HALF : 0;
    }
    *part = staging->memory + staging->used;
    staging->used += rounded;
    return OK;
}

Status staging_upload(Staging *staging, void *to, const void *host, size_t bytes)
{
    for (size_t done = 0; done < bytes; done += STAGED_MOST) {
        const size_t count = bytes - done < STAGED_MOST ? bytes - done : STAGED_MOST;
        char *part;
        TRY(take(staging, count, &part));
        memcpy(part, (const char *)host + done, count);
        TRY(staging->methods->upload(staging->queue, (char *)to + done, part, count));
    }
    return OK;
}

Status staging_download(Staging *staging, void *host, const void *from, size_t bytes)
{
    if (bytes == 0) return OK;
    /* A download stays in the ring until all is done, so all since the last time must fit in a half. */
    if (staging->copies == STAGED_COPIES || staging->used + STAGED_MOST > HALF)
        TRY(staging_synchronize(staging));
    char *part;
    TRY(take(staging, bytes, &part));
    TRY(staging->methods->download(staging->queue, part, from, bytes));
    staging->copy[staging->copies].to = host;
    staging->copy[staging->copies].from = part;
    staging->copy[staging->copies++].bytes = bytes;
    return OK;
}

Status staging_synchronize(Staging *staging)
{
    TRY(staging->methods->drain(staging->queue));
    for (int i = 0; i < staging->copies; ++i)
        memcpy(staging->copy[i].to, staging->copy[i].from, staging->copy[i].bytes);
    staging->copies = 0;
    staging->used = 0;
    staging->half = 0;
    return OK;
}
