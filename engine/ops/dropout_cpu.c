/* dropout on the CPU: random numbers are made a few kilobytes at a time, many blocks at once. */
#include "engine/ops/dropout.h"

#include "engine/base/random.h"
#include "engine/ops/rows_cpu.h"
#include "engine/ops/vector_cpu.h"

#include <string.h>

enum { BLOCKS = 128 /* made at once */, BATCH = DROPOUT_WORDS * BLOCKS /* elements */ };

typedef struct {
    const void *x;
    void *y;
    const int64_t *key; /* of rows; NULL: row r has the key of sample first_sample + r */
    int64_t columns;
    uint64_t first_sample, seed, step;
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

static uint64_t first_block(const Dropout *d, int64_t row)
{
    const uint64_t key =
        d->key != NULL ? (uint64_t)d->key[row] : (d->first_sample + (uint64_t)row) << DROPOUT_ROW_BITS;
    return dropout_block(key, dropout_row_blocks(d->columns));
}

/* Elements [first, last). */
static void drop_range(const Dropout *d, int64_t first, int64_t last, bool bf16)
{
    RandomBlock block[BLOCKS];
    uint32_t word[BATCH + LANES] = {0};
    for (int64_t at = first; at < last;) {
        const int64_t row = at / d->columns, column = at % d->columns;
        const int skip = (int)(column % DROPOUT_WORDS);
        const int64_t left = last - at < d->columns - column ? last - at : d->columns - column;
        const int count = left < BATCH - skip ? (int)left : BATCH - skip;
        const int blocks = (skip + count + DROPOUT_WORDS - 1) / DROPOUT_WORDS;
        random_blocks(d->seed, RANDOM_DROPOUT, d->step,
                      first_block(d, row) + (uint64_t)(column / DROPOUT_WORDS), blocks, block);
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
    const int64_t *clock = call->in[DROPOUT_CLOCK].data, count = shape_count(shape);
    const int64_t *key = call->in[DROPOUT_KEY].data;
    const Dropout dropout = {.x = call->in[DROPOUT_X].data,
                             .y = call->out[0].data,
                             .key = key,
                             .columns = count / (key != NULL ? shape_rows(shape) : shape.extent[0]),
                             .first_sample = (uint64_t)clock[CLOCK_FIRST_SAMPLE],
                             .seed = dropout_seed((uint64_t)clock[CLOCK_SEED], attributes->name_key),
                             .step = (uint64_t)clock[CLOCK_STEP],
                             .threshold = dropout_threshold(attributes->probability),
                             .scale = dropout_scale(attributes->probability)};
    /* A random number costs about as much as ten additions. */
#pragma omp parallel num_threads(threads_for(call->device, 10 * count))
    {
        int64_t first, last;
        thread_share(count, &first, &last);
        drop_range(&dropout, first, last, shape.type == BFLOAT16);
    }
    return OK;
}

const Kernel dropout_cpu = {.run = run, .in_place = 1};
