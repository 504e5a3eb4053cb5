/* What stands in a SentencePiece model file, as far as the program must know it before the library reads the file. */
#ifndef PLUMB_NLP_SENTENCEPIECE_FILE_H
#define PLUMB_NLP_SENTENCEPIECE_FILE_H

#include "engine/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    int64_t pieces;
    /* Is the encoding of a line that of its words, taken at U+0020, one after the other? True of byte pair encoding whose
     * pieces have a space only in front, if no rule of the normalisation looks across a space. */
    bool word_by_word;
} SentencePieceFile;

/* STATUS_INPUT for what is no such file, or one that is damaged. The library walks the table of its normalisation without
 * looking where that ends: this function has looked. */
CHECKED Status sentencepiece_file_check(const char *name, const void *bytes, size_t size,
                                        SentencePieceFile *);

#endif
