/* Subwords: golden lines, real text by the word cache and by the library itself, models that are made, damaged files. */
#include "tests/golden.h"
#include "tests/scratch.h"

#include "engine/base/file.h"
#include "engine/base/random.h"
#include "nlp/sentencepiece.h"
#include "nlp/subwords.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

/* ---- what is trained on in the tests ---- */

typedef struct {
    const char *const *line;
    int at;
} Lines;

static bool next_of_lines(void *context, TextSpan *line)
{
    Lines *lines = context;
    if (lines->line[lines->at] == NULL) return false;
    *line = text_span(lines->line[lines->at++]);
    return true;
}

static const char *const some_lines[] = {"the cat sat on the mat", "the dog sat on the log",
                                         "a cat and a dog",        "dogs and cats",
                                         "the mats and the logs",  NULL};

static Status train(const SubwordsTraining *training, const char *const line[], Subwords **subwords)
{
    Lines lines = {.line = line};
    return subwords_train(training, next_of_lines, &lines, subwords);
}

static const SubwordsTraining small_pieces = {.kind = SUBWORDS_PIECES,
                                              .type = "bpe",
                                              .size = 40,
                                              .normalisation = "identity",
                                              .coverage = 1,
                                              .longest = 100};

/* The file that a model writes; release with free(). */
static char *written(const Subwords *subwords, size_t *size)
{
    char *bytes;
    assert_ok(subwords_write(subwords, in_scratch("model")));
    assert_ok(file_read(in_scratch("model"), 1 << 24, &bytes, size));
    assert_int_equal(subwords_hash(subwords), XXH64(bytes, *size, 0));
    return bytes;
}

/* ---- golden lines ---- */

static const cJSON *get(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    assert_non_null(item);
    return item;
}

static void check_line(const Subwords *subwords, SubwordEncoder *encoder, const cJSON *row)
{
    const char *text = get(row, "text")->valuestring;
    const cJSON *ids = get(row, "ids"), *pieces = get(row, "pieces");
    TokenIds got = {.id = NULL};
    assert_ok(subword_encoder_encode(encoder, text_span(text), &got, NULL));
    assert_int_equal(got.count, cJSON_GetArraySize(ids));
    int64_t unknown = 0;
    for (size_t i = 0; i < got.count; ++i) {
        assert_int_equal(got.id[i], cJSON_GetArrayItem(ids, (int)i)->valueint);
        if (got.id[i] == SUBWORD_UNKNOWN)
            ++unknown; /* whose piece in the set is the text itself */
        else
            assert_true(text_span_equal(subwords_piece(subwords, got.id[i]),
                                        text_span(cJSON_GetArrayItem(pieces, (int)i)->valuestring)));
    }
    assert_int_equal(unknown, get(row, "unknown")->valueint);
    char *decoded;
    size_t size;
    assert_ok(subwords_decode(subwords, got.id, got.count, &decoded, &size));
    assert_int_equal(size, strlen(get(row, "decoded")->valuestring));
    assert_string_equal(decoded, get(row, "decoded")->valuestring);
    free(decoded);
    token_ids_free(&got);
}

static void golden_lines_have_their_ids(void **state)
{
    (void)state;
    int cases = 0;
    for (const GoldenCase *golden = NULL; (golden = golden_next("subwords", NULL, golden)) != NULL; ++cases) {
        Subwords *subwords;
        SubwordEncoder *encoder;
        assert_ok(subwords_read(golden_path(golden, "inputs/model"), SUBWORDS_PIECES, &subwords));
        assert_ok(subword_encoder_new(subwords, &encoder));
        assert_int_equal(subwords_size(subwords), (int64_t)golden_number(golden, "expected/pieces"));
        cJSON *lines = golden_document(golden, "expected_files/lines");
        for (int pass = 0; pass < 2; ++pass) /* the second time from the cache */
            for (const cJSON *row = lines->child; row != NULL; row = row->next)
                check_line(subwords, encoder, row);
        golden_count(2 * cJSON_GetArraySize(lines));
        cJSON_Delete(lines);
        subword_encoder_free(encoder);
        subwords_free(subwords);
    }
    if (cases == 0) skip();
}

/* ---- the word cache ---- */

typedef struct {
    TokenIds ids;
} Direct;

static Status take_direct(void *context, const int32_t *id, size_t count)
{
    Direct *direct = context;
    assert_true(direct->ids.capacity >= count);
    if (count > 0) memcpy(direct->ids.id, id, count * sizeof *id);
    direct->ids.count = count;
    return OK;
}

static void assert_as_the_library(const SentencePiece *model, SubwordEncoder *encoder, TextSpan line)
{
    static int32_t room[100000];
    Direct direct = {.ids = {.id = room, .capacity = sizeof room / sizeof *room}};
    TokenIds got = {.id = NULL};
    assert_ok(sentencepiece_encode(model, line, take_direct, &direct));
    assert_ok(subword_encoder_encode(encoder, line, &got, NULL));
    if (got.count != direct.ids.count ||
        (got.count > 0 && memcmp(got.id, room, got.count * sizeof *room) != 0)) {
        print_error("the cache gives other ids for \"%.*s\"\n", (int)line.size, line.data);
        _fail(__FILE__, __LINE__);
    }
    token_ids_free(&got);
}

/* A line of characters of all sorts, spaces among them often. */
static size_t odd_line(RandomStream *random, char line[])
{
    static const char *const parts[] = {" ",
                                        " ",
                                        "  ",
                                        "a",
                                        "the",
                                        "\xC2\xA0",
                                        "\xCC\x81",
                                        "\xC2\xA8",
                                        "\xE3\x80\x80",
                                        "\t",
                                        "\x01",
                                        "\xE2\x96\x81",
                                        "e\xCC\x81",
                                        "\xEF\xAC\x81",
                                        "\xCD\xBA",
                                        "<s>",
                                        "\xF0\x9F\x98\x80",
                                        "\xE2\x80\x8B",
                                        "Mann",
                                        "."};
    const uint64_t count = random_below(random, 12);
    size_t size = 0;
    for (uint64_t i = 0; i < count; ++i) {
        const char *part = parts[random_below(random, sizeof parts / sizeof *parts)];
        memcpy(line + size, part, strlen(part));
        size += strlen(part);
    }
    return size;
}

/* Every line of the files, and made ones. */
static void words_one_by_one_give_the_ids_of_the_line(void **state)
{
    (void)state;
    const GoldenCase *golden = golden_need("text", "sentencepiece/multi30k_joint_8000");
    static const char *const files[] = {"multi30k/val.de.gz", "multi30k/test_2016_flickr.en.gz"};
    Subwords *subwords;
    SubwordEncoder *encoder;
    SentencePiece *model;
    char *bytes;
    size_t size;
    const char *path = golden_path(golden, "inputs/model");
    assert_ok(file_read(path, 1 << 24, &bytes, &size));
    assert_ok(subwords_parse(path, SUBWORDS_PIECES, bytes, size, &subwords));
    assert_ok(sentencepiece_parse(path, bytes, size, &model));
    assert_ok(subword_encoder_new(subwords, &encoder));
    free(bytes);
    RandomStream random = random_stream(1, RANDOM_TEST, 0);
    for (int i = 0; i < 5000; ++i) {
        char line[200];
        const size_t count = odd_line(&random, line);
        assert_as_the_library(model, encoder, (TextSpan){.data = line, .size = count});
    }
    for (size_t i = 0; i < sizeof files / sizeof *files; ++i) {
        char *text;
        assert_ok(file_read(test_data_or_skip(files[i]), 1 << 24, &text, &size));
        int64_t lines = 0;
        for (char *at = text; *at != '\0'; ++lines) {
            const size_t length = strcspn(at, "\n");
            assert_as_the_library(model, encoder, (TextSpan){.data = at, .size = length});
            at += length + (at[length] == '\n');
        }
        assert_true(lines >= 1000);
        free(text);
    }
    subword_encoder_free(encoder);
    sentencepiece_free(model);
    subwords_free(subwords);
}

static void lines_that_normalisation_changes_are_told(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        bool nmt_nfkc, identity;
    } cases[] = {
        {"", false, false},
        {"the cat", false, false},
        {"the  cat", true, true},
        {" the cat", true, true},
        {"the cat ", true, true},
        {"the\tcat", true, false},
        {"\xEF\xAC\x81", true, false} /* the ligature fi */,
    };
    for (int identity = 0; identity < 2; ++identity) {
        Subwords *subwords;
        SubwordEncoder *encoder;
        TokenIds ids = {.id = NULL};
        SubwordsTraining training = small_pieces;
        training.normalisation = identity ? "identity" : "nmt_nfkc";
        assert_ok(train(&training, some_lines, &subwords));
        assert_ok(subword_encoder_new(subwords, &encoder));
        for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i)
            for (int pass = 0; pass < 2; ++pass) {
                bool changed;
                assert_ok(subword_encoder_encode(encoder, text_span(cases[i].line), &ids, &changed));
                assert_int_equal(changed, identity ? cases[i].identity : cases[i].nmt_nfkc);
            }
        token_ids_free(&ids);
        subword_encoder_free(encoder);
        subwords_free(subwords);
    }
}

/* What a model cannot spell it writes byte by byte, which changes nothing. */
static void bytes_are_no_change(void **state)
{
    (void)state;
    Subwords *plain, *subwords;
    SubwordEncoder *encoder;
    TokenIds ids = {.id = NULL};
    size_t size;
    bool changed;
    assert_ok(train(&small_pieces, some_lines, &plain));
    char *bytes = written(plain, &size), *longer = malloc(size + 256 * 12 + 5);
    assert_non_null(longer);
    memcpy(longer, bytes, size);
    for (int byte = 0; byte < 256; ++byte) { /* a field of the model: a piece of the type BYTE, 6 */
        char piece[16];
        (void)snprintf(piece, sizeof piece, "\x0A\x0A\x0A\x06<0x%02X>\x18\x06", (unsigned)byte);
        memcpy(longer + size, piece, 12);
        size += 12;
    }
    memcpy(longer + size, "\x12\x03\x98\x02\x01", 5); /* of its trainer: byte_fallback */
    size += 5;
    assert_ok(subwords_parse("with bytes", SUBWORDS_PIECES, longer, size, &subwords));
    assert_ok(subword_encoder_new(subwords, &encoder));
    assert_ok(subword_encoder_encode(encoder, text_span("the \xE2\x82\xAC cat"), &ids, &changed));
    for (size_t i = 0; i < ids.count; ++i)
        assert_int_not_equal(ids.id[i], SUBWORD_UNKNOWN);
    assert_false(changed);
    assert_ok(subword_encoder_encode(encoder, text_span("the \xE2\x82\xAC  cat"), &ids, &changed));
    assert_true(changed);
    token_ids_free(&ids);
    subword_encoder_free(encoder);
    subwords_free(subwords);
    subwords_free(plain);
    free(longer);
    free(bytes);
}

/* ---- models that are made ---- */

static void assert_round_trip(const Subwords *subwords, const char *line)
{
    SubwordEncoder *encoder;
    TokenIds ids = {.id = NULL};
    char *text;
    size_t size;
    assert_ok(subword_encoder_new(subwords, &encoder));
    assert_ok(subword_encoder_encode(encoder, text_span(line), &ids, NULL));
    assert_true(ids.count > 0);
    assert_ok(subwords_decode(subwords, ids.id, ids.count, &text, &size));
    assert_string_equal(text, line);
    free(text);
    token_ids_free(&ids);
    subword_encoder_free(encoder);
}

static void pieces_are_made_of_lines(void **state)
{
    (void)state;
    static const char *const types[] = {"bpe", "unigram"};
    for (int i = 0; i < 2; ++i) {
        Subwords *subwords, *again;
        SubwordsTraining training = small_pieces;
        training.type = types[i];
        training.size = 22;
        size_t size, again_size;
        assert_ok(train(&training, some_lines, &subwords));
        assert_int_equal(subwords_size(subwords), 22);
        assert_true(text_span_equal(subwords_piece(subwords, 0), text_span("<pad>")));
        assert_true(text_span_equal(subwords_piece(subwords, 3), text_span("<unk>")));
        assert_round_trip(subwords, "the dogs sat and a cat");
        char *bytes = written(subwords, &size);
        assert_ok(train(&training, some_lines, &again)); /* the same bytes every time */
        char *again_bytes = written(again, &again_size);
        assert_int_equal(size, again_size);
        assert_memory_equal(bytes, again_bytes, size);
        free(again_bytes);
        subwords_free(again);
        assert_ok(subwords_parse("again", SUBWORDS_PIECES, bytes, size, &again));
        assert_int_equal(subwords_hash(again), subwords_hash(subwords));
        free(bytes);
        subwords_free(again);
        subwords_free(subwords);
    }
}

static void a_size_that_does_not_fit_says_which_would(void **state)
{
    (void)state;
    Subwords *subwords;
    SubwordsTraining training = small_pieces;
    static const char *const none[] = {NULL};
    training.size = 5000;
    Status status = train(&training, some_lines, &subwords);
    assert_true(status != OK);
    assert_int_equal(status_code(status), STATUS_INPUT);
    const char *most = strstr(status_message(status), "at most ");
    assert_non_null(most);
    training.size = strtol(most + strlen("at most "), NULL, 10);
    status_free(status);
    assert_ok(train(&training, some_lines, &subwords)); /* which is true */
    subwords_free(subwords);
    ++training.size;
    assert_fails(train(&training, some_lines, &subwords), STATUS_INPUT, "at most ");
    training.size = 8;
    assert_fails(train(&training, some_lines, &subwords), STATUS_INPUT, "too few");
    assert_fails(train(&small_pieces, none, &subwords), STATUS_INPUT, "no line");
}

static void words_of_split_text_are_subwords(void **state)
{
    (void)state;
    static const char *const lines[] = {"b@@ a c", "a  b@@ <s>", "a", NULL};
    const SubwordsTraining training = {.kind = SUBWORDS_WORDS, .size = 6};
    Subwords *subwords, *again;
    SubwordEncoder *encoder;
    TokenIds ids = {.id = NULL};
    char *text;
    size_t size;
    assert_ok(train(&training, lines, &subwords)); /* two words beside the special ones: the most frequent */
    assert_int_equal(subwords_size(subwords), 6);
    char *bytes = written(subwords, &size);
    assert_string_equal(bytes, "<pad>\n<s>\n</s>\n<unk>\na\nb@@\n");
    assert_ok(subwords_parse("vocabulary.txt", SUBWORDS_WORDS, bytes, size, &again));
    assert_int_equal(subwords_hash(again), subwords_hash(subwords));
    assert_ok(subword_encoder_new(again, &encoder));
    assert_ok(subword_encoder_encode(encoder, text_span(" b@@  a c <s>"), &ids, NULL));
    static const int32_t expected[] = {5, 4, 3, 3};
    assert_int_equal(ids.count, 4);
    assert_memory_equal(ids.id, expected, sizeof expected);
    assert_ok(subwords_decode(again, (const int32_t[]){1, 5, 4, 3, 2, 0}, 6, &text, &size));
    assert_string_equal(text, "b@@ a <unk>");
    free(text);
    assert_fails(subwords_decode(again, (const int32_t[]){6}, 1, &text, &size), STATUS_INPUT, "no word 6");
    subword_encoder_free(encoder);
    token_ids_free(&ids);
    subwords_free(again);
    subwords_free(subwords);
    free(bytes);
}

/* ---- files that are no models ---- */

static void damaged_files_are_refused(void **state)
{
    (void)state;
    Subwords *subwords;
    size_t size;
    assert_fails(subwords_parse("m", SUBWORDS_PIECES, "", 0, &subwords), STATUS_INPUT, "m is empty");
    assert_fails(subwords_parse("m", SUBWORDS_PIECES, "a text, no model\n", 17, &subwords), STATUS_INPUT,
                 "m is no SentencePiece model");
    SubwordsTraining training = small_pieces;
    training.normalisation = "nmt_nfkc";
    assert_ok(train(&training, some_lines, &subwords));
    char *bytes = written(subwords, &size);
    subwords_free(subwords);
    /* A file cut short at a field's end may still be a model with fewer pieces, but is another one. */
    for (size_t cut = size - 1; cut > size - 50; --cut) {
        char *part = malloc(cut);
        assert_non_null(part);
        memcpy(part, bytes, cut);
        Status status = subwords_parse("m", SUBWORDS_PIECES, part, cut, &subwords);
        if (status == OK) {
            assert_int_not_equal(subwords_hash(subwords), XXH64(bytes, size, 0));
            subwords_free(subwords);
        }
        status_free(status);
        free(part);
    }
    /* The table of the normalisation, found by its size of the form 0x000n0000. */
    char *table = memmem(bytes, size, "nmt_nfkc", 8);
    assert_non_null(table);
    for (size_t at = (size_t)(table - bytes) + 30; at + 4 < size; at += 40013)
        memset(bytes + at, 0xFF, 4);
    assert_fails(subwords_parse("m", SUBWORDS_PIECES, bytes, size, &subwords), STATUS_INPUT, "m is damaged");
    free(bytes);
}

static void bad_lists_of_words_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "list holds no word"},
        {"<pad>\n<s>\n</s>\n<unk>\n", "list holds no word"},
        {"<pad>\n<s>\nword\n", "list:3: \"word\" stands where"},
        {"<pad>\n<s>\n</s>\n<unk>\na\n\nb\n", "list:6: the line is empty"},
        {"<pad>\n<s>\n</s>\n<unk>\na\nb\na\n", "twice"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        Subwords *subwords;
        assert_fails(subwords_parse("list", SUBWORDS_WORDS, cases[i].text, strlen(cases[i].text), &subwords),
                     STATUS_INPUT, cases[i].message);
        assert_null(subwords);
    }
}

/* A model of one piece, with the usual special ids. */
static void other_special_ids_are_refused(void **state)
{
    (void)state;
    static const char model[] = "\x0A\x0B\x0A\x05<unk>\x18\x02\x15"
                                "\0\0\0"; /* cut short on purpose below */
    static const uint8_t usual[] = {      /* <unk> unknown, <s> and </s> control, a normal */
                                    0x0A, 9,    0x0A, 5,   '<',  'u', 'n',  'k', '>',  0x18, 2,    0x0A,
                                    7,    0x0A, 3,    '<', 's',  '>', 0x18, 3,   0x0A, 8,    0x0A, 4,
                                    '<',  '/',  's',  '>', 0x18, 3,   0x0A, 3,   0x0A, 1,    'a'};
    Subwords *subwords;
    assert_fails(subwords_parse("m", SUBWORDS_PIECES, usual, sizeof usual, &subwords), STATUS_INPUT,
                 "m has the ids -1, 1, 2, 0");
    assert_fails(subwords_parse("m", SUBWORDS_PIECES, model, 8, &subwords), STATUS_INPUT, "cut short");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_lines_have_their_ids),
        cmocka_unit_test(words_one_by_one_give_the_ids_of_the_line),
        cmocka_unit_test(lines_that_normalisation_changes_are_told),
        SCRATCH(bytes_are_no_change),
        SCRATCH(pieces_are_made_of_lines),
        cmocka_unit_test(a_size_that_does_not_fit_says_which_would),
        SCRATCH(words_of_split_text_are_subwords),
        SCRATCH(damaged_files_are_refused),
        cmocka_unit_test(bad_lists_of_words_are_refused),
        cmocka_unit_test(other_special_ids_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
