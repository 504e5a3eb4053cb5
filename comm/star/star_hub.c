/* The hub: a thread in rank 0 that serves the connections of all ranks, rank 0's own included. It never waits
 * for one of them: what a rank does not take at once is queued. */
#include "comm/star/star_frames.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { STRANGERS = 64 }; /* connections that have not said who they are, at most */

static const double tick = 0.25, warn_after = 20;

/* What is sent to one or more ranks: a frame and what follows it. */
typedef struct {
    int references;
    size_t bytes;
    char data[];
} Message;

typedef struct {
    int file;          /* of the connection; -1: none */
    int rank;          /* -1: not known yet */
    bool joined;       /* a frame came after its hello: it has heard this hub's answer */
    bool left;         /* it said so */
    double silence;    /* seconds since something came */
    int64_t progress;  /* as it told */
    int64_t exchanges; /* parts that it gave */
    Frame frame;       /* that is coming in */
    char *payload;     /* and what follows it */
    size_t have;       /* bytes of both that are there */
    Message **queue;   /* to be sent, from `next` on */
    size_t next, queued, capacity;
    size_t sent; /* bytes of the first */
} Member;

/* Parts that wait for those of other ranks. */
typedef struct Exchange {
    struct Exchange *following;
    int64_t number;
    int detail, first; /* rank that came first, for errors */
    int arrived;
    char **part;
    size_t *bytes;
} Exchange;

struct Hub {
    StarOptions options;
    HostName *hosts;
    StarAddress address;
    int listening;
    pthread_t thread;
    Member *member; /* size + STRANGERS */
    int members, joined;
    struct pollfd *poll;
    Exchange *exchange; /* oldest first */
    bool started, failed, warned;
    double age; /* seconds that it runs */
    Message *failure;
    atomic_bool closing, idle;
    double closing_seconds;
};

/* ---- sending ---- */

static Message *message_new(Frame frame, const void *payload, size_t bytes)
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

static void message_release(Message *message)
{
    if (message != NULL && --message->references == 0) free(message);
}

/* Memory that is short shows as a rank that hears nothing, which then ends with an error. */
static void enqueue(Member *member, Message *message)
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

static void enqueue_for_all(Hub *hub, Message *message)
{
    for (int i = 0; i < hub->members; ++i)
        if (hub->member[i].rank >= 0) enqueue(&hub->member[i], message);
}

static void member_close(Member *member)
{
    if (member->file >= 0) (void)close(member->file);
    member->file = -1;
    for (size_t i = member->next; i < member->queued; ++i)
        message_release(member->queue[i]);
    member->next = member->queued = member->sent = 0;
    free(member->payload);
    member->payload = NULL;
    member->have = 0;
}

/* The first failure is the cause, others may follow from it. */
__attribute__((format(printf, 4, 5))) static void fail_all(Hub *hub, int rank, int code, const char *format,
                                                           ...)
{
    if (hub->failed) return;
    char text[4096];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    hub->failed = true;
    hub->failure =
        message_new((Frame){.kind = FRAME_FAILED, .detail = code, .rank = rank}, text, strlen(text));
    enqueue_for_all(hub, hub->failure);
}

static void lose(Hub *hub, int rank, const char *how)
{
    fail_all(hub, rank, STATUS_COMMUNICATION, "rank %d on host %s is lost: %s", rank, hub->hosts[rank], how);
}

/* False when the connection has ended. */
static bool member_write(Member *member)
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
        message_release(message);
    }
    return true;
}

/* ---- exchanges ---- */

#define ADD(type)                                                                                            \
    do {                                                                                                     \
        type *left = (type *)(void *)sum;                                                                    \
        const type *right = (const type *)(const void *)part;                                                \
        for (size_t i = 0; i < bytes / sizeof(type); ++i)                                                    \
            left[i] = (type)(left[i] + right[i]);                                                            \
    } while (0)

static void add(char *sum, const char *part, size_t bytes, DType type)
{
    switch (type) {
    case FLOAT32:
        ADD(float);
        break;
    case FLOAT64:
        ADD(double);
        break;
    case INT32:
        ADD(uint32_t);
        break;
    case INT64:
        ADD(uint64_t);
        break;
    case UINT8:
        ADD(uint8_t);
        break;
    default: {
        bfloat16 *left = (bfloat16 *)(void *)sum;
        const bfloat16 *right = (const bfloat16 *)(const void *)part;
        for (size_t i = 0; i < bytes / sizeof *left; ++i)
            left[i] = bfloat16_from_float(bfloat16_to_float(left[i]) + bfloat16_to_float(right[i]));
        break;
    }
    }
}

static void exchange_free(Exchange *exchange, int size)
{
    for (int i = 0; i < size; ++i)
        free(exchange->part[i]);
    free(exchange->part);
    free(exchange->bytes);
    free(exchange);
}

static Exchange *exchange_find(Hub *hub, const Frame *frame, int rank)
{
    Exchange **at = &hub->exchange;
    while (*at != NULL && (*at)->number != frame->number)
        at = &(*at)->following;
    if (*at != NULL) return *at;
    Exchange *exchange = calloc(1, sizeof *exchange);
    if (exchange == NULL) return NULL;
    *exchange = (Exchange){.number = frame->number,
                           .detail = frame->detail,
                           .first = rank,
                           .part = calloc((size_t)hub->options.size, sizeof(char *)),
                           .bytes = calloc((size_t)hub->options.size, sizeof(size_t))};
    if (exchange->part == NULL || exchange->bytes == NULL) {
        free(exchange->part);
        free(exchange->bytes);
        free(exchange);
        return NULL;
    }
    *at = exchange;
    return exchange;
}

static void exchange_finish(Hub *hub, Exchange *exchange)
{
    const int size = hub->options.size;
    const Frame frame = {.kind = FRAME_WHOLE, .number = exchange->number};
    Message *message;
    if (exchange->detail == STAR_GATHER) {
        size_t bytes = 0, at = sizeof frame;
        for (int i = 0; i < size; ++i)
            bytes += exchange->bytes[i];
        message = malloc(sizeof *message + sizeof frame + bytes);
        if (message != NULL) {
            *message = (Message){.references = 1, .bytes = sizeof frame + bytes};
            Frame whole = frame;
            whole.magic = STAR_MAGIC;
            whole.bytes = bytes;
            memcpy(message->data, &whole, sizeof whole);
            for (int i = 0; i < size; at += exchange->bytes[i], ++i)
                if (exchange->bytes[i] > 0) memcpy(message->data + at, exchange->part[i], exchange->bytes[i]);
        }
    } else {
        message = message_new(frame, exchange->part[0], exchange->bytes[0]);
    }
    enqueue_for_all(hub, message);
    message_release(message);
    Exchange **at = &hub->exchange;
    while (*at != exchange)
        at = &(*at)->following;
    *at = exchange->following;
    exchange_free(exchange, size);
}

static void take_part(Hub *hub, Member *member)
{
    const Frame *frame = &member->frame;
    if (frame->number > member->exchanges) member->exchanges = frame->number;
    Exchange *exchange = exchange_find(hub, frame, member->rank);
    if (exchange == NULL) {
        fail_all(hub, 0, STATUS_MEMORY, "rank 0: no memory for what the ranks exchange");
        return;
    }
    const bool sum = frame->detail != STAR_GATHER;
    if (exchange->detail != frame->detail ||
        (sum && exchange->arrived > 0 && exchange->bytes[exchange->first] != frame->bytes)) {
        fail_all(hub, member->rank, STATUS_INTERNAL,
                 "ranks %d and %d are out of step: their exchange %lld is of different kinds or sizes",
                 exchange->first, member->rank, (long long)frame->number);
        return;
    }
    exchange->part[member->rank] = member->payload;
    exchange->bytes[member->rank] = frame->bytes;
    member->payload = NULL;
    ++exchange->arrived;
    if (exchange->arrived < hub->options.size) return;
    for (int i = 1; i < hub->options.size && sum; ++i) /* in this order, whatever came first */
        add(exchange->part[0], exchange->part[i], frame->bytes, (DType)frame->detail);
    exchange_finish(hub, exchange);
}

/* ---- receiving ---- */

static void send_to(Member *member, Frame frame, const void *payload, size_t bytes)
{
    Message *message = message_new(frame, payload, bytes);
    enqueue(member, message);
    message_release(message);
}

/* Somebody says who it is. False: not one of us. */
static bool greet(Hub *hub, Member *member)
{
    const Hello *hello = (const Hello *)(const void *)member->payload;
    if (member->frame.bytes != sizeof *hello || hello->secret != hub->address.secret[0] ||
        hello->size != hub->options.size || hello->rank < 0 || hello->rank >= hub->options.size)
        return false;
    for (int i = 0; i < hub->members; ++i)
        if (hub->member[i].rank == hello->rank) return false;
    member->rank = hello->rank;
    (void)snprintf(hub->hosts[hello->rank], HOST_NAME, "%.*s", HOST_NAME - 1, hello->host);
    send_to(member, (Frame){.kind = FRAME_KNOWN}, &hub->address.secret[1], sizeof hub->address.secret[1]);
    if (hub->failed) enqueue(member, hub->failure);
    return true;
}

/* A rank that has heard the answer to its hello stays; until then it may have given up and tries again. All
 * ranks start when the last has joined. */
static void join(Hub *hub, Member *member)
{
    if (member->joined) return;
    member->joined = true;
    if (++hub->joined < hub->options.size) return;
    hub->started = true;
    Message *start =
        message_new((Frame){.kind = FRAME_START}, hub->hosts, (size_t)hub->options.size * HOST_NAME);
    enqueue_for_all(hub, start);
    message_release(start);
}

static void answer_call(Hub *hub, Member *caller)
{
    Presence *roll = calloc((size_t)hub->options.size, sizeof *roll);
    if (roll == NULL) return;
    for (int i = 0; i < hub->members; ++i) {
        const Member *member = &hub->member[i];
        if (member->rank >= 0)
            roll[member->rank] = (Presence){member->silence, member->exchanges, member->progress};
    }
    send_to(caller, (Frame){.kind = FRAME_ROLL}, roll, (size_t)hub->options.size * sizeof *roll);
    free(roll);
}

/* Messages about ranks say already whom they concern. */
static void relay_failure(Hub *hub, const Member *member)
{
    const Frame *frame = &member->frame;
    const char *text = member->payload != NULL ? member->payload : "";
    if (frame->bytes > 5 && memcmp(text, "rank ", 5) == 0)
        fail_all(hub, member->rank, frame->detail, "%.*s", (int)frame->bytes, text);
    else
        fail_all(hub, member->rank, frame->detail, "rank %d on host %s failed: %.*s", member->rank,
                 hub->hosts[member->rank], (int)frame->bytes, text);
}

/* A frame is there with all that follows it. False: the connection makes no sense and is to end. */
static bool heed(Hub *hub, Member *member)
{
    const Frame *frame = &member->frame;
    if (member->rank < 0) return frame->kind == FRAME_HELLO && greet(hub, member);
    join(hub, member);
    switch (frame->kind) {
    case FRAME_PULSE:
        member->progress = frame->number;
        return true;
    case FRAME_PART:
        take_part(hub, member);
        return true;
    case FRAME_CALL:
        answer_call(hub, member);
        return true;
    case FRAME_FAILED:
        relay_failure(hub, member);
        return true;
    case FRAME_BYE:
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
           (member->rank >= 0 || frame->kind == FRAME_HELLO) &&
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
        const bool sense = heed(hub, member);
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

static void member_ended(Hub *hub, Member *member)
{
    member_close(member);
    if (!member->joined) member->rank = -1; /* gave up waiting for the answer: the rank comes again */
    if (member->rank < 0 || member->left) return;
    member->left = true;
    lose(hub, member->rank, "its connection ended; it was killed, or its host is gone");
}

/* Time that this thread itself did not run, because the host or the job was stopped, counts for nobody. */
static void grow_older(Hub *hub, double seconds)
{
    hub->age += seconds;
    for (int i = 0; i < hub->members; ++i) {
        Member *member = &hub->member[i];
        if (member->file < 0) continue;
        member->silence += seconds;
        if (!member->joined && member->silence > hub->options.silence_seconds) member_ended(hub, member);
        if (!member->joined || member->left || !hub->started ||
            member->silence <= hub->options.silence_seconds)
            continue;
        char how[100];
        (void)snprintf(how, sizeof how, "it was last heard of %.0f s ago", member->silence);
        lose(hub, member->rank, how);
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

static void watch_start(Hub *hub)
{
    if (hub->started || hub->failed) return;
    char absent[400];
    const bool late = hub->age > hub->options.start_seconds;
    if (!late && (hub->warned || hub->age < warn_after)) return;
    list_absent(hub, absent, sizeof absent);
    if (late)
        fail_all(hub, 0, STATUS_COMMUNICATION,
                 "of %d ranks only %d have come to rank 0 on host %s within %.0f s; missing: rank%s",
                 hub->options.size, hub->joined, hub->options.host, hub->age, absent);
    else
        log_warning("rank 0 on host %s still waits for rank%s", hub->options.host, absent);
    hub->warned = true;
}

static void serve(Hub *hub, int i, short events)
{
    Member *member = &hub->member[i];
    if (member->file < 0) return;
    bool alive = true;
    if (events & POLLOUT) alive = member_write(member);
    if (alive && (events & (POLLIN | POLLHUP | POLLERR))) alive = member_read(hub, member);
    if (!alive) member_ended(hub, member);
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
    double last = seconds_now(), pulse = 0, closing = 0;
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
        (void)poll(hub->poll, (nfds_t)hub->members + 1, (int)(1000 * tick));
        const double now = seconds_now(), passed = now - last < 2 * tick ? now - last : 2 * tick;
        last = now;
        if (hub->poll[0].revents & POLLIN) accept_one(hub);
        for (int i = 0; i < hub->members; ++i)
            serve(hub, i, hub->poll[i + 1].revents);
        grow_older(hub, passed);
        watch_start(hub);
        if (atomic_load(&hub->closing)) closing += passed;
        if ((pulse += passed) < tick) continue;
        pulse = 0;
        Message *message = message_new((Frame){.kind = FRAME_PULSE}, NULL, 0);
        enqueue_for_all(hub, message);
        message_release(message);
    }
    return NULL;
}

/* ---- start and end ---- */

static void hub_free(Hub *hub)
{
    for (int i = 0; i < hub->members; ++i) {
        member_close(&hub->member[i]);
        free(hub->member[i].queue);
    }
    while (hub->exchange != NULL) {
        Exchange *exchange = hub->exchange;
        hub->exchange = exchange->following;
        exchange_free(exchange, hub->options.size);
    }
    if (hub->listening >= 0) (void)close(hub->listening);
    message_release(hub->failure);
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
    const size_t members = (size_t)options->size + STRANGERS;
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
