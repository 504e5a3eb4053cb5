/* The threads that have a source's batches filled ahead of the step that takes them.
 *
 * Errors of filling come out of loader_next, at the batch that met them. One thread at a time may use a loader. */
#ifndef PLUMB_ENGINE_DATA_LOADER_H
#define PLUMB_ENGINE_DATA_LOADER_H

#include "engine/data/source.h"

typedef struct Loader Loader;
/* The source must outlive the loader. Not collective. */
CHECKED Status loader_open(Source *, Loader **);
void loader_close(Loader *); /* NULL is allowed */
/* Starts an epoch at batch `first_batch` (resume); at any time, also in the middle of another epoch. */
CHECKED Status loader_start(Loader *, int64_t epoch, int64_t first_batch);
/* The next batch, valid until the next call; *batch is NULL at the end of the epoch. */
CHECKED Status loader_next(Loader *, const Batch **batch);
/* Seconds that loader_next has waited for the threads since loader_open: what data cost the caller. */
double loader_waited(const Loader *);

#endif
