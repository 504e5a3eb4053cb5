/* What the hub sends: messages that wait until a connection takes them, each kept once for all ranks. */
#include "comm/star/star_hub.h"
#include "engine/base/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

Message *hub_message_new(Frame frame, const void *payload, size_t bytes)
{
    Message *message = malloc(sizeof *message + sizeof frame + bytes);
    if (message == NULL) return NULL;
    frame.magic = STAR_MAGIC;
    frame.bytes = bytes;
    message->references = 1;
    message->bytes = sizeof frame + bytes;
    memcpy(message->data, &frame, sizeof frame);
    if (bytes > 0) memcpy(message->data + sizeof frame, payload, bytes);
    return message;
}

void hub_message_release(Message *message)
{
    if (message != NULL && --message->references == 0) free(message);
}

void hub_enqueue(Member *member, Message *message)
{
    if (member->file < 0 || message == NULL) return;
    if (member->next > 0 && member->next == member->queued) member->next = member->queued = 0;
    const Status status = memory_grow(&member->queue, &member->capacity, member->queued + 1,
                                      sizeof(Message *), "messages to other ranks");
    if (status != OK) {
        status_free(status);
        return;
    }
    ++message->references;
    member->queue[member->queued++] = message;
}

void hub_send_all(Hub *hub, Message *message)
{
    for (int i = 0; i < hub->members; ++i)
        if (hub->member[i].rank >= 0) hub_enqueue(&hub->member[i], message);
}

void hub_member_close(Member *member)
{
    if (member->file >= 0) (void)close(member->file);
    member->file = -1;
    for (size_t i = member->next; i < member->queued; ++i)
        hub_message_release(member->queue[i]);
    member->next = member->queued = member->sent = 0;
    free(member->payload);
    member->payload = NULL;
    member->have = 0;
}

void hub_send(Member *member, Frame frame, const void *payload, size_t bytes)
{
    Message *message = hub_message_new(frame, payload, bytes);
    hub_enqueue(member, message);
    hub_message_release(message);
}

bool hub_member_write(Member *member)
{
    while (member->next < member->queued) {
        Message *message = member->queue[member->next];
        const ssize_t wrote = send(member->file, message->data + member->sent, message->bytes - member->sent,
                                   MSG_NOSIGNAL | MSG_DONTWAIT);
        if (wrote < 0) return errno == EAGAIN || errno == EINTR;
        member->sent += (size_t)wrote;
        if (member->sent < message->bytes) return true;
        member->sent = 0;
        ++member->next;
        hub_message_release(message);
    }
    return true;
}
