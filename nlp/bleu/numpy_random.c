#include "nlp/bleu/numpy_random.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

/* ---- Seed ---- */

/* seed = 10 seed + digit; false: too large. */
static bool append_digit(NumpySeed *seed, uint32_t digit)
{
    uint64_t carry = digit;
    for (int i = 0; i < seed->words; ++i) {
        carry += 10 * (uint64_t)seed->word[i];
        seed->word[i] = (uint32_t)carry;
        carry >>= 32;
    }
    if (carry == 0) return true;
    if (seed->words == NUMPY_SEED_WORDS) return false;
    seed->word[seed->words++] = (uint32_t)carry;
    return true;
}

Status numpy_seed_parse(const char *text, NumpySeed *seed)
{
    *seed = (NumpySeed){.words = 0};
    if (strcasecmp(text, "none") == 0) return OK;
    const char *at = text, *end = text + strlen(text);
    while (isspace((unsigned char)*at))
        ++at;
    while (end > at && isspace((unsigned char)end[-1]))
        --end;
    const bool negative = at < end && *at == '-';
    if (at < end && (*at == '-' || *at == '+')) ++at;
    seed->words = 1;
    bool digit = false; /* the character before: underscores stand between digits */
    for (; at < end; ++at) {
        if (*at == '_' && digit && at + 1 < end) {
            digit = false;
            continue;
        }
        if (!isdigit((unsigned char)*at)) break;
        digit = true;
        if (!append_digit(seed, (uint32_t)(*at - '0')))
            return fail(STATUS_INPUT, "a seed of more than %d bits: %s", 32 * NUMPY_SEED_WORDS, text);
    }
    if (!digit || at < end)
        return fail(STATUS_INPUT, "a seed is a whole number or \"none\", not \"%s\"", text);
    if (negative && (seed->words > 1 || seed->word[0] != 0))
        return fail(STATUS_INPUT, "a seed is not negative, as %s is", text);
    return OK;
}

/* ---- SeedSequence ---- */

enum { POOL = 4 };

static uint32_t folded(uint32_t value) { return value ^ value >> 16; }

static uint32_t hashed(uint32_t value, uint32_t *constant, uint32_t factor)
{
    value ^= *constant;
    *constant *= factor;
    return folded(value * *constant);
}

static uint32_t mixed(uint32_t x, uint32_t y) { return folded(0xCA01F9DDU * x - 0x4973F715U * y); }

static void fill_pool(const NumpySeed *seed, uint32_t pool[POOL])
{
    const uint32_t factor = 0x931E8875U;
    uint32_t constant = 0x43B0D7E5U;
    for (int i = 0; i < POOL; ++i)
        pool[i] = hashed(i < seed->words ? seed->word[i] : 0, &constant, factor);
    for (int from = 0; from < POOL; ++from)
        for (int to = 0; to < POOL; ++to)
            if (from != to) pool[to] = mixed(pool[to], hashed(pool[from], &constant, factor));
    for (int from = POOL; from < seed->words; ++from)
        for (int to = 0; to < POOL; ++to)
            pool[to] = mixed(pool[to], hashed(seed->word[from], &constant, factor));
}

/* ---- PCG64 ---- */

static unsigned __int128 wide(uint64_t high, uint64_t low) { return (unsigned __int128)high << 64 | low; }

static void step(NumpyRandom *random)
{
    random->state = random->state * wide(0x2360ED051FC65DA4U, 0x4385DF649FCCF645U) + random->increment;
}

Status numpy_random_start(const NumpySeed *seed, NumpyRandom *random)
{
    NumpySeed entropy = *seed;
    if (seed->words == 0) {
        entropy.words = POOL;
        const size_t size = POOL * sizeof entropy.word[0];
        if (getrandom(entropy.word, size, 0) != (ssize_t)size)
            return fail(STATUS_IO, "the system gives no random numbers: %s", strerror(errno));
    }
    uint32_t pool[POOL], constant = 0x8B51F9DDU;
    fill_pool(&entropy, pool);
    uint64_t value[4];
    for (int i = 0; i < 4; ++i) {
        const uint64_t low = hashed(pool[2 * i % POOL], &constant, 0x58F38DEDU);
        const uint64_t high = hashed(pool[(2 * i + 1) % POOL], &constant, 0x58F38DEDU);
        value[i] = high << 32 | low;
    }
    *random = (NumpyRandom){.increment = wide(value[2], value[3]) << 1 | 1};
    step(random);
    random->state += wide(value[0], value[1]);
    step(random);
    return OK;
}

uint64_t numpy_random_64(NumpyRandom *random)
{
    step(random);
    const uint64_t folded_state = (uint64_t)(random->state >> 64) ^ (uint64_t)random->state;
    const unsigned turn = (unsigned)(random->state >> 122);
    return folded_state >> turn | folded_state << (-turn & 63);
}

static uint32_t next_32(NumpyRandom *random)
{
    if (random->has_kept) {
        random->has_kept = false;
        return random->kept;
    }
    const uint64_t both = numpy_random_64(random);
    random->kept = (uint32_t)(both >> 32);
    random->has_kept = true;
    return (uint32_t)both;
}

void numpy_random_integers(NumpyRandom *random, uint32_t below, int64_t count, uint32_t out[])
{
    const uint32_t threshold = -below % below; /* (2^32 - below) mod below */
    for (int64_t i = 0; i < count; ++i) {
        if (below == 1) { /* nothing is drawn */
            out[i] = 0;
            continue;
        }
        uint64_t product = (uint64_t)next_32(random) * below;
        while ((uint32_t)product < threshold)
            product = (uint64_t)next_32(random) * below;
        out[i] = (uint32_t)(product >> 32);
    }
}

void numpy_random_choose(NumpyRandom *random, int64_t count, uint8_t out[])
{
    for (int64_t i = 0; i < count; ++i) {
        if (random->bits_left == 0) {
            random->bits = next_32(random);
            random->bits_left = 32;
        }
        out[i] = random->bits & 1;
        random->bits >>= 1;
        --random->bits_left;
    }
}
