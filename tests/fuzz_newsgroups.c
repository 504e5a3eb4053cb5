/* A message of 20 Newsgroups, its words, and the ids made of them. */
#include "nlp/document_ids.h"
#include "nlp/newsgroups.h"
#include "nlp/utf8.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void require(bool holds)
{
    if (!holds) abort();
}

static int64_t check_words(const char *text, size_t size)
{
    char *filtered = malloc(size + 1);
    require(filtered != NULL);
    keras_filter(text, size, filtered);
    require(utf8_invalid(filtered, size) == size);
    size_t at = 0, end = 0;
    int64_t count = 0;
    TextSpan word;
    while (keras_next_word(filtered, size, &at, &word)) {
        require(word.size > 0 && word.data >= filtered + end && word.data + word.size == filtered + at);
        require(memchr(word.data, '\n', word.size) == NULL);
        end = at;
        ++count;
    }
    /* A second time nothing changes. */
    char *again = malloc(size + 1);
    require(again != NULL);
    keras_filter(filtered, size, again);
    require(memcmp(again, filtered, size) == 0);
    free(again);
    free(filtered);
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    char *text = malloc(2 * size + 1);
    require(text != NULL);
    bool header;
    const size_t made = newsgroups_message((const char *)bytes, size, text, &header);
    require(made <= 2 * size && utf8_invalid(text, made) == made && memchr(text, '\r', made) == NULL);
    require(!header || (made >= 2 && text[0] == '\n' && text[1] == '\n'));
    require(!newsgroups_has_header((const char *)bytes, size) || header);
    const int64_t words = check_words(text, made);

    int64_t text_start[] = {0, (int64_t)made};
    const Documents documents = {.count = 1, .given_train = -1, .text = text, .text_start = text_start};
    const int64_t all[] = {0};
    Vocabulary *vocabulary;
    Status status = document_vocabulary(&documents, all, 1, 0, false, &vocabulary);
    require((status == OK) == (words > 0));
    if (status == OK) {
        DocumentIds ids;
        require(document_ids(&documents, vocabulary, 8, &ids) == OK);
        require(ids.words_kept == words && ids.words_left_out == 0);
        require(document_ids_length(&ids, 0) == (words < 8 ? words : 8));
        int32_t row[10];
        document_ids_fill(&ids, all, 1, 10, row);
        for (int i = 0; i < 10; ++i)
            require((row[i] == DOCUMENT_PADDING) == (i < 10 - document_ids_length(&ids, 0)));
        document_ids_free(&ids);
        vocabulary_free(vocabulary);
    }
    status_free(status);
    free(text);
    return 0;
}
