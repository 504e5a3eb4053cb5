/* Waiting for what other ranks do, and which of them a wait that took too long was for. */
#include "comm/star/star_private.h"
#include "engine/base/memory.h"

#include <stdlib.h>
#include <time.h>

static const double interval = HEARTBEAT_SECONDS;

static struct timespec moment(double time)
{
    const time_t whole = (time_t)time;
    return (struct timespec){.tv_sec = whole, .tv_nsec = (long)((time - (double)whole) * 1e9)};
}

Status star_failure_locked(const Star *star)
{
    if (star->failure == 0) return OK;
    return fail(star->failure, "%s", star->message != NULL ? star->message : "another rank failed");
}

Status star_failure(Star *star)
{
    (void)pthread_mutex_lock(&star->lock);
    const Status status = star_failure_locked(star);
    (void)pthread_mutex_unlock(&star->lock);
    return status;
}

bool star_wait_for_change(Star *star, Wait *wait, double seconds)
{
    const double left = seconds - wait->passed;
    const struct timespec end = moment(seconds_now() + (left < 2 * interval ? left : 2 * interval));
    (void)pthread_cond_timedwait(&star->changed, &star->lock, &end);
    return wait_passed(wait) >= seconds;
}

static bool has_come(const MemberState *of, bool of_exchanges, int64_t number)
{
    return (of_exchanges ? of->exchanges : of->progress) >= number;
}

/* Heartbeats tell how far ranks are. A rank that is silent for some intervals may be stopped, or its host busy. lock is
 * held. */
static bool all_are_heard(const Star *star, bool of_exchanges, int64_t number)
{
    for (int i = 0; i < star->options.size; ++i) {
        const MemberState *of = &star->membership[i];
        if (i != star->options.rank && !has_come(of, of_exchanges, number) && of->silence >= 2 * interval)
            return false;
    }
    return true;
}

Status star_timeout_error(Star *star, const Operation *operation, double seconds, bool of_exchanges,
                          int64_t number)
{
    const size_t size = (size_t)star->options.size;
    PeerState *peers;
    TRY(memory_new(&peers, size, sizeof *peers, "the membership"));
    (void)pthread_mutex_lock(&star->lock);
    const int64_t before = star->membership_updates;
    int64_t seen = before - 1;
    Wait wait = wait_begin();
    bool late = false, heard = false;
    while (star->failure == 0 && !late && !heard) {
        /* Ask again after every answer that leaves somebody in doubt. */
        if (seen != star->membership_updates) {
            seen = star->membership_updates;
            (void)pthread_mutex_unlock(&star->lock);
            if (seen != before) pause_for(interval);
            star_send_frame(star, (Frame){.kind = FRAME_MEMBERSHIP_REQUEST}, NULL, 0);
            (void)pthread_mutex_lock(&star->lock);
        }
        late = star_wait_for_change(star, &wait, PROBE_SECONDS);
        heard = star->membership_updates != before && all_are_heard(star, of_exchanges, number);
    }
    Status status = star_failure_locked(star); /* says it better */
    for (size_t i = 0; i < size; ++i) {
        const MemberState *of = &star->membership[i];
        /* Who does not hear the hub knows of no other. */
        peers[i] = star->membership_updates == before
                       ? (PeerState){.answers = i != 0, .came = i != 0, .silence = -1}
                       : (PeerState){.answers = of->silence < PROBE_SECONDS,
                                     .came = has_come(of, of_exchanges, number),
                                     .silence = of->silence};
    }
    (void)pthread_mutex_unlock(&star->lock);
    if (status == OK)
        status =
            timeout_error(star->options.rank, star->options.size, star->hosts, operation, seconds, peers);
    free(peers);
    return status;
}
