#include "engine/base/random.h"

#include "engine/base/philox.h"

#include <math.h>

RandomBlock random_philox(const uint32_t key[2], const uint32_t counter[4])
{
    RandomBlock block = {{counter[0], counter[1], counter[2], counter[3]}};
    philox(key[0], key[1], block.word);
    return block;
}

RandomBlock random_block(uint64_t seed, RandomPurpose purpose, uint64_t epoch, uint64_t index)
{
    const uint64_t key = philox_key(seed, purpose);
    const uint32_t key_words[2] = {(uint32_t)key, (uint32_t)(key >> 32)};
    const uint32_t counter[4] = {(uint32_t)index, (uint32_t)(index >> 32), (uint32_t)epoch,
                                 (uint32_t)(epoch >> 32)};
    return random_philox(key_words, counter);
}

/* Eight counters side by side, 32-bit words in 64-bit lanes so that a product needs no widening. (Compilers
 * do not find this form in plain loops, which are four times slower.) */
typedef uint64_t Lanes __attribute__((vector_size(64)));

void random_blocks(uint64_t seed, RandomPurpose purpose, uint64_t epoch, uint64_t index, int count,
                   RandomBlock blocks[])
{
    enum { SIDE = 8 };
    const Lanes lane = {0, 1, 2, 3, 4, 5, 6, 7}, zero = {0}, low = zero + 0xFFFFFFFFU;
    const uint64_t key = philox_key(seed, purpose);
    for (int start = 0; start < count; start += SIDE) {
        const Lanes at = lane + (index + (uint64_t)start);
        Lanes c0 = at & low, c1 = at >> 32, c2 = zero + (epoch & 0xFFFFFFFFU), c3 = zero + (epoch >> 32);
        uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
        for (int round = 0; round < PHILOX_ROUNDS; ++round) {
            /* The masks say that the upper halves are 0: one 32-bit multiplication. */
            const Lanes product0 = (c0 & low) * PHILOX_FACTOR_0;
            const Lanes product1 = (c2 & low) * PHILOX_FACTOR_1;
            c0 = (product1 >> 32) ^ c1 ^ (uint64_t)k0;
            c1 = product1 & low;
            c2 = (product0 >> 32) ^ c3 ^ (uint64_t)k1;
            c3 = product0 & low;
            k0 += PHILOX_KEY_STEP_0;
            k1 += PHILOX_KEY_STEP_1;
        }
        for (int i = 0; i < SIDE && start + i < count; ++i)
            blocks[start + i] =
                (RandomBlock){{(uint32_t)c0[i], (uint32_t)c1[i], (uint32_t)c2[i], (uint32_t)c3[i]}};
    }
}

RandomStream random_stream(uint64_t seed, RandomPurpose purpose, uint64_t epoch)
{
    return (RandomStream){.seed = seed, .epoch = epoch, .index = 0, .purpose = purpose, .used = 4};
}

uint32_t random_bits(RandomStream *stream)
{
    if (stream->used == 4) {
        stream->block = random_block(stream->seed, stream->purpose, stream->epoch, stream->index++);
        stream->used = 0;
    }
    return stream->block.word[stream->used++];
}

static uint64_t random_bits64(RandomStream *stream)
{
    const uint64_t low = random_bits(stream);
    return low | (uint64_t)random_bits(stream) << 32;
}

double random_uniform(RandomStream *stream) { return (double)(random_bits64(stream) >> 11) * 0x1p-53; }

double random_normal(RandomStream *stream)
{
    /* The second of the pair is not kept: a stream's state is then only its position. */
    const double u = 1.0 - random_uniform(stream); /* (0, 1]: the logarithm is finite */
    const double v = random_uniform(stream);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586476925286766559 * v);
}

/* Lemire, "Fast Random Integer Generation in an Interval" (2019): the high half of bits * bound is
 * uniform once the 2^64 mod bound lowest low halves are rejected. */
uint64_t random_below(RandomStream *stream, uint64_t bound)
{
    const uint64_t excess = -bound % bound;
    for (;;) {
        const unsigned __int128 product = (unsigned __int128)random_bits64(stream) * bound;
        if ((uint64_t)product >= excess) return (uint64_t)(product >> 64);
    }
}

void random_shuffle(uint64_t seed, RandomPurpose purpose, uint64_t epoch, int64_t *items, int64_t count)
{
    for (int64_t i = 0; i < count; ++i)
        items[i] = i;
    RandomStream stream = random_stream(seed, purpose, epoch);
    for (int64_t i = count - 1; i > 0; --i) {
        const int64_t j = (int64_t)random_below(&stream, (uint64_t)i + 1);
        const int64_t item = items[i];
        items[i] = items[j];
        items[j] = item;
    }
}

uint64_t random_name_key(const char *name)
{
    uint64_t hash = 0xCBF29CE484222325U;
    for (const unsigned char *c = (const unsigned char *)name; *c != '\0'; ++c) {
        hash ^= *c;
        hash *= 0x100000001B3U;
    }
    return hash;
}
