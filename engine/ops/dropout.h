/* What the files of dropout share.
 *
 * The elements of a row take the words of consecutive blocks of random numbers: element c of a row has word c % 4 of the
 * block that dropout_block names. A row begins with a block of its own, so that its mask depends on nothing beside it. */
#ifndef PLUMB_ENGINE_OPS_DROPOUT_H
#define PLUMB_ENGINE_OPS_DROPOUT_H

#include "engine/base/shared_function.h"
#include "engine/graph/op.h"

typedef struct {
    double probability; /* of an element being dropped */
    uint64_t name_key;  /* of the node's full name: tells the dropouts of a network apart */
} DropoutAttributes;

/* x, clock, key or absent -> y. Without keys row r is sample r of the part, in the order of the global batch. */
enum { DROPOUT_X, DROPOUT_CLOCK, DROPOUT_KEY, DROPOUT_INPUTS };

enum {
    DROPOUT_WORDS = 4,    /* random words of a block */
    DROPOUT_ROW_BITS = 32 /* of a key: the row within its sample; the sample's place stands above */
};

/* An element is dropped if the upper 24 bits of its word are below. */
SHARED_FUNCTION uint32_t dropout_threshold(double probability)
{
    return (uint32_t)(probability * 0x1p24 + 0.5);
}
SHARED_FUNCTION float dropout_scale(double probability) { return (float)(1 / (1 - probability)); }
/* Blocks that a row of so many elements takes. */
SHARED_FUNCTION uint64_t dropout_row_blocks(int64_t columns)
{
    return ((uint64_t)columns + DROPOUT_WORDS - 1) / DROPOUT_WORDS;
}
/* The first block of a row, RandomBlock's index: the samples' blocks are 2^32 apart. */
SHARED_FUNCTION uint64_t dropout_block(uint64_t key, uint64_t row_blocks)
{
    const uint64_t row = key & (((uint64_t)1 << DROPOUT_ROW_BITS) - 1);
    return key - row + row * row_blocks;
}
/* The seed of random numbers: of the run's and of the node's name. */
SHARED_FUNCTION uint64_t dropout_seed(uint64_t seed, uint64_t name_key) { return seed + name_key; }

extern const Kernel dropout_cpu;
extern const Kernel dropout_cuda OPTIONAL_KERNEL;

#endif
