/* Waiting, and finding out for whom.
 *
 * MPI itself waits for ever. Here a wait ends after a time given, and then the rank holds a roll call over a
 * communicator of its own: it asks every other rank, point to point, how many operations it has issued. A
 * rank that waits or computes answers from ranks_poll; a rank that hangs or is stopped does not. So the error
 * can name the rank that is missing and say whether it is alive. The roll call costs nothing until something
 * is wrong. */
#if PLUMB_HAVE_MPI

#include "comm/mpi_ranks.h"

#include "engine/base/memory.h"

#include <sched.h>
#include <stdlib.h>

enum { TAG_CALL = 1, TAG_ANSWER = 2 };
static const double poll_interval = 0.01;

Status mpi_status(int code, const char *what)
{
    if (code == MPI_SUCCESS) return OK;
    char text[MPI_MAX_ERROR_STRING + 1] = "unknown error";
    int length = 0;
    (void)MPI_Error_string(code, text, &length);
    return fail(STATUS_COMMUNICATION, "%s: %s", what, text);
}

/* Errors here are not reported: whoever does not get an answer reports that. */
static void presence_send(Ranks *ranks, int to, int tag)
{
    int done = 1;
    if (ranks->sending[to] != MPI_REQUEST_NULL) (void)MPI_Test(&ranks->sending[to], &done, MPI_STATUS_IGNORE);
    if (!done) return; /* the last one has not left yet */
    ranks->sent[to] = ranks->presence;
    (void)MPI_Isend(&ranks->sent[to], CHANNELS, MPI_INT64_T, to, tag, ranks->calls, &ranks->sending[to]);
}

static void presence_receive(Ranks *ranks)
{
    for (;;) {
        int there = 0;
        MPI_Status envelope;
        if (MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, ranks->calls, &there, &envelope) != MPI_SUCCESS || !there)
            return;
        Heard heard = {.time = seconds_now()};
        if (MPI_Recv(&heard.presence, CHANNELS, MPI_INT64_T, envelope.MPI_SOURCE, envelope.MPI_TAG,
                     ranks->calls, MPI_STATUS_IGNORE) != MPI_SUCCESS)
            return;
        ranks->heard[envelope.MPI_SOURCE] = heard;
        if (envelope.MPI_TAG == TAG_CALL) presence_send(ranks, envelope.MPI_SOURCE, TAG_ANSWER);
    }
}

void ranks_poll(Ranks *ranks)
{
    const double now = seconds_now();
    if (now - ranks->last_poll < poll_interval) return;
    ranks->last_poll = now;
    presence_receive(ranks);
}

static Status roll_call(Ranks *ranks, const Operation *operation, double timeout)
{
    const double start = seconds_now();
    for (int i = 0; i < ranks->size; ++i)
        if (i != ranks->rank) presence_send(ranks, i, TAG_CALL);
    int unheard = ranks->size - 1;
    Wait wait = wait_begin();
    while (unheard > 0 && wait_passed(&wait) < ROLL_CALL_SECONDS) {
        pause_for(0.001);
        presence_receive(ranks);
        unheard = 0;
        for (int i = 0; i < ranks->size; ++i)
            unheard += i != ranks->rank && ranks->heard[i].time < start;
    }

    Attendance *attendance;
    TRY(memory_new(&attendance, (size_t)ranks->size, sizeof *attendance, "the roll call"));
    for (int i = 0; i < ranks->size; ++i) {
        const Heard *heard = &ranks->heard[i];
        /* One that asked before we did may have given up since, and then answers no more. */
        attendance[i] = (Attendance){.answers = heard->time >= start - ROLL_CALL_SECONDS && heard->time > 0,
                                     .came = heard->presence.issued[operation->channel] >= operation->number,
                                     .silence = -1};
    }
    const Status status =
        waited_in_vain(ranks->rank, ranks->size, ranks->hosts, operation, timeout, attendance);
    free(attendance);
    return status;
}

Status ranks_wait(Ranks *ranks, MPI_Request *request, const Operation *operation, double timeout)
{
    Wait wait = wait_begin();
    for (;;) {
        int done = 0;
        TRY(mpi_status(MPI_Test(request, &done, MPI_STATUS_IGNORE), operation->what));
        if (done) return OK;
        const double waited = wait_passed(&wait);
        if (waited > timeout) return roll_call(ranks, operation, timeout);
        /* First at full speed; then leave the processor to a rank that may share it; then let it sleep. While
         * data flow a wait is short, so that sleeping costs them nothing. */
        if (waited > 2e-3) {
            ranks_poll(ranks);
            if (*ranks->star != NULL) TRY(star_failure(*ranks->star));
            pause_for(5e-5);
        } else if (waited > 2e-5) {
            (void)sched_yield();
        }
    }
}

#endif
