/* The random numbers of numpy.random.default_rng(seed): SeedSequence, PCG64 (O'Neill 2014) and what NumPy makes of its outputs, bit
 * by bit, so that resamples are sacreBLEU's. Philox, which everything else uses, cannot give these. */
#ifndef PLUMB_NLP_BLEU_NUMPY_RANDOM_H
#define PLUMB_NLP_BLEU_NUMPY_RANDOM_H

#include "engine/base/status.h"

#include <stdbool.h>
#include <stdint.h>

enum { NUMPY_SEED_WORDS = 32 };

typedef struct {
    uint32_t word[NUMPY_SEED_WORDS]; /* of a whole number, the lowest first */
    int words;                       /* 0: the system's entropy, another one each time */
} NumpySeed;
/* What Python's int() reads, or "none" in any case. STATUS_INPUT for anything else and for negative numbers. */
CHECKED Status numpy_seed_parse(const char *text, NumpySeed *);

typedef struct {
    unsigned __int128 state, increment;
    uint32_t kept; /* the high half of an output whose low half was used */
    bool has_kept;
    uint32_t bits; /* drawn for numpy_random_choose, not used yet */
    int bits_left;
} NumpyRandom;
CHECKED Status numpy_random_start(const NumpySeed *, NumpyRandom *);

uint64_t numpy_random_64(NumpyRandom *);
/* The next `count` of integers(0, below, ...), which is also choice(below, ...): Lemire's method on 32 bits. below > 0. */
void numpy_random_integers(NumpyRandom *, uint32_t below, int64_t count, uint32_t out[]);
/* The next `count` of integers(2, dtype=bool), all of one call: the lowest bit first. */
void numpy_random_choose(NumpyRandom *, int64_t count, uint8_t out[]);

#endif
