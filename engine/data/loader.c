#include "engine/data/loader.h"

#include "engine/base/memory.h"
#include "engine/base/random.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    RING = 8,        /* batches in memory: one with the caller, the others prepared ahead */
    MOST_WORKERS = 4 /* for decoding, which waits for the disk at first; indices take no time to look up */
};

typedef struct {
    Batch batch;
    int64_t *sample, *row;
    int32_t *crop, *label;
    float *weight;
    int64_t number; /* of the batch it holds */
    bool ready;
    Status status; /* of preparing it; owned */
} Slot;

/* Batch b lives in slot b % RING. All that changes between loader_start and its end is under the mutex, but
 * for a slot's contents while a worker fills it or the caller holds it. */
struct Loader {
    Dataset *dataset;
    Split split;
    LoaderOptions options;
    int64_t count, batches, part; /* samples, batches an epoch, samples of this rank a batch */
    int64_t *order;               /* [count] */
    int64_t epoch;
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

/* ---- What a batch holds ---- */

static int32_t offset_up_to(uint32_t bits, int64_t highest)
{
    return (int32_t)((uint64_t)bits * (uint64_t)(highest + 1) >> 32);
}

/* Keyed by the sample, not its place in the order: shuffling differently does not change what it looks like.
 */
static void choose_crop(const Loader *loader, int64_t sample, int32_t crop[3])
{
    const LoaderOptions *options = &loader->options;
    const RandomBlock random =
        random_block(options->seed, RANDOM_AUGMENTATION, (uint64_t)loader->epoch, (uint64_t)sample);
    crop[0] = offset_up_to(random.word[0], 2 * options->crop_padding);
    crop[1] = offset_up_to(random.word[1], 2 * options->crop_padding);
    crop[2] = options->flip ? (int32_t)(random.word[2] >> 31) : 0;
}

static Status fill(Loader *loader, Slot *slot, int64_t number)
{
    const DataSplit *split = &loader->dataset->split[loader->split];
    const int64_t first = number * loader->options.batch + loader->options.rank * loader->part;
    slot->batch.first = first;
    slot->batch.total = loader->count - number * loader->options.batch;
    if (slot->batch.total > loader->options.batch) slot->batch.total = loader->options.batch;
    for (int64_t i = 0; i < loader->part; ++i) {
        const bool padding = first + i >= loader->count;
        const int64_t sample = loader->order[padding ? 0 : first + i];
        slot->sample[i] = sample;
        slot->row[i] = split->row[sample];
        slot->label[i] = split->label[sample];
        slot->weight[i] = padding ? 0.0F : 1.0F;
        choose_crop(loader, sample, slot->crop + 3 * i);
    }
    if (loader->dataset->prepare == NULL) return OK;
    return loader->dataset->prepare(loader->dataset, loader->split, slot->sample, loader->part);
}

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
        Status status = fill(loader, slot, number);
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
    const int wanted = loader->dataset->prepare != NULL ? MOST_WORKERS : 1;
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

static Status check_options(const Dataset *dataset, Split split, LoaderOptions options)
{
    if (options.ranks < 1 || options.rank < 0 || options.rank >= options.ranks)
        return fail(STATUS_INTERNAL, "loader: rank %d of %d", options.rank, options.ranks);
    if (options.batch < 1) return fail(STATUS_INPUT, "a batch of %lld samples", (long long)options.batch);
    if (options.batch % options.ranks != 0)
        return fail(STATUS_INPUT, "a batch of %lld samples cannot be shared equally by %d ranks",
                    (long long)options.batch, options.ranks);
    if (options.crop_padding < 0 || options.crop_padding > INT32_MAX / 4)
        return fail(STATUS_INPUT, "a crop padding of %lld", (long long)options.crop_padding);
    const int64_t count = dataset->split[split].count;
    if (count < 1) return fail(STATUS_INPUT, "%s: the %s split is empty", dataset->name, split_name(split));
    if (count > INT64_MAX - options.batch)
        return fail(STATUS_INPUT, "a batch of %lld samples", (long long)options.batch);
    return OK;
}

static Status slot_new(Slot *slot, int64_t count)
{
    const size_t items = (size_t)count;
    TRY(memory_new(&slot->sample, items, sizeof *slot->sample, "batch"));
    TRY(memory_new(&slot->row, items, sizeof *slot->row, "batch"));
    TRY(memory_new(&slot->crop, items, 3 * sizeof *slot->crop, "batch"));
    TRY(memory_new(&slot->label, items, sizeof *slot->label, "batch"));
    TRY(memory_new(&slot->weight, items, sizeof *slot->weight, "batch"));
    slot->batch = (Batch){.count = count,
                          .sample = slot->sample,
                          .row = slot->row,
                          .crop = slot->crop,
                          .label = slot->label,
                          .weight = slot->weight};
    return OK;
}

Status loader_open(Dataset *dataset, Split split, LoaderOptions options, Loader **out)
{
    *out = NULL;
    TRY(check_options(dataset, split, options));
    Loader *loader;
    TRY(memory_new(&loader, 1, sizeof *loader, "loader"));
    loader->dataset = dataset;
    loader->split = split;
    loader->options = options;
    loader->count = dataset->split[split].count;
    loader->batches = (loader->count + options.batch - 1) / options.batch;
    loader->part = options.batch / options.ranks;
    loader->next_fill = loader->next_use = loader->batches;
    (void)pthread_mutex_init(&loader->mutex, NULL);
    (void)pthread_cond_init(&loader->room, NULL);
    (void)pthread_cond_init(&loader->filled, NULL);
    Status status = OK;
    TRY_ELSE(done, memory_new(&loader->order, (size_t)loader->count, sizeof *loader->order, "order"));
    for (int i = 0; i < RING; ++i)
        TRY_ELSE(done, slot_new(&loader->slot[i], loader->part));
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
    for (int i = 0; i < RING; ++i) {
        Slot *slot = &loader->slot[i];
        free(slot->sample);
        free(slot->row);
        free(slot->crop);
        free(slot->label);
        free(slot->weight);
    }
    free(loader->order);
    (void)pthread_cond_destroy(&loader->filled);
    (void)pthread_cond_destroy(&loader->room);
    (void)pthread_mutex_destroy(&loader->mutex);
    free(loader);
}

int64_t loader_batches(const Loader *loader) { return loader->batches; }

double loader_waited(const Loader *loader) { return loader->waited; }

Status loader_start(Loader *loader, int64_t epoch, int64_t first_batch)
{
    if (first_batch < 0 || first_batch > loader->batches)
        return fail(STATUS_INTERNAL, "loader: batch %lld of %lld", (long long)first_batch,
                    (long long)loader->batches);
    (void)pthread_mutex_lock(&loader->mutex);
    drain(loader);
    loader->epoch = epoch;
    if (loader->options.shuffle) {
        random_shuffle(loader->options.seed, RANDOM_ORDER, (uint64_t)epoch, loader->order, loader->count);
    } else {
        for (int64_t i = 0; i < loader->count; ++i)
            loader->order[i] = i;
    }
    loader->next_fill = loader->next_use = first_batch;
    loader->started = true;
    loader->failed = false;
    (void)pthread_cond_broadcast(&loader->room);
    (void)pthread_mutex_unlock(&loader->mutex);
    return OK;
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
