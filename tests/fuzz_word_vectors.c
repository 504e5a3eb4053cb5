/* Files of word vectors, and the numbers in them, which must be those of strtof. */
#include "nlp/float_parse.h"
#include "nlp/word_vectors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void require(bool holds)
{
    if (!holds) abort();
}

static void check_number(const char *text, size_t size)
{
    float got;
    const char *stop = float_parse(text, text + size, &got);
    if (stop == NULL) return;
    char copy[2048];
    const size_t length = (size_t)(stop - text);
    if (length >= sizeof copy) return;
    memcpy(copy, text, length);
    copy[length] = '\0';
    char *end;
    const float want = strtof(copy, &end);
    require(end == copy + length && isfinite(got) && memcmp(&got, &want, sizeof got) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static Vocabulary *vocabulary;
    if (vocabulary == NULL) {
        static const char *const words[] = {"the", "nan", ". . .", "1", "a b"};
        WordCounts *counts;
        require(word_counts_new(&counts) == OK);
        for (int i = 0; i < 5; ++i)
            require(word_counts_add(counts, text_span(words[i])) == OK);
        const VocabularyOptions options = {.specials = 0};
        require(vocabulary_create(counts, &options, &vocabulary) == OK);
        word_counts_free(counts);
    }
    const char *text = (const char *)bytes;
    check_number(text, size);
    for (int64_t dimension = 1; dimension <= 3; ++dimension) {
        WordVectors vectors;
        Status status = word_vectors_parse("input", text, size, vocabulary, dimension, &vectors);
        if (status != OK) {
            require(strncmp(status_message(status), "input", 5) == 0 && vectors.vector == NULL);
            status_free(status);
            continue;
        }
        require(vectors.found + vectors.missing == 5 && vectors.found <= vectors.lines);
        require(vectors.found + vectors.duplicates + vectors.nameless <= vectors.lines);
        for (int64_t id = 0; id < 5; ++id)
            for (int64_t d = 0; d < dimension; ++d) {
                const float number = vectors.vector[id * dimension + d];
                require(isfinite(number) && (vectors.known[id] || number == 0));
            }
        word_vectors_free(&vectors);
    }
    return 0;
}
