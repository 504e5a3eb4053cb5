/* dropout on the CPU: random numbers are made a few kilobytes at a time, many blocks at once. */
#include "engine/ops/dropout.h"

#include "engine/base/random.h"
#include "engine/ops/rows_cpu.h"
#include "engine/ops/vector_cpu.h"

#include <math.h>

enum {
    WORDS = 4,              /* random words a block: those of elements 4 i .. 4 i + 3 */
    BLOCKS = 128,           /* made at once */
    BATCH = WORDS * BLOCKS, /* elements */
    KEY_SHIFT = 40          /* bits of the block index below the node's key */
};

typedef struct {
    const void *x;
    void *y;
    uint64_t seed, step, key;
    uint32_t threshold; /* an element is dropped if its 24 bits are below */
    float scale;
} Dropout;

/* `count` elements from local element `from` on, with the random words that belong to them. */
VECTOR_INLINE void drop_batch(const Dropout *d, const uint32_t *word, int64_t from, int count, bool bf16)
{
    for (int i = 0; i < count; i += LANES) {
        const int lanes = count - i < LANES ? count - i : LANES;
        BitsVector bits; /* `word` is long enough for whole vectors */
        memcpy(&bits, word + i, sizeof bits);
        const IntVector keep = (IntVector)(bits >> 8) >= (IntVector){0} + (int32_t)d->threshold;
        const Vector x = vector_load(d->x, from + i, lanes, bf16) * d->scale;
        vector_store(d->y, from + i, lanes, bf16, (Vector)((IntVector)x & keep));
    }
}

/* Local elements [first, last); local element 0 is element `origin` of the global batch. */
static void drop_range(const Dropout *d, uint64_t origin, int64_t first, int64_t last, bool bf16)
{
    RandomBlock block[BLOCKS];
    uint32_t word[BATCH + LANES] = {0};
    int64_t at = first;
    while (at < last) {
        const uint64_t global = origin + (uint64_t)at;
        const int skip = (int)(global % WORDS);
        const int count = last - at < BATCH - skip ? (int)(last - at) : BATCH - skip;
        const int blocks = (skip + count + WORDS - 1) / WORDS;
        random_blocks(d->seed, RANDOM_DROPOUT, d->step, (d->key << KEY_SHIFT) + global / WORDS, blocks,
                      block);
        memcpy(word, block, (size_t)blocks * sizeof *block);
        if (bf16)
            drop_batch(d, word + skip, at, count, true);
        else
            drop_batch(d, word + skip, at, count, false);
        at += count;
    }
}

static Status run(const Call *call)
{
    const DropoutAttributes *attributes = call->attributes;
    const Shape shape = call->out[0].shape;
    const int64_t *clock = call->in[1].data, count = shape_count(shape);
    const Dropout dropout = {.x = call->in[0].data,
                             .y = call->out[0].data,
                             .seed = (uint64_t)clock[CLOCK_SEED],
                             .step = (uint64_t)clock[CLOCK_STEP],
                             .key = attributes->key,
                             .threshold = (uint32_t)lround(attributes->probability * 0x1p24),
                             .scale = (float)(1 / (1 - attributes->probability))};
    const uint64_t origin = (uint64_t)clock[CLOCK_FIRST_SAMPLE] * (uint64_t)(count / shape.extent[0]);
    /* A random number costs about as much as ten additions. */
#pragma omp parallel num_threads(threads_for(call->device, 10 * count))
    {
        int64_t first, last;
        thread_share(count, &first, &last);
        drop_range(&dropout, origin, first, last, shape.type == BFLOAT16);
    }
    return OK;
}

const Kernel dropout_cpu = {.run = run, .in_place = 1};
