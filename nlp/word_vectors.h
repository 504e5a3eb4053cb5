/* Word vectors in text files as GloVe has them: a line is a word and its numbers, separated by spaces. */
#ifndef PLUMB_NLP_WORD_VECTORS_H
#define PLUMB_NLP_WORD_VECTORS_H

#include "nlp/vocabulary.h"

typedef struct {
    int64_t size, dimension; /* rows are the vocabulary's ids */
    float *vector;           /* [size, dimension]; zero where known is false */
    bool *known;             /* [size] had the file this word? */
    int64_t found, missing;  /* words of the vocabulary (special ids are neither) */
    int64_t lines;           /* vectors in the file */
    int64_t duplicates;      /* further lines of a word of the vocabulary: the first counts */
    int64_t nameless;        /* lines whose word is empty, as damaged copies have: skipped */
} WordVectors;

/* Reads the vectors of the vocabulary's words from `path` (mapped; .gz is decompressed into memory). The last
 * `dimension` fields of a line are numbers, all before them is the word, spaces included. A first line "count
 * dimension" is a header. Lines end with LF or CR LF; the last end may be missing; space at the end of a line is
 * ignored. Numbers become the nearest float. Every line is checked, on as many threads as OpenMP has.
 * STATUS_INPUT names file, line and column: too few numbers, another width, what is not a finite number, invalid
 * UTF-8; and a file without vectors, or with other than its header says. */
CHECKED Status word_vectors_read(const char *path, const Vocabulary *, int64_t dimension, WordVectors *);
/* The same from memory; `name` for messages. */
CHECKED Status word_vectors_parse(const char *name, const char *text, size_t size, const Vocabulary *,
                                  int64_t dimension, WordVectors *);
void word_vectors_free(WordVectors *);
/* Whether the first vector of the file has that width, without reading on: what a sweep asks before it starts. A packed file
 * (.gz) is not looked into. */
CHECKED Status word_vectors_check(const char *path, int64_t dimension);

#endif
