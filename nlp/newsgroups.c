#include "nlp/newsgroups.h"

#include "engine/base/file.h"
#include "engine/base/memory.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { MOST_MESSAGE_BYTES = 64 << 20 };

/* ---- One message ---- */

size_t newsgroups_message(const char *bytes, size_t size, char *out, bool *header)
{
    size_t made = 0;
    for (size_t i = 0; i < size; ++i) {
        unsigned char byte = (unsigned char)bytes[i];
        if (byte == '\r') { /* CR LF and CR are LF, as in Python's text mode */
            if (i + 1 < size && bytes[i + 1] == '\n') continue;
            byte = '\n';
        }
        if (byte < 0x80) {
            out[made++] = (char)byte;
        } else {
            out[made++] = (char)(0xC0 | byte >> 6);
            out[made++] = (char)(0x80 | (byte & 0x3F));
        }
    }
    /* The first blank line is looked for, not the first behind the start: a message that begins with one stays whole. */
    const char *blank = memmem(out, made, "\n\n", 2);
    *header = blank != NULL && blank > out;
    if (!*header) return made;
    made -= (size_t)(blank - out);
    memmove(out, blank, made);
    return made;
}

/* "Name:", of printable characters. */
static bool is_field(const char *line, const char *end)
{
    const char *at = line;
    while (at < end && (' ' < *at) && (*at < 0x7F) && *at != ':')
        ++at;
    return at > line && at < end && *at == ':';
}

bool newsgroups_has_header(const char *bytes, size_t size)
{
    bool field = false;
    for (const char *at = bytes, *const end = bytes + size; at < end;) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        if (stop == NULL) return false;
        const char *last = stop > at && stop[-1] == '\r' ? stop - 1 : stop;
        if (last == at) return field;
        const bool is = is_field(at, last);
        if (!is && *at != ' ' && *at != '\t') return false;
        field |= is;
        at = stop + 1;
    }
    return false;
}

/* ---- Folders ---- */

typedef struct {
    char **name;
    int64_t count;
    size_t capacity;
} Names;

static void names_free(Names *names)
{
    for (int64_t i = 0; i < names->count; ++i)
        free(names->name[i]);
    free(names->name);
    *names = (Names){.name = NULL};
}

static int by_bytes(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Left by archives and systems. */
static bool is_debris(const char *name)
{
    static const char *const known[] = {"__MACOSX", "Thumbs.db", "desktop.ini", "Icon\r", "lost+found"};
    if (name[0] == '.') return true;
    for (size_t i = 0; i < sizeof known / sizeof *known; ++i)
        if (strcasecmp(name, known[i]) == 0) return true;
    return false;
}

static bool is_digits(const char *name)
{
    return name[0] != '\0' && name[strspn(name, "0123456789")] == '\0';
}

static bool is_folder(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

/* Which entries of a folder are wanted. */
typedef enum { CLASSES, MESSAGES } Wanted;

static Status list_entry(const char *folder, const char *name, Wanted wanted, Names *names,
                         DocumentsRead *read)
{
    if (is_debris(name)) {
        read->debris += strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
        return OK;
    }
    if (wanted == MESSAGES && !is_digits(name)) {
        ++read->unnamed;
        return OK;
    }
    if (wanted == CLASSES) {
        char path[PATH_MAX];
        TRY(file_join(path, folder, name));
        if (!is_folder(path)) return OK; /* such as a README */
    }
    TRY(memory_grow(&names->name, &names->capacity, (size_t)names->count + 1, sizeof *names->name,
                    "names of files"));
    TRY(text_copy(name, &names->name[names->count]));
    ++names->count;
    return OK;
}

/* The wanted entries, sorted by bytes. */
static Status list(const char *folder, Wanted wanted, Names *names, DocumentsRead *read)
{
    *names = (Names){.name = NULL};
    DIR *opened = opendir(folder);
    if (opened == NULL) return fail(STATUS_IO, "cannot open the folder %s: %s", folder, strerror(errno));
    Status status = OK;
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(opened);
        if (entry == NULL) {
            if (errno != 0)
                status = fail(STATUS_IO, "cannot read the folder %s: %s", folder, strerror(errno));
            break;
        }
        status = list_entry(folder, entry->d_name, wanted, names, read);
        if (status != OK) break;
    }
    closedir(opened);
    if (status != OK)
        names_free(names);
    else if (names->count > 0)
        qsort(names->name, (size_t)names->count, sizeof *names->name, by_bytes);
    return status;
}

/* ---- The corpus ---- */

typedef struct {
    Documents *documents; /* names and labels come first, then the texts of all */
    const char *folder;   /* of the layout: names of documents begin below it */
    size_t label_room, name_room, name_start_room;
    int64_t name_size;
} Reader;

static Status add_document(Reader *reader, const char *name, int32_t label)
{
    Documents *documents = reader->documents;
    const size_t count = (size_t)documents->count, name_size = strlen(name) + 1;
    TRY(memory_grow(&documents->label, &reader->label_room, count + 1, sizeof *documents->label,
                    "documents"));
    TRY(memory_grow(&documents->name_start, &reader->name_start_room, count + 1,
                    sizeof *documents->name_start, "documents"));
    TRY(memory_grow(&documents->name, &reader->name_room, (size_t)reader->name_size + name_size, 1,
                    "names of files"));
    memcpy(documents->name + reader->name_size, name, name_size);
    documents->name_start[count] = reader->name_size;
    documents->label[count] = label;
    reader->name_size += (int64_t)name_size;
    ++documents->count;
    return OK;
}

/* All messages of one class; `inside`: its folder below the layout's. */
static Status add_class(Reader *reader, const char *inside, int32_t label)
{
    char path[PATH_MAX], name[PATH_MAX];
    TRY(file_join(path, reader->folder, inside));
    Names messages;
    TRY(list(path, MESSAGES, &messages, &reader->documents->read));
    Status status = OK;
    if (messages.count == 0)
        status = fail(STATUS_INPUT, "%s: this class has no document: no file's name is all digits", path);
    for (int64_t i = 0; i < messages.count && status == OK; ++i) {
        status = file_join(name, inside, messages.name[i]);
        if (status == OK) status = add_document(reader, name, label);
    }
    names_free(&messages);
    return status;
}

static Status same_classes(const Documents *documents, const Names *classes, const char *part)
{
    for (int64_t i = 0; i < documents->classes || i < classes->count; ++i) {
        const char *have = i < documents->classes ? documents->class_name[i] : NULL;
        const char *got = i < classes->count ? classes->name[i] : NULL;
        if (have != NULL && got != NULL && strcmp(have, got) == 0) continue;
        const bool surplus = have == NULL || (got != NULL && strcmp(got, have) < 0);
        return fail(STATUS_INPUT, "%s: the class %s is only in the %s part; both parts must have the same",
                    part, surplus ? got : have, surplus ? "test" : "training");
    }
    return OK;
}

/* One folder of classes; `inside`: below the layout's folder, or "". */
static Status add_part(Reader *reader, const char *inside)
{
    Documents *documents = reader->documents;
    char path[PATH_MAX], class_folder[PATH_MAX];
    TRY(file_join(path, reader->folder, inside));
    Names classes;
    TRY(list(path, CLASSES, &classes, &documents->read));
    Status status = OK;
    if (classes.count == 0) {
        status = fail(STATUS_INPUT, "%s: a folder without classes; each is a folder of messages", path);
    } else if (documents->class_name != NULL) {
        status = same_classes(documents, &classes, path);
    } else {
        documents->class_name = classes.name;
        documents->classes = classes.count;
        classes = (Names){.name = NULL};
    }
    for (int64_t i = 0; i < documents->classes && status == OK; ++i) {
        status = inside[0] != '\0' ? file_join(class_folder, inside, documents->class_name[i]) : OK;
        if (status == OK)
            status =
                add_class(reader, inside[0] != '\0' ? class_folder : documents->class_name[i], (int32_t)i);
    }
    names_free(&classes);
    return status;
}

/* ---- Texts ---- */

/* Of one document, before all are put together. */
typedef struct {
    char *text; /* owned */
    size_t size;
    bool header;
} Message;

static Status read_message(const Reader *reader, int64_t document, Message *message)
{
    char path[PATH_MAX], *bytes;
    size_t size;
    TRY(file_join(path, reader->folder, documents_name(reader->documents, document)));
    TRY(file_read(path, MOST_MESSAGE_BYTES, &bytes, &size));
    Status status = memory_new(&message->text, 2 * size + 1, 1, "the text of a document");
    if (status == OK) message->size = newsgroups_message(bytes, size, message->text, &message->header);
    free(bytes);
    return status;
}

/* Most of the time of twenty thousand small files is waiting for the file system, where all threads can wait at once. Of
 * several errors that of the first document is returned. */
static Status read_messages(const Reader *reader, Message messages[])
{
    Status first_error = OK;
    int64_t failed = reader->documents->count;
#pragma omp parallel for schedule(dynamic, 16)
    for (int64_t i = 0; i < reader->documents->count; ++i) {
        Status status = read_message(reader, i, &messages[i]);
        if (status == OK) continue;
#pragma omp critical(newsgroups_error)
        {
            if (i < failed) {
                status_free(first_error);
                first_error = status;
                failed = i;
            } else {
                status_free(status);
            }
        }
    }
    return first_error;
}

static bool is_blank(const Message *message)
{
    for (size_t i = 0; i < message->size; ++i)
        if (message->text[i] == '\0' || strchr(" \t\n\v\f", message->text[i]) == NULL) return false;
    return true;
}

static Status put_together(Documents *documents, const Message messages[])
{
    TRY(memory_new(&documents->text_start, (size_t)documents->count + 1, sizeof *documents->text_start,
                   "documents"));
    size_t size = 0;
    for (int64_t i = 0; i < documents->count; ++i)
        size += messages[i].size;
    TRY(memory_new(&documents->text, size, 1, "the text of documents"));
    size = 0;
    for (int64_t i = 0; i < documents->count; ++i) {
        memcpy(documents->text + size, messages[i].text, messages[i].size);
        size += messages[i].size;
        documents->text_start[i + 1] = (int64_t)size;
        documents->read.no_header += !messages[i].header;
        documents->read.empty += is_blank(&messages[i]);
    }
    return OK;
}

static Status read_texts(Reader *reader)
{
    Documents *documents = reader->documents;
    Message *messages;
    TRY(memory_new(&messages, (size_t)documents->count, sizeof *messages, "documents"));
    Status status = read_messages(reader, messages);
    if (status == OK) status = put_together(documents, messages);
    for (int64_t i = 0; i < documents->count; ++i)
        free(messages[i].text);
    free(messages);
    return status;
}

/* ---- Layouts ---- */

static const char train_folder[] = "20news-bydate-train", test_folder[] = "20news-bydate-test";

static Status has_folder(const char *folder, const char *name, bool *has)
{
    char path[PATH_MAX];
    TRY(file_join(path, folder, name));
    *has = is_folder(path);
    return OK;
}

/* Is there a folder with a message in it? Then `folder` is the single folder itself. */
static Status has_classes(const char *folder, bool *has)
{
    *has = false;
    DocumentsRead ignored = {0};
    Names classes, messages;
    TRY(list(folder, CLASSES, &classes, &ignored));
    Status status = OK;
    for (int64_t i = 0; i < classes.count && status == OK && !*has; ++i) {
        char path[PATH_MAX];
        status = file_join(path, folder, classes.name[i]);
        if (status != OK) break;
        status = list(path, MESSAGES, &messages, &ignored);
        if (status != OK) break;
        *has = messages.count > 0;
        names_free(&messages);
    }
    names_free(&classes);
    return status;
}

/* The folder of classes below `folder`, "" for the folder itself; NULL: none. */
static Status find_single(const char *folder, bool has_part, const char **inside)
{
    static const char *const names[] = {"20_newsgroups", "20_newsgroup"};
    bool has;
    for (int i = 0; i < 2; ++i) {
        TRY(has_folder(folder, names[i], &has));
        *inside = has ? names[i] : NULL;
        if (has) return OK;
    }
    if (has_part) return OK; /* whose classes are one folder deeper */
    TRY(has_classes(folder, &has));
    *inside = has ? "" : NULL;
    return OK;
}

/* A part by date alone would be taken for the whole. */
static Status check_not_a_part(const char *folder)
{
    const char *end = folder + strlen(folder);
    while (end > folder && end[-1] == '/')
        --end;
    const char *name = end;
    while (name > folder && name[-1] != '/')
        --name;
    const TextSpan last = {.data = name, .size = (size_t)(end - name)};
    if (!text_span_equal(last, text_span(train_folder)) && !text_span_equal(last, text_span(test_folder)))
        return OK;
    return fail(STATUS_INPUT, "%s: this is one of the two parts by date; name the folder that holds both",
                folder);
}

static Status read_by_date(Reader *reader)
{
    TRY(add_part(reader, train_folder));
    reader->documents->given_train = reader->documents->count;
    return add_part(reader, test_folder);
}

static Status read_layout(Reader *reader, NewsgroupsLayout layout)
{
    static const char *const wanted[] = {
        [NEWSGROUPS_ANY] = "20news-bydate-train and 20news-bydate-test, 20_newsgroups, or folders of classes",
        [NEWSGROUPS_BY_DATE] = "20news-bydate-train and 20news-bydate-test",
        [NEWSGROUPS_SINGLE] = "20_newsgroups, or folders of classes"};
    const char *folder = reader->folder, *inside = NULL;
    if (!is_folder(folder)) return fail(STATUS_INPUT, "%s: there is no such folder", folder);
    TRY(check_not_a_part(folder));
    bool train, test;
    TRY(has_folder(folder, train_folder, &train));
    TRY(has_folder(folder, test_folder, &test));
    if (layout != NEWSGROUPS_SINGLE && train && test) return read_by_date(reader);
    if (layout != NEWSGROUPS_BY_DATE) TRY(find_single(folder, train || test, &inside));
    if (inside != NULL) return add_part(reader, inside);
    return fail(STATUS_INPUT, "%s: there is neither layout of the 20 Newsgroups: %s are looked for", folder,
                wanted[layout]);
}

Status newsgroups_read(const char *folder, NewsgroupsLayout layout, Documents *documents)
{
    *documents = (Documents){.given_train = -1};
    Reader reader = {.documents = documents, .folder = folder};
    Status status = read_layout(&reader, layout);
    if (status == OK) status = read_texts(&reader);
    if (status != OK) documents_free(documents);
    return status;
}
