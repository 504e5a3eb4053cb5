#include "engine/base/memory.h"
#include "engine/data/images/tiny_imagenet.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST_NAME = 255 }; /* as file systems have it */

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names become parts of paths: plain words cannot lead out of the folder. */
static Status check_name(const char *file, int64_t line, const char *text, size_t length)
{
    bool plain = length > 0 && length <= LONGEST_NAME && text[0] != '.';
    for (size_t i = 0; i < length && plain; ++i)
        plain = isalnum((unsigned char)text[i]) || strchr("._-", text[i]) != NULL;
    /* strchr finds the NUL that ends its text, too */
    if (plain && memchr(text, '\0', length) == NULL) return OK;
    return fail(STATUS_INPUT, "%s:%lld: not a plain name of letters, digits, \".\", \"_\" and \"-\"", file,
                (long long)line);
}

/* Walks over the lines of a text; blank lines and a byte order mark are skipped. */
typedef struct {
    const char *at, *end;
    const char *line; /* without its end */
    size_t length;
    int64_t number; /* from 1 */
} Lines;

static Lines lines_of(const char *text, size_t size)
{
    return (Lines){.at = text + text_mark_bytes(text, size), .end = text + size};
}

static bool next_line(Lines *lines)
{
    while (lines->at < lines->end) {
        const char *stop = memchr(lines->at, '\n', (size_t)(lines->end - lines->at));
        if (stop == NULL) stop = lines->end;
        lines->line = lines->at;
        lines->length = (size_t)(stop - lines->at);
        lines->at = stop < lines->end ? stop + 1 : lines->end;
        ++lines->number;
        if (lines->length > 0 && lines->line[lines->length - 1] == '\r') --lines->length;
        if (lines->length > 0) return true;
    }
    return false;
}

static Status check_no_duplicates(const char *file, const NameList *list)
{
    if (list->count < 2) return OK;
    char **sorted;
    TRY(memory_new(&sorted, (size_t)list->count, sizeof *sorted, "names"));
    memcpy(sorted, list->name, (size_t)list->count * sizeof *sorted);
    qsort(sorted, (size_t)list->count, sizeof *sorted, compare_names);
    Status status = OK;
    for (int64_t i = 1; i < list->count && status == OK; ++i)
        if (strcmp(sorted[i - 1], sorted[i]) == 0)
            status = fail(STATUS_INPUT, "%s: %s is listed twice", file, sorted[i]);
    free(sorted);
    return status;
}

Status tiny_imagenet_parse_classes(const char *file, const char *text, size_t size, NameList *classes)
{
    *classes = (NameList){.name = NULL};
    Status status = OK;
    Lines lines = lines_of(text, size);
    while (next_line(&lines)) {
        TRY_ELSE(done, check_name(file, lines.number, lines.line, lines.length));
        TRY_ELSE(done, name_list_append(classes, lines.line, lines.length));
    }
    if (classes->count < 2) {
        status = fail(STATUS_INPUT, "%s: %lld classes; at least 2 expected", file, (long long)classes->count);
        goto done;
    }
    TRY_ELSE(done, check_no_duplicates(file, classes));
    name_list_sort(classes);
done:
    if (status != OK) name_list_free(classes);
    return status;
}

/* The class of this name, or -1. */
static int32_t class_index(const NameList *classes, const char *text, size_t length)
{
    int64_t low = 0, high = classes->count;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        const char *name = classes->name[middle];
        int order = strncmp(text, name, length);
        if (order == 0 && name[length] != '\0') order = -1;
        if (order == 0) return (int32_t)middle;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return -1;
}

static Status parse_annotation(const char *file, const Lines *lines, const NameList *classes,
                               NameList *images, int32_t *label)
{
    const char *end = lines->line + lines->length;
    const char *first_tab = memchr(lines->line, '\t', lines->length);
    if (first_tab == NULL)
        return fail(STATUS_INPUT, "%s:%lld: no tab between image and class", file, (long long)lines->number);
    const char *class_name = first_tab + 1;
    const char *class_end = memchr(class_name, '\t', (size_t)(end - class_name));
    if (class_end == NULL) class_end = end;
    const size_t class_length = (size_t)(class_end - class_name);
    TRY(check_name(file, lines->number, lines->line, (size_t)(first_tab - lines->line)));
    TRY(check_name(file, lines->number, class_name, class_length));
    *label = class_index(classes, class_name, class_length);
    if (*label < 0)
        return fail(STATUS_INPUT, "%s:%lld: class %.*s is not in wnids.txt", file, (long long)lines->number,
                    (int)class_length, class_name);
    return name_list_append(images, lines->line, (size_t)(first_tab - lines->line));
}

Status tiny_imagenet_parse_annotations(const char *file, const char *text, size_t size,
                                       const NameList *classes, NameList *images, int32_t **labels)
{
    *images = (NameList){.name = NULL};
    *labels = NULL;
    size_t capacity = 0;
    Status status = OK;
    Lines lines = lines_of(text, size);
    while (next_line(&lines)) {
        TRY_ELSE(done, memory_grow(labels, &capacity, (size_t)images->count + 1, sizeof **labels, "labels"));
        int32_t label;
        TRY_ELSE(done, parse_annotation(file, &lines, classes, images, &label));
        (*labels)[images->count - 1] = label;
    }
    if (images->count == 0) {
        status = fail(STATUS_INPUT, "%s: no image is listed", file);
        goto done;
    }
    TRY_ELSE(done, check_no_duplicates(file, images));
done:
    if (status != OK) {
        name_list_free(images);
        free(*labels);
        *labels = NULL;
    }
    return status;
}
