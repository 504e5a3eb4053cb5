/* Numbers in text, and files of word vectors. */
#include "tests/scratch.h"

#include "engine/base/file.h"
#include "engine/base/random.h"
#include "nlp/float_parse.h"
#include "nlp/word_vectors.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

/* ---- Numbers ---- */

/* In a block of its own size, so that a sanitizer sees reads beyond it. */
static void assert_number(const char *text, size_t expected_size)
{
    const size_t size = strlen(text);
    char *exact = malloc(size + 1);
    assert_non_null(exact);
    memcpy(exact + 1, text, size);
    float got = NAN;
    const char *stop = float_parse(exact + 1, exact + 1 + size, &got);
    if (expected_size == 0) {
        if (stop != NULL) print_error("\"%s\" was taken for a number\n", text);
        assert_null(stop);
    } else {
        const float want = strtof(text, NULL);
        if (stop == NULL || memcmp(&got, &want, sizeof got) != 0)
            print_error("\"%s\" is %.9g, expected %.9g\n", text, (double)got, (double)want);
        assert_non_null(stop);
        assert_memory_equal(&got, &want, sizeof got);
        assert_int_equal(stop - exact - 1, expected_size);
    }
    free(exact);
}

static void numbers_are_those_of_strtof(void **state)
{
    (void)state;
    static const char *const whole[] = {"0",
                                        "-0",
                                        "0.0",
                                        "-0.000",
                                        "1",
                                        "+1",
                                        "-1",
                                        "12345678",
                                        "123456789",
                                        "0.31924",
                                        "-0.082752",
                                        ".5",
                                        "-.5",
                                        "5.",
                                        "1e5",
                                        "1E+5",
                                        "1e-5",
                                        "-2.5e-3",
                                        "1.17549435e-38",
                                        "1.1754943e-38",
                                        "1e-45",
                                        "7e-46",
                                        "1e-60",
                                        "1e-400",
                                        "0e999999999999999999",
                                        "3.4028235e38",
                                        "16777217",
                                        "16777216.0000001",
                                        "16777219",
                                        "33554434.5",
                                        "8589973504.5",
                                        "8589973504.000000001",
                                        "8589973503.999999999",
                                        "0.1234567890123456789012345",
                                        "123456789012345678",
                                        "1234567890123456789",
                                        "99999999999999999999999",
                                        "00000000000000000000000000001.5",
                                        "9007199254740993",
                                        "9007199791611905",
                                        "1.00000005960464477539062500000000001",
                                        "1.000000059604644775390625",
                                        "0.00000000000000000000000000000000000001",
                                        "12345678.87654321",
                                        "1.2e22",
                                        "1e23",
                                        "1e-22",
                                        "1e-23"};
    for (size_t i = 0; i < sizeof whole / sizeof *whole; ++i)
        assert_number(whole[i], strlen(whole[i]));
    static const char *const none[] = {"",     "-",  "+",   ".",   "-.",   "e5",    "nan",    "NaN",    "inf",
                                       "-inf", "x1", "--1", "+-1", "1e39", "-1e39", "3.5e38", "1e9999", " 1"};
    for (size_t i = 0; i < sizeof none / sizeof *none; ++i)
        assert_number(none[i], 0);
    static const struct {
        const char *text;
        size_t size;
    } begun[] = {{"1 2", 1}, {"1.5x", 3},  {"1e", 1},   {"1e+", 1},          {"1e5.5", 3},
                 {"1-2", 1}, {"1.2.3", 3}, {"0x10", 1}, {"12345678\xB0", 8}, {"1234567\x01\xB5", 7}};
    for (size_t i = 0; i < sizeof begun / sizeof *begun; ++i) {
        float got, want;
        char text[32] = "";
        memcpy(text, begun[i].text, begun[i].size);
        want = strtof(text, NULL);
        const char *stop = float_parse(begun[i].text, begun[i].text + strlen(begun[i].text), &got);
        assert_int_equal(stop - begun[i].text, begun[i].size);
        assert_true(got == want);
    }
    char *endless = malloc(3000);
    assert_non_null(endless);
    memset(endless, '1', 3000);
    float number;
    assert_null(float_parse(endless, endless + 3000, &number)); /* beyond any float */
    free(endless);
}

static void random_numbers_are_those_of_strtof(void **state)
{
    (void)state;
    RandomStream stream = random_stream(1, RANDOM_TEST, 0);
    char text[64];
    for (int i = 0; i < 200000; ++i) {
        switch (random_below(&stream, 4)) {
        case 0: /* as files of vectors have them */
            (void)snprintf(text, sizeof text, "%.*g", 3 + (int)random_below(&stream, 6),
                           random_normal(&stream));
            break;
        case 1: /* any finite float, or the middle between it and the next, with any number of digits */
        {
            uint32_t bits = random_bits(&stream) & 0x7FFFFFFF;
            float low;
            memcpy(&low, &bits, sizeof low);
            if (!isfinite(low)) continue;
            const double middle = ((double)low + (double)nextafterf(low, INFINITY)) / 2;
            const double number = random_below(&stream, 2) ? middle : (double)low;
            (void)snprintf(text, sizeof text, "%.*g", 1 + (int)random_below(&stream, 20), number);
            break;
        }
        case 2: /* whole and halves near where floats have gaps */
            (void)snprintf(text, sizeof text, "%llu.%llu", (unsigned long long)random_below(&stream, 1 << 26),
                           (unsigned long long)random_below(&stream, 20) * 5);
            break;
        default:
            (void)snprintf(text, sizeof text, "-%llue%d",
                           (unsigned long long)random_below(&stream, 1000000000000),
                           (int)random_below(&stream, 60) - 50);
            break;
        }
        if (strstr(text, "inf") != NULL || !isfinite(strtof(text, NULL))) continue;
        assert_number(text, strlen(text));
    }
}

/* ---- Files ---- */

/* Ids 1, 2, ... are these words; 0 is padding. */
static Vocabulary *vocabulary_of(const char *const words[], int count)
{
    static const char *const special[] = {"<pad>"};
    WordCounts *counts;
    assert_ok(word_counts_new(&counts));
    for (int i = 0; i < count; ++i)
        assert_ok(word_counts_add(counts, text_span(words[i])));
    const VocabularyOptions options = {.special = special, .specials = 1};
    Vocabulary *vocabulary;
    assert_ok(vocabulary_create(counts, &options, &vocabulary));
    word_counts_free(counts);
    return vocabulary;
}

static const char *const words[] = {"the", "nan",         ". . .",       "at name@domain.com",
                                    "1",   "caf\xC3\xA9", "World War 2", "absent"};
enum { WORDS = sizeof words / sizeof *words };

static Status parse(const char *text, int64_t dimension, WordVectors *vectors)
{
    Vocabulary *vocabulary = vocabulary_of(words, WORDS);
    const size_t size = strlen(text);
    char *exact = malloc(size + 1);
    assert_non_null(exact);
    memcpy(exact + 1, text, size);
    Status status = word_vectors_parse("some.txt", exact + 1, size, vocabulary, dimension, vectors);
    free(exact);
    vocabulary_free(vocabulary);
    return status;
}

static void assert_vector(const WordVectors *vectors, int64_t id, float x, float y)
{
    assert_true(vectors->known[id]);
    assert_true(vectors->vector[2 * id] == x && vectors->vector[2 * id + 1] == y);
}

static void the_last_fields_are_numbers_and_the_rest_is_the_word(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "the 0.5 -1\nother 1 2\nnan 3 4\n. . . 5 6\nat name@domain.com 7 8\n1 9 10\ncaf\xC3\xA9 11 12\nWorld "
        "War 2 13 14\n",
        "8 2\nthe 0.5 -1\nother 1 2\nnan 3 4\n. . . 5 6\nat name@domain.com 7 8\n1 9 10\ncaf\xC3\xA9 11 "
        "12\nWorld War 2 13 14",
        "\xEF\xBB\xBFthe 0.5 -1\r\nother 1 2 \r\nnan 3 4\r\n. . . 5 6\r\nat name@domain.com 7 8\r\n1 9 "
        "10\t\r\n"
        "caf\xC3\xA9 11 12\r\nWorld War 2 13 14\r\n\r\n",
        "8\t2 \r\nthe\t0.5\t-1\nother  1   2\nnan 3 4\n. . . 5 6\nat name@domain.com\t7 8\n1 9 "
        "10\ncaf\xC3\xA9 11 12\nWorld War 2 13  14\n\n",
    };
    for (int i = 0; i < 4; ++i) {
        WordVectors vectors;
        assert_ok(parse(texts[i], 2, &vectors));
        assert_int_equal(vectors.size, WORDS + 1);
        assert_int_equal(vectors.lines, 8);
        assert_int_equal(vectors.found, WORDS - 1);
        assert_int_equal(vectors.missing, 1);
        assert_int_equal(vectors.duplicates, 0);
        assert_int_equal(vectors.nameless, 0);
        assert_vector(&vectors, 1, 0.5F, -1);
        for (int id = 2; id < WORDS; ++id)
            assert_vector(&vectors, id, (float)(2 * id - 1), (float)(2 * id));
        assert_false(vectors.known[0]);
        assert_false(vectors.known[WORDS]);
        assert_true(vectors.vector[0] == 0 && vectors.vector[(size_t)2 * WORDS] == 0);
        word_vectors_free(&vectors);
    }
}

static void the_first_of_several_counts(void **state)
{
    (void)state;
    WordVectors vectors;
    assert_ok(parse("the 1 2\nx 0 0\nthe 3 4\n1 5 6\nthe 7 8\nx 0 0\n 9 10\n", 2, &vectors));
    assert_vector(&vectors, 1, 1, 2);
    assert_vector(&vectors, 5, 5, 6);
    assert_int_equal(vectors.duplicates, 2);
    assert_int_equal(vectors.nameless, 1);
    assert_int_equal(vectors.lines, 7);
    assert_int_equal(vectors.found, 2);
    assert_int_equal(vectors.missing, WORDS - 2);
    word_vectors_free(&vectors);
    assert_ok(parse("the 1\n2 5\n", 1, &vectors)); /* of one number a header cannot be told from a vector */
    assert_int_equal(vectors.lines, 2);
    word_vectors_free(&vectors);
    assert_ok(parse("none 1 2", 2, &vectors));
    assert_int_equal(vectors.found, 0);
    assert_int_equal(vectors.missing, WORDS);
    word_vectors_free(&vectors);
}

static void bad_files_are_errors_with_a_place(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t dimension;
        const char *message;
    } cases[] = {
        {"", 2, "some.txt: there is no vector in this file"},
        {"\n \n", 2, "some.txt: there is no vector in this file"},
        {"0 2\n", 2, "some.txt: there is no vector in this file"},
        {"the 1 2\nx 1\n", 2, "some.txt:2:1: 1 numbers behind the word; vectors of 2 are expected"},
        {"the 1 2\nx\n", 2, "some.txt:2:1: 0 numbers behind the word; vectors of 2 are expected"},
        {"the 1 2\nx 1.5 2 3\n", 2, "some.txt:2:1: 3 numbers behind the word; vectors of 2 are expected"},
        {"the 0.1 0.2 0.3 0.4\n", 2, "some.txt:1:1: 4 numbers behind the word; vectors of 2 are expected"},
        {"the 1 2\n\nx 1 2\n", 2, "some.txt:2:1: an empty line"},
        {"the 1 2\n  \nx 1 2\n", 2, "some.txt:2:1: an empty line"},
        {"the 1 nan\n", 2,
         "some.txt:1:7: \"nan\" is not a finite number; the last 2 fields of a line must be"},
        {"nan nan 1\n", 2, "some.txt:1:5: \"nan\" is not a finite number"},
        {"caf\xC3\xA9 1 2\ncaf\xC3\xA9 1 inf\n", 2, "some.txt:2:8: \"inf\" is not a finite number"},
        {"the 1 2x\n", 2, "some.txt:1:7: \"2x\" is not a finite number"},
        {"the 1 1e39\n", 2, "some.txt:1:7: \"1e39\" is not a finite number"},
        {"the 1,5 2\n", 2, "some.txt:1:5: \"1,5\" is not a finite number"},
        {"a 1 2\n\xC3\xA9\xFF 1 2\n", 2, "some.txt:2:2: the byte 0xFF is not valid UTF-8"},
        {"a \xE2\x82 1 2\n", 2, "some.txt:1:3: the byte 0xE2 is not valid UTF-8"},
        {"a 1 \xC0\n", 2, "some.txt:1:5: the byte 0xC0 is not valid UTF-8"},
        {"2 3\nthe 1 2 3\nx 1 2 3\n", 2,
         "some.txt:1:1: the header says vectors of 3 numbers; 2 are expected"},
        {"3 2\nthe 1 2\nx 1 2\n", 2, "some.txt: the header says 3 vectors, but there are 2"},
        {"1 2\nthe 1 2\nx 1 2\n", 2, "some.txt: the header says 1 vectors, but there are 2"},
        {"the 1 2\n", 0, "vectors of 0 numbers"},
        {"the 1 2\n", INT64_MAX / 4, "memory"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        WordVectors vectors;
        Status status = parse(cases[i].text, cases[i].dimension, &vectors);
        if (status == OK || strstr(status_message(status), cases[i].message) == NULL) {
            print_error("\"%s\" gives \"%s\", expected \"%s\"\n", cases[i].text,
                        status != OK ? status_message(status) : "no error", cases[i].message);
            _fail(__FILE__, __LINE__);
        }
        assert_null(vectors.vector);
        status_free(status);
    }
}

/* More than any chunk holds: lines that lie across their ends, errors in several, duplicates far apart. */
static void large_files_are_read_in_parts(void **state)
{
    (void)state;
    enum { LINES = 120000, WIDTH = 16, ROOM = 200 };
    static const char *const far[] = {"word7", "word119999", "word60000", "word5"};
    char *text = malloc((size_t)LINES * ROOM);
    assert_non_null(text);
    for (int bad = 0; bad < 2; ++bad) {
        size_t size = 0;
        for (int i = 0; i < LINES; ++i) {
            size += (size_t)snprintf(text + size, ROOM, "word%d", i == 110000 ? 5 : i);
            for (int d = 0; d < WIDTH; ++d)
                size += (size_t)snprintf(text + size, 12, " 0.%06d", (i * 31 + d) % 1000000);
            if (bad && (i == 70000 || i == 90000 || i == 119000))
                size += (size_t)snprintf(text + size, 8, "x%d", i);
            text[size++] = '\n';
        }
        assert_true(size > (size_t)3 * (4 << 20));
        const char *path = in_scratch("large.txt");
        write_plain(path, text, size);
        Vocabulary *vocabulary = vocabulary_of(far, 4);
        WordVectors vectors;
        for (int threads = 1; threads <= 3; ++threads) {
            omp_set_num_threads(threads);
            if (bad) {
                assert_fails(word_vectors_read(path, vocabulary, WIDTH, &vectors), STATUS_INPUT,
                             "large.txt:70001:");
                continue;
            }
            assert_ok(word_vectors_read(path, vocabulary, WIDTH, &vectors));
            assert_int_equal(vectors.lines, LINES);
            assert_int_equal(vectors.found, 4);
            assert_int_equal(vectors.duplicates, 1);
            static const int line_of[] = {7, 119999, 60000, 5};
            for (int w = 0; w < 4; ++w)
                for (int d = 0; d < WIDTH; ++d) {
                    const double want = (line_of[w] * 31 + d) % 1000000 / 1e6;
                    assert_true(vectors.vector[(w + 1) * WIDTH + d] == (float)want);
                }
            word_vectors_free(&vectors);
        }
        vocabulary_free(vocabulary);
    }
    free(text);
}

/* What comes behind the first vector is not looked at. */
static void the_width_is_known_from_the_first_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *error;
        int64_t width;
    } cases[] = {{"the 1 2\nx 3\n", NULL, 2},
                 {"\xEF\xBB\xBF"
                  "5 2\nthe 1 2\n",
                  NULL, 2},
                 {"the 1 2\n", "some.txt:1:1: 2 numbers behind the word; vectors of 3 are expected", 3},
                 {"5 2\nthe 1 2\n", "some.txt:1:1: the header says vectors of 2 numbers", 3},
                 {"5 2\n", "there is no vector", 2},
                 {"", "there is no vector", 2}};
    const char *path = in_scratch("some.txt");
    for (int i = 0; i < (int)(sizeof cases / sizeof *cases); ++i) {
        write_plain(path, cases[i].text, strlen(cases[i].text));
        if (cases[i].error == NULL)
            assert_ok(word_vectors_check(path, cases[i].width));
        else
            assert_fails(word_vectors_check(path, cases[i].width), STATUS_INPUT, cases[i].error);
    }
    assert_ok(word_vectors_check("/nowhere/vectors.txt.gz", 2));
    assert_fails(word_vectors_check("/nowhere/vectors.txt", 2), STATUS_IO, "/nowhere/vectors.txt");
}

static void compressed_files_are_read_too(void **state)
{
    (void)state;
    const char *path = in_scratch("vectors.txt.gz");
    gzFile file = gzopen(path, "wb");
    assert_non_null(file);
    assert_true(gzputs(file, "the 1 2\nx 3\n") > 0);
    assert_int_equal(gzclose(file), Z_OK);
    Vocabulary *vocabulary = vocabulary_of(words, WORDS);
    WordVectors vectors;
    assert_fails(word_vectors_read(path, vocabulary, 2, &vectors), STATUS_INPUT,
                 "vectors.txt.gz:2:1: 1 numbers");
    file = gzopen(path, "wb");
    assert_non_null(file);
    assert_true(gzputs(file, "the 1 2\nx 3 4\n") > 0);
    assert_int_equal(gzclose(file), Z_OK);
    assert_ok(word_vectors_read(path, vocabulary, 2, &vectors));
    assert_vector(&vectors, 1, 1, 2);
    word_vectors_free(&vectors);
    assert_fails(word_vectors_read(in_scratch("absent.txt"), vocabulary, 2, &vectors), STATUS_IO,
                 "absent.txt");
    write_plain(in_scratch("empty.txt"), "", 0);
    assert_fails(word_vectors_read(in_scratch("empty.txt"), vocabulary, 2, &vectors), STATUS_INPUT,
                 "no vector");
    vocabulary_free(vocabulary);
}

/* ---- Real vectors ---- */

static void real_vectors_are_read(void **state)
{
    (void)state;
    static const char *const odd[] = {". . .",
                                      "at name@domain.com",
                                      ". . . . .",
                                      "to name@domain.com",
                                      "the",
                                      "1",
                                      "-",
                                      "0.5",
                                      "caf\xC3\xA9",
                                      "\xE2\x80\x9C",
                                      ("a\xC2\xA0"
                                       "b")};
    static const float first[] = {-0.082752F, 0.012001F, 0.27204F,  -0.18567F,  0.31924F, 0.060216F,
                                  0.043798F,  0.089187F, 0.008746F, -0.084961F, -0.17224F};
    Vocabulary *vocabulary = vocabulary_of(odd, 11);
    WordVectors vectors;
    assert_ok(word_vectors_read(test_data_or_skip("glove/odd-words.300d.txt.gz"), vocabulary, 300, &vectors));
    assert_int_equal(vectors.lines, 11);
    assert_int_equal(vectors.found, 11);
    for (int w = 0; w < 11; ++w)
        assert_true(vectors.vector[300 * (w + 1)] == first[w]);
    word_vectors_free(&vectors);
    assert_ok(word_vectors_read(test_data_or_skip("glove/glove.6B.50d.first9163.txt.gz"), vocabulary, 50,
                                &vectors));
    assert_int_equal(vectors.lines, 9163);
    assert_true(vectors.known[5] && vectors.vector[5 * 50] == 0.418F);
    word_vectors_free(&vectors);
    assert_fails(
        word_vectors_read(test_data_or_skip("glove/glove.6B.50d.first9163.txt.gz"), vocabulary, 25, &vectors),
        STATUS_INPUT, ".txt.gz:1:1: 50 numbers behind the word; vectors of 25 are expected");
    /* A copy that was damaged: words that are lost, and a last line that is cut short. */
    assert_fails(word_vectors_read(test_data_or_skip("glove/glove.840B.300d.first600.txt.gz"), vocabulary,
                                   300, &vectors),
                 STATUS_INPUT, ".txt.gz:601:1: 181 numbers behind the word; vectors of 300 are expected");
    assert_ok(word_vectors_read(test_data_or_skip("vectors.100d.txt.gz"), vocabulary, 100, &vectors));
    assert_int_equal(vectors.lines, 30000);
    word_vectors_free(&vectors);
    vocabulary_free(vocabulary);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_those_of_strtof),
        cmocka_unit_test(random_numbers_are_those_of_strtof),
        cmocka_unit_test(the_last_fields_are_numbers_and_the_rest_is_the_word),
        cmocka_unit_test(the_first_of_several_counts),
        cmocka_unit_test(bad_files_are_errors_with_a_place),
        SCRATCH(large_files_are_read_in_parts),
        SCRATCH(compressed_files_are_read_too),
        SCRATCH(the_width_is_known_from_the_first_line),
        cmocka_unit_test(real_vectors_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
