/* Reading the 20 Newsgroups, and how documents are split. */
#include "tests/scratch.h"

#include "engine/base/file.h"
#include "engine/base/random.h"
#include "nlp/newsgroups.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void put(const char *name, const char *text)
{
    char folder[PATH_MAX];
    (void)snprintf(folder, sizeof folder, "%s", in_scratch(name));
    *strrchr(folder, '/') = '\0';
    assert_ok(file_make_folder(folder));
    write_plain(in_scratch(name), text, strlen(text));
}

static void assert_text(const Documents *documents, int64_t document, const char *name, int32_t label,
                        const char *text)
{
    assert_string_equal(documents_name(documents, document), name);
    assert_int_equal(documents->label[document], label);
    const TextSpan got = documents_text(documents, document);
    if (!text_span_equal(got, text_span(text))) {
        print_error("%s is \"%.*s\", expected \"%s\"\n", name, (int)got.size, got.data, text);
        _fail(__FILE__, __LINE__);
    }
}

static void messages_lose_their_headers(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *text;
        bool header;
    } cases[] = {
        {"", "", false},
        {"From: me\nSubject: x\n\nHello\n\nBye\n", "\n\nHello\n\nBye\n", true},
        {"From: me\r\n\r\nHello\r\n", "\n\nHello\n", true},
        {"From: me\r\rHello\r", "\n\nHello\n", true},
        {"From: me\n\r\nHello", "\n\nHello", true},
        {"no blank line\nat all", "no blank line\nat all", false},
        {"\n\nA message that begins with one\n\nis whole", "\n\nA message that begins with one\n\nis whole",
         false},
        {"\nSubject: x\n\nHello", "\n\nHello", true},
        {"x\n\n", "\n\n", true},
        {"x\n\n\n\ny", "\n\n\n\ny", true},
        {"caf\xE9\n\n\xA0\xFF\x80", "\n\n\xC2\xA0\xC3\xBF\xC2\x80", true},
        {"\xC9\n\n", "\n\n", true},
        {"x\n \ny", "x\n \ny", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        const size_t size = strlen(cases[i].bytes);
        char *out = malloc(2 * size + 1);
        assert_non_null(out);
        bool header;
        const size_t made = newsgroups_message(cases[i].bytes, size, out, &header);
        assert_int_equal(made, strlen(cases[i].text));
        assert_memory_equal(out, cases[i].text, made);
        assert_int_equal(header, cases[i].header);
        free(out);
    }
}

static void headers_are_told_from_text(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        bool header;
    } cases[] = {{"From: me\nSubject: x\n\nHello", true},
                 {"From: me\r\nX-a: b\r\n\r\nHello\r\n", true},
                 {"References: a\n\tb\n c\n\nHello", true},
                 {" id AA1\nFrom: me\n\n", true},
                 {"", false},
                 {"\n\nFrom: me\n\n", false},
                 {"From: me\nHello", false},
                 {"From: me\n", false},
                 {"A first paragraph.\n\nA second one.\n", false},
                 {"Note to all: read\n\nthis\n", false},
                 {"  indented\n\ntext\n", false},
                 {": no name\n\ntext\n", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i)
        assert_int_equal(newsgroups_has_header(cases[i].bytes, strlen(cases[i].bytes)), cases[i].header);
}

static void put_by_date(void)
{
    put("news/20news-bydate-train/sci.med/9", "h\n\nnine");
    put("news/20news-bydate-train/sci.med/10", "h\n\nten");
    put("news/20news-bydate-train/alt.atheism/3", "h\n\n \n\t\n");
    put("news/20news-bydate-test/alt.atheism/1", "no header");
    put("news/20news-bydate-test/sci.med/2", "h\n\ntwo");
}

static void both_parts_are_read_in_order_and_debris_is_not(void **state)
{
    (void)state;
    put_by_date();
    put("news/20news-bydate-train/.DS_Store", "x");
    put("news/20news-bydate-train/__MACOSX/alt.atheism/7", "x");
    put("news/20news-bydate-train/README", "x");
    put("news/20news-bydate-train/sci.med/._9", "x");
    put("news/20news-bydate-train/sci.med/9.bak", "x");
    put("news/20news-bydate-train/sci.med/-9", "x");
    put("news/20news-bydate-test/sci.med/Thumbs.db", "x");
    put("news/20news-bydate-test/sci.med/index.html", "x");
    Documents documents;
    assert_ok(newsgroups_read(in_scratch("news"), NEWSGROUPS_ANY, &documents));
    assert_int_equal(documents.count, 5);
    assert_int_equal(documents.given_train, 3);
    assert_int_equal(documents.classes, 2);
    assert_string_equal(documents.class_name[0], "alt.atheism");
    assert_string_equal(documents.class_name[1], "sci.med");
    assert_text(&documents, 0, "20news-bydate-train/alt.atheism/3", 0, "\n\n \n\t\n");
    assert_text(&documents, 1, "20news-bydate-train/sci.med/10", 1, "\n\nten"); /* as strings: 10 before 9 */
    assert_text(&documents, 2, "20news-bydate-train/sci.med/9", 1, "\n\nnine");
    assert_text(&documents, 3, "20news-bydate-test/alt.atheism/1", 0, "no header");
    assert_text(&documents, 4, "20news-bydate-test/sci.med/2", 1, "\n\ntwo");
    assert_int_equal(documents.read.debris, 4);
    assert_int_equal(documents.read.unnamed, 3);
    assert_int_equal(documents.read.no_header, 1);
    assert_int_equal(documents.read.empty, 1);
    documents_free(&documents);
}

static void one_folder_is_read_by_any_of_its_names(void **state)
{
    (void)state;
    static const char *const names[] = {"20_newsgroups", "20_newsgroup", "mine"};
    for (int i = 0; i < 3; ++i) {
        char name[128];
        (void)snprintf(name, sizeof name, "of%d/%s/a/1", i, names[i]);
        put(name, "h\n\none");
        (void)snprintf(name, sizeof name, "of%d/%s/b/1", i, names[i]);
        put(name, "h\n\ntwo");
        (void)snprintf(name, sizeof name, "of%d", i);
        Documents documents;
        if (i < 2) {
            assert_ok(newsgroups_read(in_scratch(name), NEWSGROUPS_ANY, &documents));
            assert_int_equal(documents.count, 2);
            assert_int_equal(documents.given_train, -1);
            (void)snprintf(name, sizeof name, "%s/b/1", names[i]);
            assert_text(&documents, 1, name, 1, "\n\ntwo");
            documents_free(&documents);
        }
        (void)snprintf(name, sizeof name, "of%d/%s", i, names[i]);
        assert_ok(newsgroups_read(in_scratch(name), NEWSGROUPS_SINGLE, &documents));
        assert_text(&documents, 1, "b/1", 1, "\n\ntwo");
        documents_free(&documents);
    }
}

static void a_layout_can_be_chosen(void **state)
{
    (void)state;
    put_by_date();
    Documents documents;
    assert_fails(newsgroups_read(in_scratch("news"), NEWSGROUPS_SINGLE, &documents), STATUS_INPUT,
                 "there is neither layout of the 20 Newsgroups: 20_newsgroups");
    put("news/20_newsgroups/a/1", "x");
    assert_ok(newsgroups_read(in_scratch("news"), NEWSGROUPS_SINGLE, &documents));
    assert_int_equal(documents.count, 1);
    documents_free(&documents);
    assert_ok(newsgroups_read(in_scratch("news"), NEWSGROUPS_BY_DATE, &documents));
    assert_int_equal(documents.count, 5);
    documents_free(&documents);
    put("single/20_newsgroups/a/1", "x");
    assert_fails(newsgroups_read(in_scratch("single"), NEWSGROUPS_BY_DATE, &documents), STATUS_INPUT,
                 "20news-bydate-train and 20news-bydate-test are looked for");
}

static void bad_folders_are_errors_that_name_them(void **state)
{
    (void)state;
    Documents documents;
    assert_fails(newsgroups_read(in_scratch("absent"), NEWSGROUPS_ANY, &documents), STATUS_INPUT,
                 "absent: there is no such folder");
    put("files/README", "x");
    assert_fails(
        newsgroups_read(in_scratch("files"), NEWSGROUPS_ANY, &documents), STATUS_INPUT,
        "files: there is neither layout of the 20 Newsgroups: 20news-bydate-train and 20news-bydate-test, "
        "20_newsgroups, or folders of classes are looked for");
    put("none/20_newsgroups/README", "x");
    assert_fails(newsgroups_read(in_scratch("none"), NEWSGROUPS_ANY, &documents), STATUS_INPUT,
                 "20_newsgroups: a folder without classes");
    put("empty/20_newsgroups/a/1", "x");
    put("empty/20_newsgroups/b/notes", "x");
    assert_fails(newsgroups_read(in_scratch("empty"), NEWSGROUPS_ANY, &documents), STATUS_INPUT,
                 "20_newsgroups/b: this class has no document");
    put_by_date();
    assert_fails(newsgroups_read(in_scratch("news/20news-bydate-train/"), NEWSGROUPS_ANY, &documents),
                 STATUS_INPUT, "this is one of the two parts by date");
    put("news/20news-bydate-test/rec.autos/1", "x");
    assert_fails(newsgroups_read(in_scratch("news"), NEWSGROUPS_ANY, &documents), STATUS_INPUT,
                 "20news-bydate-test: the class rec.autos is only in the test part");
    put("lost/20news-bydate-train/a/1", "x");
    put("lost/20news-bydate-train/b/1", "x");
    put("lost/20news-bydate-test/b/1", "x");
    assert_fails(newsgroups_read(in_scratch("lost"), NEWSGROUPS_ANY, &documents), STATUS_INPUT,
                 "20news-bydate-test: the class a is only in the training part");
    put("half/20news-bydate-train/a/1", "x");
    assert_fails(newsgroups_read(in_scratch("half"), NEWSGROUPS_ANY, &documents), STATUS_INPUT,
                 "half: there is ");
    /* A folder with the name of a message cannot be read as one; root may read all else. */
    put("strange/20_newsgroups/a/12/x", "x");
    assert_fails(newsgroups_read(in_scratch("strange"), NEWSGROUPS_ANY, &documents), STATUS_IO,
                 "20_newsgroups/a/12: it is a folder");
    assert_null(documents.text);
    if (geteuid() != 0) {
        put("secret/20_newsgroups/a/12", "x");
        assert_int_equal(chmod(in_scratch("secret/20_newsgroups/a/12"), 0), 0);
        assert_fails(newsgroups_read(in_scratch("secret"), NEWSGROUPS_ANY, &documents), STATUS_IO, "a/12");
    }
}

/* ---- Splits ---- */

/* `count` documents, number i with the text i / 2. */
static void make_documents(Documents *documents, int64_t count, int64_t given_train)
{
    *documents = (Documents){.count = count, .given_train = given_train};
    documents->text = calloc((size_t)count, 8);
    documents->text_start = calloc((size_t)count + 1, sizeof *documents->text_start);
    assert_non_null(documents->text);
    assert_non_null(documents->text_start);
    for (int64_t i = 0; i < count; ++i) {
        char *text = documents->text + documents->text_start[i];
        const int size = snprintf(text, 8, "%d", (int)(i / 2 % 1000000));
        documents->text_start[i + 1] = documents->text_start[i] + size;
    }
}

/* Each document is in one part, and each part rises. */
static void assert_is_a_split(const Documents *documents, const DocumentsSplit *split)
{
    const int64_t *const parts[] = {split->train, split->validation, split->test};
    const int64_t counts[] = {split->train_count, split->validation_count, split->test_count};
    char *seen = calloc((size_t)documents->count, 1);
    assert_non_null(seen);
    int64_t total = 0;
    for (int p = 0; p < 3; ++p)
        for (int64_t i = 0; i < counts[p]; ++i, ++total) {
            assert_true(i == 0 || parts[p][i] > parts[p][i - 1]);
            assert_int_equal(seen[parts[p][i]]++, 0);
        }
    assert_int_equal(total, documents->count);
    free(seen);
}

static void the_published_formula_splits_at_random(void **state)
{
    (void)state;
    static const struct {
        int64_t count, train, test;
    } cases[] = {{19997, 15098, 3999}, {18846, 14177, 3769}, {18828, 14163, 3765}, {1126, 1, 225}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        Documents documents;
        make_documents(&documents, cases[i].count, i == 1 ? 11314 : -1);
        const DocumentsSplitOptions options = {.rule = DOCUMENTS_AT_RANDOM, .validation = 900, .seed = 1};
        DocumentsSplit split, again;
        assert_ok(documents_split(&documents, &options, &split));
        assert_is_a_split(&documents, &split);
        assert_int_equal(split.train_count, cases[i].train);
        assert_int_equal(split.validation_count, 900);
        assert_int_equal(split.test_count, cases[i].test);
        assert_ok(documents_split(&documents, &options, &again));
        assert_memory_equal(split.test, again.test, (size_t)split.test_count * sizeof *split.test);
        documents_split_free(&again);
        const DocumentsSplitOptions other = {.rule = DOCUMENTS_AT_RANDOM, .validation = 900, .seed = 2};
        assert_ok(documents_split(&documents, &other, &again));
        assert_memory_not_equal(split.test, again.test, (size_t)split.test_count * sizeof *split.test);
        documents_split_free(&again);
        documents_split_free(&split);
        documents_free(&documents);
    }
}

/* The order of the published code: shuffled, the test documents are the last, validation before them. */
static void the_parts_are_places_of_one_shuffle(void **state)
{
    (void)state;
    enum { COUNT = 20 };
    Documents documents;
    make_documents(&documents, COUNT, -1);
    const DocumentsSplitOptions options = {.rule = DOCUMENTS_AT_RANDOM, .validation = 3, .seed = 7};
    DocumentsSplit split;
    assert_ok(documents_split(&documents, &options, &split));
    int64_t order[COUNT];
    random_shuffle(7, RANDOM_SPLIT, 0, order, COUNT);
    for (int place = 0; place < COUNT; ++place) {
        const int64_t *part = place < 13 ? split.train : place < 16 ? split.validation : split.test;
        const int64_t count = place < 13 ? 13 : place < 16 ? 3 : 4;
        bool found = false;
        for (int64_t i = 0; i < count; ++i)
            found = found || part[i] == order[place];
        assert_true(found);
    }
    documents_split_free(&split);
    documents_free(&documents);
}

static void by_date_validation_is_held_out_of_training(void **state)
{
    (void)state;
    Documents documents;
    make_documents(&documents, 18846, 11314);
    const DocumentsSplitOptions options = {.rule = DOCUMENTS_BY_DATE, .validation = 900, .seed = 1};
    DocumentsSplit split;
    assert_ok(documents_split(&documents, &options, &split));
    assert_is_a_split(&documents, &split);
    assert_int_equal(split.train_count, 10414);
    assert_int_equal(split.validation_count, 900);
    assert_int_equal(split.test_count, 7532);
    for (int64_t i = 0; i < split.test_count; ++i)
        assert_int_equal(split.test[i], 11314 + i);
    documents_split_free(&split);
    documents_free(&documents);
}

static void splits_that_leave_nothing_are_errors(void **state)
{
    (void)state;
    static const struct {
        int64_t count, given_train;
        DocumentsSplitOptions options;
        const char *message;
    } cases[] = {
        {10, -1, {DOCUMENTS_BY_DATE, 1, 0}, "a split by date needs documents that come in two parts"},
        {10, 10, {DOCUMENTS_BY_DATE, 1, 0}, "no document is given for test"},
        {10,
         5,
         {DOCUMENTS_BY_DATE, 5, 0},
         "5 documents for validation and 0 for test leave none of the 5 training"},
        {10, 5, {DOCUMENTS_BY_DATE, 0, 0}, "0 documents for validation"},
        {10,
         -1,
         {DOCUMENTS_AT_RANDOM, 8, 0},
         "8 documents for validation and 2 for test leave none of the 10"},
        {10, -1, {DOCUMENTS_AT_RANDOM, -900, 0}, "-900 documents for validation"},
        {4, -1, {DOCUMENTS_AT_RANDOM, 1, 0}, "4 documents are too few"},
        {10, -1, {DOCUMENTS_AT_RANDOM, INT64_MAX, 0}, "leave none"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        Documents documents;
        make_documents(&documents, cases[i].count, cases[i].given_train);
        DocumentsSplit split;
        assert_fails(documents_split(&documents, &cases[i].options, &split), STATUS_INPUT, cases[i].message);
        assert_null(split.train);
        documents_free(&documents);
    }
}

static void texts_that_two_parts_share_are_counted(void **state)
{
    (void)state;
    Documents documents;
    make_documents(&documents, 10, -1); /* texts 0 0 1 1 2 2 3 3 4 4 */
    static const int64_t one[] = {0, 1, 2, 9}, other[] = {3, 4, 5, 8};
    int64_t shared;
    assert_ok(documents_shared(&documents, one, 4, other, 4, &shared));
    assert_int_equal(shared, 2);
    assert_ok(documents_shared(&documents, one, 4, other, 0, &shared));
    assert_int_equal(shared, 0);
    for (int i = 0; i <= 10; ++i)
        documents.text_start[i] = 0; /* all empty */
    assert_ok(documents_shared(&documents, one, 4, other, 4, &shared));
    assert_int_equal(shared, 0);
    documents_free(&documents);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_lose_their_headers),
        cmocka_unit_test(headers_are_told_from_text),
        SCRATCH(both_parts_are_read_in_order_and_debris_is_not),
        SCRATCH(one_folder_is_read_by_any_of_its_names),
        SCRATCH(a_layout_can_be_chosen),
        SCRATCH(bad_folders_are_errors_that_name_them),
        cmocka_unit_test(the_published_formula_splits_at_random),
        cmocka_unit_test(the_parts_are_places_of_one_shuffle),
        cmocka_unit_test(by_date_validation_is_held_out_of_training),
        cmocka_unit_test(splits_that_leave_nothing_are_errors),
        cmocka_unit_test(texts_that_two_parts_share_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
