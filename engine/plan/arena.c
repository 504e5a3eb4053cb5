#include "engine/plan/arena.h"

#include "engine/base/memory.h"

#include <stdlib.h>

struct Arena {
    Device *device;
    void *memory;
    size_t bytes;
    int version;
};

Status arena_create(Device *device, Arena **out)
{
    *out = NULL;
    Arena *arena;
    TRY(memory_new(&arena, 1, sizeof *arena, "arena"));
    arena->device = device;
    *out = arena;
    return OK;
}

void arena_free(Arena *arena)
{
    if (arena == NULL) return;
    device_free(arena->device, arena->memory);
    free(arena);
}

Status arena_reserve(Arena *arena, size_t bytes)
{
    if (bytes <= arena->bytes) return OK;
    /* Contents need not survive: inputs are written before each run. Freed first, so that both never coexist.
     */
    TRY(device_synchronize(arena->device));
    device_free(arena->device, arena->memory);
    arena->memory = NULL;
    arena->bytes = 0;
    ++arena->version;
    TRY(device_allocate(arena->device, bytes, "the arena of activations", &arena->memory));
    arena->bytes = bytes;
    return OK;
}

char *arena_memory(const Arena *arena) { return arena->memory; }
int arena_version(const Arena *arena) { return arena->version; }
