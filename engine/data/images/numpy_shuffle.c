/* The shuffle behind the published validation split. It is kept to the bit: other held-out images would make
 * results that cannot be compared. */
#include "engine/data/images/reader.h"

enum { WORDS = 624, MIDDLE = 397 };

/* Matsumoto and Nishimura, "Mersenne Twister", ACM TOMACS 1998. */
typedef struct {
    uint32_t word[WORDS];
    int used;
} Twister;

static void twister_seed(Twister *twister, uint32_t seed)
{
    twister->word[0] = seed;
    for (uint32_t i = 1; i < WORDS; ++i) {
        const uint32_t previous = twister->word[i - 1];
        twister->word[i] = 1812433253U * (previous ^ (previous >> 30)) + i;
    }
    twister->used = WORDS;
}

static void twister_refill(Twister *twister)
{
    uint32_t *word = twister->word;
    for (int i = 0; i < WORDS; ++i) {
        const uint32_t joined = (word[i] & 0x80000000U) | (word[(i + 1) % WORDS] & 0x7fffffffU);
        word[i] = word[(i + MIDDLE) % WORDS] ^ (joined >> 1) ^ ((joined & 1U) != 0 ? 0x9908b0dfU : 0U);
    }
    twister->used = 0;
}

static uint32_t twister_next(Twister *twister)
{
    if (twister->used == WORDS) twister_refill(twister);
    uint32_t bits = twister->word[twister->used++];
    bits ^= bits >> 11;
    bits ^= (bits << 7) & 0x9d2c5680U;
    bits ^= (bits << 15) & 0xefc60000U;
    return bits ^ (bits >> 18);
}

/* 0..highest: bits under the smallest mask that covers `highest`, drawn again while too large. */
static uint32_t twister_up_to(Twister *twister, uint32_t highest)
{
    const uint32_t mask = highest == 0 ? 0 : UINT32_MAX >> __builtin_clz(highest);
    uint32_t value;
    do
        value = twister_next(twister) & mask;
    while (value > highest);
    return value;
}

void numpy_shuffle(uint32_t seed, int64_t items[], int64_t count)
{
    for (int64_t i = 0; i < count; ++i)
        items[i] = i;
    Twister twister;
    twister_seed(&twister, seed);
    for (int64_t i = count - 1; i > 0; --i) {
        const int64_t j = twister_up_to(&twister, (uint32_t)i);
        const int64_t item = items[i];
        items[i] = items[j];
        items[j] = item;
    }
}
