#include "nlp/lines.h"

#include "engine/base/memory.h"
#include "nlp/utf8.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- in ---- */

enum { READ_BYTES = 1 << 16, WRITE_BYTES = 1 << 16 };

struct LineReader {
    int descriptor;
    char *name;
    char *bytes; /* what was read and not yet given */
    size_t start, end, capacity;
    size_t searched; /* up to there is no LF, from `start` on */
    bool begun;      /* the first line was given */
    bool at_end;     /* of the input */
    bool cut;        /* of the line at `start` something was left out */
};

Status line_reader_open(int descriptor, const char *name, LineReader **out)
{
    *out = NULL;
    LineReader *reader;
    TRY(memory_new(&reader, 1, sizeof *reader, "a reader of lines"));
    reader->descriptor = descriptor;
    const Status status = text_copy(name, &reader->name);
    if (status != OK) {
        line_reader_close(reader);
        return status;
    }
    *out = reader;
    return OK;
}

void line_reader_close(LineReader *reader)
{
    if (reader == NULL) return;
    free(reader->name);
    free(reader->bytes);
    free(reader);
}

bool line_reader_ended(const LineReader *reader)
{
    return reader->at_end && reader->start == reader->end && !reader->cut;
}

/* Reads once. *any: was there something, be it the end? Only then false where nothing is to be had without waiting. */
static Status read_more(LineReader *reader, bool wait, bool *any)
{
    struct pollfd ready = {.fd = reader->descriptor, .events = POLLIN};
    *any = false;
    if (!wait && poll(&ready, 1, 0) == 0) return OK;
    if (reader->start > 0) {
        memmove(reader->bytes, reader->bytes + reader->start, reader->end - reader->start);
        reader->end -= reader->start;
        reader->searched -= reader->start;
        reader->start = 0;
    }
    TRY(memory_grow(&reader->bytes, &reader->capacity, reader->end + READ_BYTES, 1, "a line"));
    ssize_t got;
    do
        got = read(reader->descriptor, reader->bytes + reader->end, READ_BYTES);
    while (got < 0 && errno == EINTR);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        if (wait) (void)poll(&ready, 1, -1);
        *any = wait;
        return OK;
    }
    if (got < 0) return fail(STATUS_IO, "%s cannot be read: %s", reader->name, strerror(errno));
    reader->at_end = got == 0;
    reader->end += (size_t)got;
    *any = true;
    return OK;
}

Status line_reader_next(LineReader *reader, bool wait, Line *line, bool *got)
{
    *got = false;
    for (;;) {
        const char *feed = reader->searched < reader->end ? memchr(reader->bytes + reader->searched, '\n',
                                                                   reader->end - reader->searched)
                                                          : NULL;
        if (feed != NULL || (reader->at_end && !line_reader_ended(reader))) {
            const size_t end = feed != NULL ? (size_t)(feed - reader->bytes) : reader->end;
            TextSpan text = {.data = reader->bytes + reader->start, .size = end - reader->start};
            if (feed != NULL && !reader->cut && text.size > 0 && feed[-1] == '\r') --text.size;
            if (text.size > LINE_MOST_BYTES) {
                text.size = LINE_MOST_BYTES;
                reader->cut = true;
            }
            if (!reader->begun) { /* a mark that some editors write */
                const size_t mark = text_mark_bytes(text.data, text.size);
                text = (TextSpan){.data = text.data + mark, .size = text.size - mark};
            }
            reader->begun = true;
            *line = (Line){.text = text, .cut = reader->cut};
            reader->start = reader->searched = feed != NULL ? end + 1 : end;
            reader->cut = false;
            *got = true;
            return OK;
        }
        if (reader->at_end) return OK;
        reader->searched = reader->end;
        /* The rest of an endless line needs no memory. One byte more is kept: it may be the CR of the line's end. */
        if (reader->end - reader->start > LINE_MOST_BYTES + 1) {
            reader->searched = reader->end = reader->start + LINE_MOST_BYTES + 1;
            reader->cut = true;
        }
        bool any;
        TRY(read_more(reader, wait, &any));
        if (!any) return OK;
    }
}

Status line_reader_wait(const LineReader *reader, double seconds)
{
    struct pollfd ready = {.fd = reader->descriptor, .events = POLLIN};
    if (poll(&ready, 1, (int)(seconds * 1000)) < 0 && errno != EINTR)
        return fail(STATUS_IO, "%s cannot be waited for: %s", reader->name, strerror(errno));
    return OK;
}

/* The white space of Unicode, as UTF-8, beside that of ASCII. */
static size_t white_space(const char *text, size_t size)
{
    static const char *const spaces[] = {"\xC2\x85",     "\xC2\xA0",     "\xE1\x9A\x80", "\xE2\x80\xA8",
                                         "\xE2\x80\xA9", "\xE2\x80\xAF", "\xE2\x81\x9F", "\xE3\x80\x80"};
    const unsigned char first = (unsigned char)text[0];
    if (first == ' ' || (first >= 9 && first <= 13) || (first >= 0x1C && first <= 0x1F) || first == 0)
        return 1;
    for (size_t i = 0; i < sizeof spaces / sizeof *spaces; ++i) {
        const size_t bytes = strlen(spaces[i]);
        if (size >= bytes && memcmp(text, spaces[i], bytes) == 0) return bytes;
    }
    /* U+2000 to U+200A */
    if (size >= 3 && memcmp(text, "\xE2\x80", 2) == 0 && (unsigned char)text[2] >= 0x80 &&
        (unsigned char)text[2] <= 0x8A)
        return 3;
    return 0;
}

bool line_is_blank(TextSpan line)
{
    for (size_t at = 0; at < line.size;) {
        const size_t bytes = white_space(line.data + at, line.size - at);
        if (bytes == 0) return false;
        at += bytes;
    }
    return true;
}

/* The bytes before the first that is no part of UTF-8, or is a NUL. */
static size_t good_bytes(const char *text, size_t size)
{
    const char *nul = size > 0 ? memchr(text, '\0', size) : NULL;
    return utf8_invalid(text, nul != NULL ? (size_t)(nul - text) : size);
}

Status line_to_utf8(TextSpan line, char **copy, size_t *size, bool *changed)
{
    static const char replacement[] = "\xEF\xBF\xBD";
    size_t wrong = 0;
    for (size_t at = 0; (at += good_bytes(line.data + at, line.size - at)) < line.size; ++at)
        ++wrong;
    TRY(memory_new(copy, line.size + wrong * (sizeof replacement - 2) + 1, 1, "a line"));
    char *to = *copy;
    for (size_t at = 0; at < line.size;) {
        const size_t good = good_bytes(line.data + at, line.size - at);
        memcpy(to, line.data + at, good);
        to += good;
        at += good;
        if (at == line.size) break;
        memcpy(to, replacement, sizeof replacement - 1);
        to += sizeof replacement - 1;
        ++at;
    }
    *size = (size_t)(to - *copy);
    *changed = wrong > 0;
    return OK;
}

/* ---- out ---- */

size_t line_print_number(char text[LINE_NUMBER_BYTES], double number)
{
    return (size_t)snprintf(text, LINE_NUMBER_BYTES, "%.6f", number);
}

struct LineWriter {
    int descriptor;
    char *name, *bytes;
    size_t count, capacity;
    bool at_once, closed;
};

Status line_writer_open(int descriptor, const char *name, bool at_once, LineWriter **out)
{
    *out = NULL;
    LineWriter *writer;
    TRY(memory_new(&writer, 1, sizeof *writer, "a writer of lines"));
    writer->descriptor = descriptor;
    writer->at_once = at_once;
    const Status status = text_copy(name, &writer->name);
    if (status != OK) {
        line_writer_close(writer);
        return status;
    }
    *out = writer;
    return OK;
}

void line_writer_close(LineWriter *writer)
{
    if (writer == NULL) return;
    free(writer->name);
    free(writer->bytes);
    free(writer);
}

bool line_writer_closed(const LineWriter *writer) { return writer->closed; }

Status line_writer_flush(LineWriter *writer)
{
    size_t done = 0;
    while (done < writer->count && !writer->closed) {
        const ssize_t wrote = write(writer->descriptor, writer->bytes + done, writer->count - done);
        if (wrote >= 0) {
            done += (size_t)wrote;
        } else if (errno == EPIPE) {
            writer->closed = true;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            struct pollfd ready = {.fd = writer->descriptor, .events = POLLOUT};
            (void)poll(&ready, 1, -1);
        } else if (errno != EINTR) {
            return fail(STATUS_IO, "%s cannot be written: %s", writer->name, strerror(errno));
        }
    }
    writer->count = 0;
    return OK;
}

Status line_writer_write(LineWriter *writer, const char *text, size_t size)
{
    if (writer->closed) return OK;
    TRY(memory_grow(&writer->bytes, &writer->capacity, writer->count + size + 1, 1, "lines to write"));
    for (size_t i = 0; i < size; ++i)
        writer->bytes[writer->count++] = text[i] == '\n' || text[i] == '\r' ? ' ' : text[i];
    writer->bytes[writer->count++] = '\n';
    return writer->at_once || writer->count >= WRITE_BYTES ? line_writer_flush(writer) : OK;
}
