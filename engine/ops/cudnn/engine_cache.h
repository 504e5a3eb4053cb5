/* Which engine of cuDNN's was the fastest for a convolution: a text file that all jobs of a user share, below
 * $PLUMB_CACHE, else $XDG_CACHE_HOME/plumb, else ~/.cache/plumb. A line is "key<TAB>index\n"; the last with a key counts,
 * for a choice that has become impossible is followed by a better one. */
#ifndef PLUMB_ENGINE_OPS_CUDNN_ENGINE_CACHE_H
#define PLUMB_ENGINE_OPS_CUDNN_ENGINE_CACHE_H

#include <stdbool.h>
#include <stdio.h>

enum { ENGINE_KEY_BYTES = 512, ENGINE_MOST = 100 /* indices are below */ };

typedef struct {
    FILE *file;
    char path[4096];
} EngineCache;

/* False, with a warning the first time: there is no folder for it, or it cannot be written. */
bool engine_cache_open(EngineCache *);
void engine_cache_close(EngineCache *);

/* -1: nothing is known. Warns of the first line that no plumb wrote whole, and passes over such. */
int engine_cache_look_up(EngineCache *, const char *key);

/* Keeps others of this host, and where the file system can of other hosts, from doing the same until unlocked. Reading
 * needs no lock. */
void engine_cache_lock(EngineCache *);
void engine_cache_unlock(EngineCache *);
void engine_cache_note(EngineCache *, const char *key, int index);

#endif
