/* The tokenisers of sacreBLEU 2.6.0, to the last token. */
#ifndef PLUMB_NLP_BLEU_TOKENS_H
#define PLUMB_NLP_BLEU_TOKENS_H

#include "nlp/vocabulary.h"

typedef enum {
    BLEU_TOKENS_13A, /* of mteval-v13a.pl: the default */
    BLEU_TOKENS_NONE,
    BLEU_TOKENS_CHAR, /* every character */
    BLEU_TOKENS_ZH,   /* Chinese characters apart, and the rules of 13a; see the table in the .c file */
    BLEU_TOKENS_INTL, /* of mteval-v14.pl: punctuation and symbols of all scripts */
    BLEU_TOKENS_COMPOUND_SPLIT, /* tokenised text, words with a hyphen in three: no tokeniser of sacreBLEU's */
    BLEU_TOKENS_SPM,            /* pieces of a SentencePiece model: see spm.h */
    BLEU_TOKENIZERS
} BleuTokenizer;

typedef struct BleuPieces BleuPieces;

/* How lines become tokens. */
typedef struct {
    BleuTokenizer tokenizer;
    bool lowercase;
    const BleuPieces *pieces; /* of BLEU_TOKENS_SPM */
} BleuTokenization;
const char *bleu_tokenizer_name(BleuTokenizer);               /* as -tok has it: "13a" */
const char *bleu_tokenization_name(const BleuTokenization *); /* as signatures have it */

/* The tokens of one line. Zeroed it is empty; what was in it is overwritten, its memory used again. */
typedef struct {
    char *text, *other; /* the line under work, and where the next rule writes */
    size_t text_room, other_room, size;
    TextSpan *token; /* [count] in text */
    size_t token_room;
    int64_t count;
} BleuTokens;
/* The line is UTF-8 without its end; white space at its end does not count. */
CHECKED Status bleu_tokenize(const BleuTokenization *, TextSpan line, BleuTokens *);
/* Parts of it, for a tokeniser that stands elsewhere: copies the line to `text`; makes tokens of the runs there that are not
 * white space. */
CHECKED Status bleu_tokens_set(BleuTokens *, TextSpan line, bool lowercase);
CHECKED Status bleu_tokens_split(BleuTokens *);
void bleu_tokens_free(BleuTokens *);

#endif
