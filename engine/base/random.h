/* Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as
 * 1, 2, 3", SC 2011). A number is a pure function of (seed, purpose, epoch, index, block): there is no
 * generator state to save, lose or share between ranks and threads. */
#ifndef PLUMB_ENGINE_BASE_RANDOM_H
#define PLUMB_ENGINE_BASE_RANDOM_H

#include <stdint.h>

/* What the numbers are for, so that no two uses share a stream. */
typedef enum {
    RANDOM_INITIALISATION = 1, /* epoch: hash of the parameter's name; index: element */
    RANDOM_ORDER = 2,          /* epoch; index: position in the shuffle */
    RANDOM_AUGMENTATION = 3,   /* epoch; index: sample */
    RANDOM_DROPOUT = 4,        /* seed: and name of the layer; epoch: step; index: sample and element */
    RANDOM_BOOTSTRAP = 5,      /* epoch: replicate; index: draw */
    RANDOM_TEST = 6,
    RANDOM_SPLIT = 7,       /* epoch: 0; index: position in the shuffle */
    RANDOM_BATCH_ORDER = 8, /* epoch; index: position in the shuffle of an epoch's batches */
    RANDOM_SAMPLING = 9,    /* epoch: sentence; index: position and sample */
    RANDOM_NOISE = 10,      /* epoch: image; index: element */
    RANDOM_THEORY = 11      /* epoch: what is drawn; index: element */
} RandomPurpose;

typedef struct {
    uint32_t word[4];
} RandomBlock;

/* The bare function of the paper: 128 random bits for a key and a counter. */
RandomBlock random_philox(const uint32_t key[2], const uint32_t counter[4]);

/* 128 random bits: the key is made of seed and purpose, the counter of epoch and index. Thread-safe, pure. */
RandomBlock random_block(uint64_t seed, RandomPurpose purpose, uint64_t epoch, uint64_t index);

/* blocks[i] = random_block(seed, purpose, epoch, index + i) for i < count, several at once. */
void random_blocks(uint64_t seed, RandomPurpose purpose, uint64_t epoch, uint64_t index, int count,
                   RandomBlock blocks[]);

/* A stream for sequential use on one key: blocks index, index + 1, ... */
typedef struct {
    uint64_t seed, epoch, index;
    RandomPurpose purpose;
    RandomBlock block;
    int used;
} RandomStream;

RandomStream random_stream(uint64_t seed, RandomPurpose purpose, uint64_t epoch);
uint32_t random_bits(RandomStream *);
double random_uniform(RandomStream *);                 /* [0, 1), 53 bits */
double random_normal(RandomStream *);                  /* mean 0, variance 1 (Box-Muller) */
uint64_t random_below(RandomStream *, uint64_t bound); /* [0, bound), unbiased; bound > 0 */

/* [0, 1) with 24 bits from one word: the float used per element by initialisation and dropout. */
static inline float random_unit_float(uint32_t word) { return (float)(word >> 8) * 0x1p-24F; }

/* A permutation of 0..count-1 (Fisher-Yates, unbiased), the same for the same (seed, purpose,
 * epoch). */
void random_shuffle(uint64_t seed, RandomPurpose purpose, uint64_t epoch, int64_t *items, int64_t count);

/* FNV-1a, for keys made from names. */
uint64_t random_name_key(const char *name);

#endif
