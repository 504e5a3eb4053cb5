/* A small parallel corpus that needs no download: the numbers 1 to 999,999 in English and German words.
 *
 * English has hyphens and no "and": "four hundred twenty-one thousand sixteen". German is one word, as numbers are
 * written in full: "vierhunderteinundzwanzigtausendsechzehn", with "ein" before hundert and tausend ("einhundert") and
 * "eins" at the end ("einhunderteins"). Ones stand before tens there: what a network must learn is an order, too. */
#ifndef PLUMB_NLP_NUMBERS_H
#define PLUMB_NLP_NUMBERS_H

#include "engine/base/status.h"

#include <stddef.h>
#include <stdint.h>

enum { NUMBERS_LAST = 999999, NUMBER_WORDS = 128 /* room for the words of any number and their NUL */ };

/* The words of 1 .. NUMBERS_LAST; their bytes. */
size_t number_english(int64_t number, char words[NUMBER_WORDS]);
size_t number_german(int64_t number, char words[NUMBER_WORDS]);

/* `count` different numbers in random order, the same for the same seed, of which a smaller count has the first. A
 * quarter of the draws are among 1 .. 9,999: of all numbers up to NUMBERS_LAST only 1 % are as short as those that
 * people type. STATUS_INPUT for a count that there are not. Release with free(). */
CHECKED Status numbers_draw(uint64_t seed, int64_t count, int64_t **number);

/* The words of the numbers, a line each; release with free(). */
CHECKED Status numbers_text(const int64_t number[], int64_t count,
                            size_t (*words)(int64_t, char[NUMBER_WORDS]), char **text, size_t *size);

#endif
