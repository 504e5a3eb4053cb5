#include "engine/device/staging.h"

#include <string.h>

enum { HALF = STAGING_RING / 2, LINE = 64 };

static size_t in_lines(size_t bytes) { return (bytes + LINE - 1) / LINE * LINE; }

/* The ring's next part. What lies in it is used before it is given out again: the halves' events say so. */
static Status take(Staging *staging, size_t bytes, char **part)
{
    const size_t end = staging->half == 0 ? HALF : STAGING_RING;
    if (staging->used + in_lines(bytes) > end) {
        const int other = !staging->half;
        TRY(staging->methods->record(staging->queue, staging->half));
        TRY(staging->methods->wait(staging->queue, other));
        staging->half = other;
        staging->used = other ? HALF : 0;
    }
    *part = staging->memory + staging->used;
    staging->used += in_lines(bytes);
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
    if (staging->copies == STAGED_COPIES || staging->downloaded + in_lines(bytes) > STAGING_DOWNLOADS)
        TRY(staging_synchronize(staging));
    char *part = staging->memory + STAGING_RING + staging->downloaded;
    TRY(staging->methods->download(staging->queue, part, from, bytes));
    staging->downloaded += in_lines(bytes);
    staging->copy[staging->copies].to = host;
    staging->copy[staging->copies].from = part;
    staging->copy[staging->copies].mark = staging->marks + 1;
    staging->copy[staging->copies++].bytes = bytes;
    return OK;
}

/* Those before the mark are done. */
static void bring(Staging *staging, Mark mark)
{
    int done = 0;
    for (; done < staging->copies && staging->copy[done].mark <= mark; ++done)
        memcpy(staging->copy[done].to, staging->copy[done].from, staging->copy[done].bytes);
    staging->copies -= done;
    memmove(staging->copy, staging->copy + done, (size_t)staging->copies * sizeof *staging->copy);
    if (staging->copies == 0) staging->downloaded = 0;
}

static int event_of(Mark mark) { return 2 + (int)(mark % STAGING_MARKS); }

Status staging_mark(Staging *staging, Mark *mark)
{
    TRY(staging->methods->record(staging->queue, event_of(staging->marks + 1)));
    *mark = ++staging->marks;
    return OK;
}

Status staging_wait(Staging *staging, Mark mark)
{
    TRY(staging->methods->wait(staging->queue, event_of(mark)));
    bring(staging, mark);
    return OK;
}

Status staging_synchronize(Staging *staging)
{
    TRY(staging->methods->drain(staging->queue));
    bring(staging, staging->marks + 1);
    staging->used = 0;
    staging->half = 0;
    return OK;
}
