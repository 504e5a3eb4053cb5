/* A rank's side of its connection with the hub. A thread reads what the hub says and tells it every moment
 * that this rank is there; the rank's own thread writes its parts itself, and takes results from a queue. */
#include "comm/star/star_frames.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const double tick = 0.25;
static const double grace = 10; /* seconds to heed a failure, before the process is ended */

typedef struct Whole {
    struct Whole *next;
    int64_t number;
    char *data;
    size_t bytes;
} Whole;

struct Star {
    StarOptions options;
    StarAddress address; /* of the hub */
    Hub *hub;            /* in rank 0 */
    HostName *hosts;
    int file;
    pthread_t thread;
    pthread_mutex_t sending; /* one frame at a time */
    int64_t exchanges;

    pthread_mutex_t lock; /* of all that follows */
    pthread_cond_t changed;
    bool started, closing, ending, all_fail;
    int64_t progress;
    Whole *first, *last;
    Presence *roll; /* as told last */
    int64_t rolls;
    StatusCode failure; /* 0: none */
    char *message;
    double failed; /* when */
};

/* ---- both threads ---- */

/* The first failure stands. */
static void note_failure(Star *star, StatusCode code, const char *message)
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

static void note_hub_lost(Star *star, const char *how)
{
    char text[HOST_NAME + 200];
    (void)snprintf(text, sizeof text, "rank 0 on host %s is lost: %s", star->hosts[0], how);
    note_failure(star, STATUS_COMMUNICATION, text);
}

/* Sends all of it, waiting for room; false when there is none for as long as silence may last. */
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
        const int ready = poll(&one, 1, (int)(1000 * star->options.silence_seconds));
        if (ready == 0 || (ready < 0 && errno != EINTR)) return false;
    }
    return true;
}

/* A failure to send is one to receive too, and is noted there. */
static void send_frame(Star *star, Frame frame, const void *data, size_t bytes)
{
    frame.magic = STAR_MAGIC;
    frame.bytes = bytes;
    (void)pthread_mutex_lock(&star->sending);
    if (!send_all(star, &frame, sizeof frame) || !send_all(star, data, bytes))
        (void)shutdown(star->file, SHUT_RDWR);
    (void)pthread_mutex_unlock(&star->sending);
}

/* ---- the thread that listens ---- */

static void take_whole(Star *star, const Frame *frame, char **payload)
{
    Whole *whole = calloc(1, sizeof *whole);
    if (whole == NULL) {
        note_failure(star, STATUS_MEMORY, "no memory for what the ranks exchange");
        return;
    }
    *whole = (Whole){.number = frame->number, .data = *payload, .bytes = frame->bytes};
    *payload = NULL;
    (void)pthread_mutex_lock(&star->lock);
    if (star->last != NULL) star->last->next = whole;
    if (star->first == NULL) star->first = whole;
    star->last = whole;
    (void)pthread_cond_broadcast(&star->changed);
    (void)pthread_mutex_unlock(&star->lock);
}

static void heed(Star *star, const Frame *frame, char **payload)
{
    const size_t size = (size_t)star->options.size;
    if (frame->kind == FRAME_WHOLE && frame->number == EXCHANGE_OF_FAILING) {
        (void)pthread_mutex_lock(&star->lock);
        star->all_fail = true;
        (void)pthread_cond_broadcast(&star->changed);
        (void)pthread_mutex_unlock(&star->lock);
    } else if (frame->kind == FRAME_WHOLE) {
        take_whole(star, frame, payload);
    } else if (frame->kind == FRAME_FAILED) {
        char *text = strndup(*payload != NULL ? *payload : "", frame->bytes);
        note_failure(star, (StatusCode)frame->detail, text != NULL ? text : "another rank failed");
        free(text);
    } else if (frame->kind == FRAME_START && frame->bytes == size * HOST_NAME) {
        (void)pthread_mutex_lock(&star->lock);
        memcpy(star->hosts, *payload, frame->bytes);
        star->started = true;
        (void)pthread_cond_broadcast(&star->changed);
        (void)pthread_mutex_unlock(&star->lock);
    } else if (frame->kind == FRAME_ROLL && frame->bytes == size * sizeof(Presence)) {
        (void)pthread_mutex_lock(&star->lock);
        memcpy(star->roll, *payload, frame->bytes);
        ++star->rolls;
        (void)pthread_cond_broadcast(&star->changed);
        (void)pthread_mutex_unlock(&star->lock);
    }
}

/* A moment has passed. This is also where a rank is ended that does not heed a failure: whatever it is doing,
 * the others are gone. */
static bool look_around(Star *star)
{
    (void)pthread_mutex_lock(&star->lock);
    const bool closing = star->closing;
    const Frame pulse = {.kind = FRAME_PULSE, .number = star->progress};
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
    if (!closing) send_frame(star, pulse, NULL, 0);
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
        heed(star, frame, &in->payload);
        free(in->payload);
        in->payload = NULL;
        in->have = 0;
    }
}

static void *run(void *argument)
{
    Star *star = argument;
    Incoming in = {.have = 0};
    bool connected = true;
    double last = seconds_now(), pulse = 0;
    bool going = look_around(star); /* at once: the hub counts this rank in when it hears it again */
    while (going) {
        struct pollfd one = {.fd = star->file, .events = POLLIN};
        (void)poll(&one, connected ? 1 : 0, (int)(1000 * tick));
        /* Time that this thread itself did not run counts for nobody. */
        const double now = seconds_now(), passed = now - last < 2 * tick ? now - last : 2 * tick;
        last = now;
        in.silence += passed;
        if (connected && (one.revents & (POLLIN | POLLHUP | POLLERR)) && !take_in(star, &in)) {
            connected = false;
            note_hub_lost(star, "its connection ended; it was killed, or its host is gone");
        }
        if (connected && in.silence > star->options.silence_seconds) {
            char how[100];
            (void)snprintf(how, sizeof how, "it was last heard of %.0f s ago", in.silence);
            note_hub_lost(star, how);
        }
        if ((pulse += passed) < tick) continue;
        pulse = 0;
        going = look_around(star);
    }
    free(in.payload);
    return NULL;
}

/* ---- waiting ---- */

static struct timespec moment(double time)
{
    const time_t whole = (time_t)time;
    return (struct timespec){.tv_sec = whole, .tv_nsec = (long)((time - (double)whole) * 1e9)};
}

static Status failure_locked(const Star *star)
{
    if (star->failure == 0) return OK;
    return fail(star->failure, "%s", star->message != NULL ? star->message : "another rank failed");
}

Status star_failure(Star *star)
{
    (void)pthread_mutex_lock(&star->lock);
    const Status status = failure_locked(star);
    (void)pthread_mutex_unlock(&star->lock);
    return status;
}

/* Until a change, or for a moment; true when the wait has lasted so many seconds. lock is held. */
static bool wait_for_change(Star *star, Wait *wait, double seconds)
{
    const double left = seconds - wait->passed;
    const struct timespec end = moment(seconds_now() + (left < 2 * tick ? left : 2 * tick));
    (void)pthread_cond_timedwait(&star->changed, &star->lock, &end);
    return wait_passed(wait) >= seconds;
}

static Status wait_for_start(Star *star)
{
    /* The hub says who is missing; it needs a moment more than the ranks have. */
    const double seconds = star->options.start_seconds + 5;
    Wait wait = wait_begin();
    bool late = false;
    (void)pthread_mutex_lock(&star->lock);
    while (!star->started && star->failure == 0 && !late)
        late = wait_for_change(star, &wait, seconds);
    Status status = failure_locked(star);
    if (status == OK && !star->started)
        status =
            fail(STATUS_COMMUNICATION, "rank 0 does not start within %.0f s", star->options.start_seconds);
    (void)pthread_mutex_unlock(&star->lock);
    return status;
}

static bool has_come(const Presence *of, bool of_exchanges, int64_t number)
{
    return (of_exchanges ? of->exchanges : of->progress) >= number;
}

/* Ranks tell how far they are every moment. One that is silent for some may be stopped, or its host busy. lock is
 * held. */
static bool all_are_heard(const Star *star, bool of_exchanges, int64_t number)
{
    for (int i = 0; i < star->options.size; ++i) {
        const Presence *of = &star->roll[i];
        if (i != star->options.rank && !has_come(of, of_exchanges, number) && of->silence >= 2 * tick)
            return false;
    }
    return true;
}

Status star_waited_in_vain(Star *star, const Operation *operation, double seconds, bool of_exchanges,
                           int64_t number)
{
    const size_t size = (size_t)star->options.size;
    Attendance *attendance;
    TRY(memory_new(&attendance, size, sizeof *attendance, "the roll call"));
    (void)pthread_mutex_lock(&star->lock);
    const int64_t before = star->rolls;
    int64_t seen = before - 1;
    Wait wait = wait_begin();
    bool late = false, heard = false;
    while (star->failure == 0 && !late && !heard) {
        /* Ask again after every answer that leaves somebody in doubt. */
        if (seen != star->rolls) {
            seen = star->rolls;
            (void)pthread_mutex_unlock(&star->lock);
            if (seen != before) pause_for(tick);
            send_frame(star, (Frame){.kind = FRAME_CALL}, NULL, 0);
            (void)pthread_mutex_lock(&star->lock);
        }
        late = wait_for_change(star, &wait, ROLL_CALL_SECONDS);
        heard = star->rolls != before && all_are_heard(star, of_exchanges, number);
    }
    Status status = failure_locked(star); /* says it better */
    for (size_t i = 0; i < size; ++i) {
        const Presence *of = &star->roll[i];
        /* Who does not hear the hub knows of no other. */
        attendance[i] = star->rolls == before ? (Attendance){.answers = i != 0, .came = i != 0, .silence = -1}
                                              : (Attendance){.answers = of->silence < ROLL_CALL_SECONDS,
                                                             .came = has_come(of, of_exchanges, number),
                                                             .silence = of->silence};
    }
    (void)pthread_mutex_unlock(&star->lock);
    if (status == OK)
        status = waited_in_vain(star->options.rank, star->options.size, star->hosts, operation, seconds,
                                attendance);
    free(attendance);
    return status;
}

/* ---- what the rank calls ---- */

HostName *star_hosts(Star *star) { return star->hosts; }

void star_progress(Star *star, int64_t number)
{
    (void)pthread_mutex_lock(&star->lock);
    star->progress = number;
    (void)pthread_mutex_unlock(&star->lock);
}

void star_fail(Star *star, StatusCode code, const char *message)
{
    note_failure(star, code, message);
    send_frame(star, (Frame){.kind = FRAME_FAILED, .detail = (int32_t)code}, message,
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

Status star_send(Star *star, int kind, const void *part, size_t bytes, int64_t *number)
{
    if (bytes > star_largest_payload(FRAME_PART, star->options.size))
        return fail(STATUS_INTERNAL, "%zu bytes are too many to exchange", bytes);
    TRY(star_failure(star));
    *number = ++star->exchanges;
    send_frame(star, (Frame){.kind = FRAME_PART, .detail = kind, .number = *number}, part, bytes);
    return OK;
}

/* Takes the result out of the list; NULL: it is not there. lock is held. */
static Whole *take(Star *star, int64_t number)
{
    Whole *before = NULL, *whole = star->first;
    while (whole != NULL && whole->number != number) {
        before = whole;
        whole = whole->next;
    }
    if (whole == NULL) return NULL;
    *(before != NULL ? &before->next : &star->first) = whole->next;
    if (star->last == whole) star->last = before;
    return whole;
}

bool star_ready(Star *star, int64_t number)
{
    (void)pthread_mutex_lock(&star->lock);
    /* They come in their order. */
    const bool ready = (star->last != NULL && star->last->number >= number) || star->failure != 0;
    (void)pthread_mutex_unlock(&star->lock);
    return ready;
}

Status star_receive(Star *star, int64_t number, const Operation *operation, double seconds, char **data,
                    size_t *bytes)
{
    *data = NULL;
    *bytes = 0;
    Wait wait = wait_begin();
    bool late = false;
    (void)pthread_mutex_lock(&star->lock);
    Whole *whole = take(star, number);
    while (whole == NULL && star->failure == 0 && !late) {
        late = wait_for_change(star, &wait, seconds);
        whole = take(star, number);
    }
    const Status status = whole == NULL ? failure_locked(star) : OK;
    (void)pthread_mutex_unlock(&star->lock);
    TRY(status);
    if (whole == NULL) return star_waited_in_vain(star, operation, seconds, true, number);
    *data = whole->data;
    *bytes = whole->bytes;
    free(whole);
    return OK;
}

bool star_all_fail(Star *star, double seconds)
{
    Wait wait = wait_begin();
    bool late = false;
    send_frame(star, (Frame){.kind = FRAME_PART, .detail = STAR_GATHER, .number = EXCHANGE_OF_FAILING}, NULL,
               0);
    (void)pthread_mutex_lock(&star->lock);
    while (!star->all_fail && star->failure == 0 && !late)
        late = wait_for_change(star, &wait, seconds);
    const bool all = star->all_fail;
    (void)pthread_mutex_unlock(&star->lock);
    return all;
}

/* ---- start and end ---- */

static void star_free(Star *star)
{
    if (star->file >= 0) (void)close(star->file);
    while (star->first != NULL) {
        Whole *whole = star->first;
        star->first = whole->next;
        free(whole->data);
        free(whole);
    }
    (void)pthread_cond_destroy(&star->changed);
    (void)pthread_mutex_destroy(&star->lock);
    (void)pthread_mutex_destroy(&star->sending);
    free(star->message);
    free(star->roll);
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
    TRY_ELSE(failed, memory_new(&star->roll, size, sizeof *star->roll, "the roll call"));
    (void)strcpy(star->hosts[0], "?"); /* until the hub tells */
    TRY_ELSE(failed, find_and_connect(star, find, context));
    TRY_ELSE(failed, thread_start(run, star, &star->thread));
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
    send_frame(star, (Frame){.kind = FRAME_BYE}, NULL, 0);
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
