/* n-grams of references, and how many of them a hypothesis meets. Exact: an n-gram is found by the number of its first n-1 units and
 * by its last unit, never by a hash alone. */
#ifndef PLUMB_NLP_BLEU_GRAMS_H
#define PLUMB_NLP_BLEU_GRAMS_H

#include "nlp/vocabulary.h"

/* ---- Words as numbers ---- */

enum { WORD_UNKNOWN = 0xFFFFFFFF }; /* no unit of any n-gram */

typedef struct {
    TextSpan text;
    uint32_t number, stamp;
} WordSlot;

/* Zeroed it is empty. */
typedef struct {
    WordSlot *slot;
    size_t capacity;
    uint32_t count, stamp;
} WordNumbers;
void word_numbers_clear(WordNumbers *);
void word_numbers_free(WordNumbers *);
/* Equal texts get equal numbers, counted from 0; the text must stay until the next word_numbers_clear. */
CHECKED Status word_numbers_add(WordNumbers *, TextSpan, uint32_t *number);
uint32_t word_numbers_find(const WordNumbers *, TextSpan); /* or WORD_UNKNOWN */

/* ---- n-grams ---- */

typedef struct {
    uint64_t key; /* number of the first n-1 units, last unit */
    uint32_t number, stamp;
    int32_t allowed;    /* how often the reference has it that has it most */
    int32_t seen;       /* in the text of `text` */
    uint32_t text, pad; /* pad: to 32 bytes */
} GramSlot;

/* Zeroed it is empty. */
typedef struct {
    GramSlot *slot;
    size_t capacity;
    uint32_t count, stamp, text;
} Grams;
void grams_clear(Grams *);
void grams_free(Grams *);
/* The n-grams of 1 to `orders` units of a reference. */
CHECKED Status grams_add(Grams *, const uint32_t unit[], int64_t count, int orders);
/* matches[orders]: n-grams of a hypothesis that references have, each counted as often as the reference has it that has it most. */
void grams_match(Grams *, const uint32_t unit[], int64_t count, int orders, int64_t matches[]);

/* n-grams of n+1 units in a text of `count`. */
static inline int64_t grams_total(int64_t count, int n) { return count > n ? count - n : 0; }

#endif
