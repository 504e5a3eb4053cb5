/* Parallel corpora: of any two texts either an error that names one of them, or lines that make up both. */
#include "nlp/parallel_corpus.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void require(bool holds)
{
    if (!holds) abort();
}

static bool ends_with_cr_lf(TextSpan text, size_t at)
{
    return at + 1 < text.size && text.data[at] == '\r' && text.data[at + 1] == '\n';
}

static void check_lines(const ParallelCorpus *corpus)
{
    CorpusPlace place = corpus->block[0];
    TextSpan pair[SIDES];
    size_t used[SIDES] = {0, 0};
    int64_t lines = 0;
    for (; parallel_corpus_next(corpus, &place, pair); ++lines)
        for (int side = 0; side < SIDES; ++side) {
            require(pair[side].data == corpus->text[side].data + used[side]);
            require(pair[side].size == 0 || memchr(pair[side].data, '\n', pair[side].size) == NULL);
            used[side] += pair[side].size;
            used[side] += ends_with_cr_lf(corpus->text[side], used[side]) ? 2 : 1;
        }
    require(lines == corpus->lines && lines >= 1);
    for (int side = 0; side < SIDES; ++side) /* the last line may have no LF */
        require(used[side] == corpus->text[side].size || used[side] == corpus->text[side].size + 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    /* A byte that no UTF-8 has parts the two. */
    const uint8_t *part = size > 0 ? memchr(bytes, 0xFF, size) : NULL;
    const size_t first = part != NULL ? (size_t)(part - bytes) : size / 2;
    const size_t second = part != NULL ? first + 1 : first;
    size_t sizes[SIDES] = {first, size - second};
    char *text[SIDES];
    for (int side = 0; side < SIDES; ++side) {
        text[side] = malloc(sizes[side] + 1);
        require(text[side] != NULL);
        if (sizes[side] > 0) memcpy(text[side], bytes + (side == 0 ? 0 : second), sizes[side]);
    }
    ParallelCorpus corpus;
    Status status = parallel_corpus_of_texts((const char *const[]){"one", "other"}, text, sizes, &corpus);
    if (status == OK)
        check_lines(&corpus);
    else
        require(strstr(status_message(status), "one") != NULL ||
                strstr(status_message(status), "other") != NULL);
    status_free(status);
    if (corpus.lines > 0) parallel_corpus_close(&corpus);
    return 0;
}
