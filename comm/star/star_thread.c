/* The thread of a rank's side of the star: receives what the hub sends, and sends heartbeats. */
#include "comm/star/star_private.h"
#include "engine/base/log.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const double interval = HEARTBEAT_SECONDS;
static const double grace = 10; /* seconds for a rank to end after a failure, before the process is ended */

void star_note_failure(Star *star, StatusCode code, const char *message)
{
    (void)pthread_mutex_lock(&star->lock);
    if (star->failure == 0) {
        star->failure = code;
        star->message = strdup(message);
        star->failed = seconds_now();
    }
    (void)pthread_cond_broadcast(&star->changed);
    (void)pthread_mutex_unlock(&star->lock);
}

static void declare_hub_lost(Star *star, const char *how)
{
    char text[HOST_NAME + 200];
    (void)snprintf(text, sizeof text, "rank 0 on host %s is lost: %s", star->hosts[0], how);
    star_note_failure(star, STATUS_COMMUNICATION, text);
}

/* Sends all of it, waiting for room; false when there is none for the time after which a rank is lost. */
static bool send_all(Star *star, const void *data, size_t bytes)
{
    const char *from = data;
    while (bytes > 0) {
        const ssize_t wrote = send(star->file, from, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (wrote > 0) {
            from += wrote;
            bytes -= (size_t)wrote;
            continue;
        }
        if (wrote < 0 && errno != EAGAIN && errno != EINTR) return false;
        struct pollfd one = {.fd = star->file, .events = POLLOUT};
        const int ready = poll(&one, 1, (int)(1000 * star->options.heartbeat_timeout));
        if (ready == 0 || (ready < 0 && errno != EINTR)) return false;
    }
    return true;
}

void star_send_frame(Star *star, Frame frame, const void *data, size_t bytes)
{
    frame.magic = STAR_MAGIC;
    frame.bytes = bytes;
    (void)pthread_mutex_lock(&star->sending);
    if (!send_all(star, &frame, sizeof frame) || !send_all(star, data, bytes))
        (void)shutdown(star->file, SHUT_RDWR);
    (void)pthread_mutex_unlock(&star->sending);
}

static void keep_result(Star *star, const Frame *frame, char **payload)
{
    Result *result = calloc(1, sizeof *result);
    if (result == NULL) {
        star_note_failure(star, STATUS_MEMORY, "no memory for what the ranks exchange");
        return;
    }
    *result = (Result){.number = frame->number, .data = *payload, .bytes = frame->bytes};
    *payload = NULL;
    (void)pthread_mutex_lock(&star->lock);
    if (star->last != NULL) star->last->next = result;
    if (star->first == NULL) star->first = result;
    star->last = result;
    (void)pthread_cond_broadcast(&star->changed);
    (void)pthread_mutex_unlock(&star->lock);
}

static void handle_frame(Star *star, const Frame *frame, char **payload)
{
    const size_t size = (size_t)star->options.size;
    if (frame->kind == FRAME_RESULT && frame->number == EXCHANGE_OF_FAILING) {
        (void)pthread_mutex_lock(&star->lock);
        star->all_fail = true;
        (void)pthread_cond_broadcast(&star->changed);
        (void)pthread_mutex_unlock(&star->lock);
    } else if (frame->kind == FRAME_RESULT) {
        keep_result(star, frame, payload);
    } else if (frame->kind == FRAME_FAILED) {
        char *text = strndup(*payload != NULL ? *payload : "", frame->bytes);
        star_note_failure(star, (StatusCode)frame->detail, text != NULL ? text : "another rank failed");
        free(text);
    } else if (frame->kind == FRAME_START && frame->bytes == size * HOST_NAME) {
        (void)pthread_mutex_lock(&star->lock);
        memcpy(star->hosts, *payload, frame->bytes);
        star->started = true;
        (void)pthread_cond_broadcast(&star->changed);
        (void)pthread_mutex_unlock(&star->lock);
    } else if (frame->kind == FRAME_MEMBERSHIP && frame->bytes == size * sizeof(MemberState)) {
        (void)pthread_mutex_lock(&star->lock);
        memcpy(star->membership, *payload, frame->bytes);
        ++star->membership_updates;
        (void)pthread_cond_broadcast(&star->changed);
        (void)pthread_mutex_unlock(&star->lock);
    }
}

/* Sends a heartbeat; false when the rank closes the star. Here a rank is ended that does not end by itself after a
 * failure: whatever it is doing, the others are gone. */
static bool beat(Star *star)
{
    (void)pthread_mutex_lock(&star->lock);
    const bool closing = star->closing;
    const Frame heartbeat = {.kind = FRAME_HEARTBEAT, .number = star->progress};
    const bool doomed =
        star->failure != 0 && !star->ending && !closing && seconds_now() - star->failed > grace;
    const StatusCode code = star->failure;
    const char *message = star->message != NULL ? star->message : "another rank failed";
    (void)pthread_mutex_unlock(&star->lock);
    if (doomed) {
        log_any_rank("%s", message);
        (void)fflush(NULL);
        _exit((int)code);
    }
    if (!closing) star_send_frame(star, heartbeat, NULL, 0);
    return !closing;
}

typedef struct {
    Frame frame;
    char *payload;
    size_t have;
    double silence;
} Incoming;

/* Takes in what has come. False when the connection has ended. */
static bool take_in(Star *star, Incoming *in)
{
    for (;;) {
        Frame *frame = &in->frame;
        const bool in_frame = in->have < sizeof *frame;
        char *to = in_frame ? (char *)frame + in->have : in->payload + (in->have - sizeof *frame);
        const size_t want = (in_frame ? 0 : frame->bytes) + sizeof *frame - in->have;
        const ssize_t got = want > 0 ? recv(star->file, to, want, MSG_DONTWAIT) : 0;
        if (got < 0) return errno == EAGAIN || errno == EINTR;
        if (got == 0 && want > 0) return false;
        in->silence = 0;
        in->have += (size_t)got;
        if (in_frame && in->have == sizeof *frame) {
            if (frame->magic != STAR_MAGIC ||
                frame->bytes > star_largest_payload(frame->kind, star->options.size))
                return false;
            if (frame->bytes > 0 && (in->payload = malloc(frame->bytes)) == NULL) return false;
        }
        if (in->have < sizeof *frame || in->have < sizeof *frame + frame->bytes) continue;
        handle_frame(star, frame, &in->payload);
        free(in->payload);
        in->payload = NULL;
        in->have = 0;
    }
}

void *star_thread(void *argument)
{
    Star *star = argument;
    Incoming in = {.have = 0};
    bool connected = true;
    double last = seconds_now(), heartbeat = 0;
    bool going = beat(star); /* at once: with it the rank has joined */
    while (going) {
        struct pollfd one = {.fd = star->file, .events = POLLIN};
        (void)poll(&one, connected ? 1 : 0, (int)(1000 * interval));
        /* Time that this thread itself did not run counts for nobody. */
        const double now = seconds_now(), passed = now - last < 2 * interval ? now - last : 2 * interval;
        last = now;
        in.silence += passed;
        if (connected && (one.revents & (POLLIN | POLLHUP | POLLERR)) && !take_in(star, &in)) {
            connected = false;
            declare_hub_lost(star, "its connection ended; it was killed, or its host is gone");
        }
        if (connected && in.silence > star->options.heartbeat_timeout) {
            char how[100];
            (void)snprintf(how, sizeof how, "it was last heard of %.0f s ago", in.silence);
            declare_hub_lost(star, how);
        }
        if ((heartbeat += passed) < interval) continue;
        heartbeat = 0;
        going = beat(star);
    }
    free(in.payload);
    return NULL;
}
