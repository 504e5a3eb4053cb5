/* A rank's side of its connection with the hub: its start and end, and what the rank tells the others. */
#include "comm/star/star_private.h"
#include "engine/base/memory.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

HostName *star_hosts(Star *star) { return star->hosts; }

void star_progress(Star *star, int64_t number)
{
    (void)pthread_mutex_lock(&star->lock);
    star->progress = number;
    (void)pthread_mutex_unlock(&star->lock);
}

void star_fail(Star *star, StatusCode code, const char *message)
{
    star_note_failure(star, code, message);
    star_send_frame(star, (Frame){.kind = FRAME_FAILED, .detail = (int32_t)code}, message,
                    strnlen(message, star_largest_payload(FRAME_FAILED, star->options.size)));
}

void star_end(Star *star)
{
    (void)pthread_mutex_lock(&star->lock);
    star->ending = true;
    (void)pthread_mutex_unlock(&star->lock);
    /* What was sent is on its way before the connection ends; in rank 0 the hub has passed it on. */
    for (int turn = 0; turn < 20; ++turn) {
        pause_for(0.05);
        if (turn >= 2 && (star->hub == NULL || hub_is_idle(star->hub))) return;
    }
}

/* ---- start and end ---- */

static Status wait_for_start(Star *star)
{
    /* The hub says who is missing; it needs a moment more than the ranks have. */
    const double seconds = star->options.start_seconds + 5;
    Wait wait = wait_begin();
    bool late = false;
    (void)pthread_mutex_lock(&star->lock);
    while (!star->started && star->failure == 0 && !late)
        late = star_wait_for_change(star, &wait, seconds);
    Status status = star_failure_locked(star);
    if (status == OK && !star->started)
        status =
            fail(STATUS_COMMUNICATION, "rank 0 does not start within %.0f s", star->options.start_seconds);
    (void)pthread_mutex_unlock(&star->lock);
    return status;
}

static void star_free(Star *star)
{
    if (star->file >= 0) (void)close(star->file);
    while (star->first != NULL) {
        Result *result = star->first;
        star->first = result->next;
        free(result->data);
        free(result);
    }
    (void)pthread_cond_destroy(&star->changed);
    (void)pthread_mutex_destroy(&star->lock);
    (void)pthread_mutex_destroy(&star->sending);
    free(star->message);
    free(star->membership);
    free(star->hosts);
    free(star);
}

static Status find_and_connect(Star *star, Status (*find)(void *, StarAddress *), void *context)
{
    const double until = seconds_now() + star->options.start_seconds;
    for (;;) {
        StarAddress *address = &star->address;
        Status status = find(context, address);
        if (status == OK) {
            star->file = star_connect(address, &star->options, 3);
            if (star->file >= 0) return OK;
            status =
                fail(STATUS_COMMUNICATION,
                     "rank %d on host %s gets no answer from rank 0 at %s port %d and %d other addresses; "
                     "is there a firewall, or another process with this rank?",
                     star->options.rank, star->options.host, address->host[0], (int)address->port,
                     address->hosts - 1);
        }
        if (seconds_now() > until) return status;
        status_free(status);
        pause_for(0.1);
    }
}

Status star_open(const StarOptions *options, Hub *hub, Status (*find)(void *context, StarAddress *),
                 void *context, Star **out)
{
    *out = NULL;
    Star *star;
    Status status = memory_new(&star, 1, sizeof *star, "the connection with rank 0");
    if (status != OK) {
        if (hub != NULL) hub_stop(hub, 0);
        return status;
    }
    star->options = *options;
    star->hub = hub;
    star->file = -1;
    pthread_condattr_t monotonic;
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&star->changed, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    (void)pthread_mutex_init(&star->lock, NULL);
    (void)pthread_mutex_init(&star->sending, NULL);
    const size_t size = (size_t)options->size;
    TRY_ELSE(failed, memory_new(&star->hosts, size, HOST_NAME, "the names of the ranks' hosts"));
    TRY_ELSE(failed, memory_new(&star->membership, size, sizeof *star->membership, "the membership"));
    (void)strcpy(star->hosts[0], "?"); /* until the hub tells */
    TRY_ELSE(failed, find_and_connect(star, find, context));
    TRY_ELSE(failed, thread_start(star_thread, star, &star->thread));
    status = wait_for_start(star);
    if (status != OK) {
        star_close(star);
        return status_trail(status, __func__, __FILE__, __LINE__);
    }
    *out = star;
    return OK;
failed:
    if (hub != NULL) hub_stop(hub, 0);
    star_free(star);
    return status;
}

void star_close(Star *star)
{
    star_send_frame(star, (Frame){.kind = FRAME_LEAVE}, NULL, 0);
    (void)pthread_mutex_lock(&star->lock);
    star->closing = true;
    const bool failed = star->failure != 0;
    (void)pthread_mutex_unlock(&star->lock);
    (void)pthread_join(star->thread, NULL);
    (void)close(star->file);
    star->file = -1;
    if (star->hub != NULL) hub_stop(star->hub, failed ? 1 : star->options.start_seconds);
    star_free(star);
}
