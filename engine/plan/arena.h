/* The one block of device memory that all plans of a process share. */
#ifndef PLUMB_ENGINE_PLAN_ARENA_H
#define PLUMB_ENGINE_PLAN_ARENA_H

#include "engine/base/status.h"
#include "engine/device/device.h"

typedef struct Arena Arena;
CHECKED Status arena_create(Device *, Arena **);
void arena_free(Arena *); /* NULL is allowed; after the plans that use it */

/* Makes it at least this large; growing moves it (a new version) and loses its contents. */
CHECKED Status arena_reserve(Arena *, size_t bytes);
char *arena_memory(const Arena *);
int arena_version(const Arena *);

#endif
