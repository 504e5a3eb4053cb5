/* Parallel corpora and their encoded form: what is counted, what is refused, who encodes what. */
#include "tests/scratch.h"

#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "nlp/encode_cache.h"
#include "nlp/make_once.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static Status open_texts(const char *source, size_t source_size, const char *target, size_t target_size,
                         ParallelCorpus *corpus)
{
    char a[4096], b[4096];
    (void)snprintf(a, sizeof a, "%s", in_scratch("a.en"));
    (void)snprintf(b, sizeof b, "%s", in_scratch("a.de"));
    write_plain(a, source, source_size);
    write_plain(b, target, target_size);
    return parallel_corpus_open(a, b, corpus);
}

static Status open_strings(const char *source, const char *target, ParallelCorpus *corpus)
{
    return open_texts(source, strlen(source), target, strlen(target), corpus);
}

static void lines_end_at_lf_or_cr_lf(void **state)
{
    (void)state;
    /* TAB, NEL, U+2028, U+2029, form feed, NUL and a CR that no LF follows are parts of lines; the second file lacks the last
     * LF. */
    static const char source[] = "\xEF\xBB\xBF"
                                 "a\rb\nc\td\ne\xC2\x85"
                                 "f\n\ng\xE2\x80\xA8h\xE2\x80\xA9i\nj\0k\x0Cl\r\n";
    static const char target[] = "1\r\n2\n3\n4\n5\r\n6";
    ParallelCorpus corpus;
    assert_ok(open_texts(source, sizeof source - 1, target, sizeof target - 1, &corpus));
    assert_int_equal(corpus.lines, 6);
    static const char *const lines[] = {"a\rb", "c\td",
                                        ("e\xC2\x85"
                                         "f"),
                                        "",
                                        ("g\xE2\x80\xA8"
                                         "h\xE2\x80\xA9"
                                         "i")};
    CorpusPlace place = corpus.block[0];
    TextSpan pair[SIDES];
    for (int i = 0; i < 6; ++i) {
        assert_true(parallel_corpus_next(&corpus, &place, pair));
        assert_int_equal(pair[TARGET_SIDE].size, 1);
        assert_int_equal(pair[TARGET_SIDE].data[0], '1' + i);
        if (i < 5)
            assert_true(text_span_equal(pair[SOURCE_SIDE], text_span(lines[i])));
        else
            assert_int_equal(pair[SOURCE_SIDE].size, 5); /* j NUL k FF l */
    }
    assert_false(parallel_corpus_next(&corpus, &place, pair));
    parallel_corpus_close(&corpus);
}

static void bad_corpora_are_refused(void **state)
{
    (void)state;
    ParallelCorpus corpus;
    assert_fails(open_strings("a\nb\nc\n", "1\n2\n", &corpus), STATUS_INPUT, "a.en has 3 lines, but ");
    assert_fails(open_strings("a\nb\nc\n", "1\n2\n", &corpus), STATUS_INPUT,
                 "a.de has 2: line 2 is the last that both have");
    assert_fails(open_strings("a\nb\n", "1\n\n\n", &corpus), STATUS_INPUT, "a.de has 3: line 2");
    assert_fails(open_strings("", "1\n", &corpus), STATUS_INPUT, "a.en is empty");
    assert_fails(open_strings("a\n", "", &corpus), STATUS_INPUT, "a.de is empty");
    assert_fails(open_strings("ok\n\xC3\xA9 \xC3(\n", "1\n2\n", &corpus), STATUS_INPUT,
                 "a.en:2:3: the byte 0xC3 is not part of UTF-8");
    assert_fails(parallel_corpus_open(in_scratch("none"), in_scratch("a.de"), &corpus), STATUS_IO, "none");
}

/* ---- encoding ---- */

static bool next_line(void *context, TextSpan *line)
{
    int *left = context;
    static const char *const lines[] = {"the cat sat", "the dog ran", "a cat ran on the mat"};
    if (*left == 0) return false;
    *line = text_span(lines[--*left]);
    return true;
}

static Subwords *make_subwords(void)
{
    const SubwordsTraining training = {.kind = SUBWORDS_PIECES,
                                       .type = "bpe",
                                       .size = 24,
                                       .normalisation = "nmt_nfkc",
                                       .coverage = 1,
                                       .longest = 100};
    Subwords *subwords;
    int left = 3;
    assert_ok(subwords_train(&training, next_line, &left, &subwords));
    return subwords;
}

enum { LINES = 2 * CORPUS_BLOCK + 100 };

/* Three blocks; line i of the source has i % 5 words, of the target (i + 1) % 3. */
static void make_corpus(ParallelCorpus *corpus)
{
    static const char *const words[] = {"cat", "dog", "the", "mat", "\xEF\xAC\x81sh"};
    char *text[SIDES];
    size_t size[SIDES] = {0, 0};
    for (int side = 0; side < SIDES; ++side) {
        text[side] = malloc((size_t)LINES * 40);
        assert_non_null(text[side]);
        for (int i = 0; i < LINES; ++i) {
            const int count = side == SOURCE_SIDE ? i % 5 : (i + 1) % 3;
            for (int w = 0; w < count; ++w)
                size[side] +=
                    (size_t)sprintf(text[side] + size[side], w > 0 ? " %s" : "%s", words[(i + w) % 5]);
            text[side][size[side]++] = '\n';
        }
    }
    assert_ok(parallel_corpus_of_texts((const char *const[]){"made.en", "made.de"}, text, size, corpus));
    assert_int_equal(corpus->blocks, 3);
}

static int files_in(const char *folder, const char *ending)
{
    DIR *directory = opendir(folder);
    assert_non_null(directory);
    int count = 0;
    for (const struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        const size_t length = strlen(entry->d_name), end = strlen(ending);
        count +=
            length >= end && strcmp(entry->d_name + length - end, ending) == 0 && entry->d_name[0] != '.';
    }
    closedir(directory);
    return count;
}

static void assert_encoded(const EncodedCorpus *encoded, const ParallelCorpus *corpus,
                           const Subwords *subwords)
{
    SubwordEncoder *encoder;
    TokenIds ids = {.id = NULL};
    CorpusPlace place = corpus->block[0];
    TextSpan pair[SIDES];
    int64_t tokens[SIDES] = {0, 0}, changed[SIDES] = {0, 0};
    assert_ok(subword_encoder_new(subwords, &encoder));
    assert_int_equal(encoded->pairs, corpus->lines);
    for (int64_t i = 0; parallel_corpus_next(corpus, &place, pair); ++i)
        for (int side = 0; side < SIDES; ++side) {
            int32_t got[100];
            bool changes;
            assert_ok(subword_encoder_encode(encoder, pair[side], &ids, &changes));
            assert_int_equal(encoded_length(encoded, side, i), ids.count);
            encoded_ids(encoded, side, i, got);
            if (ids.count > 0) assert_memory_equal(got, ids.id, ids.count * sizeof *got);
            tokens[side] += (int64_t)ids.count;
            changed[side] += changes;
        }
    for (int side = 0; side < SIDES; ++side) {
        assert_int_equal(encoded->tokens[side], tokens[side]);
        assert_int_equal(encoded->changed[side], changed[side]);
        assert_true(changed[side] > 0 && encoded->unknown[side] > 0);
    }
    token_ids_free(&ids);
    subword_encoder_free(encoder);
}

static EncodeOptions options_for(const ParallelCorpus *corpus, const Subwords *subwords)
{
    return (EncodeOptions){
        .folder = in_scratch("cache"), .name = "made", .subwords = subwords, .corpus = corpus, .threads = 2};
}

static void a_corpus_is_encoded_once(void **state)
{
    (void)state;
    Subwords *subwords = make_subwords();
    ParallelCorpus corpus;
    EncodedCorpus encoded;
    make_corpus(&corpus);
    EncodeOptions options = options_for(&corpus, subwords);
    assert_ok(encode_cache_open(&options, &encoded));
    assert_int_equal(encoded.encoded, 3);
    assert_encoded(&encoded, &corpus, subwords);
    encode_cache_close(&encoded);
    options = options_for(&corpus, subwords);
    options.first = 2;
    assert_ok(encode_cache_open(&options, &encoded));
    assert_int_equal(encoded.encoded, 0);
    assert_encoded(&encoded, &corpus, subwords);
    encode_cache_close(&encoded);
    assert_int_equal(files_in(in_scratch("cache"), ".ids"), 3);
    assert_int_equal(files_in(in_scratch("cache"), ".lock"), 0);
    /* Another text is another cache. */
    corpus.hash[TARGET_SIDE] ^= 1;
    options = options_for(&corpus, subwords);
    assert_ok(encode_cache_open(&options, &encoded));
    assert_int_equal(encoded.encoded, 3);
    encode_cache_close(&encoded);
    assert_int_equal(files_in(in_scratch("cache"), ".ids"), 6);
    parallel_corpus_close(&corpus);
    subwords_free(subwords);
}

/* Name of block 2 of 3 in the cache, which holds one corpus. */
static void second_block(char path[4096])
{
    DIR *directory = opendir(in_scratch("cache"));
    assert_non_null(directory);
    path[0] = '\0';
    for (const struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory))
        if (strstr(entry->d_name, "-00002-of-00003.ids") != NULL)
            (void)snprintf(path, 4096, "%s", path_in(in_scratch("cache"), entry->d_name));
    closedir(directory);
    assert_true(path[0] != '\0');
}

static void damaged_blocks_are_made_again(void **state)
{
    (void)state;
    Subwords *subwords = make_subwords();
    ParallelCorpus corpus;
    EncodedCorpus encoded;
    make_corpus(&corpus);
    EncodeOptions options = options_for(&corpus, subwords);
    assert_ok(encode_cache_open(&options, &encoded));
    encode_cache_close(&encoded);
    char path[4096];
    second_block(path);
    FileMap map;
    assert_ok(file_map(path, &map));
    const size_t size = map.size;
    uint8_t *bytes = malloc(size + 1);
    assert_non_null(bytes);
    memcpy(bytes, map.data, size);
    file_unmap(&map);
    uint64_t identity;
    memcpy(&identity, bytes + 16, sizeof identity);
    assert_ok(encoded_block_check("b", bytes, size, identity));
    assert_fails(encoded_block_check("b", bytes, size, identity + 1), STATUS_INPUT, "another corpus");
    assert_fails(encoded_block_check("b", bytes, size - 1, identity), STATUS_INPUT, "b is cut short");
    assert_fails(encoded_block_check("b", bytes, 10, identity), STATUS_INPUT, "cut short");
    bytes[8] ^= 1;
    assert_fails(encoded_block_check("b", bytes, size, identity), STATUS_INPUT, "b is of version 3");
    bytes[8] ^= 1;
    for (size_t at = 24; at < size; at += at < 96 ? 9 : size / 7) {
        bytes[at] ^= 0x40;
        Status status = encoded_block_check("b", bytes, size, identity);
        assert_true(status != OK && status_code(status) == STATUS_INPUT);
        status_free(status);
        bytes[at] ^= 0x40;
    }
    const size_t cuts[] = {0, 50, size / 2};
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; ++i) {
        write_plain(path, bytes, cuts[i]);
        options = options_for(&corpus, subwords);
        assert_ok(encode_cache_open(&options, &encoded));
        assert_int_equal(encoded.encoded, 1);
        assert_encoded(&encoded, &corpus, subwords);
        encode_cache_close(&encoded);
    }
    free(bytes);
    parallel_corpus_close(&corpus);
    subwords_free(subwords);
}

/* Three processes at once; one of them is killed. */
static void processes_share_the_work(void **state)
{
    (void)state;
    Subwords *subwords = make_subwords();
    ParallelCorpus corpus;
    EncodedCorpus encoded;
    make_corpus(&corpus);
    EncodeOptions options = options_for(&corpus, subwords);
    options.threads = 1;
    pid_t child[3];
    for (int i = 0; i < 3; ++i) {
        child[i] = fork();
        assert_true(child[i] >= 0);
        if (child[i] == 0) {
            options.first = i;
            Status status = encode_cache_open(&options, &encoded);
            _exit(status == OK && encoded.pairs == LINES ? 0 : 1);
        }
    }
    (void)kill(child[1], SIGKILL);
    for (int i = 0; i < 3; ++i) {
        int result;
        assert_int_equal(waitpid(child[i], &result, 0), child[i]);
        if (i != 1) assert_true(WIFEXITED(result) && WEXITSTATUS(result) == 0);
    }
    options = options_for(&corpus, subwords);
    assert_ok(encode_cache_open(&options, &encoded));
    assert_int_equal(encoded.encoded, 0);
    assert_encoded(&encoded, &corpus, subwords);
    encode_cache_close(&encoded);
    assert_int_equal(files_in(in_scratch("cache"), ".ids"), 3);
    parallel_corpus_close(&corpus);
    subwords_free(subwords);
}

/* A limit on the size of files is an error like a full disk. */
static void a_full_disk_is_an_error(void **state)
{
    (void)state;
    Subwords *subwords = make_subwords();
    ParallelCorpus corpus;
    EncodedCorpus encoded;
    make_corpus(&corpus);
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 100000;
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    EncodeOptions options = options_for(&corpus, subwords);
    Status status = encode_cache_open(&options, &encoded);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_true(status != OK);
    assert_int_equal(status_code(status), STATUS_IO);
    assert_non_null(strstr(status_message(status), ".ids"));
    status_free(status);
    assert_null(encoded.block);
    options = options_for(&corpus, subwords); /* and afterwards all goes well */
    assert_ok(encode_cache_open(&options, &encoded));
    encode_cache_close(&encoded);
    parallel_corpus_close(&corpus);
    subwords_free(subwords);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRATCH(lines_end_at_lf_or_cr_lf),      SCRATCH(bad_corpora_are_refused),
        SCRATCH(processes_share_the_work),      SCRATCH(a_corpus_is_encoded_once),
        SCRATCH(damaged_blocks_are_made_again), SCRATCH(a_full_disk_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
