/* Lines of text as ids of subwords, and back.
 *
 * A SentencePiece model splits lines into pieces; of text that somebody has split already (`subwords: none`) the words
 * between spaces are the subwords. Either is a few bytes, which a run keeps and whose hash its checkpoints name. Ids:
 * padding 0, start 1, end 2, unknown 3. */
#ifndef PLUMB_NLP_SUBWORDS_H
#define PLUMB_NLP_SUBWORDS_H

#include "engine/base/status.h"
#include "nlp/vocabulary.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SUBWORD_PADDING, SUBWORD_START, SUBWORD_END, SUBWORD_UNKNOWN, SUBWORD_SPECIALS };

typedef enum {
    SUBWORDS_PIECES, /* a SentencePiece model */
    SUBWORDS_WORDS   /* a list of words, one a line, after the special ones */
} SubwordsKind;

typedef struct Subwords Subwords;

/* name: of the file, for errors. STATUS_INPUT for bytes that are no such model, and for one with other special ids. The
 * bytes are copied. */
CHECKED Status subwords_parse(const char *name, SubwordsKind, const void *bytes, size_t size, Subwords **);
CHECKED Status subwords_read(const char *path, SubwordsKind, Subwords **);
void subwords_free(Subwords *); /* NULL is allowed */

SubwordsKind subwords_kind(const Subwords *);
const char *subwords_file_name(SubwordsKind); /* "subwords.model", "vocabulary.txt": what a run calls it */
int64_t subwords_size(const Subwords *);      /* ids */
/* XXH64 (seed 0) of the bytes: what xxhsum says of the file. */
uint64_t subwords_hash(const Subwords *);
/* The subword as it stands in the model, a space as U+2581; id in range; owned by the subwords. */
TextSpan subwords_piece(const Subwords *, int64_t id);
CHECKED Status subwords_write(const Subwords *, const char *path); /* atomic */

/* ---- text to ids ---- */

typedef struct {
    int32_t *id;
    size_t count, capacity;
} TokenIds;
void token_ids_free(TokenIds *);

/* For one thread at a time: it keeps the ids of words that it has met. The subwords must outlive it. */
typedef struct SubwordEncoder SubwordEncoder;
CHECKED Status subword_encoder_new(const Subwords *, SubwordEncoder **);
void subword_encoder_free(SubwordEncoder *); /* NULL is allowed */
/* The line's ids, without start and end, instead of those in *ids. The line is UTF-8. *changed, if not NULL, receives
 * whether the model's normalisation changes the line. */
CHECKED Status subword_encoder_encode(SubwordEncoder *, TextSpan line, TokenIds *ids, bool *changed);

/* ---- ids to text ---- */

/* The text, to be released with free(), NUL after its end. Special ids stand for nothing but the unknown one, which is
 * " U+2047 " in pieces (SentencePiece's way) and <unk> in words. STATUS_INPUT for an id out of range. Thread-safe. */
CHECKED Status subwords_decode(const Subwords *, const int32_t id[], size_t count, char **text, size_t *size);

/* ---- making a model ---- */

/* The next line to learn from; false after the last. The line stays until the next call. */
typedef bool NextTrainingLine(void *context, TextSpan *line);

typedef struct {
    SubwordsKind kind;
    const char *type;          /* pieces: "bpe" or "unigram" */
    int64_t size;              /* ids; words: the most */
    const char *normalisation; /* pieces: "nmt_nfkc" or "identity" */
    double coverage;           /* pieces: share of all characters that get a piece of their own */
    size_t longest;            /* pieces: bytes of the longest line */
} SubwordsTraining;
/* STATUS_INPUT without lines and for a size that they do not allow, which says what size they allow. Thread-safe. */
CHECKED Status subwords_train(const SubwordsTraining *, NextTrainingLine *, void *context, Subwords **);

#endif
