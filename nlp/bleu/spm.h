/* Tokens that a SentencePiece model makes: sacreBLEU's spm, flores101, flores200 and spBLEU-1K. Other than a network's subwords, the
 * model may have any special pieces, and a piece that it does not know is the text that stood there. */
#ifndef PLUMB_NLP_BLEU_SPM_H
#define PLUMB_NLP_BLEU_SPM_H

#include "nlp/bleu/tokens.h"

/* STATUS_INPUT for what is no such model. */
CHECKED Status bleu_pieces_read(const char *path, BleuPieces **);
void bleu_pieces_free(BleuPieces *); /* NULL is allowed */
/* What signatures call the tokeniser: `name`, or NULL for "spm-" and the model's XXH64, so that numbers of two models are not taken
 * for each other's. */
CHECKED Status bleu_pieces_label(BleuPieces *, const char *name);
const char *bleu_pieces_name(const BleuPieces *);

/* The line under work becomes its pieces, blanks between them. Thread-safe. */
CHECKED Status bleu_pieces_split(const BleuPieces *, BleuTokens *);

#endif
