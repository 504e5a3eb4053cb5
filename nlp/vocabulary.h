/* Words and their ids. */
#ifndef PLUMB_NLP_VOCABULARY_H
#define PLUMB_NLP_VOCABULARY_H

#include "engine/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes in somebody else's memory; no NUL ends them. */
typedef struct {
    const char *data;
    size_t size;
} TextSpan;
TextSpan text_span(const char *text); /* of a NUL-terminated text */
bool text_span_equal(TextSpan, TextSpan);

/* ---- Counting ---- */

typedef struct WordCounts WordCounts; /* words in the order in which they were first met */
CHECKED Status word_counts_new(WordCounts **);
void word_counts_free(WordCounts *);                    /* NULL is allowed */
CHECKED Status word_counts_add(WordCounts *, TextSpan); /* copies a new word; any bytes but LF */
int64_t word_counts_distinct(const WordCounts *);
int64_t word_counts_total(const WordCounts *);

/* ---- Vocabulary ---- */

typedef struct {
    const char *const
        *special; /* [specials] what ids 0 .. specials-1 stand for, such as "<pad>"; never found */
    int specials;
    int64_t limit; /* the most words; 0: all */
    bool keras;    /* limit as Keras' num_words: ids below it, so `limit - specials` words */
} VocabularyOptions;

typedef struct Vocabulary Vocabulary;
/* Words get the ids specials, specials+1, ... by falling count, ties in the order of their first appearance.
 * STATUS_INPUT for counts without a word, and for a limit that leaves no word. The counts may be freed. */
CHECKED Status vocabulary_create(const WordCounts *, const VocabularyOptions *, Vocabulary **);
void vocabulary_free(Vocabulary *); /* NULL is allowed */

int64_t vocabulary_size(const Vocabulary *);              /* ids, special ones included */
int64_t vocabulary_specials(const Vocabulary *);          /* the first word's id */
int64_t vocabulary_left_out(const Vocabulary *);          /* distinct words beyond the limit */
int32_t vocabulary_find(const Vocabulary *, TextSpan);    /* id of a word, or -1; thread-safe */
TextSpan vocabulary_word(const Vocabulary *, int64_t id); /* owned by the vocabulary */
int64_t vocabulary_count(const Vocabulary *, int64_t id); /* how often it was met; 0 for special ones */

/* What checkpoints store to recognise a vocabulary: XXH64 (seed 0) of all entries in the order of their ids, each
 * followed by LF; what xxhsum says of vocabulary_write's file. */
uint64_t vocabulary_hash(const Vocabulary *);
/* That file's bytes: one entry a line, special ones included; release with free(). */
CHECKED Status vocabulary_text(const Vocabulary *, char **text, size_t *size);
/* Writes that file. Atomic. */
CHECKED Status vocabulary_write(const Vocabulary *, const char *path);
/* Reads that file again; how often words were met is not in it: vocabulary_count is 0. STATUS_INPUT names file and line of an
 * entry that is empty or comes twice, of special ones that are others than `special`, and a file that is cut short. */
CHECKED Status vocabulary_read(const char *path, const char *const special[], int specials, Vocabulary **);
/* The same from memory; `name` for messages. */
CHECKED Status vocabulary_parse(const char *name, const char *text, size_t size, const char *const special[],
                                int specials, Vocabulary **);

#endif
