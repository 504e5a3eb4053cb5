/* SentencePiece model files: one that is let through encodes and decodes any text. */
#include "nlp/subwords.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void require(bool holds)
{
    if (!holds) abort();
}

static void try_line(const Subwords *subwords, SubwordEncoder *encoder, const char *line, size_t size)
{
    TokenIds ids = {.id = NULL};
    Status status = subword_encoder_encode(encoder, (TextSpan){.data = line, .size = size}, &ids, NULL);
    char *text = NULL;
    size_t text_size;
    if (status == OK) {
        for (size_t i = 0; i < ids.count; ++i)
            require(ids.id[i] >= 0 && ids.id[i] < subwords_size(subwords));
        status = subwords_decode(subwords, ids.id, ids.count, &text, &text_size);
        if (status == OK) require(text[text_size] == '\0');
    }
    status_free(status);
    free(text);
    token_ids_free(&ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const char line[] = "the cat \xC3\xA9 \xEF\xAC\x81 <s> \xE2\x96\x81 x";
    for (int kind = 0; kind <= SUBWORDS_WORDS; ++kind) {
        Subwords *subwords;
        SubwordEncoder *encoder;
        Status status = subwords_parse("input", (SubwordsKind)kind, bytes, size, &subwords);
        if (status != OK) {
            require(subwords == NULL && strlen(status_message(status)) > 0);
            status_free(status);
            continue;
        }
        require(subword_encoder_new(subwords, &encoder) == OK);
        try_line(subwords, encoder, line, sizeof line - 1);
        try_line(subwords, encoder, (const char *)bytes, size < 64 ? size : 64);
        subword_encoder_free(encoder);
        subwords_free(subwords);
    }
    return 0;
}
