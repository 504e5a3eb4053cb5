/* SentencePiece, a C++ library, as C functions: what it throws is a Status. The rest of the program meets it through
 * nlp/subwords.h. */
#ifndef PLUMB_NLP_SENTENCEPIECE_H
#define PLUMB_NLP_SENTENCEPIECE_H

#include "engine/base/status.h"
#include "nlp/vocabulary.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct SentencePiece SentencePiece;

/* A model from its bytes, which sentencepiece_file_check (nlp/sentencepiece_file.h) has let through: the library trusts
 * much of what stands in them. name: for errors. */
CHECKED Status sentencepiece_parse(const char *name, const void *bytes, size_t size, SentencePiece **);
void sentencepiece_free(SentencePiece *); /* NULL is allowed */

int64_t sentencepiece_size(const SentencePiece *);               /* pieces */
TextSpan sentencepiece_piece(const SentencePiece *, int64_t id); /* owned by the model; id in range */
int32_t sentencepiece_find(const SentencePiece *,
                           TextSpan piece);           /* its id; that of the unknown piece for others */
int32_t sentencepiece_padding(const SentencePiece *); /* ids of the special pieces; -1: there is none */
int32_t sentencepiece_start(const SentencePiece *);
int32_t sentencepiece_end(const SentencePiece *);
int32_t sentencepiece_unknown(const SentencePiece *);

/* Calls `take` once with the ids of the text, without start and end. Thread-safe. */
typedef Status TakeIds(void *context, const int32_t *id, size_t count);
CHECKED Status sentencepiece_encode(const SentencePiece *, TextSpan text, TakeIds *take, void *context);
/* Calls `take` once with the text that the ids stand for. STATUS_INPUT for an id out of range. Thread-safe. */
typedef Status TakeText(void *context, TextSpan text);
CHECKED Status sentencepiece_decode(const SentencePiece *, const int32_t *id, size_t count, TakeText *take,
                                    void *context);
/* Calls `take` once with the text as the model's normalisation leaves it: the pieces' own, unknown ones included, one
 * after the other, with U+0020 between words and none in front. Thread-safe. */
CHECKED Status sentencepiece_normalise(const SentencePiece *, TextSpan text, TakeText *take, void *context);

/* Calls `take` once with the pieces of the text, a blank between them; one that the model does not know is the text that
 * stood there. Thread-safe. */
CHECKED Status sentencepiece_pieces(const SentencePiece *, TextSpan text, TakeText *take, void *context);

typedef struct {
    const char *type;          /* "bpe" or "unigram" */
    int64_t size;              /* pieces, special ones included */
    const char *normalisation; /* "nmt_nfkc" or "identity" */
    double coverage;           /* share of all characters that get a piece of their own */
    size_t longest;            /* bytes of the longest line that there is */
} SentencePieceTraining;

/* The next line to train on; false after the last. The line stays until the next call. */
typedef bool NextLine(void *context, TextSpan *line);
/* A model with padding 0, start 1, end 2 and unknown 3, as bytes to be released with free(). STATUS_INPUT says what
 * about the lines or the size does not fit; of a size that is too large, the largest that these lines allow. */
CHECKED Status sentencepiece_train(const SentencePieceTraining *, NextLine *, void *context, char **bytes,
                                   size_t *size);

#endif
