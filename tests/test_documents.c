/* Documents as ids, and the batches of an epoch: made ones, golden ones, and all of the 20 Newsgroups. */
#include "tests/golden.h"
#include "tests/scratch.h"

#include "nlp/document_batches.h"
#include "nlp/document_ids.h"
#include "nlp/newsgroups.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void assert_words(const char *text, size_t size, const char *const words[], int64_t count)
{
    char *filtered = malloc(size + 1);
    assert_non_null(filtered);
    keras_filter(text, size, filtered);
    size_t at = 0;
    TextSpan word;
    int64_t got = 0;
    while (keras_next_word(filtered, size, &at, &word)) {
        assert_true(got < count);
        if (!text_span_equal(word, text_span(words[got]))) {
            print_error("word %lld is \"%.*s\", expected \"%s\"\n", (long long)got, (int)word.size, word.data,
                        words[got]);
            _fail(__FILE__, __LINE__);
        }
        ++got;
    }
    assert_int_equal(got, count);
    assert_false(keras_next_word(filtered, size, &at, &word));
    free(filtered);
}

static void words_are_those_of_keras(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t count;
        const char *words[8];
    } cases[] = {
        {"", 0, {0}},
        {" \t\n !\"#$%&()*+,-./:;<=>?@[\\]^_`{|}~ ", 0, {0}},
        {"Don't STOP", 2, {"don't", "stop"}},
        {"a\tb\nc-d  e", 5, {"a", "b", "c", "d", "e"}},
        {"'quoted' 'AX", 2, {"'quoted'", "'ax"}},
        {"a\x0C"
         "b c\x1C"
         "d e\xC2\xA0"
         "f g\rh",
         4,
         {"a\x0C"
          "b",
          "c\x1C"
          "d",
          "e\xC2\xA0"
          "f",
          "g\rh"}},
        {"\xC3\x80\xC3\x96\xC3\x97\xC3\x98\xC3\x9E\xC3\x9F",
         1,
         {"\xC3\xA0\xC3\xB6\xC3\x97\xC3\xB8\xC3\xBE\xC3\x9F"}},
        {"CAF\xC3\x89.\xC2\xB5 \xC3\xA9", 3, {"caf\xC3\xA9", "\xC2\xB5", "\xC3\xA9"}},
        {"\xE2\x80\x9CX\xE2\x80\x9D", 1, {"\xE2\x80\x9Cx\xE2\x80\x9D"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i)
        assert_words(cases[i].text, strlen(cases[i].text), cases[i].words, cases[i].count);
}

/* A corpus of these texts, all training documents. */
static void make_documents(Documents *documents, const char *const texts[], int64_t count)
{
    *documents = (Documents){.count = count, .given_train = -1};
    documents->text = calloc(1, 4096);
    documents->text_start = calloc((size_t)count + 1, sizeof *documents->text_start);
    assert_non_null(documents->text);
    assert_non_null(documents->text_start);
    for (int64_t i = 0; i < count; ++i) {
        strcpy(documents->text + documents->text_start[i], texts[i]);
        documents->text_start[i + 1] = documents->text_start[i] + (int64_t)strlen(texts[i]);
    }
}

static void other_words_are_dropped_and_the_last_ids_stay(void **state)
{
    (void)state;
    static const char *const texts[] = {"b b a", "c, a: b!", "", "d d d", "A C B A"};
    Documents documents;
    make_documents(&documents, texts, 5);
    static const int64_t train[] = {0, 1, 2};
    Vocabulary *vocabulary;
    assert_ok(document_vocabulary(&documents, train, 3, 0, false, &vocabulary)); /* b 1, a 2, c 3 */
    assert_int_equal(vocabulary_size(vocabulary), 4);
    DocumentIds ids;
    assert_ok(document_ids(&documents, vocabulary, 3, &ids));
    assert_int_equal(ids.count, 5);
    assert_int_equal(ids.words_kept, 10);
    assert_int_equal(ids.words_left_out, 3);
    assert_int_equal(ids.cut, 1);
    assert_int_equal(ids.empty, 2);
    static const int64_t lengths[] = {3, 3, 0, 0, 3};
    for (int64_t i = 0; i < 5; ++i)
        assert_int_equal(document_ids_length(&ids, i), lengths[i]);
    static const int64_t sample[] = {4, 2, 0};
    int32_t out[15];
    document_ids_fill(&ids, sample, 3, 5, out);
    assert_memory_equal(out, ((const int32_t[]){0, 0, 3, 1, 2, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2}), sizeof out);
    document_ids_fill(&ids, sample, 3, 2, out);
    assert_memory_equal(out, ((const int32_t[]){1, 2, 0, 0, 1, 2}), 6 * sizeof *out);
    document_ids_free(&ids);
    assert_fails(document_ids(&documents, vocabulary, 0, &ids), STATUS_INPUT, "at most 0 words");
    vocabulary_free(vocabulary);

    assert_ok(document_vocabulary(&documents, train, 3, 2, true, &vocabulary)); /* as Keras: ids below 2 */
    assert_int_equal(vocabulary_size(vocabulary), 2);
    vocabulary_free(vocabulary);
    assert_fails(document_vocabulary(&documents, train, 3, 1, true, &vocabulary), STATUS_INPUT,
                 "leaves no word");
    static const int64_t empty[] = {2};
    assert_fails(document_vocabulary(&documents, empty, 1, 0, false, &vocabulary), STATUS_INPUT,
                 "there is no word");
    assert_fails(document_vocabulary(&documents, empty, 0, 0, false, &vocabulary), STATUS_INPUT,
                 "there is no word");
    documents_free(&documents);
}

/* ---- Batches ---- */

static void lengths_hold_what_they_must(void **state)
{
    (void)state;
    for (int64_t longest = 1; longest < 1200; longest += longest < 40 ? 1 : 97) {
        BatchLengths lengths;
        assert_ok(batch_lengths(longest, true, &lengths));
        assert_true(lengths.count >= 1 && lengths.count <= DOCUMENT_MOST_LENGTHS);
        assert_int_equal(lengths.length[lengths.count - 1], longest);
        for (int i = 1; i < lengths.count; ++i)
            assert_true(lengths.length[i] > lengths.length[i - 1]);
        for (int64_t needed = 0; needed <= longest; ++needed) {
            const int64_t length = batch_length_for(&lengths, needed, 21);
            assert_true(length >= (needed + 21 < longest ? needed + 21 : longest));
            for (int i = 0; i < lengths.count && lengths.length[i] < length; ++i)
                assert_true(lengths.length[i] < needed + 21); /* none smaller would do */
        }
        assert_ok(batch_lengths(longest, false, &lengths));
        assert_int_equal(lengths.count, 1);
        assert_int_equal(batch_length_for(&lengths, 0, 21), longest);
    }
    BatchLengths lengths;
    assert_fails(batch_lengths(0, true, &lengths), STATUS_INPUT, "at most 0 words");
}

/* Every document once, no batch too short for what it holds; returns the positions of all batches. */
static int64_t check_epoch(const DocumentEpoch *epoch, const int64_t needed[], int64_t batch, int64_t longest)
{
    char *seen = calloc((size_t)epoch->count, 1);
    assert_non_null(seen);
    assert_int_equal(epoch->batches, (epoch->count + batch - 1) / batch);
    int64_t positions = 0;
    for (int64_t i = 0; i < epoch->count; ++i) {
        const int64_t document = epoch->order[i];
        assert_in_range(document, 0, epoch->count - 1);
        assert_int_equal(seen[document]++, 0);
        const int64_t length = epoch->length[i / batch];
        assert_true(length >= (needed[document] + 21 < longest ? needed[document] + 21 : longest));
        positions += length;
    }
    free(seen);
    return positions;
}

static int64_t *made_lengths(int64_t count)
{
    int64_t *needed = calloc((size_t)count, sizeof *needed);
    assert_non_null(needed);
    for (int64_t i = 0; i < count; ++i)
        needed[i] = i * 7919 % 1001;
    return needed;
}

static void an_epoch_has_every_document_once(void **state)
{
    (void)state;
    BatchLengths lengths;
    assert_ok(batch_lengths(1000, true, &lengths));
    static const int64_t counts[] = {1, 2, 15, 16, 17, 128, 1000, 1003};
    static const int64_t batches[] = {1, 2, 16, 2000};
    static const int64_t windows[] = {0, 1, 3, 1000};
    for (int c = 0; c < 8; ++c)
        for (int b = 0; b < 4; ++b)
            for (int w = 0; w < 4; ++w)
                for (int shuffle = 0; shuffle < 2; ++shuffle) {
                    int64_t *needed = made_lengths(counts[c]);
                    const DocumentBatchOptions options = {.batch = batches[b],
                                                          .margin = 21,
                                                          .window = windows[w],
                                                          .shuffle = shuffle,
                                                          .seed = 3};
                    DocumentEpoch epoch, again;
                    assert_ok(document_batches(needed, counts[c], &lengths, &options, 5, &epoch));
                    (void)check_epoch(&epoch, needed, batches[b], 1000);
                    assert_ok(document_batches(needed, counts[c], &lengths, &options, 5, &again));
                    assert_memory_equal(epoch.order, again.order, (size_t)counts[c] * sizeof *epoch.order);
                    document_epoch_free(&again);
                    document_epoch_free(&epoch);
                    free(needed);
                }
}

static void epochs_and_seeds_differ(void **state)
{
    (void)state;
    enum { COUNT = 1000, BATCH = 16 };
    BatchLengths lengths;
    assert_ok(batch_lengths(1000, true, &lengths));
    int64_t *needed = made_lengths(COUNT);
    const DocumentBatchOptions options = {
        .batch = BATCH, .margin = 21, .window = 8, .shuffle = true, .seed = 3};
    DocumentBatchOptions other_seed = options, sorted = options;
    other_seed.seed = 4;
    sorted.shuffle = false;
    sorted.window = 0;
    DocumentEpoch epoch, next, other, still;
    assert_ok(document_batches(needed, COUNT, &lengths, &options, 1, &epoch));
    assert_ok(document_batches(needed, COUNT, &lengths, &options, 2, &next));
    assert_ok(document_batches(needed, COUNT, &lengths, &other_seed, 1, &other));
    assert_memory_not_equal(epoch.order, next.order, COUNT * sizeof *epoch.order);
    assert_memory_not_equal(epoch.order, other.order, COUNT * sizeof *epoch.order);
    /* Batches are not in the order of their lengths, and the ragged last one is no particular one. */
    int falls = 0;
    for (int64_t b = 1; b < epoch.batches - 1; ++b)
        falls += epoch.length[b] < epoch.length[b - 1];
    assert_true(falls > 10);
    assert_memory_not_equal(epoch.order + COUNT / BATCH * BATCH, next.order + COUNT / BATCH * BATCH,
                            COUNT % BATCH * sizeof *epoch.order);
    /* Documents of a batch are of like length: far less is padded than at random. */
    int64_t windowed = 0, at_random = 0;
    DocumentBatchOptions unsorted = options;
    unsorted.window = 1;
    for (int64_t b = 0; b < epoch.batches; ++b)
        windowed += epoch.length[b];
    document_epoch_free(&next);
    assert_ok(document_batches(needed, COUNT, &lengths, &unsorted, 1, &next));
    for (int64_t b = 0; b < next.batches; ++b)
        at_random += next.length[b];
    assert_true(4 * windowed < 3 * at_random);
    /* Without a shuffle: by length, whatever the epoch. */
    assert_ok(document_batches(needed, COUNT, &lengths, &sorted, 9, &still));
    for (int64_t i = 1; i < COUNT; ++i)
        assert_true(needed[still.order[i]] >= needed[still.order[i - 1]]);
    document_epoch_free(&epoch);
    document_epoch_free(&next);
    document_epoch_free(&other);
    document_epoch_free(&still);
    free(needed);
}

static void bad_batches_are_errors(void **state)
{
    (void)state;
    BatchLengths lengths;
    assert_ok(batch_lengths(1000, true, &lengths));
    DocumentEpoch epoch;
    const int64_t needed[] = {1};
    DocumentBatchOptions options = {.batch = 16, .margin = 21, .window = 8};
    assert_fails(document_batches(needed, 0, &lengths, &options, 0, &epoch), STATUS_INPUT,
                 "there is no document");
    options.batch = 0;
    assert_fails(document_batches(needed, 1, &lengths, &options, 0, &epoch), STATUS_INPUT,
                 "batches of 0 documents");
    assert_null(epoch.order);
}

/* ---- Golden documents ---- */

static const cJSON *get(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    assert_non_null(item);
    return item;
}

static void golden_documents_have_their_words(void **state)
{
    (void)state;
    int cases = 0;
    for (const GoldenCase *golden = NULL; (golden = golden_next("newsgroups_text", NULL, golden)) != NULL;
         ++cases) {
        cJSON *list = golden_document(golden, "expected_files/documents");
        assert_true(cJSON_GetArraySize(list) > 0);
        for (const cJSON *row = list->child; row != NULL; row = row->next) {
            char *text = golden_read_text(golden_path_in(golden, get(row, "text")->valuestring));
            char *json = golden_read_text(golden_path_in(golden, get(row, "words")->valuestring));
            cJSON *words = cJSON_Parse(json);
            const int count = cJSON_GetArraySize(words);
            assert_int_equal(count, get(row, "word_count")->valueint);
            const char **expected = calloc((size_t)count + 1, sizeof *expected);
            assert_non_null(expected);
            int i = 0;
            for (const cJSON *word = words->child; word != NULL; word = word->next)
                expected[i++] = word->valuestring;
            assert_words(text, strlen(text), expected, count);
            free((void *)expected);
            cJSON_Delete(words);
            free(json);
            free(text);
        }
        cJSON_Delete(list);
    }
    if (cases == 0) skip();
}

/* ---- All of the 20 Newsgroups ---- */

/* SHA-256 of what is written to *pipe between the two calls. */
static FILE *digest_open(void)
{
    char command[SCRATCH_SIZE + 64];
    (void)snprintf(command, sizeof command, "sha256sum >'%s'", in_scratch("digest"));
    FILE *pipe = popen(command, "w");
    assert_non_null(pipe);
    return pipe;
}

static void digest_check(FILE *pipe, const char *expected)
{
    assert_int_equal(pclose(pipe), 0);
    char *digest = golden_read_text(in_scratch("digest"));
    digest[64] = '\0';
    assert_string_equal(digest, expected);
    free(digest);
}

static void check_vocabulary(const GoldenCase *golden, const Vocabulary *vocabulary, const char *sum)
{
    FILE *pipe = digest_open();
    for (int64_t id = 1; id < vocabulary_size(vocabulary); ++id) {
        const TextSpan word = vocabulary_word(vocabulary, id);
        (void)fprintf(pipe, "%.*s\t%lld\n", (int)word.size, word.data,
                      (long long)vocabulary_count(vocabulary, id));
    }
    digest_check(pipe, golden_text(golden, sum));
}

/* The ids of one part against "expected/train/PART/KEY". */
static void check_part(const GoldenCase *golden, const Documents *documents, const DocumentIds *ids,
                       bool train, const char *key)
{
    enum { LENGTH = 1000 };
    const int64_t first = train ? 0 : documents->given_train,
                  end = train ? documents->given_train : documents->count;
    static int32_t narrow[LENGTH];
    static int64_t wide[LENGTH];
    int64_t empty = 0;
    FILE *pipe = digest_open();
    for (int64_t i = first; i < end; ++i) {
        document_ids_fill(ids, &i, 1, LENGTH, narrow);
        for (int p = 0; p < LENGTH; ++p)
            wide[p] = narrow[p];
        assert_int_equal(fwrite(wide, sizeof wide, 1, pipe), 1);
        empty += document_ids_length(ids, i) == 0;
    }
    char part[128], path[256];
    (void)snprintf(part, sizeof part, "expected/train/20news-bydate-%s", train ? "train" : "test");
    (void)snprintf(path, sizeof path, "%s/%s/sha256_of_id_matrix_int64", part, key);
    digest_check(pipe, golden_text(golden, path));
    (void)snprintf(path, sizeof path, "%s/%s/documents_without_ids", part, key);
    assert_int_equal(empty, (int64_t)golden_number(golden, path));
    (void)snprintf(path, sizeof path, "%s/documents", part);
    assert_int_equal(end - first, (int64_t)golden_number(golden, path));
}

static int64_t number(const GoldenCase *golden, const char *part, const char *key, const char *what)
{
    char path[256];
    (void)snprintf(path, sizeof path, "expected/train/20news-bydate-%s/%s/%s", part, key, what);
    return (int64_t)golden_number(golden, path);
}

/* Rows of the golden matrix: documents by their path. */
static void check_rows(const GoldenCase *golden, const Documents *documents, const DocumentIds *ids,
                       const char *matrix)
{
    cJSON *list = golden_document(golden, "expected_files/documents");
    GoldenArray rows = golden_array(golden, matrix);
    int row = 0;
    for (const cJSON *item = list->child; item != NULL; item = item->next, ++row) {
        int64_t i = 0;
        while (i < documents->count &&
               strcmp(documents_name(documents, i), get(item, "path")->valuestring) != 0)
            ++i;
        assert_true(i < documents->count);
        assert_int_equal(documents->label[i], get(item, "label")->valueint);
        int32_t out[1000];
        document_ids_fill(ids, &i, 1, 1000, out);
        for (int p = 0; p < 1000; ++p)
            assert_int_equal(out[p], (int64_t)rows.values[1000 * row + p]);
    }
    golden_array_free(&rows);
    cJSON_Delete(list);
}

static void check_ids(const GoldenCase *golden, const Documents *documents, const int64_t train[], bool keras)
{
    const char *key = keras ? "keras_num_words" : "ids_1_to_size";
    Vocabulary *vocabulary;
    assert_ok(document_vocabulary(documents, train, documents->given_train, 20000, keras, &vocabulary));
    assert_int_equal(vocabulary_size(vocabulary), keras ? 20000 : 20001);
    assert_int_equal(vocabulary_size(vocabulary) - 1 + vocabulary_left_out(vocabulary),
                     (int64_t)golden_number(golden, "expected/train/distinct_words"));
    check_vocabulary(golden, vocabulary,
                     keras ? "expected/train/sha256_without_the_last_word"
                           : "expected/train/sha256_of_vocabulary_text");
    DocumentIds ids;
    assert_ok(document_ids(documents, vocabulary, 1000, &ids));
    check_part(golden, documents, &ids, true, key);
    check_part(golden, documents, &ids, false, key);
    assert_int_equal(ids.words_kept,
                     number(golden, "train", key, "words_kept") + number(golden, "test", key, "words_kept"));
    assert_int_equal(ids.words_left_out, number(golden, "train", key, "words_left_out") +
                                             number(golden, "test", key, "words_left_out"));
    assert_int_equal(ids.cut, number(golden, "train", key, "documents_longer_than_1000_ids") +
                                  number(golden, "test", key, "documents_longer_than_1000_ids"));
    check_rows(golden, documents, &ids,
               keras ? "expected_files/ids_keras_num_words" : "expected_files/ids_train");
    document_ids_free(&ids);
    vocabulary_free(vocabulary);
}

/* How much of cropped batches is padding; a whole one of 1,000 positions has four fifths of it. */
static void check_padding(const Documents *documents, const int64_t train[])
{
    Vocabulary *vocabulary;
    assert_ok(document_vocabulary(documents, train, documents->given_train, 20000, true, &vocabulary));
    DocumentIds ids;
    assert_ok(document_ids(documents, vocabulary, 1000, &ids));
    const int64_t count = documents->given_train;
    int64_t *needed = calloc((size_t)count, sizeof *needed), words = 0;
    assert_non_null(needed);
    for (int64_t i = 0; i < count; ++i) {
        needed[i] = document_ids_length(&ids, i);
        words += needed[i];
    }
    BatchLengths lengths;
    assert_ok(batch_lengths(1000, true, &lengths));
    const DocumentBatchOptions options = {
        .batch = 128, .margin = 21, .window = 32, .shuffle = true, .seed = 1};
    DocumentEpoch epoch;
    assert_ok(document_batches(needed, count, &lengths, &options, 1, &epoch));
    const int64_t positions = check_epoch(&epoch, needed, 128, 1000);
    print_message("positions: %.1f %% of uncropped ones; padding %.1f %%, uncropped %.1f %%\n",
                  100.0 * (double)positions / (1000.0 * (double)count),
                  100.0 - 100.0 * (double)words / (double)positions,
                  100.0 - 100.0 * (double)words / (1000.0 * (double)count));
    assert_true(3 * positions < 1000 * count);
    document_epoch_free(&epoch);
    free(needed);
    document_ids_free(&ids);
    vocabulary_free(vocabulary);
}

static void all_newsgroups_are_as_keras_has_them(void **state)
{
    (void)state;
    const GoldenCase *golden = golden_need("text", "newsgroups/by_date");
    char command[SCRATCH_SIZE + 4200];
    (void)snprintf(command, sizeof command, "tar --zstd -xf '%s' -C '%s'",
                   test_data_or_skip("20news-bydate.tar.zst"), scratch);
    if (system(command) != 0) {
        print_message("skipped: tar cannot unpack it\n");
        skip();
    }
    Documents documents;
    assert_ok(newsgroups_read(scratch, NEWSGROUPS_ANY, &documents));
    assert_int_equal(documents.count, 18846);
    assert_int_equal(documents.classes, golden_length(golden, "expected/classes"));
    assert_int_equal(documents.read.debris + documents.read.unnamed, 0);
    assert_int_equal(documents.read.empty, 33);
    int64_t per_class[2][20] = {{0}};
    for (int64_t i = 0; i < documents.count; ++i)
        ++per_class[i >= documents.given_train][documents.label[i]];
    for (int c = 0; c < 20; ++c) {
        assert_int_equal(per_class[0][c],
                         (int64_t)golden_number_at(golden, "expected/documents_per_class_train", c));
        assert_int_equal(per_class[1][c],
                         (int64_t)golden_number_at(golden, "expected/documents_per_class_test", c));
    }
    const DocumentsSplitOptions options = {.rule = DOCUMENTS_BY_DATE, .validation = 900, .seed = 1};
    DocumentsSplit split;
    assert_ok(documents_split(&documents, &options, &split));
    int64_t shared;
    assert_ok(
        documents_shared(&documents, split.test, split.test_count, split.train, split.train_count, &shared));
    print_message("%lld test documents have the text of a training document\n", (long long)shared);
    documents_split_free(&split);
    int64_t *train = calloc((size_t)documents.given_train, sizeof *train);
    assert_non_null(train);
    for (int64_t i = 0; i < documents.given_train; ++i)
        train[i] = i;
    check_ids(golden, &documents, train, false);
    check_ids(golden, &documents, train, true);
    check_padding(&documents, train);
    free(train);
    documents_free(&documents);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_those_of_keras),
        cmocka_unit_test(other_words_are_dropped_and_the_last_ids_stay),
        cmocka_unit_test(lengths_hold_what_they_must),
        cmocka_unit_test(an_epoch_has_every_document_once),
        cmocka_unit_test(epochs_and_seeds_differ),
        cmocka_unit_test(bad_batches_are_errors),
        cmocka_unit_test(golden_documents_have_their_words),
        SCRATCH(all_newsgroups_are_as_keras_has_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
