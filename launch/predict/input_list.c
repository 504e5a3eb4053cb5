#include "launch/predict/input_list.h"

#include "engine/base/file.h"
#include "engine/base/memory.h"
#include "nlp/lines.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEEPEST = 32 }; /* folders in folders: links may go round in circles */

static const char standard_input[] = "-";

/* A folder that is open: its names that are still to come. */
typedef struct {
    char *path;
    struct dirent **entry;
    int count, next;
} Folder;

struct InputList {
    InputListOptions options;
    int next_word;
    /* The word in work: lines, or folders in folders. */
    LineReader *reader;
    char *name; /* of the reader's file */
    int descriptor;
    int64_t line;
    Folder folder[DEEPEST];
    int depth;
    bool found; /* a file in the outermost folder */
};

void listed_input_free(ListedInput *input)
{
    free(input->file);
    free(input->text);
    free(input->problem);
    *input = (ListedInput){.file = NULL};
}

static const char *word_of(const InputList *list, int index)
{
    return list->options.words > 0 ? list->options.word[index] : standard_input;
}

static int word_count(const InputList *list) { return list->options.words > 0 ? list->options.words : 1; }

Status input_list_open(const InputListOptions *options, InputList **out)
{
    TRY(memory_new(out, 1, sizeof **out, "the inputs"));
    **out = (InputList){.options = *options, .descriptor = -1};
    return OK;
}

/* ---- lines ---- */

static void close_lines(InputList *list)
{
    line_reader_close(list->reader);
    if (list->descriptor >= 0) (void)close(list->descriptor);
    free(list->name);
    list->reader = NULL;
    list->name = NULL;
    list->descriptor = -1;
    list->line = 0;
}

static bool is_compressed(const char *path)
{
    const size_t length = strlen(path);
    return length > 3 && strcmp(path + length - 3, ".gz") == 0;
}

static Status open_lines(InputList *list, const char *path, ListedInput *input)
{
    const bool standard = strcmp(path, standard_input) == 0;
    if (!standard && is_compressed(path)) {
        TRY(text_copy(path, &input->file));
        return text_format(
            &input->problem,
            "%s: lines of a compressed file are not read: gunzip it, or give zcat's output as -", path);
    }
    if (!standard) list->descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (!standard && list->descriptor < 0) {
        const int error = errno;
        TRY(text_copy(path, &input->file));
        return text_format(&input->problem, "%s: cannot be opened: %s", path, strerror(error));
    }
    TRY(text_copy(path, &list->name));
    return line_reader_open(standard ? list->options.standard_input : list->descriptor,
                            standard ? "the standard input" : path, &list->reader);
}

static Status copy_text(TextSpan text, char **copy)
{
    TRY(memory_new(copy, text.size + 1, 1, "a line"));
    if (text.size > 0) memcpy(*copy, text.data, text.size);
    return OK;
}

/* A line as an input; none of a blank line where a path is expected. */
static Status take_line(InputList *list, const Line *line, ListedInput *input)
{
    ++list->line;
    if (list->options.inputs->line_is_path)
        return line_is_blank(line->text) ? OK : copy_text(line->text, &input->file);
    TRY(text_copy(list->name, &input->file));
    input->line = list->line;
    if (line->cut)
        return text_format(&input->problem, "%s:%lld: the line has more than %d bytes", list->name,
                           (long long)list->line, LINE_MOST_BYTES);
    input->size = line->text.size;
    return copy_text(line->text, &input->text);
}

/* *waits: no line is there yet. */
static Status next_line(InputList *list, ListedInput *input, bool *waits)
{
    Line line;
    bool got;
    *waits = false;
    TRY(line_reader_next(list->reader, false, &line, &got));
    if (got) return take_line(list, &line, input);
    *waits = !line_reader_ended(list->reader);
    if (!*waits) close_lines(list);
    return OK;
}

/* ---- folders ---- */

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_visible(const struct dirent *entry) { return entry->d_name[0] != '.'; }

static void close_folder(InputList *list)
{
    Folder *folder = &list->folder[--list->depth];
    for (int i = 0; i < folder->count; ++i)
        free(folder->entry[i]);
    free(folder->entry);
    free(folder->path);
}

static Status open_folder(InputList *list, const char *path, ListedInput *input)
{
    struct dirent **entry;
    if (list->depth == DEEPEST) {
        TRY(text_copy(path, &input->file));
        return text_format(&input->problem, "%s: more than %d folders in one another", path, DEEPEST);
    }
    const int count = scandir(path, &entry, is_visible, by_name);
    if (count < 0) {
        const int error = errno;
        TRY(text_copy(path, &input->file));
        return text_format(&input->problem, "%s: the folder cannot be listed: %s", path, strerror(error));
    }
    Folder *folder = &list->folder[list->depth++];
    *folder = (Folder){.entry = entry, .count = count};
    return text_copy(path, &folder->path);
}

static Status end_folder(InputList *list, ListedInput *input)
{
    const bool empty = list->depth == 1 && !list->found;
    Status status = OK;
    if (empty) {
        const char *path = list->folder[0].path;
        status = text_copy(path, &input->file);
        if (status == OK)
            status = text_format(&input->problem, "%s: there are no %s in this folder", path,
                                 list->options.inputs->many);
    }
    close_folder(list);
    return status;
}

static Status open_file(InputList *list, const char *path, ListedInput *input)
{
    return list->options.lines || list->options.inputs->lines ? open_lines(list, path, input)
                                                              : text_copy(path, &input->file);
}

static Status next_entry(InputList *list, ListedInput *input)
{
    Folder *folder = &list->folder[list->depth - 1];
    char path[PATH_MAX];
    struct stat about;
    if (folder->next == folder->count) return end_folder(list, input);
    const char *name = folder->entry[folder->next++]->d_name;
    TRY(file_join(path, folder->path, name));
    const bool there = stat(path, &about) == 0;
    if (there && S_ISDIR(about.st_mode)) return open_folder(list, path, input);
    if ((there && !S_ISREG(about.st_mode)) || !list->options.inputs->has_name(name)) return OK;
    list->found = true;
    return open_file(list, path, input);
}

/* ---- words ---- */

static Status next_word(InputList *list, ListedInput *input)
{
    struct stat about;
    const char *word = word_of(list, list->next_word++);
    if (strcmp(word, standard_input) == 0) return open_lines(list, word, input);
    list->found = false;
    if (stat(word, &about) == 0 && S_ISDIR(about.st_mode)) return open_folder(list, word, input);
    return open_file(list, word, input);
}

Status input_list_next(InputList *list, ListedInput *input, bool *got)
{
    bool waits = false;
    *input = (ListedInput){.file = NULL};
    while (input->file == NULL && !waits && !input_list_ended(list)) {
        Status status = list->reader != NULL ? next_line(list, input, &waits)
                        : list->depth > 0    ? next_entry(list, input)
                                             : next_word(list, input);
        if (status == OK) continue;
        listed_input_free(input);
        return status;
    }
    *got = input->file != NULL;
    return OK;
}

Status input_list_wait(const InputList *list, double seconds)
{
    return list->reader != NULL ? line_reader_wait(list->reader, seconds) : OK;
}

bool input_list_ended(const InputList *list)
{
    return list->reader == NULL && list->depth == 0 && list->next_word >= word_count(list);
}

void input_list_close(InputList *list)
{
    if (list == NULL) return;
    close_lines(list);
    while (list->depth > 0)
        close_folder(list);
    free(list);
}
