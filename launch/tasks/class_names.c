#include "launch/tasks/class_names.h"

#include "engine/base/file.h"
#include "engine/base/memory.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BYTES = 1 << 26 };

void class_names_free(ClassNames *names)
{
    free(names->text);
    free(names->name);
    *names = (ClassNames){.count = 0};
}

Status class_names_read(const char *path, ClassNames *names)
{
    size_t size, capacity = 0;
    *names = (ClassNames){.count = 0};
    TRY(file_read(path, MOST_BYTES, &names->text, &size));
    char *at = names->text + text_mark_bytes(names->text, size), *const end = names->text + size;
    while (at < end) {
        char *line = at, *stop = memchr(at, '\n', (size_t)(end - at));
        at = stop != NULL ? stop + 1 : end;
        if (stop == NULL) stop = end;
        if (stop > line && stop[-1] == '\r') --stop;
        *stop = '\0';
        if (*line == '\0' || strlen(line) != (size_t)(stop - line))
            return fail(STATUS_INPUT, "%s, line %lld: %s; the file has the name of a class on each line",
                        path, (long long)names->count + 1,
                        *line == '\0' ? "the line is empty" : "a name has a zero byte");
        TRY(memory_grow(&names->name, &capacity, (size_t)names->count + 1, sizeof *names->name,
                        "names of classes"));
        names->name[names->count++] = line;
    }
    if (names->count == 0) return fail(STATUS_INPUT, "%s: there are no names", path);
    return OK;
}

/* ---- classes.txt of a run ---- */

static const char file_name[] = "classes.txt";

static Status class_lines(const char *const name[], int64_t classes, char **text)
{
    size_t size;
    FILE *lines = open_memstream(text, &size);
    if (lines == NULL) return fail(STATUS_MEMORY, "no memory for the names of classes");
    for (int64_t k = 0; k < classes; ++k)
        (void)fprintf(lines, "%s\n", name[k]);
    const bool whole = ferror(lines) == 0;
    if (fclose(lines) == 0 && whole) return OK;
    free(*text);
    return fail(STATUS_MEMORY, "no memory for the names of classes");
}

Status class_names_write(const char *folder, const char *const name[], int64_t classes)
{
    char path[PATH_MAX], *text;
    TRY(file_join(path, folder, file_name));
    TRY(class_lines(name, classes, &text));
    Status status = file_write(path, text, strlen(text));
    free(text);
    return status;
}

/* The first line in which the texts differ, without its end. */
static void first_difference(const char *before, const char *now, char was[128], char is[128])
{
    for (size_t start = 0, i = 0;; ++i) {
        if (before[i] == now[i] && before[i] == '\n') start = i + 1;
        if (before[i] == now[i] && before[i] != '\0') continue;
        (void)snprintf(was, 128, "%.*s", (int)strcspn(before + start, "\n"), before + start);
        (void)snprintf(is, 128, "%.*s", (int)strcspn(now + start, "\n"), now + start);
        return;
    }
}

Status class_names_check(const char *folder, const char *const name[], int64_t classes, const char *data)
{
    char path[PATH_MAX], *before, *now = NULL, was[128], is[128];
    size_t size;
    TRY(file_join(path, folder, file_name));
    if (!file_exists(path)) return OK; /* of a run from before there were such files */
    TRY(file_read(path, MOST_BYTES, &before, &size));
    Status status = class_lines(name, classes, &now);
    if (status == OK && strcmp(before, now) != 0) {
        first_difference(before, now, was, is);
        status = fail(
            STATUS_INPUT,
            "the data in %s have other classes than the run was trained on (%s): it has %s%s%s where they "
            "have %s%s%s",
            data, path, was[0] != '\0' ? "\"" : "", was[0] != '\0' ? was : "none", was[0] != '\0' ? "\"" : "",
            is[0] != '\0' ? "\"" : "", is[0] != '\0' ? is : "none", is[0] != '\0' ? "\"" : "");
    }
    free(before);
    free(now);
    return status;
}

Status class_names_of_run(const char *folder, ClassNames *names)
{
    char path[PATH_MAX];
    *names = (ClassNames){.count = 0};
    TRY(file_join(path, folder, file_name));
    return file_exists(path) ? class_names_read(path, names) : OK;
}
