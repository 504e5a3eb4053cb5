/* Lines in as they come, and out. */
#include "nlp/lines.h"
#include "tests/support.h"

#include <fcntl.h>
#include <float.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    int in, out; /* ends of a pipe */
    LineReader *reader;
} Pipe;

static Pipe open_pipe(void)
{
    Pipe pipe_ends;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pipe_ends.in = ends[0];
    pipe_ends.out = ends[1];
    assert_ok(line_reader_open(pipe_ends.in, "the pipe", &pipe_ends.reader));
    return pipe_ends;
}

static void put(const Pipe *pipe_ends, const char *text, size_t size)
{
    assert_int_equal(write(pipe_ends->out, text, size), (ssize_t)size);
}

static void close_pipe(Pipe *pipe_ends)
{
    line_reader_close(pipe_ends->reader);
    (void)close(pipe_ends->in);
}

static void expect_line(Pipe *pipe_ends, const char *text, size_t size)
{
    Line line;
    bool got;
    assert_ok(line_reader_next(pipe_ends->reader, false, &line, &got));
    assert_true(got && !line.cut);
    assert_int_equal(line.text.size, size);
    assert_memory_equal(line.text.data, text, size);
}

static void expect_none(Pipe *pipe_ends)
{
    Line line;
    bool got;
    assert_ok(line_reader_next(pipe_ends->reader, false, &line, &got));
    assert_false(got);
}

static void test_lines_come_as_they_are_whole(void **state)
{
    (void)state;
    Pipe pipe_ends = open_pipe();
    expect_none(&pipe_ends);
    put(&pipe_ends, "one\ntw", 6);
    expect_line(&pipe_ends, "one", 3);
    expect_none(&pipe_ends);
    put(&pipe_ends, "o\n\nc\rd\r\r\nn\0l\xE2\x80\xA8\x85\n",
        17); /* LF or CR LF ends a line, and nothing else */
    expect_line(&pipe_ends, "two", 3);
    expect_line(&pipe_ends, "", 0);
    expect_line(&pipe_ends, "c\rd\r", 4);
    expect_line(&pipe_ends, "n\0l\xE2\x80\xA8\x85", 7);
    put(&pipe_ends, "in pieces\r", 10);
    expect_none(&pipe_ends);
    put(&pipe_ends, "\nlast\r", 6);
    expect_line(&pipe_ends, "in pieces", 9);
    expect_none(&pipe_ends);
    assert_false(line_reader_ended(pipe_ends.reader));
    (void)close(pipe_ends.out);
    expect_line(&pipe_ends, "last\r", 5);
    assert_true(line_reader_ended(pipe_ends.reader));
    expect_none(&pipe_ends);
    close_pipe(&pipe_ends);
}

/* A byte order mark is no part of the first line; elsewhere it is. */
static void test_a_mark_is_skipped(void **state)
{
    (void)state;
    Pipe pipe_ends = open_pipe();
    put(&pipe_ends, "\xEF\xBB", 2);
    expect_none(&pipe_ends);
    put(&pipe_ends,
        "\xBF"
        "one\n\xEF\xBB\xBFtwo\n",
        12);
    expect_line(&pipe_ends, "one", 3);
    expect_line(&pipe_ends, "\xEF\xBB\xBFtwo", 6);
    (void)close(pipe_ends.out);
    close_pipe(&pipe_ends);
}

static void test_an_input_may_be_empty(void **state)
{
    (void)state;
    Pipe pipe_ends = open_pipe();
    (void)close(pipe_ends.out);
    Line line;
    bool got;
    assert_ok(line_reader_next(pipe_ends.reader, true, &line, &got));
    assert_true(!got && line_reader_ended(pipe_ends.reader));
    close_pipe(&pipe_ends);
}

/* A file of one line that is too long, one that just fits, and a short one. */
static void test_endless_lines_are_cut(void **state)
{
    (void)state;
    char folder[4096], path[4200];
    test_scratch_make(folder);
    (void)snprintf(path, sizeof path, "%s/lines", folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    for (int64_t i = 0; i < 3 * (int64_t)LINE_MOST_BYTES; ++i)
        (void)fputc('a' + (int)(i % 26), file);
    (void)fputc('\n', file);
    for (int64_t i = 0; i < LINE_MOST_BYTES; ++i)
        (void)fputc('b', file);
    (void)fputs("\r\nshort\n", file);
    assert_int_equal(fclose(file), 0);
    const int descriptor = open(path, O_RDONLY);
    LineReader *reader;
    Line line;
    bool got;
    assert_ok(line_reader_open(descriptor, path, &reader));
    assert_ok(line_reader_next(reader, true, &line, &got));
    assert_true(got && line.cut && line.text.size == LINE_MOST_BYTES);
    for (size_t i = 0; i < line.text.size; ++i)
        if (line.text.data[i] != 'a' + (char)(i % 26)) assert_int_equal(i, 0);
    assert_ok(line_reader_next(reader, true, &line, &got));
    assert_true(got && !line.cut && line.text.size == LINE_MOST_BYTES);
    assert_ok(line_reader_next(reader, true, &line, &got));
    assert_true(got && !line.cut && line.text.size == 5 && memcmp(line.text.data, "short", 5) == 0);
    line_reader_close(reader);
    (void)close(descriptor);
    test_scratch_remove(folder);
}

static void test_blank_lines(void **state)
{
    (void)state;
    static const char *const blank[] = {"",
                                        " ",
                                        "\t \r\v\f",
                                        "\xC2\xA0",
                                        "\xC2\x85\xE1\x9A\x80\xE2\x80\x80\xE2\x80\x8A",
                                        "\xE2\x80\xA8\xE2\x80\xA9\xE2\x80\xAF\xE2\x81\x9F\xE3\x80\x80",
                                        "\x1C\x1F"};
    static const char *const text[] = {"a", "  .", "\xE2\x80\x8B", "\xEF\xBB\xBF", "\xC2", "\xE2\x80"};
    for (size_t i = 0; i < sizeof blank / sizeof *blank; ++i)
        assert_true(line_is_blank(text_span(blank[i])));
    for (size_t i = 0; i < sizeof text / sizeof *text; ++i)
        assert_false(line_is_blank(text_span(text[i])));
}

static void test_wrong_bytes_are_replaced(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to;
    } cases[] = {{"caf\xC3\xA9", "caf\xC3\xA9"},
                 {"\xFF", "\xEF\xBF\xBD"},
                 {"a\xC3(b\xE2\x80", "a\xEF\xBF\xBD(b\xEF\xBF\xBD\xEF\xBF\xBD"},
                 {"\xED\xA0\x80!", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD!"},
                 {"", ""}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        char *copy;
        size_t size;
        bool changed;
        assert_ok(line_to_utf8(text_span(cases[i].from), &copy, &size, &changed));
        assert_int_equal(size, strlen(cases[i].to));
        assert_memory_equal(copy, cases[i].to, size);
        assert_true(changed == (strcmp(cases[i].from, cases[i].to) != 0));
        free(copy);
    }
    char *copy;
    size_t size;
    bool changed;
    assert_ok(line_to_utf8((TextSpan){.data = "a\0b\xFF", .size = 4}, &copy, &size, &changed));
    assert_true(changed && size == 8 &&
                memcmp(copy,
                       "a\xEF\xBF\xBD"
                       "b\xEF\xBF\xBD",
                       8) == 0);
    free(copy);
}

/* ---- out ---- */

static void test_the_longest_number_has_room(void **state)
{
    (void)state;
    char text[LINE_NUMBER_BYTES];
    const size_t size = line_print_number(text, -DBL_MAX);
    assert_int_equal(size, strlen(text));
    assert_true(strtod(text, NULL) == -DBL_MAX && strcmp(text + strlen(text) - 7, ".000000") == 0);
    assert_int_equal(line_print_number(text, -1.5), 9);
    assert_string_equal(text, "-1.500000");
}

static void expect_bytes(int descriptor, const char *want)
{
    char got[256] = "";
    const ssize_t size = read(descriptor, got, sizeof got - 1);
    assert_int_equal(size, (ssize_t)strlen(want));
    assert_string_equal(got, want);
}

static void test_lines_go_out_together_or_at_once(void **state)
{
    (void)state;
    int ends[2];
    LineWriter *writer;
    assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
    assert_ok(line_writer_open(ends[1], "the pipe", false, &writer));
    assert_ok(line_writer_write(writer, "one", 3));
    assert_ok(line_writer_write(writer, "t\nw\ro", 5)); /* one line is one line */
    char byte;
    assert_int_equal(read(ends[0], &byte, 1), -1);
    assert_ok(line_writer_flush(writer));
    expect_bytes(ends[0], "one\nt w o\n");
    line_writer_close(writer);
    assert_ok(line_writer_open(ends[1], "the pipe", true, &writer));
    assert_ok(line_writer_write(writer, "", 0));
    expect_bytes(ends[0], "\n");
    line_writer_close(writer);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

static void test_a_reader_may_go(void **state)
{
    (void)state;
    int ends[2];
    LineWriter *writer;
    (void)signal(SIGPIPE, SIG_IGN);
    assert_int_equal(pipe(ends), 0);
    assert_ok(line_writer_open(ends[1], "the pipe", true, &writer));
    (void)close(ends[0]);
    assert_false(line_writer_closed(writer));
    assert_ok(line_writer_write(writer, "gone", 4));
    assert_true(line_writer_closed(writer));
    assert_ok(line_writer_write(writer, "gone", 4));
    line_writer_close(writer);
    (void)close(ends[1]);
    const int full = open("/dev/full", O_WRONLY);
    if (full < 0) return;
    assert_ok(line_writer_open(full, "the standard output", true, &writer));
    assert_fails(line_writer_write(writer, "x", 1), STATUS_IO,
                 "the standard output cannot be written: No space");
    line_writer_close(writer);
    (void)close(full);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_come_as_they_are_whole),
        cmocka_unit_test(test_a_mark_is_skipped),
        cmocka_unit_test(test_an_input_may_be_empty),
        cmocka_unit_test(test_endless_lines_are_cut),
        cmocka_unit_test(test_blank_lines),
        cmocka_unit_test(test_wrong_bytes_are_replaced),
        cmocka_unit_test(test_the_longest_number_has_room),
        cmocka_unit_test(test_lines_go_out_together_or_at_once),
        cmocka_unit_test(test_a_reader_may_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
