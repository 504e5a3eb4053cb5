#include "nlp/bleu/spm.h"

#include "engine/base/file.h"
#include "engine/base/memory.h"
#include "nlp/bleu/token_rules.h"
#include "nlp/sentencepiece.h"
#include "nlp/sentencepiece_file.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { LARGEST_MODEL = 1 << 30 };

struct BleuPieces {
    SentencePiece *model;
    uint64_t hash;
    char *name;
};

void bleu_pieces_free(BleuPieces *pieces)
{
    if (pieces == NULL) return;
    sentencepiece_free(pieces->model);
    free(pieces->name);
    free(pieces);
}

static Status parse(const char *path, const char *bytes, size_t size, BleuPieces *pieces)
{
    SentencePieceFile file;
    TRY(sentencepiece_file_check(path, bytes, size, &file));
    TRY(sentencepiece_parse(path, bytes, size, &pieces->model));
    pieces->hash = XXH64(bytes, size, 0);
    return bleu_pieces_label(pieces, NULL);
}

Status bleu_pieces_read(const char *path, BleuPieces **out)
{
    *out = NULL;
    char *bytes;
    size_t size;
    TRY(file_read(path, LARGEST_MODEL, &bytes, &size));
    BleuPieces *pieces = NULL;
    Status status = memory_new(&pieces, 1, sizeof *pieces, "a SentencePiece model");
    if (status == OK) status = parse(path, bytes, size, pieces);
    free(bytes);
    if (status != OK)
        bleu_pieces_free(pieces);
    else
        *out = pieces;
    return status;
}

Status bleu_pieces_label(BleuPieces *pieces, const char *name)
{
    char *label;
    TRY(name != NULL ? text_copy(name, &label)
                     : text_format(&label, "spm-%016llx", (unsigned long long)pieces->hash));
    free(pieces->name);
    pieces->name = label;
    return OK;
}

const char *bleu_pieces_name(const BleuPieces *pieces) { return pieces->name; }

/* The pieces' text becomes the line. */
static Status take(void *context, TextSpan text)
{
    BleuTokens *tokens = context;
    TRY(memory_grow(&tokens->other, &tokens->other_room, text.size + 1, 1, "a line's tokens"));
    if (text.size > 0) memcpy(tokens->other, text.data, text.size);
    rule_take(tokens, text.size);
    return OK;
}

Status bleu_pieces_split(const BleuPieces *pieces, BleuTokens *tokens)
{
    const TextSpan line = {.data = tokens->text, .size = tokens->size};
    return sentencepiece_pieces(pieces->model, line, take, tokens);
}
