/* The hub: a thread in rank 0 that serves the connections of all ranks, rank 0's own included. It never waits for one
 * of them: what a rank does not take at once is queued. */
#include "comm/star/star_hub.h"
#include "engine/base/memory.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static const double interval = HEARTBEAT_SECONDS;

/* A frame is there with all that follows it. False: the connection makes no sense and is to end. */
static bool handle_frame(Hub *hub, Member *member)
{
    const Frame *frame = &member->frame;
    if (member->rank < 0) return frame->kind == FRAME_JOIN && hub_admit(hub, member);
    hub_join(hub, member);
    switch (frame->kind) {
    case FRAME_HEARTBEAT:
        member->progress = frame->number;
        return true;
    case FRAME_PART:
        hub_take_part(hub, member);
        return true;
    case FRAME_MEMBERSHIP_REQUEST:
        hub_send_membership(hub, member);
        return true;
    case FRAME_FAILED:
        hub_relay_failure(hub, member);
        return true;
    case FRAME_LEAVE:
        member->left = true;
        return true;
    default:
        return false;
    }
}

/* Is the frame that came one that may be taken in? */
static bool acceptable(const Member *member, int size)
{
    const Frame *frame = &member->frame;
    return frame->magic == STAR_MAGIC && frame->bytes <= star_largest_payload(frame->kind, size) &&
           (member->rank >= 0 || frame->kind == FRAME_JOIN) &&
           (frame->kind != FRAME_PART || (frame->detail >= STAR_GATHER && frame->detail < DTYPE_COUNT));
}

/* Takes in what has come. False when the connection has ended, or is to end. */
static bool member_read(Hub *hub, Member *member)
{
    enum { TURN = 64 }; /* reads, before others have theirs */
    for (int turn = 0; turn < TURN; ++turn) {
        Frame *frame = &member->frame;
        const bool in_frame = member->have < sizeof *frame;
        char *to = in_frame ? (char *)frame + member->have : member->payload + (member->have - sizeof *frame);
        const size_t want = (in_frame ? 0 : frame->bytes) + sizeof *frame - member->have;
        const ssize_t got = want > 0 ? recv(member->file, to, want, MSG_DONTWAIT) : 0;
        if (got < 0) return errno == EAGAIN || errno == EINTR;
        if (got == 0 && want > 0) return false;
        member->silence = 0;
        member->have += (size_t)got;
        if (member->have == sizeof *frame && in_frame) {
            if (!acceptable(member, hub->options.size)) return false;
            if (frame->bytes > 0 && (member->payload = malloc(frame->bytes)) == NULL) return false;
        }
        if (member->have < sizeof *frame || member->have < sizeof *frame + frame->bytes) continue;
        const bool sense = handle_frame(hub, member);
        free(member->payload);
        member->payload = NULL;
        member->have = 0;
        if (!sense) return false;
    }
    return true;
}

/* ---- the thread ---- */

static void accept_one(Hub *hub)
{
    const int file = accept4(hub->listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (file < 0) return;
    const int yes = 1;
    (void)setsockopt(file, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    for (int i = 0; i < hub->members; ++i) {
        Member *member = &hub->member[i];
        if (member->file >= 0 || member->rank >= 0) continue;
        *member = (Member){.file = file, .rank = -1, .queue = member->queue, .capacity = member->capacity};
        return;
    }
    (void)close(file);
}

static void serve(Hub *hub, int i, short events)
{
    Member *member = &hub->member[i];
    if (member->file < 0) return;
    bool alive = true;
    if (events & POLLOUT) alive = hub_member_write(member);
    if (alive && (events & (POLLIN | POLLHUP | POLLERR))) alive = member_read(hub, member);
    if (!alive) hub_member_ended(hub, member);
}

static bool may_end(const Hub *hub, double since)
{
    if (!atomic_load(&hub->closing)) return false;
    bool all_left = true;
    for (int i = 0; i < hub->members; ++i)
        all_left &= hub->member[i].rank < 0 || hub->member[i].file < 0;
    return all_left || since > hub->closing_seconds;
}

static void *run(void *argument)
{
    Hub *hub = argument;
    double last = seconds_now(), heartbeat = 0, closing = 0;
    while (!may_end(hub, closing)) {
        bool waiting = false;
        hub->poll[0] = (struct pollfd){.fd = hub->listening, .events = POLLIN};
        for (int i = 0; i < hub->members; ++i) {
            const Member *member = &hub->member[i];
            const bool more = member->next < member->queued;
            waiting |= more;
            hub->poll[i + 1] =
                (struct pollfd){.fd = member->file, .events = (short)(POLLIN | (more ? POLLOUT : 0))};
        }
        atomic_store(&hub->idle, !waiting);
        (void)poll(hub->poll, (nfds_t)hub->members + 1, (int)(1000 * interval));
        const double now = seconds_now(), passed = now - last < 2 * interval ? now - last : 2 * interval;
        last = now;
        if (hub->poll[0].revents & POLLIN) accept_one(hub);
        for (int i = 0; i < hub->members; ++i)
            serve(hub, i, hub->poll[i + 1].revents);
        hub_detect_failures(hub, passed);
        hub_watch_start(hub);
        if (atomic_load(&hub->closing)) closing += passed;
        if ((heartbeat += passed) < interval) continue;
        heartbeat = 0;
        Message *message = hub_message_new((Frame){.kind = FRAME_HEARTBEAT}, NULL, 0);
        hub_send_all(hub, message);
        hub_message_release(message);
    }
    return NULL;
}

/* ---- start and end ---- */

static void hub_free(Hub *hub)
{
    for (int i = 0; i < hub->members; ++i) {
        hub_member_close(&hub->member[i]);
        free(hub->member[i].queue);
    }
    hub_exchanges_free(hub);
    if (hub->listening >= 0) (void)close(hub->listening);
    hub_message_release(hub->failure);
    free(hub->member);
    free(hub->poll);
    free(hub->hosts);
    free(hub);
}

Status hub_start(const StarOptions *options, Hub **out, StarAddress *address)
{
    Hub *hub;
    Status status;
    *out = NULL;
    TRY(memory_new(&hub, 1, sizeof *hub, "the hub of the ranks"));
    hub->options = *options;
    hub->listening = -1;
    const size_t members = (size_t)options->size + UNKNOWN;
    TRY_ELSE(failed, memory_new(&hub->member, members, sizeof *hub->member, "the hub of the ranks"));
    TRY_ELSE(failed, memory_new(&hub->poll, members + 1, sizeof *hub->poll, "the hub of the ranks"));
    TRY_ELSE(failed,
             memory_new(&hub->hosts, (size_t)options->size, HOST_NAME, "the names of the ranks' hosts"));
    hub->members = (int)members;
    for (int i = 0; i < hub->members; ++i)
        hub->member[i].file = hub->member[i].rank = -1;
    TRY_ELSE(failed, star_listen(&hub->address, &hub->listening));
    *address = hub->address;
    TRY_ELSE(failed, thread_start(run, hub, &hub->thread));
    *out = hub;
    return OK;
failed:
    hub_free(hub);
    return status;
}

bool hub_is_idle(Hub *hub) { return atomic_load(&hub->idle); }

void hub_stop(Hub *hub, double seconds)
{
    hub->closing_seconds = seconds;
    atomic_store(&hub->closing, true);
    (void)pthread_join(hub->thread, NULL);
    hub_free(hub);
}
