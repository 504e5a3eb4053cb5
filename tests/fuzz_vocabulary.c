/* Files of vocabularies: what is let through is written as it was read. */
#include "nlp/vocabulary.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void require(bool holds)
{
    if (!holds) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const char *const special[] = {"<pad>"};
    Vocabulary *vocabulary;
    Status status = vocabulary_parse("input", (const char *)bytes, size, special, 1, &vocabulary);
    if (status != OK) {
        require(strncmp(status_message(status), "input", 5) == 0 && vocabulary == NULL);
        status_free(status);
        return 0;
    }
    char *text;
    size_t written;
    require(vocabulary_text(vocabulary, &text, &written) == OK);
    require(written == size && memcmp(text, bytes, size) == 0);
    for (int64_t id = 1; id < vocabulary_size(vocabulary); ++id)
        require(vocabulary_find(vocabulary, vocabulary_word(vocabulary, id)) == id);
    free(text);
    vocabulary_free(vocabulary);
    return 0;
}
