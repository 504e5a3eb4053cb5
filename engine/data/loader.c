#include "engine/data/loader.h"

#include "engine/base/memory.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    RING = 8,        /* batches in memory: one with the caller, the others filled ahead */
    MOST_WORKERS = 4 /* more do not help where one disk or one memory bus is behind them */
};

typedef struct {
    Batch batch;
    int64_t number; /* of the batch it holds */
    bool ready;
    Status status; /* of filling it; owned */
} Slot;

/* Batch b lives in slot b % RING. All that changes between loader_start and its end is under the mutex, but
 * for a slot's contents while a worker fills it or the caller holds it. */
struct Loader {
    Source *source;
    int64_t batches; /* of the epoch */
    Slot slot[RING];

    pthread_mutex_t mutex;
    pthread_cond_t room;   /* a slot became free, or the loader stops */
    pthread_cond_t filled; /* a slot became ready */
    pthread_t worker[MOST_WORKERS];
    int workers, busy;
    int64_t next_fill, next_use; /* batches */
    bool held;                   /* the caller still has batch next_use - 1 */
    bool started, failed, stop;
    double waited;
};

/* ---- Threads ---- */

static bool may_fill(const Loader *loader)
{
    const int64_t oldest = loader->next_use - (loader->held ? 1 : 0);
    return loader->next_fill < loader->batches && loader->next_fill < oldest + RING;
}

static void *work(void *argument)
{
    Loader *loader = argument;
    (void)pthread_mutex_lock(&loader->mutex);
    for (;;) {
        while (!loader->stop && !may_fill(loader))
            (void)pthread_cond_wait(&loader->room, &loader->mutex);
        if (loader->stop) break;
        const int64_t number = loader->next_fill++;
        Slot *slot = &loader->slot[number % RING];
        slot->number = number;
        slot->ready = false;
        ++loader->busy;
        (void)pthread_mutex_unlock(&loader->mutex);
        Status status = loader->source->fill(loader->source, number, &slot->batch);
        (void)pthread_mutex_lock(&loader->mutex);
        slot->status = status;
        slot->ready = true;
        --loader->busy;
        (void)pthread_cond_broadcast(&loader->filled);
    }
    (void)pthread_mutex_unlock(&loader->mutex);
    return NULL;
}

/* No batch is begun any more, none is in work, and none is left in the ring. Needs the mutex. */
static void drain(Loader *loader)
{
    loader->next_fill = loader->next_use = loader->batches;
    while (loader->busy > 0)
        (void)pthread_cond_wait(&loader->filled, &loader->mutex);
    for (int i = 0; i < RING; ++i) {
        status_free(loader->slot[i].status);
        loader->slot[i].status = OK;
        loader->slot[i].ready = false;
    }
    loader->held = false;
}

static Status start_workers(Loader *loader)
{
    /* Signals are for the main thread, which knows what to do about them. */
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    const int wanted = loader->source->workers < MOST_WORKERS ? loader->source->workers : MOST_WORKERS;
    int error = 0;
    while (loader->workers < wanted && error == 0) {
        error = pthread_create(&loader->worker[loader->workers], NULL, work, loader);
        if (error == 0) ++loader->workers;
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (loader->workers == 0)
        return fail(STATUS_MEMORY, "cannot start a thread to load data: %s", strerror(error));
    return OK;
}

/* ---- The interface ---- */

static void slot_release(Slot *slot, int parts)
{
    for (int p = 0; slot->batch.part != NULL && p < parts; ++p)
        for (int f = 0; f < BATCH_MAX_FIELDS; ++f)
            free(slot->batch.part[p].field[f]);
    free(slot->batch.part);
}

/* Memory for the largest shape in every part. */
static Status slot_new(Slot *slot, const Source *source)
{
    TRY(memory_new(&slot->batch.part, (size_t)source->parts, sizeof *slot->batch.part, "batches"));
    for (int p = 0; p < source->parts; ++p)
        for (int f = 0; f < source->shape[0].field_count; ++f)
            TRY(memory_new((char **)(void *)&slot->batch.part[p].field[f], source_field_bytes(source, f) + 1,
                           1, "batches"));
    return OK;
}

Status loader_open(Source *source, Loader **out)
{
    *out = NULL;
    Loader *loader;
    TRY(memory_new(&loader, 1, sizeof *loader, "loader"));
    loader->source = source;
    (void)pthread_mutex_init(&loader->mutex, NULL);
    (void)pthread_cond_init(&loader->room, NULL);
    (void)pthread_cond_init(&loader->filled, NULL);
    Status status = OK;
    for (int i = 0; i < RING; ++i)
        TRY_ELSE(done, slot_new(&loader->slot[i], source));
    TRY_ELSE(done, start_workers(loader));
    *out = loader;
done:
    if (status != OK) loader_close(loader);
    return status;
}

void loader_close(Loader *loader)
{
    if (loader == NULL) return;
    (void)pthread_mutex_lock(&loader->mutex);
    drain(loader);
    loader->stop = true;
    (void)pthread_cond_broadcast(&loader->room);
    (void)pthread_mutex_unlock(&loader->mutex);
    for (int i = 0; i < loader->workers; ++i)
        (void)pthread_join(loader->worker[i], NULL);
    for (int i = 0; i < RING; ++i)
        slot_release(&loader->slot[i], loader->source->parts);
    (void)pthread_cond_destroy(&loader->filled);
    (void)pthread_cond_destroy(&loader->room);
    (void)pthread_mutex_destroy(&loader->mutex);
    free(loader);
}

double loader_waited(const Loader *loader) { return loader->waited; }

static Status start(Loader *loader, int64_t epoch, int64_t first_batch)
{
    drain(loader);
    loader->batches = loader->source->batches(loader->source, epoch);
    loader->next_fill = loader->next_use = loader->batches;
    if (first_batch < 0 || first_batch > loader->batches)
        return fail(STATUS_INTERNAL, "loader: batch %lld of %lld", (long long)first_batch,
                    (long long)loader->batches);
    TRY(loader->source->start(loader->source, epoch));
    loader->next_fill = loader->next_use = first_batch;
    loader->started = true;
    loader->failed = false;
    (void)pthread_cond_broadcast(&loader->room);
    return OK;
}

Status loader_start(Loader *loader, int64_t epoch, int64_t first_batch)
{
    (void)pthread_mutex_lock(&loader->mutex);
    Status status = start(loader, epoch, first_batch);
    (void)pthread_mutex_unlock(&loader->mutex);
    return status;
}

static double now(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* Needs the mutex. */
static Status next(Loader *loader, const Batch **batch)
{
    if (!loader->started)
        return fail(STATUS_INTERNAL, "loader: asked for a batch before an epoch was started");
    if (loader->failed) return fail(STATUS_INTERNAL, "loader: asked for a batch after an error");
    loader->held = false; /* the caller is done with the last one */
    (void)pthread_cond_broadcast(&loader->room);
    if (loader->next_use >= loader->batches) return OK;
    Slot *slot = &loader->slot[loader->next_use % RING];
    const bool wait = !(slot->ready && slot->number == loader->next_use);
    const double start = wait ? now() : 0;
    while (!(slot->ready && slot->number == loader->next_use))
        (void)pthread_cond_wait(&loader->filled, &loader->mutex);
    if (wait) loader->waited += now() - start;
    if (slot->status != OK) {
        Status status = slot->status;
        slot->status = OK;
        loader->failed = true;
        return status;
    }
    loader->held = true;
    ++loader->next_use;
    *batch = &slot->batch;
    return OK;
}

Status loader_next(Loader *loader, const Batch **batch)
{
    *batch = NULL;
    (void)pthread_mutex_lock(&loader->mutex);
    Status status = next(loader, batch);
    (void)pthread_mutex_unlock(&loader->mutex);
    return status;
}
