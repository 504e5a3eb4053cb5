/* Membership: which ranks have joined, which are lost (the failure detector), and what all are told of it. */
#include "comm/star/star_hub.h"
#include "engine/base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double warn_after = 20;

void hub_fail(Hub *hub, int rank, int code, const char *format, ...)
{
    if (hub->failed) return;
    char text[4096];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    hub->failed = true;
    hub->failure =
        hub_message_new((Frame){.kind = FRAME_FAILED, .detail = code, .rank = rank}, text, strlen(text));
    hub_send_all(hub, hub->failure);
}

static void declare_lost(Hub *hub, int rank, const char *how)
{
    hub_fail(hub, rank, STATUS_COMMUNICATION, "rank %d on host %s is lost: %s", rank, hub->hosts[rank], how);
}

bool hub_admit(Hub *hub, Member *member)
{
    const JoinRequest *request = (const JoinRequest *)(const void *)member->payload;
    if (member->frame.bytes != sizeof *request || request->secret != hub->address.secret[0] ||
        request->size != hub->options.size || request->rank < 0 || request->rank >= hub->options.size)
        return false;
    for (int i = 0; i < hub->members; ++i)
        if (hub->member[i].rank == request->rank) return false;
    member->rank = request->rank;
    (void)snprintf(hub->hosts[request->rank], HOST_NAME, "%.*s", HOST_NAME - 1, request->host);
    hub_send(member, (Frame){.kind = FRAME_ACCEPTED}, &hub->address.secret[1], sizeof hub->address.secret[1]);
    if (hub->failed) hub_enqueue(member, hub->failure);
    return true;
}

/* A rank that has heard the answer to its request stays; until then it may have given up and tries again. All
 * ranks start when the last has joined. */
void hub_join(Hub *hub, Member *member)
{
    if (member->joined) return;
    member->joined = true;
    if (++hub->joined < hub->options.size) return;
    hub->started = true;
    Message *start =
        hub_message_new((Frame){.kind = FRAME_START}, hub->hosts, (size_t)hub->options.size * HOST_NAME);
    hub_send_all(hub, start);
    hub_message_release(start);
}

void hub_send_membership(Hub *hub, Member *caller)
{
    MemberState *membership = calloc((size_t)hub->options.size, sizeof *membership);
    if (membership == NULL) return;
    for (int i = 0; i < hub->members; ++i) {
        const Member *member = &hub->member[i];
        if (member->rank >= 0)
            membership[member->rank] = (MemberState){member->silence, member->exchanges, member->progress};
    }
    hub_send(caller, (Frame){.kind = FRAME_MEMBERSHIP}, membership,
             (size_t)hub->options.size * sizeof *membership);
    free(membership);
}

/* Messages about ranks say already whom they concern. */
void hub_relay_failure(Hub *hub, const Member *member)
{
    const Frame *frame = &member->frame;
    const char *text = member->payload != NULL ? member->payload : "";
    if (frame->bytes > 5 && memcmp(text, "rank ", 5) == 0)
        hub_fail(hub, member->rank, frame->detail, "%.*s", (int)frame->bytes, text);
    else
        hub_fail(hub, member->rank, frame->detail, "rank %d on host %s failed: %.*s", member->rank,
                 hub->hosts[member->rank], (int)frame->bytes, text);
}

void hub_member_ended(Hub *hub, Member *member)
{
    hub_member_close(member);
    if (!member->joined) member->rank = -1; /* gave up waiting for the answer: the rank comes again */
    if (member->rank < 0 || member->left) return;
    member->left = true;
    declare_lost(hub, member->rank, "its connection ended; it was killed, or its host is gone");
}

/* Time that this thread itself did not run, because the host or the job was stopped, counts for nobody. */
void hub_detect_failures(Hub *hub, double seconds)
{
    hub->age += seconds;
    for (int i = 0; i < hub->members; ++i) {
        Member *member = &hub->member[i];
        if (member->file < 0) continue;
        member->silence += seconds;
        if (!member->joined && member->silence > hub->options.heartbeat_timeout)
            hub_member_ended(hub, member);
        if (!member->joined || member->left || !hub->started ||
            member->silence <= hub->options.heartbeat_timeout)
            continue;
        char how[100];
        (void)snprintf(how, sizeof how, "it was last heard of %.0f s ago", member->silence);
        declare_lost(hub, member->rank, how);
    }
}

/* " 1, 2 and 7 more" */
static void list_absent(const Hub *hub, char *text, size_t room)
{
    enum { NAMED = 16 };
    int named = 0;
    size_t length = 0;
    text[0] = '\0';
    for (int rank = 0; rank < hub->options.size; ++rank) {
        bool there = false;
        for (int i = 0; i < hub->members; ++i)
            there |= hub->member[i].joined && hub->member[i].rank == rank;
        if (there || ++named > NAMED || length + 16 > room) continue;
        length += (size_t)snprintf(text + length, room - length, "%s %d", named > 1 ? "," : "", rank);
    }
    if (named > NAMED) (void)snprintf(text + length, room - length, " and %d more", named - NAMED);
}

void hub_watch_start(Hub *hub)
{
    if (hub->started || hub->failed) return;
    char absent[400];
    const bool late = hub->age > hub->options.start_seconds;
    if (!late && (hub->warned || hub->age < warn_after)) return;
    list_absent(hub, absent, sizeof absent);
    if (late)
        hub_fail(hub, 0, STATUS_COMMUNICATION,
                 "of %d ranks only %d have come to rank 0 on host %s within %.0f s; missing: rank%s",
                 hub->options.size, hub->joined, hub->options.host, hub->age, absent);
    else
        log_warning("rank 0 on host %s still waits for rank%s", hub->options.host, absent);
    hub->warned = true;
}
