#include "nlp/bleu/grams.h"

#include "engine/base/memory.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* Slots of an earlier use are told by their stamp, so that a table is emptied without being touched. */

/* ---- Words as numbers ---- */

void word_numbers_clear(WordNumbers *words)
{
    words->count = 0;
    if (++words->stamp != 0) return;
    memset(words->slot, 0, words->capacity * sizeof *words->slot);
    words->stamp = 1;
}

void word_numbers_free(WordNumbers *words)
{
    free(words->slot);
    *words = (WordNumbers){.slot = NULL};
}

/* The word's slot, or the one where it would be put; capacity > 0. */
static WordSlot *word_slot(const WordNumbers *words, TextSpan text)
{
    size_t at = (size_t)XXH3_64bits(text.data, text.size) & (words->capacity - 1);
    while (words->slot[at].stamp == words->stamp && !text_span_equal(words->slot[at].text, text))
        at = (at + 1) & (words->capacity - 1);
    return &words->slot[at];
}

static Status word_room(WordNumbers *words)
{
    if (2 * ((size_t)words->count + 1) <= words->capacity) return OK;
    WordNumbers more = {.capacity = words->capacity > 0 ? 2 * words->capacity : 256,
                        .count = words->count,
                        .stamp = words->stamp};
    TRY(memory_new(&more.slot, more.capacity, sizeof *more.slot, "words of a segment"));
    for (size_t i = 0; i < words->capacity; ++i)
        if (words->slot[i].stamp == words->stamp) *word_slot(&more, words->slot[i].text) = words->slot[i];
    free(words->slot);
    *words = more;
    return OK;
}

Status word_numbers_add(WordNumbers *words, TextSpan text, uint32_t *number)
{
    if (words->stamp == 0) words->stamp = 1;
    TRY(word_room(words));
    WordSlot *slot = word_slot(words, text);
    if (slot->stamp != words->stamp)
        *slot = (WordSlot){.text = text, .number = words->count++, .stamp = words->stamp};
    *number = slot->number;
    return OK;
}

uint32_t word_numbers_find(const WordNumbers *words, TextSpan text)
{
    if (words->count == 0) return WORD_UNKNOWN;
    const WordSlot *slot = word_slot(words, text);
    return slot->stamp == words->stamp ? slot->number : WORD_UNKNOWN;
}

/* ---- n-grams ---- */

void grams_clear(Grams *grams)
{
    grams->count = 0;
    if (++grams->stamp != 0) return;
    memset(grams->slot, 0, grams->capacity * sizeof *grams->slot);
    grams->stamp = 1;
}

void grams_free(Grams *grams)
{
    free(grams->slot);
    *grams = (Grams){.slot = NULL};
}

static size_t gram_place(uint64_t key, size_t capacity)
{
    key *= 0x9E3779B97F4A7C15U;
    return (size_t)(key ^ key >> 32) & (capacity - 1);
}

static GramSlot *gram_slot(const Grams *grams, uint64_t key)
{
    size_t at = gram_place(key, grams->capacity);
    while (grams->slot[at].stamp == grams->stamp && grams->slot[at].key != key)
        at = (at + 1) & (grams->capacity - 1);
    return &grams->slot[at];
}

static Status gram_room(Grams *grams, size_t more_grams)
{
    const size_t needed = 2 * ((size_t)grams->count + more_grams + 1);
    if (needed <= grams->capacity) return OK;
    Grams more = *grams;
    more.capacity = grams->capacity > 0 ? grams->capacity : 512;
    while (more.capacity < needed)
        more.capacity *= 2;
    TRY(memory_new(&more.slot, more.capacity, sizeof *more.slot, "n-grams of a segment"));
    for (size_t i = 0; i < grams->capacity; ++i)
        if (grams->slot[i].stamp == grams->stamp) *gram_slot(&more, grams->slot[i].key) = grams->slot[i];
    free(grams->slot);
    *grams = more;
    return OK;
}

/* The key of an n-gram; prefix 0: it has one unit. */
static uint64_t gram_key(uint32_t prefix, uint32_t unit) { return (uint64_t)prefix << 32 | unit; }

/* A text of its own, so that slots tell what they have seen of it. */
static void new_text(Grams *grams)
{
    if (++grams->text != 0) return;
    for (size_t i = 0; i < grams->capacity; ++i)
        grams->slot[i].text = 0;
    grams->text = 1;
}

Status grams_add(Grams *grams, const uint32_t unit[], int64_t count, int orders)
{
    if (grams->stamp == 0) grams->stamp = 1;
    TRY(gram_room(grams, (size_t)count * (size_t)orders));
    new_text(grams);
    for (int64_t start = 0; start < count; ++start) {
        uint32_t prefix = 0;
        for (int n = 0; n < orders && start + n < count; ++n) {
            const uint64_t key = gram_key(prefix, unit[start + n]);
            GramSlot *slot = gram_slot(grams, key);
            if (slot->stamp != grams->stamp)
                *slot = (GramSlot){.key = key, .number = ++grams->count, .stamp = grams->stamp};
            if (slot->text != grams->text) {
                slot->text = grams->text;
                slot->seen = 0;
            }
            if (++slot->seen > slot->allowed) slot->allowed = slot->seen;
            prefix = slot->number;
        }
    }
    return OK;
}

void grams_match(Grams *grams, const uint32_t unit[], int64_t count, int orders, int64_t matches[])
{
    for (int n = 0; n < orders; ++n)
        matches[n] = 0;
    if (grams->count == 0) return;
    new_text(grams);
    for (int64_t start = 0; start < count; ++start) {
        uint32_t prefix = 0;
        for (int n = 0; n < orders && start + n < count; ++n) {
            GramSlot *slot = gram_slot(grams, gram_key(prefix, unit[start + n]));
            if (slot->stamp != grams->stamp) break; /* nor is any longer one there */
            if (slot->text != grams->text) {
                slot->text = grams->text;
                slot->seen = 0;
            }
            matches[n] += slot->seen++ < slot->allowed;
            prefix = slot->number;
        }
    }
}
