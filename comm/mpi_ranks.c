/* Waiting, and finding out for whom.
 *
 * MPI itself waits for ever. Here a wait ends after a time given, and then the rank probes the others over a
 * communicator of its own: it asks every other rank, point to point, how many operations it has issued. A
 * rank that waits or computes answers from ranks_poll; a rank that hangs or is stopped does not. So the error
 * can name the rank that is missing and say whether it is alive. Probes cost nothing until something is
 * wrong. */
#if PLUMB_HAVE_MPI

#include "comm/mpi_ranks.h"

#include "engine/base/memory.h"

#include <sched.h>
#include <stdlib.h>

enum { TAG_PROBE = 1, TAG_ANSWER = 2 };
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
static void progress_send(Ranks *ranks, int to, int tag)
{
    int done = 1;
    if (ranks->sending[to] != MPI_REQUEST_NULL) (void)MPI_Test(&ranks->sending[to], &done, MPI_STATUS_IGNORE);
    if (!done) return; /* the last one has not left yet */
    ranks->sent[to] = ranks->progress;
    (void)MPI_Isend(&ranks->sent[to], CHANNELS, MPI_INT64_T, to, tag, ranks->probes, &ranks->sending[to]);
}

static void progress_receive(Ranks *ranks)
{
    for (;;) {
        int there = 0;
        MPI_Status envelope;
        if (MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, ranks->probes, &there, &envelope) != MPI_SUCCESS ||
            !there)
            return;
        Heard heard = {.time = seconds_now()};
        if (MPI_Recv(&heard.progress, CHANNELS, MPI_INT64_T, envelope.MPI_SOURCE, envelope.MPI_TAG,
                     ranks->probes, MPI_STATUS_IGNORE) != MPI_SUCCESS)
            return;
        ranks->heard[envelope.MPI_SOURCE] = heard;
        if (envelope.MPI_TAG == TAG_PROBE) progress_send(ranks, envelope.MPI_SOURCE, TAG_ANSWER);
    }
}

void ranks_poll(Ranks *ranks)
{
    const double now = seconds_now();
    if (now - ranks->last_poll < poll_interval) return;
    ranks->last_poll = now;
    progress_receive(ranks);
}

static Status probe_ranks(Ranks *ranks, const Operation *operation, double timeout)
{
    const double start = seconds_now();
    for (int i = 0; i < ranks->size; ++i)
        if (i != ranks->rank) progress_send(ranks, i, TAG_PROBE);
    int unheard = ranks->size - 1;
    Wait wait = wait_begin();
    while (unheard > 0 && wait_passed(&wait) < PROBE_SECONDS) {
        pause_for(0.001);
        progress_receive(ranks);
        unheard = 0;
        for (int i = 0; i < ranks->size; ++i)
            unheard += i != ranks->rank && ranks->heard[i].time < start;
    }

    PeerState *peers;
    TRY(memory_new(&peers, (size_t)ranks->size, sizeof *peers, "the membership"));
    for (int i = 0; i < ranks->size; ++i) {
        const Heard *heard = &ranks->heard[i];
        /* One that asked before we did may have given up since, and then answers no more. */
        peers[i] = (PeerState){.answers = heard->time >= start - PROBE_SECONDS && heard->time > 0,
                               .came = heard->progress.issued[operation->channel] >= operation->number,
                               .silence = -1};
    }
    const Status status = timeout_error(ranks->rank, ranks->size, ranks->hosts, operation, timeout, peers);
    free(peers);
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
        if (waited > timeout) return probe_ranks(ranks, operation, timeout);
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
