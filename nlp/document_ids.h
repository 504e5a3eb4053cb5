/* Documents as ids, by the rules of Keras' Tokenizer and pad_sequences (version 1.1.2 of keras_preprocessing). */
#ifndef PLUMB_NLP_DOCUMENT_IDS_H
#define PLUMB_NLP_DOCUMENT_IDS_H

#include "nlp/documents.h"

enum { DOCUMENT_PADDING = 0 }; /* the id; named "<pad>" */

/* out[size] = text in lower case, with every !"#$%&()*+,-./:;<=>?@[\]^_`{|}~ TAB LF turned into a space. UTF-8; the
 * case of ASCII and Latin-1 letters is changed, which is all that latin-1 files hold. In place is allowed. */
void keras_filter(const char *text, size_t size, char *out);
/* The next word at or after *at: a run of bytes that are not U+0020; moves *at behind it. False at the end. Control
 * characters and no-break spaces are parts of words. */
bool keras_next_word(const char *filtered, size_t size, size_t *at, TextSpan *word);

/* Counts the words of these documents, in this order. */
CHECKED Status document_words(const Documents *, const int64_t sample[], int64_t samples, WordCounts *);
/* A vocabulary of these documents: padding is id 0, words follow. limit and keras as VocabularyOptions has them:
 * 20,000 are ids 1..20,000, or 1..19,999 as in the published code. */
CHECKED Status document_vocabulary(const Documents *, const int64_t sample[], int64_t samples, int64_t limit,
                                   bool keras, Vocabulary **);

/* The ids of all documents, without padding. */
typedef struct {
    int64_t count;
    int64_t longest; /* the most ids that a document keeps: its last ones */
    int64_t *start;  /* [count+1] document i has ids start[i] .. start[i+1]-1 */
    int32_t *id;
    int64_t words_kept, words_left_out; /* before documents are cut */
    int64_t cut;                        /* documents of more than `longest` ids */
    int64_t empty;                      /* documents without an id: all padding */
} DocumentIds;

/* Words outside the vocabulary are dropped. The index of a document stays. */
CHECKED Status document_ids(const Documents *, const Vocabulary *, int64_t longest, DocumentIds *);
void document_ids_free(DocumentIds *);
/* Those of one text in UTF-8: id[*count], to be released with free(). */
CHECKED Status document_ids_of_text(TextSpan, const Vocabulary *, int64_t longest, int32_t **id,
                                    int64_t *count);
int64_t document_ids_length(const DocumentIds *, int64_t document);
/* out[samples, length]: the last `length` ids of each, padding in front. */
void document_ids_fill(const DocumentIds *, const int64_t sample[], int64_t samples, int64_t length,
                       int32_t out[]);

#endif
