/* Batches of a split: which samples, how each is cropped and flipped, its label and weight.
 *
 * The order is a function of (seed, epoch), the augmentation of (seed, epoch, sample): nothing depends on how
 * many ranks or threads there are. The global batch b holds samples b*B .. b*B+B-1 of the epoch's order; rank
 * r of R holds the r-th of R equal contiguous parts of it (B must be a multiple of R). A ragged last batch is
 * padded with sample 0 of the order at weight 0. Threads prepare batches ahead (and decode images); their
 * errors come out of loader_next, at the batch that met them. One thread at a time may use a loader. */
#ifndef PLUMB_ENGINE_DATA_LOADER_H
#define PLUMB_ENGINE_DATA_LOADER_H

#include "engine/data/images/dataset.h"

typedef struct {
    int64_t batch; /* global batch size */
    int rank, ranks;
    uint64_t seed;
    bool shuffle;         /* else in the split's order */
    int64_t crop_padding; /* 0: no random crop */
    bool flip;
} LoaderOptions;

typedef struct {
    int64_t count;         /* of this rank: options.batch / ranks */
    const int64_t *sample; /* [count] index in the split */
    const int64_t *row;    /* [count] row of the split's table */
    const int32_t *crop; /* [count,3] top, left, flip; top = left = crop_padding when not cropped at random */
    const int32_t *label; /* [count] */
    const float *weight;  /* [count] 1, or 0 for padding */
    int64_t first;        /* index in the epoch's order of this rank's first sample */
    int64_t total;        /* samples of the global batch, without padding: the sum of all ranks' weights */
} Batch;

typedef struct Loader Loader;
/* The data set must outlive the loader. STATUS_INPUT for an empty split, and for a batch that the ranks
 * cannot share equally. Not collective. */
CHECKED Status loader_open(Dataset *, Split, LoaderOptions, Loader **);
void loader_close(Loader *);            /* NULL is allowed */
int64_t loader_batches(const Loader *); /* an epoch, the ragged last one included */
/* Starts an epoch at batch `first_batch` (resume); at any time, also in the middle of another epoch. */
CHECKED Status loader_start(Loader *, int64_t epoch, int64_t first_batch);
/* The next batch, valid until the next call; *batch is NULL at the end of the epoch. */
CHECKED Status loader_next(Loader *, const Batch **batch);
/* Seconds that loader_next has waited for the thread since loader_open: what data cost the caller. */
double loader_waited(const Loader *);

#endif
